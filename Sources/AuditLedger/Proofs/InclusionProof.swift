package import Primitives

/// Proves that a record is in the tree of a size, at its place.
///
/// - Source: RFC 6962 section 2.1.1, verified as RFC 9162 section 2.1.3.2 says.
package struct InclusionProof: Sendable, Hashable {
    /// No path is longer: the depth of a tree of ``MerkleTree/sizeMax`` leaves.
    package static let pathMax = 63

    /// The index of the leaf, counted from 0: the record's sequence less one.
    package let index: UInt64
    /// The size of the tree.
    package let size: UInt64
    /// Siblings on the way from the leaf to the root.
    package let path: [Digest]

    package init(index: UInt64, size: UInt64, path: [Digest]) {
        self.index = index
        self.size = size
        self.path = path
    }

    /// Builds the proof for a leaf in the tree of the first `size` leaves.
    ///
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`; whatever the source throws.
    /// - Complexity: At most 2 log₂ `size` + 1 reads.
    package static func build(index: UInt64, size: UInt64, from source: some TreeNodeSource) throws -> InclusionProof {
        try Self.check(index: index, size: size)
        // The path leaves out the leaf itself, which must be there all the same.
        _ = try source.node(at: TreePosition(level: 0, index: index))
        var siblings: [Digest] = []
        var (start, end) = (UInt64(0), size)
        while end - start > 1 {
            let middle = start + MerkleTree.split(width: end - start)
            if index < middle {
                siblings.append(try source.digest(from: middle, to: end))
                end = middle
            } else {
                siblings.append(try source.digest(from: start, to: middle))
                start = middle
            }
        }
        return InclusionProof(index: index, size: size, path: siblings.reversed())
    }

    /// The root that this proof leads to from a leaf; compare it with a signed one.
    ///
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.wrongLength`.
    package func root(leaf: Digest) throws(ProofError) -> Digest {
        try Self.check(index: self.index, size: self.size)
        guard self.path.count <= Self.pathMax else {
            throw ProofError(.wrongLength, "an inclusion proof has at most \(Self.pathMax) hashes")
        }
        var node = self.index
        var last = self.size - 1
        var digest = leaf
        for sibling in self.path {
            guard last != 0 else { throw self.wrongLength() }
            if node & 1 == 1 || node == last {
                digest = LedgerHash.node(sibling, digest)
                while node & 1 == 0, node != 0 {
                    node >>= 1
                    last >>= 1
                }
            } else {
                digest = LedgerHash.node(digest, sibling)
            }
            node >>= 1
            last >>= 1
        }
        guard last == 0 else { throw self.wrongLength() }
        return digest
    }

    /// Checks that `leaf` is in the tree with this root; that the root is of this size, the caller knows.
    ///
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.wrongLength`, `.rootMismatch`.
    package func verify(leaf: Digest, root: Digest) throws(ProofError) {
        guard try self.root(leaf: leaf) == root else {
            throw ProofError(
                .rootMismatch,
                "leaf \(self.index) is not proven to be in the tree of size \(self.size)"
            )
        }
    }

    private static func check(index: UInt64, size: UInt64) throws(ProofError) {
        guard size > 0 else { throw ProofError(.emptyTree, "an empty tree contains no leaf") }
        guard index < size, size <= MerkleTree.sizeMax else {
            throw ProofError(.beyondTree, "no leaf \(index) in a tree of size \(size)")
        }
    }

    private func wrongLength() -> ProofError {
        ProofError(
            .wrongLength,
            "\(self.path.count) hashes are not the path of leaf \(self.index) in a tree of size \(self.size)"
        )
    }
}
