internal import Consensus
internal import Primitives

/// Decides the next steps that bring replicas and leaders where they are wanted.
///
/// Pure: the same view gives the same plan. Made to be called again and again: every plan looks at what is, not at
/// earlier plans. What it keeps: a group's voters are never an even number; voters change only in one joint change,
/// when all who come have caught up and a majority of the new voters lives; a leader that goes hands over first; a
/// group without a leader, or with a change under way, is left alone.
package struct ClusterPlanner {
    private let view: PlannerView
    private let nodes: [NodeID: PlannerNode]
    private var actions: [ClusterAction] = []
    /// Voters of data groups a node has, or will have.
    private var replicaCounts: [NodeID: Int] = [:]
    private var leaderCounts: [NodeID: Int] = [:]
    private var moves = 0
    /// Learners of data groups that each node has, or is given by this plan.
    private var incoming: [NodeID: Int] = [:]

    /// The next steps, at most ``PlannerView/Limits/actionsMax``, at most one for a group; none when all is as wanted
    /// or nothing can be done.
    /// - Throws: ``PlannerError`` when what is wanted cannot be.
    package static func plan(_ view: PlannerView) throws(PlannerError) -> [ClusterAction] {
        var planner = try ClusterPlanner(view)
        planner.run()
        return Array(planner.actions.prefix(view.limits.actionsMax))
    }

    private init(_ view: PlannerView) throws(PlannerError) {
        var nodes: [NodeID: PlannerNode] = [:]
        for node in view.nodes {
            guard nodes.updateValue(node, forKey: node.id) == nil else { throw .duplicateNode(node.id) }
        }
        for count in [view.replicas, view.systemVoters] where !SystemState.replicaCounts.contains(count) {
            throw .replicaCount(count)
        }
        for group in view.groups {
            guard group.target.isEmpty || SystemState.replicaCounts.contains(group.target.count) else {
                throw .targetCount(group.id, group.target.count)
            }
            for id in group.target + group.membership.replicas where nodes[id] == nil {
                throw .unknownNode(group.id, id)
            }
        }
        self.view = view
        self.nodes = nodes
        for group in view.groups {
            if group.id != .system {
                for voter in group.membership.voters { self.replicaCounts[voter, default: 0] += 1 }
            }
            if let leader = group.leader { self.leaderCounts[leader, default: 0] += 1 }
            guard group.id != .system else { continue }
            if group.isBusy || !group.membership.learners.isEmpty { self.moves += 1 }
            for learner in group.membership.learners { self.incoming[learner, default: 0] += 1 }
        }
    }

    private var ids: [NodeID] { self.view.nodes.map(\.id).sorted() }

    private mutating func run() {
        let groups = self.view.groups.sorted { $0.id < $1.id }
        for group in groups where !Self.isStuck(group) {
            // Leaders first: it costs nothing, and a leader that is to go holds a change up.
            if let action = self.leaveLeader(group) {
                self.actions.append(action)
            } else if let action = group.id == .system ? self.systemStep(group) : self.dataStep(group) {
                self.actions.append(action)
            }
        }
        self.balanceReplicas(groups)
        self.balanceLeaders(groups)
        self.settleNodes(groups)
    }

    private static func isStuck(_ group: PlannerGroup) -> Bool {
        group.leader == nil || group.isBusy || group.membership.isJoint
    }

    private func isPlanned(_ group: GroupID) -> Bool { self.actions.contains { $0.group == group } }

    private func node(_ id: NodeID) -> PlannerNode {
        self.nodes[id] ?? PlannerNode(id: id, state: .removed, isLive: false)
    }

    // MARK: Who should vote

    private func voters(of group: PlannerGroup) -> [NodeID] { group.membership.voters }

    /// The voters that a data group should have: 1, 3, 5 or 7, as many of those it has as may stay.
    private func wantedVoters(of group: PlannerGroup) -> [NodeID] {
        let count = group.target.isEmpty ? self.view.replicas : group.target.count
        let current = self.voters(of: group)
        var wanted: [NodeID]
        if group.target.isEmpty {
            wanted = current.filter { self.node($0).keeps }
        } else {
            wanted = group.target.filter { self.node($0).keeps && (current.contains($0) || self.node($0).takes) }
        }
        while wanted.count > count, let one = self.dispensable(wanted, group) { wanted.removeAll { $0 == one } }
        // Whoever replaces a node that leaves comes first, then who has begun to follow, then the best place.
        for id in current where !wanted.contains(id) && wanted.count < count {
            guard let replacement = self.node(id).replacement, !wanted.contains(replacement) else { continue }
            if self.node(replacement).takes {
                wanted.append(replacement)
            } else if self.node(replacement).state == .joining {
                wanted.append(id)
            }
        }
        while wanted.count < count, let best = self.bestPlace(besides: wanted, group) { wanted.append(best) }
        // Too few places: who should go must stay.
        for id in current where wanted.count < count && !wanted.contains(id) && self.node(id).state != .removed {
            wanted.append(id)
        }
        // What a recovery left may be an even number: better than fewer copies, until another place is there.
        if Set(wanted) == Set(current) { return wanted.sorted() }
        while wanted.count > 1, !SystemState.replicaCounts.contains(wanted.count) {
            // Who should go goes first; else who would be new.
            let one = wanted.last { !self.node($0).keeps } ?? wanted.last { !current.contains($0) }
            guard let one = one ?? self.dispensable(wanted, group) else { break }
            wanted.removeAll { $0 == one }
        }
        return wanted.sorted()
    }

    /// Whom a group with too many voters can best do without.
    private func dispensable(_ voters: [NodeID], _ group: PlannerGroup) -> NodeID? {
        func cost(_ id: NodeID) -> (Int, Int, Int, Int, Int, UInt64) {
            let node = self.node(id)
            let neighbours = voters.count { self.node($0).region == node.region }
            return (
                node.keeps ? 1 : 0, node.isLive ? 1 : 0, id == group.leader ? 1 : 0, -neighbours,
                -(self.replicaCounts[id] ?? 0), UInt64.max - id.rawValue
            )
        }
        return voters.min { cost($0) < cost($1) }
    }

    /// The node that should have the group's next replica: one that has it already, if there is one.
    private func bestPlace(besides voters: [NodeID], _ group: PlannerGroup) -> NodeID? {
        func cost(_ id: NodeID) -> (Int, Int, Int, UInt8, UInt64) {
            let region = self.node(id).region
            return (
                group.membership.isVoter(id) ? 0 : group.membership.isLearner(id) ? 1 : 2,
                voters.count { self.node($0).region == region },
                self.replicaCounts[id] ?? 0, self.node(id).priority, id.rawValue
            )
        }
        let places = self.ids.filter { id in
            !voters.contains(id) && (self.node(id).takes || self.node(id).keeps && group.membership.isVoter(id))
        }
        return places.min { cost($0) < cost($1) }
    }

    // MARK: Steps of one group

    private mutating func dataStep(_ group: PlannerGroup) -> ClusterAction? {
        let wanted = self.wantedVoters(of: group)
        let current = self.voters(of: group)
        if wanted != current {
            for id in wanted where !current.contains(id) { self.replicaCounts[id, default: 0] += 1 }
            for id in current where !wanted.contains(id) { self.replicaCounts[id, default: 0] -= 1 }
            return self.step(group, towards: wanted, demote: [])
        }
        if self.view.isRebalancing || self.isCoarse { return nil }
        return self.removeUnwantedLearner(group, wanted: wanted)
    }

    private mutating func step(_ group: PlannerGroup, towards wanted: [NodeID], demote: [NodeID]) -> ClusterAction? {
        let current = self.voters(of: group)
        let add = wanted.filter { !current.contains($0) }
        let leave = current.filter { !wanted.contains($0) && !demote.contains($0) }
        if let missing = add.first(where: { !group.membership.isLearner($0) }) {
            guard group.id == .system || self.admit(missing, to: group) else { return nil }
            return .addLearner(group.id, missing)
        }
        guard add.allSatisfy({ group.caughtUp.contains($0) && self.node($0).isLive }), self.lives(wanted, group),
            self.lives(current, group)
        else { return nil }
        if let leader = group.leader, leave.contains(leader) || demote.contains(leader),
            let heir = self.heir(of: group, among: current.filter { wanted.contains($0) && $0 != leader })
        {
            return .transferLeader(group.id, from: leader, to: heir)
        }
        return .changeVoters(group.id, add: add, remove: leave, demote: demote)
    }

    /// Counts a data group's new replica, if there may be one more now.
    private mutating func admit(_ node: NodeID, to group: PlannerGroup) -> Bool {
        let isNew = group.membership.learners.isEmpty
        guard !isNew || self.moves < self.view.limits.movesMax,
            self.incoming[node] ?? 0 < self.view.limits.movesPerNodeMax
        else { return false }
        if isNew { self.moves += 1 }
        self.incoming[node, default: 0] += 1
        return true
    }

    /// Whether a majority of `voters` lives and has caught up.
    private func lives(_ voters: [NodeID], _ group: PlannerGroup) -> Bool {
        let live = voters.count { self.node($0).isLive && (group.caughtUp.contains($0) || group.leader == $0) }
        return live > voters.count / 2
    }

    private func removeUnwantedLearner(_ group: PlannerGroup, wanted: [NodeID]) -> ClusterAction? {
        group.membership.learners.first { !wanted.contains($0) }.map { .removeLearner(group.id, $0) }
    }

    private mutating func systemStep(_ group: PlannerGroup) -> ClusterAction? {
        let current = self.voters(of: group)
        // A node that leaves needs the directory until its last data replica is gone.
        let holders = Set(self.view.groups.filter { $0.id != .system }.flatMap(\.membership.replicas))
        let needs = self.ids.filter { id in
            switch self.node(id).state {
            case .removed: false
            case .leaving: holders.contains(id)
            default: true
            }
        }
        let keep = current.filter { self.node($0).keeps }
        let places = keep + self.ids.filter { !keep.contains($0) && self.node($0).takes }
        let count = SystemState.replicaCounts.last { $0 <= min(self.view.systemVoters, places.count) } ?? 0
        // Every node follows the directory, also while none may get voters.
        let missing = needs.first { !group.membership.contains($0) && self.node($0).isLive }
        guard count > 0 else { return missing.map { .addLearner(group.id, $0) } }
        var wanted = keep
        while wanted.count > count, let one = self.dispensable(wanted, group) { wanted.removeAll { $0 == one } }
        while wanted.count < count, let best = self.bestPlace(besides: wanted, group) { wanted.append(best) }
        wanted.sort()
        if let missing { return .addLearner(group.id, missing) }
        if wanted != current {
            let demote = current.filter { !wanted.contains($0) && needs.contains($0) }
            return self.step(group, towards: wanted, demote: demote)
        }
        return group.membership.learners.first { !needs.contains($0) }.map { .removeLearner(group.id, $0) }
    }

    // MARK: Leaders

    /// Takes the lead from a node that should not have it.
    private func leaveLeader(_ group: PlannerGroup) -> ClusterAction? {
        guard let leader = group.leader, self.node(leader).state != .active,
            let heir = self.heir(of: group, among: self.voters(of: group).filter { $0 != leader })
        else { return nil }
        return .transferLeader(group.id, from: leader, to: heir)
    }

    /// Who should lead a group.
    private func heir(of group: PlannerGroup, among voters: [NodeID]) -> NodeID? {
        func cost(_ id: NodeID) -> (UInt8, Int, UInt64) {
            (self.node(id).priority, self.leaderCounts[id] ?? 0, id.rawValue)
        }
        return voters.filter { self.node($0).takes && group.caughtUp.contains($0) }.min { cost($0) < cost($1) }
    }

    /// Moves leaders to nodes of better priority, and from nodes that lead two groups more than another could; not to a
    /// node that is being filled, which has enough to do.
    private mutating func balanceLeaders(_ groups: [PlannerGroup]) {
        for case .transferLeader(_, let from, let to) in self.actions {
            self.leaderCounts[from, default: 0] -= 1
            self.leaderCounts[to, default: 0] += 1
        }
        for group in groups where !Self.isStuck(group) && !self.isPlanned(group.id) {
            let settled = self.voters(of: group).filter { $0 == group.leader || self.incoming[$0] ?? 0 == 0 }
            guard let leader = group.leader, let heir = self.heir(of: group, among: settled), heir != leader else {
                continue
            }
            let better = self.node(heir).priority < self.node(leader).priority
            let same = self.node(heir).priority == self.node(leader).priority
            guard better || same && (self.leaderCounts[leader] ?? 0) - (self.leaderCounts[heir] ?? 0) >= 2 else {
                continue
            }
            self.leaderCounts[leader, default: 0] -= 1
            self.leaderCounts[heir, default: 0] += 1
            self.actions.append(.transferLeader(group.id, from: leader, to: heir))
        }
    }

    // MARK: Balance of replicas

    /// Whether replicas lie so unevenly that they are moved without being asked.
    private var isCoarse: Bool {
        let counts = self.ids.filter { self.node($0).takes }.map { self.replicaCounts[$0] ?? 0 }
        guard let least = counts.min(), let most = counts.max() else { return false }
        return most - least >= Swift.max(3, most / 3)
    }

    /// Moves voters of data groups to other regions and to nodes with fewer.
    private mutating func balanceReplicas(_ groups: [PlannerGroup]) {
        guard self.view.isRebalancing || self.isCoarse else { return }
        // What is under way ends before something new begins.
        let free = groups.filter { $0.id != .system && $0.target.isEmpty && !Self.isStuck($0) }
        let order = free.filter { !$0.membership.learners.isEmpty } + free.filter(\.membership.learners.isEmpty)
        for group in order where !self.isPlanned(group.id) {
            guard self.wantedVoters(of: group) == self.voters(of: group) else { continue }
            if let (from, to) = self.bestMove(of: group) {
                let wanted = (self.voters(of: group).filter { $0 != from } + [to]).sorted()
                guard let action = self.step(group, towards: wanted, demote: []) else { continue }
                self.replicaCounts[from, default: 0] -= 1
                self.replicaCounts[to, default: 0] += 1
                self.actions.append(action)
            } else if let action = self.removeUnwantedLearner(group, wanted: self.voters(of: group)) {
                self.actions.append(action)
            }
        }
    }

    /// The move of one voter that helps most; nil when none helps.
    private func bestMove(of group: PlannerGroup) -> (from: NodeID, to: NodeID)? {
        let voters = self.voters(of: group)
        let regions = self.regions(voters)
        var best: (gain: (Int, Int, Int), from: NodeID, to: NodeID)?
        for to in self.ids where !voters.contains(to) && self.node(to).takes {
            // Who follows already goes on; its move was found to help when it began.
            let follows = group.membership.isLearner(to) ? 1 : 0
            for from in voters {
                let change = self.regions(voters.filter { $0 != from } + [to]) - regions
                let gap = (self.replicaCounts[from] ?? 0) - (self.replicaCounts[to] ?? 0)
                guard change > 0 && gap > -2 || change == 0 && gap >= 2 else { continue }
                let gain = (follows, change, gap)
                if best.map({ $0.gain < gain }) ?? true { best = (gain, from, to) }
            }
        }
        return best.map { ($0.from, $0.to) }
    }

    private func regions(_ voters: [NodeID]) -> Int { Set(voters.map { self.node($0).region }).count }

    // MARK: Nodes

    /// Lets nodes in that follow the directory, and out that hold nothing.
    private mutating func settleNodes(_ groups: [PlannerGroup]) {
        guard let system = groups.first(where: { $0.id == .system }) else { return }
        for id in self.ids {
            switch self.node(id).state {
            case .joining where self.node(id).isLive && system.caughtUp.contains(id):
                if system.membership.contains(id) { self.actions.append(.setNodeState(id, .active)) }
            case .leaving where !groups.contains(where: { $0.membership.contains(id) || $0.isBusy }):
                self.actions.append(.setNodeState(id, .removed))
            default: break
            }
        }
    }
}
