internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Shards

/// Organizations, drafts and commands of the tests.
enum Fixture {
    static func key(_ organization: OrganizationID) throws -> OrganizationKey {
        try #require(OrganizationKey("lab-\(organization)"))
    }

    static func draft(_ number: Int, of organization: OrganizationID) throws -> EventDraft {
        let event =
            #"{"action":"weigh","entity_type":"sample","entity_id":"s-\#(number)","after":{"grams":\#(number)}}"#
        return try EventDraft.parse(Array(event.utf8), defaults: try self.context(organization))
    }

    static func context(_ organization: OrganizationID) throws -> EventContext {
        EventContext(
            organization: try self.key(organization),
            request: RequestInfo(id: "r-1"),
            defaultActor: Actor(kind: .apiKey, id: "t-1")
        )
    }

    /// An append of records `numbers`, under the client's key `key` when there is one.
    static func append(
        _ numbers: ClosedRange<Int>,
        to organization: OrganizationID,
        key: String? = nil
    ) throws -> Command {
        let idempotency = key.map { Idempotency(key: $0, request: Array("\(numbers)".utf8)) }
        let drafts = try numbers.map { try self.draft($0, of: organization) }
        return .append(AppendCommand(organization: organization, idempotency: idempotency, drafts: drafts))
    }

    static func bytes(_ command: Command, at stamp: Int64) throws -> ArraySlice<UInt8> {
        var bytes = command.encoded()
        try Command.stamp(&bytes, at: Timestamp(microseconds: stamp))
        return bytes[...]
    }

    static func entry(_ index: UInt64, _ commands: [ArraySlice<UInt8>]) -> CommittedEntry {
        CommittedEntry(index: LogIndex(index), term: Term(1), commands: commands)
    }
}

/// One key and its value, as the tests compare them.
struct Row: Equatable {
    let family: ColumnFamily
    let key: [UInt8]
    let value: [UInt8]
}

/// Everything that a store holds, family by family in the order of its keys.
func contents(of store: any KeyValueReader) throws -> [Row] {
    var rows: [Row] = []
    for family in ColumnFamily.allCases {
        try store.scan(family, from: [], to: nil) { key, value in
            rows.append(Row(family: family, key: key, value: value))
            return true
        }
    }
    return rows
}

/// The state machine of one node over a store, with the lane that it is applied on.
final class Replica: Sendable {
    let store: any KeyValueStore
    let applier: ShardApplier
    /// What the applier has told of, in order.
    let news = News()
    private let lane: SerialThread

    final class News: Sendable {
        private let all = Mutex<[OrganizationID]>([])
        var list: [OrganizationID] { self.all.withLock { $0 } }
        func add(_ organization: OrganizationID) { self.all.withLock { $0.append(organization) } }
    }

    init(
        _ store: any KeyValueStore,
        lane: SerialThread,
        features: FeatureRange = .supported,
        faults: ApplierFaults = []
    ) throws {
        self.store = store
        self.lane = lane
        let news = self.news
        self.applier = try ShardApplier(
            store: store,
            lanes: [lane],
            events: ShardEvents(onAdvance: { organization, _ in news.add(organization) }),
            features: features,
            faults: faults
        )
    }

    /// Applies entries as one batch, on the lane.
    @discardableResult
    func apply(_ entries: [CommittedEntry], group: GroupID = GroupID(1)) async throws -> [CommandResult] {
        let applier = self.applier
        if entries.isEmpty { return [] }
        let work = [GroupEntries(group: group, entries: entries)]
        let answers = try await self.lane.run { try applier.apply(work) }
        return try answers.flatMap { try $0.map { try CommandResult.decode($0) } }
    }

    /// Applies one command in an entry of its own.
    func apply(
        _ index: UInt64,
        _ command: Command,
        at stamp: Int64,
        group: GroupID = GroupID(1)
    ) async throws -> CommandResult {
        let results = try await self.apply(
            [Fixture.entry(index, [try Fixture.bytes(command, at: stamp)])],
            group: group
        )
        return try #require(results.first)
    }

    func verify(_ organization: OrganizationID) throws -> ReplicaVerification {
        try LedgerVerifier.verify(
            store: try self.store.snapshot(),
            organization: organization,
            key: try Fixture.key(organization)
        )
    }
}

/// Runs `body` with a lane that ends afterwards.
func withLane<Value>(_ body: (SerialThread) async throws -> Value) async throws -> Value {
    let lane = try SerialThread(name: "test-lane")
    defer { lane.shutdown() }
    return try await body(lane)
}

extension CommandResult {
    /// The receipt of an append that was not refused.
    var receipt: AppendReceipt? {
        if case .appended(let receipt) = self { return receipt }
        return nil
    }
}
