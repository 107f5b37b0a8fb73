internal import AuditLedger
internal import Primitives
internal import Storage
internal import Synchronization

/// The organizations whose history is damaged on this node: it serves none of them until they are repaired.
///
/// Kept in the rows of the scrub, so that a restart does not forget. Asking costs one atomic read while there are none.
final class DamageRegister: Sendable {
    private let store: any KeyValueStore
    private let count = Atomic<Int>(0)
    private let findings = Mutex<[OrganizationID: LedgerFinding]>([:])

    /// Reads what was found before the last stop; blocks.
    /// - Throws: ``StorageError``.
    init(store: any KeyValueStore) throws(StorageError) {
        self.store = store
        var found: [OrganizationID: LedgerFinding] = [:]
        var unsound: [OrganizationID: LedgerFinding] = [:]
        try store.visitRows(of: .scrubState) { key, value in
            var reader = ByteReader(key)
            let organization = OrganizationID(try reader.read())
            guard let value else {
                // Whether it was damaged is not known any more: then it counts as damaged until it was read again.
                let finding = LedgerFinding(
                    sequence: .zero,
                    kind: .unreadable,
                    detail: "what the node remembers of reading the ledger is not as it was written",
                    place: RowAudit.place(.scrubState, key)
                )
                found[organization] = finding
                unsound[organization] = finding
                return true
            }
            if let finding = try? ScrubRow(value, of: organization).finding { found[organization] = finding }
            return true
        }
        self.count.store(found.count, ordering: .releasing)
        self.findings.withLock { $0 = found }
        // The rows are whole again; what they say ends when the ledger was read.
        for (organization, finding) in unsound { try self.write(finding, organization) }
    }

    /// Whether the node must not serve the organization; from any thread.
    func contains(_ organization: OrganizationID) -> Bool {
        self.count.load(ordering: .acquiring) > 0 && self.findings.withLock { $0[organization] != nil }
    }

    /// Why an organization is not served; nil when it is.
    func finding(of organization: OrganizationID) -> LedgerFinding? {
        guard self.count.load(ordering: .acquiring) > 0 else { return nil }
        return self.findings.withLock { $0[organization] }
    }

    /// What was found, by organization, ascending.
    var all: [(organization: OrganizationID, finding: LedgerFinding)] {
        guard self.count.load(ordering: .acquiring) > 0 else { return [] }
        return self.findings.withLock { $0.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
    }

    /// From now on the organization is not served; blocks.
    /// - Returns: Whether that is news.
    /// - Throws: ``StorageError``; it is refused all the same.
    func mark(_ organization: OrganizationID, _ finding: LedgerFinding) throws(StorageError) -> Bool {
        let isNew = self.findings.withLock { findings in
            let isNew = findings[organization] == nil
            findings[organization] = finding
            self.count.store(findings.count, ordering: .releasing)
            return isNew
        }
        try self.write(finding, organization)
        return isNew
    }

    /// The organization is sound again; blocks.
    /// - Throws: ``StorageError``; then nothing has changed.
    func clear(_ organization: OrganizationID) throws(StorageError) {
        try self.write(nil, organization)
        self.findings.withLock { findings in
            findings[organization] = nil
            self.count.store(findings.count, ordering: .releasing)
        }
    }

    private func write(_ finding: LedgerFinding?, _ organization: OrganizationID) throws(StorageError) {
        var row = try ScrubRow.read(organization, from: self.store)
        row.finding = finding
        // Whatever comes next begins with the first record.
        row.head = nil
        row.begunAt = nil
        row.throughAt = nil
        var batch = WriteBatch()
        batch.put(.scrubState, key: ScrubRow.key(organization), value: row.encoded())
        try self.store.write(batch, durability: .logged)
        try self.store.sync()
    }
}
