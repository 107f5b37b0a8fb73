internal import Consensus
internal import Primitives
internal import Shards

/// What the nodes said of themselves when somebody asked; whoever did not answer is absent.
struct ClusterSight {
    /// One group as its leader sees it.
    struct Group {
        let leader: NodeID
        let term: Term
        let applied: LogIndex
        let membership: Membership
        /// The replicas that have all but the newest of the log; ascending.
        let caughtUp: [NodeID]
    }

    /// What one node says.
    struct Answer {
        let node: NodeID
        let features: FeatureRange
        let statuses: [GroupStatus]

        init(_ process: SimProcess) {
            self.node = process.node.id
            self.features = process.node.features
            self.statuses = process.loop.groups.compactMap { process.loop.replica(of: $0)?.status }
        }
    }

    private(set) var features: [NodeID: FeatureRange] = [:]
    private(set) var groups: [GroupID: Group] = [:]
    /// Entries by which a replica that has caught up may be behind.
    let lagMax: UInt64

    init(lagMax: UInt64) { self.lagMax = lagMax }

    mutating func take(_ answer: Answer) {
        self.features[answer.node] = answer.features
        for status in answer.statuses where status.role == .leader {
            if let known = self.groups[status.group], known.term >= status.term { continue }
            let caughtUp = status.replicas.filter { replica in
                replica.isRecentlyActive && replica.snapshot == nil && replica.lag <= self.lagMax
            }
            self.groups[status.group] = Group(
                leader: answer.node,
                term: status.term,
                applied: status.applied,
                membership: status.membership,
                caughtUp: Set(caughtUp.map(\.node) + [answer.node]).sorted()
            )
        }
    }

    func isLive(_ node: NodeID) -> Bool { self.features[node] != nil }

    /// What the planner plans from.
    func view(of state: SystemState) -> PlannerView {
        var view = PlannerView(
            nodes: state.nodes.map { PlannerNode($0, isLive: self.isLive($0.id)) },
            groups: state.placements.map { placement in
                let seen = self.groups[placement.group]
                return PlannerGroup(
                    id: placement.group,
                    membership: seen?.membership ?? placement.membership,
                    leader: seen?.leader,
                    caughtUp: seen?.caughtUp ?? [],
                    target: placement.target
                )
            },
            replicas: state.replicas
        )
        view.isRebalancing = state.isRebalancing
        return view
    }

    /// What the system group should be told: nodes that have shown themselves, and where groups are.
    func upkeep(of state: SystemState) -> [Command] {
        var commands: [Command] = []
        for entry in state.nodes where entry.state == .joining && self.isLive(entry.id) {
            commands.append(.setNodeState(SetNodeStateCommand(node: entry.id, state: .active)))
        }
        for placement in state.placements {
            guard let seen = self.groups[placement.group], seen.membership != placement.membership,
                seen.applied > placement.index
            else { continue }
            let confirm = ConfirmPlacementCommand(
                group: placement.group,
                membership: seen.membership,
                index: seen.applied
            )
            commands.append(.confirmPlacement(confirm))
        }
        return commands
    }
}
