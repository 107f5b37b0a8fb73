package import Primitives
package import Storage
internal import Synchronization

/// The durable logs and hard states of all groups of a node, in its key-value store.
///
/// Every write of any number of groups is one atomic batch and one sync. Entries carry checksums, and the base and an
/// end of each log are kept beside its hard state: a hole, a changed byte or a lost tail is reported and never skipped.
/// Calls block; they are safe from any thread, but the writes of a group must come from one.
package final class RaftLogStore: RaftLogStorage {
    /// What is to be written for one group, done in the order of the fields.
    package struct Write: Sendable {
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

    /// What is known of a group between two writes.
    private struct Known: Sendable {
        /// As it is in the store, nil when nothing is.
        var stored: StoredState?
        /// The term of the last entry, nil when it must not be relied on.
        var lastTerm: Term?
    }

    let store: any KeyValueStore
    private let known = Mutex<[GroupID: Known]>([:])

    package init(_ store: any KeyValueStore) { self.store = store }

    /// Writes and syncs; returns when all of it survives a power failure.
    ///
    /// - Throws: ``ConsensusError`` `.store`: what is on disk is unknown, the node must stop.
    package func write(_ writes: [Write]) throws(ConsensusError) {
        var batch = WriteBatch()
        for write in writes {
            var known = try self.known(of: write.group)
            Self.add(write, known: &known, to: &batch)
            self.known.withLock { $0[write.group] = known }
        }
        do throws(StorageError) {
            try self.store.write(batch)
            try self.store.sync()
        } catch {
            throw ConsensusError(code: .store, message: "the log could not be made durable", cause: error)
        }
    }

    private func known(of group: GroupID) throws(ConsensusError) -> Known {
        if let known = self.known.withLock({ $0[group] }) { return known }
        return Known(stored: try self.state(of: group), lastTerm: nil)
    }

    /// The state of a group as it is in the store.
    func state(of group: GroupID) throws(ConsensusError) -> StoredState? {
        let stored: [UInt8]?
        do throws(StorageError) {
            stored = try self.store.get(RaftLogCoding.stateKey(group), in: .raftState)
        } catch {
            throw ConsensusError(code: .store, message: "hard state could not be read", group: group, cause: error)
        }
        guard let stored else { return nil }
        return try RaftLogCoding.decodeState(stored, group: group)
    }

    private static func add(_ write: Write, known: inout Known, to batch: inout WriteBatch) {
        var state = known.stored ?? StoredState()
        let isLogCut = Self.cut(write, state: &state, lastTerm: &known.lastTerm, in: &batch)
        for entry in write.entries {
            if known.lastTerm.map({ entry.term > $0 }) ?? true {
                let key = RaftLogCoding.runKey(write.group, entry.index)
                batch.put(.raftState, key: key, value: RaftLogCoding.encodeRun(entry.term, key: key))
                known.lastTerm = entry.term
            }
            let value = RaftLogCoding.encode(entry, commit: write.commit, group: write.group)
            batch.put(.raftLog, key: RaftLogCoding.entryKey(write.group, entry.index), value: value)
        }
        precondition(write.entries.last.map { $0.index == write.last } ?? true, "the log ends with its last entry")
        // The end of the log and the commit index travel in the entries themselves.
        guard known.stored == nil || isLogCut || write.entries.isEmpty || state.hardState != write.hardState else {
            return
        }
        state.hardState = write.hardState
        state.commit = write.removedAt == nil ? write.commit : .zero
        state.last = write.last
        state.lastTerm = write.lastTerm
        let value = RaftLogCoding.encode(state, group: write.group)
        batch.put(.raftState, key: RaftLogCoding.stateKey(write.group), value: value)
        known.stored = state
    }

    /// Adds the deletions of a write.
    /// - Returns: Whether there are any.
    private static func cut(
        _ write: Write,
        state: inout StoredState,
        lastTerm: inout Term?,
        in batch: inout WriteBatch
    ) -> Bool {
        let group = write.group
        var isCut = state.isRemoved
        if state.isRemoved {
            state.isRemoved = false
            state.base = .zero
        }
        if let removedAt = write.removedAt {
            precondition(write.entries.isEmpty && write.last == .zero, "a removed replica has no log")
            Self.remove(group, from: .zero, in: &batch)
            state.base = write.committed
            state.isRemoved = true
            state.removedAt = removedAt
            lastTerm = .zero
            isCut = true
        }
        if let base = write.resetTo {
            Self.remove(group, from: .zero, in: &batch)
            state.base = base
            lastTerm = base.term
            isCut = true
        }
        if let base = write.compactThrough, base.index > state.base.index {
            precondition(base.index <= write.last, "no more is compacted than there is")
            let lower = RaftLogCoding.entryKey(group, state.base.index)
            batch.deleteRange(.raftLog, lower: lower, upper: RaftLogCoding.entryKey(group, base.index.next))
            let lowerRun = RaftLogCoding.runKey(group, .zero)
            batch.deleteRange(.raftState, lower: lowerRun, upper: RaftLogCoding.runKey(group, base.index.next))
            state.base = base
            isCut = true
        }
        if let from = write.truncateFrom {
            precondition(from > state.base.index, "what was compacted cannot be truncated")
            Self.remove(group, from: from, in: &batch)
            lastTerm = nil
            isCut = true
        }
        return isCut
    }

    /// Removes the entries at `from` and after it.
    private static func remove(_ group: GroupID, from: LogIndex, in batch: inout WriteBatch) {
        let end = LogIndex(UInt64.max)
        let lower = RaftLogCoding.entryKey(group, from)
        batch.deleteRange(.raftLog, lower: lower, upper: RaftLogCoding.entryKey(group, end))
        let lowerRun = RaftLogCoding.runKey(group, from)
        batch.deleteRange(.raftState, lower: lowerRun, upper: RaftLogCoding.runKey(group, end))
    }

    /// Remembers what `load` found.
    func remember(_ group: GroupID, stored: StoredState?, lastTerm: Term) {
        self.known.withLock { $0[group] = Known(stored: stored, lastTerm: lastTerm) }
    }
}
