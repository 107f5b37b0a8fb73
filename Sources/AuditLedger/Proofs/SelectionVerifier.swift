package import Primitives

/// Computes the root of a ``SelectionProof`` from the checksums of its records, one after the other.
///
/// Holds one digest per level, however many records there are.
package struct SelectionVerifier: Sendable {
    private let proof: SelectionProof
    private let gaps: [Range<UInt64>]
    private var hashesUsed = 0
    private var gapsUsed = 0
    private var rangesUsed = 0
    /// The number of leaves under `peaks`.
    private var covered = UInt64(0)
    /// Roots of the perfect subtrees over the first `covered` leaves, largest first.
    private var peaks: [Digest] = []
    /// The node from `covered` to the end of the tree, once it is taken.
    private var tail: Digest?

    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.badSelection`, `.tooLarge`, `.wrongLength`.
    package init(_ proof: SelectionProof) throws(ProofError) {
        try SelectionProof.check(ranges: proof.ranges, size: proof.size)
        self.proof = proof
        self.gaps = SelectionProof.gaps(between: proof.ranges, size: proof.size)
        try self.skipGap()
    }

    /// The index of the leaf that ``add(_:)`` wants next; nil after the last one.
    package var nextIndex: UInt64? { self.rangesUsed < self.proof.ranges.count ? self.covered : nil }

    /// Adds the checksum of the next selected record.
    ///
    /// - Throws: ``ProofError`` `.wrongRecordCount`, `.wrongLength`.
    package mutating func add(_ leaf: Digest) throws(ProofError) {
        guard self.rangesUsed < self.proof.ranges.count else {
            throw ProofError(.wrongRecordCount, "more records than the \(self.proof.recordCount) of the proof")
        }
        self.push(leaf, level: 0)
        guard self.covered == self.proof.ranges[self.rangesUsed].upperBound else { return }
        self.rangesUsed += 1
        try self.skipGap()
    }

    /// The root, when all selected records have been added.
    ///
    /// - Throws: ``ProofError`` `.wrongRecordCount`, `.wrongLength`.
    package func finish() throws(ProofError) -> Digest {
        guard self.rangesUsed == self.proof.ranges.count else {
            throw ProofError(.wrongRecordCount, "fewer records than the \(self.proof.recordCount) of the proof")
        }
        guard self.hashesUsed == self.proof.hashes.count else { throw self.wrongLength() }
        return MerkleTree.root(ofPeaks: self.tail.map { self.peaks + [$0] } ?? self.peaks)
    }

    private mutating func skipGap() throws(ProofError) {
        guard self.gapsUsed < self.gaps.count, self.gaps[self.gapsUsed].lowerBound == self.covered else { return }
        let end = self.gaps[self.gapsUsed].upperBound
        self.gapsUsed += 1
        while self.covered < end {
            guard self.hashesUsed < self.proof.hashes.count else { throw self.wrongLength() }
            let digest = self.proof.hashes[self.hashesUsed]
            self.hashesUsed += 1
            let node = SelectionProof.gapNode(from: self.covered, to: end, size: self.proof.size)
            guard let level = node.level else {
                self.tail = digest
                return
            }
            self.push(digest, level: level)
        }
    }

    /// Adds the perfect subtree that begins at `covered`; its level is at most the alignment of `covered`.
    private mutating func push(_ node: Digest, level: UInt8) {
        var digest = node
        var index = self.covered >> UInt64(level)
        while index & 1 == 1, let left = self.peaks.popLast() {
            digest = LedgerHash.node(left, digest)
            index >>= 1
        }
        self.peaks.append(digest)
        self.covered += 1 << UInt64(level)
    }

    private func wrongLength() -> ProofError {
        ProofError(.wrongLength, "\(self.proof.hashes.count) hashes are not those around the selected records")
    }
}
