/// A block of bytes that never changes once it is shared; freed with its last user.
///
/// Aligned to 64 bytes, so that the engine may read it in place, unless it is lent.
@safe final class ArrowMemory: Sendable {
    // Written only before a builder hands the block over; afterwards every access is a read.
    nonisolated(unsafe) fileprivate let base: UnsafeMutableRawPointer  // sendable-ok: immutable after `finish`
    let count: Int
    /// Whom the bytes belong to; nil: to this object.
    let owner: (any Sendable)?

    fileprivate init(base: UnsafeMutableRawPointer, count: Int, owner: (any Sendable)? = nil) {
        unsafe self.base = unsafe base
        self.count = count
        self.owner = owner
    }

    deinit { if self.owner == nil { unsafe self.base.deallocate() } }
}

/// A range of an ``ArrowMemory``. Every access is checked against the range.
package struct ArrowBuffer: Sendable {
    let memory: ArrowMemory?
    let offset: Int
    /// Bytes in the range.
    package let count: Int

    /// A range of no bytes.
    package static let empty = ArrowBuffer()

    private init() {
        self.memory = nil
        self.offset = 0
        self.count = 0
    }

    init(_ memory: ArrowMemory) {
        self.memory = memory
        self.offset = 0
        self.count = memory.count
    }

    /// Bytes of somebody else's, without copying them.
    ///
    /// - Parameters:
    ///   - bytes: Stay where they are, and as they are, while `owner` or a copy of it exists.
    ///   - owner: Kept as long as the bytes are used.
    package init(lent bytes: UnsafeRawBufferPointer, owner: any Sendable) {
        guard let base = bytes.baseAddress, bytes.count > 0 else {
            self.init()
            return
        }
        let memory = unsafe ArrowMemory(base: UnsafeMutableRawPointer(mutating: base), count: bytes.count, owner: owner)
        self.init(memory)
    }

    private init(memory: ArrowMemory?, offset: Int, count: Int) {
        self.memory = memory
        self.offset = offset
        self.count = count
    }

    /// A part of this range; the part must lie inside.
    func range(from start: Int, count: Int) -> ArrowBuffer {
        precondition(start >= 0 && count >= 0 && start <= self.count - count, "range outside of the buffer")
        return ArrowBuffer(memory: self.memory, offset: self.offset + start, count: count)
    }

    /// Lends the bytes.
    package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        guard let memory = self.memory else {
            return try unsafe body(UnsafeRawBufferPointer(start: nil, count: 0))
        }
        defer { withExtendedLifetime(memory) {} }
        return try unsafe body(UnsafeRawBufferPointer(start: memory.base + self.offset, count: self.count))
    }

    /// Address for the engine; the caller keeps the buffer alive. Nil when there are no bytes.
    var address: UnsafeRawPointer? {
        guard let memory = self.memory else { return nil }
        return unsafe UnsafeRawPointer(memory.base + self.offset)
    }

    /// The `index`-th value of type `T`.
    @inline(__always)
    func load<T: BitwiseCopyable>(_ index: Int, as type: T.Type) -> T {
        let start = index * MemoryLayout<T>.size
        precondition(index >= 0 && start <= self.count - MemoryLayout<T>.size, "index outside of the buffer")
        guard let memory = self.memory else { preconditionFailure("index outside of the buffer") }
        return unsafe memory.base.loadUnaligned(fromByteOffset: self.offset + start, as: T.self)
    }

    /// The `index`-th bit, least significant first.
    @inline(__always)
    func bit(_ index: Int) -> Bool {
        self.load(index >> 3, as: UInt8.self) & (1 << UInt8(index & 7)) != 0
    }

    /// Copies a part of the range.
    func bytes(from start: Int, count: Int) -> [UInt8] {
        precondition(start >= 0 && count >= 0 && start <= self.count - count, "range outside of the buffer")
        return unsafe self.withBytes { unsafe [UInt8](UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
    }

    /// The text in a part of the range; malformed UTF-8 is replaced.
    func text(from start: Int, count: Int) -> String {
        precondition(start >= 0 && count >= 0 && start <= self.count - count, "range outside of the buffer")
        return unsafe self.withBytes {
            unsafe String(decoding: UnsafeRawBufferPointer(rebasing: $0[start..<start + count]), as: UTF8.self)
        }
    }
}

/// Grows a block of bytes and hands it over as an ``ArrowBuffer``. Used by one thread.
@safe final class ArrowMemoryBuilder {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private(set) var count = 0

    private static let alignment = 64

    init(capacity: Int = 0) {
        unsafe self.base = nil
        if capacity > 0 { self.reserve(capacity) }
    }

    deinit { unsafe self.base?.deallocate() }

    private func reserve(_ wanted: Int) {
        guard wanted > self.capacity else { return }
        let capacity = (max(wanted, self.capacity * 2, 64) + 63) & ~63
        let new = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: Self.alignment)
        if let old = unsafe self.base {
            unsafe new.copyMemory(from: old, byteCount: self.count)
            unsafe old.deallocate()
        }
        unsafe self.base = unsafe new
        self.capacity = capacity
    }

    /// Appends bytes; a nil start with a count appends zeros.
    func append(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress, bytes.count > 0 else { return }
        self.reserve(self.count + bytes.count)
        guard let base = unsafe self.base else { return }
        unsafe (base + self.count).copyMemory(from: start, byteCount: bytes.count)
        self.count += bytes.count
    }

    /// Appends what `fill` writes into room for `bytesMax` bytes: the number that it returns, none when negative.
    func appendUninitialized(_ bytesMax: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        self.reserve(self.count + bytesMax)
        guard let base = unsafe self.base else { return 0 }
        let written = unsafe fill(UnsafeMutableRawBufferPointer(start: base + self.count, count: bytesMax))
        precondition(written <= bytesMax, "more bytes written than there was room for")
        self.count += max(0, written)
        return written
    }

    func append(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe self.append($0) }
    }

    func append(_ buffer: ArrowBuffer) {
        unsafe buffer.withBytes { unsafe self.append($0) }
    }

    @inline(__always)
    func append<T: BitwiseCopyable>(value: T) {
        let size = MemoryLayout<T>.size
        self.reserve(self.count + size)
        guard let base = unsafe self.base else { return }
        unsafe base.storeBytes(of: value, toByteOffset: self.count, as: T.self)
        self.count += size
    }

    func append(zeros: Int) {
        guard zeros > 0 else { return }
        self.reserve(self.count + zeros)
        guard let base = unsafe self.base else { return }
        unsafe (base + self.count).initializeMemory(as: UInt8.self, repeating: 0, count: zeros)
        self.count += zeros
    }

    /// Sets or clears one bit; the byte must exist.
    @inline(__always)
    func setBit(_ index: Int, _ value: Bool) {
        precondition(index >> 3 < self.count, "bit outside of the buffer")
        guard let base = unsafe self.base else { return }
        let mask = UInt8(1) << UInt8(index & 7)
        let old = unsafe base.load(fromByteOffset: index >> 3, as: UInt8.self)
        unsafe base.storeBytes(of: value ? old | mask : old & ~mask, toByteOffset: index >> 3, as: UInt8.self)
    }

    /// Appends `count` bits of `bytes`, from bit `start`, after the first `length` bits of this block; nil: all ones.
    func appendBits(_ bytes: UnsafeRawPointer?, from start: Int, count: Int, at length: Int) {
        self.append(zeros: (length + count + 7) / 8 - self.count)
        guard count > 0 else { return }
        guard let source = unsafe bytes else {
            self.setBits(from: length, count: count)
            return
        }
        if length & 7 == 0 && start & 7 == 0, let base = unsafe self.base {
            let whole = count >> 3
            unsafe (base + (length >> 3)).copyMemory(from: source + (start >> 3), byteCount: whole)
            for index in (whole << 3)..<count {
                let byte = unsafe source.load(fromByteOffset: (start + index) >> 3, as: UInt8.self)
                self.setBit(length + index, byte & (1 << UInt8((start + index) & 7)) != 0)
            }
            return
        }
        for index in 0..<count {
            let byte = unsafe source.load(fromByteOffset: (start + index) >> 3, as: UInt8.self)
            self.setBit(length + index, byte & (1 << UInt8((start + index) & 7)) != 0)
        }
    }

    /// Sets bits to one; their bytes must exist.
    private func setBits(from start: Int, count: Int) {
        let end = start + count
        var index = start
        while index < end && index & 7 != 0 {
            self.setBit(index, true)
            index += 1
        }
        let wholeEnd = end & ~7
        if index < wholeEnd, let base = unsafe self.base {
            precondition(wholeEnd >> 3 <= self.count, "bits outside of the buffer")
            unsafe (base + (index >> 3)).initializeMemory(
                as: UInt8.self,
                repeating: 0xFF,
                count: (wholeEnd - index) >> 3
            )
            index = wholeEnd
        }
        while index < end {
            self.setBit(index, true)
            index += 1
        }
    }

    /// Appends `count` offsets that follow the offset at `start`, moved so that the offset at `start` becomes `base`.
    func appendOffsets(_ source: UnsafeRawPointer, from start: Int, count: Int, base: Int32) {
        self.reserve(self.count + count * 4)
        guard let memory = unsafe self.base else { return }
        let shift = unsafe base - source.loadUnaligned(fromByteOffset: start * 4, as: Int32.self)
        let target = unsafe memory + self.count
        for index in 0..<count {
            let offset = unsafe source.loadUnaligned(fromByteOffset: (start + 1 + index) * 4, as: Int32.self)
            unsafe target.storeBytes(of: offset + shift, toByteOffset: index * 4, as: Int32.self)
        }
        self.count += count * 4
    }

    /// Hands the bytes over; the builder is empty afterwards.
    func finish() -> ArrowBuffer {
        guard let base = unsafe self.base, self.count > 0 else { return .empty }
        let memory = unsafe ArrowMemory(base: base, count: self.count)
        unsafe self.base = nil
        self.capacity = 0
        self.count = 0
        return ArrowBuffer(memory)
    }
}
