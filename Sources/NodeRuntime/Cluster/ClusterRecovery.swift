internal import Consensus
internal import Foundation
internal import Logging
package import Primitives
internal import RocksStorage
internal import Shards
internal import Storage

/// Makes a stopped node go on without the nodes that are lost, when so many are lost that groups have no majority.
///
/// This breaks what consensus promises: entries that only lost nodes held are gone although they may have been acknowledged. So it
/// is done by an operator only, on every survivor with the same list, and leaves a record in the cluster ledger. Each
/// group's membership becomes the survivors among its replicas; changes of membership still in the log are made empty, so that
/// none brings a lost node back; and the recovery epoch rises, so that nodes that were left out are refused for ever.
package struct ClusterRecovery: Sendable {
    /// What recovering means for one group of which this node has a replica.
    package struct Group: Sendable, Equatable {
        package let group: GroupID
        /// Voters before, both halves of a joint membership.
        package let voters: [NodeID]
        package let learners: [NodeID]
        /// Voters afterwards.
        package let survivors: [NodeID]
        package let first: LogIndex
        package let last: LogIndex
        /// What this node knows to be committed.
        package let commit: LogIndex
        package let applied: LogIndex
        /// Changes of membership that are still in the log.
        package let changes: [LogIndex]
        /// True when the survivors are a majority: then nothing is lost.
        package let hasMajority: Bool

        /// One line for the operator.
        package var verdict: String {
            if self.hasMajority { return "nothing is lost" }
            let uncommitted = self.last.rawValue - self.commit.rawValue
            let open =
                uncommitted > 0 ? "\(uncommitted) entries from \(self.commit.rawValue + 1) on may become final; " : ""
            return open + "acknowledged entries after \(self.last) that only lost nodes hold are lost"
        }
    }

    /// A whole plan.
    package struct Plan: Sendable, Equatable {
        package let cluster: String
        package let node: NodeID
        package let survivors: [NodeID]
        package let epoch: UInt64
        package let groups: [Group]
        /// Groups of which no survivor has a replica.
        package let lostGroups: [GroupID]
    }

    private let store: any KeyValueStore
    private let logs: any RaftLogStorage
    private let identity: NodeIdentity

    init(store: any KeyValueStore, logs: any RaftLogStorage, identity: NodeIdentity) {
        self.store = store
        self.logs = logs
        self.identity = identity
    }

    /// Opens the data directory of a stopped node, runs `body` and closes it. Blocks.
    /// - Throws: ``NodeError``.
    package static func withStoppedNode(
        _ configuration: NodeConfiguration,
        _ body: (ClusterRecovery) throws -> Void
    ) throws {
        let directory = configuration.dataDirectory
        guard FilePaths.exists(directory + "/" + Node.storeFolder) else {
            throw NodeError(.dataDirectory, "data directory \(directory) is empty: there is nothing to recover")
        }
        let store = try NodeGround.openRows(directory)
        do {
            let logs = try NodeGround.openLogs(directory)
            defer { try? logs.close() }
            guard let identity = try NodeIdentity.read(store, directory: directory), identity.origin != .joining else {
                throw NodeError(.dataDirectory, "data directory \(directory) is that of no member")
            }
            try identity.requireMatch(configuration, directory: directory)
            try body(ClusterRecovery(store: store, logs: logs, identity: identity))
        } catch {
            try? store.close()
            throw error
        }
        try store.flush()
        try store.close()
    }

    /// What recovering to `survivors` means; changes nothing.
    /// - Throws: ``NodeError`` `.configuration` when this node is not among them or was recovered with its note still unwritten.
    package func plan(survivors: [NodeID]) throws -> Plan {
        let survivors = Set(survivors).sorted()
        guard survivors.contains(self.identity.node) else {
            throw NodeError(.configuration, "node \(self.identity.node) is not among the survivors")
        }
        if try RecoveryNote.read(self.store) != nil {
            throw NodeError(
                .configuration,
                "this node is recovered already (epoch \(self.identity.recoveryEpoch)) and was not started since: start it"
            )
        }
        let state = try SystemState(reading: self.store)
        if let unknown = survivors.first(where: { state.node($0) == nil && !self.isFounder($0) }) {
            throw NodeError(.configuration, "node \(unknown) is no member of this cluster")
        }
        let groups = try self.logs.groups().map { try self.examine($0, survivors) }
        return Plan(
            cluster: self.identity.clusterID,
            node: self.identity.node,
            survivors: survivors,
            epoch: self.identity.recoveryEpoch + 1,
            groups: groups.compactMap { $0 },
            lostGroups: state.placements.filter { placement in
                !placement.membership.replicas.contains(where: survivors.contains)
            }.map(\.group)
        )
    }

    private func isFounder(_ node: NodeID) -> Bool {
        if case .founded(let nodes, _) = self.identity.origin { return nodes.contains(node) }
        return false
    }

    private func examine(_ group: GroupID, _ survivors: [NodeID]) throws -> Group? {
        let restored = try self.logs.load(group)
        let applied = try ShardApplier.appliedState(of: group, reading: self.store)
        guard let membership = applied.membership ?? self.identity.firstGroups[group] else { return nil }
        let voters = Set(membership.voters + membership.outgoing).sorted()
        let learners = membership.replicas.filter { !voters.contains($0) }
        var left = voters.filter(survivors.contains)
        if left.isEmpty { left = learners.filter(survivors.contains) }
        guard left.contains(self.identity.node) else { return nil }
        let halves = [membership.voters, membership.outgoing].filter { !$0.isEmpty }
        return Group(
            group: group,
            voters: voters,
            learners: learners,
            survivors: left,
            first: LogIndex(restored.terms.base.rawValue + 1),
            last: restored.terms.last,
            commit: max(restored.commit, applied.index),
            applied: applied.index,
            changes: try self.tail(of: group, restored, whole: false).map(\.index),
            hasMajority: halves.allSatisfy { half in half.count(where: survivors.contains) * 2 > half.count }
        )
    }

    /// The changes of membership in what is left of a group's log, or everything from the first of them on.
    private func tail(of group: GroupID, _ restored: RestoredLog, whole: Bool) throws -> [LogEntry] {
        let bytesMax = 16 << 20
        let reader = self.logs.reader(of: group)
        var found: [LogEntry] = []
        var next = LogIndex(restored.terms.base.rawValue + 1)
        while next <= restored.terms.last {
            let entries = try reader.entries(from: next, through: restored.terms.last, bytesMax: bytesMax)
            guard let last = entries.last else { break }
            for entry in entries where entry.kind == .membership || (whole && !found.isEmpty) { found.append(entry) }
            next = LogIndex(last.index.rawValue + 1)
        }
        return found
    }

    /// Makes the changes of membership empty: one atomic write of everything from the first of them on.
    private func emptyChanges(in group: GroupID) throws {
        let restored = try self.logs.load(group)
        let entries = try self.tail(of: group, restored, whole: true).map { entry in
            guard entry.kind == .membership else { return entry }
            return LogEntry(index: entry.index, term: entry.term, kind: .empty, payload: [])
        }
        guard let first = entries.first else { return }
        try self.logs.write([
            LogWrite(
                group: group,
                hardState: restored.hardState,
                commit: restored.commit,
                truncateFrom: first.index,
                entries: entries,
                last: restored.terms.last,
                lastTerm: restored.terms.lastTerm
            )
        ])
    }

    /// Carries the plan out; may be repeated when it was cut short. Blocks.
    package func apply(_ plan: Plan) throws {
        for group in plan.groups where !group.changes.isEmpty { try self.emptyChanges(in: group.group) }
        var batch = WriteBatch()
        for group in plan.groups {
            ShardApplier.putMembership(Membership(voters: group.survivors), of: group.group, into: &batch)
        }
        self.identity.recovered().write(into: &batch)
        RecoveryNote.write(Self.note(plan), into: &batch)
        try self.store.write(batch)
        try self.store.sync()
    }

    /// What the cluster ledger will say; the first groups only, as a record has a limit.
    private static func note(_ plan: Plan) -> [UInt8] {
        let groupsMax = 64
        var json = JSONOutput()
        json.beginObject()
        json.member("epoch", plan.epoch)
        json.member("group_count", plan.groups.count)
        json.beginArray("groups")
        for group in plan.groups.prefix(groupsMax) {
            json.beginObject()
            json.member("applied", group.applied.rawValue)
            json.member("commit", group.commit.rawValue)
            json.member("group", group.group.rawValue)
            json.member("had_majority", group.hasMajority)
            json.member("last", group.last.rawValue)
            json.member("survivors", group.survivors.map(\.description).joined(separator: ","))
            json.member("voters", group.voters.map(\.description).joined(separator: ","))
            json.endObject()
        }
        json.endArray()
        json.member("lost_groups", plan.lostGroups.count)
        json.member("survivors", plan.survivors.map(\.description).joined(separator: ","))
        json.endObject()
        return json.bytes
    }
}
