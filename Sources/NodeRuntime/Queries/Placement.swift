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
    ///
    /// Of those the nearest come first: the same region as this node's, then the shorter way, where one is at least
    /// twice as long as the other. Equally near ones are shared out: every node begins with the next id after its own.
    /// - Parameter roundTrips: To each node, in microseconds, where known.
    func others(of group: GroupID, roundTrips: [NodeID: Int64] = [:]) -> [NodeID] {
        let system = self.directory.current
        guard let membership = system.placement(of: group)?.membership else { return [] }
        let region = system.node(self.node)?.region ?? ""
        func rank(_ other: NodeID) -> [UInt64] {
            let isNeighbour = !region.isEmpty && system.node(other)?.region == region
            return [
                membership.isVoter(other) ? 0 : 1, isNeighbour ? 0 : 1, Self.distance(roundTrips[other]),
                other > self.node ? 0 : 1, other.rawValue,
            ]
        }
        let ranked = membership.replicas.filter { $0 != self.node }.map { (node: $0, rank: rank($0)) }
        return ranked.sorted { $0.rank.lexicographicallyPrecedes($1.rank) }.map(\.node)
    }

    /// Ways within this are equally short, in microseconds: what a busy machine adds to one within a data centre.
    static let shortWay: Int64 = 1_000

    /// The class of a way's length: those of one class differ by less than twice. The last one: not known.
    private static func distance(_ roundTrip: Int64?) -> UInt64 {
        guard let roundTrip else { return UInt64(Int64.bitWidth) }
        return UInt64(Int64.bitWidth - max(roundTrip / self.shortWay, 0).leadingZeroBitCount)
    }
}
