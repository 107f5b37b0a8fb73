internal import Consensus
internal import Primitives
internal import Testing

@testable internal import Shards

/// A cluster that does what plans say, one round of actions at a time.
private struct PlannedCluster {
    var view: PlannerView
    var index: UInt64 = 10

    /// What a plan breaks, checked before and while it is carried out.
    mutating func carryOut(_ actions: [ClusterAction]) throws {
        #expect(actions.count <= self.view.limits.actionsMax)
        let groups = actions.compactMap(\.group)
        #expect(Set(groups).count == groups.count, "one action a group")
        for action in actions {
            if case .setNodeState(let id, let state) = action {
                try self.set(id, state)
                continue
            }
            let place = try #require(self.view.groups.firstIndex { $0.id == action.group })
            var group = self.view.groups[place]
            try self.carryOut(action, &group)
            self.view.groups[place] = group
        }
        // Whoever follows catches up until the next round, if it lives.
        for place in self.view.groups.indices {
            let replicas = self.view.groups[place].membership.replicas
            self.view.groups[place].caughtUp = replicas.filter { self.isLive($0) }
        }
    }

    private mutating func set(_ id: NodeID, _ state: NodeState) throws {
        let place = try #require(self.view.nodes.firstIndex { $0.id == id })
        #expect(self.view.nodes[place].state.allows(state))
        if state == .removed {
            #expect(!self.view.groups.contains { $0.membership.contains(id) }, "a removed node holds nothing")
        }
        self.view.nodes[place].state = state
    }

    private mutating func carryOut(_ action: ClusterAction, _ group: inout PlannerGroup) throws {
        let leader = try #require(group.leader, "no action without a leader")
        #expect(!group.isBusy)
        if case .transferLeader(_, let from, let to) = action {
            #expect(from == leader && from != to)
            #expect(group.membership.isVoter(to) && group.caughtUp.contains(to) && self.isLive(to))
            #expect(self.state(to) == .active, "only nodes that take leaders get them")
            group.leader = to
            return
        }
        let change = try #require(action.change)
        self.index += 1
        var next = try group.membership.applying(change, at: LogIndex(self.index))
        if next.isJoint {
            #expect(self.hasQuorum(next.voters, group) && self.hasQuorum(next.outgoing, group), "both halves must live")
            self.index += 1
            if !next.autoLeave || next.isJoint {
                next = try next.applying(MembershipChange([]), at: LogIndex(self.index))
            }
        }
        #expect(next.voters.count % 2 == 1, "voters are an odd number: \(next.voters)")
        #expect(self.hasQuorum(next.voters, group), "a majority of the new voters must live")
        for added in next.replicas where !group.membership.contains(added) { #expect(self.isLive(added)) }
        group.membership = next
        if !next.isVoter(leader) { group.leader = next.voters.first { self.isLive($0) } }
    }

    func isLive(_ id: NodeID) -> Bool { self.view.nodes.first { $0.id == id }?.isLive == true }
    func state(_ id: NodeID) -> NodeState? { self.view.nodes.first { $0.id == id }?.state }

    private func hasQuorum(_ voters: [NodeID], _ group: PlannerGroup) -> Bool {
        voters.count { self.isLive($0) && group.caughtUp.contains($0) } > voters.count / 2
    }

    /// Plans and does until nothing is left to do.
    /// - Returns: The number of rounds.
    @discardableResult
    mutating func settle(roundsMax: Int = 700) throws -> Int {
        for round in 0..<roundsMax {
            let actions = try ClusterPlanner.plan(self.view)
            #expect(try ClusterPlanner.plan(self.view) == actions, "the same view gives the same plan")
            if actions.isEmpty { return round }
            try self.carryOut(actions)
        }
        Issue.record("the plan does not come to an end: \(try ClusterPlanner.plan(self.view))")
        return roundsMax
    }

    func voterCounts(_ nodes: [NodeID]) -> [NodeID: Int] {
        var counts: [NodeID: Int] = [:]
        for node in nodes { counts[node] = 0 }
        for group in self.view.groups where group.id != .system {
            for voter in group.membership.voters { counts[voter, default: 0] += 1 }
        }
        return counts
    }
}

@Suite("Planning where replicas and leaders go")
struct ClusterPlannerTests {
    private func ids(_ numbers: some Sequence<Int>) -> [NodeID] { numbers.map { NodeID(UInt64($0)) } }

