package import Primitives

/// Where the nodes of a tree are read from: a store, memory, or tiles.
///
/// Nodes never change, so a source may hold a larger tree than the one that is asked about. It answers for itself:
/// a source that lies gives proofs that do not verify.
package protocol TreeNodeSource {
    /// The digest of a node whose subtree is perfect.
    ///
    /// - Throws: When the node is absent or cannot be read.
    func node(at position: TreePosition) throws -> Digest
}

extension LedgerReader: TreeNodeSource {}

extension MerkleTree {
    /// The largest number of leaves that proofs and checkpoints speak of, 2^63 − 1.
    package static let sizeMax = UInt64(Int64.max)

    /// The perfect subtrees, largest first, that make up the node over the leaves `start ..< end`.
    ///
    /// `start` is a multiple of the smallest power of two that is not below `end - start`, as in every node of a tree.
    package static func peaks(from start: UInt64, to end: UInt64) -> [TreePosition] {
        self.peaks(size: end - start).map { peak in
            TreePosition(level: peak.level, index: peak.index + start >> UInt64(peak.level))
        }
    }

    /// Where the node over `width` leaves is divided: the largest power of two below `width`, which is at least 2.
    static func split(width: UInt64) -> UInt64 {
        1 << UInt64(UInt64.bitWidth - 1 - (width - 1).leadingZeroBitCount)
    }
}

extension TreeNodeSource {
    /// The digest of the node over the leaves `start ..< end`: MTH(D[start:end]) of RFC 6962 section 2.1.
    ///
    /// - Complexity: One read per set bit of `end - start`.
    func digest(from start: UInt64, to end: UInt64) throws -> Digest {
        var peaks: [Digest] = []
        for position in MerkleTree.peaks(from: start, to: end) { peaks.append(try self.node(at: position)) }
        return MerkleTree.root(ofPeaks: peaks)
    }

    /// The Merkle root of the first `size` leaves; for size 0 that of the empty tree.
    package func treeRoot(size: UInt64) throws -> Digest { try self.digest(from: 0, to: size) }
}

/// A whole tree in memory, for a verifier that has all checksums: 64 bytes a leaf.
package struct MerkleNodes: TreeNodeSource, Sendable {
    private var levels: [[Digest]] = [[]]

    package init() {}

    package init(leaves: some Sequence<Digest>) {
        for leaf in leaves { self.append(leaf) }
    }

    /// The number of leaves.
    package var size: UInt64 { UInt64(self.levels[0].count) }

    /// Adds a leaf.
    package mutating func append(_ leaf: Digest) {
        var level = 0
        var digest = leaf
        while true {
            if level == self.levels.count { self.levels.append([]) }
            self.levels[level].append(digest)
            let count = self.levels[level].count
            guard count % 2 == 0 else { return }
            digest = LedgerHash.node(self.levels[level][count - 2], digest)
            level += 1
        }
    }

    /// - Throws: ``ProofError`` `.beyondTree`.
    package func node(at position: TreePosition) throws -> Digest {
        guard Int(position.level) < self.levels.count,
            position.index < UInt64(self.levels[Int(position.level)].count)
        else {
            throw ProofError(
                .beyondTree,
                "node \(position.level)/\(position.index) is not in a tree of size \(self.size)"
            )
        }
        return self.levels[Int(position.level)][Int(position.index)]
    }
}
