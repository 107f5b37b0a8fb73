package import Primitives
package import Storage

/// Where an organization's ledger stands: everything that the next append needs.
package struct LedgerHead: Sendable, Hashable {
    package let organization: OrganizationID
    /// The tree over all checksums; its size is the number of records.
    package internal(set) var tree: MerkleTree
    /// The checksum of the last record; zero when there is none.
    package internal(set) var lastChecksum: Digest
    /// `recorded_at` of the last record; nil when there is none.
    package internal(set) var lastRecordedAt: Timestamp?

    /// The head of a ledger without records.
    package init(empty organization: OrganizationID) {
        self.organization = organization
        self.tree = MerkleTree()
        self.lastChecksum = .zero
        self.lastRecordedAt = nil
    }

    /// The head as a faulty program would restore it: the next record breaks the chain. For tests of what must notice
    /// that.
    package var withoutLastChecksum: LedgerHead {
        var head = self
        head.lastChecksum = .zero
        return head
    }

    /// The number of records, which is the sequence of the last one.
    package var size: UInt64 { self.tree.size }
    package var lastSequence: SequenceNumber { SequenceNumber(self.tree.size) }
    /// The Merkle root over all records.
    package var root: Digest { self.tree.root }

    /// Removes the records and tree nodes that lie beyond the head, where a snapshot that was not finished left them.
    ///
    /// Rows of tree nodes may not overlap, and those that come now have other borders.
    package func clearBeyond(into batch: inout WriteBatch) {
        guard let end = keyAfter(prefix: LedgerKeys.head(self.organization)) else { return }
        let next = LedgerKeys.record(self.organization, self.lastSequence.next)
        batch.deleteRange(.records, lower: next, upper: end)
        for level in 0..<Self.levelsMax {
            let first = TreePosition(level: level, index: self.size >> UInt64(level))
            let above = TreePosition(level: level + 1, index: 0)
            let lower = LedgerKeys.node(self.organization, first)
            batch.deleteRange(.treeNodes, lower: lower, upper: LedgerKeys.node(self.organization, above))
        }
    }

    /// Levels of the largest tree.
    private static let levelsMax: UInt8 = 64

    private static let formatVersion = UInt8(1)

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 54 + self.tree.frontier.count * Digest.byteCount)
        writer.write(Self.formatVersion)
        writer.write(self.organization.rawValue)
        writer.write(self.size)
        writer.write(self.lastChecksum)
        writer.write(self.lastRecordedAt?.rawValue ?? Int64.min)
        for digest in self.tree.frontier { writer.write(digest) }
        return writer.bytes
    }

    package static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> LedgerHead {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt8.self) == Self.formatVersion else {
            throw MalformedBytes(what: "version of a ledger head", offset: 0)
        }
        var head = LedgerHead(empty: OrganizationID(try reader.read()))
        let size = try reader.read(UInt64.self)
        head.lastChecksum = try reader.readDigest()
        let time = try reader.read(Int64.self)
        head.lastRecordedAt = time == Int64.min ? nil : Timestamp(microseconds: time)
        var frontier: [Digest] = []
        for _ in 0..<size.nonzeroBitCount { frontier.append(try reader.readDigest()) }
        try reader.finish("ledger head")
        guard let tree = MerkleTree(size: size, frontier: frontier), (head.lastRecordedAt == nil) == (size == 0) else {
            throw MalformedBytes(what: "ledger head", offset: 0)
        }
        head.tree = tree
        return head
    }
}
