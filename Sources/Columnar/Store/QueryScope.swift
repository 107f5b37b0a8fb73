/// The snapshot that a query's statement will see, before it is bound. Used by one thread, inside of the call that made it.
package struct StoreSnapshot {
    /// A number is not known, so that the snapshot must be read.
    struct Unknown: Error {}

    /// What was read of a snapshot, for the next. Used by one thread.
    final class Record {
        var numbers: [String: UInt64?] = [:]
    }

    let connection: EngineConnection
    /// The position that the last ingested batch left.
    package let position: UInt64
    /// Where numbers come from instead of the snapshot; nil: they are read.
    let known: SnapshotNumbers.Known?
    let record = Record()

    /// The first value of the first row as an unsigned number; nil: no row, or null.
    package func number(_ sql: String) throws -> UInt64? {
        if let known = self.known {
            guard let number = known.numbers[sql] else { throw Unknown() }
            return number
        }
        let number = try self.connection.number(sql, doing: "read a number")
        self.record.numbers[sql] = .some(number)
        return number
    }

    /// Hands the rows of a SELECT of our own to `body`, some thousand at a time, until it returns false.
    package func rows(_ sql: String, _ body: (ArrowRecordBatch) throws -> Bool) throws {
        guard self.known == nil else { throw Unknown() }
        try self.connection.rows(sql, body)
    }

    /// The name under which a replacement's statement reaches the tables that it stands before.
    package func database() throws -> String {
        let doing = "name the database"
        let name = try self.connection.text("SELECT current_database() || ?::VARCHAR", parameter: "", doing: doing)
        guard let name else { throw ColumnarError(.internalFailure, "the database has no name") }
        return name
    }
}

/// What a query sees instead of the store as it is.
package struct QueryScope: Sendable {
    /// What ``ColumnarResult/position`` says.
    package var position: UInt64
    /// Statements by the names of tables and views in whose place they are seen, also by stored views.
    package var replacements: [String: String]

    /// Creates a scope.
    package init(position: UInt64, replacements: [String: String] = [:]) {
        self.position = position
        self.replacements = replacements
    }

    /// Puts temporary views of this connection before the tables, without the rows that are hidden.
    func install(on connection: EngineConnection, hiding hidden: [HiddenRows], database: String) throws {
        let hidden = Dictionary(grouping: hidden, by: \.table)
        for name in Set(self.replacements.keys).union(hidden.keys).sorted() {
            var statement =
                self.replacements[name]
                ?? "SELECT * FROM \(quoteIdentifier(database)).main.\(quoteIdentifier(name))"
            if let conditions = hidden[name] {
                let shown = conditions.map { "(\($0.condition)) IS NOT TRUE" }.joined(separator: " AND ")
                statement = "SELECT * FROM (\(statement)) WHERE \(shown)"
            }
            try connection.execute(
                "CREATE TEMP VIEW \(quoteIdentifier(name)) AS \(statement)",
                doing: "narrow what the query sees"
            )
        }
    }
}
