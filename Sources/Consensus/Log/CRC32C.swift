internal import CChecksum

/// The Castagnoli checksum (RFC 3720, appendix B.4): by the processor's own instruction where it has one, else by tables.
package struct CRC32C {
    private static let polynomial: UInt32 = 0x82F6_3B78
    /// Eight tables of 256: slicing-by-8 (Kounavis and Berry, 2005).
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ Self.polynomial : value >> 1 }
            tables[byte] = value
        }
        for slice in 1..<8 {
            for byte in 0..<256 {
                let before = tables[(slice - 1) * 256 + byte]
                tables[slice * 256 + byte] = before >> 8 ^ tables[Int(before & 0xFF)]
            }
        }
        return tables
    }()

    private static let hasInstruction = ft_crc32c_is_available() != 0

    private var state: UInt32 = 0xFFFF_FFFF

    package init() {}

    /// The checksum of everything taken so far.
    package var value: UInt32 { ~self.state }

    mutating func update(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.bigEndian) { self.update($0) }
    }

    mutating func update(_ bytes: some Sequence<UInt8>) {
        let isDone: Void? = bytes.withContiguousStorageIfAvailable { self.update(UnsafeRawBufferPointer($0)) }
        if isDone != nil { return }
        for byte in bytes { withUnsafeBytes(of: byte) { self.update($0) } }
    }

    /// Takes more bytes.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        if Self.hasInstruction {
            self.state = ft_crc32c(self.state, bytes.baseAddress, bytes.count)
        } else {
            self.updateByTables(bytes)
        }
    }

    /// Eight bytes a step.
    mutating func updateByTables(_ bytes: UnsafeRawBufferPointer) {
        var crc = self.state
        Self.tables.withUnsafeBufferPointer { tables in
            var offset = 0
            while offset + 8 <= bytes.count {
                let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                let low = UInt32(truncatingIfNeeded: word) ^ crc
                let high = UInt32(truncatingIfNeeded: word >> 32)
                let first = tables[1792 + Int(low & 0xFF)] ^ tables[1536 + Int(low >> 8 & 0xFF)]
                let second = tables[1280 + Int(low >> 16 & 0xFF)] ^ tables[1024 + Int(low >> 24)]
                let third = tables[768 + Int(high & 0xFF)] ^ tables[512 + Int(high >> 8 & 0xFF)]
                let fourth = tables[256 + Int(high >> 16 & 0xFF)] ^ tables[Int(high >> 24)]
                crc = first ^ second ^ third ^ fourth
                offset += 8
            }
            while offset < bytes.count {
                crc = crc >> 8 ^ tables[Int((crc ^ UInt32(bytes[offset])) & 0xFF)]
                offset += 1
            }
        }
        self.state = crc
    }
}
