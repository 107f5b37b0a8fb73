internal import Primitives

/// The parts of the ZIP format that packages use (PKWARE APPNOTE 6.3.10): stored members, names in ASCII, sizes in the
/// headers, ZIP64 where a number does not fit.
enum ZipFormat {
    static let localHeader: UInt32 = 0x0403_4B50
    static let directoryHeader: UInt32 = 0x0201_4B50
    static let directoryEnd: UInt32 = 0x0605_4B50
    static let directoryEnd64: UInt32 = 0x0606_4B50
    static let directoryEnd64Locator: UInt32 = 0x0706_4B50

    static let localHeaderBytes = 30
    static let directoryHeaderBytes = 46
    static let directoryEndBytes = 22
    static let directoryEnd64Bytes = 56
    static let directoryEnd64LocatorBytes = 20
    /// Id, length and one 64-bit offset: the only extra field that packages use.
    static let offsetExtraBytes = 12
    static let offsetExtraID: UInt16 = 1

    /// Version needed: 2.0, or 4.5 for ZIP64.
    static let version: UInt16 = 20
    static let version64: UInt16 = 45
    /// Made on a Unix system, so that the permissions below are understood.
    static let madeBy: UInt16 = 3 << 8 | 45
    /// A regular file that all may read and its owner may write.
    static let attributes: UInt32 = 0o100644 << 16

    /// Members of an archive; a package of a hundred million records has fewer.
    static let membersMax = 1_000_000
    static let nameBytesMax = 200
    /// Bytes of one member; every part of a package is cut to fit.
    static let memberBytesMax = 256 << 20

    /// Whether `name` may be that of a member: relative, of plain characters, no part of it empty, `.` or `..`.
    static func isSafe(_ name: some Collection<UInt8>) -> Bool {
        guard !name.isEmpty, name.count <= self.nameBytesMax else { return false }
        for part in name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            guard let first = part.first, first != UInt8(ascii: ".") || part.contains(where: { $0 != first }),
                part.allSatisfy(self.isPlain)
            else { return false }
        }
        return true
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}

/// Little-endian numbers, as ZIP writes them.
struct ZipBytes {
    private(set) var bytes: [UInt8] = []

    init(capacity: Int) { self.bytes.reserveCapacity(capacity) }

    mutating func write<Number: FixedWidthInteger & UnsignedInteger>(_ value: Number) {
        var rest = value
        for _ in 0..<Number.bitWidth / 8 {
            self.bytes.append(UInt8(truncatingIfNeeded: rest))
            rest = Number(truncatingIfNeeded: UInt64(rest) >> 8)
        }
    }

    mutating func write(name: [UInt8]) { self.bytes += name }
}

/// Reads little-endian numbers; the caller has checked that they are there.
struct ZipCursor {
    let bytes: [UInt8]
    private(set) var next: Int

    init(_ bytes: [UInt8], at start: Int = 0) {
        self.bytes = bytes
        self.next = start
    }

    var remaining: Int { self.bytes.count - self.next }

    mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_: Number.Type = Number.self) -> Number {
        var value = UInt64(0)
        let count = Number.bitWidth / 8
        for place in 0..<count { value |= UInt64(self.bytes[self.next + place]) << UInt64(8 * place) }
        self.next += count
        return Number(truncatingIfNeeded: value)
    }

    mutating func take(_ count: Int) -> [UInt8] {
        defer { self.next += count }
        return Array(self.bytes[self.next..<self.next + count])
    }
}
