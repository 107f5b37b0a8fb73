internal import Primitives

/// Writes a ZIP archive of stored members, front to back, without ever going back to change what was written.
///
/// The caller sends what each call returns, in order. Names are the caller's to choose well: one that ``ZipArchive``
/// would refuse, or that comes twice, is a bug.
struct ZipWriter: Sendable {
    private struct Member: Sendable {
        let name: [UInt8]
        let crc: UInt32
        let size: UInt32
        let offset: UInt64
    }

    private var members: [Member] = []
    private var names: Set<String> = []
    private let date: (day: UInt16, time: UInt16)
    /// Bytes written so far.
    private(set) var offset: UInt64 = 0

    /// - Parameter date: What archive tools show as the time of the members, in UTC.
    init(date: Timestamp) { self.date = Self.dosDate(date) }

    /// The bytes of a member: header and content.
    mutating func member(_ name: String, _ content: [UInt8]) -> [UInt8] {
        let nameBytes = Array(name.utf8)
        precondition(ZipFormat.isSafe(nameBytes), "a member's name is one that the reader takes")
        precondition(self.names.insert(name.lowercased()).inserted, "a member comes once")
        precondition(content.count <= ZipFormat.memberBytesMax, "a member fits")
        let member = Member(
            name: nameBytes,
            crc: CRC32.checksum(content),
            size: UInt32(content.count),
            offset: self.offset
        )
        var output = ZipBytes(capacity: ZipFormat.localHeaderBytes + nameBytes.count + content.count)
        output.write(ZipFormat.localHeader)
        output.write(ZipFormat.version)
        self.writeCommon(member, extraBytes: 0, to: &output)
        output.write(name: nameBytes)
        output.write(name: content)
        self.members.append(member)
        self.offset += UInt64(output.bytes.count)
        return output.bytes
    }

    /// What the header of a member and its row in the directory have in common.
    private func writeCommon(_ member: Member, extraBytes: UInt16, to output: inout ZipBytes) {
        output.write(UInt16(0))  // flags
        output.write(UInt16(0))  // stored
        output.write(self.date.time)
        output.write(self.date.day)
        output.write(member.crc)
        output.write(member.size)
        output.write(member.size)
        output.write(UInt16(member.name.count))
        output.write(extraBytes)
    }

    /// The directory, which ends the archive.
    mutating func finish() -> [UInt8] {
        precondition(self.members.count <= ZipFormat.membersMax, "an archive is bounded")
        let start = self.offset
        var output = ZipBytes(capacity: self.members.count * 96 + 128)
        for member in self.members {
            let isFar = member.offset >= UInt64(UInt32.max)
            output.write(ZipFormat.directoryHeader)
            output.write(ZipFormat.madeBy)
            output.write(isFar ? ZipFormat.version64 : ZipFormat.version)
            self.writeCommon(member, extraBytes: isFar ? UInt16(ZipFormat.offsetExtraBytes) : 0, to: &output)
            output.write(UInt16(0))  // comment
            output.write(UInt16(0))  // disk
            output.write(UInt16(0))  // internal attributes
            output.write(ZipFormat.attributes)
            output.write(isFar ? UInt32.max : UInt32(member.offset))
            output.write(name: member.name)
            if isFar {
                output.write(ZipFormat.offsetExtraID)
                output.write(UInt16(8))
                output.write(member.offset)
            }
        }
        let size = UInt64(output.bytes.count)
        let count = UInt64(self.members.count)
        let isLarge = start >= UInt64(UInt32.max) || size >= UInt64(UInt32.max) || count >= UInt64(UInt16.max)
        if isLarge {
            output.write(ZipFormat.directoryEnd64)
            output.write(UInt64(ZipFormat.directoryEnd64Bytes - 12))
            output.write(ZipFormat.madeBy)
            output.write(ZipFormat.version64)
            output.write(UInt32(0))
            output.write(UInt32(0))
            output.write(count)
            output.write(count)
            output.write(size)
            output.write(start)
            output.write(ZipFormat.directoryEnd64Locator)
            output.write(UInt32(0))
            output.write(start + size)
            output.write(UInt32(1))
        }
        output.write(ZipFormat.directoryEnd)
        output.write(UInt16(0))
        output.write(UInt16(0))
        output.write(isLarge ? UInt16.max : UInt16(count))
        output.write(isLarge ? UInt16.max : UInt16(count))
        output.write(isLarge ? UInt32.max : UInt32(size))
        output.write(isLarge ? UInt32.max : UInt32(start))
        output.write(UInt16(0))
        self.offset += UInt64(output.bytes.count)
        return output.bytes
    }

    /// MS-DOS date and time: years from 1980, two-second steps.
    private static func dosDate(_ time: Timestamp) -> (day: UInt16, time: UInt16) {
        let digits = time.description.utf8.filter { $0 >= 0x30 && $0 <= 0x39 }.map { UInt16($0 - 0x30) }
        func number(_ start: Int, _ count: Int) -> UInt16 {
            digits[start..<start + count].reduce(0) { $0 * 10 + $1 }
        }
        guard digits.count >= 14, (1980...2107).contains(number(0, 4)) else { return (1 << 5 | 1, 0) }
        return (
            (number(0, 4) - 1980) << 9 | number(4, 2) << 5 | number(6, 2),
            number(8, 2) << 11 | number(10, 2) << 5 | number(12, 2) / 2
        )
    }
}
