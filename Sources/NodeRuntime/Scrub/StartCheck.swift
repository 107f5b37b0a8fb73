internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// Looks at every ledger's head before the node begins to apply: an append after a wrong head would go on from it.
///
/// Then each ledger is compared with what this node has read and signed before: a shorter or another one was changed
/// while the node did not run. A head that contradicts the tree nodes and the last record, which agree with each other, is made again from them; the
/// organization is not served all the same until it was verified or repaired.
///
/// What is applied is durable only at the next flush, what is signed at once: after a crash a ledger may be shorter than
/// what was signed, and the group's log brings the rest. Such a ledger is judged when that was applied.
struct StartCheck {
    let store: any KeyValueStore
    let applier: ShardApplier
    let register: DamageRegister
    /// The last index of a group's log on this node.
    let logEnd: (GroupID) throws -> LogIndex

    /// What was found, and what must wait.
    struct Outcome: Sendable {
        var findings: [(LedgerFinding, OrganizationEntry)] = []
        var owed: [Owed] = []
    }

    /// A ledger that is shorter than what was remembered of it, while its group's log reaches further than what is applied.
    struct Owed: Sendable {
        let entry: OrganizationEntry
        /// Where the group's log ended at start.
        let through: LogIndex
    }

    /// Checks all ledgers of this node and marks those that are damaged; blocks.
    /// - Throws: ``StorageError``, ``LedgerError`` or ``ConsensusError``.
    func run() throws -> Outcome {
        var organizations: [OrganizationID] = []
        try self.store.scan(.ledgerHeads, from: [], to: nil) { key, _ in
            var reader = ByteReader(key)
            organizations.append(OrganizationID(try reader.read()))
            return true
        }
        var outcome = Outcome()
        var logEnds: [GroupID: LogIndex] = [:]
        for organization in organizations {
            guard let entry = self.applier.directory.organization(organization),
                try !self.applier.hasStaged(organization, in: entry.group)
            else { continue }
            let reader = LedgerReader(store: self.store, organization: organization)
            let finding: LedgerFinding
            if let quick = try reader.quickFinding() {
                finding = quick
            } else if let remembered = try Self.remembered(organization, self.store) {
                if remembered.kind == .truncated {
                    let end = try logEnds[entry.group] ?? self.logEnd(entry.group)
                    logEnds[entry.group] = end
                    if end > (try self.applier.appliedState(of: entry.group).index) {
                        outcome.owed.append(Owed(entry: entry, through: end))
                        continue
                    }
                }
                finding = remembered
            } else {
                continue
            }
            if finding.kind == .headMismatch, let head = try reader.derivedHead() {
                var batch = WriteBatch()
                batch.put(.ledgerHeads, key: LedgerKeys.head(organization), value: head.encode())
                try self.store.write(batch, durability: .unlogged)
            }
            if try self.register.mark(organization, finding) { outcome.findings.append((finding, entry)) }
        }
        return outcome
    }

    /// Compares the ledger with what this node itself has read, and signed, before.
    fileprivate static func remembered(
        _ organization: OrganizationID,
        _ store: any KeyValueStore
    ) throws -> LedgerFinding? {
        let reader = LedgerReader(store: try store.snapshot(), organization: organization)
        if let head = try ScrubRow.read(organization, from: store).head {
            let head = TreeHead(size: head.size, root: head.root)
            if let finding = try reader.finding(against: head, source: "what the node read before") { return finding }
        }
        guard let head = try? CheckpointStore(store: store).signedHead(of: organization) else { return nil }
        return try reader.finding(against: head, source: "what the node has signed")
    }
}

/// Ledgers that could not be judged at start, until they can.
final class OwedLedgers: Sendable {
    private let store: any KeyValueStore
    private let owed: Mutex<[StartCheck.Owed]>

    init(_ owed: [StartCheck.Owed], store: any KeyValueStore) {
        self.owed = Mutex(owed)
        self.store = store
    }

    /// Judges those whose groups have applied what their logs held at start; blocks.
    /// - Parameter applied: How far a group is.
    /// - Throws: As ``StartCheck/run()``; nothing is forgotten then.
    func judge(applied: (GroupID) -> LogIndex) throws -> [(LedgerFinding, OrganizationEntry)] {
        let ready = self.owed.withLock { $0.filter { $0.through <= applied($0.entry.group) } }
        guard !ready.isEmpty else { return [] }
        let found = try ready.compactMap { owed in
            try StartCheck.remembered(owed.entry.id, self.store).map { ($0, owed.entry) }
        }
        let judged = Set(ready.map(\.entry.id))
        self.owed.withLock { $0.removeAll { judged.contains($0.entry.id) } }
        return found
    }
}
