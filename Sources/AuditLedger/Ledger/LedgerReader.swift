package import Primitives
package import Storage

/// A record as it is stored.
package struct StoredRecord: Sendable, Hashable {
    package let sequence: SequenceNumber
    /// Canonical JSON.
    package let bytes: [UInt8]

    package init(sequence: SequenceNumber, bytes: [UInt8]) {
        self.sequence = sequence
        self.bytes = bytes
    }
}

/// Reads one organization's ledger from a store or a snapshot of it.
///
/// Every call reads the store and may block; for several calls that must agree, give it a snapshot.
package struct LedgerReader: Sendable {
    package let organization: OrganizationID
    let store: any KeyValueReader

    package init(store: any KeyValueReader, organization: OrganizationID) {
        self.store = store
        self.organization = organization
    }

    private func damaged(_ message: String, cause: (any Error)? = nil) -> LedgerError {
        LedgerError(code: .damaged, message: "organization \(self.organization): \(message)", cause: cause)
    }

    func get(_ key: [UInt8], _ family: ColumnFamily) throws(LedgerError) -> [UInt8]? {
        do {
            return try self.store.get(key, in: family)
        } catch {
            throw LedgerError(
                code: error.code == .corruption ? .damaged : .storage,
                message: "organization \(self.organization): reading \(family.rawValue)",
                cause: error
            )
        }
    }

    /// The stored head; the empty one when there is none.
    package func head() throws(LedgerError) -> LedgerHead {
        guard let bytes = try self.get(LedgerKeys.head(self.organization), .ledgerHeads) else {
            return LedgerHead(empty: self.organization)
        }
        let head: LedgerHead
        do {
            head = try LedgerHead.decode(bytes)
        } catch {
            throw self.damaged("the ledger's head cannot be read", cause: error)
        }
        guard head.organization == self.organization else {
            throw self.damaged("the ledger's head is that of organization \(head.organization)")
        }
        return head
    }

    /// The canonical bytes of a record, or nil when there is none with this sequence.
    package func record(at sequence: SequenceNumber) throws(LedgerError) -> [UInt8]? {
        try self.get(LedgerKeys.record(self.organization, sequence), .records)
    }

    /// Up to `limit` records with `sequence` and later, ascending, at most about `bytesMax` bytes of them
    /// (always one, if there is one).
    ///
    /// - Throws: `.damaged` when a sequence within them is absent.
    package func records(
        from sequence: SequenceNumber,
        limit: Int,
        bytesMax: Int = 8 << 20
    ) throws(LedgerError) -> [StoredRecord] {
        guard limit > 0 else { return [] }
        var records: [StoredRecord] = []
        var bytesCount = 0
        var gap: SequenceNumber?
        let first = max(sequence, SequenceNumber(1))
        do {
            try self.store.scan(
                .records,
                from: LedgerKeys.record(self.organization, first),
                to: keyAfter(prefix: LedgerKeys.head(self.organization))
            ) { key, value in
                let expected = SequenceNumber(first.rawValue &+ UInt64(records.count))
                guard LedgerKeys.sequence(ofRecordKey: key) == expected else {
                    gap = expected
                    return false
                }
                records.append(StoredRecord(sequence: expected, bytes: value))
                bytesCount += value.count
                return records.count < limit && bytesCount < bytesMax
            }
        } catch {
            throw LedgerError(
                code: error.code == .corruption ? .damaged : .storage,
                message: "organization \(self.organization): reading records from \(sequence)",
                cause: error
            )
        }
        if let gap { throw self.damaged("record \(gap) is missing") }
        return records
    }

    /// The digest of a stored tree node.
    ///
    /// - Throws: `.damaged` when it is absent or its row has another form.
    package func node(at position: TreePosition) throws(LedgerError) -> Digest {
        guard let digest = try self.storedNode(at: position) else {
            throw self.damaged("tree node \(position.level)/\(position.index) is missing")
        }
        return digest
    }

    /// The digest of a tree node; nil when it is absent.
    func storedNode(at position: TreePosition) throws(LedgerError) -> Digest? {
        guard let run = try self.run(at: position) else { return nil }
        guard let count = LedgerHash.digestCount(stored: run.bytes) else {
            throw self.damaged("the row of tree node \(position.level)/\(position.index) is not one of digests")
        }
        let offset = position.index - run.first
        return offset < count ? LedgerHash.digest(stored: run.bytes, at: Int(offset)) : nil
    }

    /// The row that holds a tree node if any does: the last one that begins at it or before.
    func run(at position: TreePosition) throws(LedgerError) -> (first: UInt64, bytes: [UInt8])? {
        // Whoever asks for the records of one command asks for the beginning of a row; a get costs much less than a
        // scan.
        if let bytes = try self.get(LedgerKeys.node(self.organization, position), .treeNodes) {
            return (position.index, bytes)
        }
        var found: (first: UInt64, bytes: [UInt8])?
        do {
            try self.store.scan(
                .treeNodes,
                from: LedgerKeys.node(self.organization, TreePosition(level: position.level, index: 0)),
                to: LedgerKeys.node(self.organization, position) + [0],
                direction: .descending
            ) { key, value in
                // A key of another form is no row of nodes.
                guard let place = LedgerKeys.position(ofNodeKey: key) else { return true }
                found = (place.index, value)
                return false
            }
        } catch {
            throw LedgerError(
                code: error.code == .corruption ? .damaged : .storage,
                message: "organization \(self.organization): reading tree nodes",
                cause: error
            )
        }
        return found
    }

    /// The checksums of `count` records from `sequence` on, from the tree.
    ///
    /// - Throws: `.damaged` when one of them is absent.
    package func checksums(from sequence: SequenceNumber, count: Int) throws(LedgerError) -> [Digest] {
        var checksums: [Digest] = []
        checksums.reserveCapacity(count)
        while checksums.count < count {
            let index = sequence.rawValue - 1 + UInt64(checksums.count)
            guard let run = try self.run(at: TreePosition(level: 0, index: index)),
                let size = LedgerHash.digestCount(stored: run.bytes), index - run.first < size
            else { throw self.damaged("tree node 0/\(index) is missing") }
            for offset in Int(index - run.first)..<Int(size) where checksums.count < count {
                checksums.append(LedgerHash.digest(stored: run.bytes, at: offset))
            }
        }
        return checksums
    }

    /// The checksum of a record, from the tree.
    package func checksum(at sequence: SequenceNumber) throws(LedgerError) -> Digest {
        let size = try self.head().size
        guard sequence.rawValue >= 1, sequence.rawValue <= size else {
            throw LedgerError(
                code: .outOfRange,
                message: "organization \(self.organization): no record \(sequence) among \(size)"
            )
        }
        return try self.node(at: TreePosition(level: 0, index: sequence.rawValue - 1))
    }

    /// The Merkle root over the first `size` records, from stored tree nodes.
    ///
    /// - Complexity: One read per set bit of `size`.
    package func root(at size: UInt64) throws(LedgerError) -> Digest {
        try self.root(at: size, head: try self.head())
    }

    private func root(at size: UInt64, head: LedgerHead) throws(LedgerError) -> Digest {
        guard size <= head.size else {
            throw LedgerError(
                code: .outOfRange,
                message: "organization \(self.organization): no tree of size \(size), the ledger has \(head.size)"
            )
        }
        if size == head.size { return head.root }
        var peaks: [Digest] = []
        for position in MerkleTree.peaks(size: size) { peaks.append(try self.node(at: position)) }
        return MerkleTree.root(ofPeaks: peaks)
    }

    /// The roots at several sizes.
    package func roots(at sizes: [UInt64]) throws(LedgerError) -> [Digest] {
        let head = try self.head()
        var roots: [Digest] = []
        for size in sizes { roots.append(try self.root(at: size, head: head)) }
        return roots
    }
}
