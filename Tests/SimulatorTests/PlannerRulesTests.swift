internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import simulator

/// Every rule is shown a plan or a state that breaks it.
@Suite struct PlannerRulesTests {
    private let group = GroupID(1)

    private func ids(_ numbers: Int...) -> [NodeID] { numbers.map { NodeID(UInt64($0)) } }

    /// Five nodes; the group is on 1, 2 and 3, and 4 follows.
    private func view(live: Set<Int> = [1, 2, 3, 4, 5], caughtUp: [NodeID]? = nil) -> PlannerView {
        let nodes = (1...5).map { PlannerNode(id: NodeID(UInt64($0)), isLive: live.contains($0)) }
        let membership = Membership(voters: self.ids(1, 2, 3), learners: self.ids(4))
        let group = PlannerGroup(
            id: self.group,
            membership: membership,
            leader: NodeID(1),
            caughtUp: caughtUp ?? self.ids(1, 2, 3, 4)
        )
        return PlannerView(nodes: nodes, groups: [group], replicas: 3)
    }

    private func change(add: [NodeID] = [], remove: [NodeID] = []) -> ClusterAction {
        .changeVoters(self.group, add: add, remove: remove, demote: [])
    }

    @Test func letsGoodPlansPass() {
        let good: [[ClusterAction]] = [
            [], [.addLearner(self.group, NodeID(5))], [.removeLearner(self.group, NodeID(4))],
            [.transferLeader(self.group, from: NodeID(1), to: NodeID(2))],
            [self.change(add: self.ids(4), remove: self.ids(3))], [self.change(remove: self.ids(2, 3))],
        ]
        for plan in good { #expect(PlannerRules.problem(of: plan, in: self.view()) == nil) }
    }

    @Test func refusesPlansThatBreakARule() {
        let bad: [[ClusterAction]] = [
            [.addLearner(self.group, NodeID(5)), .removeLearner(self.group, NodeID(4))],
            [.addLearner(self.group, NodeID(2))], [.removeLearner(self.group, NodeID(2))],
            [.transferLeader(self.group, from: NodeID(1), to: NodeID(4))], [self.change(add: self.ids(4))],
            [self.change(remove: self.ids(3))], [self.change(add: self.ids(5), remove: self.ids(3))],
            [self.change(add: self.ids(4), remove: self.ids(1))], [.addLearner(GroupID(9), NodeID(5))],
        ]
        for plan in bad { #expect(PlannerRules.problem(of: plan, in: self.view()) != nil, "\(plan)") }
    }

    @Test func refusesToGoBelowALivingQuorum() {
        let plan = [self.change(remove: self.ids(2, 3))]
        #expect(PlannerRules.problem(of: plan, in: self.view(live: [1])) != nil, "of the old voters")
        let shrinking = [self.change(add: self.ids(4), remove: self.ids(2))]
        #expect(PlannerRules.problem(of: shrinking, in: self.view(live: [1, 2])) != nil, "of the new voters")
        let blank = self.view(caughtUp: self.ids(1, 2, 3))
        #expect(PlannerRules.problem(of: [self.change(add: self.ids(4), remove: self.ids(3))], in: blank) != nil)
        let dead = [ClusterAction.transferLeader(self.group, from: NodeID(1), to: NodeID(2))]
        #expect(PlannerRules.problem(of: dead, in: self.view(live: [1, 3, 4, 5])) != nil)
    }

    @Test func leavesGroupsAloneThatAreNotAtRest() {
        var view = self.view()
        view.groups[0].leader = nil
        #expect(PlannerRules.problem(of: [.addLearner(self.group, NodeID(5))], in: view) != nil)
    }

    // MARK: - What was wished

    /// Three nodes; group 1 is said to be on all of them.
    private func state(_ commands: Command...) throws -> SystemState {
        let nodes = (1...3).map { RegisterNodeCommand(node: NodeID($0), api: "a\($0)", peer: "p\($0)") }
        let groups = [GroupID.system, self.group].map {
            BootstrapCommand.Placement(group: $0, replicas: self.ids(1, 2, 3))
        }
        let begin = BootstrapCommand(
            clusterID: "c",
            dataGroups: 1,
            operatorToken: nil,
            nodes: nodes,
            placements: groups
        )
        var state = SystemState()
        for command in [.bootstrap(begin)] + commands {
            var batch = WriteBatch()
            var records: [EventDraft] = []
            let decoded = try Command.decode(command.encoded(origin: .node(NodeID(1)))[...])
            #expect(state.apply(decoded, into: &batch, records: &records) == .done, "\(command)")
        }
        return state
    }

    private func problem(_ state: SystemState, on voters: [NodeID]? = nil, directory: [NodeID]? = nil) -> String? {
        let real = { (voters: [NodeID]?) in Membership(voters: voters ?? self.ids(1, 2, 3)) }
        let groups = state.placements.map { placement in
            let membership = real(placement.group == .system ? directory : voters)
            return PlannerGroup(id: placement.group, membership: membership, leader: NodeID(1), caughtUp: [])
        }
        let nodes = state.nodes.map { PlannerNode($0, isLive: true) }
        return PlannerRules.wishProblem(state, PlannerView(nodes: nodes, groups: groups, replicas: state.replicas))
    }

    @Test func isContentWithAClusterAsWished() throws {
        #expect(self.problem(try self.state()) == nil)
    }

    @Test func missesWhatWasWishedAndIsNot() throws {
        #expect(self.problem(try self.state(.setRebalancing(true))) != nil)
        #expect(self.problem(try self.state(), on: self.ids(1, 2)) != nil, "another membership than was confirmed")
        let target = SetTargetCommand(group: self.group, replicas: self.ids(2))
        #expect(self.problem(try self.state(.setTarget(target))) != nil)
        let moved = ConfirmPlacementCommand(
            group: self.group,
            membership: Membership(voters: self.ids(1)),
            index: LogIndex(9)
        )
        #expect(self.problem(try self.state(.confirmPlacement(moved)), on: self.ids(1)) != nil, "too few voters")
        let shrunk = ConfirmPlacementCommand(
            group: .system,
            membership: Membership(voters: self.ids(1)),
            index: LogIndex(9)
        )
        #expect(self.problem(try self.state(.confirmPlacement(shrunk)), directory: self.ids(1)) != nil)
    }

    @Test func missesANodeThatIsNotLetInAndOneThatIsNotGone() throws {
        let hash = Digest(words: (1, 1, 1, 1))
        let expiresAt = Timestamp(microseconds: .max)
        let token = CreateJoinTokenCommand(hash: hash, node: NodeID(4), expiresAt: expiresAt)
        let join = RegisterNodeCommand(node: NodeID(4), api: "a4", peer: "p4", joinToken: hash)
        var state = try self.state()
        for command in [Command.createJoinToken(token), .registerNode(join)] {
            var batch = WriteBatch()
            var records: [EventDraft] = []
            _ = state.apply(
                try Command.decode(command.encoded(origin: .node(NodeID(1)))[...]),
                into: &batch,
                records: &records
            )
        }
        #expect(self.problem(state) != nil, "four joins")
        var batch = WriteBatch()
        var records: [EventDraft] = []
        let leave = Command.setNodeState(SetNodeStateCommand(node: NodeID(4), state: .leaving))
        _ = state.apply(
            try Command.decode(leave.encoded(origin: .node(NodeID(1)))[...]),
            into: &batch,
            records: &records
        )
        #expect(self.problem(state, directory: self.ids(1, 2, 3)) == "node 4 is not gone")
    }
}
