internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage

/// Compares an organization's columnar store with its ledger, row by row and column by column.
///
/// Rows up to the store's position must be exactly those that the records give: the records are projected once more, into
/// a store in memory, and the same statement must give the same rows from both. What is folded from them is compared by
/// ``EntityAudit``, the index of texts by ``TextIndexAudit``.
struct ColumnarAudit: Sendable {
    /// Records that are compared at once, and projected into one store in memory.
    private static let windowRecords = 8_192

    let store: any KeyValueStore
    let threads: StoreThreads
    let stores: any OrganizationStores
    let columnarThreads: ColumnarThreads
    /// How the stores' index of texts divides sequences.
    var geometry = TextGeometry.standard

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
        outcome.finding = try await self.surplus(organization)
        if outcome.finding == nil { try await self.compareEntities(organization, to: position, &outcome) }
        return outcome
    }

    /// A row that no record up to the store's position gives, which may have moved on meanwhile.
    private func surplus(_ organization: OrganizationID) async throws -> LedgerFinding? {
        let statement = """
            SELECT CAST(count(*) FILTER (WHERE sequence IS NULL OR sequence < 1) AS BIGINT), \
            CAST(coalesce(max(sequence), 0) AS BIGINT) FROM audit_log
            """
        let result = try await self.stores.query(StoreQuestion(sql: statement), of: organization)
        let rows = try await Self.rows(result.batches)
        guard rows != [[.int(0), .int(Int64(clamping: result.position.rawValue))]] else { return nil }
        return Self.finding(result.position.next, "a row stands where no record gives one")
    }

    /// Compares `entities`, `entity_history`, the columns of the views and the index of texts with the records.
    private func compareEntities(
        _ organization: OrganizationID,
        to position: UInt64,
        _ outcome: inout Outcome
    ) async throws {
        let last = SequenceNumber(position)
        let asOf: EntityAudit.Rows = { sql in
            let statement = ShardStatement(sql: sql, asOf: .sequence(last))
            return try await Self.batches(self.stores.query(StoreQuestion(statement), of: organization))
        }
        let asIs: EntityAudit.Rows = { sql in
            try await Self.batches(self.stores.query(StoreQuestion(sql: sql), of: organization))
        }
        var audit = EntityAudit()
        var table = EntityDataset.history.name
        do {
            table = TextIndex.pages.name
            var texts = try await TextIndexAudit(TextIndex(geometry: self.geometry), to: last, asIs)
            table = EntityDataset.history.name
            var next = SequenceNumber(1)
            while next <= last {
                let (store, first) = (self.store, next)
                let count = Int(min(UInt64(Self.windowRecords), last.rawValue - first.rawValue + 1))
                let records = try await self.threads.run {
                    try LedgerReader(store: store, organization: organization)
                        .records(from: first, limit: count, bytesMax: .max)
                }
                try await audit.compare(records, asOf)
                table = TextIndex.pages.name
                try await texts.compare(records, asIs)
                table = EntityDataset.history.name
                guard let end = records.last?.sequence else { break }
                next = end.next
            }
            try await audit.finish(last, asIs)
            table = TextIndex.pages.name
            try await texts.finish(asIs)
            outcome.rows += texts.rows
        } catch let difference as EntityAudit.Difference {
            outcome.finding = Self.finding(difference.sequence, difference.detail, of: table)
        }
        outcome.rows += audit.rows
    }

    private static func batches(_ result: StoreResult) async throws -> [ArrowRecordBatch] {
        var batches: [ArrowRecordBatch] = []
        for try await batch in result.batches { batches.append(batch) }
        return batches
    }

    private static func finding(
        _ sequence: SequenceNumber,
        _ detail: String,
        of table: String = AuditLogDataset.table.name
    ) -> LedgerFinding {
        LedgerFinding(
            sequence: sequence,
            kind: .staleProjection,
            detail: detail,
            place: "columnar \(table)/\(sequence)"
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
