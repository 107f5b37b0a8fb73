package import Primitives

/// Reads entries of one group that are durable and no longer in memory.
package protocol LogReader: Sendable {
    /// Reads consecutive entries; at least one, then as many as fit in `bytesMax`. Blocks.
    /// - Throws: ``ConsensusError`` `.hole`, `.corruption` or `.store`.
    func entries(from first: LogIndex, through last: LogIndex, bytesMax: Int) throws(ConsensusError) -> [LogEntry]
}

/// A group's log as its core sees it: recent entries in memory, older ones behind a ``LogReader``.
///
/// Invariants: memory holds a suffix of the log; what left memory is durable and committed; `base ≤ persisted ≤ handed
/// ≤ last` where `handed` counts what was given out to be written.
struct RaftLog: Sendable {
    /// What a ticket covers.
    private struct Outstanding: Sendable {
        let number: UInt64
        /// The last index, lowered when a part is replaced before it is durable.
        var index: LogIndex
        var isWhole = true
    }

    private(set) var terms: TermRuns
    private let reader: any LogReader
    private let recentBytesMax: Int

    /// Entries of the suffix; the first `head` places are used up.
    private var recent: [LogEntry] = []
    private var head = 0
    private var recentBytes = 0

    private(set) var persisted: LogIndex
    private(set) var handed: LogIndex
    /// The smallest index that must be removed from the store before new entries are written.
    private var truncatedFrom: LogIndex?
    /// The mark that the stored log must be replaced by before new entries are written.
    private var pendingReset: SnapshotMark?
    private var outstanding = Fifo<Outstanding>()

    /// Used places at the front of `recent` before they are cut off.
    private static let unusedMax = 256

    init(terms: TermRuns, reader: any LogReader, recentBytesMax: Int) {
        self.terms = terms
        self.reader = reader
        self.recentBytesMax = recentBytesMax
        self.persisted = terms.last
        self.handed = terms.last
    }

    var base: LogIndex { self.terms.base }
    var last: LogIndex { self.terms.last }
    var lastTerm: Term { self.terms.lastTerm }
    var hasUnhanded: Bool { self.handed < self.last || self.truncatedFrom != nil || self.pendingReset != nil }
    var hasOutstanding: Bool { !self.outstanding.isEmpty }

    func term(at index: LogIndex) -> Term? { self.terms.term(at: index) }

    /// The first index in memory; one after the last when memory is empty.
    private var recentFirst: LogIndex { LogIndex(self.last.rawValue + 1 - UInt64(self.recent.count - self.head)) }

    mutating func append(_ entry: LogEntry) {
        precondition(entry.index == self.last.next, "entries are appended without a gap")
        self.terms.append(entry.term)
        self.recent.append(entry)
        self.recentBytes += entry.costBytes
    }

    /// Removes the entries at `index` and after it, of which none may be committed.
    mutating func truncate(from index: LogIndex, commit: LogIndex) {
        precondition(index > commit, "a committed entry is never removed")
        let first = self.recentFirst
        // After a restart entries that are not committed may lie in the store only.
        let keep = index > first ? self.head + Int(index.rawValue - first.rawValue) : self.head
        while self.recent.count > keep {
            let removed = self.recent.removeLast()
            self.recentBytes -= removed.costBytes
        }
        self.terms.truncate(from: index)
        let before = LogIndex(index.rawValue - 1)
        if self.handed > before {
            self.truncatedFrom = min(self.truncatedFrom ?? index, index)
            self.handed = before
        }
        self.lower(to: before)
    }

    /// Replaces the whole log by an empty one after `mark`, whose state the state machine holds durably.
    mutating func reset(to mark: SnapshotMark) {
        self.terms = TermRuns(base: mark.index, term: mark.term)
        self.recent.removeAll()
        self.head = 0
        self.recentBytes = 0
        self.truncatedFrom = nil
        self.pendingReset = mark
        self.persisted = mark.index
        self.handed = mark.index
        self.outstanding.update { written in
            written.index = mark.index
            written.isWhole = false
        }
    }

    private mutating func lower(to index: LogIndex) {
        self.persisted = min(self.persisted, index)
        self.outstanding.update { written in
            if written.index > index {
                written.index = index
                written.isWhole = false
            }
        }
    }

    /// Forgets the entries up to `index`, which are applied.
    mutating func compact(through index: LogIndex) {
        precondition(index <= self.persisted, "only what is durable is compacted")
        guard index > self.base else { return }
        while self.head < self.recent.count, self.recent[self.head].index <= index { self.dropOldest() }
        self.terms.compact(through: index)
        self.cutUsed()
    }

    /// Gives out what is not yet written, under the ticket `number`.
    mutating func hand(
        ticket number: UInt64
    ) -> (reset: SnapshotMark?, truncateFrom: LogIndex?, entries: [LogEntry]) {
        let count = Int(self.last.rawValue - self.handed.rawValue)
        let entries = count == 0 ? [] : Array(self.recent[(self.recent.count - count)...])
        defer {
            self.truncatedFrom = nil
            self.pendingReset = nil
        }
        self.handed = self.last
        self.outstanding.append(Outstanding(number: number, index: self.last))
        return (self.pendingReset, self.truncatedFrom, entries)
    }

    /// Everything given out with tickets up to `ticket` is durable.
    ///
    /// Entries that were replaced meanwhile are not counted, even if the log again has an entry of that index and term.
    mutating func persist(_ ticket: PersistTicket) {
        var durable: Outstanding?
        while let oldest = self.outstanding.first, oldest.number <= ticket.number {
            durable = oldest
            self.outstanding.removeFirst()
        }
        guard let durable else { return }
        if durable.isWhole, durable.number == ticket.number, durable.index >= self.base {
            precondition(durable.index == ticket.index, "a persisted notice names another end of the log")
            precondition(
                self.term(at: durable.index) == ticket.term,
                "a persisted notice names an entry of another term"
            )
        }
        self.persisted = max(self.persisted, durable.index)
        precondition(self.persisted <= self.handed, "more was persisted than given out")
    }

    /// Drops entries from memory that are durable and committed while there are too many bytes.
    mutating func trim(commit: LogIndex) {
        guard self.recentBytes > self.recentBytesMax else { return }
        let limit = min(commit, self.persisted)
        while self.recentBytes > self.recentBytesMax, self.head < self.recent.count,
            self.recent[self.head].index <= limit
        {
            self.dropOldest()
        }
        self.cutUsed()
    }

    private mutating func dropOldest() {
        let entry = self.recent[self.head]
        self.recentBytes -= entry.costBytes
        self.recent[self.head] = LogEntry(index: entry.index, term: entry.term, kind: .empty, payload: [])
        self.head += 1
    }

    private mutating func cutUsed() {
        if self.head == self.recent.count {
            self.recent.removeAll(keepingCapacity: true)
            self.head = 0
        } else if self.head >= Self.unusedMax, self.head * 2 >= self.recent.count {
            self.recent.removeFirst(self.head)
            self.head = 0
        }
    }

    /// Consecutive entries from `first`: at least one, then as many as fit in `bytesMax`, none after `through`.
    func entries(
        from first: LogIndex,
        through: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        precondition(first > self.base && first <= through && through <= self.last, "the range lies in the log")
        let start = self.recentFirst
        if first < start {
            let end = min(through, LogIndex(start.rawValue - 1))
            var found = try self.reader.entries(from: first, through: end, bytesMax: bytesMax)
            guard found.first?.index == first, let ending = found.last, ending.index <= end,
                self.term(at: first) == found[0].term, self.term(at: ending.index) == ending.term
            else {
                throw ConsensusError(code: .corruption, message: "the store gave other entries", index: first)
            }
            let count = Self.fitting(found, from: 0, limit: found.count, bytesMax: bytesMax)
            if count < found.count { found.removeLast(found.count - count) }
            return found
        }
        let offset = self.head + Int(first.rawValue - start.rawValue)
        let limit = self.head + Int(through.rawValue - start.rawValue) + 1
        return Array(self.recent[offset..<Self.fitting(self.recent, from: offset, limit: limit, bytesMax: bytesMax)])
    }

    /// The end of the longest run from `offset` that costs at most `bytesMax`, with one entry at least.
    private static func fitting(_ entries: [LogEntry], from offset: Int, limit: Int, bytesMax: Int) -> Int {
        var end = offset + 1
        var bytes = entries[offset].costBytes
        while end < limit {
            bytes += entries[end].costBytes
            if bytes > bytesMax { break }
            end += 1
        }
        return end
    }

    /// Bytes read at a time while looking for membership changes.
    private static let searchBytes = 1 << 20

    /// Whether an entry from `first` through `last` carries a membership change.
    func hasMembership(from first: LogIndex, through last: LogIndex) throws(ConsensusError) -> Bool {
        var next = first
        while next <= last {
            let found = try self.entries(from: next, through: last, bytesMax: Self.searchBytes)
            for entry in found where entry.kind == .membership { return true }
            guard let end = found.last else { return false }
            next = end.index.next
        }
        return false
    }
}
