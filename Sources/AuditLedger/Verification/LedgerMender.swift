package import Primitives
package import Storage

/// Brings a damaged replica back to leaves that are proved: says which records it needs, and writes what was wrong.
///
/// Rows go page by page, in order; what is right already is not touched. Tree nodes are computed from the leaves, so they
/// need no source. The head is not written here: it belongs to whoever appends.
package struct LedgerMender: Sendable {
    /// What a page needed.
    package struct Page: Sendable {
        fileprivate let first: UInt64
        fileprivate let leaves: [Digest]
        /// Keys in the page's range that are none of a record.
        fileprivate var strangeKeys: [[UInt8]] = []
        /// Sequences of records that are absent or are not those of their leaves, ascending.
        package fileprivate(set) var wanted: [SequenceNumber] = []
    }

    private let reader: LedgerReader
    /// The tree after the pages so far.
    package private(set) var tree: MerkleTree
    /// The checksum of the last record of the pages so far.
    package private(set) var lastChecksum: Digest
    /// Records that were written.
    package private(set) var recordsMended = UInt64(0)
    /// Tree nodes that were written.
    package private(set) var nodesMended = UInt64(0)

    /// - Parameters:
    ///   - store: The store itself: what is written must be seen.
    ///   - before: The tree of the records before the first page.
    package init(store: any KeyValueReader, organization: OrganizationID, before: MerkleTree) {
        self.reader = LedgerReader(store: store, organization: organization)
        self.tree = before
        self.lastChecksum = .zero
    }

    /// Looks at the records of the next leaves.
    /// - Parameter first: The index of the first leaf: the tree's size.
    /// - Throws: ``LedgerError`` `.storage`.
    package func examine(_ leaves: [Digest], first: UInt64) throws(LedgerError) -> Page {
        precondition(first == self.tree.size, "pages come in order")
        var page = Page(first: first, leaves: leaves)
        var isRight = [Bool](repeating: false, count: leaves.count)
        var next = SequenceNumber(first + 1)
        let past = first + UInt64(leaves.count)
        while next.rawValue <= past {
            do {
                try self.reader.store.scan(
                    .records,
                    from: LedgerKeys.record(self.reader.organization, next),
                    to: LedgerKeys.record(self.reader.organization, SequenceNumber(past + 1))
                ) { key, value in
                    guard let sequence = LedgerKeys.sequence(ofRecordKey: key) else {
                        page.strangeKeys.append(key)
                        return true
                    }
                    let place = Int(sequence.rawValue - 1 - first)
                    isRight[place] = LedgerHash.leaf(value) == leaves[place]
                    next = sequence.next
                    return true
                }
                break
            } catch {
                guard error.code == .corruption else { throw self.failure("reading records", error) }
                // The one that cannot be read is wanted; those after it may be readable.
                next = next.next
            }
        }
        for (place, isRight) in isRight.enumerated() where !isRight {
            page.wanted.append(SequenceNumber(first + UInt64(place) + 1))
        }
        return page
    }

    private func failure(_ what: String, _ error: StorageError) -> LedgerError {
        LedgerError(code: .storage, message: "mending organization \(self.reader.organization): \(what)", cause: error)
    }

    /// Moves over a page: the writes that make its records and nodes right, none when they are.
    ///
    /// - Parameter records: One for each that the page wanted, in that order.
    /// - Throws: ``LedgerError`` `.damaged` when a record is not that of its leaf: then nothing has changed.
    package mutating func mend(_ page: Page, records: [[UInt8]]) throws(LedgerError) -> WriteBatch {
        var batch = WriteBatch()
        guard records.count == page.wanted.count else {
            throw LedgerError(code: .damaged, message: "a record that was asked for did not come")
        }
        for (sequence, bytes) in zip(page.wanted, records) {
            guard LedgerHash.leaf(bytes) == page.leaves[Int(sequence.rawValue - 1 - page.first)] else {
                throw LedgerError(code: .damaged, message: "record \(sequence) that came is not the one of its leaf")
            }
            batch.put(.records, key: LedgerKeys.record(self.reader.organization, sequence), value: bytes)
        }
        for key in page.strangeKeys { batch.delete(.records, key: key) }
        var tree = self.tree
        var levels: [(first: UInt64, row: [UInt8])] = []
        for leaf in page.leaves {
            tree.push(leaf) { position, digest in
                if Int(position.level) == levels.count { levels.append((position.index, [])) }
                digest.append(to: &levels[Int(position.level)].row)
            }
        }
        var nodes = UInt64(0)
        for (level, made) in levels.enumerated() {
            if try self.mendRow(UInt8(level), made.first, made.row, into: &batch) {
                nodes += UInt64(made.row.count / Digest.byteCount)
            }
        }
        self.tree = tree
        self.lastChecksum = page.leaves.last ?? self.lastChecksum
        self.recordsMended += UInt64(records.count)
        self.nodesMended += nodes
        return batch
    }

    /// Writes neighbouring nodes of a level where they are not there already, and keeps the nodes beside them that stand
    /// in the same rows.
    private func mendRow(
        _ level: UInt8,
        _ first: UInt64,
        _ row: [UInt8],
        into batch: inout WriteBatch
    ) throws(LedgerError) -> Bool {
        let organization = self.reader.organization
        let past = first + UInt64(row.count / Digest.byteCount)
        let isThere = try? self.reader.hasNodes(level, first..<past) { digests, index in
            row[(Int(index - first) * Digest.byteCount)...].starts(with: digests)
        }
        if isThere == true { return false }
        let lower = LedgerKeys.node(organization, TreePosition(level: level, index: first))
        let upper = LedgerKeys.node(organization, TreePosition(level: level, index: past))
        var neighbours: [(first: UInt64, bytes: [UInt8])] = []
        // A row before that reaches into these nodes.
        if first > 0, let run = try? self.reader.run(at: TreePosition(level: level, index: first - 1)) {
            neighbours.append(run)
        }
        do {
            try self.reader.store.scan(.treeNodes, from: lower, to: upper) { key, value in
                if let position = LedgerKeys.position(ofNodeKey: key) { neighbours.append((position.index, value)) }
                return true
            }
        } catch {
            guard error.code == .corruption else { throw self.failure("reading tree nodes", error) }
        }
        batch.deleteRange(.treeNodes, lower: lower, upper: upper)
        for run in neighbours {
            guard let count = LedgerHash.digestCount(stored: run.bytes) else { continue }
            if run.first < first, run.first + count > first {
                let kept = Array(run.bytes.prefix(Int(first - run.first) * Digest.byteCount))
                let key = LedgerKeys.node(organization, TreePosition(level: level, index: run.first))
                batch.put(.treeNodes, key: key, value: kept)
            }
            if run.first < past, run.first + count > past {
                let rest = Array(run.bytes.dropFirst(Int(past - run.first) * Digest.byteCount))
                if (try? self.reader.get(upper, .treeNodes)) == .some(nil) {
                    batch.put(.treeNodes, key: upper, value: rest)
                }
            }
        }
        batch.put(.treeNodes, key: lower, value: row)
        return true
    }

    /// The head of what was mended, with the time of its last record.
    /// - Throws: ``LedgerError`` when that record cannot be read.
    package func head() throws(LedgerError) -> LedgerHead {
        var head = LedgerHead(empty: self.reader.organization)
        head.tree = self.tree
        guard self.tree.size > 0 else { return head }
        guard let bytes = try self.reader.record(at: SequenceNumber(self.tree.size)) else {
            throw LedgerError(code: .damaged, message: "record \(self.tree.size) is absent after mending")
        }
        head.lastChecksum = LedgerHash.leaf(bytes)
        head.lastRecordedAt = try RecordFields(scanning: bytes).recordedAt
        return head
    }
}
