/// The column types that ingest writes.
package enum ColumnType: Sendable, Hashable {
    case bool
    case int64
    case uint64
    case double
    /// Microseconds since 1970-01-01T00:00:00Z, stored as the engine's `TIMESTAMP`, always UTC.
    ///
    /// Not `TIMESTAMP WITH TIME ZONE`: its functions need the ICU extension and its session time zone, and they
    /// are slower; a column that is always UTC gains nothing from it.
    case timestampMicros
    case utf8
    /// JSON text, which the caller has checked; the engine's `JSON` type.
    case json

    /// The engine's name of the type.
    package var sqlName: String {
        switch self {
        case .bool: "BOOLEAN"
        case .int64: "BIGINT"
        case .uint64: "UBIGINT"
        case .double: "DOUBLE"
        case .timestampMicros: "TIMESTAMP"
        case .utf8: "VARCHAR"
        case .json: "JSON"
        }
    }
}

/// One column of a table.
package struct ColumnDefinition: Sendable, Hashable {
    /// Name of the column.
    package let name: String
    /// Type of the column.
    package let type: ColumnType
    /// Whether nulls are allowed.
    package let nullable: Bool

    /// Creates a column.
    package init(_ name: String, _ type: ColumnType, nullable: Bool = true) {
        self.name = name
        self.type = type
        self.nullable = nullable
    }
}

/// Name and columns of a table. It has no primary key: the ledger guarantees that sequences are unique.
package struct TableSchema: Sendable, Hashable {
    /// Name of the table.
    package let name: String
    /// Columns in order.
    package let columns: [ColumnDefinition]

    /// Creates a schema.
    package init(name: String, columns: [ColumnDefinition]) {
        self.name = name
        self.columns = columns
    }

    /// The statement that makes the table when it is not there yet.
    package var createStatement: String {
        let columns = self.columns.map {
            "\(quoteIdentifier($0.name)) \($0.type.sqlName)\($0.nullable ? "" : " NOT NULL")"
        }
        return "CREATE TABLE IF NOT EXISTS \(quoteIdentifier(self.name)) (\(columns.joined(separator: ", ")))"
    }
}
