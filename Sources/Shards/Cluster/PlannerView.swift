package import Consensus
package import Primitives

/// A node as the planner sees it.
package struct PlannerNode: Sendable, Hashable {
    package var id: NodeID
    package var region: String
    /// 0 is preferred for leaders, larger ones less.
    package var priority: UInt8
    package var state: NodeState
    /// While it leaves: the node that takes its replicas over.
    package var replacement: NodeID?
    /// Whether it was heard of recently.
    package var isLive: Bool

    package init(
        id: NodeID,
        region: String = "",
        priority: UInt8 = 0,
        state: NodeState = .active,
        replacement: NodeID? = nil,
        isLive: Bool = true
    ) {
        self.id = id
        self.region = region
        self.priority = priority
        self.state = state
        self.replacement = replacement
        self.isLive = isLive
    }

    package init(_ entry: NodeEntry, isLive: Bool) {
        self.init(
            id: entry.id,
            region: entry.region,
            priority: entry.priority,
            state: entry.state,
            replacement: entry.replacement,
            isLive: isLive
        )
    }

    /// Whether it may get new replicas and leaders.
    var takes: Bool { self.state == .active && self.isLive }
    /// Whether a replica that it has may stay.
    var keeps: Bool { self.state == .active || self.state == .cordoned }
}

/// A group as the planner sees it.
package struct PlannerGroup: Sendable, Hashable {
    package var id: GroupID
    package var membership: Membership
    /// Nil when it is not known: nothing is planned for such a group.
    package var leader: NodeID?
    /// The replicas, learners too, that have all but the newest of the leader's log; ascending.
    package var caughtUp: [NodeID]
    /// Whether a change or a transfer is under way.
    package var isBusy: Bool
    /// What an operator wants, ascending; empty: the planner chooses.
    package var target: [NodeID]

    package init(
        id: GroupID,
        membership: Membership,
        leader: NodeID?,
        caughtUp: [NodeID],
        isBusy: Bool = false,
        target: [NodeID] = []
    ) {
        self.id = id
        self.membership = membership
        self.leader = leader
        self.caughtUp = caughtUp
        self.isBusy = isBusy
        self.target = target
    }
}

/// Everything that a plan is made from.
package struct PlannerView: Sendable {
    /// How much a plan may do at once.
    package struct Limits: Sendable, Hashable {
        /// Actions of one plan.
        package var actionsMax = 32
        /// Data groups whose replicas are on the move at a time.
        package var movesMax = 32
        /// Replicas of data groups that one node is given at a time: more than it fetches at once, so that it never waits
        /// for the next plan, and few enough that what it has begun is soon done.
        package var movesPerNodeMax = 8

        package init() {}
    }

    /// All nodes, removed ones too.
    package var nodes: [PlannerNode]
    package var groups: [PlannerGroup]
    /// Voters of a data group without a target: 1, 3, 5 or 7.
    package var replicas: Int
    /// Voters of the system group: 1, 3, 5 or 7; all other nodes are its learners.
    package var systemVoters = 5
    /// Balance as well as can be; otherwise only coarse imbalance of replicas is mended.
    package var isRebalancing = false
    package var limits = Limits()

    package init(nodes: [PlannerNode], groups: [PlannerGroup], replicas: Int) {
        self.nodes = nodes
        self.groups = groups
        self.replicas = replicas
    }
}

/// One step towards what is wanted; the next plan is made when it is done or has failed.
package enum ClusterAction: Sendable, Hashable {
    /// Lets a node begin to follow a group.
    case addLearner(GroupID, NodeID)
    /// Changes voters in one joint change; who comes has caught up, who is demoted stays as a learner. All ascending.
    case changeVoters(GroupID, add: [NodeID], remove: [NodeID], demote: [NodeID])
    /// Lets a learner go.
    case removeLearner(GroupID, NodeID)
    case transferLeader(GroupID, from: NodeID, to: NodeID)
    case setNodeState(NodeID, NodeState)

    /// The group that it is about.
    package var group: GroupID? {
        switch self {
        case .addLearner(let group, _), .changeVoters(let group, _, _, _), .removeLearner(let group, _),
            .transferLeader(let group, _, _):
            group
        case .setNodeState: nil
        }
    }

    /// What to ask of the group's leader; nil when the action is no change of its membership.
    package var change: MembershipChange? {
        switch self {
        case .addLearner(_, let node): MembershipChange([.addLearner(node)])
        case .removeLearner(_, let node): MembershipChange([.remove(node)])
        case .changeVoters(_, let add, let remove, let demote):
            MembershipChange(
                add.map { .addVoter($0) } + remove.map { .remove($0) } + demote.map { .addLearner($0) }
            )
        case .transferLeader, .setNodeState: nil
        }
    }
}

/// Why nothing can be planned: what is wanted cannot be.
package enum PlannerError: Error, Sendable, Hashable, CustomStringConvertible {
    /// A group has 1, 3, 5 or 7 voters.
    case replicaCount(Int)
    /// A group's target has another count.
    case targetCount(GroupID, Int)
    /// A group's target or membership names a node that is not known.
    case unknownNode(GroupID, NodeID)
    case duplicateNode(NodeID)

    package var description: String {
        switch self {
        case .replicaCount(let count): "a group has 1, 3, 5 or 7 replicas, not \(count)"
        case .targetCount(let group, let count): "group \(group) is to have \(count) replicas; 1, 3, 5 or 7 can be"
        case .unknownNode(let group, let node): "group \(group) names node \(node), which is not known"
        case .duplicateNode(let node): "node \(node) is there twice"
        }
    }
}
