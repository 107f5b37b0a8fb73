// The part of the FlatBuffers encoding that Arrow's metadata needs.
// Source: flatbuffers.dev, «FlatBuffer internals».

/// Writes one FlatBuffer, from its end to its start, as the format wants it.
struct FlatBufferBuilder {
    /// A place in the buffer, counted from its end.
    typealias Offset = Int

    /// Bytes in reverse order: the last byte of the buffer comes first.
    private var reversed: [UInt8] = []
    private var alignmentMax = 4
    private var fields: [(slot: Int, offset: Offset)] = []
    private var tableStart = 0

    private var position: Offset { self.reversed.count }

    /// Pads so that after `bytes` more the position is a multiple of `alignment`.
    private mutating func align(_ alignment: Int, after bytes: Int = 0) {
        self.alignmentMax = max(self.alignmentMax, alignment)
        while (self.reversed.count + bytes) % alignment != 0 { self.reversed.append(0) }
    }

    private mutating func push<T: FixedWidthInteger>(_ value: T) {
        self.align(MemoryLayout<T>.size)
        for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
            self.reversed.append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }

    private mutating func pushReference(to offset: Offset) {
        self.align(4)
        self.push(UInt32(self.position + 4 - offset))
    }

    mutating func string(_ text: String) -> Offset {
        let bytes = Array(text.utf8)
        self.align(4, after: bytes.count + 1)
        self.reversed.append(0)
        self.reversed.append(contentsOf: bytes.reversed())
        self.push(UInt32(bytes.count))
        return self.position
    }

    mutating func vector(of offsets: [Offset]) -> Offset {
        self.align(4)
        for offset in offsets.reversed() { self.pushReference(to: offset) }
        self.push(UInt32(offsets.count))
        return self.position
    }

    /// A vector of structures of two 64-bit integers each.
    mutating func vector(ofPairs pairs: [(Int64, Int64)]) -> Offset {
        self.align(8)
        for pair in pairs.reversed() {
            self.push(pair.1)
            self.push(pair.0)
        }
        self.push(UInt32(pairs.count))
        return self.position
    }

    mutating func startTable() {
        self.fields = []
        self.tableStart = self.position
    }

    mutating func add<T: FixedWidthInteger>(_ slot: Int, _ value: T, default standard: T) {
        guard value != standard else { return }
        self.push(value)
        self.fields.append((slot, self.position))
    }

    mutating func add(_ slot: Int, _ value: Bool) {
        self.add(slot, UInt8(value ? 1 : 0), default: 0)
    }

    mutating func add(_ slot: Int, reference: Offset?) {
        guard let reference else { return }
        self.pushReference(to: reference)
        self.fields.append((slot, self.position))
    }

    mutating func endTable() -> Offset {
        self.align(4)
        // The signed distance from the table to its description, which is written right before it.
        self.push(Int32(0))
        let table = self.position
        let slots = (self.fields.map(\.slot).max() ?? -1) + 1
        var entries = [UInt16](repeating: 0, count: slots)
        for field in self.fields { entries[field.slot] = UInt16(table - field.offset) }
        self.align(2)
        for entry in entries.reversed() { self.push(entry) }
        self.push(UInt16(table - self.tableStart))
        self.push(UInt16(slots * 2 + 4))
        let distance = Int32(self.position - table)
        for index in 0..<4 {
            self.reversed[table - 1 - index] = UInt8(truncatingIfNeeded: distance >> Int32(index * 8))
        }
        return table
    }

    /// The finished buffer, its length a multiple of 8.
    mutating func finish(_ root: Offset) -> [UInt8] {
        self.align(max(8, self.alignmentMax), after: 4)
        self.pushReference(to: root)
        return Array(self.reversed.reversed())
    }
}

/// Reads one FlatBuffer. Nothing is believed: every position is checked against the bytes.
struct FlatBufferReader {
    private let bytes: [UInt8]

    init(bytes: [UInt8]) { self.bytes = bytes }

    func root() throws -> FlatTable {
        try FlatTable(reader: self, position: self.follow(0))
    }

    fileprivate func integer<T: FixedWidthInteger>(_ position: Int, as type: T.Type) throws -> T {
        let size = MemoryLayout<T>.size
        guard position >= 0, position <= self.bytes.count - size else { throw Self.malformed }
        var value: T = 0
        for index in 0..<size { value |= T(truncatingIfNeeded: self.bytes[position + index]) << T(index * 8) }
        return value
    }

