internal import Columnar
internal import Foundation
internal import Logging
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization

/// The query router's engine in a worker process of its own: no statement of a user is parsed, bound or run in the node.
///
/// That process has no organization's files; all that it may write is what it spills.
final class WorkerEngine: QueryEngine {
    /// How long parsing or binding a statement may take.
    static let planningLimit = Duration.seconds(15)

    let slot: WorkerSlot

    /// Starts the process; ``close()`` ends it.
    init(settings: WorkerSettings, launch: WorkerLaunch = WorkerLaunch(), logger: Logger) {
        self.slot = WorkerSlot(name: "engine", settings: settings, launch: launch, logger: logger)
        self.slot.start()
    }

    private func plan(_ question: EngineQuestion) async throws -> [UInt8] {
        do {
            let body = try question.encoded()
            let statement = sha256(body)
            return try await self.slot.current().ask(
                body,
                limit: Self.planningLimit,
                isStatement: true,
                statement: statement
            )
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func syntaxTree(of sql: String) async throws -> String {
        String(decoding: try await self.plan(.syntaxTree(sql)), as: UTF8.self)
    }

    func sql(of tree: String) async throws -> String {
        String(decoding: try await self.plan(.sql(tree: tree)), as: UTF8.self)
    }

    func describe(
        _ sql: String,
        over schema: EngineSchema,
        origin: StatementOrigin
    ) async throws -> StatementDescription {
        try WireDescription.decode(try await self.plan(.describe(sql, schema, origin)))
    }

    func openScratch(_ settings: ScratchSettings) async throws -> any QueryScratch {
        do {
            let link = try await self.slot.current()
            let answer = try await link.ask(EngineQuestion.openScratch(settings).encoded(), limit: Self.planningLimit)
            var reader = ByteReader(answer)
            return WorkerScratch(link: link, id: try reader.read(UInt64.self), timeLimit: settings.timeLimit)
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func answer(
        _ sql: String,
        over rows: TransientRows,
        in settings: ScratchSettings,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let statement = ShardStatement(sql: sql, origin: .router, delivery: delivery)
        let question = EngineQuestion.answer(
            settings,
            table: rows.table,
            try Self.streams(of: rows.batches),
            StoreQuestion(statement, limits: limits)
        )
        do {
            let result = try await self.slot.current().open(
                try question.encoded(),
                limit: limits.timeLimit ?? settings.timeLimit,
                statement: statement.digest
            )
            return ScratchResult(schema: result.schema, batches: result.batches)
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    /// An Arrow stream for each run of batches with one schema.
    static func streams(of batches: [ArrowRecordBatch]) throws -> [[UInt8]] {
        var streams: [[UInt8]] = []
        var rest = batches[...]
        while let first = rest.first {
            let encoder = ArrowStreamEncoder(schema: first.schema)
            var stream = encoder.schemaMessage()
            while let batch = rest.first, batch.schema == first.schema {
                stream.append(contentsOf: try encoder.message(for: batch))
                rest = rest.dropFirst()
            }
            streams.append(stream)
        }
        return streams
    }

    func close() async { await self.slot.stop() }
}

/// One query's scratch store in the engine's process; gone with that.
private final class WorkerScratch: QueryScratch {
    private let link: WorkerLink
    private let id: UInt64
    private let timeLimit: Duration
    private let isClosed = Atomic<Bool>(false)

    init(link: WorkerLink, id: UInt64, timeLimit: Duration) {
        self.link = link
        self.id = id
        self.timeLimit = timeLimit
    }

    private func ask(_ question: EngineQuestion) async throws -> [UInt8] {
        do {
            return try await self.link.ask(try question.encoded(), limit: self.timeLimit, isStatement: true)
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func define(_ sql: String) async throws { _ = try await self.ask(.define(scratch: self.id, sql)) }

    func append(_ batches: [ArrowRecordBatch], to table: String) async throws {
        for stream in try WorkerEngine.streams(of: batches) {
            _ = try await self.ask(.append(scratch: self.id, table: table, stream))
        }
    }

    func query(
        _ sql: String,
        parameters: [ArrowValue],
        origin: StatementOrigin,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let statement = ShardStatement(sql: sql, parameters: parameters, origin: origin, delivery: delivery)
        let question = EngineQuestion.query(scratch: self.id, StoreQuestion(statement, limits: limits))
        do {
            let result = try await self.link.open(
                try question.encoded(),
                limit: limits.timeLimit ?? self.timeLimit,
                statement: statement.digest
            )
            return ScratchResult(schema: result.schema, batches: result.batches)
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func describe(_ sql: String, origin: StatementOrigin) async throws -> StatementDescription {
        try WireDescription.decode(try await self.ask(.describeScratch(self.id, sql, origin)))
    }

    func close() async {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        // Nobody need wait until the store is empty again.
        let (link, id) = (self.link, self.id)
        Task { await Self.close(link, id) }  // task-owner: ends by itself: one short request
    }

    private static func close(_ link: WorkerLink, _ id: UInt64) async {
        // With the worker the store is gone too.
        guard let body = try? EngineQuestion.closeScratch(id).encoded() else { return }
        _ = try? await link.ask(body, limit: WorkerPool.ownWorkLimit)
    }

    deinit {
        guard !self.isClosed.load(ordering: .acquiring) else { return }
        let (link, id) = (self.link, self.id)
        Task { await Self.close(link, id) }  // task-owner: ends by itself: one short request
    }
}

extension WorkerSettings {
    /// Those of the worker that is the query router's engine.
    init(engine configuration: NodeConfiguration) {
        let directory = configuration.dataDirectory + "/" + Node.temporaryFolder + "/" + Node.engineFolder
        self.init(role: .engine, directory: URL(fileURLWithPath: directory).standardizedFileURL.path)
        self.memoryBytesMax = UInt64(configuration.workerMemoryBytes)
        self.isSandboxed = configuration.workerSandbox
        self.storeMemoryBytes = configuration.gatherMemoryBytes
        self.statementThreads = configuration.statementThreads
        self.timeLimitMilliseconds = configuration.queryTimeLimitMilliseconds
    }
}
