internal import AuditLedger
internal import Columnar
internal import Primitives

/// One transaction of folding: the next rows of `audit_log` become states, ended states and columns.
enum FoldStep {
    /// Most records of one transaction: what a query or a batch of the projection waits for.
    static let recordsMax = 16_384
    /// Most bytes of states that are read for one, and that it writes to the history.
    static let bytesMax = 32 << 20

    struct Outcome: Sendable {
        let position: SequenceNumber
        /// Whether nothing is left to fold.
        let isAtEnd: Bool
        let catalog: TypeCatalog
    }

    /// - Throws: ``ColumnarError`` `.damaged` when a record is not there once; ``LedgerError`` when its states are no JSON.
    static func run(_ transaction: StoreTransaction, _ catalog: TypeCatalog) throws -> Outcome {
        let first = try DatasetStorage.position(transaction).next
        let head = SequenceNumber(try transaction.position())
        let (changes, organization) = try self.changes(transaction, from: first)
        guard let lastRead = changes.last?.sequence else {
            guard first > head else { throw ColumnarError(.damaged, "audit_log lacks record \(first)") }
            return Outcome(position: head, isAtEnd: true, catalog: catalog)
        }
        let named = """
            (entity_type, entity_id) IN (SELECT entity_type, entity_id FROM audit_log \
            WHERE sequence BETWEEN \(first) AND \(lastRead))
            """
        var projection = EntityProjection(try self.entries(transaction, where: named))
        var catalog = catalog
        let place = catalog.count
        var findings: [TypeCatalog.Finding] = []
        var last = first
        for change in changes where projection.endedBytes <= self.bytesMax {
            if projection.apply(change) { findings += catalog.observe(change) }
            last = change.sequence
        }
        // Deleting and inserting is the fastest way to replace rows of a table without a key.
        try transaction.execute("DELETE FROM \(EntityDataset.entities.name) WHERE \(named)")
        try transaction.append(
            EntityDataset.batch(of: projection.states(), organization: organization),
            to: EntityDataset.entities.name
        )
        try transaction.append(
            EntityDataset.batch(of: projection.ended, organization: organization),
            to: EntityDataset.endedTable
        )
        if !findings.isEmpty { try self.write(findings, from: place, catalog, transaction) }
        try DatasetStorage.move(transaction, to: last)
        return Outcome(position: last, isAtEnd: last == head, catalog: catalog)
    }

    private static func changes(
        _ transaction: StoreTransaction,
        from first: SequenceNumber
    ) throws -> (changes: [EntityChange], organization: String) {
        var changes: [EntityChange] = []
        var organization = ""
        var bytes = 0
        let end = first.rawValue + UInt64(self.recordsMax)
        try transaction.rows(
            """
            SELECT \(EntityDataset.changeColumns) FROM audit_log \
            WHERE sequence >= \(first) AND sequence < \(end) ORDER BY sequence
            """
        ) { batch in
            if batch.rowCount > 0 { organization = batch.string(row: 0, column: 0) ?? "" }
            for row in 0..<batch.rowCount {
                let change = try EntityDataset.change(batch, row)
                guard change.sequence.rawValue == first.rawValue + UInt64(changes.count) else {
                    throw ColumnarError(.damaged, "audit_log does not have every record once, at \(change.sequence)")
                }
                changes.append(change)
            }
            bytes += batch.byteCount
            return bytes < self.bytesMax
        }
        return (changes, organization)
    }

    private static func entries(
        _ transaction: StoreTransaction,
        where condition: String
    ) throws -> [EntityProjection.Entry] {
        var entries: [EntityProjection.Entry] = []
        try transaction.rows(
            "SELECT \(EntityDataset.entryColumns) FROM \(EntityDataset.entities.name) WHERE \(condition)"
        ) { batch in
            for row in 0..<batch.rowCount { entries.append(try EntityDataset.entry(batch, row)) }
            return true
        }
        return entries
    }

    /// Stores what was found, and makes the views anew that it changes.
    private static func write(
        _ findings: [TypeCatalog.Finding],
        from place: Int,
        _ catalog: TypeCatalog,
        _ transaction: StoreTransaction
    ) throws {
        try DatasetStorage.append(findings, from: place, transaction)
        let changed = Set(
            findings.map { finding in
                switch finding {
                case .type(let type): type.type
                case .column(_, let type): type
                }
            }
        )
        for type in catalog.types where changed.contains(type.type) {
            try transaction.execute(TypeView.definition(of: type))
        }
    }
}
