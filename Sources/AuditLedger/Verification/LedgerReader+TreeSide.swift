package import Primitives
internal import Storage

/// A replica's stored tree and records as one side of a ``MerkleDescent``.
///
/// Give the reader a snapshot: the answers of one comparison must be of one moment, or of a ledger that only grows.
extension LedgerReader: TreeSide {
    package func answer(_ question: DescentQuestion) throws(LedgerError) -> DescentAnswer {
        switch question {
        case .head:
            let head = try self.head()
            return .head(size: head.size, peaks: head.tree.frontier)
        case .bounds(let size, let whole):
            guard size <= whole, whole <= (try self.head().size) else { throw self.beyond() }
            var digests: [Digest] = []
            for position in MerkleTree.peaks(size: size) + MerkleTree.cover(from: size, to: whole) {
                digests.append(try self.node(at: position))
            }
            return .digests(digests)
        case .descendants(let position):
            guard position.level < 64, position.lastSequence.rawValue <= (try self.head().size) else {
                throw self.beyond()
            }
            let below = position.rowBelow
            return .digests(try self.nodes(from: below.first, count: below.count))
        case .contents(let first, let records, let blockRecords):
            return .digests(try self.contents(first, records: records, blockRecords: blockRecords))
        case .record(let sequence): return .record(try self.record(at: sequence))
        }
    }

    private func beyond() -> LedgerError {
        LedgerError(code: .outOfRange, message: "organization \(self.organization): no such node in this tree")
    }

    /// Neighbouring nodes of one level.
    /// - Throws: ``LedgerError`` `.damaged` when one of them is absent.
    package func nodes(from position: TreePosition, count: Int) throws(LedgerError) -> [Digest] {
        var digests: [Digest] = []
        digests.reserveCapacity(count)
        while digests.count < count {
            let next = TreePosition(level: position.level, index: position.index + UInt64(digests.count))
            guard let run = try self.run(at: next), let size = LedgerHash.digestCount(stored: run.bytes),
                next.index - run.first < size
            else {
                throw LedgerError(
                    code: .damaged,
                    message: "organization \(self.organization): tree node \(next.level)/\(next.index) is missing"
                )
            }
            for offset in Int(next.index - run.first)..<Int(size) where digests.count < count {
                digests.append(LedgerHash.digest(stored: run.bytes, at: offset))
            }
        }
        return digests
    }

    private func contents(
        _ first: SequenceNumber,
        records: UInt64,
        blockRecords: UInt64
    ) throws(LedgerError) -> [Digest] {
        let size = try self.head().size
        guard first.rawValue >= 1, blockRecords >= 1, blockRecords <= DescentContents.blockRecordsMax, records >= 1,
            records <= blockRecords * DescentContents.blocksMax, records <= size, first.rawValue - 1 <= size - records
        else { throw self.beyond() }
        var blocks: [Digest] = []
        var block: [Digest] = []
        var next = first
        let end = first.rawValue + records
        while next.rawValue < end {
            let stored = try self.records(from: next, limit: Int(min(end - next.rawValue, 4096)))
            guard !stored.isEmpty else {
                throw LedgerError(
                    code: .damaged,
                    message: "organization \(self.organization): record \(next) is missing"
                )
            }
            for record in stored {
                block.append(DescentContents.digest(record.bytes))
                if UInt64(block.count) == blockRecords {
                    blocks.append(DescentContents.block(block))
                    block.removeAll(keepingCapacity: true)
                }
            }
            next = SequenceNumber(next.rawValue + UInt64(stored.count))
        }
        if !block.isEmpty { blocks.append(DescentContents.block(block)) }
        return blocks
    }
}
