internal import AuditLedger
internal import Columnar
internal import Primitives

/// The tables of one organization's columnar store, and what fills them.
///
/// Knows a store and records only, so that it works in whatever process has the store open. One for each open store.
/// Safe to call from any task; every call into the engine runs on the store's threads.
final class OrganizationDatasets: Sendable {
    let store: ColumnarStore

    private init(store: ColumnarStore) { self.store = store }

    /// Makes the tables that the store lacks.
    /// - Throws: ``ColumnarError``.
    static func open(_ store: ColumnarStore) async throws -> OrganizationDatasets {
        try await store.createTable(AuditLogDataset.table)
        return OrganizationDatasets(store: store)
    }

    /// The last sequence in `audit_log`; zero when it is empty.
    func position() async throws -> SequenceNumber { SequenceNumber(try await self.store.position()) }

    /// Adds consecutive records to `audit_log` and moves the position to the last, in one transaction.
    ///
    /// Records at or below the position are there already and are left alone.
    /// - Throws: ``LedgerError`` when a record cannot be read; ``ColumnarError``.
    func project(_ records: [StoredRecord], on lane: ColumnarThreads.Lane) async throws {
        guard let last = records.last else { return }
        let batch = try await self.store.run(on: lane) { try AuditLogDataset.batch(of: records) }
        try await self.store.ingest(
            table: AuditLogDataset.table.name,
            batch: batch,
            position: last.sequence.rawValue,
            on: lane
        )
    }
}