    private func cluster(nodes: Int, groups: Int, replicas: Int = 3, regions: Int = 1) -> PlannedCluster {
        let all = (1...nodes).map { PlannerNode(id: NodeID(UInt64($0)), region: "r\($0 % regions)") }
        let first = self.ids(1...min(nodes, replicas))
        var list = [
            PlannerGroup(id: .system, membership: Membership(voters: first), leader: NodeID(1), caughtUp: first)
        ]
        for number in 0..<groups {
            list.append(
                PlannerGroup(
                    id: GroupID(UInt32(number) + 1),
                    membership: Membership(voters: first),
                    leader: NodeID(1),
                    caughtUp: first
                )
            )
        }
        return PlannedCluster(view: PlannerView(nodes: all, groups: list, replicas: replicas))
    }

    @Test func everyNodeFollowsTheDirectoryAndFiveVote() throws {
        var cluster = self.cluster(nodes: 7, groups: 1)
        try cluster.settle()
        let system = try #require(cluster.view.groups.first)
        #expect(system.membership.voters.count == 5)
        #expect(system.membership.replicas == self.ids(1...7))
    }

    @Test func fourNodesGiveTheDirectoryThreeVoters() throws {
        var cluster = self.cluster(nodes: 4, groups: 1)
        try cluster.settle()
        let system = try #require(cluster.view.groups.first)
        #expect(system.membership.voters.count == 3)
        #expect(system.membership.learners.count == 1)
    }

    @Test func aDrainedNodeKeepsTheDirectoryButLeadsAndHoldsNothing() throws {
        var cluster = self.cluster(nodes: 4, groups: 6)
        cluster.view.nodes[0].state = .draining
        try cluster.settle()
        for group in cluster.view.groups where group.id != .system {
            #expect(!group.membership.contains(NodeID(1)))
            #expect(group.membership.voters.count == 3)
        }
        let system = try #require(cluster.view.groups.first)
        #expect(system.membership.isLearner(NodeID(1)))
        #expect(!cluster.view.groups.contains { $0.leader == NodeID(1) })
        #expect(cluster.state(NodeID(1)) == .draining)
    }

    @Test func aReplacedNodeIsRemovedAndItsReplacementHasItsGroups() throws {
        var cluster = self.cluster(nodes: 5, groups: 2)
        cluster.view.nodes[4].state = .joining
        cluster.view.nodes[1].state = .leaving
        cluster.view.nodes[1].replacement = NodeID(5)
        try cluster.settle()
        #expect(cluster.state(NodeID(2)) == .removed)
        #expect(cluster.state(NodeID(5)) == .active)
        for group in cluster.view.groups where group.id != .system {
            #expect(group.membership.voters == self.ids([1, 3, 5]))
        }
    }

    @Test func aLeavingNodeWithoutAPlaceToGoToStays() throws {
        var cluster = self.cluster(nodes: 3, groups: 2)
        cluster.view.nodes[2].state = .leaving
        try cluster.settle()
        #expect(cluster.state(NodeID(3)) == .leaving)
        #expect(cluster.view.groups[1].membership.voters == self.ids(1...3))
    }

    /// Five are wanted and four could stay: the three that may stay are better than three with the one that leaves.
    @Test func aNodeLeavesAGroupThatWantsMoreReplicasThanThereArePlaces() throws {
        var cluster = self.cluster(nodes: 5, groups: 1)
        cluster.view.groups[1].membership = Membership(voters: self.ids([1, 2, 4]))
        cluster.view.groups[1].caughtUp = self.ids([1, 2, 4])
        cluster.view.groups[1].target = self.ids(1...5)
        cluster.view.nodes[2].state = .draining
        cluster.view.nodes[3].state = .leaving
        try cluster.settle()
        #expect(cluster.view.groups[1].membership.voters == self.ids([1, 2, 5]))
        #expect(cluster.state(NodeID(4)) == .removed)
    }

