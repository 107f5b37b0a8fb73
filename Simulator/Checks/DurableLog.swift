internal import Consensus
internal import Primitives

/// What a replica is known to have made durable, kept by whoever watches its disk from outside.
struct DurableLog {
    private(set) var hardState: HardState
    /// What a snapshot or a compaction took the place of: everything up to here is durable in the state machine.
    private(set) var base: (index: LogIndex, term: Term) = (.zero, .zero)
    private var terms: [Term] = []

    init(hardState: HardState = HardState()) { self.hardState = hardState }

    var last: LogIndex { LogIndex(self.base.index.rawValue + UInt64(self.terms.count)) }

    /// - Returns: The term at `index`, nil where the log does not reach.
    func term(at index: LogIndex) -> Term? {
        if index == self.base.index { return self.base.term }
        guard index > self.base.index, index <= self.last else { return nil }
        return self.terms[Int(index.rawValue - self.base.index.rawValue) - 1]
    }

    /// Whether the entry is durable, in the log or behind its base.
    func holds(_ index: LogIndex, _ term: Term) -> Bool {
        index < self.base.index || self.term(at: index) == term
    }

    mutating func set(_ hardState: HardState) { self.hardState = hardState }

    mutating func truncate(from index: LogIndex) {
        guard index <= self.last else { return }
        let kept = index > self.base.index ? Int(index.rawValue - self.base.index.rawValue) - 1 : 0
        self.terms.removeLast(self.terms.count - kept)
    }

    mutating func append(_ term: Term) { self.terms.append(term) }

    mutating func reset(to index: LogIndex, term: Term) {
        self.base = (index, term)
        self.terms = []
    }

    mutating func compact(through index: LogIndex) {
        guard index > self.base.index, index <= self.last, let term = self.term(at: index) else { return }
        self.terms.removeFirst(Int(index.rawValue - self.base.index.rawValue))
        self.base = (index, term)
    }
}
