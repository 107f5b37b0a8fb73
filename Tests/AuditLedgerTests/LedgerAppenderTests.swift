import AuditLedger
import Primitives
import Storage
import Testing

/// Appends, heads and reads.
struct LedgerAppenderTests {
    @Test func chainsRecords() throws {
        let fixture = try LedgerFixture(records: 20)
        var previous = Digest.zero
        for (offset, stored) in try fixture.reader().records(from: SequenceNumber(1), limit: 100).enumerated() {
            let record = try LedgerRecord(stored.bytes)
            #expect(record.sequence == SequenceNumber(UInt64(offset + 1)))
            #expect(stored.sequence == record.sequence)
            #expect(record.previous == previous)
            #expect(record.checksum == fixture.appended[offset].checksum)
            #expect(record.recordedAt == fixture.appended[offset].recordedAt)
            previous = record.checksum
        }
        let head = try fixture.reader().head()
        #expect(head.size == 20)
        #expect(head.lastChecksum == previous)
        #expect(head == fixture.appender.head)
        #expect(try LedgerHead.decode(head.encode()) == head)
    }

    @Test func aBareAppenderMakesNoLedger() throws {
        let store = InMemoryStore()
        var bare = LedgerAppender(head: LedgerHead(empty: LedgerFixture.organization), isBare: true)
        var batch = WriteBatch()
        for number in UInt64(0)..<5 {
            let draft = try LedgerFixture.draft(number)
            let record = bare.append(draft, stampedAt: Timestamp(microseconds: 5), into: &batch)
            #expect(record.sequence == SequenceNumber(number + 1))
        }
        bare.finish(into: &batch)
        try store.write(batch)
        let reader = LedgerReader(store: store, organization: LedgerFixture.organization)
        #expect(try reader.head().size == 0)
        #expect(try reader.record(at: SequenceNumber(5)) != nil)
        let verified = try LedgerVerifier.verify(
            store: store,
            organization: LedgerFixture.organization,
            key: LedgerFixture.key
        )
        #expect(!verified.isSound)
    }

