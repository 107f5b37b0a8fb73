import CChecksum
import Primitives
import Storage
import Testing

@testable import AuditLedger

/// The quick reader accepts only what the strict one does, and reads the same.
struct RecordScanTests {
    static let organization = bytes("\"lab-a\"")

    static func scan(_ record: [UInt8], finder: QuoteFinder = .best) -> RecordScan? {
        var scanner = RecordScanner(organization: Self.organization, finder: finder)
        return record.withUnsafeBufferPointer { scanner.readUsual($0) }
    }

    /// The digits that the scan found.
    static func previous(_ scan: RecordScan, _ record: [UInt8]) -> String {
        text(record[scan.previousPlace..<scan.previousPlace + 2 * Digest.byteCount])
    }

    /// The digits that the strict reader found.
    static func previous(_ fields: RecordFields) -> String? {
        fields.json(.previous).map { text($0.dropFirst().dropLast()) }
    }

    static func record(_ event: String, organization: String = "lab-a") throws -> [UInt8] {
        let context = EventContext(
            organization: OrganizationKey(organization)!,
            request: RequestInfo(id: "r-1", channel: .api, ip: "::1", userAgent: "test/1", authentication: "bearer"),
            defaultActor: Actor(kind: .apiKey, id: "key-1")
        )
        var appender = LedgerAppender(head: LedgerHead(empty: LedgerFixture.organization))
        var batch = WriteBatch()
        let draft = try EventDraft.parse(bytes(event), defaults: context)
        _ = appender.append(draft, stampedAt: Timestamp(microseconds: 5), into: &batch)
        return appender.append(draft, stampedAt: Timestamp(microseconds: 1_700_000_000_000_000), into: &batch).bytes
    }

    static let events = [
        #"{"action":"a","entity_type":"t","entity_id":"i","after":{"n":1}}"#,
        #"{"action":"a","entity_type":"t","entity_id":"i","before":[],"after":{},"reason":"Grüße 試料 🧪"}"#,
        #"{"action":"a","entity_type":"t","entity_id":"i","before":[[1,-2,{"a":null,"b":[true,false]}],"x"],"after":0}"#,
        #"{"action":"a","entity_type":"t","entity_id":"i","occurred_at":"2026-01-02T03:04:05Z","compliance":{"a":{}}}"#,
        #"{"action":"a","entity_type":"t","entity_id":"i","after":{"aa":9007199254740991,"ab":-9007199254740991}}"#,
        #"{"action":"a","entity_type":"t","entity_id":"i","actor":{"id":"u","kind":"user","name":"N","role":"r","on_behalf_of":"o"}}"#,
    ]

