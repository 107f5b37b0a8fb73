package import Primitives

/// The term of every entry of a log, kept as the few places where the term changes.
///
/// Terms never decrease along a log, so a log that many leaders wrote has one run per leader and the term at any index
/// is known without a read. The log begins after its ``base``, whose term is known too.
package struct TermRuns: Sendable, Hashable {
    private struct Run: Sendable, Hashable {
        var first: LogIndex
        var term: Term
    }

    /// The place before the first entry: what was compacted ends there, or a snapshot stands for it.
    package private(set) var base: LogMark
    /// Of rising terms; the first begins after the base.
    private var runs: [Run] = []
    /// The last index of the log, the base's when it is empty.
    package private(set) var last: LogIndex

    /// An empty log after `base`.
    package init(base: LogMark = .zero) {
        self.base = base
        self.last = base.index
    }

    /// The term of the last entry, the base's when the log is empty.
    package var lastTerm: Term { self.runs.last?.term ?? self.base.term }

    /// The index of the first entry, if there is one.
    package var first: LogIndex { self.base.index.next }

    package var isEmpty: Bool { self.last == self.base.index }

    /// Adds the next entry.
    package mutating func append(_ term: Term) { self.append(term, through: self.last.next) }

    /// Adds entries of one term up to `end`; none when the log already ends there.
    package mutating func append(_ term: Term, through end: LogIndex) {
        precondition(term >= self.lastTerm, "terms never decrease along a log")
        guard end > self.last else { return }
        if term > self.lastTerm || self.runs.isEmpty { self.runs.append(Run(first: self.last.next, term: term)) }
        self.last = end
    }

    /// Forgets the entries at `index` and after it.
    package mutating func truncate(from index: LogIndex) {
        precondition(index > self.base.index, "what was compacted cannot be truncated")
        guard index <= self.last else { return }
        while let run = self.runs.last, run.first >= index { self.runs.removeLast() }
        self.last = LogIndex(index.rawValue - 1)
    }

    /// Forgets the entries up to `index`, which becomes the base; does nothing when it lies before the base.
    package mutating func compact(through index: LogIndex) {
        precondition(index <= self.last, "no more is compacted than there is")
        guard index > self.base.index, let term = self.term(at: index) else { return }
        self.base = LogMark(index: index, term: term)
        let place = self.run(at: index)
        let isRunUsedUp = place + 1 < self.runs.count ? self.runs[place + 1].first == index.next : self.last == index
        self.runs.removeSubrange(..<(isRunUsedUp ? place + 1 : place))
        if !isRunUsedUp { self.runs[0].first = index.next }
    }

    /// - Returns: The term at `index`, that of the base included; nil before the base and after the last entry.
    package func term(at index: LogIndex) -> Term? {
        if index == self.base.index { return self.base.term }
        guard index > self.base.index, index <= self.last else { return nil }
        return self.runs[self.run(at: index)].term
    }

    /// - Returns: The largest index at or before `index` whose term is at most `term`; the base's when there is none.
    /// - Source: etcd's quick back-up over conflicting logs, after Raft section 5.3.
    package func lastIndex(atOrBefore index: LogIndex, termAtMost term: Term) -> LogIndex {
        var place = min(index, self.last)
        while place > self.base.index {
            let run = self.runs[self.run(at: place)]
            if run.term <= term { return place }
            place = LogIndex(run.first.rawValue - 1)
        }
        return self.base.index
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
