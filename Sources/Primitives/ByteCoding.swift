/// Appends integers, big-endian, and length-prefixed bytes to a growing array.
///
/// The form of every key, log entry and command on disk: big-endian, so that keys order as numbers do.
package struct ByteWriter: Sendable {
    package private(set) var bytes: [UInt8]

    package init(capacity: Int = 0) {
        self.bytes = []
        self.bytes.reserveCapacity(capacity)
    }

    package var count: Int { self.bytes.count }

    package mutating func write(_ value: UInt8) { self.bytes.append(value) }

    package mutating func write(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { self.bytes.append(contentsOf: $0) }
    }

    // The widths of hot paths again without a type parameter: a generic is not specialised across modules.

    package mutating func write(_ value: UInt32) {
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 24))
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 16))
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        self.bytes.append(UInt8(truncatingIfNeeded: value))
    }

    package mutating func write(_ value: UInt64) {
        self.write(UInt32(truncatingIfNeeded: value >> 32))
        self.write(UInt32(truncatingIfNeeded: value))
    }

    package mutating func write(_ value: Int64) { self.write(UInt64(bitPattern: value)) }

    package mutating func write(_ digest: Digest) { digest.append(to: &self.bytes) }

    /// Appends a UInt32 length and the bytes.
    package mutating func write(prefixed bytes: [UInt8]) {
        self.write(UInt32(bytes.count))
        self.bytes.append(contentsOf: bytes)
    }

    /// Appends a UInt32 length and the bytes.
    package mutating func write(prefixed bytes: ArraySlice<UInt8>) {
        self.write(UInt32(bytes.count))
        self.bytes.append(contentsOf: bytes)
    }

    /// Appends the bytes without a length.
    package mutating func write(raw bytes: some Collection<UInt8>) { self.bytes.append(contentsOf: bytes) }

    /// Appends a UInt32 length and the bytes.
    package mutating func write(prefixed bytes: some Collection<UInt8>) {
        self.write(UInt32(bytes.count))
        self.bytes.append(contentsOf: bytes)
    }

    package mutating func write(prefixed text: String) {
        self.write(prefixed: text.utf8)
    }
}

/// Bytes that do not have the form they should have; `offset` counts from the start of what was read.
package struct MalformedBytes: Error, Sendable, CustomStringConvertible {
    package let what: String
    package let offset: Int

    package init(what: String, offset: Int) {
        self.what = what
        self.offset = offset
    }

    package var description: String { "malformed \(self.what) at byte \(self.offset)" }
}

/// Reads what ``ByteWriter`` wrote; every read is checked against the end.
package struct ByteReader: Sendable {
    private let bytes: ArraySlice<UInt8>
    private var next: Int

    package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        self.next = bytes.startIndex
    }

    package var remaining: Int { self.bytes.endIndex - self.next }
    package var isAtEnd: Bool { self.remaining == 0 }
    /// Bytes read so far.
    package var offset: Int { self.next - self.bytes.startIndex }

    private func failure(_ what: String) -> MalformedBytes { MalformedBytes(what: what, offset: self.offset) }

    package mutating func read<Value: FixedWidthInteger>(
        _ type: Value.Type = Value.self
    ) throws(MalformedBytes) -> Value {
        let size = MemoryLayout<Value>.size
        guard self.remaining >= size else { throw self.failure("integer of \(size) bytes") }
        var value = Value.zero
        for offset in 0..<size { value = value << 8 | Value(truncatingIfNeeded: self.bytes[self.next + offset]) }
        self.next += size
        return value
    }

    package mutating func read(_ type: UInt8.Type = UInt8.self) throws(MalformedBytes) -> UInt8 {
        guard self.next < self.bytes.endIndex else { throw self.failure("integer of 1 bytes") }
        defer { self.next += 1 }
        return self.bytes[self.next]
    }

    package mutating func read(_ type: UInt32.Type = UInt32.self) throws(MalformedBytes) -> UInt32 {
        guard self.remaining >= 4 else { throw self.failure("integer of 4 bytes") }
        var value = UInt32(0)
        for offset in 0..<4 { value = value << 8 | UInt32(self.bytes[self.next + offset]) }
        self.next += 4
        return value
    }

    package mutating func read(_ type: UInt64.Type = UInt64.self) throws(MalformedBytes) -> UInt64 {
        guard self.remaining >= 8 else { throw self.failure("integer of 8 bytes") }
        var value = UInt64(0)
        for offset in 0..<8 { value = value << 8 | UInt64(self.bytes[self.next + offset]) }
        self.next += 8
        return value
    }

    package mutating func read(_ type: Int64.Type = Int64.self) throws(MalformedBytes) -> Int64 {
        Int64(bitPattern: try self.read(UInt64.self))
    }

    package mutating func readDigest() throws(MalformedBytes) -> Digest {
        guard let digest = Digest(bytes: try self.read(count: Digest.byteCount)) else { throw self.failure("digest") }
        return digest
    }

    package mutating func read(count: Int) throws(MalformedBytes) -> ArraySlice<UInt8> {
        guard count >= 0, self.remaining >= count else { throw self.failure("run of \(count) bytes") }
        defer { self.next += count }
        return self.bytes[self.next..<self.next + count]
    }

    /// Reads a UInt32 length and that many bytes.
    package mutating func readPrefixed() throws(MalformedBytes) -> ArraySlice<UInt8> {
        let count = try self.read(UInt32.self)
        return try self.read(count: Int(count))
    }

    /// Reads a UInt32 length and that many bytes of valid UTF-8.
    package mutating func readPrefixedText() throws(MalformedBytes) -> String {
        let bytes = try self.readPrefixed()
        guard let text = String(validating: bytes, as: UTF8.self) else { throw self.failure("UTF-8 text") }
        return text
    }

    /// Everything that is left.
    package mutating func readRest() -> ArraySlice<UInt8> {
        defer { self.next = self.bytes.endIndex }
        return self.bytes[self.next...]
    }

    /// Throws unless everything was read.
    package func finish(_ what: String) throws(MalformedBytes) {
        guard self.isAtEnd else { throw self.failure("end of \(what)") }
    }
}