    @Test func aCordonedNodeFollowsTheDirectoryAlsoWhenNoneIsActive() throws {
        var cluster = self.cluster(nodes: 3, groups: 1, replicas: 1)
        cluster.view.nodes[0].state = .leaving
        cluster.view.nodes[1].state = .cordoned
        cluster.view.nodes[2].state = .cordoned
        try cluster.settle()
        let system = try #require(cluster.view.groups.first)
        #expect(system.membership.replicas == self.ids(1...3))
    }

    @Test func aDeadNodeIsReplacedOnlyWhenItIsToLeave() throws {
        var cluster = self.cluster(nodes: 4, groups: 3)
        try cluster.settle()
        cluster.view.nodes[2].isLive = false
        for place in cluster.view.groups.indices where cluster.view.groups[place].leader == NodeID(3) {
            cluster.view.groups[place].leader = cluster.view.groups[place].membership.voters.first { $0 != NodeID(3) }
        }
        let before = cluster.view.groups.map(\.membership)
        try cluster.settle()
        #expect(cluster.view.groups.map(\.membership) == before)
        cluster.view.nodes[2].state = .leaving
        try cluster.settle()
        #expect(cluster.state(NodeID(3)) == .removed)
    }

    @Test func nothingIsPlannedForGroupsThatCannotMove() throws {
        var cluster = self.cluster(nodes: 4, groups: 2)
        cluster.view.nodes[0].state = .draining
        for place in cluster.view.groups.indices {
            cluster.view.groups[place].leader = nil
            cluster.view.groups[place].isBusy = place == 1
        }
        #expect(try ClusterPlanner.plan(cluster.view).isEmpty)
    }

    @Test func aMajorityOfDeadNodesStopsEveryChangeOfVoters() throws {
        var cluster = self.cluster(nodes: 5, groups: 2)
        cluster.view.nodes[0].state = .draining
        cluster.view.nodes[1].isLive = false
        cluster.view.nodes[2].isLive = false
        for place in cluster.view.groups.indices { cluster.view.groups[place].caughtUp = [NodeID(1)] }
        for action in try ClusterPlanner.plan(cluster.view) {
            if case .changeVoters = action { Issue.record("\(action) would lose the majority") }
        }
    }

    @Test func targetsAreFollowedAndCordonedNodesGetNothing() throws {
        var cluster = self.cluster(nodes: 6, groups: 3)
        cluster.view.groups[1].target = self.ids([2, 4, 5])
        cluster.view.groups[2].target = self.ids(2...6)
        cluster.view.nodes[3].state = .cordoned
        try cluster.settle()
        #expect(!cluster.view.groups.contains { $0.id != .system && $0.membership.isVoter(NodeID(4)) })
        cluster.view.nodes[3].state = .active
        try cluster.settle()
        #expect(cluster.view.groups[1].membership.voters == self.ids([2, 4, 5]))
        #expect(cluster.view.groups[2].membership.voters == self.ids(2...6))
    }

    @Test func leadersGoToNodesOfBetterPriority() throws {
        var cluster = self.cluster(nodes: 3, groups: 4)
        cluster.view.nodes[0].priority = 2
        cluster.view.nodes[1].priority = 1
        cluster.view.nodes[2].priority = 1
        try cluster.settle()
        #expect(cluster.view.groups.allSatisfy { $0.leader != NodeID(1) })
        let counts = self.ids(2...3).map { id in cluster.view.groups.count { $0.leader == id } }
        #expect(counts.allSatisfy { $0 >= 2 }, "five leaders over two nodes: \(counts)")
    }

    @Test func replicasAreSpreadOverRegions() throws {
        var cluster = self.cluster(nodes: 6, groups: 5, regions: 3)
        // All replicas begin in the regions of nodes 1, 2 and 4: two of them in one region.
        for place in cluster.view.groups.indices {
            let voters = self.ids([1, 2, 4])
            cluster.view.groups[place].membership = Membership(voters: voters)
            cluster.view.groups[place].caughtUp = voters
        }
        cluster.view.isRebalancing = true
        try cluster.settle()
        for group in cluster.view.groups where group.id != .system {
            let regions = Set(group.membership.voters.map { $0.rawValue % 3 })
            #expect(regions.count == 3, "\(group.membership.voters)")
        }
    }

