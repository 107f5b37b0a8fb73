/// Reads a ZIP archive that anybody may have made.
///
/// Strict beyond the format, so that there is one reading of an archive and nothing hidden in it: members are stored,
/// their sizes stand in both headers, and they and the directory fill the file from its first byte to its last. Nothing
/// grows: what is read is never more than the file.
struct ZipArchive: Sendable {
    struct Member: Sendable {
        let name: String
        let size: Int
        let crc: UInt32
        /// Of the header.
        fileprivate let offset: UInt64
        /// The name, as the header must repeat it.
        fileprivate let header: [UInt8]
        /// Flags to length of the name, as the header must repeat them.
        fileprivate let common: [UInt8]

        fileprivate var contentOffset: UInt64 { self.offset + UInt64(ZipFormat.localHeaderBytes + self.header.count) }
        fileprivate var end: UInt64 { self.contentOffset + UInt64(self.size) }
    }

    let bytes: any PackageBytes
    /// In the order of the archive.
    let members: [Member]
    private let places: [String: Int]

    init(_ bytes: any PackageBytes) throws(PackageError) {
        let end = try DirectoryEnd(bytes)
        let members = try Self.directory(bytes, end)
        var places: [String: Int] = [:]
        var lowercased: Set<String> = []
        var next = UInt64(0)
        for (place, member) in members.enumerated() {
            guard lowercased.insert(member.name.lowercased()).inserted else {
                throw PackageError(.duplicateMember, "the member \(member.name) comes twice")
            }
            guard member.offset == next else {
                throw PackageError(
                    .overlappingMembers,
                    "the member \(member.name) begins at byte \(member.offset) and not at \(next), where the one before ends"
                )
            }
            guard member.end <= end.start else {
                throw PackageError(.overlappingMembers, "the member \(member.name) reaches into the directory")
            }
            places[member.name] = place
            next = member.end
        }
        guard next == end.start else {
            throw PackageError(.overlappingMembers, "bytes before the directory belong to no member")
        }
        self.bytes = bytes
        self.members = members
        self.places = places
    }

    /// The member of a name; nil when there is none.
    func member(_ name: String) -> Member? { self.places[name].map { self.members[$0] } }

    /// The content of a member, and whether it has the checksum that the archive names.
    ///
    /// - Throws: `.contradiction` when its header is not as the directory says.
    func content(of member: Member) throws(PackageError) -> (bytes: [UInt8], isIntact: Bool) {
        let headerCount = ZipFormat.localHeaderBytes + member.header.count
        let all = try self.bytes.read(at: member.offset, count: headerCount + member.size)
        var cursor = ZipCursor(all)
        let signature = cursor.number(UInt32.self)
        // Version, then what both repeat, then no extra field.
        guard signature == ZipFormat.localHeader,
            all[6..<ZipFormat.localHeaderBytes - 2].elementsEqual(member.common),
            all[ZipFormat.localHeaderBytes - 2] == 0, all[ZipFormat.localHeaderBytes - 1] == 0,
            all[ZipFormat.localHeaderBytes..<headerCount].elementsEqual(member.header)
        else {
            throw PackageError(.contradiction, "header and directory differ about the member \(member.name)")
        }
        let content = Array(all[headerCount...])
        return (content, CRC32.checksum(content) == member.crc)
    }

    // MARK: Directory

    /// Where the directory is.
    private struct DirectoryEnd {
        let start: UInt64
        let size: Int
        let count: Int

        init(_ bytes: any PackageBytes) throws(PackageError) {
            let endBytes = UInt64(ZipFormat.directoryEndBytes)
            guard bytes.count >= 4 else { throw PackageError(.notAnArchive, "the file is no ZIP archive") }
            let first = ZipCursor(try bytes.read(at: 0, count: 4))
            var peek = first
            let signature = peek.number(UInt32.self)
            guard signature == ZipFormat.localHeader || signature == ZipFormat.directoryEnd else {
                throw PackageError(.notAnArchive, "the file is no ZIP archive")
            }
            guard bytes.count >= endBytes else { throw PackageError(.truncated, "the archive has no end") }
            let endStart = bytes.count - endBytes
            var cursor = ZipCursor(try bytes.read(at: endStart, count: ZipFormat.directoryEndBytes))
            guard cursor.number(UInt32.self) == ZipFormat.directoryEnd else {
                throw PackageError(.truncated, "the archive's directory is not at its end")
            }
            let disks = (cursor.number(UInt16.self), cursor.number(UInt16.self))
            let counts = (cursor.number(UInt16.self), cursor.number(UInt16.self))
            let size = cursor.number(UInt32.self)
            let start = cursor.number(UInt32.self)
            guard disks == (0, 0), counts.0 == counts.1, cursor.number(UInt16.self) == 0 else {
                throw PackageError(.contradiction, "the archive's end is not that of a package")
            }
            let end: UInt64
            if counts.0 == .max || size == .max || start == .max {
                let wide = try Self.wide(bytes, before: endStart)
                (self.start, self.size, self.count) = (wide.start, wide.size, wide.count)
                end = wide.position
            } else {
                (self.start, self.size, self.count) = (UInt64(start), Int(size), Int(counts.0))
                end = endStart
            }
            guard self.count <= ZipFormat.membersMax else {
                throw PackageError(.tooLarge, "the archive has more than \(ZipFormat.membersMax) members")
            }
            guard self.start <= end, UInt64(self.size) == end - self.start else {
                throw PackageError(.contradiction, "the archive's directory is not where its end says")
            }
        }

