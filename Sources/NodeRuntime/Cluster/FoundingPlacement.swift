internal import Consensus
internal import Primitives

/// Where the replicas of all groups are when a cluster begins; the planner moves them afterwards.
///
/// Computed alike on every founding node, from what they share: so the order of nodes is part of the identity that each keeps.
struct FoundingPlacement: Equatable, Sendable {
    /// Most voters of the system group; the other nodes follow it as learners.
    static let systemVotersMax = 5

    /// In the order in which replicas are dealt out.
    let nodes: [NodeID]
    let dataGroups: Int
    let replicas: Int

    /// - Parameter replicas: At most the number of nodes.
    init(nodes: [NodeID], dataGroups: Int, replicas: Int) {
        precondition(!nodes.isEmpty && replicas >= 1 && replicas <= nodes.count)
        self.nodes = nodes
        self.dataGroups = dataGroups
        self.replicas = replicas
    }

    /// The nodes in turn from each region, so that neighbours are in different ones.
    static func order(_ members: [NodeConfiguration.Member]) -> [NodeID] {
        let sorted = members.sorted { $0.id < $1.id }
        var regions: [[NodeID]] = []
        for region in Set(sorted.map(\.region)).sorted() {
            regions.append(sorted.filter { $0.region == region }.map(\.id))
        }
        // Larger regions first: the smaller ones run out earlier.
        regions.sort { $0.count > $1.count || ($0.count == $1.count && $0[0] < $1[0]) }
        var order: [NodeID] = []
        for turn in 0..<(regions.map(\.count).max() ?? 0) {
            for region in regions where turn < region.count { order.append(region[turn]) }
        }
        return order
    }

    /// The system group lives on all nodes; data groups on `replicas` neighbours, beginning one further for each.
    func membership(of group: GroupID) -> Membership {
        guard group != .system else {
            let voters = self.nodes.prefix(Self.systemVotersMax).sorted()
            return Membership(voters: voters, learners: self.nodes.dropFirst(Self.systemVotersMax).sorted())
        }
        let first = Int(group.rawValue) - 1
        return Membership(
            voters: (0..<self.replicas).map { self.nodes[(first + $0) % self.nodes.count] }.sorted()
        )
    }

    /// All groups of the cluster.
    var groups: [GroupID] { (0...UInt32(self.dataGroups)).map { GroupID($0) } }

    /// The groups that `node` has replicas of.
    func groups(on node: NodeID) -> [GroupID: Membership] {
        var groups: [GroupID: Membership] = [:]
        for group in self.groups {
            let membership = self.membership(of: group)
            if membership.replicas.contains(node) { groups[group] = membership }
        }
        return groups
    }
}
