internal import CChecksum
internal import Primitives

/// Rows of digests as they are stored, 32 bytes each.
enum DigestRow {
    static func digest(_ row: [UInt8], at place: Int) -> Digest {
        row.withUnsafeBytes {
            let start = place * Digest.byteCount
            return Digest(stored: UnsafeRawBufferPointer(rebasing: $0[start..<start + Digest.byteCount]))
        }
    }

    /// The nodes over neighbouring pairs of a row, which has an even number of them.
    static func parents(of row: ArraySlice<UInt8>) -> [UInt8] {
        let pairBytes = 2 * Digest.byteCount
        let count = row.count / pairBytes
        precondition(row.count == count * pairBytes, "a row has pairs of nodes")
        return [UInt8](unsafeUninitializedCapacity: count * Digest.byteCount) { parents, written in
            row.withUnsafeBytes { row in
                Self.hash(pairs: row, count: count, into: UnsafeMutableRawBufferPointer(parents))
            }
            written = count * Digest.byteCount
        }
    }

    private static func hash(
        pairs: UnsafeRawBufferPointer,
        count: Int,
        into parents: UnsafeMutableRawBufferPointer
    ) {
        let pairBytes = 2 * Digest.byteCount
        let textBytes = pairBytes + 1
        withUnsafeTemporaryAllocation(byteCount: 2 * textBytes, alignment: 8) { texts in
            texts[0] = 0x01
            texts[textBytes] = 0x01
            func text(_ place: Int) -> UnsafeRawBufferPointer {
                let start = (place & 1) * textBytes
                let nodes = UnsafeMutableRawBufferPointer(rebasing: texts[start + 1..<start + textBytes])
                let from = place * pairBytes
                nodes.copyMemory(from: UnsafeRawBufferPointer(rebasing: pairs[from..<from + pairBytes]))
                return UnsafeRawBufferPointer(rebasing: texts[start..<start + textBytes])
            }
            func parent(_ place: Int) -> UnsafeMutableRawBufferPointer {
                let start = place * Digest.byteCount
                return UnsafeMutableRawBufferPointer(rebasing: parents[start..<start + Digest.byteCount])
            }
            var place = 0
            while place + 1 < count {
                LedgerHash.hash(text(place), into: parent(place), and: text(place + 1), into: parent(place + 1))
                place += 2
            }
            if place < count { LedgerHash.hash(text(place), into: parent(place)) }
        }
    }
}

/// Neighbouring nodes of a level.
struct NodeRow: Sendable {
    /// The index of the first node.
    let first: UInt64
    /// Their digests.
    let digests: [UInt8]

    /// The index after the last node.
    var past: UInt64 { self.first + UInt64(self.digests.count / Digest.byteCount) }
}

/// The nodes over neighbouring leaves that are complete with these leaves alone, level by level.
struct SubtreeRows: Sendable {
    /// From the leaves up; as many as there are levels with a complete node.
    let rows: [NodeRow]

    /// - Parameters:
    ///   - leaves: Digests, one at least.
    ///   - first: The index of the first leaf.
    init(leaves: [UInt8], first: UInt64) {
        var rows = [NodeRow(first: first, digests: leaves)]
        while let below = rows.last {
            let first = (below.first + 1) >> 1
            let past = below.past >> 1
            guard past > first else { break }
            let start = Int(2 * first - below.first) * Digest.byteCount
            let end = Int(2 * past - below.first) * Digest.byteCount
            rows.append(NodeRow(first: first, digests: DigestRow.parents(of: below.digests[start..<end])))
        }
        self.rows = rows
    }
}

/// The nodes that neighbouring leaves complete, level by level: those over parts of the leaves, and those that stand over
/// more than one part or over leaves before.
struct JoinedRows: Sendable {
    /// The tree with the leaves.
    private(set) var tree: MerkleTree
    /// Rows that follow each other, for each level.
    private var rows: [[NodeRow]] = []

    /// - Parameters:
    ///   - parts: Leaves that follow each other.
    ///   - before: The tree that the first leaf follows.
    /// - Returns: nil when the parts do not follow each other.
    init?(_ parts: [SubtreeRows], after before: MerkleTree) {
        self.tree = before
        // The frontier by level, so that a left sibling from before is found.
        var peaks: [Int: Digest] = [:]
        for (position, digest) in zip(MerkleTree.peaks(size: before.size), before.frontier) {
            peaks[Int(position.level)] = digest
        }
        let end = parts.last?.rows[0].past ?? before.size
        var frontier: [Digest] = []
        for level in 0..<UInt64.bitWidth - end.leadingZeroBitCount {
            let (first, past) = (before.size >> UInt64(level), end >> UInt64(level))
            if past > first {
                let inner = parts.compactMap { level < $0.rows.count ? $0.rows[level] : nil }
                guard let row = self.row(level, first..<past, inner, leftOf: peaks) else { return nil }
                self.rows.append(row)
            }
            guard past & 1 == 1 else { continue }
            let peak = past > first ? self.digest(level, past - 1) : peaks[level]
            guard let peak else { return nil }
            frontier.append(peak)
        }
        guard let tree = MerkleTree(size: end, frontier: frontier.reversed()) else { return nil }
        self.tree = tree
    }

    /// The nodes of a level, of which some are there.
    private func row(
        _ level: Int,
        _ range: Range<UInt64>,
        _ inner: [NodeRow],
        leftOf peaks: [Int: Digest]
    ) -> [NodeRow]? {
        var row: [NodeRow] = []
        var next = range.lowerBound
        /// Makes the nodes before `past` from their children.
        func make(before past: UInt64) -> Bool {
            guard level > 0 || next == past else { return false }
            while next < past {
                let left = self.digest(level - 1, 2 * next) ?? peaks[level - 1]
                guard let left, let right = self.digest(level - 1, 2 * next + 1) else { return false }
                row.append(NodeRow(first: next, digests: LedgerHash.node(left, right).bytes))
                next += 1
            }
            return next == past
        }
        for part in inner {
            guard make(before: part.first) else { return nil }
            row.append(part)
            next = part.past
        }
        return make(before: range.upperBound) ? row : nil
    }

    private func digest(_ level: Int, _ index: UInt64) -> Digest? {
        guard let row = self.rows[level].first(where: { $0.first <= index && index < $0.past }) else { return nil }
        return DigestRow.digest(row.digests, at: Int(index - row.first))
    }

    /// The number of levels that have nodes.
    var levels: Int { self.rows.count }

    func indices(_ level: Int) -> Range<UInt64> {
        guard let first = self.rows[level].first, let last = self.rows[level].last else { return 0..<0 }
        return first.first..<last.past
    }

    /// Whether the nodes of a level from an index on are these.
    func have(_ digests: UnsafeRawBufferPointer, at level: Int, from index: UInt64) -> Bool {
        var rest = digests[...]
        var next = index
        for row in self.rows[level] where row.past > next {
            guard row.first <= next, !rest.isEmpty else { break }
            let isSame = row.digests.withUnsafeBytes { all in
                let own = all[(Int(next - row.first) * Digest.byteCount)...].prefix(rest.count)
                let other = rest.prefix(own.count)
                guard let start = UnsafeRawBufferPointer(rebasing: own).baseAddress,
                    let otherStart = UnsafeRawBufferPointer(rebasing: other).baseAddress
                else { return false }
                rest = rest.dropFirst(own.count)
                return ft_is_same(start, otherStart, own.count) != 0
            }
            guard isSame else { return false }
            next = row.past
        }
        return rest.isEmpty
    }
}
