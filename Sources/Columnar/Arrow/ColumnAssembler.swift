/// Joins parts of columns of one type into one column. Used by one thread.
final class ColumnAssembler {
    let type: ArrowType
    private(set) var count = 0
    private var nullCount = 0
    private var validity: ArrowMemoryBuilder?
    private let values = ArrowMemoryBuilder()
    private let data = ArrowMemoryBuilder()
    private let children: [ColumnAssembler]

    init(type: ArrowType) {
        self.type = type
        self.children = type.children.map { ColumnAssembler(type: $0.type) }
    }

    var byteCount: Int {
        (self.validity?.count ?? 0) + self.values.count + self.data.count
            + self.children.reduce(0) { $0 + $1.byteCount }
    }

    /// Buffers of a part that is to be appended, wherever they come from.
    @safe struct Part {
        var start: Int
        var count: Int
        var validity: UnsafeRawPointer?
        var values: UnsafeRawPointer?
        var data: UnsafeRawPointer?
    }

    /// Appends everything but the children.
    /// - Returns: The range of child values that belongs to the part (lists only).
    @discardableResult
    func append(_ part: Part) -> (start: Int, count: Int) {
        self.appendValidity(part)
        var childRange = (start: part.start, count: part.count)
        switch self.type.layout {
        case .null, .structure: break
        case .bits:
            unsafe self.values.appendBits(part.values, from: part.start, count: part.count, at: self.count)
        case .fixed(let width):
            if let values = unsafe part.values {
                unsafe self.values.append(
                    UnsafeRawBufferPointer(start: values + part.start * width, count: part.count * width)
                )
            }
        case .variable, .list:
            childRange = self.appendOffsets(part)
            if self.type.layout == .variable, let data = unsafe part.data {
                unsafe self.data.append(
                    UnsafeRawBufferPointer(start: data + childRange.start, count: childRange.count)
                )
            }
        case .fixedList(let size):
            childRange = (part.start * size, part.count * size)
        case .union: preconditionFailure("unions are made whole, never joined")
        }
        self.count += part.count
        return childRange
    }

    private func appendValidity(_ part: Part) {
        if unsafe part.validity == nil {
            guard let validity = self.validity else { return }
            unsafe validity.appendBits(nil, from: 0, count: part.count, at: self.count)
            return
        }
        let validity: ArrowMemoryBuilder
        if let existing = self.validity {
            validity = existing
        } else {
            validity = ArrowMemoryBuilder()
            unsafe validity.appendBits(nil, from: 0, count: self.count, at: 0)
            self.validity = validity
        }
        unsafe validity.appendBits(part.validity, from: part.start, count: part.count, at: self.count)
        guard let bits = unsafe part.validity else { return }
        self.nullCount += unsafe part.count - countOnes(bits, from: part.start, count: part.count)
    }

    private func appendOffsets(_ part: Part) -> (start: Int, count: Int) {
        if self.values.count == 0 { self.values.append(value: Int32(0)) }
        guard let offsets = unsafe part.values, part.count > 0 else { return (0, 0) }
        let base = self.lastOffset
        let first = unsafe offsets.loadUnaligned(fromByteOffset: part.start * 4, as: Int32.self)
        let last = unsafe offsets.loadUnaligned(fromByteOffset: (part.start + part.count) * 4, as: Int32.self)
        unsafe self.values.appendOffsets(offsets, from: part.start, count: part.count, base: base)
        self.lastOffset = base + (last - first)
        return (Int(first), Int(last - first))
    }

    private var lastOffset: Int32 = 0

    /// How the engine holds a text or binary in a vector: 16 bytes of which the first four are its length.
    private enum EngineText {
        static let stride = 16
        /// Shorter ones follow their length; of others the last eight bytes are the address.
        static let inlineMax = 12
        static let inlineOffset = 4
        static let addressOffset = 8
    }

