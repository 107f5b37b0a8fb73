import Primitives
import Storage
import Testing

@testable import AuditLedger

/// The quick reader accepts only what the strict one does, and reads the same.
struct RecordScanTests {
    static let organization = bytes("\"lab-a\"")

    static func scan(_ record: [UInt8]) -> RecordScan? {
        let text = record + [UInt8](repeating: 0, count: RecordScan.slackBytes)
        return text.withUnsafeBufferPointer {
            RecordScan(UnsafeBufferPointer(rebasing: $0[0..<record.count]), organization: Self.organization)
        }
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
        #expect(scan.previous == fields.previous)
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
            guard let scan = Self.scan(record) else { continue }
            accepted += 1
            let fields = try #require(try? RecordFields(scanning: record), "seed \(seed): \(text(record))")
            #expect(scan.sequence == fields.sequence.rawValue, "seed \(seed): \(text(record))")
            #expect(scan.recordedAt == fields.recordedAt, "seed \(seed): \(text(record))")
            #expect(scan.previous == fields.previous, "seed \(seed): \(text(record))")
        }
        #expect(accepted > 50, "seed \(seed)")
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
