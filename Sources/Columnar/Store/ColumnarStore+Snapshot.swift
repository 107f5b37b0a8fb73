extension ColumnarStore {
    /// Runs `body` on a snapshot of the store, on a connection of its own: neither writers nor queries wait for it.
    ///
    /// For statements of our own, never of text that a user wrote. `body` runs on a thread of the lane and may block there.
    /// - Throws: What `body` throws; ``ColumnarError``.
    package func snapshot<R: Sendable>(
        on lane: ColumnarThreads.Lane,
        _ body: @escaping @Sendable (StoreSnapshot) throws -> R
    ) async throws -> R {
        try await self.threads.run(on: lane) {
            let connection = try self.database().connect()
            try connection.execute("BEGIN TRANSACTION READ ONLY", doing: "begin")
            let position = try Self.readPosition(connection)
            return try body(StoreSnapshot(connection: connection, position: position, known: nil))
        }
    }
}
