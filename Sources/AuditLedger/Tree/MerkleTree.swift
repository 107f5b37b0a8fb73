package import Primitives

/// A place in the tree: level 0 holds the leaves, level L the roots of perfect subtrees of 2^L leaves.
package struct TreePosition: Hashable, Sendable {
    package let level: UInt8
    package let index: UInt64

    package init(level: UInt8, index: UInt64) {
        self.level = level
        self.index = index
    }

    /// The sequence of the first record under this node.
    package var firstSequence: SequenceNumber { SequenceNumber(self.index << UInt64(self.level) + 1) }
    /// The sequence of the last record under this node: the one whose append wrote it.
    package var lastSequence: SequenceNumber { SequenceNumber((self.index + 1) << UInt64(self.level)) }
}

/// The arithmetic of the RFC 6962 tree, kept incrementally as its frontier: the roots of the perfect subtrees that
/// make up the leaves so far, largest first.
package struct MerkleTree: Sendable, Hashable {
    /// Number of leaves.
    package private(set) var size: UInt64
    /// One digest per set bit of ``size``, from the highest bit to the lowest.
    package private(set) var frontier: [Digest]

    /// The empty tree.
    package init() {
        self.size = 0
        self.frontier = []
    }

    /// - Returns: nil when the number of digests is not the number of set bits of `size`.
    package init?(size: UInt64, frontier: [Digest]) {
        guard frontier.count == size.nonzeroBitCount else { return nil }
        self.size = size
        self.frontier = frontier
    }

    /// Adds a leaf; `written` gets every node that is complete with it, the leaf first.
    ///
    /// - Complexity: Amortised one inner hash.
    package mutating func push(_ leaf: Digest, written: (TreePosition, Digest) -> Void) {
        var digest = leaf
        var index = self.size
        var level = UInt8(0)
        written(TreePosition(level: level, index: index), digest)
        while index & 1 == 1, let left = self.frontier.popLast() {
            digest = LedgerHash.node(left, digest)
            index >>= 1
            level += 1
            written(TreePosition(level: level, index: index), digest)
        }
        self.frontier.append(digest)
        self.size += 1
    }

    package mutating func push(_ leaf: Digest) { self.push(leaf) { _, _ in } }

    /// The Merkle tree hash of the leaves so far (RFC 6962 section 2.1).
    package var root: Digest { Self.root(ofPeaks: self.frontier) }

    /// Folds the roots of the perfect subtrees, largest first, into the root of the tree.
    package static func root(ofPeaks peaks: [Digest]) -> Digest {
        guard var digest = peaks.last else { return LedgerHash.emptyRoot }
        for left in peaks.dropLast().reversed() { digest = LedgerHash.node(left, digest) }
        return digest
    }

    /// The places of the perfect subtrees that make up a tree of `size` leaves, largest first.
    package static func peaks(size: UInt64) -> [TreePosition] {
        var peaks: [TreePosition] = []
        var offset = UInt64(0)
        var level = UInt64.bitWidth - size.leadingZeroBitCount
        while level > 0 {
            level -= 1
            let width = UInt64(1) << UInt64(level)
            if size & width != 0 {
                peaks.append(TreePosition(level: UInt8(level), index: offset >> UInt64(level)))
                offset += width
            }
        }
        return peaks
    }

    /// The number of complete nodes at a level in a tree of `size` leaves.
    package static func nodeCount(level: UInt8, size: UInt64) -> UInt64 {
        level < 64 ? size >> UInt64(level) : 0
    }
}
