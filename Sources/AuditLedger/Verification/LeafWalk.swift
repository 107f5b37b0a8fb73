package import Primitives

/// Fetches the leaves of a tree from a side that may lie, down from a root that is trusted.
///
/// Every answer must hash to the node over it that was proved before, so what comes out is what the trusted root stands
/// for, whoever gave it. A pure state machine: ask what ``next()`` wants, give back the answer, call ``next()`` again.
package struct LeafWalk: Sendable {
    package enum Step: Sendable {
        case ask(DescentQuestion)
        /// The next leaves, at most 256, from this index on.
        case leaves(first: UInt64, [Digest])
        case done
        /// The side was caught.
        case caught(DescentFault)
        case unavailable(String)
    }

    private enum Phase {
        case peaks
        case frontier(peaks: [Digest])
        case walking
        case ended(Step)
    }

    private let trusted: TreeHead
    /// The index of the first leaf that is wanted.
    package let first: UInt64
    private var phase = Phase.peaks
    /// Proved nodes that are still to be descended, the leftmost last.
    private var stack: [(position: TreePosition, digest: Digest)] = []
    private var asked: DescentQuestion?
    private var given: DescentAnswer?
    /// The tree of the leaves before ``first``; nil until it is proved.
    package private(set) var before: MerkleTree?

    /// Leaves in one row.
    package static let rowLeaves = UInt64(256)

    /// - Parameters:
    ///   - trusted: At least one record.
    ///   - index: A leaf of it that is wanted, with all after it; the walk begins with the row in which it is.
    package init(trusted: TreeHead, from index: UInt64) {
        precondition(index < trusted.size, "the tree has the leaf")
        self.trusted = trusted
        self.first = index / Self.rowLeaves * Self.rowLeaves
    }

    package mutating func answer(_ answer: DescentAnswer) { self.given = answer }

    /// What to do next; the same question again until it is answered.
    package mutating func next() -> Step {
        if let asked {
            guard let given else { return .ask(asked) }
            self.asked = nil
            self.given = nil
            if let leaves = self.take(given, asked) { return leaves }
        }
        switch self.phase {
        case .peaks: return self.ask(.bounds(size: self.trusted.size, of: self.trusted.size))
        case .frontier: return self.ask(.bounds(size: self.first, of: self.trusted.size))
        case .ended(let step): return step
        case .walking:
            guard let node = self.stack.last else {
                self.phase = .ended(.done)
                return .done
            }
            if node.position.level == 0 {
                self.stack.removeLast()
                return .leaves(first: node.position.index, [node.digest])
            }
            return self.ask(.descendants(node.position))
        }
    }

    private mutating func ask(_ question: DescentQuestion) -> Step {
        self.asked = question
        return .ask(question)
    }

    private mutating func caught(_ kind: DescentFault.Kind, _ position: TreePosition? = nil) {
        self.phase = .ended(.caught(DescentFault(kind: kind, position: position)))
    }

    /// - Returns: Leaves, when the answer holds some.
    private mutating func take(_ answer: DescentAnswer, _ question: DescentQuestion) -> Step? {
        if case .unavailable(let reason) = answer {
            self.phase = .ended(.unavailable(reason))
            return nil
        }
        guard case .digests(let digests) = answer else {
            self.caught(.malformed)
            return nil
        }
        switch self.phase {
        case .peaks:
            guard digests.count == self.trusted.size.nonzeroBitCount,
                MerkleTree.root(ofPeaks: digests) == self.trusted.root
            else {
                self.caught(.contradictsItself)
                return nil
            }
            self.phase = .frontier(peaks: digests)
        case .frontier(let peaks): self.takeFrontier(digests, peaks)
        case .walking: return self.takeRow(digests)
        case .ended: break
        }
        return nil
    }

    private mutating func takeFrontier(_ digests: [Digest], _ peaks: [Digest]) {
        let places = MerkleTree.peaks(size: self.first) + MerkleTree.cover(from: self.first, to: self.trusted.size)
        guard digests.count == places.count, MerkleTree.peaks(folding: Array(zip(places, digests))) == peaks else {
            return self.caught(.contradictsItself)
        }
        let frontier = Array(digests.prefix(self.first.nonzeroBitCount))
        self.before = MerkleTree(size: self.first, frontier: frontier)
        self.stack = Array(zip(places, digests).dropFirst(frontier.count).reversed())
        self.phase = .walking
    }

    private mutating func takeRow(_ digests: [Digest]) -> Step? {
        guard let node = self.stack.popLast() else { return nil }
        let below = node.position.rowBelow
        guard digests.count == below.count else {
            self.caught(.malformed, node.position)
            return nil
        }
        guard MerkleTree.root(ofPerfect: digests) == node.digest else {
            self.caught(.contradictsItself, node.position)
            return nil
        }
        if below.first.level == 0 { return .leaves(first: below.first.index, digests) }
        for (offset, digest) in digests.enumerated().reversed() {
            self.stack.append(
                (TreePosition(level: below.first.level, index: below.first.index + UInt64(offset)), digest)
            )
        }
        return nil
    }
}