    /// The target of the reference at `position`.
    fileprivate func follow(_ position: Int) throws -> Int {
        let target = position + Int(try self.integer(position, as: UInt32.self))
        guard target <= self.bytes.count - 4 else { throw Self.malformed }
        return target
    }

    fileprivate func string(_ position: Int) throws -> String {
        let count = Int(try self.integer(position, as: UInt32.self))
        guard count <= self.bytes.count - position - 4 else { throw Self.malformed }
        let text = self.bytes[position + 4..<position + 4 + count]
        guard let string = String(validating: text, as: UTF8.self) else { throw Self.malformed }
        return string
    }

    /// Start and length of a vector whose elements have `elementBytes`.
    fileprivate func vector(_ position: Int, elementBytes: Int) throws -> (start: Int, count: Int) {
        let count = Int(try self.integer(position, as: UInt32.self))
        guard count <= (self.bytes.count - position - 4) / elementBytes else { throw Self.malformed }
        return (position + 4, count)
    }

    static var malformed: ColumnarError { ColumnarError(.invalidArrow, "malformed metadata") }
}

/// A table inside of a FlatBuffer.
struct FlatTable {
    private let reader: FlatBufferReader
    private let position: Int
    private let description: Int
    private let descriptionBytes: Int

    fileprivate init(reader: FlatBufferReader, position: Int) throws {
        self.reader = reader
        self.position = position
        self.description = position - Int(try reader.integer(position, as: Int32.self))
        self.descriptionBytes = Int(try reader.integer(self.description, as: UInt16.self))
    }

    private func field(_ slot: Int) throws -> Int? {
        let entry = 4 + slot * 2
        guard entry + 2 <= self.descriptionBytes else { return nil }
        let offset = Int(try self.reader.integer(self.description + entry, as: UInt16.self))
        return offset == 0 ? nil : self.position + offset
    }

    func integer<T: FixedWidthInteger>(_ slot: Int, default standard: T) throws -> T {
        guard let position = try self.field(slot) else { return standard }
        return try self.reader.integer(position, as: T.self)
    }

    func bool(_ slot: Int) throws -> Bool { try self.integer(slot, default: UInt8(0)) != 0 }

    func string(_ slot: Int) throws -> String? {
        guard let position = try self.field(slot) else { return nil }
        return try self.reader.string(self.reader.follow(position))
    }

    func table(_ slot: Int) throws -> FlatTable? {
        guard let position = try self.field(slot) else { return nil }
        return try FlatTable(reader: self.reader, position: self.reader.follow(position))
    }

    func tables(_ slot: Int) throws -> [FlatTable] {
        guard let position = try self.field(slot) else { return [] }
        let (start, count) = try self.reader.vector(self.reader.follow(position), elementBytes: 4)
        guard count <= ArrowLimits.fieldsMax else { throw FlatBufferReader.malformed }
        return try (0..<count).map {
            try FlatTable(reader: self.reader, position: self.reader.follow(start + $0 * 4))
        }
    }

    func integers(_ slot: Int, max: Int) throws -> [Int64] {
        guard let position = try self.field(slot) else { return [] }
        let (start, count) = try self.reader.vector(self.reader.follow(position), elementBytes: 8)
        guard count <= max else { throw FlatBufferReader.malformed }
        return try (0..<count).map { try self.reader.integer(start + $0 * 8, as: Int64.self) }
    }

    func integers32(_ slot: Int, max: Int) throws -> [Int32] {
        guard let position = try self.field(slot) else { return [] }
        let (start, count) = try self.reader.vector(self.reader.follow(position), elementBytes: 4)
        guard count <= max else { throw FlatBufferReader.malformed }
        return try (0..<count).map { try self.reader.integer(start + $0 * 4, as: Int32.self) }
    }

    func pairs(_ slot: Int, max: Int) throws -> [(Int64, Int64)] {
        guard let position = try self.field(slot) else { return [] }
        let (start, count) = try self.reader.vector(self.reader.follow(position), elementBytes: 16)
        guard count <= max else { throw FlatBufferReader.malformed }
        return try (0..<count).map {
            (
                try self.reader.integer(start + $0 * 16, as: Int64.self),
                try self.reader.integer(start + $0 * 16 + 8, as: Int64.self)
            )
        }
    }
}
