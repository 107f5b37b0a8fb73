internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage

/// Compares an organization's columnar store with its ledger, row by row and column by column.
///
/// Rows up to the store's position must be exactly those that the records give: the records are projected once more, into
/// a store in memory, and the same statement must give the same rows from both.
struct ColumnarAudit: Sendable {
    /// Records that are projected into one store in memory.
    private static let windowRecords = 8_192

    let store: any KeyValueStore
    let threads: StoreThreads
    let stores: any OrganizationStores
    let columnarThreads: ColumnarThreads

    struct Outcome: Sendable {
        var rows: UInt64 = 0
        var finding: LedgerFinding?
    }

    /// - Throws: ``ColumnarError``, ``LedgerError``, ``StorageError``.
    func run(_ organization: OrganizationID) async throws -> Outcome {
        let position = try await self.stores.position(of: organization).rawValue
        var outcome = Outcome()
        var next = UInt64(1)
        while next <= position {
            let last = min(position, next + UInt64(Self.windowRecords) - 1)
            let (first, count) = (SequenceNumber(next), Int(last - next + 1))
            let store = self.store
            let records = try await self.threads.run {
                try LedgerReader(store: store, organization: organization)
                    .records(from: first, limit: count, bytesMax: .max)
            }
            guard records.count == count else {
                outcome.finding = Self.finding(records.last?.sequence.next ?? first, "the store is ahead of the ledger")
                return outcome
            }
            if let sequence = try await self.difference(records, organization) {
                outcome.finding = Self.finding(sequence, "the row is not what the record gives, or not there once")
                return outcome
            }
            outcome.rows += UInt64(count)
            next = last + 1
        }
        // Rows that no record up to the position gives.
        let surplus = try await self.rows(
            of: organization,
            "SELECT sequence FROM audit_log WHERE sequence IS NULL OR sequence < 1 OR sequence > \(position) LIMIT 1"
        )
        if !surplus.isEmpty {
            outcome.finding = Self.finding(SequenceNumber(position + 1), "a row stands where no record gives one")
        }
        return outcome
    }

    private static func finding(_ sequence: SequenceNumber, _ detail: String) -> LedgerFinding {
        LedgerFinding(
            sequence: sequence,
            kind: .staleProjection,
            detail: detail,
            place: "columnar audit_log/\(sequence)"
        )
    }

    /// The first sequence whose row differs from that of its record.
    private func difference(
        _ records: [StoredRecord],
        _ organization: OrganizationID
    ) async throws -> SequenceNumber? {
        guard let first = records.first?.sequence, let last = records.last?.sequence else { return nil }
        let memory = try await ColumnarStore.open(.memory, threads: self.columnarThreads)
        do {
            try await memory.createTable(AuditLogDataset.table)
            let batch = try await self.columnarThreads.run(on: .ingest) { try AuditLogDataset.batch(of: records) }
            _ = try await memory.ingest(
                table: AuditLogDataset.table.name,
                batch: batch,
                position: last.rawValue,
                on: .ingest
            )
            let columns = AuditLogDataset.table.columns.map { "\"\($0.name)\"" }.joined(separator: ", ")
            let statement =
                "SELECT \(columns) FROM audit_log WHERE sequence BETWEEN \(first) AND \(last) ORDER BY sequence"
            let wanted = try await Self.rows(RecordBatchStream(memory.query(statement).batches))
            let found = try await self.rows(of: organization, statement)
            await memory.close()
            for (place, row) in wanted.enumerated() where place >= found.count || found[place] != row {
                return SequenceNumber(first.rawValue + UInt64(place))
            }
            return found.count > wanted.count ? last.next : nil
        } catch {
            await memory.close()
            throw error
        }
    }

    private func rows(of organization: OrganizationID, _ statement: String) async throws -> [[ArrowValue]] {
        try await Self.rows(self.stores.query(StoreQuestion(sql: statement), of: organization).batches)
    }

    private static func rows(_ batches: RecordBatchStream) async throws -> [[ArrowValue]] {
        var rows: [[ArrowValue]] = []
        for try await batch in batches {
            for row in 0..<batch.rowCount {
                rows.append(batch.columns.indices.map { batch.value(row: row, column: $0) })
            }
        }
        return rows
    }
}
