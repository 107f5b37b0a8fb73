internal import Primitives

/// The form of the file that ``InMemoryStore/checkpoint(to:)`` writes.
///
/// `FTMS`, version u8, number of families u8, then for each family its name, the number of its keys u64 and each key
/// and value; last a 64-bit FNV-1a sum of everything before it. Integers are big-endian, byte strings and names have a
/// u32 length in front.
enum MemoryCheckpoint {
    private static let magic = Array("FTMS".utf8)
    private static let version = UInt8(1)

    static func encode(_ maps: FamilyMaps) throws(StorageError) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(raw: self.magic)
        writer.write(self.version)
        writer.write(UInt8(ColumnFamily.allCases.count))
        for family in ColumnFamily.allCases {
            writer.write(prefixed: family.rawValue)
            writer.write(UInt64(maps[family].count))
            try maps.scan(family, from: [], to: nil, direction: .ascending) { key, value in
                writer.write(prefixed: key)
                writer.write(prefixed: value)
                return true
            }
        }
        writer.write(self.sum(of: writer.bytes[...]))
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8], path: String) throws(StorageError) -> FamilyMaps {
        do {
            return try self.read(bytes, path: path)
        } catch let error as StorageError {
            throw error
        } catch {
            throw StorageError(code: .corruption, message: "\(path) is not a whole checkpoint", cause: error)
        }
    }

    private static func read(_ bytes: [UInt8], path: String) throws -> FamilyMaps {
        var reader = ByteReader(bytes)
        guard Array(try reader.read(count: self.magic.count)) == self.magic else {
            throw StorageError(code: .incompatible, message: "\(path) is not a checkpoint of an in-memory store")
        }
        let version = try reader.read(UInt8.self)
        guard version == self.version else {
            throw StorageError(code: .incompatible, message: "\(path) has version \(version), not \(self.version)")
        }
        let sumBytes = MemoryLayout<UInt64>.size
        guard reader.remaining >= sumBytes else { throw MalformedBytes(what: "sum", offset: reader.offset) }
        let body = bytes[..<(bytes.count - sumBytes)]
        var sumReader = ByteReader(bytes[(bytes.count - sumBytes)...])
        guard try sumReader.read(UInt64.self) == self.sum(of: body) else {
            throw MalformedBytes(what: "sum", offset: body.count)
        }
        var maps = FamilyMaps()
        for _ in 0..<(try reader.read(UInt8.self)) {
            let name = try reader.readPrefixedText()
            guard let family = ColumnFamily(rawValue: name) else {
                throw StorageError(code: .incompatible, message: "\(path) has the unknown family \(name)")
            }
            for _ in 0..<(try reader.read(UInt64.self)) {
                let key = Array(try reader.readPrefixed())
                maps[family].put(key, Array(try reader.readPrefixed()))
            }
        }
        guard reader.remaining == sumBytes else { throw MalformedBytes(what: "end", offset: reader.offset) }
        return maps
    }

    /// FNV-1a, 64 bits: finds damage by accident, not by intent.
    private static func sum(of bytes: ArraySlice<UInt8>) -> UInt64 {
        var sum = UInt64(0xCBF2_9CE4_8422_2325)
        for byte in bytes { sum = (sum ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return sum
    }
}
