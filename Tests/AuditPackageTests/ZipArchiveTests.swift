import Foundation
import Primitives
import Testing

@testable import AuditPackage

@Suite struct ZipArchiveTests {
    static let time = Timestamp("2026-11-21T15:30:20.000000Z")!

    static func archive(_ members: [(String, [UInt8])]) -> [UInt8] {
        var zip = ZipWriter(date: self.time)
        return members.flatMap { zip.member($0.0, $0.1) } + zip.finish()
    }

    static let small = Self.archive([("a.txt", Array("hello".utf8)), ("tile/0/x001/000.p/3", []), ("b", [1, 2, 3])])

    /// The first place of some bytes.
    static func place(_ bytes: [UInt8], of part: [UInt8], after start: Int = 0) -> Int {
        (start..<bytes.count - part.count).first { bytes[$0..<$0 + part.count].elementsEqual(part) } ?? 0
    }

    static func code(_ bytes: [UInt8]) -> PackageError.Code? {
        do {
            let archive = try ZipArchive(PackageArray(bytes))
            for member in archive.members { _ = try archive.content(of: member) }
            return nil
        } catch {
            return error.code
        }
    }

    @Test func knowsThePublishedChecksum() {
        // The check value of CRC-32/ISO-HDLC.
        #expect(CRC32.checksum(Array("123456789".utf8)) == 0xCBF4_3926)
        #expect(CRC32.checksum([]) == 0)
    }

