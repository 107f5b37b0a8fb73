/// Deliberate mistakes, for tests that show that the tests would find them; empty everywhere else.
package struct CoreFaults: OptionSet, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    package static let voteClearedOnRoleChange = CoreFaults(rawValue: 1 << 0)
    package static let olderTermCommitted = CoreFaults(rawValue: 1 << 1)
    package static let rejectionCountsAsAck = CoreFaults(rawValue: 1 << 2)
    package static let staleAppendCutsTail = CoreFaults(rawValue: 1 << 3)
    package static let jointVoteByOneHalf = CoreFaults(rawValue: 1 << 4)
    package static let jointCommitByOneHalf = CoreFaults(rawValue: 1 << 5)
    package static let readBeforeOwnTermCommit = CoreFaults(rawValue: 1 << 6)
    package static let readConfirmedByOneAck = CoreFaults(rawValue: 1 << 7)
    package static let indexComparedBeforeTerm = CoreFaults(rawValue: 1 << 8)
    /// The transfer is still under way when its leader leads again, and nothing is accepted.
    package static let transferKeptOverStepDown = CoreFaults(rawValue: 1 << 9)
    package static let transferWithoutEnd = CoreFaults(rawValue: 1 << 10)
    package static let ackBeforeDisk = CoreFaults(rawValue: 1 << 11)
    package static let voteBeforeDisk = CoreFaults(rawValue: 1 << 12)
    package static let voteForgottenAtRestart = CoreFaults(rawValue: 1 << 13)
    package static let campaignWithUnappliedMembership = CoreFaults(rawValue: 1 << 14)
    package static let overlappingMembershipChanges = CoreFaults(rawValue: 1 << 15)
    package static let lostQuorumIgnored = CoreFaults(rawValue: 1 << 16)
    package static let leaseIgnoredByVoters = CoreFaults(rawValue: 1 << 17)
    package static let heartbeatCommitNotCapped = CoreFaults(rawValue: 1 << 18)
    package static let olderAcksTaken = CoreFaults(rawValue: 1 << 19)
    package static let olderAppendsTaken = CoreFaults(rawValue: 1 << 20)

    // Further ones.

    package static let ownAckBeforeDisk = CoreFaults(rawValue: 1 << 32)
    package static let ackOfOwnLastIndex = CoreFaults(rawValue: 1 << 33)
    package static let droppedProposalsForgotten = CoreFaults(rawValue: 1 << 34)
    /// Answers of a replica's earlier life in the group count (removed and added again within a term).
    package static let earlierSessionsTaken = CoreFaults(rawValue: 1 << 35)
    /// A snapshot does not replace a membership of a later index that was not committed.
    package static let snapshotKeepsMembership = CoreFaults(rawValue: 1 << 36)
    /// Reads that wait are not answered when leadership is lost.
    package static let droppedReadsForgotten = CoreFaults(rawValue: 1 << 37)
    /// A leader sleeps although something is left to do.
    package static let sleepsWithWork = CoreFaults(rawValue: 1 << 38)

    /// A replica that was removed and added again votes in its former life's stead.
    package static let votesForFormerLife = CoreFaults(rawValue: 1 << 39)

    /// The 21 mistakes that a simulator must find, by name.
    package static let all: [(name: String, fault: CoreFaults)] = [
        ("vote-cleared-on-role-change", .voteClearedOnRoleChange),
        ("older-term-committed", .olderTermCommitted),
        ("rejection-counts-as-ack", .rejectionCountsAsAck),
        ("stale-append-cuts-tail", .staleAppendCutsTail),
        ("joint-vote-by-one-half", .jointVoteByOneHalf),
        ("joint-commit-by-one-half", .jointCommitByOneHalf),
        ("read-before-own-term-commit", .readBeforeOwnTermCommit),
        ("read-confirmed-by-one-ack", .readConfirmedByOneAck),
        ("index-compared-before-term", .indexComparedBeforeTerm),
        ("transfer-kept-over-step-down", .transferKeptOverStepDown),
        ("transfer-without-end", .transferWithoutEnd),
        ("ack-before-disk", .ackBeforeDisk),
        ("vote-before-disk", .voteBeforeDisk),
        ("vote-forgotten-at-restart", .voteForgottenAtRestart),
        ("campaign-with-unapplied-membership", .campaignWithUnappliedMembership),
        ("overlapping-membership-changes", .overlappingMembershipChanges),
        ("lost-quorum-ignored", .lostQuorumIgnored),
        ("lease-ignored-by-voters", .leaseIgnoredByVoters),
        ("heartbeat-commit-not-capped", .heartbeatCommitNotCapped),
        ("older-acks-taken", .olderAcksTaken),
        ("older-appends-taken", .olderAppendsTaken),
    ]

    /// Mistakes besides the 21.
    package static let further: [(name: String, fault: CoreFaults)] = [
        ("own-ack-before-disk", .ownAckBeforeDisk),
        ("ack-of-own-last-index", .ackOfOwnLastIndex),
        ("dropped-proposals-forgotten", .droppedProposalsForgotten),
        ("earlier-sessions-taken", .earlierSessionsTaken),
        ("snapshot-keeps-membership", .snapshotKeepsMembership),
        ("dropped-reads-forgotten", .droppedReadsForgotten),
        ("sleeps-with-work", .sleepsWithWork),
        ("votes-for-former-life", .votesForFormerLife),
    ]
}
