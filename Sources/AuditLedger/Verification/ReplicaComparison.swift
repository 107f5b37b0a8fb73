package import Primitives

/// Something to ask of the replica on one node.
package struct ReplicaQuestion: Sendable, Hashable {
    package enum Kind: Sendable, Hashable {
        /// The size of the ledger and the root over all of it.
        case head
        /// The roots at these sizes, ascending; none is beyond the size that the node gave.
        case roots([UInt64])
    }

    package let node: NodeID
    package let kind: Kind
}

/// What a node answered.
package enum ReplicaAnswer: Sendable, Hashable {
    case head(size: UInt64, root: Digest)
    /// In the order of the question.
    case roots([Digest])
    /// The node cannot be reached, or its ledger cannot be read; the text says why.
    case unavailable(String)
}

/// How one replica stands to the others.
package enum ReplicaStatus: Sendable, Hashable {
    /// On which side of a divergence a replica is.
    package enum Side: String, Sendable {
        /// More than half of the replicas that reach this size hold another history.
        case minority
        /// No history has more than half of the replicas that reach this size.
        case undecided
    }

    /// The same records as the longest history that was agreed on.
    case agrees(size: UInt64)
    /// A true prefix of it: replication has not brought the rest yet.
    case behind(size: UInt64)
    /// Another history (a fork) from this sequence on.
    case diverged(firstSequence: SequenceNumber, side: Side)
    case unavailable(String)
}

/// The result of comparing the replicas of one organization's ledger.
package struct ReplicaComparisonResult: Sendable, Hashable {
    /// One replica.
    package struct Replica: Sendable, Hashable {
        package let node: NodeID
        package let status: ReplicaStatus
    }

    /// The size of the longest history that does not contradict a majority.
    package let size: UInt64
    /// Its root.
    package let root: Digest
    /// In the order in which the nodes were given.
    package let replicas: [Replica]

    /// No replica holds another history and all answered; some may be behind.
    package var isConsistent: Bool {
        self.replicas.allSatisfy { replica in
            switch replica.status {
            case .agrees, .behind: true
            case .diverged, .unavailable: false
            }
        }
    }
}

