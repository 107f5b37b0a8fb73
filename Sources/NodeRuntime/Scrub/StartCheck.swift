internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Looks at every ledger's head before the node begins to apply: an append after a wrong head would go on from it.
///
/// Then each ledger is compared with what this node has read and signed before: a shorter or another one was changed
/// while the node did not run. A head that contradicts the tree nodes and the last record, which agree with each other, is made again from them; the
/// organization is not served all the same until it was verified or repaired.
struct StartCheck {
    let store: any KeyValueStore
    let applier: ShardApplier
    let register: DamageRegister

    /// Checks all ledgers of this node and marks those that are damaged; blocks.
    /// - Throws: ``StorageError`` or ``LedgerError``.
    func run() throws -> [(LedgerFinding, OrganizationEntry)] {
        var organizations: [OrganizationID] = []
        try self.store.scan(.ledgerHeads, from: [], to: nil) { key, _ in
            var reader = ByteReader(key)
            organizations.append(OrganizationID(try reader.read()))
            return true
        }
        var found: [(LedgerFinding, OrganizationEntry)] = []
        for organization in organizations {
            guard let entry = self.applier.directory.organization(organization),
                try !self.applier.hasStaged(organization, in: entry.group)
            else { continue }
            let reader = LedgerReader(store: self.store, organization: organization)
            let finding: LedgerFinding
            if let quick = try reader.quickFinding() {
                finding = quick
            } else if let remembered = try self.remembered(organization, reader) {
                finding = remembered
            } else {
                continue
            }
            if finding.kind == .headMismatch, let head = try reader.derivedHead() {
                var batch = WriteBatch()
                batch.put(.ledgerHeads, key: LedgerKeys.head(organization), value: head.encode())
                try self.store.write(batch, durability: .unlogged)
            }
            if try self.register.mark(organization, finding) { found.append((finding, entry)) }
        }
        return found
    }

    /// Compares the ledger with what this node itself has read, and signed, before.
    private func remembered(_ organization: OrganizationID, _ reader: LedgerReader) throws -> LedgerFinding? {
        if let head = try ScrubRow.read(organization, from: self.store).head {
            let head = TreeHead(size: head.size, root: head.root)
            if let finding = try reader.finding(against: head, source: "what the node read before") { return finding }
        }
        guard let head = try? CheckpointStore(store: self.store).signedHead(of: organization) else { return nil }
        return try reader.finding(against: head, source: "what the node has signed")
    }
}
