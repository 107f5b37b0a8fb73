internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards

/// Which nodes hold a replica of which group, as far as this node knows.
///
/// The system group's table of placements tells of all groups; it follows changes of membership with a delay. Whether
/// this node itself can serve a group is known at once.
struct Placement: Sendable {
    let node: NodeID
    private let directory: ShardDirectory
    private let isServing: @Sendable (GroupID) -> Bool
    /// Organizations whose history is damaged here; nil where that is not asked.
    private let damage: DamageRegister?

    /// - Parameter isServing: Whether this node has a replica of a group that can be read now.
    init(
        node: NodeID,
        directory: ShardDirectory,
        damage: DamageRegister? = nil,
        isServing: @escaping @Sendable (GroupID) -> Bool
    ) {
        self.node = node
        self.directory = directory
        self.isServing = isServing
        self.damage = damage
    }

    /// A replica serves once it has a state: not while it waits for its first snapshot or installs one.
    init(node: NodeID, directory: ShardDirectory, host: RaftHost, damage: DamageRegister?) {
        self.init(node: node, directory: directory, damage: damage) { group in
            guard let status = host.status(of: group) else { return false }
            return !status.isInstalling && status.membership.contains(node)
        }
    }

    /// All groups of the cluster, ascending; none before the cluster has begun.
    var groups: [GroupID] { self.directory.current.placements.map(\.group) }

    /// The nodes with a replica of `group`, ascending; none when the group is not known.
    func nodes(of group: GroupID) -> [NodeID] {
        self.directory.current.placement(of: group)?.membership.replicas ?? []
    }

    /// Whether this node can read `group` itself.
    func servesHere(_ group: GroupID) -> Bool { self.isServing(group) }

    /// Whether this node can read `entry` itself and vouches for what it reads.
    func servesHere(_ entry: OrganizationEntry) -> Bool {
        self.isServing(entry.group) && self.damage?.contains(entry.id) != true
    }

    /// The other nodes to ask about `group`, voters first: learners may still be filling.
    func others(of group: GroupID) -> [NodeID] {
        guard let membership = self.directory.current.placement(of: group)?.membership else { return [] }
        let others = membership.replicas.filter { $0 != self.node }
        return others.filter { membership.isVoter($0) } + others.filter { !membership.isVoter($0) }
    }
}
