internal import Consensus
internal import Primitives
internal import Shards

/// What all nodes said of themselves at one moment; nodes that did not answer are absent.
struct ClusterSight: Sendable {
    private(set) var statuses: [NodeID: WireStatusResponse] = [:]
    /// How the clocks of others differ from that of the node that looked.
    private(set) var clocks: [NodeID: ClockSample] = [:]
    /// The same without what the cluster's manager does not need.
    private(set) var survey = ClusterSurvey()

    init() {}

    mutating func take(_ status: WireStatusResponse, of node: NodeID, clock: ClockSample?) {
        self.statuses[node] = status
        if let clock { self.clocks[node] = clock }
        self.survey.take(NodeReport(status), of: node)
    }

    var groups: [GroupID: ClusterSurvey.Group] { self.survey.groups }

    func isLive(_ node: NodeID) -> Bool { self.survey.isLive(node) }

    func leader(of group: GroupID) -> NodeID? { self.survey.leader(of: group) }
}

extension NodeReport {
    /// What a peer says; groups whose membership cannot be read are led by nobody.
    init(_ status: WireStatusResponse) {
        var features: FeatureRange?
        if status.featureMin >= 1, status.featureMin <= status.featureMax {
            features = FeatureRange(
                min: FeatureLevel(rawValue: status.featureMin),
                max: FeatureLevel(rawValue: status.featureMax)
            )
        }
        self.init(features: features, led: [], replicas: [:])
        for group in status.groups {
            self.replicas[GroupID(group.group)] = Replica(
                applied: LogIndex(group.applied),
                isInstalling: group.installing
            )
            if group.role == RaftRole.leader.rawValue, let led = GroupStatus(ledGroup: group) { self.led.append(led) }
        }
    }
}

extension GroupStatus {
    /// What the leader of a group says of it; nil when the membership cannot be read.
    fileprivate init?(ledGroup wire: WireGroupStatus) {
        guard let membership = try? Membership(bytes: [UInt8](wire.membership)) else { return nil }
        self.init(
            group: GroupID(wire.group),
            role: .leader,
            leader: wire.leader == 0 ? nil : NodeID(wire.leader),
            term: Term(wire.term),
            commit: LogIndex(wire.commit),
            applied: LogIndex(wire.applied),
            first: LogIndex(wire.first),
            last: LogIndex(wire.last),
            membership: membership,
            isAsleep: wire.asleep,
            isInstalling: wire.installing,
            replicas: wire.replicas.map { replica in
                Replica(
                    node: NodeID(replica.node),
                    match: LogIndex(replica.match),
                    isRecentlyActive: replica.active,
                    lag: replica.lag,
                    isLearner: replica.learner,
                    snapshot: replica.snapshot == 0 ? nil : LogIndex(replica.snapshot)
                )
            }
        )
    }
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
