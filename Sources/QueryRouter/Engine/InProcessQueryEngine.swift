package import Columnar
internal import Synchronization

/// The engine in this process: stores in memory on the given threads.
package final class InProcessQueryEngine: QueryEngine {
    /// Limits of scratch stores.
    package struct Configuration: Sendable {
        /// Buffer memory of one scratch store, in bytes.
        package var memoryLimitBytes: Int
        /// Where scratch stores may spill; each makes a directory of its own there and removes it. nil: never.
        package var temporaryDirectory: String?
        /// Bytes that one scratch store may spill.
        package var temporaryBytesMax: Int
        /// Threads that work on one statement.
        package var threads: Int

        package init(
            memoryLimitBytes: Int = 512 << 20,
            temporaryDirectory: String? = nil,
            temporaryBytesMax: Int = 1 << 30,
            threads: Int = 1
        ) {
            self.memoryLimitBytes = memoryLimitBytes
            self.temporaryDirectory = temporaryDirectory
            self.temporaryBytesMax = temporaryBytesMax
            self.threads = threads
        }
    }

    /// Stores of empty tables that are kept, least recently used first out.
    private static let schemasMax = 16
    /// The longest statement of a scratch store that is used again.
    private static let timeLimitMax = Duration.seconds(3_600)
    /// They hold no rows.
    private static let parserMemoryBytes = 64 << 20

    private struct State {
        var stores: [EngineSchema: (store: ColumnarStore, use: Int)] = [:]
        var uses = 0
        var isClosed = false
    }

    private let threads: ColumnarThreads
    private let configuration: Configuration
    private let parser: ColumnarStore
    private let pool: ScratchPool
    private let state = Mutex(State())
    private let scratches = Atomic<Int>(0)

    private init(threads: ColumnarThreads, configuration: Configuration, parser: ColumnarStore) {
        self.threads = threads
        self.configuration = configuration
        self.parser = parser
        self.pool = ScratchPool(threads: threads)
    }

    /// Makes an engine; ``close()`` ends it.
    package static func open(
        threads: ColumnarThreads,
        configuration: Configuration = .init()
    ) async throws -> InProcessQueryEngine {
        let parser = try await Self.openEmpty(threads)
        return InProcessQueryEngine(threads: threads, configuration: configuration, parser: parser)
    }

    private static func openEmpty(_ threads: ColumnarThreads) async throws -> ColumnarStore {
        let settings = ColumnarConfiguration(memoryLimitBytes: Self.parserMemoryBytes)
        return try await ColumnarStore.open(.memory, configuration: settings, threads: threads)
    }

    package func syntaxTree(of sql: String) async throws -> String { try await self.parser.serializeSQL(sql) }

    package func sql(of tree: String) async throws -> String { try await self.parser.deserializeSQL(tree) }

    package func describe(
        _ sql: String,
        over schema: EngineSchema,
        origin: StatementOrigin
    ) async throws -> StatementDescription {
        try await self.store(for: schema).describe(sql, origin: origin)
    }

    private func store(for schema: EngineSchema) async throws -> ColumnarStore {
        let known = self.state.withLock { state -> ColumnarStore? in
            state.uses += 1
            state.stores[schema]?.use = state.uses
            return state.stores[schema]?.store
        }
        if let known { return known }
        let made = try await Self.openEmpty(self.threads)
        do {
            if !schema.definitions.isEmpty { try await made.execute(schema.definitions.joined(separator: ";\n")) }
        } catch {
            await made.close()
            throw error
        }
        let (kept, dropped) = self.state.withLock { state -> (ColumnarStore?, [ColumnarStore]) in
            guard !state.isClosed else { return (nil, [made]) }
            // Another task was faster.
            if let other = state.stores[schema]?.store { return (other, [made]) }
            state.stores[schema] = (made, state.uses)
            guard state.stores.count > Self.schemasMax,
                let oldest = state.stores.min(by: { $0.value.use < $1.value.use })
            else { return (made, []) }
            state.stores[oldest.key] = nil
            return (made, [oldest.value.store])
        }
        // A statement that is being bound there keeps its database until it is done.
        for store in dropped { await store.close() }
        guard let kept else { throw QueryError(.unavailable, "the query engine is closed") }
        return kept
    }

    package func openScratch(_ settings: ScratchSettings) async throws -> any QueryScratch {
        try await self.defined(settings)
    }

    package func answer(
        _ sql: String,
        over rows: TransientRows,
        in settings: ScratchSettings,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let scratch = try await self.defined(settings)
        do {
            let result = try await scratch.query(sql, over: rows, delivery: delivery, limits: limits)
            return ScratchResult(
                schema: result.schema,
                batches: RecordBatchStream {
                    ClosingSource(iterator: result.batches.makeAsyncIterator(), scratch: scratch)
                }
            )
        } catch {
            await scratch.close()
            throw error
        }
    }

    /// A scratch store in which the settings' definition has been run.
    private func defined(_ settings: ScratchSettings) async throws -> InProcessScratch {
        let scratch = try await self.scratch(settings)
        do {
            if !settings.definition.isEmpty { try await scratch.prepare(settings.definition) }
        } catch {
            await scratch.close()
            throw error
        }
        return scratch
    }

    private func scratch(_ settings: ScratchSettings) async throws -> InProcessScratch {
        let limit = self.configuration.memoryLimitBytes
        // A store that is used again has the engine's own limits; the query's time limit is that of each statement.
        let isCommon = settings.memoryBytesMax.map { $0 >= limit } ?? true
        if isCommon, let taken = try await self.pool.take(settings.schema, settings.definition) {
            return InProcessScratch(
                store: taken.store,
                directory: taken.directory,
                schema: settings.schema,
                definition: taken.definition,
                threads: self.threads,
                pool: self.pool
            )
        }
        let number = self.scratches.add(1, ordering: .relaxed).newValue
        let directory = self.configuration.temporaryDirectory.map { "\($0)/gather-\(number)" }
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(
                memoryLimitBytes: max(
                    min(settings.memoryBytesMax ?? limit, limit),
                    ColumnarConfiguration.memoryLimitBytesMin
                ),
                threads: self.configuration.threads,
                temporaryDirectory: directory,
                temporaryBytesMax: self.configuration.temporaryBytesMax,
                timeLimit: isCommon ? Self.timeLimitMax : settings.timeLimit
            ),
            threads: self.threads
        )
        do {
            try await ScratchPool.define(settings.schema, in: store)
        } catch {
            await InProcessScratch.close(store, directory, self.threads)
            throw error
        }
        return InProcessScratch(
            store: store,
            directory: directory,
            schema: settings.schema,
            definition: "",
            threads: self.threads,
            pool: isCommon ? self.pool : nil
        )
    }

    /// Batches of a scratch store that is closed after the last one, or an error.
    private struct ClosingSource: BatchSource {
        var iterator: RecordBatchStream.AsyncIterator?
        let scratch: InProcessScratch

        mutating func next() async throws -> ArrowRecordBatch? {
            guard var iterator = self.iterator else { return nil }
            do {
                let batch = try await iterator.next()
                self.iterator = iterator
                if let batch { return batch }
            } catch {
                self.iterator = nil
                await self.scratch.close()
                throw error
            }
            self.iterator = nil
            await self.scratch.close()
            return nil
        }
    }

    package func close() async {
        let stores = self.state.withLock { state in
            state.isClosed = true
            defer { state.stores = [:] }
            return state.stores.values.map(\.store)
        }
        for store in stores { await store.close() }
        await self.pool.close()
        await self.parser.close()
    }
}
