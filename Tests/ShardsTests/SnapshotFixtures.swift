internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

/// A replica's state machine on the thread of the test.
struct Machine {
    let store: any KeyValueStore
    let applier: ShardApplier
    var next = LogIndex(1)
    let group: GroupID

    init(
        _ store: any KeyValueStore = InMemoryStore(),
        group: GroupID = GroupID(1),
        features: FeatureRange = .supported,
        faults: ApplierFaults = []
    ) throws {
        self.store = store
        self.group = group
        self.applier = try ShardApplier(store: store, lanes: [InlineLane()], features: features, faults: faults)
        self.next = try self.applier.appliedState(of: group).index.next
    }

    /// Applies commands, each in an entry and a batch of its own.
    @discardableResult
    mutating func apply(_ commands: [Command], origin: CommandOrigin? = nil) throws -> [CommandResult] {
        var results: [CommandResult] = []
        for command in commands {
            var bytes = command.encoded(origin: origin)
            try Command.stamp(&bytes, at: Timestamp(microseconds: Int64(self.next.rawValue) * 1_000))
            results += try self.apply(entry: Fixture.entry(self.next.rawValue, [bytes[...]]))
        }
        return results
    }

    mutating func apply(entry: CommittedEntry) throws -> [CommandResult] {
        self.next = max(self.next, entry.index.next)
        let answers = try self.applier.apply([GroupEntries(group: self.group, entries: [entry])])
        return try answers.flatMap { try $0.map { try CommandResult.decode($0) } }
    }

    /// Gives the group a first membership, as an entry of the log.
    mutating func join(_ voters: [UInt64]) throws {
        let membership = Membership(voters: voters.map { NodeID($0) })
        _ = try self.apply(
            entry: CommittedEntry(index: self.next, term: Term(1), commands: [], membership: membership)
        )
    }

    func verify(_ organization: OrganizationID) throws -> ReplicaVerification {
        try LedgerVerifier.verify(
            store: try self.store.snapshot(),
            organization: organization,
            key: try Fixture.key(organization)
        )
    }

    /// All chunks of a snapshot for a replica that asks with `request`.
    func chunks(for request: SnapshotRequest) throws -> [[UInt8]] {
        let source = try self.applier.snapshotSource(of: self.group, for: request)
        var chunks: [[UInt8]] = []
        var cursor: SnapshotCursor? = .start
        while let at = cursor {
            let (bytes, next) = try source.chunk(at: at)
            chunks.append(bytes)
            cursor = next
        }
        return chunks
    }

    /// Takes a whole snapshot of `source`.
    @discardableResult
    mutating func install(from source: Machine) throws -> SnapshotMark {
        let installer = try self.applier.snapshotInstaller(of: self.group)
        for chunk in try source.chunks(for: installer.request) { try installer.accept(chunk) }
        let mark = try installer.seal()
        try installer.switchState()
        self.next = mark.index.next
        return mark
    }

    /// What both replicas of a group must have in common: everything but what is a replica's own. Tree nodes one by
    /// one, as rows of them are cut by commands on one replica and by chunks on another.
    func shared() throws -> [Row] {
        try contents(of: self.store).flatMap { row -> [Row] in
            if row.family == .groupState { return GroupStateKey.isShared(row.key) ? [row] : [] }
            guard row.family == .treeNodes else { return [row] }
            let first = row.key[5...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            return (0..<row.value.count / Digest.byteCount).map { place in
                let position = TreePosition(level: row.key[4], index: first + UInt64(place))
                let organization = row.key[..<4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                return Row(
                    family: .treeNodes,
                    key: LedgerKeys.node(OrganizationID(organization), position),
                    value: Array(row.value[(place * Digest.byteCount)..<((place + 1) * Digest.byteCount)])
                )
            }
        }
    }
}

extension SnapshotError.Code {
    /// The code of the error that `body` throws.
    static func thrown(by body: () throws -> Void) -> SnapshotError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? SnapshotError)?.code
        }
    }
}
