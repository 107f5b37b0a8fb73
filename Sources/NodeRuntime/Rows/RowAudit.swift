internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Reads every row of an organization that has a checksum of its own, and names the first that is not as it was written.
///
/// Rows of its group that belong to no organization in particular count for each of the group's; those of the node itself
/// count for the cluster's ledger.
struct RowAudit {
    let store: any KeyValueReader

    struct Outcome: Sendable {
        var rows: UInt64 = 0
        /// Of keys and values.
        var bytes: UInt64 = 0
        var finding: LedgerFinding?
        /// The row of the finding.
        var damaged: (family: ColumnFamily, key: [UInt8])?
    }

    /// Families whose keys begin with the organization.
    private static let families: [ColumnFamily] = [
        .idempotency, .checkpoints, .signedHeads, .forks, .scrubState, .sealedValues, .subjectKeys,
    ]

    /// Whether a row is of the organization, or of its group and no other organization.
    static func isOwn(_ family: ColumnFamily, _ key: [UInt8], of entry: OrganizationEntry) -> Bool {
        guard family == .groupState else {
            return self.families.contains(family) && key.starts(with: LedgerKeys.head(entry.id))
        }
        return key.starts(with: ShardApplier.stateKeyPrefix(of: entry.group))
            && ShardApplier.organization(ofStateKey: key).map { $0 == entry.id } ?? true
    }

    /// Blocks.
    /// - Throws: ``StorageError``.
    func run(_ entry: OrganizationEntry) throws(StorageError) -> Outcome {
        var outcome = Outcome()
        let prefix = LedgerKeys.head(entry.id)
        for family in Self.families {
            try self.visit(family, prefix: prefix, &outcome) { _ in true }
        }
        try self.visit(.groupState, prefix: ShardApplier.stateKeyPrefix(of: entry.group), &outcome) { key in
            ShardApplier.organization(ofStateKey: key).map { $0 == entry.id } ?? true
        }
        if entry.group == .system { try self.visit(.meta, prefix: [], &outcome) { _ in true } }
        return outcome
    }

    private func visit(
        _ family: ColumnFamily,
        prefix: [UInt8],
        _ outcome: inout Outcome,
        where isOwn: (_ key: [UInt8]) -> Bool
    ) throws(StorageError) {
        guard outcome.finding == nil else { return }
        var found = outcome
        try self.store.visitRows(of: family, prefix: prefix) { key, value in
            guard isOwn(key) else { return true }
            found.rows += 1
            found.bytes += UInt64(key.count + (value?.count ?? 0))
            guard value == nil else { return true }
            found.damaged = (family, key)
            found.finding = LedgerFinding(
                sequence: .zero,
                kind: .unreadable,
                detail: "the row is not as it was written: its checksum is that of another",
                place: Self.place(family, key)
            )
            return false
        }
        outcome = found
    }

    /// A key as findings name it: without the organization, sizes as numbers, the rest in hexadecimal digits.
    static func place(_ family: ColumnFamily, _ key: [UInt8]) -> String {
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        let parts: [String]
        switch family {
        case .checkpoints, .forks:
            let digest = key.dropFirst(12)
            parts = [String(number(key.dropFirst(4).prefix(8)))] + (digest.isEmpty ? [] : [Hex.encode(Array(digest))])
        case .groupState:
            let rest = key.dropFirst(5)
            parts =
                [String(number(key.prefix(4))), String(number(key.dropFirst(4).prefix(1)))]
                + (rest.isEmpty ? [] : [Hex.encode(Array(rest))])
        case .signedHeads, .scrubState: parts = []
        case .meta: parts = [Hex.encode(key)]
        default: parts = [Hex.encode(Array(key.dropFirst(4)))]
        }
        return ([family.rawValue] + parts).joined(separator: "/")
    }
}
