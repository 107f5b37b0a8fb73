internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards
internal import SwiftProtobuf

/// Asks every node how it is and puts the answers together with what the cluster knows.
struct ClusterReader: Sendable {
    /// Moves that a document lists; the others are counted.
    static let movesMax = 50

    let identity: NodeIdentity
    let directory: ShardDirectory
    let observer: ClusterObserver

    /// The document of `GET /v1/cluster`.
    func document() async -> JSONOutput {
        let state = self.directory.current
        return self.document(state, await self.observer.look(at: state))
    }

    func document(_ state: SystemState, _ sight: ClusterSight) -> JSONOutput {
        var json = JSONOutput(capacity: 16_384)
        json.beginObject()
        json.member("cluster_id", self.identity.clusterID)
        json.member("feature_level", state.featureLevel.rawValue)
        json.member("recovery_epoch", self.identity.recoveryEpoch)
        json.beginArray("nodes")
        for entry in state.nodes { self.write(entry, state, sight, to: &json) }
        json.endArray()
        json.beginArray("groups")
        for placement in state.placements { self.write(placement, sight, to: &json) }
        json.endArray()
        self.writeMoves(state, sight, to: &json)
        json.endObject()
        return json
    }

    private func write(
        _ entry: NodeEntry,
        _ state: SystemState,
        _ sight: ClusterSight,
        to json: inout JSONOutput
    ) {
        json.beginObject()
        json.member("id", entry.id.rawValue)
        json.member("address", entry.api)
        json.member("peer_address", entry.peer)
        json.member("region", entry.region)
        json.member("priority", entry.priority)
        json.member("membership", entry.state.name)
        json.member("feature_level", entry.features.max.rawValue)
        json.member("state", sight.isLive(entry.id) ? "up" : "down")
        if let status = sight.statuses[entry.id] {
            json.member("pid", status.processID)
            json.member("version", status.version)
            json.member("uptime_seconds", UInt64(max(0, status.uptimeSeconds)))
            let offset = entry.id == self.identity.node ? 0 : sight.clocks[entry.id]?.offsetMicroseconds
            if let offset { json.member("clock_offset_ms", thousandths: offset) }
            Self.write(status.audit, to: &json)
            self.write(status.damaged, to: &json)
            Self.write(status.workers, to: &json)
        }
        var replicas = 0
        var leaders = 0
        for placement in state.placements where placement.group != .system {
            let seen = sight.groups[placement.group]
            if (seen?.membership ?? placement.membership).replicas.contains(entry.id) { replicas += 1 }
            if seen?.leader == entry.id { leaders += 1 }
        }
        json.member("replicas", replicas)
        json.member("leaders", leaders)
        json.endObject()
    }

    /// A node's part in signing checkpoints.
    /// Organizations that a node does not serve because their history is damaged there.
    private func write(_ damaged: [WireDamageStatus], to json: inout JSONOutput) {
        json.beginArray("damaged")
        for damage in damaged {
            let organization = OrganizationID(damage.organization)
            json.beginObject()
            json.member("organization", self.directory.organization(organization)?.key.rawValue)
            json.member("kind", damage.kind)
            json.member("sequence", damage.sequence)
            json.member("place", damage.place)
            json.endObject()
        }
        json.endArray()
    }

    private static func write(_ workers: [WireWorkerStatus], to json: inout JSONOutput) {
        json.beginArray("workers")
        for worker in workers {
            json.beginObject()
            json.member("name", worker.name)
            json.member("pid", worker.processID > 0 ? worker.processID : nil)
            json.member("uptime_seconds", UInt64(max(0, worker.uptimeSeconds)))
            json.member("restarts", worker.restarts)
            json.member("memory_bytes", worker.residentBytes)
            json.member("open_stores", worker.openStores)
            json.member("last_end", worker.lastEnd.isEmpty ? nil : worker.lastEnd)
            json.endObject()
        }
        json.endArray()
    }

    private static func write(_ audit: WireAuditStatus, to json: inout JSONOutput) {
        json.beginObject("audit")
        json.member("signing", audit.signing)
        json.member("forks", audit.forks)
        json.member("contradictions", audit.contradictions)
        json.member("pending", audit.pending)
        json.member("erasures_pending", audit.erasuresPending)
        json.beginArray("witnesses")
        for witness in audit.witnesses {
            json.beginObject()
            json.member("name", witness.name)
            json.member("url", witness.url)
            json.member("state", witness.state)
            json.member("pending", witness.pending)
            json.endObject()
        }
        json.endArray()
        json.endObject()
    }

    private func write(_ placement: PlacementEntry, _ sight: ClusterSight, to json: inout JSONOutput) {
        let group = placement.group
        let seen = sight.groups[group]
        let membership = seen?.membership ?? placement.membership
        var statuses: [NodeID: WireGroupStatus] = [:]
        for (node, status) in sight.statuses {
            statuses[node] = status.groups.first { $0.group == group.rawValue }
        }
        let commit = statuses.values.map(\.commit).max() ?? 0
        json.beginObject()
        json.member("id", group.rawValue)
        json.member("leader", seen?.leader.rawValue)
        json.member("term", statuses.values.map(\.term).max() ?? 0)
        json.member("joint", membership.isJoint)
        json.member("asleep", seen?.status.isAsleep ?? false)
        json.beginArray("replicas")
        for node in membership.replicas {
            let status = statuses[node]
            json.beginObject()
            json.member("node", node.rawValue)
            json.member("part", Self.part(of: node, in: membership))
            json.member("role", status?.role)
            json.member("commit", status.map(\.commit))
            json.member("applied", status.map(\.applied))
            json.member("last", status.map(\.last))
            json.member("lag", status.map { commit - min(commit, $0.applied) })
            json.endObject()
        }
        json.endArray()
        json.endObject()
    }

    /// What a replica counts for.
    static func part(of node: NodeID, in membership: Membership) -> String {
        let isVoter = membership.voters.contains(node)
        let wasVoter = membership.outgoing.contains(node)
        if isVoter { return membership.isJoint && !wasVoter ? "incoming" : "voter" }
        return wasVoter ? "outgoing" : "learner"
    }

    /// What moves now, and what comes next.
    private func writeMoves(_ state: SystemState, _ sight: ClusterSight, to json: inout JSONOutput) {
        var count = 0
        func write(_ group: GroupID, _ action: String, _ node: NodeID?, _ stage: String) {
            count += 1
            guard count <= Self.movesMax else { return }
            json.beginObject()
            json.member("group", group.rawValue)
            json.member("action", action)
            json.member("node", node?.rawValue)
            json.member("state", stage)
            json.endObject()
        }
        json.beginArray("moves")
        for (group, seen) in sight.groups.sorted(by: { $0.key < $1.key }) where group != .system {
            if seen.membership.isJoint { write(group, "change_voters", seen.membership.voters.last, "running") }
            for learner in seen.membership.learners { write(group, "catch_up", learner, "running") }
        }
        let planned = (try? ClusterPlanner.plan(ClusterUpkeep.view(state: state, survey: sight.survey))) ?? []
        for action in planned { write(action.group ?? .system, action.name, action.node, "planned") }
        json.endArray()
        json.member("moves_left", max(0, count - Self.movesMax))
    }
}
