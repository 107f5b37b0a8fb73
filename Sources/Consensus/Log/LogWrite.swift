package import Primitives

/// What is to be written for one group, done in the order of the fields.
package struct LogWrite: Sendable {
    package var group: GroupID
    package var hardState: HardState
    package var commit: LogIndex
    /// The replica was removed by the entry at this index: its log goes, its hard state and this index stay.
    package var removedAt: LogIndex?
    /// With `removedAt`: the last entry that the replica knew to be committed.
    package var committed = LogMark.zero
    /// The log becomes empty and begins after this place (an installed snapshot).
    package var resetTo: LogMark?
    /// The entries up to this place are forgotten; the log begins after it.
    package var compactThrough: LogMark?
    package var truncateFrom: LogIndex?
    package var entries: [LogEntry]
    /// The end of the log after this write.
    package var last: LogIndex
    package var lastTerm: Term

    package init(
        group: GroupID,
        hardState: HardState,
        commit: LogIndex,
        removedAt: LogIndex? = nil,
        resetTo: LogMark? = nil,
        compactThrough: LogMark? = nil,
        truncateFrom: LogIndex? = nil,
        entries: [LogEntry] = [],
        last: LogIndex,
        lastTerm: Term
    ) {
        self.group = group
        self.hardState = hardState
        self.commit = commit
        self.removedAt = removedAt
        self.resetTo = resetTo
        self.compactThrough = compactThrough
        self.truncateFrom = truncateFrom
        self.entries = entries
        self.last = last
        self.lastTerm = lastTerm
    }

    /// What is left of a replica that the entry at `removedAt` removed; a later write of the group replaces it.
    package init(
        tombstone group: GroupID,
        hardState: HardState,
        removedAt: LogIndex,
        committed: LogMark = .zero
    ) {
        self.init(
            group: group,
            hardState: hardState,
            commit: .zero,
            removedAt: removedAt,
            last: .zero,
            lastTerm: .zero
        )
        self.committed = committed
    }
}