    @Test(arguments: Self.events) func readsTheUsual(event: String) throws {
        let record = try Self.record(event)
        let fields = try RecordFields(scanning: record)
        let scan = try #require(Self.scan(record))
        #expect(scan.sequence == 2 && fields.sequence == SequenceNumber(2))
        #expect(scan.recordedAt == fields.recordedAt)
        #expect(Self.previous(scan, record) == Self.previous(fields))
        #expect(
            fields.previous?.bytes.withUnsafeBytes { digest in
                record[scan.previousPlace...].withUnsafeBytes { DigestText.isText($0, of: digest) }
            } == true
        )
        #expect(scan.isOurs)
        #expect(Self.scan(try Self.record(event, organization: "lab-b"))?.isOurs == false)
    }

    @Test(arguments: [#"{"f":0.5}"#, #"{"é":1}"#, #"{"a":"\n"}"#, #"{"a\"":1}"#]) func leavesTheUnusual(
        value: String
    ) throws {
        let record = try Self.record(#"{"action":"a","entity_type":"t","entity_id":"i","after":\#(value)}"#)
        #expect(Self.scan(record) == nil)
        #expect(throws: Never.self) { try RecordFields(scanning: record) }
    }

    @Test(arguments: UInt64(1)...12) func acceptsNothingThatTheStrictReaderRefuses(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let records = try Self.events.map { try Self.record($0) }
        let pieces = [
            ",", "\"", "{", "}", "[", "]", ":", "0", "-", ".", "e", "\\", "\u{0}", " ", "\"a\":1", "é", "null",
        ]
        var accepted = 0
        for _ in 0..<1500 {
            var record = records.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 1...2, using: &generator) {
                let place = Int.random(in: 0..<record.count, using: &generator)
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: record[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 1: record.remove(at: place)
                case 2:
                    record.insert(contentsOf: Array((pieces.randomElement(using: &generator) ?? "").utf8), at: place)
                case 3: record.removeSubrange(place..<min(place + 9, record.count))
                default: record[place] = UInt8.random(in: 0...255, using: &generator)
                }
            }
            let scans = QuoteFinder.allCases.filter(\.isAvailable).map { Self.scan(record, finder: $0) }
            #expect(Set(scans.map { $0?.sequence }).count == 1, "seed \(seed): \(text(record))")
            guard let scan = scans[0] else { continue }
            accepted += 1
            let fields = try #require(try? RecordFields(scanning: record), "seed \(seed): \(text(record))")
            #expect(scan.sequence == fields.sequence.rawValue, "seed \(seed): \(text(record))")
            #expect(scan.recordedAt == fields.recordedAt, "seed \(seed): \(text(record))")
            #expect(Self.previous(scan, record) == Self.previous(fields), "seed \(seed): \(text(record))")
        }
        #expect(accepted > 50, "seed \(seed)")
    }

    @Test(arguments: UInt64(1)...6) func allWaysFindTheSameQuotationMarks(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let common = bytes("\"\"\"abc{}:,")
        for _ in 0..<2000 {
            let isOdd = Int.random(in: 0..<3, using: &generator) == 0
            let text = (0..<Int.random(in: 0..<300, using: &generator)).map { _ in
                isOdd && Int.random(in: 0..<60, using: &generator) == 0
                    ? UInt8.random(in: 0...255, using: &generator)
                    : common.randomElement(using: &generator) ?? 0
            }
            for finder in QuoteFinder.allCases where finder.isAvailable {
                let found = Self.quotes(text, finder)
                #expect(found.places == text.indices.filter { text[$0] == JSONText.quote }, "seed \(seed)")
                #expect(found.isSpecial == text.contains { $0 < 0x20 || $0 == UInt8(ascii: "\\") }, "seed \(seed)")
                #expect(found.isWide == text.contains { $0 >= 0x80 }, "seed \(seed)")
            }
        }
    }

    private static func quotes(
        _ text: [UInt8],
        _ finder: QuoteFinder
    ) -> (places: [Int], isSpecial: Bool, isWide: Bool) {
        var places = [UInt16](repeating: 7, count: text.count + Int(FT_QUOTES_SLACK))
        let found = text.withUnsafeBufferPointer { text in
            places.withUnsafeMutableBufferPointer { places in
                // A place even for no text.
                withUnsafePointer(to: UInt8(0)) { empty in
                    finder.find(text.baseAddress ?? empty, text.count, places.baseAddress!)
                }
            }
        }
        let flags = Int(found.flags)
        #expect(places[found.count..<found.count + 2].allSatisfy { $0 == FT_QUOTE_NONE })
        return (places[..<found.count].map { Int($0) }, flags & FT_TEXT_IS_SPECIAL != 0, flags & FT_TEXT_IS_WIDE != 0)
    }

    @Test func namesThatBeginAlikeAreInOrder() throws {
        let names = ["", "a", "a b", "a!", "ab", "abcdefg", "abcdefgh", "abcdefgh!", "abcdefghi", "abcdefgi", "b"]
        for (place, name) in names.enumerated() {
            for (otherPlace, other) in names.enumerated() {
                for end in ["1", "\"a longer text after the names\""] {
                    let value = "{\"\(name)\":\(end),\"\(other)\":\(end)}"
                    let record = text(try Self.record(Self.events[0]))
                    let changed = bytes(record.replacing(#"{"n":1}"#, with: value))
                    #expect((Self.scan(changed) != nil) == (place < otherPlace), "\(value)")
                    #expect(((try? RecordFields(scanning: changed)) != nil) == (place < otherPlace), "\(value)")
                }
            }
        }
    }

    @Test func refusesWhatNestsTooDeep() throws {
        func record(depth: Int) throws -> [UInt8] {
            let value = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            let text = text(try Self.record(Self.events[0]))
            return bytes(text.split(separator: #"{"n":1}"#, omittingEmptySubsequences: false).joined(separator: value))
        }
        #expect(Self.scan(try record(depth: 32)) != nil)
        #expect(throws: Never.self) { try RecordFields(scanning: try record(depth: 32)) }
        #expect(Self.scan(try record(depth: 33)) == nil)
        #expect(throws: LedgerError.self) { try RecordFields(scanning: try record(depth: 33)) }
    }
}
