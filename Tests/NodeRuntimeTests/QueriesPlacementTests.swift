internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("The placement of groups")
struct QueriesPlacementTests {
    @Test(arguments: [(1, 1), (3, 1), (3, 3), (5, 3), (5, 5), (7, 5)], [1, 3, 8, 16])
    func everyGroupHasItsReplicasOnDifferentNodesAndTheLoadIsEven(shape: (nodes: Int, replicas: Int), groups: Int) {
        let members = (1...UInt64(shape.nodes)).map { NodeID($0 * 10) }
        let placement = Placement(members: members.reversed(), dataGroups: groups, replicas: shape.replicas)
        #expect(placement.nodes(of: .system) == members)
        #expect(placement.groups.count == groups + 1)
        var load: [NodeID: Int] = [:]
        for group in placement.groups where group != .system {
            let nodes = placement.nodes(of: group)
            #expect(nodes.count == shape.replicas)
            #expect(Set(nodes).count == shape.replicas)
            #expect(Set(nodes).isSubset(of: members))
            #expect(nodes == nodes.sorted())
            for node in nodes { load[node, default: 0] += 1 }
        }
        let counts = members.map { load[$0] ?? 0 }
        // Groups come round in turns: nodes differ by at most one turn's worth.
        #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= min(shape.replicas, groups))
        if groups % shape.nodes == 0 { #expect(Set(counts).count == 1) }
        for node in members {
            let hosted = placement.groups(on: node)
            #expect(hosted.count == (load[node] ?? 0) + 1)
            #expect(hosted.allSatisfy { $0.value.contains(node) && $0.value == placement.nodes(of: $0.key) })
        }
    }

    /// Where groups live is on disk in every node: it never changes.
    @Test func thePlacesOfAFiveNodeClusterAreTheKnownOnes() {
        let placement = Placement(members: (1...5).map { NodeID($0) }, dataGroups: 6, replicas: 3)
        let places = (1...6).map { placement.nodes(of: GroupID($0)).map(\.rawValue) }
        #expect(places == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [1, 4, 5], [1, 2, 5], [1, 2, 3]])
    }
}
