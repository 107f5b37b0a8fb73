import AuditLedger
import Primitives
import Storage
import Testing

/// A small ledger in memory, made the way a node makes it.
struct LedgerFixture {
    static let organization = OrganizationID(7)
    static let key = OrganizationKey("lab-a")!

    static let context = EventContext(
        organization: Self.key,
        request: RequestInfo(id: "r-1", channel: .api, ip: "::1", userAgent: "test/1", authentication: "bearer"),
        defaultActor: Actor(kind: .apiKey, id: "key-1")
    )

    let store = InMemoryStore()
    private(set) var appender = LedgerAppender(head: LedgerHead(empty: Self.organization))
    private(set) var appended: [AppendedRecord] = []

    init(records: Int, seed: UInt64 = 1) throws {
        // Neighbours on both sides: a scan that leaves the organization's range would meet them.
        for other in [OrganizationID(6), OrganizationID(8)] {
            var appender = LedgerAppender(head: LedgerHead(empty: other))
            var batch = WriteBatch()
            _ = appender.append(try Self.draft(0), stampedAt: Timestamp(microseconds: 5), into: &batch)
            appender.finish(into: &batch)
            try self.store.write(batch)
        }
        try self.append(records, seed: seed)
    }

    static func draft(_ number: UInt64) throws -> EventDraft {
        try EventDraft.parse(
            bytes(
                #"{"action":"update","entity_type":"batch","entity_id":"b-\#(number)","#
                    + #""after":{"n":\#(number)},"reason":"n\u00e9\n"}"#
            ),
            defaults: self.context
        )
    }

    mutating func append(_ count: Int, seed: UInt64 = 1) throws {
        var generator = SeededGenerator(seed: seed)
        var batch = WriteBatch()
        for _ in 0..<count {
            let size = self.appender.head.size
            let draft = try Self.draft(generator.next() >> 20)
            let time = Timestamp(microseconds: 1_700_000_000_000_000 + Int64(size) * 3)
            self.appended.append(self.appender.append(draft, stampedAt: time, into: &batch))
        }
        self.appender.finish(into: &batch)
        try self.store.write(batch)
    }

    mutating func append(draft: EventDraft) throws {
        var batch = WriteBatch()
        let time = Timestamp(microseconds: 1_700_000_000_000_000 + Int64(self.appender.head.size) * 3)
        self.appended.append(self.appender.append(draft, stampedAt: time, into: &batch))
        self.appender.finish(into: &batch)
        try self.store.write(batch)
    }

    func change(_ body: (inout WriteBatch) throws -> Void) throws {
        var batch = WriteBatch()
        try body(&batch)
        try self.store.write(batch)
    }

    func recordKey(_ sequence: UInt64) -> [UInt8] { LedgerKeys.record(Self.organization, SequenceNumber(sequence)) }
    func nodeKey(_ level: UInt8, _ index: UInt64) -> [UInt8] {
        LedgerKeys.node(Self.organization, TreePosition(level: level, index: index))
    }
    var headKey: [UInt8] { LedgerKeys.head(Self.organization) }

    func verify() throws -> ReplicaVerification {
        try LedgerVerifier.verify(store: self.store.snapshot(), organization: Self.organization, key: Self.key)
    }

    func reader() throws -> LedgerReader {
        LedgerReader(store: try self.store.snapshot(), organization: Self.organization)
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }
