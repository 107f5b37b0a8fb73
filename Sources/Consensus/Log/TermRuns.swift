package import Primitives

/// The term of every entry of a log, kept as the few places where the term changes.
///
/// Terms never decrease along a log, so a log that many leaders wrote has one run per leader and the term at any index
/// is known without a read. The log begins after its *base*, the last entry that was compacted away or covered by a
/// snapshot; the term of the base itself is known.
package struct TermRuns: Sendable, Hashable {
    private struct Run: Sendable, Hashable {
        var first: LogIndex
        var term: Term
    }

    /// Ascending; the first one begins after the base.
    private var runs: [Run] = []
    /// The last index that the log no longer has; zero for a log that has everything.
    package private(set) var base: LogIndex
    package private(set) var baseTerm: Term
    /// The last index of the log, that of the base when it is empty.
    package private(set) var last: LogIndex

    /// An empty log after `base`.
    package init(base: LogIndex = .zero, term: Term = .zero) {
        self.base = base
        self.baseTerm = term
        self.last = base
    }

    /// The term of the last entry or of the base.
    package var lastTerm: Term { self.runs.last?.term ?? self.baseTerm }

    /// Adds the next entry.
    package mutating func append(_ term: Term) {
        precondition(term >= self.lastTerm, "terms never decrease along a log")
        self.last = self.last.next
        if term > self.lastTerm || self.runs.isEmpty { self.runs.append(Run(first: self.last, term: term)) }
    }

    /// Forgets the entries at `index` and after it.
    package mutating func truncate(from index: LogIndex) {
        precondition(index > self.base, "what the base covers is not truncated")
        guard index <= self.last else { return }
        while let run = self.runs.last, run.first >= index { self.runs.removeLast() }
        self.last = LogIndex(index.rawValue - 1)
    }

    /// Forgets the entries up to `index`, which becomes the base.
    package mutating func compact(through index: LogIndex) {
        guard index > self.base else { return }
        guard let term = self.term(at: index) else { preconditionFailure("only what the log has is compacted") }
        let kept = index < self.last ? self.run(at: index.next) : self.runs.count
        self.runs.removeFirst(kept)
        if !self.runs.isEmpty { self.runs[0].first = max(self.runs[0].first, index.next) }
        self.base = index
        self.baseTerm = term
    }

    /// - Returns: The term at `index`, nil before the base and after the last entry.
    package func term(at index: LogIndex) -> Term? {
        if index == self.base { return self.baseTerm }
        guard index > self.base, index <= self.last else { return nil }
        return self.runs[self.run(at: index)].term
    }

    /// - Returns: The largest index at or before `index` whose term is at most `term`; an index before the base when
    ///   only what is no longer known could be so.
    /// - Source: etcd's quick back-up over conflicting logs, after Raft section 5.3.
    package func lastIndex(atOrBefore index: LogIndex, termAtMost term: Term) -> LogIndex {
        var place = min(index, self.last)
        while place > self.base {
            let run = self.runs[self.run(at: place)]
            if run.term <= term { return place }
            place = LogIndex(run.first.rawValue - 1)
        }
        if place < self.base || self.baseTerm <= term || place == .zero { return place }
        return LogIndex(place.rawValue - 1)
    }

    /// The run that holds `index`; most questions are about the last one.
    private func run(at index: LogIndex) -> Int {
        var low = 0
        var high = self.runs.count - 1
        if self.runs[high].first <= index { return high }
        while low < high {
            let middle = (low + high + 1) / 2
            if self.runs[middle].first <= index { low = middle } else { high = middle - 1 }
        }
        return low
    }
}
