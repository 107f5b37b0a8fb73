package import Primitives
package import Storage

/// The durable logs and hard states of all groups of a node, in its key-value store.
///
/// Every write of any number of groups is one atomic batch and one sync. Entries carry checksums, and the end of each
/// log is kept beside its hard state: a hole, a changed byte or a lost tail is reported and never skipped. Calls block;
/// they are safe from any thread, but the writes of a group must come from one.
package final class RaftLogStore: Sendable {
    /// What is to be written for one group, in the order of the fields.
    package struct Write: Sendable {
        package var group: GroupID
        package var hardState: HardState
        package var commit: LogIndex
        package var truncateFrom: LogIndex?
        package var entries: [LogEntry]
        /// The end of the log after this write.
        package var last: LogIndex
        package var lastTerm: Term

        package init(
            group: GroupID,
            hardState: HardState,
            commit: LogIndex,
            truncateFrom: LogIndex?,
            entries: [LogEntry],
            last: LogIndex,
            lastTerm: Term
        ) {
            self.group = group
            self.hardState = hardState
            self.commit = commit
            self.truncateFrom = truncateFrom
            self.entries = entries
            self.last = last
            self.lastTerm = lastTerm
        }
    }

    /// What a group had when it was written last.
    package struct Restored: Sendable, Hashable {
        package var hardState: HardState
        package var terms: TermRuns
        /// True when written; the group may have committed more.
        package var commit: LogIndex
    }

    private let store: any KeyValueStore

    package init(_ store: any KeyValueStore) { self.store = store }

    /// Writes and syncs; returns when all of it survives a power failure.
    ///
    /// - Throws: ``ConsensusError`` `.store`: what is on disk is unknown, the node must stop.
    package func write(_ writes: [Write]) throws(ConsensusError) {
        var batch = WriteBatch()
        for write in writes { Self.add(write, to: &batch) }
        do throws(StorageError) {
            try self.store.write(batch)
            try self.store.sync()
        } catch {
            throw ConsensusError(code: .store, message: "the log could not be made durable", cause: error)
        }
    }

    private static func add(_ write: Write, to batch: inout WriteBatch) {
        if let from = write.truncateFrom {
            precondition(from > .zero, "the first entry has index 1")
            let end = LogIndex(UInt64.max)
            let lower = RaftLogCoding.entryKey(write.group, from)
            batch.deleteRange(.raftLog, lower: lower, upper: RaftLogCoding.entryKey(write.group, end))
        }
        for entry in write.entries {
            let key = RaftLogCoding.entryKey(write.group, entry.index)
            batch.put(.raftLog, key: key, value: RaftLogCoding.encode(entry, group: write.group))
        }
        let state = StoredState(
            hardState: write.hardState,
            commit: write.commit,
            last: write.last,
            lastTerm: write.lastTerm
        )
        let value = RaftLogCoding.encode(state, group: write.group)
        batch.put(.raftState, key: RaftLogCoding.stateKey(write.group), value: value)
    }

    /// Reads a group's hard state and checks its whole log.
    ///
    /// - Returns: An empty log in term zero for a group that was never written.
    /// - Throws: ``ConsensusError`` `.hole`, `.corruption`, `.logLost`, `.incompatible` or `.store`; it names the group
    ///   and the first bad index.
    /// - Complexity: O(log).
    package func load(_ group: GroupID) throws(ConsensusError) -> Restored {
        let stored: [UInt8]?
        do throws(StorageError) {
            stored = try self.store.get(RaftLogCoding.stateKey(group), in: .raftState)
        } catch {
            throw ConsensusError(code: .store, message: "hard state could not be read", group: group, cause: error)
        }
        var terms = TermRuns()
        try self.scan(group, from: LogIndex(1)) { (entry) throws(ConsensusError) in
            guard entry.index == terms.last.next else {
                throw ConsensusError(code: .hole, message: "entry is missing", group: group, index: terms.last.next)
            }
            guard entry.term >= terms.lastTerm else {
                throw ConsensusError(code: .corruption, message: "terms go back", group: group, index: entry.index)
            }
            terms.append(entry.term)
            return true
        }
        guard let stored else {
            guard terms.last == .zero else {
                throw ConsensusError(
                    code: .corruption,
                    message: "a log without hard state",
                    group: group,
                    index: terms.last
                )
            }
            return Restored(hardState: HardState(), terms: terms, commit: .zero)
        }
        let state = try RaftLogCoding.decodeState(stored, group: group)
        guard terms.last == state.last, terms.lastTerm == state.lastTerm else {
            throw ConsensusError(
                code: .logLost,
                message: "the log ends at \(terms.last), was written up to \(state.last)",
                group: group,
                index: min(terms.last, state.last).next
            )
        }
        guard state.hardState.term >= terms.lastTerm, state.commit <= terms.last else {
            throw ConsensusError(code: .corruption, message: "hard state contradicts the log", group: group)
        }
        return Restored(hardState: state.hardState, terms: terms, commit: state.commit)
    }

    /// - Returns: A reader of the entries of `group`.
    package func reader(of group: GroupID) -> some LogReader { StoredLogReader(store: self, group: group) }

    /// Visits the checked entries of a group from `first` on until `body` returns false.
    fileprivate func scan(
        _ group: GroupID,
        from first: LogIndex,
        _ body: (LogEntry) throws(ConsensusError) -> Bool
    ) throws(ConsensusError) {
        var failure: ConsensusError?
        do throws(StorageError) {
            let upper = keyAfter(prefix: RaftLogCoding.stateKey(group))
            try self.store.scan(.raftLog, from: RaftLogCoding.entryKey(group, first), to: upper) { key, value in
                do throws(ConsensusError) {
                    guard let index = RaftLogCoding.index(ofKey: key, group: group) else {
                        throw ConsensusError(code: .corruption, message: "a key is malformed", group: group)
                    }
                    guard let entry = RaftLogCoding.decodeEntry(value, group: group, index: index) else {
                        let message = "entry fails its checksum"
                        throw ConsensusError(code: .corruption, message: message, group: group, index: index)
                    }
                    return try body(entry)
                } catch {
                    failure = error
                    return false
                }
            }
        } catch {
            throw ConsensusError(code: .store, message: "the log could not be read", group: group, cause: error)
        }
        if let failure { throw failure }
    }
}

private struct StoredLogReader: LogReader {
    let store: RaftLogStore
    let group: GroupID

    func entries(
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        var entries: [LogEntry] = []
        var bytes = 0
        var next = first
        try self.store.scan(self.group, from: first) { (entry) throws(ConsensusError) in
            guard entry.index == next else {
                throw ConsensusError(code: .hole, message: "entry is missing", group: self.group, index: next)
            }
            bytes += entry.payload.count
            if !entries.isEmpty, bytes > bytesMax { return false }
            entries.append(entry)
            next = next.next
            return next <= last
        }
        guard !entries.isEmpty else {
            throw ConsensusError(code: .hole, message: "entry is missing", group: self.group, index: first)
        }
        return entries
    }
}
