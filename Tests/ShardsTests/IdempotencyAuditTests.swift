import AuditLedger
import Consensus
import Laboratory
import Primitives
import Shards
import Storage
import Testing

/// Answers to idempotency keys are compared with their records.
struct IdempotencyAuditTests {
    /// A ledger of organization 7 with four answers: records 1–3, 4, 5–6 and one of an unfinished snapshot.
    struct Fixture {
        let store = InMemoryStore()
        var size: UInt64 = 0

        init() throws {
            var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(7)))
            var batch = WriteBatch()
            let context = EventContext(
                organization: OrganizationKey("lab-a")!,
                request: RequestInfo(id: "r", channel: .api),
                defaultActor: Actor(kind: .apiKey, id: "k")
            )
            let draft = try EventDraft.parse(
                Array(#"{"action":"update","entity_type":"batch","entity_id":"b"}"#.utf8),
                defaults: context
            )
            for (count, time) in [(3, Int64(100)), (1, 200), (2, 300)] {
                let first = appender.head.size + 1
                let drafts = Array(repeating: draft, count: count)
                _ = appender.append(drafts, stampedAt: Timestamp(microseconds: time), into: &batch)
                Self.put(Self.key(first), first: first, count: UInt32(count), time: time, into: &batch)
            }
            Self.put(Self.key(90), first: 90, count: 2, time: 900, into: &batch)
            appender.finish(into: &batch)
            try self.store.write(batch)
            self.size = appender.head.size
        }

        static func key(_ first: UInt64) -> [UInt8] {
            LedgerKeys.head(OrganizationID(7)) + sha256(Array("key-\(first)".utf8)).bytes
        }

        static func place(_ first: UInt64) -> String {
            "idempotency/" + sha256(Array("key-\(first)".utf8)).hex
        }

        static func put(_ key: [UInt8], first: UInt64, count: UInt32, time: Int64, into batch: inout WriteBatch) {
            var writer = ByteWriter(capacity: 52)
            writer.write(sha256(Array("request".utf8)))
            writer.write(first)
            writer.write(count)
            writer.write(time)
            batch.put(.idempotency, key: key, value: writer.bytes)
        }

        func audit() throws -> IdempotencyAudit.Outcome {
            try IdempotencyAudit.run(store: self.store.snapshot(), organization: OrganizationID(7), size: self.size)
        }

        func change(_ body: (inout WriteBatch) -> Void) throws {
            var batch = WriteBatch()
            body(&batch)
            try self.store.write(batch)
        }
    }

    @Test func passesWhatAppendingWrites() throws {
        let outcome = try Fixture().audit()
        #expect(outcome.finding == nil)
        #expect(outcome.rows == 4)
    }

    @Test func namesARowThatIsNotThatOfItsRecords() throws {
        func expect(_ first: UInt64, _ change: (inout WriteBatch) -> Void) throws {
            let fixture = try Fixture()
            try fixture.change(change)
            let finding = try fixture.audit().finding
            #expect(finding?.kind == .staleProjection)
            #expect(finding?.place == Fixture.place(first), "\(String(describing: finding))")
        }
        try expect(4) { Fixture.put(Fixture.key(4), first: 4, count: 1, time: 201, into: &$0) }
        try expect(4) { Fixture.put(Fixture.key(4), first: 5, count: 1, time: 200, into: &$0) }
        try expect(4) { Fixture.put(Fixture.key(4), first: 4, count: 2, time: 200, into: &$0) }
        try expect(4) { Fixture.put(Fixture.key(4), first: 4, count: 0, time: 200, into: &$0) }
        try expect(4) { Fixture.put(Fixture.key(4), first: 0, count: 1, time: 200, into: &$0) }
        try expect(5) { $0.put(.idempotency, key: Fixture.key(5), value: [1, 2]) }
        // Two keys for the same records.
        try expect(2) { Fixture.put(Fixture.key(2), first: 2, count: 1, time: 100, into: &$0) }
    }
}
