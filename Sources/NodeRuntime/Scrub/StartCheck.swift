internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Looks at every ledger's head before the node begins to apply: an append after a wrong head would go on from it.
///
/// A head that contradicts the tree nodes and the last record, which agree with each other, is made again from them; the
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
            guard let finding = try reader.quickFinding() else { continue }
            if finding.kind == .headMismatch, let head = try reader.derivedHead() {
                var batch = WriteBatch()
                batch.put(.ledgerHeads, key: LedgerKeys.head(organization), value: head.encode())
                try self.store.write(batch, durability: .unlogged)
            }
            if try self.register.mark(organization, finding) { found.append((finding, entry)) }
        }
        return found
    }
}