    @Test func neverLetsTimeGoBack() throws {
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(1)))
        var batch = WriteBatch()
        let draft = try LedgerFixture.draft(1)
        let times = [5, 3, 9, 1].map { appender.append(draft, stampedAt: Timestamp(microseconds: $0), into: &batch) }
        #expect(times.map(\.recordedAt.rawValue) == [5, 5, 9, 9])
    }

    @Test func givesTheSameBytesHoweverItIsBatched() throws {
        var one = try LedgerFixture(records: 0)
        for _ in 0..<40 { try one.append(1, seed: 9) }
        var draftsSeen: [[UInt8]] = []
        try one.store.scan(.treeNodes, prefix: []) { key, value in
            draftsSeen.append(key + value)
            return true
        }
        var many = try LedgerFixture(records: 0)
        for _ in 0..<40 { try many.append(1, seed: 9) }
        let head = try many.reader().head()
        #expect(head == one.appender.head)
        // A node that restarted between two batches goes on from the stored head.
        var batch = WriteBatch()
        var continued = LedgerAppender(head: head)
        let draft = try LedgerFixture.draft(77)
        let next = continued.append(draft, stampedAt: Timestamp(microseconds: 0), into: &batch)
        var other = WriteBatch()
        var unbroken = one.appender
        #expect(unbroken.append(draft, stampedAt: Timestamp(microseconds: 0), into: &other) == next)
        #expect(batch.sizeBytes == other.sizeBytes)
    }

    @Test func writesTheHeadOncePerBatchAndOnlyWhenChanged() throws {
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(1)))
        var batch = WriteBatch()
        appender.finish(into: &batch)
        #expect(batch.isEmpty)
        for _ in 0..<4 {
            _ = appender.append(try LedgerFixture.draft(1), stampedAt: Timestamp(microseconds: 1), into: &batch)
        }
        appender.finish(into: &batch)
        appender.finish(into: &batch)
        // Four records, seven nodes, one head.
        #expect(batch.operations.count == 12)
    }

    @Test func refusesADamagedHead() throws {
        let head = try LedgerFixture(records: 5).appender.head
        let good = head.encode()
        for length in 0..<good.count {
            #expect(throws: MalformedBytes.self) { try LedgerHead.decode(Array(good[..<length])) }
        }
        #expect(throws: MalformedBytes.self) { try LedgerHead.decode(good + [0]) }
        #expect(throws: MalformedBytes.self) { try LedgerHead.decode([9] + good.dropFirst()) }
        let fixture = try LedgerFixture(records: 2)
        try fixture.change {
            $0.put(.ledgerHeads, key: fixture.headKey, value: LedgerHead(empty: OrganizationID(9)).encode())
        }
        #expect(#expect(throws: LedgerError.self) { try fixture.reader().head() }?.code == .damaged)
    }

    @Test func readsRecordsInPiecesAndNoticesAGap() throws {
        let fixture = try LedgerFixture(records: 10)
        let reader = try fixture.reader()
        #expect(try reader.records(from: SequenceNumber(4), limit: 3).map(\.sequence.rawValue) == [4, 5, 6])
        #expect(try reader.records(from: SequenceNumber(9), limit: 30).map(\.sequence.rawValue) == [9, 10])
        #expect(try reader.records(from: SequenceNumber(11), limit: 30).isEmpty)
        #expect(try reader.records(from: SequenceNumber(1), limit: 30, bytesMax: 1).count == 1)
        #expect(try reader.record(at: SequenceNumber(3)) == fixture.appended[2].bytes)
        #expect(try reader.record(at: SequenceNumber(11)) == nil)
        try fixture.change { $0.delete(.records, key: fixture.recordKey(5)) }
        #expect(throws: LedgerError.self) { try fixture.reader().records(from: SequenceNumber(1), limit: 30) }
    }

    @Test func readsFieldsWithoutATree() throws {
        let fixture = try LedgerFixture(records: 2)
        let fields = try RecordFields(scanning: fixture.appended[1].bytes)
        let record = try LedgerRecord(fixture.appended[1].bytes)
        #expect(fields.sequence == SequenceNumber(2))
        #expect(fields.text(.action) == "update")
        #expect(fields.text(.reason) == "né\n")
        #expect(fields.textBytes(.reason) == bytes("né\n"))
        #expect(fields.json(.reason).map(text) == #""né\n""#)
        #expect(fields.json(.before).map(text) == "null")
        #expect(fields.text(.before) == nil)
        #expect(fields.text(.actorName) == nil)
        #expect(fields.text(.requestIP) == "::1")
        #expect(fields.previous == fixture.appended[0].checksum)
        #expect(fields.recordedAt == record.recordedAt)
    }

    @Test func refusesBytesThatAreNoRecord() throws {
        let good = text(try LedgerFixture(records: 1).appended[0].bytes)
        #expect(throws: Never.self) { try LedgerRecord(bytes(good)) }
        let damages = [
            (#""severity":"info""#, #""severity":"loud""#), (#""sequence":1,"#, #""sequence":0,"#),
            (#""sequence":1,"#, #""sequence":"1","#), (#""sequence":1,"#, #""sequence":-1,"#), (#""sequence":1,"#, ""),
            (#""action":"update","#, ""), (#""before":null"#, #""before": null"#), (#""outcome":"#, #""outcomf":"#),
            (#""before":null"#, #""before":null,"beyond":null"#), (#""kind":"api_key""#, #""kind":"robot""#),
            (#""severity":"info"}"#, #""severity":"info"} "#), (#"Z","request"#, #"+00:00","request"#),
            (#""organization":"lab-a""#, #""organization":"LAB""#), (#""previous":"0"#, #""previous":"g"#),
            (#""channel":"api""#, #""channel":"pigeon""#), (#""severity":"info"}"#, #""severity":"info","x":1}"#),
        ]
        for (part, damage) in damages {
            let places = good.ranges(of: part)
            #expect(places.count == 1, "\(part)")
            let damaged = good.replacing(part, with: damage)
            #expect(throws: LedgerError.self, "\(damage)") { try LedgerRecord(bytes(damaged)) }
        }
    }
}
