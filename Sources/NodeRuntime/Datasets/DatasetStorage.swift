internal import AuditLedger
internal import Columnar
internal import Primitives

/// What a store keeps beside its rows: how far they are folded, and what types and columns were found.
enum DatasetStorage {
    /// The number of the tables' form and of the rules that fill them; a store of another one is folded anew.
    static let layout: UInt64 = 1

    private static let progressTable = "_datasets"
    private static let findings = TableSchema(
        name: "_columns",
        columns: [
            ColumnDefinition("entity_type", .utf8), ColumnDefinition("view", .utf8), ColumnDefinition("name", .utf8),
            ColumnDefinition("kind", .utf8), ColumnDefinition("pointer", .utf8),
            ColumnDefinition("sequence", .uint64), ColumnDefinition("place", .uint64),
        ]
    )

    /// Names that no view may have.
    static let tableNames: Set<String> = [
        AuditLogDataset.table.name, EntityDataset.entities.name, EntityDataset.history.name,
    ]

    /// Those of them that are folded.
    static let derivedNames: Set<String> = [EntityDataset.entities.name, EntityDataset.history.name]

    static func emptyCatalog() -> TypeCatalog {
        TypeCatalog(tables: self.tableNames, columns: TypeView.fixedColumns)
    }

    /// Makes the tables that a store lacks, also one that was made before there were any but `audit_log`.
    /// - Returns: The types that were found.
    static func prepare(_ transaction: StoreTransaction) throws -> TypeCatalog {
        try transaction.execute(AuditLogDataset.table.createStatement)
        try transaction.execute(
            "CREATE TABLE IF NOT EXISTS \(self.progressTable) (layout UBIGINT NOT NULL, position UBIGINT NOT NULL)"
        )
        let found = try transaction.number("SELECT layout FROM \(self.progressTable)")
        guard found == self.layout else {
            try self.makeAnew(transaction)
            return self.emptyCatalog()
        }
        return try self.catalog(transaction)
    }

    private static func makeAnew(_ transaction: StoreTransaction) throws {
        var views: [String] = []
        let own = self.tableNames.map(quoteLiteral).joined(separator: ", ")
        // Views are of rows. The first list of them takes as long as all else of a new store.
        if try transaction.number("SELECT count(*) FROM \(AuditLogDataset.table.name)") != 0 {
            try transaction.rows(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal AND view_name NOT IN (\(own))"
            ) { batch in
                views += (0..<batch.rowCount).compactMap { batch.string(row: $0, column: 0) }
                return true
            }
        }
        for view in views { try transaction.execute("DROP VIEW \(quoteIdentifier(view))") }
        for statement in EntityDataset.removals { try transaction.execute(statement) }
        try transaction.execute("DROP TABLE IF EXISTS \(self.findings.name)")
        try transaction.execute(self.findings.createStatement)
        for statement in EntityDataset.definitions { try transaction.execute(statement) }
        try transaction.execute("DELETE FROM \(self.progressTable)")
        try transaction.execute("INSERT INTO \(self.progressTable) VALUES (\(self.layout), 0)")
    }

    // MARK: How far

    /// The last record that was folded.
    static let positionStatement = "SELECT position FROM \(progressTable)"

    static func position(_ transaction: StoreTransaction) throws -> SequenceNumber {
        guard let position = try transaction.number(self.positionStatement) else {
            throw ColumnarError(.damaged, "the position of the entities is missing")
        }
        return SequenceNumber(position)
    }

    static func move(_ transaction: StoreTransaction, to position: SequenceNumber) throws {
        try transaction.execute("UPDATE \(self.progressTable) SET position = \(position)")
    }

    // MARK: What was found

    static func append(_ findings: [TypeCatalog.Finding], from place: Int, _ transaction: StoreTransaction) throws {
        var columns = self.findings.columns.map { ColumnBuilder($0.type, capacity: findings.count) }
        for (offset, finding) in findings.enumerated() {
            switch finding {
            case .type(let type):
                try columns[0].append(utf8: type.type)
                columns[1].append(type.view)
                for column in 2...4 { columns[column].appendNull() }
                columns[5].append(type.sequence.rawValue)
            case .column(let column, let type):
                try columns[0].append(utf8: type)
                columns[1].appendNull()
                columns[2].append(column.name)
                columns[3].append(column.kind.rawValue)
                try columns[4].append(utf8: column.pointer)
                columns[5].append(column.sequence.rawValue)
            }
            columns[6].append(UInt64(place + offset))
        }
        try transaction.append(try ColumnBatch(columns: columns), to: self.findings.name)
    }

    /// Reads what was found, for ``finding(_:_:)``.
    static let findingsStatement = """
        SELECT \(findings.columns.map(\.name).joined(separator: ", ")) FROM \(findings.name) ORDER BY place
        """

    private static func catalog(_ transaction: StoreTransaction) throws -> TypeCatalog {
        var catalog = self.emptyCatalog()
        try transaction.rows(self.findingsStatement) { batch in
            for row in 0..<batch.rowCount { catalog.restore(try self.finding(batch, row)) }
            return true
        }
        return catalog
    }

    /// What stands in a row of ``findingsStatement``.
    static func finding(_ batch: ArrowRecordBatch, _ row: Int) throws -> TypeCatalog.Finding {
        let type = batch.utf8(row: row, column: 0) ?? []
        let sequence = SequenceNumber(UInt64(batch.int64(row: row, column: 5) ?? 0))
        if let view = batch.string(row: row, column: 1) {
            return .type(EntityType(type: type, view: view, sequence: sequence))
        }
        guard let name = batch.string(row: row, column: 2), let pointer = batch.utf8(row: row, column: 4),
            let kind = ValueKind(rawValue: batch.string(row: row, column: 3) ?? "")
        else { throw ColumnarError(.damaged, "a column of a view is not as it must be") }
        return .column(TypeColumn(name: name, kind: kind, pointer: pointer, sequence: sequence), of: type)
    }
}