        private static func wide(
            _ bytes: any PackageBytes,
            before end: UInt64
        ) throws(PackageError) -> (start: UInt64, size: Int, count: Int, position: UInt64) {
            let wrong = PackageError(.contradiction, "the archive's 64-bit end is not that of a package")
            let count = ZipFormat.directoryEnd64Bytes + ZipFormat.directoryEnd64LocatorBytes
            guard end >= UInt64(count) else { throw wrong }
            let position = end - UInt64(count)
            var cursor = ZipCursor(try bytes.read(at: position, count: count))
            guard cursor.number(UInt32.self) == ZipFormat.directoryEnd64,
                cursor.number(UInt64.self) == UInt64(ZipFormat.directoryEnd64Bytes - 12)
            else { throw wrong }
            _ = cursor.number(UInt32.self)
            let disks = (cursor.number(UInt32.self), cursor.number(UInt32.self))
            let counts = (cursor.number(UInt64.self), cursor.number(UInt64.self))
            let size = cursor.number(UInt64.self)
            let start = cursor.number(UInt64.self)
            guard disks == (0, 0), counts.0 == counts.1, counts.0 <= UInt64(UInt32.max), size <= UInt64(Int64.max),
                cursor.number(UInt32.self) == ZipFormat.directoryEnd64Locator, cursor.number(UInt32.self) == 0,
                cursor.number(UInt64.self) == position, cursor.number(UInt32.self) == 1
            else { throw wrong }
            return (start, Int(size), Int(counts.0), position)
        }
    }

    private static func directory(_ bytes: any PackageBytes, _ end: DirectoryEnd) throws(PackageError) -> [Member] {
        let longest = ZipFormat.directoryHeaderBytes + ZipFormat.nameBytesMax + ZipFormat.offsetExtraBytes
        guard end.size >= end.count * ZipFormat.directoryHeaderBytes, end.size <= end.count * longest else {
            throw PackageError(.contradiction, "the archive's directory has not the size of \(end.count) members")
        }
        var cursor = ZipCursor(try bytes.read(at: end.start, count: end.size))
        var members: [Member] = []
        members.reserveCapacity(end.count)
        for _ in 0..<end.count { members.append(try Self.member(&cursor)) }
        guard cursor.remaining == 0 else {
            throw PackageError(.contradiction, "the archive's directory is longer than its members' rows")
        }
        return members
    }

    private static func member(_ cursor: inout ZipCursor) throws(PackageError) -> Member {
        let wrong = PackageError(.contradiction, "a row of the archive's directory is not that of a package")
        guard cursor.remaining >= ZipFormat.directoryHeaderBytes,
            cursor.number(UInt32.self) == ZipFormat.directoryHeader
        else { throw wrong }
        _ = cursor.number(UInt32.self)
        let commonStart = cursor.next
        let flags = cursor.number(UInt16.self)
        let method = cursor.number(UInt16.self)
        _ = cursor.number(UInt32.self)
        let crc = cursor.number(UInt32.self)
        let sizes = (cursor.number(UInt32.self), cursor.number(UInt32.self))
        let nameCount = Int(cursor.number(UInt16.self))
        let common = Array(cursor.bytes[commonStart..<cursor.next])
        let extraCount = Int(cursor.number(UInt16.self))
        let commentCount = cursor.number(UInt16.self)
        let disk = cursor.number(UInt16.self)
        _ = cursor.number(UInt16.self)
        let attributes = cursor.number(UInt32.self)
        let offset = cursor.number(UInt32.self)
        guard nameCount <= ZipFormat.nameBytesMax else {
            throw PackageError(.tooLarge, "a member's name is longer than \(ZipFormat.nameBytesMax) bytes")
        }
        guard cursor.remaining >= nameCount + extraCount, commentCount == 0, disk == 0 else { throw wrong }
        let name = cursor.take(nameCount)
        guard ZipFormat.isSafe(name) else {
            throw PackageError(.unsafePath, "a member's name is not a plain relative path")
        }
        let text = String(decoding: name, as: UTF8.self)
        guard flags == 0, method == 0 else {
            throw PackageError(.notStored, "the member \(text) is compressed or encrypted; packages only store")
        }
        guard sizes.0 == sizes.1 else {
            throw PackageError(.contradiction, "the member \(text) is stored and has two sizes")
        }
        guard sizes.0 <= ZipFormat.memberBytesMax else {
            throw PackageError(.tooLarge, "the member \(text) has more than \(ZipFormat.memberBytesMax) bytes")
        }
        // A directory, a link or a device. Some programs that make archives write permissions and no kind.
        let kind = attributes >> 16 & 0o170000
        guard kind == 0o100000 || kind == 0 else {
            throw PackageError(.unsafePath, "the member \(text) is no regular file")
        }
        var place = UInt64(offset)
        if offset == .max {
            guard extraCount == ZipFormat.offsetExtraBytes, cursor.number(UInt16.self) == ZipFormat.offsetExtraID,
                cursor.number(UInt16.self) == 8
            else { throw wrong }
            place = cursor.number(UInt64.self)
            guard place >= UInt64(UInt32.max), place <= UInt64(Int64.max) else { throw wrong }
        } else if extraCount != 0 {
            throw wrong
        }
        return Member(name: text, size: Int(sizes.0), crc: crc, offset: place, header: name, common: common)
    }
}
