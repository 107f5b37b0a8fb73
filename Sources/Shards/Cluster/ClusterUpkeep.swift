internal import Consensus
package import Primitives

/// What follows from the system group's state and what all nodes say; pure.
package enum ClusterUpkeep {
    /// Entries by which a voter that has caught up may be behind while writes go on.
    package static let lagMax: UInt64 = 1000
    /// A learner has caught up when it lacks so many entries, and one of so many that it has: less than it can get while
    /// the change of voters goes on.
    package static let lagLeast: UInt64 = 8
    package static let lagShare: UInt64 = 8

    /// What the planner plans from.
    package static func view(state: SystemState, survey: ClusterSurvey) -> PlannerView {
        var view = PlannerView(
            nodes: state.nodes.map { PlannerNode($0, isLive: survey.isLive($0.id)) },
            groups: state.placements.map { placement in
                let seen = survey.groups[placement.group]
                return PlannerGroup(
                    id: placement.group,
                    membership: seen?.membership ?? placement.membership,
                    leader: seen?.leader,
                    caughtUp: seen.map { Self.caughtUp(placement.group, $0, in: survey) } ?? [],
                    target: placement.target
                )
            },
            replicas: state.replicas
        )
        view.isRebalancing = state.isRebalancing
        return view
    }

    /// The replicas that have all but the newest of the leader's log; ascending.
    ///
    /// A voter counts as its leader sees it. A learner must also say itself that its state is there: a leader that has
    /// just begun to send knows of no snapshot yet, and a short log of large entries is no small lag.
    package static func caughtUp(_ id: GroupID, _ group: ClusterSurvey.Group, in survey: ClusterSurvey) -> [NodeID] {
        let replicas = group.status.replicas.filter { replica in
            guard replica.isRecentlyActive, replica.snapshot == nil, replica.lag <= survey.lagMax else { return false }
            guard group.membership.isLearner(replica.node) else { return true }
            let held = replica.match.rawValue
            return held > 0 && replica.lag <= Self.lagLeast + held / Self.lagShare
                && Self.isFilled(id, group, on: replica.node, survey)
        }
        return Set(replicas.map(\.node) + [group.leader]).sorted()
    }

    /// Whether a node says that its replica has applied nearly all that is committed.
    private static func isFilled(
        _ id: GroupID,
        _ group: ClusterSurvey.Group,
        on node: NodeID,
        _ survey: ClusterSurvey
    ) -> Bool {
        guard let own = survey.reports[node]?.replicas[id] else { return false }
        let applied = own.applied.rawValue
        let commit = group.status.commit.rawValue
        return !own.isInstalling && applied > 0
            && commit - min(commit, applied) <= Self.lagLeast + applied / Self.lagShare
    }

    /// Whether something goes on whose end the manager waits for: a node that joins, a joint membership, a data group's
    /// learner, or a learner of the system group that lives and has not caught up.
    package static func isUnderWay(state: SystemState, survey: ClusterSurvey) -> Bool {
        if state.nodes.contains(where: { $0.state == .joining }) { return true }
        return survey.groups.contains { id, group in
            if group.membership.isJoint { return true }
            guard id == .system else { return !group.membership.learners.isEmpty }
            let caughtUp = self.caughtUp(id, group, in: survey)
            return group.membership.learners.contains { survey.isLive($0) && !caughtUp.contains($0) }
        }
    }

    /// What the system group should be told: nodes that have shown themselves, what they can do, the level that all
    /// support, and where groups are.
    package static func commands(state: SystemState, survey: ClusterSurvey) -> [Command] {
        self.nodeCommands(state, survey) + self.levelCommands(state, survey) + self.placementCommands(state, survey)
    }

    private static func nodeCommands(_ state: SystemState, _ survey: ClusterSurvey) -> [Command] {
        var commands: [Command] = []
        for entry in state.nodes where entry.state != .removed {
            guard let report = survey.reports[entry.id] else { continue }
            if entry.state == .joining {
                commands.append(.setNodeState(SetNodeStateCommand(node: entry.id, state: .active)))
            }
            guard let features = report.features, features != entry.features else { continue }
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

    /// The level is raised when every node says so now; one that is down holds it back, as it may come back with an older
    /// program.
    private static func levelCommands(_ state: SystemState, _ survey: ClusterSurvey) -> [Command] {
        var common = FeatureLevel.current
        for entry in state.nodes where entry.state != .removed {
            guard let features = survey.reports[entry.id]?.features else { return [] }
            common = min(common, features.max, entry.features.max)
        }
        return !state.nodes.isEmpty && common > state.featureLevel ? [.raiseFeatureLevel(common)] : []
    }

    private static func placementCommands(_ state: SystemState, _ survey: ClusterSurvey) -> [Command] {
        var commands: [Command] = []
        for placement in state.placements {
            guard let seen = survey.groups[placement.group], seen.membership != placement.membership,
                seen.status.applied > placement.index
            else { continue }
            commands.append(
                .confirmPlacement(
                    ConfirmPlacementCommand(
                        group: placement.group,
                        membership: seen.membership,
                        index: seen.status.applied
                    )
                )
            )
        }
        return commands
    }
}

/// What the leader of the system group has still to do; pure, and remembered while it leads.
package struct ClusterAgenda: Sendable {
    /// Commands of bookkeeping in one turn, and feature levels set in it.
    package static let bookkeepingMax = 32

    /// Data groups that were told a level.
    private var told: (level: FeatureLevel, groups: Set<GroupID>) = (.one, [])

    package init() {}

    /// The commands for the system group with which a turn begins; no plan is made before all are done.
    package func bookkeeping(state: SystemState, survey: ClusterSurvey) -> [Command] {
        Array(ClusterUpkeep.commands(state: state, survey: survey).prefix(Self.bookkeepingMax))
    }

    /// Data groups to which the cluster's level is to be told now, in their own logs; a level that a group has already
    /// changes nothing.
    package mutating func untold(state: SystemState) -> [GroupID] {
        guard state.featureLevel > .one else { return [] }
        if self.told.level != state.featureLevel { self.told = (state.featureLevel, []) }
        let left = state.placements.map(\.group).filter { $0 != .system && !self.told.groups.contains($0) }
        return Array(left.prefix(Self.bookkeepingMax))
    }

    /// `group` has the level.
    package mutating func didTell(_ group: GroupID, level: FeatureLevel) {
        if self.told.level == level { self.told.groups.insert(group) }
    }

    /// Whether what an operator asked to balance is done: the wish is then taken back.
    package static func isBalanced(_ state: SystemState, _ actions: [ClusterAction]) -> Bool {
        actions.isEmpty && state.isRebalancing
    }
}
