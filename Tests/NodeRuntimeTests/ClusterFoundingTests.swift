internal import Consensus
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Where groups are when a cluster begins")
struct ClusterFoundingTests {
    private static func members(_ regions: [String]) -> [NodeConfiguration.Member] {
        regions.enumerated().map { place, region in
            NodeConfiguration.Member(
                id: NodeID(UInt64(place + 1)),
                apiAddress: .init(host: "n", port: 1),
                peerAddress: .init(host: "n", port: 2),
                region: region
            )
        }
    }

    @Test func everyGroupHasItsReplicasOnDifferentNodes() {
        let founding = FoundingPlacement(nodes: [1, 2, 3, 4, 5].map { NodeID($0) }, dataGroups: 10, replicas: 3)
        var load: [NodeID: Int] = [:]
        for group in founding.groups where group != .system {
            let voters = founding.membership(of: group).voters
            #expect(Set(voters).count == 3)
            #expect(voters == voters.sorted())
            for voter in voters { load[voter, default: 0] += 1 }
        }
        #expect(Set(load.values) == [6])
    }

    @Test func theSystemGroupHasFiveVotersAndTheOthersLearn() {
        let founding = FoundingPlacement(nodes: (1...7).map { NodeID($0) }, dataGroups: 1, replicas: 3)
        let system = founding.membership(of: .system)
        #expect(system.voters == (1...5).map { NodeID($0) })
        #expect(system.learners == [6, 7].map { NodeID($0) })
        #expect(founding.groups(on: NodeID(7))[.system] == system)
        #expect(founding.groups(on: NodeID(7))[GroupID(1)] == nil)
    }

    @Test func regionsTakeTurns() {
        #expect(
            FoundingPlacement.order(Self.members(["north", "north", "north", "south", "south"]))
                == [1, 4, 2, 5, 3].map { NodeID($0) }
        )
        #expect(FoundingPlacement.order(Self.members(["", "", ""])) == [1, 2, 3].map { NodeID($0) })
        let founding = FoundingPlacement(
            nodes: FoundingPlacement.order(Self.members(["a", "b", "a", "b"])),
            dataGroups: 8,
            replicas: 3
        )
        for group in founding.groups.dropFirst() {
            let regions = Set(founding.membership(of: group).voters.map { $0.rawValue % 2 })
            #expect(regions.count == 2, "group \(group) is in one region only")
        }
    }
}