    @Test func aNodeThatComesIsGivenSeveralReplicasAtOnceButNotAll() throws {
        var cluster = self.cluster(nodes: 4, groups: 40)
        try cluster.settle()
        cluster.view.nodes.append(PlannerNode(id: NodeID(5)))
        cluster.view.nodes[2].isLive = false
        cluster.view.nodes[2].state = .leaving
        cluster.view.nodes[2].replacement = NodeID(5)
        let most = cluster.view.limits.movesPerNodeMax
        #expect(most > 1)
        for place in cluster.view.groups.indices {
            let voters = cluster.view.groups[place].membership.voters
            cluster.view.groups[place].leader = voters.first { $0 != NodeID(3) }
            cluster.view.groups[place].caughtUp = voters.filter { $0 != NodeID(3) }
        }
        var plan = try ClusterPlanner.plan(cluster.view)
        func given(_ plan: [ClusterAction]) -> Int {
            plan.count { action in
                if case .addLearner(let group, NodeID(5)) = action { return group != .system }
                return false
            }
        }
        #expect(given(plan) == most)
        // Nobody has caught up: no further one is begun, and none of the voters changes.
        try cluster.carryOut(plan)
        for place in cluster.view.groups.indices {
            cluster.view.groups[place].caughtUp.removeAll { $0 == NodeID(5) }
        }
        plan = try ClusterPlanner.plan(cluster.view)
        #expect(given(plan) == 0)
        #expect(!plan.contains { if case .changeVoters = $0 { true } else { false } })
        // One has: its voters change, and nothing but that.
        let place = try #require(
            cluster.view.groups.firstIndex { $0.id != .system && $0.membership.isLearner(NodeID(5)) }
        )
        cluster.view.groups[place].caughtUp.append(NodeID(5))
        plan = try ClusterPlanner.plan(cluster.view)
        #expect(
            plan.contains { if case .changeVoters(cluster.view.groups[place].id, _, _, _) = $0 { true } else { false } }
        )
    }

    @Test func aNodeThatIsBeingFilledIsGivenNoLeaders() throws {
        var cluster = self.cluster(nodes: 3, groups: 6)
        try cluster.settle()
        cluster.view.nodes[0].priority = 1
        cluster.view.nodes[1].priority = 1
        // A replica that catches up: the others' leaders wait for it.
        let voters = self.ids([1, 2, 3])
        cluster.view.groups.append(
            PlannerGroup(
                id: GroupID(7),
                membership: Membership(voters: self.ids([1]), learners: self.ids([3])),
                leader: NodeID(1),
                caughtUp: self.ids([1]),
                target: voters
            )
        )
        func transfers(_ plan: [ClusterAction]) -> Int {
            plan.count { if case .transferLeader(_, _, NodeID(3)) = $0 { true } else { false } }
        }
        #expect(transfers(try ClusterPlanner.plan(cluster.view)) == 0)
        try cluster.settle()
        #expect(cluster.view.groups.allSatisfy { $0.leader == NodeID(3) })
    }

    @Test func whatCannotBeWantedIsRefused() throws {
        var even = self.cluster(nodes: 4, groups: 1).view
        even.replicas = 4
        #expect(throws: PlannerError.replicaCount(4)) { try ClusterPlanner.plan(even) }
        var target = self.cluster(nodes: 4, groups: 1).view
        target.groups[1].target = self.ids([1, 2])
        #expect(throws: PlannerError.targetCount(GroupID(1), 2)) { try ClusterPlanner.plan(target) }
        var unknown = self.cluster(nodes: 3, groups: 1).view
        unknown.groups[1].target = self.ids([1, 2, 9])
        #expect(throws: PlannerError.unknownNode(GroupID(1), NodeID(9))) { try ClusterPlanner.plan(unknown) }
        var twice = self.cluster(nodes: 3, groups: 1).view
        twice.nodes.append(twice.nodes[0])
        #expect(throws: PlannerError.duplicateNode(NodeID(1))) { try ClusterPlanner.plan(twice) }
    }

    /// Random clusters and wishes, one after another in the same cluster: plans are safe, come to an end, and reach
    /// what can be reached.
    @Test(arguments: UInt64(1)...100)
    func randomWishesComeTrue(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let nodeCount = Int.random(in: 1...9, using: &generator)
        let replicas = [1, 3, 5].filter { $0 <= nodeCount }.randomElement(using: &generator) ?? 1
        var cluster = self.cluster(
            nodes: nodeCount,
            groups: Int.random(in: 1...20, using: &generator),
            replicas: replicas,
            regions: Int.random(in: 1...3, using: &generator)
        )
        for place in cluster.view.nodes.indices {
            cluster.view.nodes[place].priority = UInt8.random(in: 0...1, using: &generator)
        }
        for _ in 0..<6 {
            self.wish(&cluster, &generator)
            let rounds = try cluster.settle()
            #expect(rounds < 600, "seed \(seed)")
            self.checkSettled(cluster, seed: seed)
        }
    }

    private func wish(_ cluster: inout PlannedCluster, _ generator: inout SeededGenerator) {
        let places = cluster.view.nodes.indices.filter { cluster.view.nodes[$0].state != .removed }
        guard let place = places.randomElement(using: &generator) else { return }
        let usable = places.filter { cluster.view.nodes[$0].state == .active }
        switch Int.random(in: 0..<7, using: &generator) {
        case 0 where usable.count > cluster.view.replicas: cluster.view.nodes[place].state = .draining
        case 1 where usable.count > cluster.view.replicas:
            cluster.view.nodes[place].state = .leaving
            cluster.view.nodes[place].replacement =
                usable.filter { $0 != place }.randomElement(using: &generator).map { cluster.view.nodes[$0].id }
        case 2 where cluster.view.nodes[place].state == .active: cluster.view.nodes[place].state = .cordoned
        case 3: if cluster.view.nodes[place].state != .leaving { cluster.view.nodes[place].state = .active }
        case 4:
            let id = NodeID((cluster.view.nodes.map(\.id.rawValue).max() ?? 0) + 1)
            cluster.view.nodes.append(PlannerNode(id: id, region: "r\(id.rawValue % 3)", state: .joining))
        case 5: cluster.view.isRebalancing.toggle()
        default:
            guard let group = cluster.view.groups.indices.dropFirst().randomElement(using: &generator) else { return }
            let nodes = usable.map { cluster.view.nodes[$0].id }.shuffled(using: &generator)
            let count = [1, 3, 5].filter { $0 <= nodes.count }.randomElement(using: &generator) ?? 0
            cluster.view.groups[group].target = nodes.prefix(count).sorted()
        }
    }

    private func checkSettled(_ cluster: PlannedCluster, seed: UInt64) {
        let nodes = cluster.view.nodes
        let active = nodes.filter { $0.state == .active }.map(\.id)
        let keeps = nodes.filter { $0.state == .active || $0.state == .cordoned }.map(\.id)
        for group in cluster.view.groups {
            #expect(SystemState.replicaCounts.contains(group.membership.voters.count), "seed \(seed)")
            if group.id == .system { continue }
            #expect(group.membership.learners.isEmpty, "seed \(seed): no move is left half done")
            let wanted = group.target.isEmpty ? cluster.view.replicas : group.target.count
            if active.count >= wanted {
                #expect(group.membership.voters.allSatisfy { keeps.contains($0) }, "seed \(seed)")
                #expect(group.membership.voters.count == wanted, "seed \(seed)")
            }
            if group.membership.voters.contains(where: { active.contains($0) }), let leader = group.leader {
                #expect(active.contains(leader), "seed \(seed): group \(group.id) is led by \(leader)")
            }
        }
        guard cluster.view.isRebalancing, Set(nodes.map(\.region)).count == 1 else { return }
        let counts = cluster.voterCounts(active)
        for group in cluster.view.groups where group.id != .system && group.target.isEmpty {
            for from in group.membership.voters {
                for to in active where !group.membership.contains(to) {
                    #expect((counts[from] ?? 0) - (counts[to] ?? 0) < 2, "seed \(seed): \(from) to \(to)")
                }
            }
        }
    }
}
