package import Primitives

/// What a group had when it was written last.
package struct RestoredLog: Sendable, Hashable {
    package var hardState: HardState
    /// The log, which begins after `terms.base`.
    package var terms: TermRuns
    /// True when written; the group may have committed more.
    package var commit: LogIndex
    /// The entry that removed the replica the last time, zero if none did.
    package var removedAt: LogIndex
    /// The replica was removed and has not come back.
    package var isRemoved: Bool

    package init(
        hardState: HardState,
        terms: TermRuns,
        commit: LogIndex,
        removedAt: LogIndex = .zero,
        isRemoved: Bool = false
    ) {
        self.hardState = hardState
        self.terms = terms
        self.commit = commit
        self.removedAt = removedAt
        self.isRemoved = isRemoved
    }
}

/// What is left of a replica that was removed.
package struct LogTombstone: Sendable, Hashable {
    package var group: GroupID
    package var hardState: HardState
    /// The entry that removed the replica.
    package var removedAt: LogIndex
    /// The last entry that the replica knew to be committed.
    package var committed: LogMark

    package init(group: GroupID, hardState: HardState, removedAt: LogIndex, committed: LogMark = .zero) {
        self.group = group
        self.hardState = hardState
        self.removedAt = removedAt
        self.committed = committed
    }
}
