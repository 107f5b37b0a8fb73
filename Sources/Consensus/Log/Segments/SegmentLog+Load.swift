package import Primitives
internal import Storage
internal import Synchronization

extension SegmentLog {
    package func load(_ group: GroupID) throws(ConsensusError) -> RestoredLog {
        guard let log = self.state.withLock({ $0.groups[group] }) else {
            return RestoredLog(hardState: HardState(), terms: TermRuns(), commit: .zero)
        }
        let first = max(log.terms.base.next, log.state.commit)
        if first <= log.terms.last { try self.check(group, from: first, through: log.terms.last) }
        return RestoredLog(
            hardState: log.state.hardState,
            terms: log.terms,
            commit: log.state.commit,
            removedAt: log.state.removedAt,
            isRemoved: log.state.isRemoved
        )
    }

    package func groups() throws(ConsensusError) -> [GroupID] {
        self.state.withLock { state in state.groups.filter { !$0.value.state.isRemoved }.keys.sorted() }
    }

    package func tombstones() throws(ConsensusError) -> [LogTombstone] {
        self.state.withLock { state in
            state.groups.filter(\.value.state.isRemoved)
                .map { (group, log) in
                    LogTombstone(
                        group: group,
                        hardState: log.state.hardState,
                        removedAt: log.state.removedAt,
                        committed: log.state.base
                    )
                }
                .sorted { $0.group < $1.group }
        }
    }

    package func verify(_ group: GroupID) throws(ConsensusError) -> Int {
        guard let terms = self.state.withLock({ $0.groups[group]?.terms }), terms.last > terms.base else { return 0 }
        try self.check(group, from: terms.base.next, through: terms.last)
        return Int(terms.last.rawValue - terms.base.rawValue)
    }

    private func check(_ group: GroupID, from first: LogIndex, through last: LogIndex) throws(ConsensusError) {
        var next = first
        while next <= last {
            let entries = try self.entries(of: group, from: next, through: last, bytesMax: SegmentLogReader.runBytesMax)
            next = LogIndex(next.rawValue + UInt64(entries.count))
        }
    }

    package func reader(of group: GroupID) -> any LogReader { SegmentLogReader(log: self, group: group) }

    /// An entry and where it lies.
    private struct Found {
        let index: LogIndex
        let term: Term
        let place: EntryPlace
        let file: any LogFile
    }

    /// Consecutive entries; at least one, then as many as fit in `bytesMax`.
    func entries(
        of group: GroupID,
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        // An entry that moves while it is read is looked up again; it moves once in the life of a segment.
        for _ in 0..<SegmentLogReader.attemptsMax {
            let found = try self.find(group, from: first, through: last, bytesMax: bytesMax)
            if let entries = try self.read(found, of: group) { return entries }
        }
        throw ConsensusError(code: .store, message: "entries moved while they were read", group: group, index: first)
    }

    private func find(
        _ group: GroupID,
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [Found] {
        let found: [Found]? = self.state.withLock { state in
            if state.segments.isEmpty { return nil }
            guard let log = state.groups[group] else { return [] }
            var found: [Found] = []
            var bytes = 0
            var index = first
            while index <= last, let place = log.place(of: index), let term = log.terms.term(at: index),
                let file = state.segments[place.segment]?.file
            {
                bytes += Int(place.payloadBytes)
                if !found.isEmpty, bytes > bytesMax { break }
                found.append(Found(index: index, term: term, place: place, file: file))
                index = index.next
            }
            return found
        }
        guard let found else { throw ConsensusError(code: .store, message: "the log was closed", group: group) }
        guard !found.isEmpty else {
            throw ConsensusError(code: .hole, message: "entry is missing", group: group, index: first)
        }
        return found
    }

    /// - Returns: nil when an entry has moved meanwhile.
    private func read(_ found: [Found], of group: GroupID) throws(ConsensusError) -> [LogEntry]? {
        var entries: [LogEntry] = []
        entries.reserveCapacity(found.count)
        var start = 0
        while start < found.count {
            // Payloads that lie one after the other are read at once.
            let origin = found[start].place
            var end = start
            var bytes = 0
            while end < found.count, found[end].place.segment == origin.segment,
                Int(found[end].place.offset) == Int(origin.offset) + bytes,
                end == start || bytes < SegmentLogReader.runBytesMax
            {
                bytes += Int(found[end].place.payloadBytes)
                end += 1
            }
            let run: [UInt8]
            do throws(StorageError) {
                run = try found[start].file.read(at: Int(origin.offset), count: bytes)
            } catch {
                throw ConsensusError(code: .store, message: "the log could not be read", group: group, cause: error)
            }
            for item in found[start..<end] {
                let from = Int(item.place.offset - origin.offset)
                let payload = Array(run[min(from, run.count)..<min(from + Int(item.place.payloadBytes), run.count)])
                let kind = LogEntry.Kind(rawValue: item.place.kind)
                let sum = SegmentCoding.checksum(group, item.index, item.term, item.place.kind, payload)
                guard sum == item.place.checksum, let kind else {
                    let now = self.state.withLock { $0.groups[group]?.place(of: item.index) }
                    if now != item.place { return nil }
                    let message = "entry fails its checksum"
                    throw ConsensusError(code: .corruption, message: message, group: group, index: item.index)
                }
                entries.append(LogEntry(index: item.index, term: item.term, kind: kind, payload: payload))
            }
            start = end
        }
        return entries
    }
}

private struct SegmentLogReader: LogReader {
    /// Bytes that are read at once.
    static let runBytesMax = 1 << 20
    static let attemptsMax = 4

    let log: SegmentLog
    let group: GroupID

    func entries(
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        try self.log.entries(of: self.group, from: first, through: last, bytesMax: bytesMax)
    }
}
