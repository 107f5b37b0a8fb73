extension ColumnarStore {
    /// The position of the last ingested batch; 0 before the first.
    package func position() async throws -> UInt64 {
        try await self.threads.run(on: .query) {
            let connection = try self.database().connect()
            return try Self.readPosition(connection)
        }
    }

    static func readPosition(_ connection: EngineConnection) throws -> UInt64 {
        let position = try connection.number("SELECT position FROM \(positionTable)", doing: "read the position")
        guard let position else { throw ColumnarError(.damaged, "the position is missing") }
        return position
    }

    /// Appends `batch` to `table` and moves the position, in one transaction: both or neither.
    ///
    /// Exactly once: a batch whose position is not beyond the store's is not written again. A cancelled call may
    /// have been applied: read the position.
    /// - Parameters:
    ///   - position: What the store reflects once the batch is in, for example the last sequence in it.
    ///   - lane: Where the work is done: the ingest lane gives way to other threads, the query lane does not.
    /// - Throws: ``ColumnarError`` `.schemaMismatch`, `.catalog` (no such table), `.busy`, `.closed`, `.io`, `.damaged`.
    @discardableResult
    package func ingest(
        table: String,
        batch: ColumnBatch,
        position: UInt64,
        on lane: ColumnarThreads.Lane = .ingest
    ) async throws -> IngestOutcome {
        try await self.threads.run(on: lane) {
            try self.withIngestConnection { connection in
                try Self.transaction(connection) {
                    guard try Self.readPosition(connection) < position else { return .alreadyApplied }
                    let appender = try EngineAppender(connection, table: table)
                    try appender.append(batch)
                    try appender.flush()
                    try connection.execute(
                        "UPDATE \(Self.positionTable) SET position = \(position)",
                        doing: "move the position"
                    )
                    return .applied
                }
            }
        }
    }

    /// Appends Arrow batches to a table whose column types they fit, all or none; else as
    /// ``append(_:to:leading:)``.
    package func append(_ batches: [ArrowRecordBatch], to table: String) async throws {
        try await self.threads.run(on: .query) {
            try self.withIngestConnection(keepsNumbers: true) { connection in
                try Self.transaction(connection) {
                    let appender = try EngineAppender(connection, table: table)
                    for batch in batches { try appender.append(batch) }
                    try appender.flush()
                }
            }
        }
    }

    /// Appends an Arrow batch to a table whose column types it fits, converting where the engine can.
    ///
    /// The position stays as it is. Runs on the query lane.
    /// - Parameter leading: Text of the table's first column, when the batch does not bring it.
    /// - Throws: ``ColumnarError`` `.schemaMismatch`, `.catalog`, `.execution` (a value does not convert),
    ///   `.unsupported`, `.memoryLimit`, `.busy`, `.closed`.
    package func append(_ batch: ArrowRecordBatch, to table: String, leading: String? = nil) async throws {
        try await self.threads.run(on: .query) {
            let full = leading.map { batch.prepending(constant: $0, named: "leading") } ?? batch
            try self.withIngestConnection(keepsNumbers: true) { connection in
                try Self.transaction(connection) {
                    let appender = try EngineAppender(connection, table: table)
                    try appender.append(full)
                    try appender.flush()
                }
            }
        }
    }

    /// Runs `body` in a transaction, which is rolled back when it throws.
    static func transaction<R>(_ connection: EngineConnection, _ body: () throws -> R) throws -> R {
        try connection.execute("BEGIN TRANSACTION", doing: "begin")
        do {
            let value = try body()
            try connection.execute("COMMIT", doing: "commit")
            return value
        } catch {
            // After a failed commit there is no transaction left: then this fails too, and nothing is lost by it.
            try? connection.execute("ROLLBACK", doing: "roll back")
            throw error
        }
    }
}
