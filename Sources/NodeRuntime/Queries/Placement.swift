internal import Primitives

/// Which nodes hold a replica of which group.
struct Placement: Sendable, Equatable {
    private let members: [NodeID]
    private let replicas: Int
    let dataGroups: Int

    /// - Parameter replicas: At most the number of members.
    init(members: [NodeID], dataGroups: Int, replicas: Int) {
        precondition(!members.isEmpty && replicas >= 1 && replicas <= members.count)
        self.members = members.sorted()
        self.dataGroups = dataGroups
        self.replicas = replicas
    }

    /// The system group lives on all nodes; data groups on `replicas` neighbours, beginning one further for each.
    func nodes(of group: GroupID) -> [NodeID] {
        if group == .system { return self.members }
        return (0..<self.replicas).map { self.members[(Int(group.rawValue) - 1 + $0) % self.members.count] }.sorted()
    }

    /// All groups of the cluster.
    var groups: [GroupID] { (0...UInt32(self.dataGroups)).map { GroupID($0) } }

    /// The groups that `node` has replicas of, with their nodes.
    func groups(on node: NodeID) -> [GroupID: [NodeID]] {
        var groups: [GroupID: [NodeID]] = [:]
        for group in self.groups {
            let nodes = self.nodes(of: group)
            if nodes.contains(node) { groups[group] = nodes }
        }
        return groups
    }
}
