internal import Consensus
internal import Primitives
internal import Testing

@testable internal import NodeRuntime
@testable internal import Shards

@Suite("The placement of groups")
struct QueriesPlacementTests {
    private let directory: ShardDirectory

    init() {
        var state = SystemState()
        let memberships = [
            Membership(voters: [NodeID(1), NodeID(2), NodeID(3)], learners: [NodeID(4)]),
            Membership(voters: [NodeID(2), NodeID(3), NodeID(4)]),
            Membership(voters: [NodeID(2), NodeID(4)], learners: [NodeID(1)]),
        ]
        for (group, membership) in memberships.enumerated() {
            state.placements.append(PlacementEntry(group: GroupID(UInt32(group)), membership: membership))
        }
        self.directory = ShardDirectory(state: state)
    }

    private func placement(_ node: UInt64, serving: [UInt32] = []) -> Placement {
        Placement(node: NodeID(node), directory: self.directory) { serving.contains($0.rawValue) }
    }

    @Test func theTableOfTheSystemGroupTellsWhereGroupsAre() {
        let placement = self.placement(1)
        #expect(placement.groups == [GroupID(0), GroupID(1), GroupID(2)])
        #expect(placement.nodes(of: GroupID(0)) == [1, 2, 3, 4].map { NodeID($0) })
        #expect(placement.nodes(of: GroupID(2)) == [1, 2, 4].map { NodeID($0) })
        #expect(placement.nodes(of: GroupID(3)).isEmpty)
    }

    @Test func othersAreAskedVotersFirst() {
        #expect(self.placement(4).others(of: GroupID(2)) == [NodeID(2), NodeID(1)])
        #expect(self.placement(1).others(of: GroupID(1)) == [2, 3, 4].map { NodeID($0) })
        #expect(self.placement(1).others(of: GroupID(9)).isEmpty)
    }

    /// The table is behind the truth on this node itself.
    @Test func whatIsServedHereIsKnownHere() {
        let placement = self.placement(1, serving: [1])
        #expect(placement.servesHere(GroupID(1)))
        #expect(!placement.servesHere(GroupID(0)))
    }
}
