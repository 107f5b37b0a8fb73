extension Checkpoint {
    /// The size and root, without the log's name.
    package var head: TreeHead { TreeHead(size: self.size, root: self.root) }
}

/// The rule that a replica and a witness sign by: never a smaller head than before, never a different one.
///
/// The caller keeps the largest head that it signed for each origin, stores it durably **before** a signature leaves
/// it, and asks here first.
package enum HeadHistory {
    /// What to do with a head that somebody wants signed.
    package enum Decision: Hashable, Sendable {
        /// Store the head as the last one, durably; then sign.
        case sign
        /// The same head was signed before: signing it again says nothing new.
        case signAgain
        /// Smaller than what was signed: refuse and answer with the last head.
        case refuseStale(last: TreeHead)
        /// Larger, but not shown to continue the last head: refuse and ask for a consistency proof from its size.
        case refuseUnproven(last: TreeHead)
        /// Another root at the same size: refuse, keep both notes as a ``ForkProof`` and raise an alarm.
        case refuseFork(last: TreeHead)
    }

    /// Decides about a head.
    ///
    /// - Parameters:
    ///   - last: The largest head that was signed for this origin; nil when there is none.
    ///   - candidate: A head, its root computed or its log signature checked by the caller.
    ///   - consistency: From the size of `last` to that of `candidate`; not needed when the sizes are equal.
    package static func decide(
        last: TreeHead?,
        candidate: TreeHead,
        consistency: ConsistencyProof?
    ) -> Decision {
        guard let last else { return .sign }
        if candidate.size < last.size { return .refuseStale(last: last) }
        if candidate.size == last.size {
            return candidate.root == last.root ? .signAgain : .refuseFork(last: last)
        }
        guard let consistency else { return .refuseUnproven(last: last) }
        do {
            try consistency.verify(from: last, to: candidate)
            return .sign
        } catch {
            return .refuseUnproven(last: last)
        }
    }

    /// Decides about a head of a tree that the caller has: the nodes say whether it continues the last head.
    ///
    /// A tree that does not is a fork between what this replica signed and what it now stores.
    /// - Throws: What the source throws.
    /// - Complexity: O(log size) reads.
    package static func decide(
        last: TreeHead?,
        candidate: TreeHead,
        nodes source: some TreeNodeSource
    ) throws -> Decision {
        guard let last, last.size < candidate.size else {
            return self.decide(last: last, candidate: candidate, consistency: nil)
        }
        guard try source.treeRoot(size: last.size) == last.root else { return .refuseFork(last: last) }
        let proof = try ConsistencyProof.build(from: last.size, to: candidate.size, nodes: source)
        return self.decide(last: last, candidate: candidate, consistency: proof)
    }
}
