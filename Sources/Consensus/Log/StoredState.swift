internal import Primitives

/// What is kept of a group beside the entries of its log: written whenever more than the end of the log has changed.
struct StoredState: Sendable, Hashable {
    var hardState = HardState()
    /// Later commits are in the entries written since.
    var commit: LogIndex = .zero
    /// Where the log begins: its first entry is the next one. Of a removed replica: what it knew to be committed.
    var base = LogMark.zero
    /// The end of the log when this was written; it has only grown since.
    var last: LogIndex = .zero
    var lastTerm: Term = .zero
    /// The replica is not here any more; `removedAt` says since when.
    var isRemoved = false
    /// The entry that removed the replica the last time, zero if none did.
    var removedAt: LogIndex = .zero
}
