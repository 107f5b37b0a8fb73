internal import Columnar
internal import Foundation
internal import Synchronization

/// A columnar store in memory that holds one query's rows, and the directory where it may spill.
///
/// ``close()`` empties the store for the next query, or frees both; whoever drops a scratch without closing it, as a client does that goes away in the middle
/// of a result, has it closed in the background.
final class InProcessScratch: QueryScratch {
    private let store: ColumnarStore
    private let directory: String?
    private let schema: EngineSchema?
    private let threads: ColumnarThreads
    /// Takes the emptied store back; nil: it is not used again.
    private let pool: ScratchPool?
    private let isClosed = Atomic<Bool>(false)

    init(
        store: ColumnarStore,
        directory: String?,
        schema: EngineSchema?,
        threads: ColumnarThreads,
        pool: ScratchPool?
    ) {
        self.store = store
        self.directory = directory
        self.schema = schema
        self.threads = threads
        self.pool = pool
    }

    func define(_ sql: String) async throws { try await self.store.define(sql) }

    func append(_ batches: [ArrowRecordBatch], to table: String) async throws {
        try await self.store.append(batches, to: table)
    }

    func query(
        _ sql: String,
        parameters: [ArrowValue],
        origin: StatementOrigin,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let result = try await self.store.query(
            sql,
            parameters: parameters,
            origin: origin,
            limits: limits,
            delivery: delivery
        )
        return ScratchResult(schema: result.schema, batches: RecordBatchStream(result.batches))
    }

    func describe(_ sql: String, origin: StatementOrigin) async throws -> StatementDescription {
        try await self.store.describe(sql, origin: origin)
    }

    func close() async {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        if let pool = self.pool, await pool.takeBack(self.store, self.directory, self.schema) { return }
        await Self.close(self.store, self.directory, self.threads)
    }

    static func close(_ store: ColumnarStore, _ directory: String?, _ threads: ColumnarThreads) async {
        await store.close()
        guard let directory else { return }
        // What cannot be removed now is wiped when the number comes again after a restart.
        try? await threads.run(on: .query) { try FileManager.default.removeItem(atPath: directory) }
    }

    deinit {
        guard !self.isClosed.load(ordering: .acquiring) else { return }
        let (store, directory, threads) = (self.store, self.directory, self.threads)
        Task { await Self.close(store, directory, threads) }  // task-owner: ends by itself: closing is two short jobs
    }
}

/// Scratch stores between two queries: opening one anew costs tens of milliseconds, emptying one a few.
final class ScratchPool: Sendable {
    /// Stores that wait.
    private static let idleMax = 6
    /// Statements that a store that is used again may have been given; then it is opened anew.
    private static let usesMax = 200

    private struct Idle {
        let store: ColumnarStore
        let directory: String?
        let schema: EngineSchema?
        var uses: Int
    }

    private struct State {
        var idle: [Idle] = []
        var uses: [ObjectIdentifier: Int] = [:]
        var isClosed = false
    }

    private let threads: ColumnarThreads
    private let state = Mutex(State())

    init(threads: ColumnarThreads) { self.threads = threads }

    /// A store with the tables of `schema` and nothing else, if one waits.
    func take(_ schema: EngineSchema?) async throws -> (store: ColumnarStore, directory: String?)? {
        let taken = self.state.withLock { state -> Idle? in
            guard let place = state.idle.lastIndex(where: { $0.schema == schema }) ?? state.idle.indices.first else {
                return nil
            }
            let idle = state.idle.remove(at: place)
            state.uses[ObjectIdentifier(idle.store)] = idle.uses + 1
            return idle
        }
        guard let taken else { return nil }
        guard taken.schema != schema else { return (taken.store, taken.directory) }
        do {
            try await Self.empty(taken.store)
            try await Self.define(schema, in: taken.store)
            return (taken.store, taken.directory)
        } catch {
            self.state.withLock { _ = $0.uses.removeValue(forKey: ObjectIdentifier(taken.store)) }
            await InProcessScratch.close(taken.store, taken.directory, self.threads)
            throw error
        }
    }

    static func define(_ schema: EngineSchema?, in store: ColumnarStore) async throws {
        guard let schema, !schema.definitions.isEmpty else { return }
        try await store.define(schema.definitions.joined(separator: ";\n"))
    }

    /// Drops all tables.
    private static func empty(_ store: ColumnarStore) async throws {
        let names = try await store.query(
            "SELECT table_name FROM duckdb_tables() WHERE table_name <> '\(ColumnarStore.positionTable)'",
            origin: .router
        ).collect()
        let drops = names.flatMap { batch in
            (0..<batch.rowCount).map { "DROP TABLE \(SQLText.quoted(batch.string(row: $0, column: 0) ?? ""))" }
        }
        if !drops.isEmpty { try await store.define(drops.joined(separator: ";")) }
    }

    /// Empties a store and keeps it; one with a schema keeps the tables of that.
    /// - Returns: false: the caller closes it.
    func takeBack(_ store: ColumnarStore, _ directory: String?, _ schema: EngineSchema?) async -> Bool {
        let uses = self.state.withLock { $0.uses.removeValue(forKey: ObjectIdentifier(store)) ?? 0 }
        guard uses < Self.usesMax else { return false }
        do {
            if schema == nil {
                try await Self.empty(store)
            } else {
                try await store.define("DROP TABLE IF EXISTS \(ScatterPlan.table)")
            }
        } catch {
            return false
        }
        return self.state.withLock { state in
            guard !state.isClosed, state.idle.count < Self.idleMax else { return false }
            state.idle.append(Idle(store: store, directory: directory, schema: schema, uses: uses))
            return true
        }
    }

    /// Closes the stores that wait; those in use are closed by their owners.
    func close() async {
        let idle = self.state.withLock { state in
            state.isClosed = true
            defer { state.idle = [] }
            return state.idle
        }
        for entry in idle { await InProcessScratch.close(entry.store, entry.directory, self.threads) }
    }
}
