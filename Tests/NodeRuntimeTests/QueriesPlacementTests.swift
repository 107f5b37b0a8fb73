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

    @Test func equallyNearOnesAreSharedOut() {
        #expect(self.placement(2).others(of: GroupID(0)) == [3, 1, 4].map { NodeID($0) })
        #expect(self.placement(3).others(of: GroupID(0)) == [1, 2, 4].map { NodeID($0) })
    }

    @Test func theShorterWayComesFirst() {
        let placement = self.placement(1)
        func order(_ trips: [UInt64: Int64]) -> [UInt64] {
            let trips = Dictionary(uniqueKeysWithValues: trips.map { (NodeID($0.key), $0.value) })
            return placement.others(of: GroupID(1), roundTrips: trips).map(\.rawValue)
        }
        #expect(order([2: 80_000, 3: 20_000, 4: 300]) == [4, 3, 2])
        // Within a data centre all are near; what is not measured is far.
        #expect(order([2: 900, 3: 150, 4: 40]) == [2, 3, 4])
        #expect(order([3: 90_000, 4: 100_000]) == [3, 4, 2])
        // A learner may still be filling, however near it is.
        let first = placement.others(of: GroupID(0), roundTrips: [NodeID(4): 10, NodeID(2): 90_000, NodeID(3): 90_000])
        #expect(first == [2, 3, 4].map { NodeID($0) })
    }

    @Test func theOwnRegionComesFirst() throws {
        var state = SystemState()
        let voters = [1, 2, 3].map { NodeID($0) }
        state.placements.append(PlacementEntry(group: GroupID(0), membership: Membership(voters: voters)))
        for (id, region) in [(1, "north"), (2, "south"), (3, "north")] {
            let command = RegisterNodeCommand(node: NodeID(UInt64(id)), api: "a:1", peer: "p:1", region: region)
            state.nodes.append(NodeEntry(command, state: .active, addedAt: Timestamp(microseconds: 1)))
        }
        let placement = Placement(node: NodeID(1), directory: ShardDirectory(state: state)) { _ in false }
        #expect(placement.others(of: GroupID(0)) == [3, 2].map { NodeID($0) })
        let trips: [NodeID: Int64] = [NodeID(2): 100, NodeID(3): 50_000]
        #expect(placement.others(of: GroupID(0), roundTrips: trips) == [3, 2].map { NodeID($0) })
    }

    /// The table is behind the truth on this node itself.
    @Test func whatIsServedHereIsKnownHere() {
        let placement = self.placement(1, serving: [1])
        #expect(placement.servesHere(GroupID(1)))
        #expect(!placement.servesHere(GroupID(0)))
    }
}
