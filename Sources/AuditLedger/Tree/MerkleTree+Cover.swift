package import Primitives

extension MerkleTree {
    /// The perfect subtrees that cover the leaves `from..<to`, in their order.
    package static func cover(from: UInt64, to: UInt64) -> [TreePosition] {
        var positions: [TreePosition] = []
        var next = from
        while next < to {
            // As large as its place allows, and as the end allows.
            var level = next == 0 ? 63 : next.trailingZeroBitCount
            level = min(level, 63 - (to - next).leadingZeroBitCount)
            positions.append(TreePosition(level: UInt8(level), index: next >> UInt64(level)))
            next += UInt64(1) << UInt64(level)
        }
        return positions
    }

    /// The roots of the perfect subtrees of the whole that lie over perfect subtrees which cover it from its first leaf
    /// on, largest first; nil when they do not follow each other.
    package static func peaks(folding nodes: [(TreePosition, Digest)]) -> [Digest]? {
        var stack: [(position: TreePosition, digest: Digest)] = []
        var next = UInt64(0)
        for (position, digest) in nodes {
            guard position.level < 64, position.firstSequence.rawValue == next + 1 else { return nil }
            next = position.lastSequence.rawValue
            var top = (position: position, digest: digest)
            while let left = stack.last, left.position.level == top.position.level, left.position.index & 1 == 0 {
                stack.removeLast()
                let parent = TreePosition(level: top.position.level + 1, index: top.position.index >> 1)
                top = (parent, LedgerHash.node(left.digest, top.digest))
            }
            stack.append(top)
        }
        return stack.map(\.digest)
    }

    /// The root of a perfect subtree from a whole row of it; the number of digests is a power of two.
    package static func root(ofPerfect row: [Digest]) -> Digest {
        precondition(row.count.nonzeroBitCount == 1, "a row of a perfect tree has a power of two of nodes")
        var row = row
        while row.count > 1 {
            row = stride(from: 0, to: row.count, by: 2).map { LedgerHash.node(row[$0], row[$0 + 1]) }
        }
        return row[0]
    }
}
