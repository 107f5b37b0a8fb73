package import Primitives

/// The term of every entry of a log, kept as the few places where the term changes.
///
/// Terms never decrease along a log, so a log that many leaders wrote has one run per leader and the term at any index
/// is known without a read.
package struct TermRuns: Sendable, Hashable {
    private struct Run: Sendable, Hashable {
        var first: LogIndex
        var term: Term
    }

    private var runs: [Run] = []
    /// The last index of the log, zero when it is empty.
    package private(set) var last: LogIndex = .zero

    package init() {}

    /// The term of the last entry, zero when the log is empty.
    package var lastTerm: Term { self.runs.last?.term ?? .zero }

    /// Adds the next entry.
    package mutating func append(_ term: Term) {
        precondition(term >= self.lastTerm, "terms never decrease along a log")
        self.last = self.last.next
        if term > self.lastTerm || self.runs.isEmpty { self.runs.append(Run(first: self.last, term: term)) }
    }

    /// Forgets the entries at `index` and after it.
    package mutating func truncate(from index: LogIndex) {
        precondition(index > .zero, "the first entry has index 1")
        guard index <= self.last else { return }
        while let run = self.runs.last, run.first >= index { self.runs.removeLast() }
        self.last = LogIndex(index.rawValue - 1)
    }

    /// - Returns: The term at `index`, zero before the first entry, nil after the last.
    package func term(at index: LogIndex) -> Term? {
        if index == .zero { return .zero }
        guard index <= self.last else { return nil }
        return self.runs[self.run(at: index)].term
    }

    /// - Returns: The largest index at or before `index` whose term is at most `term`.
    /// - Source: etcd's quick back-up over conflicting logs, after Raft section 5.3.
    package func lastIndex(atOrBefore index: LogIndex, termAtMost term: Term) -> LogIndex {
        var place = min(index, self.last)
        while place > .zero {
            let run = self.runs[self.run(at: place)]
            if run.term <= term { return place }
            place = LogIndex(run.first.rawValue - 1)
        }
        return .zero
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
