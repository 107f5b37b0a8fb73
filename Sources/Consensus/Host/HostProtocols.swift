package import Primitives

/// Carries messages to peers.
package protocol PeerTransport: Sendable {
    /// Sends `messages` of any groups to `peer`; returns at once, never blocks, may lose them.
    ///
    /// Called on raft threads and on the log-writer thread, once a peer and turn with everything for that peer.
    /// A transport that had to drop messages says so by ``RaftHost/unreachable(_:)``.
    func send(_ messages: [HostMessage], to peer: NodeID)
}

/// What one host says to another.
package enum HostMessage: Sendable, Hashable {
    /// Between two replicas of one group.
    case raft(GroupMessage)
    /// The sender's node lives: once a peer and heartbeat interval, for all groups together.
    case beat(NodeBeat)
    /// The receiver's replica of a group has been removed.
    case removed(RemovalNotice)
}

/// A sign of life of a whole node; sleeping groups rely on it instead of heartbeats of their own.
package struct NodeBeat: Sendable, Hashable {
    /// Names one life of the sender's process; another one means that it was restarted and has forgotten who leads.
    package var epoch: UInt64

    package init(epoch: UInt64) { self.epoch = epoch }
}

/// Tells a replica that nobody counts it any more, in answer to its question for votes.
package struct RemovalNotice: Sendable, Hashable {
    package var group: GroupID
    /// An applied index at which the membership no longer had the receiver.
    package var index: LogIndex

    package init(group: GroupID, index: LogIndex) {
        self.group = group
        self.index = index
    }
}

/// An entry that a majority holds durably, ready to be applied.
package struct CommittedEntry: Sendable {
    package let index: LogIndex
    package let term: Term
    /// The commands in their order, as slices of the entry's payload; none in an entry of another kind.
    package let commands: [ArraySlice<UInt8>]
    /// In an entry that changes the membership: the membership from this entry on, also when the change was refused
    /// (it is then the one before). The applier stores it with the applied index.
    package let membership: Membership?

    package init(index: LogIndex, term: Term, commands: [ArraySlice<UInt8>], membership: Membership? = nil) {
        self.index = index
        self.term = term
        self.commands = commands
        self.membership = membership
    }
}

/// Consecutive committed entries of one group.
package struct GroupEntries: Sendable {
    package let group: GroupID
    /// Not empty; the first follows the last applied one without a gap.
    package let entries: [CommittedEntry]

    package init(group: GroupID, entries: [CommittedEntry]) {
        self.group = group
        self.entries = entries
    }
}

/// How far a group's state machine is, and what it must remember for the log.
package struct AppliedState: Sendable, Hashable {
    /// The last entry whose effects are in the state; zero at first.
    package var index: LogIndex
    package var term: Term
    /// As of `index`; nil while no entry and no snapshot has brought one: the group's first membership holds.
    package var membership: Membership?
    /// The state was installed at `index` from a snapshot and nothing was applied since: the log may end before it.
    package var isInstalled: Bool

    package init(
        index: LogIndex = .zero,
        term: Term = .zero,
        membership: Membership? = nil,
        isInstalled: Bool = false
    ) {
        self.index = index
        self.term = term
        self.membership = membership
        self.isInstalled = isInstalled
    }
}

/// What applies the commands of the groups of a node to its state.
///
/// The applier's duties: write the effects of all given entries, the index and term of the last one of each group and
/// the last membership among them in one atomic batch (no sync is needed: the log is durable and is replayed from the
/// applied index); give the same result and state on every replica; return one result per command.
package protocol CommandApplier: Sendable {
    /// The state of `group` on this node, all zero at first; asked when a replica is restored or made. May block.
    func appliedState(of group: GroupID) throws -> AppliedState

    /// Applies the entries of one or more groups of one lane, each group once.
    ///
    /// Called on the lane of the groups, one call a turn for all groups of the lane that wait.
    /// - Returns: For each element of `work` one result for each command of its entries, in order; they answer the
    ///   proposals of this node.
    /// - Throws: Anything, which stops the host for good (see ``RaftHost/Events/onFailure``). A refusal of a command
    ///   is a result, not an error.
    func apply(_ work: [GroupEntries]) throws -> [[[UInt8]]]

    /// The last entry of `group` whose effects survive a power failure; the log may be cut up to here.
    ///
    /// Called on raft threads now and then: must return at once.
    func durableApplied(of group: GroupID) -> LogIndex

    /// Deletes everything that this node has of `group`, whose replica was removed from it.
    ///
    /// Called on the group's lane, after nothing of the group will be applied any more; also at start when an earlier
    /// removal was cut short. Durable when it returns: a later life of the replica may follow at once. Repeats do nothing.
    func discard(_ group: GroupID) throws
}

/// A group has another leader, term or role than before, as this node sees it.
package struct LeadershipChange: Sendable, Hashable {
    package var group: GroupID
    package var role: RaftRole
    package var leader: NodeID?
    package var term: Term

    package init(group: GroupID, role: RaftRole, leader: NodeID?, term: Term) {
        self.group = group
        self.role = role
        self.leader = leader
        self.term = term
    }
}

/// What a host reports; called on its threads, must return soon.
package struct HostEvents: Sendable {
    /// On a raft thread, after every change of leader, term or role of a group.
    package var onLeadershipChange: @Sendable (LeadershipChange) -> Void
    /// On a raft thread, when a group's membership has changed, as this node has applied it.
    package var onMembershipChange: @Sendable (GroupID, Membership) -> Void
    /// On a raft thread: may a replica of this group be made here because its leader (the peer) sends to it?
    package var mayHost: @Sendable (GroupID, NodeID) -> Bool
    /// On a raft thread: a blank replica was made; its leader will offer it a snapshot.
    package var onReplicaCreated: @Sendable (GroupID) -> Void
    /// On the group's lane: the replica is gone, a tombstone is durable, and its state was discarded. Comes again after
    /// each start, as the end may have come before whoever listens was done.
    package var onReplicaRemoved: @Sendable (GroupID) -> Void
    /// On a raft thread: the leader (the peer) has a snapshot that this replica needs. Whoever fetches it ends with
    /// ``RaftHost/install(_:_:_:)`` or ``RaftHost/installFailed(_:)``; until then no other offer of the group comes.
    package var onSnapshotOffered: @Sendable (GroupID, NodeID, RaftMessage.SnapshotOffer) -> Void
    /// Once, when the host stopped because of a failure: the node must stop serving.
    package var onFailure: @Sendable (ConsensusError) -> Void

    package init(
        onLeadershipChange: @escaping @Sendable (LeadershipChange) -> Void = { _ in },
        onMembershipChange: @escaping @Sendable (GroupID, Membership) -> Void = { _, _ in },
        mayHost: @escaping @Sendable (GroupID, NodeID) -> Bool = { _, _ in false },
        onReplicaCreated: @escaping @Sendable (GroupID) -> Void = { _ in },
        onReplicaRemoved: @escaping @Sendable (GroupID) -> Void = { _ in },
        onSnapshotOffered: @escaping @Sendable (GroupID, NodeID, RaftMessage.SnapshotOffer) -> Void = { _, _, _ in },
        onFailure: @escaping @Sendable (ConsensusError) -> Void = { _ in }
    ) {
        self.onLeadershipChange = onLeadershipChange
        self.onMembershipChange = onMembershipChange
        self.mayHost = mayHost
        self.onReplicaCreated = onReplicaCreated
        self.onReplicaRemoved = onReplicaRemoved
        self.onSnapshotOffered = onSnapshotOffered
        self.onFailure = onFailure
    }
}
