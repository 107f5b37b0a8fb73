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
    /// What was defined besides the schema, where nothing else was written since; empty: unknown.
    private let definition: Mutex<String>

    /// - Parameter definition: Has been run in the store, in which nothing else is but its schema.
    init(
        store: ColumnarStore,
        directory: String?,
        schema: EngineSchema?,
        definition: String,
        threads: ColumnarThreads,
        pool: ScratchPool?
    ) {
        self.store = store
        self.directory = directory
        self.schema = schema
        self.definition = Mutex(definition)
        self.threads = threads
        self.pool = pool
    }

    func define(_ sql: String) async throws {
        self.definition.withLock { $0 = "" }
        try await self.store.define(sql)
    }

    /// Runs the definition with which the store is opened, unless it has been.
    func prepare(_ definition: String) async throws {
        guard self.definition.withLock({ $0 }) != definition else { return }
        try await self.store.define(definition)
        if self.schema != nil { self.definition.withLock { $0 = definition } }
    }

    func append(_ batches: [ArrowRecordBatch], to table: String) async throws {
        self.definition.withLock { $0 = "" }
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

    /// Runs a statement of the router's own over rows that nobody else sees: the store stays as it is.
    func query(
        _ sql: String,
        over rows: TransientRows,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let result = try await self.store.query(sql, origin: .router, limits: limits, delivery: delivery, rows: rows)
        return ScratchResult(schema: result.schema, batches: RecordBatchStream(result.batches))
    }

    func describe(_ sql: String, origin: StatementOrigin) async throws -> StatementDescription {
        try await self.store.describe(sql, origin: origin)
    }

    func close() async {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        let definition = self.definition.withLock { $0 }
        if let pool = self.pool, await pool.takeBack(self.store, self.directory, self.schema, definition) { return }
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
        /// Has been run there, and its table is empty; empty: there is none.
        let definition: String
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

    /// A store with the tables of `schema` and nothing else, if one waits, but for what `definition` makes: the result says
    /// whether that has been run.
    func take(
        _ schema: EngineSchema?,
        _ definition: String
    ) async throws -> (store: ColumnarStore, directory: String?, definition: String)? {
        let taken = self.state.withLock { state -> Idle? in
            // The first is the one that was not used longest.
            let place =
                state.idle.lastIndex { $0.schema == schema && $0.definition == definition }
                ?? state.idle.firstIndex { $0.schema == schema } ?? state.idle.indices.first
            guard let place else { return nil }
            let idle = state.idle.remove(at: place)
            state.uses[ObjectIdentifier(idle.store)] = idle.uses + 1
            return idle
        }
        guard let taken else { return nil }
        if taken.schema == schema, taken.definition == definition || taken.definition.isEmpty {
            return (taken.store, taken.directory, taken.definition)
        }
        do {
            if taken.schema == schema {
                try await taken.store.define(Self.dropParts)
            } else {
                try await Self.empty(taken.store)
                try await Self.define(schema, in: taken.store)
            }
            return (taken.store, taken.directory, "")
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

    private static let dropParts = "DROP TABLE IF EXISTS \(ScatterPlan.table)"

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
    /// - Parameter definition: Has been run there, and its table is as it was made; empty: what there is goes.
    /// - Returns: false: the caller closes it.
    func takeBack(
        _ store: ColumnarStore,
        _ directory: String?,
        _ schema: EngineSchema?,
        _ definition: String
    ) async -> Bool {
        let uses = self.state.withLock { $0.uses.removeValue(forKey: ObjectIdentifier(store)) ?? 0 }
        guard uses < Self.usesMax else { return false }
        do {
            if schema == nil {
                try await Self.empty(store)
            } else if definition.isEmpty {
                try await store.define(Self.dropParts)
            }
        } catch {
            return false
        }
        return self.state.withLock { state in
            guard !state.isClosed, state.idle.count < Self.idleMax else { return false }
            state.idle.append(
                Idle(store: store, directory: directory, schema: schema, definition: definition, uses: uses)
            )
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
