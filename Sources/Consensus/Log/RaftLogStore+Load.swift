package import Primitives
internal import Storage

extension RaftLogStore {
    /// What a group had when it was written last.
    package struct Restored: Sendable, Hashable {
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
    package struct Tombstone: Sendable, Hashable {
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

    /// The groups with a replica on the disk, ascending; their logs are not read.
    /// - Throws: ``ConsensusError`` `.corruption`, `.incompatible` or `.store`.
    package func groups() throws(ConsensusError) -> [GroupID] {
        try self.states().filter { !$0.state.isRemoved }.map(\.group)
    }

    /// The groups whose replica was removed and has not come back, ascending.
    /// - Throws: As ``groups()``.
    package func tombstones() throws(ConsensusError) -> [Tombstone] {
        try self.states().filter(\.state.isRemoved).map {
            Tombstone(
                group: $0.group,
                hardState: $0.state.hardState,
                removedAt: $0.state.removedAt,
                committed: $0.state.base
            )
        }
    }

    private func states() throws(ConsensusError) -> [(group: GroupID, state: StoredState)] {
        var states: [(group: GroupID, state: StoredState)] = []
        var failure: ConsensusError?
        do throws(StorageError) {
            try self.store.scan(.raftState, from: [], to: nil) { key, value in
                guard let group = RaftLogCoding.group(ofStateKey: key) else { return true }
                do throws(ConsensusError) {
                    states.append((group, try RaftLogCoding.decodeState(value, group: group)))
                    return true
                } catch {
                    failure = error
                    return false
                }
            }
        } catch {
            throw ConsensusError(code: .store, message: "the groups could not be listed", cause: error)
        }
        if let failure { throw failure }
        return states
    }

    /// Reads a group's hard state and the shape of its log, and checks the log's two ends and all entries from the last
    /// known commit on; the entries before that are checked when they are read, or by ``verify(_:)``.
    ///
    /// - Returns: An empty log in term zero for a group that was never written.
    /// - Throws: ``ConsensusError`` `.hole`, `.corruption`, `.logLost`, `.incompatible` or `.store`; it names the group
    ///   and the first bad index.
    /// - Complexity: O(entries after the last known commit) reads.
    package func load(_ group: GroupID) throws(ConsensusError) -> Restored {
        let stored = try self.state(of: group)
        let end = try self.lastEntry(of: group)
        guard let state = stored else {
            guard end == nil else {
                throw Self.damaged("a log without hard state", group, end?.entry.index)
            }
            self.remember(group, stored: nil, lastTerm: .zero)
            return Restored(hardState: HardState(), terms: TermRuns(), commit: .zero)
        }
        if state.isRemoved, end == nil {
            self.remember(group, stored: state, lastTerm: .zero)
            return Restored(
                hardState: state.hardState,
                terms: TermRuns(),
                commit: .zero,
                removedAt: state.removedAt,
                isRemoved: true
            )
        }
        let last = end?.entry.index ?? state.base.index
        guard last >= state.last else {
            throw ConsensusError(
                code: .logLost,
                message: "the log ends at \(last), was written up to \(state.last)",
                group: group,
                index: last.next
            )
        }
        guard end == nil || last > state.base.index else {
            throw Self.damaged("an entry before the base \(state.base.index)", group, last)
        }
        let terms = try self.terms(of: group, base: state.base, last: last)
        let commit = max(state.commit, end?.commit ?? .zero)
        guard commit <= last, commit >= state.base.index, !state.isRemoved,
            end == nil || state.hardState.term >= terms.lastTerm
        else { throw Self.damaged("hard state contradicts the log", group, nil) }
        if last > state.base.index {
            let first = state.base.index.next
            try self.check(group, terms, from: first, through: first)
            try self.check(group, terms, from: max(first, commit), through: last)
        }
        self.remember(group, stored: state, lastTerm: terms.lastTerm)
        return Restored(
            hardState: state.hardState,
            terms: terms,
            commit: commit,
            removedAt: state.removedAt,
            isRemoved: state.isRemoved
        )
    }

    /// Reads and checks the whole log of a group.
    /// - Returns: The number of its entries.
    /// - Throws: As ``load(_:)``.
    /// - Complexity: O(log) reads.
    package func verify(_ group: GroupID) throws(ConsensusError) -> Int {
        let restored = try self.load(group)
        let base = restored.terms.base
        let last = restored.terms.last
        if last > base { try self.check(group, restored.terms, from: base.next, through: last) }
        return Int(last.rawValue - base.rawValue)
    }

    private static func damaged(_ message: String, _ group: GroupID, _ index: LogIndex?) -> ConsensusError {
        ConsensusError(code: .corruption, message: message, group: group, index: index)
    }

    /// Checks that all entries of the range are there, whole, and of the terms that they should have.
    private func check(
        _ group: GroupID,
        _ terms: TermRuns,
        from first: LogIndex,
        through last: LogIndex
    ) throws(ConsensusError) {
        var next = first
        try self.visit(group, from: first) { (entry, _) throws(ConsensusError) in
            guard entry.index == next else {
                throw ConsensusError(code: .hole, message: "entry is missing", group: group, index: next)
            }
            guard terms.term(at: next) == entry.term else {
                throw Self.damaged("entry has another term than its run", group, next)
            }
            next = next.next
            return next <= last
        }
        guard next > last else {
            throw ConsensusError(code: .hole, message: "entry is missing", group: group, index: next)
        }
    }

    private func terms(
        of group: GroupID,
        base: LogMark,
        last: LogIndex
    ) throws(ConsensusError) -> TermRuns {
        var runs: [(first: LogIndex, term: Term)] = []
        var isDamaged = false
        do throws(StorageError) {
            let upper = RaftLogCoding.runKey(group, LogIndex(UInt64.max))
            try self.store.scan(.raftState, from: RaftLogCoding.runKey(group, .zero), to: upper) { key, value in
                guard let run = RaftLogCoding.decodeRun(value, key: key, group: group) else {
                    isDamaged = true
                    return false
                }
                runs.append(run)
                return true
            }
        } catch {
            throw ConsensusError(code: .store, message: "terms could not be read", group: group, cause: error)
        }
        if isDamaged { throw Self.damaged("the terms of the log fail their checksum", group, nil) }
        var terms = TermRuns(base: base.index, term: base.term)
        for (place, run) in runs.enumerated() {
            let past = place + 1 < runs.count ? runs[place + 1].first : last.next
            guard run.first > terms.last, run.first < past, run.term >= terms.lastTerm else {
                throw Self.damaged("the terms of the log contradict it", group, run.first)
            }
            while terms.last.next < run.first { terms.append(terms.lastTerm) }
            while terms.last.next < past { terms.append(run.term) }
        }
        while terms.last < last { terms.append(terms.lastTerm) }
        return terms
    }

    private func lastEntry(of group: GroupID) throws(ConsensusError) -> (entry: LogEntry, commit: LogIndex)? {
        var last: (entry: LogEntry, commit: LogIndex)?
        try self.visit(group, from: .zero, direction: .descending) { (entry, commit) throws(ConsensusError) in
            last = (entry, commit)
            return false
        }
        return last
    }

    /// - Returns: A reader of the entries of `group`.
    package func reader(of group: GroupID) -> any LogReader { StoredLogReader(store: self, group: group) }

    /// Does nothing: the key-value store is its owner's.
    package func close() {}

    /// Visits the checked entries of a group from `first` on until `body` returns false.
    fileprivate func visit(
        _ group: GroupID,
        from first: LogIndex,
        direction: ScanDirection = .ascending,
        _ body: (LogEntry, _ commit: LogIndex) throws(ConsensusError) -> Bool
    ) throws(ConsensusError) {
        var failure: ConsensusError?
        do throws(StorageError) {
            let lower = RaftLogCoding.entryKey(group, first)
            let upper = keyAfter(prefix: RaftLogCoding.stateKey(group))
            try self.store.scan(.raftLog, from: lower, to: upper, direction: direction) { key, value in
                do throws(ConsensusError) {
                    guard let index = RaftLogCoding.index(ofKey: key, group: group) else {
                        throw Self.damaged("a key is malformed", group, nil)
                    }
                    guard let found = RaftLogCoding.decodeEntry(value, group: group, index: index) else {
                        throw Self.damaged("entry fails its checksum", group, index)
                    }
                    return try body(found.entry, found.commit)
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
        try self.store.visit(self.group, from: first) { (entry, _) throws(ConsensusError) in
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
