package import Primitives

/// Proves that some records are in the tree of a size, each at its place, and that all others exist, without showing
/// them: one hash stands for each largest subtree that contains none of the selected records.
///
/// One range makes it a range proof; many make it the proof of a filtered export.
package struct SelectionProof: Sendable, Hashable {
    /// A proof names at most this many ranges.
    package static let rangesMax = 1 << 22

    /// The size of the tree.
    package let size: UInt64
    /// Indexes of the selected leaves, counted from 0: not empty, ascending, and never touching each other.
    package let ranges: [Range<UInt64>]
    /// The subtrees between and around them, from left to right.
    package let hashes: [Digest]

    package init(size: UInt64, ranges: [Range<UInt64>], hashes: [Digest]) {
        self.size = size
        self.ranges = ranges
        self.hashes = hashes
    }

    /// The ranges of ascending indexes, as a proof wants them; an index that is there twice counts once.
    package static func ranges(ofAscending indexes: some Sequence<UInt64>) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        for index in indexes {
            if let last = ranges.last, index <= last.upperBound {
                guard index == last.upperBound else { continue }
                ranges[ranges.count - 1] = last.lowerBound..<(index + 1)
            } else {
                ranges.append(index..<(index + 1))
            }
        }
        return ranges
    }

    /// The number of selected records.
    package var recordCount: UInt64 { self.ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) } }

    /// Builds the proof for the leaves in `ranges` in the tree of the first `size` leaves.
    ///
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.badSelection`, `.tooLarge`; whatever the source throws.
    /// - Complexity: At most 2 log₂ `size` hashes for each gap.
    package static func build(
        ranges: [Range<UInt64>],
        size: UInt64,
        from source: some TreeNodeSource
    ) throws -> SelectionProof {
        try Self.check(ranges: ranges, size: size)
        var hashes: [Digest] = []
        for gap in Self.gaps(between: ranges, size: size) {
            var next = gap.lowerBound
            while next < gap.upperBound {
                let end = Self.gapNode(from: next, to: gap.upperBound, size: size).end
                hashes.append(try source.digest(from: next, to: end))
                next = end
            }
        }
        return SelectionProof(size: size, ranges: ranges, hashes: hashes)
    }

    /// The root that this proof leads to from the selected leaves, in order.
    ///
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.badSelection`, `.tooLarge`, `.wrongLength`,
    ///   `.wrongRecordCount`.
    package func root(leaves: some Sequence<Digest>) throws(ProofError) -> Digest {
        var verifier = try SelectionVerifier(self)
        for leaf in leaves { try verifier.add(leaf) }
        return try verifier.finish()
    }

    /// Checks that the selected leaves, in order, are in the tree with this root; that it is of this size, the caller
    /// knows.
    ///
    /// - Throws: As ``root(leaves:)``, and `.rootMismatch`.
    package func verify(leaves: some Sequence<Digest>, root: Digest) throws(ProofError) {
        guard try self.root(leaves: leaves) == root else {
            throw ProofError(.rootMismatch, "the records are not proven to be in the tree of size \(self.size)")
        }
    }

    static func check(ranges: [Range<UInt64>], size: UInt64) throws(ProofError) {
        guard size > 0 else { throw ProofError(.emptyTree, "an empty tree contains no leaf") }
        guard size <= MerkleTree.sizeMax else { throw ProofError(.beyondTree, "no tree has \(size) leaves") }
        guard ranges.count <= Self.rangesMax else {
            throw ProofError(.tooLarge, "a selection has at most \(Self.rangesMax) ranges")
        }
        guard !ranges.isEmpty else { throw ProofError(.badSelection, "no record is selected") }
        var next: UInt64?
        for range in ranges {
            guard !range.isEmpty, next.map({ range.lowerBound > $0 }) ?? true else {
                throw ProofError(.badSelection, "range \(range) is empty, or not after the one before with a gap")
            }
            next = range.upperBound
        }
        guard let next, next <= size else {
            throw ProofError(.beyondTree, "a selected record is beyond the tree of size \(size)")
        }
    }

    /// What is not selected, in order; the last one reaches to the end of the tree.
    static func gaps(between ranges: [Range<UInt64>], size: UInt64) -> [Range<UInt64>] {
        var gaps: [Range<UInt64>] = []
        var next = UInt64(0)
        for range in ranges {
            if next < range.lowerBound { gaps.append(next..<range.lowerBound) }
            next = range.upperBound
        }
        if next < size { gaps.append(next..<size) }
        return gaps
    }

    /// The largest node of the tree of `size` leaves that begins at `start` and lies before `end`.
    ///
    /// - Returns: Where it ends, and its level when it is perfect and not the last of the tree.
    static func gapNode(from start: UInt64, to end: UInt64, size: UInt64) -> (end: UInt64, level: UInt8?) {
        // On the right edge, one node reaches from the end of some of the tree's peaks to the end of the tree.
        if end == size, size - start < 1 << UInt64(start.trailingZeroBitCount) { return (size, nil) }
        let alignment = start == 0 ? UInt64.bitWidth - 1 : start.trailingZeroBitCount
        let level = min(alignment, UInt64.bitWidth - 1 - (end - start).leadingZeroBitCount)
        return (start + 1 << UInt64(level), UInt8(level))
    }
}
