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

    /// The digest of a node from perfect subtrees that cover it, from its first leaf to its last; nil when they do not.
    static func root(of position: TreePosition, folding nodes: [DescentNode]) -> Digest? {
        var stack: [DescentNode] = []
        guard position.level < 64 else { return nil }
        var next = position.firstSequence
        for node in nodes {
            guard node.position.level <= position.level, node.position.firstSequence == next else { return nil }
            next = node.position.lastSequence.next
            var top = node
            while let left = stack.last, left.position.level == top.position.level, left.position.index & 1 == 0,
                top.position.level < position.level
            {
                stack.removeLast()
                let parent = TreePosition(level: top.position.level + 1, index: top.position.index >> 1)
                top = DescentNode(position: parent, digest: LedgerHash.node(left.digest, top.digest))
            }
            stack.append(top)
        }
        return stack.count == 1 && stack[0].position == position ? stack[0].digest : nil
    }

    /// The first node at which two covers of one node differ, as both have it, and the side that knows nothing below; nil
    /// when they are equal. Where one side has a higher node, the nodes of the other below it are folded.
    static func firstDifference(
        _ a: [DescentNode],
        _ b: [DescentNode]
    ) -> (a: DescentNode, b: DescentNode, coarse: DescentSide)? {
        var (a, b) = (a[...], b[...])
        /// Takes the nodes under `position` off the front, as one.
        func folded(_ nodes: inout ArraySlice<DescentNode>, under position: TreePosition) -> DescentNode? {
            let below = nodes.prefix { $0.position.lastSequence <= position.lastSequence }
            nodes = nodes.dropFirst(below.count)
            let digest = self.root(of: position, folding: Array(below))
            return digest.map { DescentNode(position: position, digest: $0) }
        }
        while let left = a.first, let right = b.first {
            let isCoarse = left.position.level > right.position.level
            let position = isCoarse ? left.position : right.position
            guard let one = folded(&a, under: position), let other = folded(&b, under: position) else { return nil }
            if one.digest != other.digest { return (one, other, isCoarse ? .a : .b) }
        }
        return nil
    }
}
