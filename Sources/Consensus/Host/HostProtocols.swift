package import Primitives

/// Carries messages to peers.
package protocol PeerTransport: Sendable {
    /// Sends `messages` of any groups to `peer`; returns at once, never blocks, may lose them.
    ///
    /// Called on the raft thread and on the log-writer thread, once a peer and turn with everything for that peer.
    /// A transport that had to drop messages says so by ``RaftHost/unreachable(_:)``.
    func send(_ messages: [GroupMessage], to peer: NodeID)
}

/// An entry that a majority holds durably, ready to be applied.
package struct CommittedEntry: Sendable {
    package let index: LogIndex
    package let term: Term
    /// The commands in their order, as slices of the entry's payload; none in an empty entry.
    package let commands: [ArraySlice<UInt8>]

    package init(index: LogIndex, term: Term, commands: [ArraySlice<UInt8>]) {
        self.index = index
        self.term = term
        self.commands = commands
    }
}

/// What applies the commands of the groups of a node to its state.
///
/// The applier's duties: write the effects of all given entries and the index of the last one (the *applied index*)
/// in one atomic batch (no sync is needed: the log is durable and is replayed from the applied index); give the same
/// result and state on every replica; return one result per command.
package protocol CommandApplier: Sendable {
    /// The index of the last entry of `group` whose effects are in the store, zero at first; asked once, at start.
    func appliedIndex(of group: GroupID) throws -> LogIndex

    /// Applies `entries`, which follow the last applied one without a gap; some may carry no commands.
    ///
    /// Called on the thread of the group's lane, one call at a time for a group.
    /// - Returns: One result for each command of all entries, in order; they answer the proposals of this node.
    /// - Throws: Anything, which stops the host for good (see ``RaftHost/Events/onFailure``). A refusal of a command
    ///   is a result, not an error.
    func apply(group: GroupID, entries: [CommittedEntry]) throws -> [[UInt8]]
}

/// The role of a replica in its group.
package enum RaftRole: String, Sendable, Hashable {
    case follower
    /// Asks whether an election could be won, without disturbing anyone.
    case preCandidate
    case candidate
    case leader
}

/// The state of one group as one node sees it.
package struct GroupStatus: Sendable, Hashable {
    /// What a leader knows of one replica (itself included).
    package struct Replica: Sendable, Hashable {
        package var node: NodeID
        /// The last entry that the replica is known to hold durably.
        package var match: LogIndex
        /// Whether it was heard in this or the last election timeout.
        package var isRecentlyActive: Bool
        /// Entries of the leader's log that it is not known to hold.
        package var lag: UInt64

        package init(node: NodeID, match: LogIndex, isRecentlyActive: Bool, lag: UInt64) {
            self.node = node
            self.match = match
            self.isRecentlyActive = isRecentlyActive
            self.lag = lag
        }
    }

    package var group: GroupID
    package var role: RaftRole
    package var leader: NodeID?
    package var term: Term
    package var commit: LogIndex
    package var applied: LogIndex
    package var last: LogIndex
    /// All voting nodes of the group, ascending.
    package var voters: [NodeID]
    /// Known to a leader only; empty otherwise.
    package var replicas: [Replica]

    package init(
        group: GroupID,
        role: RaftRole,
        leader: NodeID?,
        term: Term,
        commit: LogIndex,
        applied: LogIndex,
        last: LogIndex,
        voters: [NodeID],
        replicas: [Replica]
    ) {
        self.group = group
        self.role = role
        self.leader = leader
        self.term = term
        self.commit = commit
        self.applied = applied
        self.last = last
        self.voters = voters
        self.replicas = replicas
    }
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
