package import Primitives

/// Names what a ``Ready`` gave out to be made durable; handed back by ``RaftCore/persisted(_:)``.
package struct PersistTicket: Sendable, Hashable {
    /// Counts up from 1 for the life of a core.
    package let number: UInt64
    /// The last entry of the log when the ticket was made.
    package let index: LogIndex
    package let term: Term
}

/// Why a waiting proposal will not be answered by being applied.
package struct DroppedProposal: Sendable, Hashable {
    package let token: UInt64
    /// The place of its entry, which a later leader may still commit: compare the term.
    package let index: LogIndex
    package let term: Term
}

/// The answer to a proposal.
package enum ProposeResult: Sendable, Hashable {
    /// The command is in this leader's log; it is committed, or dropped with its token, later.
    case accepted(index: LogIndex, term: Term)
    case notLeader(leader: NodeID?)
    case overloaded
    /// A transfer of leadership is under way: ask again when it ended.
    case transferring
}

/// The answer to a proposed membership change; nothing is appended unless it is accepted.
package enum MembershipProposeResult: Sendable, Hashable {
    /// In this leader's log; its token is answered like that of a command.
    case accepted(index: LogIndex, term: Term)
    case notLeader(leader: NodeID?)
    /// An earlier change may be in the log and is not applied.
    case pending
    /// The change cannot be applied to the membership of now.
    case invalid(MembershipError)
    case overloaded
    case transferring
}

/// The role, term or leader changed.
package struct RoleChange: Sendable, Hashable {
    package let role: RaftRole
    package let term: Term
    package let leader: NodeID?
}

/// A linearizable read may be served from any state at or after `index`.
package struct ReadGrant: Sendable, Hashable {
    package let token: UInt64
    package let index: LogIndex
}

/// The membership after a committed entry that carried a change (unchanged when the change was refused).
package struct CommittedMembership: Sendable, Hashable {
    package let index: LogIndex
    package let membership: Membership
    /// Why the change had no effect, nil when it had.
    package let refusal: MembershipError?
}

/// A snapshot that a leader offers and this replica needs.
package struct OfferedSnapshot: Sendable, Hashable {
    package let from: NodeID
    package let offer: RaftMessage.SnapshotOffer
}

/// What a core wants done, in this order: persist, send, apply.
package struct Ready: Sendable {
    /// Present when there is something to persist or to send once it is durable.
    package var ticket: PersistTicket?
    /// To be written when present.
    package var hardState: HardState?
    /// Present: the stored log is replaced by an empty one after this mark, in one atomic step with the rest, before
    /// `entries` are written.
    package var resetLog: SnapshotMark?
    /// Stored entries from here on are removed before `entries` are written, in one atomic step with them.
    package var truncateFrom: LogIndex?
    /// To be written, consecutive.
    package var entries: [LogEntry] = []
    /// The commit index: may be written with the rest, need not be.
    package var commit: LogIndex = .zero
    /// May leave at once, also while the disk works.
    package var sendNow: [RaftMessage] = []
    /// Promises: may leave only when `ticket` and all earlier ones are durable.
    package var sendWhenPersisted: [RaftMessage] = []
    /// Durable here and committed: to be applied in order, then reported by ``RaftCore/applied(_:)``.
    package var committed: [LogEntry] = []
    /// For each entry of kind `.membership` in `committed`: what the membership is after it. The state machine stores
    /// it with its applied index.
    package var committedMemberships: [CommittedMembership] = []
    /// Which of `committed` answer proposals of this core, ascending by index.
    package var committedProposals: [(index: LogIndex, token: UInt64)] = []
    /// Proposals whose outcome this core will not learn.
    package var dropped: [DroppedProposal] = []
    /// Reads that may be served once the state machine has applied their index.
    package var reads: [ReadGrant] = []
    /// Reads that will not be confirmed: ask again.
    package var droppedReads: [UInt64] = []
    /// To be fetched and installed; answered by ``RaftCore/snapshotInstalled(_:)`` or ``RaftCore/snapshotFailed()``.
    package var snapshotToInstall: OfferedSnapshot?
    /// A membership that took effect.
    package var membershipChange: Membership?
    package var roleChange: RoleChange?
    /// Present: this replica was removed and added again, by the entry at this index, before it could learn of it. It
    /// takes no more messages of a leader: begin it anew, as a blank replica with the same hard state.
    package var supersededBy: LogIndex?
    /// Present when the replica fell asleep (true) or woke.
    package var isAsleepChange: Bool?
    /// The replica must stop: its log or that of a peer is not what it must be.
    package var failure: ConsensusError?

    package init() {}

    /// Whether anything must reach the disk.
    package var mustPersist: Bool {
        self.hardState != nil || self.truncateFrom != nil || self.resetLog != nil || !self.entries.isEmpty
    }

    /// Whether there is anything to do.
    var isEmpty: Bool {
        self.ticket == nil && self.sendNow.isEmpty && self.committed.isEmpty && self.dropped.isEmpty
            && self.reads.isEmpty && self.droppedReads.isEmpty && self.roleChange == nil
            && self.snapshotToInstall == nil && self.supersededBy == nil && self.membershipChange == nil
            && self.isAsleepChange == nil
            && self.failure == nil
    }
}

/// What is left of a replica's life in the group that ended by its removal, when it was added again later.
package struct FormerLife: Sendable, Hashable {
    /// The index of the entry that removed it; its sessions of now are later.
    package var removedAt: LogIndex
    /// The last entry that it knew to be committed, see ``RaftCore/commitMark``.
    package var committed: LogIndex
    package var committedTerm: Term

    package init(removedAt: LogIndex, committed: LogIndex, committedTerm: Term) {
        self.removedAt = removedAt
        self.committed = committed
        self.committedTerm = committedTerm
    }
}

/// What a replica starts with: what its disk and its state machine hold.
package struct RestoredReplica: Sendable {
    package var hardState: HardState
    /// Of the durable log, with its base.
    package var terms: TermRuns
    /// A commit index known to be true, zero when none is.
    package var commit: LogIndex
    /// The last entry whose effects the state machine has; committed by definition.
    package var applied: LogIndex
    /// The term of that entry. When the log does not hold the entry (a snapshot was installed and the log not yet
    /// reset), the core resets the log to it.
    package var appliedTerm: Term
    /// The membership after that entry.
    package var membership: Membership
    /// Of a replica that was removed here before and added again: in this life and in each restart of it.
    package var formerLife: FormerLife?

    /// - Parameter appliedTerm: nil when the log is known to hold the entry.
    package init(
        hardState: HardState = HardState(),
        terms: TermRuns = TermRuns(),
        commit: LogIndex = .zero,
        applied: LogIndex = .zero,
        appliedTerm: Term? = nil,
        membership: Membership,
        formerLife: FormerLife? = nil
    ) {
        self.formerLife = formerLife
        self.hardState = hardState
        self.terms = terms
        self.commit = commit
        self.applied = applied
        self.appliedTerm = appliedTerm ?? terms.term(at: applied) ?? .zero
        self.membership = membership
    }
}
