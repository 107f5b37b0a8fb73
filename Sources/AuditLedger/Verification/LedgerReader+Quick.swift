internal import Primitives

/// The check that costs nothing: does the head fit the newest nodes and the last record?
extension LedgerReader {
    /// Compares the head with the tree nodes that it is made of, and the last record with both.
    ///
    /// - Returns: What is wrong; nil says nothing about older records.
    /// - Throws: ``LedgerError`` `.storage`.
    /// - Complexity: Two reads for each set bit of the size.
    package func quickFinding() throws(LedgerError) -> LedgerFinding? {
        let head: LedgerHead
        do {
            head = try self.head()
        } catch {
            guard error.code == .damaged else { throw error }
            return LedgerFinding(sequence: .zero, kind: .headMismatch, detail: "the head cannot be read")
        }
        for (position, digest) in zip(MerkleTree.peaks(size: head.size), head.tree.frontier) {
            if let finding = try self.quickFinding(at: position, digest) { return finding }
        }
        if head.size > 0, let finding = try self.quickFinding(ofLast: head) { return finding }
        // A leaf and a record after the last one: the head has gone back.
        let next = head.lastSequence.next
        if try self.isThere({ () throws(LedgerError) in
            try self.storedNode(at: TreePosition(level: 0, index: head.size)) != nil
        }) {
            let detail = "the tree has a leaf of record \(next), the head names \(head.size) records"
            return LedgerFinding(sequence: next, kind: .headMismatch, detail: detail)
        }
        return nil
    }

    private func quickFinding(at position: TreePosition, _ digest: Digest) throws(LedgerError) -> LedgerFinding? {
        let place = "tree_nodes/\(position.level)/\(position.index)"
        var stored: Digest?
        var children: Digest?
        do {
            stored = try self.storedNode(at: position)
            if position.level > 0 {
                let below = position.level - 1
                let left = try self.storedNode(at: TreePosition(level: below, index: position.index * 2))
                let right = try self.storedNode(at: TreePosition(level: below, index: position.index * 2 + 1))
                if let left, let right { children = LedgerHash.node(left, right) }
            } else {
                children = try self.record(at: position.lastSequence).map { LedgerHash.leaf($0) }
            }
        } catch {
            guard error.code == .damaged else { throw error }
            let detail = "the store cannot read the tree node that the head rests on"
            return LedgerFinding(sequence: position.lastSequence, kind: .unreadable, detail: detail, place: place)
        }
        if stored == digest { return nil }
        // Two of three agree: the third is wrong.
        if let stored, stored == children {
            let detail = "the head's tree is not that of the stored nodes"
            return LedgerFinding(sequence: position.lastSequence, kind: .headMismatch, detail: detail)
        }
        let detail = stored == nil ? "a tree node that the head rests on is absent" : "a tree node is not what the head says"
        return LedgerFinding(sequence: position.lastSequence, kind: .treeNodeMismatch, detail: detail, place: place)
    }

    private func quickFinding(ofLast head: LedgerHead) throws(LedgerError) -> LedgerFinding? {
        let last = head.lastSequence
        let bytes: [UInt8]?
        do {
            bytes = try self.record(at: last)
        } catch {
            guard error.code == .damaged else { throw error }
            return LedgerFinding(sequence: last, kind: .unreadable, detail: "the store cannot read the last record")
        }
        guard let bytes else {
            let detail = "the head names \(head.size) records, the last one is absent"
            return LedgerFinding(sequence: last, kind: .truncated, detail: detail)
        }
        let checksum = LedgerHash.leaf(bytes)
        guard checksum == head.lastChecksum else {
            let leaf = try self.isThere { () throws(LedgerError) in
                try self.storedNode(at: TreePosition(level: 0, index: head.size - 1)) == checksum
            }
            return leaf
                ? LedgerFinding(sequence: last, kind: .headMismatch, detail: "the head's last checksum is another one")
                : LedgerFinding(sequence: last, kind: .modified, detail: "the last record is not what was hashed")
        }
        guard (try? RecordFields(scanning: bytes))?.recordedAt == head.lastRecordedAt else {
            return LedgerFinding(sequence: last, kind: .headMismatch, detail: "the head's last time is another one")
        }
        return nil
    }

    private func isThere(_ body: () throws(LedgerError) -> Bool) throws(LedgerError) -> Bool {
        do {
            return try body()
        } catch {
            guard error.code == .damaged else { throw error }
            return false
        }
    }
}

extension LedgerReader {
    /// The head that the stored nodes and the last record give, whatever the stored head says.
    ///
    /// - Returns: nil when they do not fit each other, or there are none.
    /// - Throws: ``LedgerError`` `.storage`.
    package func derivedHead() throws(LedgerError) -> LedgerHead? {
        do {
            guard let last = try self.run(at: TreePosition(level: 0, index: .max)),
                let count = LedgerHash.digestCount(stored: last.bytes)
            else { return nil }
            var head = LedgerHead(empty: self.organization)
            let size = last.first + count
            var frontier: [Digest] = []
            for position in MerkleTree.peaks(size: size) { frontier.append(try self.node(at: position)) }
            guard let tree = MerkleTree(size: size, frontier: frontier),
                let bytes = try self.record(at: SequenceNumber(size)),
                LedgerHash.leaf(bytes) == LedgerHash.digest(stored: last.bytes, at: Int(count) - 1)
            else { return nil }
            let fields = try RecordFields(scanning: bytes)
            guard fields.sequence.rawValue == size else { return nil }
            head.tree = tree
            head.lastChecksum = LedgerHash.leaf(bytes)
            head.lastRecordedAt = fields.recordedAt
            return head
        } catch {
            guard error.code == .damaged else { throw error }
            return nil
        }
    }
}

extension LedgerReader {
    /// Compares the ledger with a head that was seen, or signed, at an earlier time: a ledger only grows.
    ///
    /// - Parameter source: Whose head it is, for people.
    /// - Returns: What is wrong; nil when the earlier head is one of this ledger's.
    /// - Throws: ``LedgerError`` `.storage`.
    /// - Complexity: One read for each set bit of the earlier size.
    package func finding(against earlier: TreeHead, source: String) throws(LedgerError) -> LedgerFinding? {
        do {
            let size = try self.head().size
            guard earlier.size <= size else {
                return LedgerFinding(
                    sequence: SequenceNumber(size + 1),
                    kind: .truncated,
                    detail: "\(source) is over \(earlier.size) records, \(size) are there"
                )
            }
            var peaks: [Digest] = []
            for position in MerkleTree.peaks(size: earlier.size) { peaks.append(try self.node(at: position)) }
            guard MerkleTree.root(ofPeaks: peaks) == earlier.root else {
                return LedgerFinding(
                    sequence: SequenceNumber(earlier.size),
                    kind: .fork,
                    detail: "\(source) over the first \(earlier.size) records is another one"
                )
            }
            return nil
        } catch {
            // Nodes that are absent are for a verification to name.
            guard error.code == .damaged else { throw error }
            return nil
        }
    }
}