    @Test func checksumDoesNotDependOnSteps() {
        var slow: UInt32 = 0
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 31) }
        for byte in bytes { slow = [byte].withUnsafeBytes { CRC32.update(slow, with: $0) } }
        #expect(CRC32.checksum(bytes) == slow)
    }

    @Test func readsWhatItWrote() throws {
        let archive = try ZipArchive(PackageArray(Self.small))
        #expect(archive.members.map(\.name) == ["a.txt", "tile/0/x001/000.p/3", "b"])
        let member = try #require(archive.member("a.txt"))
        let content = try archive.content(of: member)
        #expect(content.bytes == Array("hello".utf8))
        #expect(content.isIntact)
    }

    @Test func readsAnArchiveWithoutMembers() throws {
        #expect(try ZipArchive(PackageArray(Self.archive([]))).members.isEmpty)
    }

    @Test func writesWhatUnzipReads() throws {
        let folder = try TemporaryFolder()
        try Data(Self.small).write(to: folder.url.appending(path: "a.zip"))
        let script = """
            import sys, zipfile
            z = zipfile.ZipFile(sys.argv[1])
            assert z.testzip() is None
            assert z.namelist() == ['a.txt', 'tile/0/x001/000.p/3', 'b'], z.namelist()
            assert z.read('a.txt') == b'hello'
            assert z.getinfo('b').date_time == (2026, 11, 21, 15, 30, 20), z.getinfo('b').date_time
            """
        try runPython(["-c", script, folder.url.appending(path: "a.zip").path])
    }

    @Test func writesAndReadsManyMembers() throws {
        // More than 65,535: the directory's end is the 64-bit one.
        let count = 65_600
        let bytes = Self.archive((0..<count).map { ("n/\($0)", [UInt8(truncatingIfNeeded: $0)]) })
        let archive = try ZipArchive(PackageArray(bytes))
        #expect(archive.members.count == count)
        #expect(try archive.content(of: archive.members[count - 1]).bytes == [UInt8(truncatingIfNeeded: count - 1)])
    }

    /// Archives beyond 4 GiB without their bytes: what is between is not there, but its place is.
    @Test func takesFarOffsetsOnlyInTheirOneForm() {
        var zip = ZipWriter(date: Self.time)
        let bytes = zip.member("a", [1]) + zip.finish()
        var far = bytes
        let row = Self.place(bytes, of: [0x50, 0x4B, 1, 2])
        far.replaceSubrange(row + 42..<row + 46, with: [0xFF, 0xFF, 0xFF, 0xFF])
        #expect(Self.code(far) == .contradiction)
    }

    @Test(arguments: [
        "../a", "/etc/passwd", "a/../b", "a//b", "a/", "./a", "..", ".", "", "a\\b", "C:a", "a b", "é", "a\u{0}b",
        String(repeating: "n", count: 201),
    ])
    func refusesNamesThatAreNoPlainPaths(name: String) {
        #expect(!ZipFormat.isSafe(Array(name.utf8)))
        // Puts the name in the place of a good one of the same length.
        guard (1...200).contains(name.utf8.count) else { return }
        let good = [UInt8](repeating: UInt8(ascii: "q"), count: name.utf8.count)
        var bytes = Self.archive([(String(decoding: good, as: UTF8.self), [1])])
        for _ in 0..<2 {
            let place = Self.place(bytes, of: good)
            bytes.replaceSubrange(place..<place + good.count, with: Array(name.utf8))
        }
        #expect(Self.code(bytes) == .unsafePath)
    }

    @Test func refusesNamesTwice() {
        for (first, second) in [("same", "same"), ("same", "SAME")] {
            var bytes = Self.archive([("same", [1]), ("othr", [2])])
            for _ in 0..<2 {
                let place = Self.place(bytes, of: Array("othr".utf8))
                bytes.replaceSubrange(place..<place + 4, with: Array(second.utf8))
            }
            #expect(Self.code(bytes) == .duplicateMember, "\(first) \(second)")
        }
    }

    @Test func refusesEveryTruncation() {
        for count in 0..<Self.small.count {
            #expect(Self.code(Array(Self.small.prefix(count))) != nil, "\(count) bytes")
        }
        #expect(Self.code(Array(Self.small.prefix(Self.small.count - 30))) == .truncated)
    }

    @Test func refusesBytesThatBelongToNoMember() {
        #expect(Self.code(Self.small + [0]) == .truncated)
        #expect(Self.code([0] + Self.small) == .notAnArchive)
        #expect(Self.code(Array("PK".utf8)) == .notAnArchive)
        #expect(Self.code([]) == .notAnArchive)
    }

    /// Changes some bytes of the directory's row and of the header of the member `b`.
    private func change(row: [Int: UInt8] = [:], header: [Int: UInt8] = [:], end: [Int: UInt8] = [:]) -> [UInt8] {
        var bytes = Self.small
        let last = Self.place(
            bytes,
            of: [0x50, 0x4B, 1, 2],
            after: Self.place(bytes, of: Array("x001/000.p/3".utf8), after: 80)
        )
        let local = Self.place(bytes, of: [0x50, 0x4B, 3, 4], after: 70)
        for (offset, byte) in row { bytes[last + offset] = byte }
        for (offset, byte) in header { bytes[local + offset] = byte }
        for (offset, byte) in end { bytes[bytes.count - 22 + offset] = byte }
        return bytes
    }

    @Test func namesLies() {
        #expect(Self.code(self.change()) == nil)
        #expect(Self.code(self.change(row: [10: 8], header: [8: 8])) == .notStored)
        #expect(Self.code(self.change(row: [8: 1], header: [6: 1])) == .notStored)
        // A bomb says that few bytes grow to many.
        #expect(Self.code(self.change(row: [24: 0xFF, 25: 0xFF, 26: 0xFF])) == .contradiction)
        #expect(Self.code(self.change(row: [20: 0xFF, 21: 0xFF, 24: 0xFF, 25: 0xFF])) == .overlappingMembers)
        #expect(Self.code(self.change(row: [23: 0x7F, 27: 0x7F])) == .tooLarge)
        #expect(Self.code(self.change(header: [18: 9])) == .contradiction)
        #expect(Self.code(self.change(header: [14: 9])) == .contradiction)
        #expect(Self.code(self.change(row: [42: 0])) == .overlappingMembers)
        // Permissions without a kind of file, as some programs write them.
        #expect(Self.code(self.change(row: [40: 0xA4, 41: 0x01])) == nil)
        #expect(Self.code(self.change(row: [41: 0xA0])) == .unsafePath)
        #expect(Self.code(self.change(row: [30: 1])) == .contradiction)
        #expect(Self.code(self.change(end: [8: 4, 10: 4])) == .contradiction)
        #expect(Self.code(self.change(end: [10: 2])) == .contradiction)
        #expect(Self.code(self.change(end: [16: 1])) == .contradiction)
        #expect(Self.code(self.change(end: [20: 1])) == .contradiction)
    }

    /// Two rows of the directory that share one member's bytes: how a bomb of stored members is made.
    @Test func refusesMembersThatShareBytes() {
        var bytes = Self.archive([("a", [1]), ("b", [1])])
        let row = Self.place(bytes, of: [0x50, 0x4B, 1, 2], after: Self.place(bytes, of: [0x50, 0x4B, 1, 2]) + 4)
        bytes[row + 42] = 0
        #expect(Self.code(bytes) == .overlappingMembers)
    }

    @Test func tellsChangedContent() throws {
        var bytes = Self.small
        bytes[Self.place(bytes, of: Array("hello".utf8))] ^= 1
        let archive = try ZipArchive(PackageArray(bytes))
        let member = try #require(archive.member("a.txt"))
        #expect(try !archive.content(of: member).isIntact)
    }

    @Test(arguments: 0..<40 as Range<UInt64>)
    func survivesRandomDamage(seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        let sound = try PackageFixture(records: 12).package {
            if seed % 2 == 0 { $0.selection = .ranges([2...3, 9...9]) }
        }
        for round in 0..<50 {
            var bytes = sound
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                switch UInt8.random(in: 0..<5, using: &generator) {
                case 0:
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^=
                        1 << UInt8.random(in: 0..<8, using: &generator)
                case 1: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
                case 2: bytes.remove(at: Int.random(in: 0..<bytes.count, using: &generator))
                case 3:
                    bytes.insert(
                        generator.next(upperBound: 255),
                        at: Int.random(in: 0...bytes.count, using: &generator)
                    )
                default:
                    // The directory, where the structure is.
                    let start = max(0, bytes.count - 2_000)
                    bytes[Int.random(in: start..<bytes.count, using: &generator)] = generator.next(upperBound: 255)
                }
                if bytes.isEmpty { bytes = [0] }
            }
            guard bytes != sound else { continue }
            do {
                let report = try await verify(bytes)
                // Every byte counts: only members' times are nobody's affair.
                #expect(
                    report.exit != .valid || Self.contents(bytes) == Self.contents(sound),
                    "seed \(seed) round \(round)"
                )
            } catch is PackageError {
                continue
            }
        }
    }

    private static func contents(_ bytes: [UInt8]) -> [[UInt8]]? {
        guard let archive = try? ZipArchive(PackageArray(bytes)) else { return nil }
        return archive.members.compactMap { try? archive.content(of: $0).bytes }
    }
}

/// A folder that goes with its owner.
final class TemporaryFolder {
    let url: URL

    init() throws {
        self.url = FileManager.default.temporaryDirectory.appending(path: "package-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: self.url) }
}

/// Runs the system's Python and gives its exit code and output.
func python(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, output)
}

func runPython(_ arguments: [String]) throws {
    let result = try python(arguments)
    #expect(result.status == 0, "\(result.output)")
}