    /// Appends texts or binaries that lie in memory as a flat vector of the engine has them.
    /// - Throws: ``ColumnarError`` `.resultLimit` when the column would have more bytes than its offsets can tell.
    func append(texts: UnsafeRawPointer, validity: UnsafeRawPointer?, count: Int) throws {
        var part = unsafe Part(start: 0, count: count)
        unsafe part.validity = unsafe validity
        self.appendValidity(part)
        if self.values.count == 0 { self.values.append(value: Int32(0)) }
        var end = Int(self.lastOffset)
        let bytes = unsafe self.values.appendUninitialized(count * 4) { offsets in
            for row in 0..<count {
                if unsafe isPresent(validity, row) {
                    end += unsafe Int(texts.load(fromByteOffset: row * EngineText.stride, as: UInt32.self))
                }
                unsafe offsets.storeBytes(of: Int32(truncatingIfNeeded: end), toByteOffset: row * 4, as: Int32.self)
            }
            return count * 4
        }
        guard bytes >= 0, let last = Int32(exactly: end) else {
            throw ColumnarError(.resultLimit, "a column of more than \(Int32.max) bytes in one batch")
        }
        let wanted = end - Int(self.lastOffset)
        // Short texts are written as a whole, whatever their length.
        _ = unsafe self.data.appendUninitialized(wanted + EngineText.stride) { target in
            unsafe Self.copy(texts, validity, count, to: target)
            return wanted
        }
        self.lastOffset = last
        self.count += count
    }

    private static func copy(
        _ texts: UnsafeRawPointer,
        _ validity: UnsafeRawPointer?,
        _ count: Int,
        to target: UnsafeMutableRawBufferPointer
    ) {
        guard var place = target.baseAddress else { return }
        for row in 0..<count where unsafe isPresent(validity, row) {
            let text = unsafe texts + row * EngineText.stride
            let length = unsafe Int(text.load(as: UInt32.self))
            if length <= EngineText.inlineMax {
                let start = unsafe text.loadUnaligned(fromByteOffset: EngineText.inlineOffset, as: UInt64.self)
                let rest = unsafe text.load(fromByteOffset: EngineText.stride - 4, as: UInt32.self)
                unsafe place.storeBytes(of: start, as: UInt64.self)
                unsafe place.storeBytes(of: rest, toByteOffset: 8, as: UInt32.self)
            } else if let address = unsafe text.load(
                fromByteOffset: EngineText.addressOffset,
                as: UnsafeRawPointer?.self
            ) {
                unsafe place.copyMemory(from: address, byteCount: length)
            }
            unsafe place += length
        }
    }

    /// Appends rows of another column of the same type.
    func append(_ column: ArrowColumn, from start: Int, count: Int) {
        let range = unsafe self.append(
            Part(
                start: start,
                count: count,
                validity: column.validity?.address,
                values: column.values.address,
                data: column.data.address
            )
        )
        withExtendedLifetime(column) {}
        for (assembler, child) in zip(self.children, column.children) {
            assembler.append(child, from: range.start, count: range.count)
        }
    }

    /// The assembler of a child, for parts that come from elsewhere than a column.
    func child(_ index: Int) -> ColumnAssembler { self.children[index] }

    func finish() -> ArrowColumn {
        switch self.type.layout {
        case .variable, .list: if self.values.count == 0 { self.values.append(value: Int32(0)) }
        default: break
        }
        let column = ArrowColumn(
            type: self.type,
            count: self.count,
            nullCount: self.type == .null ? self.count : self.nullCount,
            validity: self.validity?.finish(),
            values: self.values.finish(),
            data: self.data.finish(),
            children: self.children.map { $0.finish() }
        )
        self.count = 0
        self.nullCount = 0
        self.validity = nil
        self.lastOffset = 0
        return column
    }
}

/// Whether a row has a value, by a bitmap; without one all have.
@inline(__always)
private func isPresent(_ validity: UnsafeRawPointer?, _ row: Int) -> Bool {
    guard let validity = unsafe validity else { return true }
    return unsafe validity.load(fromByteOffset: row >> 3, as: UInt8.self) & (1 << UInt8(row & 7)) != 0
}

/// Bits that are one, from bit `start`.
private func countOnes(_ bits: UnsafeRawPointer, from start: Int, count: Int) -> Int {
    var ones = 0
    var index = start
    let end = start + count
    while index < end {
        if index & 7 == 0 && end - index >= 8 {
            ones += unsafe bits.load(fromByteOffset: index >> 3, as: UInt8.self).nonzeroBitCount
            index += 8
        } else {
            let byte = unsafe bits.load(fromByteOffset: index >> 3, as: UInt8.self)
            if byte & (1 << UInt8(index & 7)) != 0 { ones += 1 }
            index += 1
        }
    }
    return ones
}
