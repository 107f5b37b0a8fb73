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
    package let index: LogIndex
}

/// The answer to a proposal.
package enum ProposeResult: Sendable, Hashable {
    /// The command is in this leader's log; it is committed, or dropped with its token, later.
    case accepted(index: LogIndex, term: Term)
    case notLeader(leader: NodeID?)
    case overloaded
}

/// The role, term or leader changed.
package struct RoleChange: Sendable, Hashable {
    package let role: RaftRole
    package let term: Term
    package let leader: NodeID?
}

/// What a core wants done, in this order: persist, send, apply.
package struct Ready: Sendable {
    /// Present when there is something to persist or to send once it is durable.
    package var ticket: PersistTicket?
    /// To be written when present.
    package var hardState: HardState?
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
    /// Which of `committed` answer proposals of this core, ascending by index.
    package var committedProposals: [(index: LogIndex, token: UInt64)] = []
    /// Proposals whose outcome this core will not learn.
    package var dropped: [DroppedProposal] = []
    package var roleChange: RoleChange?
    /// The replica must stop: its log or that of a peer is not what it must be.
    package var failure: ConsensusError?

    package init() {}

    /// Whether anything must reach the disk.
    package var mustPersist: Bool { self.hardState != nil || self.truncateFrom != nil || !self.entries.isEmpty }
}

/// Deliberate mistakes, for tests that show that the tests would find them; empty everywhere else.
package struct CoreFaults: OptionSet, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let voteClearedOnRoleChange = CoreFaults(rawValue: 1 << 0)
    package static let olderTermCommitted = CoreFaults(rawValue: 1 << 1)
    package static let rejectionCountsAsAck = CoreFaults(rawValue: 1 << 2)
    package static let staleAppendCutsTail = CoreFaults(rawValue: 1 << 3)
    package static let indexComparedBeforeTerm = CoreFaults(rawValue: 1 << 4)
    package static let promisesBeforeDisk = CoreFaults(rawValue: 1 << 5)
    package static let ownAckBeforeDisk = CoreFaults(rawValue: 1 << 6)
    package static let heartbeatCommitNotCapped = CoreFaults(rawValue: 1 << 7)
    package static let olderTermsTaken = CoreFaults(rawValue: 1 << 8)
    package static let ackOfOwnLastIndex = CoreFaults(rawValue: 1 << 9)
    package static let lostQuorumIgnored = CoreFaults(rawValue: 1 << 10)
    package static let leaseIgnoredByVoters = CoreFaults(rawValue: 1 << 11)
    package static let droppedProposalsForgotten = CoreFaults(rawValue: 1 << 12)
}
