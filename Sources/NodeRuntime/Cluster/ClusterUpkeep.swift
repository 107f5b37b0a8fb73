internal import Consensus
internal import Primitives
internal import Shards

/// What follows from the system group's state and what all nodes say; pure.
enum ClusterUpkeep {
    /// Entries by which a replica that has caught up may be behind while writes go on.
    static let lagMax: UInt64 = 1000
    /// A learner has caught up when it lacks so many entries, and one of so many that it has: less than it can get while the
    /// change of voters goes on.
    static let lagLeast: UInt64 = 8
    static let lagShare: UInt64 = 8

    /// What the planner plans from.
    static func view(state: SystemState, sight: ClusterSight) -> PlannerView {
        var view = PlannerView(
            nodes: state.nodes.map { PlannerNode($0, isLive: sight.isLive($0.id)) },
            groups: state.placements.map { placement in
                let seen = sight.groups[placement.group]
                return PlannerGroup(
                    id: placement.group,
                    membership: seen?.membership ?? placement.membership,
                    leader: seen?.leader,
                    caughtUp: seen.map { Self.caughtUp(placement.group, $0, in: sight) } ?? [],
                    target: placement.target
                )
            },
            replicas: state.replicas
        )
        view.isRebalancing = state.isRebalancing
        return view
    }

    /// The replicas that have all but the newest of the leader's log.
    ///
    /// A voter counts as its leader sees it. A learner must also say itself that its state is there: a leader that has
    /// just begun to send knows of no snapshot yet, and a short log of large entries is no small lag.
    static func caughtUp(_ id: GroupID, _ group: ClusterSight.Group, in sight: ClusterSight) -> [NodeID] {
        let replicas = group.status.replicas.filter { replica in
            guard replica.active, replica.snapshot == 0, replica.lag <= Self.lagMax else { return false }
            guard group.membership.isLearner(NodeID(replica.node)) else { return true }
            return replica.match > 0 && replica.lag <= Self.lagLeast + replica.match / Self.lagShare
                && Self.isFilled(id, group, on: NodeID(replica.node), sight)
        }
        return Set(replicas.map { NodeID($0.node) } + [group.leader]).sorted()
    }

    /// Whether a node says that its replica has applied nearly all that is committed.
    private static func isFilled(
        _ id: GroupID,
        _ group: ClusterSight.Group,
        on node: NodeID,
        _ sight: ClusterSight
    ) -> Bool {
        guard let own = sight.statuses[node]?.groups.first(where: { $0.group == id.rawValue }) else { return false }
        let behind = group.status.commit - min(group.status.commit, own.applied)
        return !own.installing && own.applied > 0 && behind <= Self.lagLeast + own.applied / Self.lagShare
    }

    /// What the system group should be told: nodes that have shown themselves, what they can do, where groups are, and the level that all support.
    static func commands(state: SystemState, sight: ClusterSight) -> [Command] {
        self.nodeCommands(state, sight) + self.levelCommands(state, sight) + self.placementCommands(state, sight)
    }

    private static func nodeCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var commands: [Command] = []
        for entry in state.nodes where entry.state != .removed {
            guard let status = sight.statuses[entry.id] else { continue }
            if entry.state == .joining {
                commands.append(.setNodeState(SetNodeStateCommand(node: entry.id, state: .active)))
            }
            guard let features = self.features(status), features != entry.features else { continue }
            commands.append(
                .registerNode(
                    RegisterNodeCommand(
                        node: entry.id,
                        api: entry.api,
                        peer: entry.peer,
                        region: entry.region,
                        priority: entry.priority,
                        features: features
                    )
                )
            )
        }
        return commands
    }

    private static func features(_ status: WireStatusResponse) -> FeatureRange? {
        guard status.featureMin >= 1, status.featureMin <= status.featureMax else { return nil }
        return FeatureRange(
            min: FeatureLevel(rawValue: status.featureMin),
            max: FeatureLevel(rawValue: status.featureMax)
        )
    }

    /// The level is raised when every node says so now; one that is down holds it back, as it may come back with an older program.
    private static func levelCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var common = FeatureLevel.current
        for entry in state.nodes where entry.state != .removed {
            guard let status = sight.statuses[entry.id], let features = self.features(status) else { return [] }
            common = min(common, features.max, entry.features.max)
        }
        return !state.nodes.isEmpty && common > state.featureLevel ? [.raiseFeatureLevel(common)] : []
    }

    private static func placementCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var commands: [Command] = []
        for placement in state.placements {
            guard let seen = sight.groups[placement.group], seen.membership != placement.membership,
                seen.status.applied > placement.index.rawValue
            else { continue }
            commands.append(
                .confirmPlacement(
                    ConfirmPlacementCommand(
                        group: placement.group,
                        membership: seen.membership,
                        index: LogIndex(seen.status.applied)
                    )
                )
            )
        }
        return commands
    }
}

extension ClusterAction {
    /// What it is called in answers and logs.
    var name: String {
        switch self {
        case .addLearner: "add_learner"
        case .changeVoters: "change_voters"
        case .removeLearner: "remove_learner"
        case .transferLeader: "transfer_leader"
        case .setNodeState(_, let state): "set_\(state.name)"
        }
    }

    /// The node that it is about, when it is one.
    var node: NodeID? {
        switch self {
        case .addLearner(_, let node), .removeLearner(_, let node), .setNodeState(let node, _): node
        case .transferLeader(_, _, let to): to
        case .changeVoters(_, let add, let remove, _): add.first ?? remove.first
        }
    }
}
