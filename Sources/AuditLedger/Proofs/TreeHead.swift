package import Primitives

/// The size and root of a tree: what a checkpoint states, and what a proof is held against.
///
/// A root alone does not say how many leaves there are; only the two together do.
package struct TreeHead: Hashable, Sendable {
    package let size: UInt64
    package let root: Digest

    package init(size: UInt64, root: Digest) {
        self.size = size
        self.root = root
    }

    /// - Throws: ``ProofError`` `.otherTree`.
    func check(size: UInt64) throws(ProofError) {
        guard size == self.size else {
            throw ProofError(.otherTree, "a proof for size \(size), not for the checkpoint's, \(self.size)")
        }
    }
}

extension InclusionProof {
    /// Checks that `leaf` is in the tree with this head.
    ///
    /// - Throws: ``ProofError`` `.otherTree` when the proof is for another size, `.emptyTree`, `.beyondTree`,
    ///   `.wrongLength`, `.rootMismatch`.
    package func verify(leaf: Digest, in head: TreeHead) throws(ProofError) {
        try head.check(size: self.size)
        try self.verify(leaf: leaf, root: head.root)
    }
}

extension ConsistencyProof {
    /// Checks that both heads are of one history.
    ///
    /// - Throws: ``ProofError`` `.otherTree` when the proof is for other sizes, `.backwards`, `.beyondTree`,
    ///   `.wrongLength`, `.rootMismatch`.
    package func verify(from old: TreeHead, to new: TreeHead) throws(ProofError) {
        try old.check(size: self.oldSize)
        try new.check(size: self.newSize)
        try self.verify(oldRoot: old.root, newRoot: new.root)
    }
}

extension SelectionProof {
    /// Checks that the selected leaves, in order, are in the tree with this head.
    ///
    /// - Throws: ``ProofError`` `.otherTree` when the proof is for another size, and those of
    ///   ``verify(leaves:root:)``.
    package func verify(leaves: some Sequence<Digest>, in head: TreeHead) throws(ProofError) {
        try head.check(size: self.size)
        try self.verify(leaves: leaves, root: head.root)
    }
}
