extension ColumnarStore {
    /// Runs `body` in one transaction of the ingest connection: what it wrote is there as a whole, or not at all.
    ///
    /// Other writers of the store wait meanwhile. `body` runs on a thread of the lane and may block there.
    /// - Throws: What `body` throws, after everything was rolled back; ``ColumnarError``.
    package func transaction<R: Sendable>(
        on lane: ColumnarThreads.Lane,
        _ body: @escaping @Sendable (StoreTransaction) throws -> R
    ) async throws -> R {
        try await self.threads.run(on: lane) {
            try self.withIngestConnection { connection in
                try Self.transaction(connection) { try body(StoreTransaction(connection: connection)) }
            }
        }
    }
}

/// A transaction of our own statements, never of text that a user wrote. Used by one thread, inside of the call that made it.
package struct StoreTransaction {
    let connection: EngineConnection

    /// Runs statements and drops their results.
    package func execute(_ sql: String) throws { try self.connection.execute(sql, doing: "run a definition") }

    /// The first value of the first row as an unsigned number; nil: no row.
    package func number(_ sql: String) throws -> UInt64? { try self.connection.number(sql, doing: "read a number") }

    /// The position that the last ingested batch left.
    package func position() throws -> UInt64 { try ColumnarStore.readPosition(self.connection) }

    /// Hands the rows of a SELECT to `body`, some thousand at a time, until it returns false.
    package func rows(_ sql: String, _ body: (ArrowRecordBatch) throws -> Bool) throws {
        try self.connection.rows(sql, body)
    }

    /// Appends a batch to a table; the position stays as it is.
    package func append(_ batch: ColumnBatch, to table: String) throws {
        guard batch.rows > 0 else { return }
        let appender = try EngineAppender(self.connection, table: table)
        try appender.append(batch)
        try appender.flush()
    }
}

extension EngineConnection {
    /// Hands the rows of a SELECT of our own to `body`, some thousand at a time, until it returns false.
    func rows(_ sql: String, _ body: (ArrowRecordBatch) throws -> Bool) throws {
        let statement = try EngineStatement(self, sql: sql, values: [])
        defer { statement.close() }
        let schema = try statement.schema()
        try statement.start()
        while true {
            let columns = schema.fields.map { ColumnAssembler(type: $0.type) }
            let rows = try statement.fetch(into: columns, schema: schema)
            guard rows > 0 else { return }
            let batch = ArrowRecordBatch(unchecked: schema, rowCount: rows, columns: columns.map { $0.finish() })
            guard try body(batch) else { return }
        }
    }
}
