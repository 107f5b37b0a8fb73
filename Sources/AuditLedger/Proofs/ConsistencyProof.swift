package import Primitives

/// Proves that the tree of one size begins with the tree of a smaller size: nothing of it was changed or removed.
///
/// - Source: RFC 6962 section 2.1.2, verified as RFC 9162 section 2.1.4.2 says. From size 0 the proof is empty and
///   the old root is that of the empty tree.
package struct ConsistencyProof: Sendable, Hashable {
    /// No proof is longer.
    package static let pathMax = 64

    package let oldSize: UInt64
    package let newSize: UInt64
    package let path: [Digest]

    package init(oldSize: UInt64, newSize: UInt64, path: [Digest]) {
        self.oldSize = oldSize
        self.newSize = newSize
        self.path = path
    }

    /// Builds the proof from the tree of the first `oldSize` leaves to that of the first `newSize`.
    ///
    /// - Throws: ``ProofError`` `.backwards`, `.beyondTree`; whatever the source throws.
    /// - Complexity: At most 3 log₂ `newSize` reads.
    package static func build(
        from oldSize: UInt64,
        to newSize: UInt64,
        nodes source: some TreeNodeSource
    ) throws -> ConsistencyProof {
        try Self.check(oldSize: oldSize, newSize: newSize)
        var path: [Digest] = []
        var (start, end) = (UInt64(0), newSize)
        guard oldSize > 0 else { return ConsistencyProof(oldSize: 0, newSize: newSize, path: []) }
        while oldSize != end {
            let middle = start + MerkleTree.split(width: end - start)
            if oldSize <= middle {
                path.append(try source.digest(from: middle, to: end))
                end = middle
            } else {
                path.append(try source.digest(from: start, to: middle))
                start = middle
            }
        }
        // The verifier knows the old root; any other node it must be told.
        if start > 0 { path.append(try source.digest(from: start, to: end)) }
        return ConsistencyProof(oldSize: oldSize, newSize: newSize, path: path.reversed())
    }

    /// Checks that both roots are of one history; that they are of these sizes, the caller knows.
    ///
    /// - Throws: ``ProofError`` `.backwards`, `.beyondTree`, `.wrongLength`, `.rootMismatch`.
    package func verify(oldRoot: Digest, newRoot: Digest) throws(ProofError) {
        try Self.check(oldSize: self.oldSize, newSize: self.newSize)
        if self.oldSize == self.newSize || self.oldSize == 0 {
            guard self.path.isEmpty else { throw self.wrongLength() }
            guard self.oldSize > 0 || oldRoot == LedgerHash.emptyRoot else {
                throw ProofError(.rootMismatch, "the old root is not that of an empty tree")
            }
            guard self.oldSize < self.newSize || oldRoot == newRoot else {
                throw ProofError(.rootMismatch, "two roots of one size, \(self.oldSize)")
            }
            return
        }
        let roots = try self.roots(oldRoot: oldRoot)
        guard roots.old == oldRoot else {
            throw ProofError(.rootMismatch, "the proof does not lead to the old root, of size \(self.oldSize)")
        }
        guard roots.new == newRoot else {
            throw ProofError(.rootMismatch, "the proof does not lead to the new root, of size \(self.newSize)")
        }
    }

    /// The two roots that the path leads to; 0 < old size < new size.
    private func roots(oldRoot: Digest) throws(ProofError) -> (old: Digest, new: Digest) {
        guard self.path.count <= Self.pathMax else {
            throw ProofError(.wrongLength, "a consistency proof has at most \(Self.pathMax) hashes")
        }
        var hashes = self.path[...]
        let isPerfect = self.oldSize & (self.oldSize - 1) == 0
        guard let first = isPerfect ? oldRoot : hashes.popFirst() else { throw self.wrongLength() }
        var node = self.oldSize - 1
        var last = self.newSize - 1
        while node & 1 == 1 {
            node >>= 1
            last >>= 1
        }
        var (old, new) = (first, first)
        for hash in hashes {
            guard last != 0 else { throw self.wrongLength() }
            if node & 1 == 1 || node == last {
                old = LedgerHash.node(hash, old)
                new = LedgerHash.node(hash, new)
                while node & 1 == 0, node != 0 {
                    node >>= 1
                    last >>= 1
                }
            } else {
                new = LedgerHash.node(new, hash)
            }
            node >>= 1
            last >>= 1
        }
        guard last == 0 else { throw self.wrongLength() }
        return (old, new)
    }

    private static func check(oldSize: UInt64, newSize: UInt64) throws(ProofError) {
        guard oldSize <= newSize else {
            throw ProofError(.backwards, "a tree of size \(newSize) does not continue one of size \(oldSize)")
        }
        guard newSize <= MerkleTree.sizeMax else {
            throw ProofError(.beyondTree, "no tree has \(newSize) leaves")
        }
    }

    private func wrongLength() -> ProofError {
        ProofError(
            .wrongLength,
            "\(self.path.count) hashes do not lead from size \(self.oldSize) to size \(self.newSize)"
        )
    }
}
