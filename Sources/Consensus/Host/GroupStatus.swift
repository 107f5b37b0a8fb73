package import Primitives

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
        package var isLearner: Bool
        /// The index of the snapshot that it is fetching, nil when it needs none.
        package var snapshot: LogIndex?

        package init(
            node: NodeID,
            match: LogIndex,
            isRecentlyActive: Bool,
            lag: UInt64,
            isLearner: Bool = false,
            snapshot: LogIndex? = nil
        ) {
            self.node = node
            self.match = match
            self.isRecentlyActive = isRecentlyActive
            self.lag = lag
            self.isLearner = isLearner
            self.snapshot = snapshot
        }
    }

    package var group: GroupID
    package var role: RaftRole
    package var leader: NodeID?
    package var term: Term
    package var commit: LogIndex
    package var applied: LogIndex
    /// The first entry still in the log; one after the last when the log is empty.
    package var first: LogIndex
    package var last: LogIndex
    /// As applied here.
    package var membership: Membership
    /// The group has no work; it costs nothing until something wakes it.
    package var isAsleep: Bool
    /// This replica is fetching or installing a snapshot.
    package var isInstalling: Bool
    /// Known to a leader only; empty otherwise. As of the last tick or change of role.
    package var replicas: [Replica]

    package init(
        group: GroupID,
        role: RaftRole,
        leader: NodeID?,
        term: Term,
        commit: LogIndex,
        applied: LogIndex,
        first: LogIndex,
        last: LogIndex,
        membership: Membership,
        isAsleep: Bool = false,
        isInstalling: Bool = false,
        replicas: [Replica] = []
    ) {
        self.group = group
        self.role = role
        self.leader = leader
        self.term = term
        self.commit = commit
        self.applied = applied
        self.first = first
        self.last = last
        self.membership = membership
        self.isAsleep = isAsleep
        self.isInstalling = isInstalling
        self.replicas = replicas
    }

    /// All voting nodes of the group, ascending.
    package var voters: [NodeID] { self.membership.voters }
}
