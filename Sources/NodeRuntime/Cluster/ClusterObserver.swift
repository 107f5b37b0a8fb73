internal import Consensus
internal import Primitives
internal import Shards

/// What all nodes said of themselves at one moment; nodes that did not answer are absent.
struct ClusterSight: Sendable {
    /// One group as its leader sees it.
    struct Group: Sendable {
        let leader: NodeID
        let status: WireGroupStatus
        /// As the leader has applied it.
        let membership: Membership
    }

    private(set) var statuses: [NodeID: WireStatusResponse] = [:]
    /// How the clocks of others differ from that of the node that looked.
    private(set) var clocks: [NodeID: ClockSample] = [:]
    /// Groups that have a leader; of several that say so, the one of the highest term.
    private(set) var groups: [GroupID: Group] = [:]

    init() {}

    mutating func take(_ status: WireStatusResponse, of node: NodeID, clock: ClockSample?) {
        self.statuses[node] = status
        if let clock { self.clocks[node] = clock }
        for group in status.groups where group.role == RaftRole.leader.rawValue {
            let id = GroupID(group.group)
            if let known = self.groups[id], known.status.term >= group.term { continue }
            guard let membership = try? Membership(bytes: [UInt8](group.membership)) else { continue }
            self.groups[id] = Group(leader: node, status: group, membership: membership)
        }
    }

    func isLive(_ node: NodeID) -> Bool { self.statuses[node] != nil }

    func leader(of group: GroupID) -> NodeID? { self.groups[group]?.leader }
}

/// Asks every node how it is.
struct ClusterObserver: Sendable {
    let node: NodeID
    let host: RaftHost
    let links: PeerLinks
    let status: NodeStatus
    let timeout: Duration

    /// Asks all nodes that are not removed, at once; takes no longer than the time-out.
    func look(at state: SystemState) async -> ClusterSight {
        let known = state.nodes.filter { $0.state != .removed }.map(\.id)
        return await self.look(at: known.isEmpty ? self.links.peers : known)
    }

    private func look(at nodes: [NodeID]) async -> ClusterSight {
        var sight = ClusterSight()
        sight.take(self.status.wire(self.host.status()), of: self.node, clock: nil)
        await withTaskGroup(of: (NodeID, (status: WireStatusResponse, clock: ClockSample?)?).self) { group in
            for node in nodes where node != self.node {
                group.addTask { (node, try? await self.links.probe(node, timeout: self.timeout)) }
            }
            for await case (let node, let answer?) in group { sight.take(answer.status, of: node, clock: answer.clock) }
        }
        return sight
    }
}
