internal import Consensus
internal import Primitives
internal import Shards

/// What every plan keeps to, and what is true when nothing is left to be planned; judged without the planner.
enum PlannerRules {
    /// - Returns: What is wrong with a plan, or nil.
    static func problem(of actions: [ClusterAction], in view: PlannerView) -> String? {
        var seen: Set<GroupID> = []
        for action in actions {
            if let group = action.group, !seen.insert(group).inserted { return "two steps for group \(group)" }
            if let problem = self.problem(of: action, in: view) { return "\(action): \(problem)" }
        }
        return nil
    }

    private static func problem(of action: ClusterAction, in view: PlannerView) -> String? {
        guard let id = action.group else { return nil }
        guard let group = view.groups.first(where: { $0.id == id }) else { return "there is no such group" }
        let membership = group.membership
        let live = Set(view.nodes.filter(\.isLive).map(\.id))
        func hasQuorum(_ voters: [NodeID]) -> Bool { voters.count { live.contains($0) } * 2 > voters.count }
        if group.leader == nil || membership.isJoint { return "the group is not at rest" }
        switch action {
        case .addLearner(_, let node):
            if membership.contains(node) { return "node \(node) has a replica" }
        case .removeLearner(_, let node):
            if membership.isVoter(node) { return "node \(node) votes" }
        case .transferLeader(_, _, let target):
            if !membership.isVoter(target) { return "node \(target) does not vote" }
            if !live.contains(target) { return "node \(target) is not known to live" }
        case .changeVoters(_, let add, let remove, let demote):
            let gone = Set(remove + demote)
            let after = Set(membership.voters.filter { !gone.contains($0) } + add)
            if after.count % 2 == 0 { return "\(after.count) voters" }
            if !hasQuorum(after.sorted()) { return "no quorum of the new voters is known to live" }
            if !hasQuorum(membership.voters) { return "no quorum of the old voters is known to live" }
            if let blank = add.first(where: { !group.caughtUp.contains($0) || !live.contains($0) }) {
                return "node \(blank) has not caught up"
            }
            // Who is cordoned should lead nothing.
            let active = Set(view.nodes.filter { $0.isLive && $0.state == .active }.map(\.id))
            let heirs = membership.voters.filter {
                after.contains($0) && active.contains($0) && group.caughtUp.contains($0)
            }
            if let leader = group.leader, gone.contains(leader), !heirs.isEmpty { return "the leader goes unasked" }
        case .setNodeState: break
        }
        return nil
    }

    /// What an operator would miss once nothing is left to be planned, or nil.
    ///
    /// - Parameter view: All nodes that are not lost have answered.
    static func wishProblem(_ state: SystemState, _ view: PlannerView) -> String? {
        if state.isRebalancing { return "still rebalancing" }
        for placement in state.placements {
            guard let group = view.groups.first(where: { $0.id == placement.group }) else { continue }
            if group.membership != placement.membership {
                return "group \(group.id) is said to be at \(placement.membership.voters)"
            }
            if let problem = self.placeProblem(group, placement, state, view) { return problem }
        }
        if let joining = state.nodes.first(where: { $0.state == .joining }) {
            return "node \(joining.id) is not let in"
        }
        let places = view.nodes.filter { $0.state == .active && $0.isLive }.map(\.id)
        for leaving in state.nodes where leaving.state == .leaving {
            // It stays where nobody may take its place: fewer copies would be worse.
            let isHeld = view.groups.contains { group in
                group.membership.isVoter(leaving.id) && places.allSatisfy { group.membership.isVoter($0) }
            }
            if !isHeld { return "node \(leaving.id) is not gone" }
        }
        return nil
    }

    private static func placeProblem(
        _ group: PlannerGroup,
        _ placement: PlacementEntry,
        _ state: SystemState,
        _ view: PlannerView
    ) -> String? {
        let voters = group.membership.voters
        func standing(_ node: NodeID) -> NodeState { state.node(node)?.state ?? .removed }
        let places = view.nodes.filter { $0.state == .active && $0.isLive }.map(\.id)
        if let removed = group.membership.replicas.first(where: { standing($0) == .removed }) {
            return "group \(group.id) has a replica on node \(removed), which was removed"
        }
        if group.id == .system {
            let members = state.nodes.filter { $0.state != .removed && $0.state != .leaving }.map(\.id)
            return members.first { !group.membership.contains($0) }.map { "node \($0) does not follow the directory" }
        }
        if !placement.target.isEmpty, placement.target.allSatisfy({ places.contains($0) }) {
            return voters == placement.target ? nil : "group \(group.id) is at \(voters), not at \(placement.target)"
        }
        guard placement.target.isEmpty, places.count >= view.replicas else { return nil }
        if voters.count != view.replicas { return "group \(group.id) has \(voters.count) voters" }
        return voters.first { standing($0) != .active && standing($0) != .cordoned }
            .map { "group \(group.id) is still on node \($0)" }
    }
}
