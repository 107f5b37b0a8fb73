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
    /// What the column holds, in one sentence for users; empty when nothing is said.
    package let comment: String

    /// Creates a column.
    package init(_ name: String, _ type: ColumnType, nullable: Bool = true, comment: String = "") {
        self.name = name
        self.type = type
        self.nullable = nullable
        self.comment = comment
    }
}

/// Name and columns of a table. It has no primary key: the ledger guarantees that sequences are unique.
package struct TableSchema: Sendable, Hashable {
    /// Name of the table.
    package let name: String
    /// Columns in order.
    package let columns: [ColumnDefinition]
    /// What a row is, in one sentence for users; empty when nothing is said.
    package let comment: String
    /// Whether users see a view; nothing is ever written to it.
    package let isView: Bool

    /// Creates a schema.
    package init(name: String, columns: [ColumnDefinition], comment: String = "", isView: Bool = false) {
        self.name = name
        self.columns = columns
        self.comment = comment
        self.isView = isView
    }

    /// The statement that makes the table when it is not there yet.
    package var createStatement: String {
        let columns = self.columns.map {
            "\(quoteIdentifier($0.name)) \($0.type.sqlName)\($0.nullable ? "" : " NOT NULL")"
        }
        return "CREATE TABLE IF NOT EXISTS \(quoteIdentifier(self.name)) (\(columns.joined(separator: ", ")))"
    }
}
