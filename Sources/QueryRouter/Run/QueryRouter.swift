package import Columnar
internal import Primitives
internal import Synchronization

/// Answers SQL over the datasets of any number of organizations.
///
/// Text → gate → plan → fan-out → merge. The gate and the planner are pure; what runs, runs in sandboxed
/// columnar stores: the shards' own, and for gathered answers one in memory that lives as long as its query. A shard that fails
/// fails the query: an answer is whole or there is none. Safe to call from any task.
package final class QueryRouter: Sendable {
    private let service: any ShardQueryService
    private let threads: ColumnarThreads
    private let timer: QueryTimer
    private let configuration: QueryRouterConfiguration
    private let gate: StatementGate
    private let planner: QueryPlanner
    /// Empty tables of every dataset: parses statements and binds them, so that the user's errors are found here.
    private let parser: ColumnarStore
    private let queries = Atomic<Int>(0)

    private init(
        service: any ShardQueryService,
        threads: ColumnarThreads,
        timer: QueryTimer,
        configuration: QueryRouterConfiguration,
        gate: StatementGate,
        planner: QueryPlanner,
        parser: ColumnarStore
    ) {
        self.service = service
        self.threads = threads
        self.timer = timer
        self.configuration = configuration
        self.gate = gate
        self.planner = planner
        self.parser = parser
    }

    /// Makes a router; ``close()`` ends it.
    ///
    /// - Throws: ``QueryError`` `.internal` for a configuration out of range; what opening a store in memory throws.
    package static func open(
        catalog: TableCatalog,
        service: any ShardQueryService,
        threads: ColumnarThreads,
        timer: QueryTimer,
        configuration: QueryRouterConfiguration = .init()
    ) async throws -> QueryRouter {
        try await self.open(
            catalog: catalog,
            service: service,
            threads: threads,
            timer: timer,
            configuration: configuration,
            planner: QueryPlanner()
        )
    }

    static func open(
        catalog: TableCatalog,
        service: any ShardQueryService,
        threads: ColumnarThreads,
        timer: QueryTimer,
        configuration: QueryRouterConfiguration,
        planner: QueryPlanner
    ) async throws -> QueryRouter {
        try configuration.validate()
        do {
            let settings = ColumnarConfiguration(memoryLimitBytes: Self.parserMemoryBytes)
            let parser = try await ColumnarStore.open(.memory, configuration: settings, threads: threads)
            for dataset in catalog.datasets { try await parser.createTable(dataset) }
            return QueryRouter(
                service: service,
                threads: threads,
                timer: timer,
                configuration: configuration,
                gate: StatementGate(catalog: catalog),
                planner: planner,
                parser: parser
            )
        } catch {
            throw QueryError.wrapping(error, doing: "opening the query router")
        }
    }

    /// The parser holds no rows.
    private static let parserMemoryBytes = 64 << 20

    /// Ends the router: later queries fail; those whose rows are being read end as they would.
    package func close() async { await self.parser.close() }

    /// Answers one request; returns when the first rows can be read.
    ///
    /// Cancelling the calling task stops every shard. No shard is asked before the statement passed the gate. What is
    /// gathered is bound here first, so that a wrong name costs no shard anything; one shard binds what it runs itself.
    /// - Throws: ``QueryError``.
    package func run(_ request: QueryRequest) async throws -> QueryOutcome {
        let deadline = QueryDeadline(timer: self.timer, limit: min(request.timeLimit, self.configuration.timeLimitMax))
        let organizations = Set(request.organizations).sorted()
        guard organizations.count <= self.configuration.organizationsMax else {
            let most = self.configuration.organizationsMax
            throw QueryError(.tooLarge, "\(organizations.count) organizations; a query may read \(most)")
        }
        do {
            let plan = try await self.plan(request, organizations: organizations)
            let planning = deadline.elapsed
            switch plan {
            case .single(let organization):
                return try await self.runSingle(request, organization, organizations.count, deadline, planning)
            case .gather(let tables):
                return try await self.runGather(request, tables, organizations.count, deadline, planning)
            }
        } catch {
            throw QueryError.wrapping(error, doing: "the query")
        }
    }

    /// Parses, checks and plans a statement.
    func plan(_ request: QueryRequest, organizations: [OrganizationKey]) async throws -> QueryPlan {
        try StatementGate.checkLength(request.sql)
        let tree = try await self.parser.serializeSQL(request.sql)
        let statement = try self.gate.check(request.sql, tree: tree)
        return self.planner.plan(statement, organizations: organizations, forcesGather: request.force == .gather)
    }

    // MARK: - (a) One organization

    private func runSingle(
        _ request: QueryRequest,
        _ organization: OrganizationKey,
        _ organizationCount: Int,
        _ deadline: QueryDeadline,
        _ planning: Duration
    ) async throws -> QueryOutcome {
        let limits = ShardQueryLimits(
            timeLimit: try deadline.remaining(),
            resultBytesMax: request.resultBytesMax,
            resultRowsMax: request.resultRowsMax
        )
        let service = self.service
        let result = try await deadline.run {
            do {
                return try await service.query(
                    organization: organization,
                    sql: request.sql,
                    requirement: request.consistency.requirement(for: organization),
                    limits: limits
                )
            } catch {
                throw QueryError.wrapping(error, doing: "asking the shard").naming(organization)
            }
        }
        return QueryOutcome(
            schema: result.schema,
            batches: Self.bounded(result.batches, request, deadline, organization: organization),
            provenance: [result.provenance],
            plan: .single,
            statistics: QueryStatistics(
                organizations: organizationCount,
                shards: 1,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: planning,
                gathering: deadline.elapsed - planning
            )
        )
    }

    // MARK: - (d) Gather

    private func runGather(
        _ request: QueryRequest,
        _ tables: [GatheredTable],
        _ organizationCount: Int,
        _ deadline: QueryDeadline,
        _ planning: Duration
    ) async throws -> QueryOutcome {
        _ = try await self.parser.describe(request.sql)
        let scratch = try await GatherScratch.open(
            number: self.queries.add(1, ordering: .relaxed).newValue,
            configuration: self.configuration,
            memoryBytesMax: request.memoryBytesMax,
            timeLimit: deadline.limit,
            threads: self.threads
        )
        do {
            let gathering = Gathering(
                service: self.service,
                scratch: scratch,
                parser: self.parser,
                configuration: self.configuration,
                deadline: deadline,
                consistency: request.consistency
            )
            let gathered = try await gathering.run(tables)
            let result = try await scratch.store.query(
                request.sql,
                limits: QueryLimits(
                    timeLimit: try deadline.remaining(),
                    rowsMax: request.resultRowsMax,
                    bytesMax: request.resultBytesMax
                )
            )
            return QueryOutcome(
                schema: result.schema,
                batches: Self.bounded(RecordBatchStream(result.batches), request, deadline, scratch: scratch),
                provenance: gathered.provenance,
                plan: .gather,
                statistics: QueryStatistics(
                    organizations: organizationCount,
                    shards: gathered.shards,
                    gatheredRows: gathered.rows,
                    gatheredBytes: gathered.bytes,
                    planning: planning,
                    gathering: deadline.elapsed - planning
                )
            )
        } catch {
            await scratch.close()
            throw error
        }
    }

    private static func bounded(
        _ batches: RecordBatchStream,
        _ request: QueryRequest,
        _ deadline: QueryDeadline,
        scratch: GatherScratch? = nil,
        organization: OrganizationKey? = nil
    ) -> RecordBatchStream {
        let (bytesMax, rowsMax) = (request.resultBytesMax, request.resultRowsMax)
        return RecordBatchStream {
            BoundedSource(
                iterator: batches.makeAsyncIterator(),
                deadline: deadline,
                scratch: scratch,
                organization: organization,
                bytesLeft: bytesMax,
                rowsLeft: rowsMax
            )
        }
    }
}

/// Hands on batches within the request's limits, and frees the gathered rows after the last one or an error.
private struct BoundedSource: BatchSource {
    var iterator: RecordBatchStream.AsyncIterator?
    let deadline: QueryDeadline
    let scratch: GatherScratch?
    /// Whose shard produces the batches, when it is one.
    let organization: OrganizationKey?
    var bytesLeft: Int
    var rowsLeft: Int

    mutating func next() async throws -> ArrowRecordBatch? {
        guard var iterator = self.iterator else { return nil }
        do {
            _ = try self.deadline.remaining()
            let batch = try await iterator.next()
            self.iterator = iterator
            if let batch {
                self.bytesLeft -= batch.byteCount
                self.rowsLeft -= batch.rowCount
                guard self.bytesLeft >= 0, self.rowsLeft >= 0 else {
                    throw QueryError(.tooLarge, "the result is larger than the request's limit")
                }
                return batch
            }
        } catch {
            self.iterator = nil
            await self.scratch?.close()
            let wrapped = QueryError.wrapping(error, doing: "reading the result")
            throw self.organization.map(wrapped.naming) ?? wrapped
        }
        self.iterator = nil
        await self.scratch?.close()
        return nil
    }
}