/// Compares the replicas of one organization's ledger and finds the first record at which they part.
///
/// A pure state machine: the caller asks what ``next()`` wants, gives back each answer, and calls ``next()`` again.
/// Roots at equal sizes are equal exactly when the first records are, so the first difference is found by a search
/// over sizes; each round asks two nodes for up to ``roundSizesMax`` roots, three rounds reach 250,000 records and
/// five a thousand million. What it compares are the stored trees; that each tree is that of its records is
/// ``LedgerVerifier``'s to say.
package struct ReplicaComparison: Sendable {
    /// What the caller does next.
    package enum Step: Sendable {
        /// Ask these, in any order or at once; never empty.
        case ask([ReplicaQuestion])
        case done(ReplicaComparisonResult)
    }

    /// Roots asked of a node at once.
    package static let roundSizesMax = 63

    private struct Replica {
        let node: NodeID
        var size: UInt64?
        var roots: [UInt64: Digest] = [:]
        var status: ReplicaStatus?
    }

    private struct Pending {
        let question: ReplicaQuestion
        let replica: Int
    }

    /// A search for the first size at which two replicas differ.
    private struct Search {
        let reference: Int
        let other: Int
        /// A size at which they agree.
        var low: UInt64
        /// A size at which they differ.
        var high: UInt64
    }

    private var replicas: [Replica]
    private var pending: [Pending] = []
    private var agreedSize = UInt64(0)
    private var agreedRoot = LedgerHash.emptyRoot
    private var search: Search?

    /// - Parameter nodes: Distinct, in the order wanted in the result.
    package init(nodes: [NodeID]) {
        self.replicas = nodes.map { Replica(node: $0) }
        self.pending = self.replicas.indices.map {
            Pending(question: ReplicaQuestion(node: self.replicas[$0].node, kind: .head), replica: $0)
        }
    }

    /// What to do next; while answers are outstanding, the questions that await them.
    package mutating func next() -> Step {
        while self.pending.isEmpty {
            guard let result = self.advance() else { continue }
            return .done(result)
        }
        return .ask(self.pending.map(\.question))
    }

    /// Takes the answer of a node to its outstanding question; ignored when there is none.
    package mutating func answer(_ answer: ReplicaAnswer, from node: NodeID) {
        guard let place = self.pending.firstIndex(where: { $0.question.node == node }) else { return }
        let pending = self.pending.remove(at: place)
        switch (pending.question.kind, answer) {
        case (.head, .head(let size, let root)):
            self.replicas[pending.replica].size = size
            self.replicas[pending.replica].roots[size] = root
        case (.roots(let sizes), .roots(let roots)) where sizes.count == roots.count:
            for (size, root) in zip(sizes, roots) { self.replicas[pending.replica].roots[size] = root }
        case (_, .unavailable(let reason)): self.replicas[pending.replica].status = .unavailable(reason)
        default: self.replicas[pending.replica].status = .unavailable("the node answered something else")
        }
    }

    // MARK: Steps

    /// Moves on as far as known roots allow; sets ``pending`` when more are needed.
    private mutating func advance() -> ReplicaComparisonResult? {
        if let search = self.search {
            self.advance(search)
            return nil
        }
        guard let size = self.active(atLeast: self.agreedSize + 1).compactMap({ self.replicas[$0].size }).min() else {
            return self.result()
        }
        let active = self.active(atLeast: size)
        self.ask([size], of: active)
        guard self.pending.isEmpty else { return nil }
        let groups = self.groups(of: active, at: size)
        if groups.count == 1 {
            self.agreedSize = size
            self.agreedRoot = self.replicas[active[0]].roots[size] ?? self.agreedRoot
        } else {
            let largest = groups.max { $0.count < $1.count } ?? groups[0]
            let reference = largest[0]
            let other = groups.first { $0[0] != reference } ?? groups[1]
            self.search = Search(reference: reference, other: other[0], low: self.agreedSize, high: size)
        }
        return nil
    }

    /// Replicas that answer, have not parted from the rest, and reach a size.
    private func active(atLeast size: UInt64) -> [Int] {
        self.replicas.indices.filter { self.replicas[$0].status == nil && (self.replicas[$0].size ?? 0) >= size }
    }

    private mutating func ask(_ sizes: [UInt64], of replicas: [Int]) {
        for replica in replicas {
            let unknown = sizes.filter { self.replicas[replica].roots[$0] == nil }
            guard !unknown.isEmpty else { continue }
            let question = ReplicaQuestion(node: self.replicas[replica].node, kind: .roots(unknown))
            self.pending.append(Pending(question: question, replica: replica))
        }
    }

    /// Replicas by their root at a size, in the order of their first member.
    private func groups(of replicas: [Int], at size: UInt64) -> [[Int]] {
        var groups: [[Int]] = []
        for replica in replicas {
            let root = self.replicas[replica].roots[size]
            if let place = groups.firstIndex(where: { self.replicas[$0[0]].roots[size] == root }) {
                groups[place].append(replica)
            } else {
                groups.append([replica])
            }
        }
        return groups
    }

    private mutating func advance(_ search: Search) {
        // A replica that stopped answering: begin this size again without it.
        guard self.replicas[search.reference].status == nil, self.replicas[search.other].status == nil else {
            self.search = nil
            return
        }
        var search = search
        let sizes = Self.sizes(between: search.low, and: search.high)
        self.ask(sizes, of: [search.reference, search.other])
        guard self.pending.isEmpty else { return }
        for size in sizes {
            if self.replicas[search.reference].roots[size] == self.replicas[search.other].roots[size] {
                search.low = size
            } else {
                search.high = size
                break
            }
        }
        self.search = search
        if search.high - search.low <= 1 { self.conclude(search) }
    }

    /// Up to ``roundSizesMax`` sizes strictly between two, evenly spread.
    private static func sizes(between low: UInt64, and high: UInt64) -> [UInt64] {
        let inner = high - low - 1
        guard inner > UInt64(self.roundSizesMax) else { return inner == 0 ? [] : Array(low + 1...high - 1) }
        let parts = UInt64(self.roundSizesMax + 1)
        return (1..<parts).map { part in
            let product = (high - low).multipliedFullWidth(by: part)
            return low + parts.dividingFullWidth(product).quotient
        }
    }

    /// The first difference of two replicas is known: names those that share it.
    private mutating func conclude(_ search: Search) {
        self.search = nil
        let first = SequenceNumber(search.high)
        let size = self.active(atLeast: self.agreedSize + 1).compactMap { self.replicas[$0].size }.min() ?? search.high
        let active = self.active(atLeast: size)
        let groups = self.groups(of: active, at: size)
        let group = groups.first { $0.contains(search.other) } ?? [search.other]
        let reference = groups.first { $0.contains(search.reference) } ?? [search.reference]
        // Counted over all that ever reached this size, those included that already parted.
        let reached = self.replicas.filter { replica in
            guard let its = replica.size, its >= size else { return false }
            if case .unavailable = replica.status { return false }
            return true
        }
        if reference.count * 2 > reached.count {
            for replica in group { self.replicas[replica].status = .diverged(firstSequence: first, side: .minority) }
        } else {
            for replica in group { self.replicas[replica].status = .diverged(firstSequence: first, side: .undecided) }
            if groups.count <= 2 {
                for replica in reference {
                    self.replicas[replica].status = .diverged(firstSequence: first, side: .undecided)
                }
            }
        }
    }

    private func result() -> ReplicaComparisonResult {
        ReplicaComparisonResult(
            size: self.agreedSize,
            root: self.agreedRoot,
            replicas: self.replicas.map { replica in
                let size = replica.size ?? 0
                let standing = size == self.agreedSize ? ReplicaStatus.agrees(size: size) : .behind(size: size)
                return ReplicaComparisonResult.Replica(node: replica.node, status: replica.status ?? standing)
            }
        )
    }
}
