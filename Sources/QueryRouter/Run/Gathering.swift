internal import Columnar
internal import Primitives
internal import Synchronization

/// Fetches the rows that a statement needs from every shard into one scratch store.
struct Gathering: Sendable {
    let service: any ShardQueryService
    /// nil: answers are not kept.
    let scratch: (any QueryScratch)?
    let engine: any QueryEngine
    let catalog: TableCatalog
    let configuration: QueryRouterConfiguration
    let deadline: QueryDeadline
    let consistency: QueryConsistency
    let asOf: QueryAsOf?
    var log: ShardLog?
    /// How shards make their rows.
    var delivery = AnswerDelivery.streamed

    struct Gathered: Sendable {
        var provenance: [ShardProvenance]
        var shards: Int
        var rows: Int
        var bytes: Int
    }

    /// What one organization is asked, one statement after the other.
    struct Visit: Sendable {
        let organization: OrganizationKey
        var statements: [(table: String, sql: String)]
    }

    private struct Totals: Sendable {
        var rows = 0
        var bytes = 0
    }

    /// Shared by the tasks of one gathering.
    private final class Counter: Sendable {
        let totals = Mutex(Totals())
        let buffer: PartsBuffer?

        init(_ buffer: PartsBuffer?) { self.buffer = buffer }
    }

    /// - Throws: The first shard's error; then every other shard has been cancelled and nothing may be used.
    func run(_ tables: [GatheredTable]) async throws -> Gathered {
        let scratch = self.scratch
        return try await self.run(
            visits: try await self.prepare(tables),
            into: scratch.map { scratch in PartsBuffer { scratch } }
        )
    }

    /// Asks the shards, and appends their answers to tables that are there when the buffer's store is open.
    func run(visits: [Visit], into buffer: PartsBuffer?) async throws -> Gathered {
        let counter = Counter(buffer)
        var provenance: [ShardProvenance] = []
        if !visits.isEmpty {
            provenance = try await self.deadline.run {
                let provenance = try await self.fanOut(visits, counter)
                do {
                    try await counter.buffer?.flush()
                } catch {
                    throw QueryError.wrapping(error, doing: "keeping the shards' answers")
                }
                return provenance
            }
        }
        let totals = counter.totals.withLock { $0 }
        return Gathered(
            provenance: provenance.sorted { $0.organization < $1.organization },
            shards: visits.reduce(0) { $0 + $1.statements.count },
            rows: totals.rows,
            bytes: totals.bytes
        )
    }

    /// Makes the empty tables and the shards' statements.
    func prepare(_ tables: [GatheredTable]) async throws -> [Visit] {
        var visits: [OrganizationKey: Visit] = [:]
        for table in tables {
            try await self.scratch?.define(table.schema.createStatement)
            var sql = table.plainSQL
            if let tree = table.tree { sql = try await self.engine.sql(of: tree.json) }
            for organization in table.organizations {
                var own = sql
                switch self.catalog.share(of: organization, in: table.table.name) {
                case .same: break
                case .adapted(let schema): own = table.adaptation(of: schema) + sql
                case .absent: continue
                }
                visits[organization, default: Visit(organization: organization, statements: [])]
                    .statements.append((table.table.name, own))
            }
        }
        return visits.values.sorted { $0.organization < $1.organization }
    }

    private func fanOut(_ visits: [Visit], _ counter: Counter) async throws -> [ShardProvenance] {
        try await withThrowingTaskGroup(of: ShardProvenance.self) { group in
            var waiting = visits[...]
            for visit in waiting.prefix(self.configuration.fanOutMax) {
                group.addTask { try await self.visit(visit, counter) }
            }
            waiting = waiting.dropFirst(self.configuration.fanOutMax)
            var provenance: [ShardProvenance] = []
            // The first error leaves the loop, and with it the group: the others are cancelled and awaited.
            while let found = try await group.next() {
                provenance.append(found)
                if let visit = waiting.popFirst() { group.addTask { try await self.visit(visit, counter) } }
            }
            return provenance
        }
    }

    private func visit(_ visit: Visit, _ counter: Counter) async throws -> ShardProvenance {
        do {
            var provenance: ShardProvenance?
            for statement in visit.statements {
                let found = try await self.fetch(statement.table, statement.sql, visit.organization, counter)
                // Two tables of one organization must show the same moment.
                if let provenance, provenance.sequence != found.sequence {
                    throw QueryError(.unavailable, "the organization's records moved while they were read; try again")
                }
                provenance = found
            }
            guard let provenance else { throw QueryError(.internal, "nothing was asked") }
            return provenance
        } catch {
            throw Self.shardError(error, visit.organization)
        }
    }

    /// Opens every visit's one statement; the rows are still to be read.
    /// - Returns: In the order of the visits.
    func open(_ visits: [Visit], rowsMax: Int, bytesMax: Int) async throws -> [ShardResult] {
        try await withThrowingTaskGroup(of: (Int, ShardResult).self) { group in
            var waiting = Array(visits.enumerated())[...]
            func start() {
                guard let (index, visit) = waiting.popFirst(), let statement = visit.statements.first else { return }
                group.addTask {
                    do {
                        return (
                            index,
                            try await self.ask(statement.sql, visit.organization, rowsMax: rowsMax, bytesMax: bytesMax)
                        )
                    } catch {
                        throw Self.shardError(error, visit.organization)
                    }
                }
            }
            for _ in 0..<self.configuration.fanOutMax { start() }
            var results: [Int: ShardResult] = [:]
            while let (index, result) = try await group.next() {
                results[index] = result
                start()
            }
            return visits.indices.compactMap { results[$0] }
        }
    }

    private func ask(
        _ sql: String,
        _ organization: OrganizationKey,
        rowsMax: Int,
        bytesMax: Int
    ) async throws -> ShardResult {
        let limits = ShardQueryLimits(
            timeLimit: try self.deadline.remaining(),
            resultBytesMax: bytesMax,
            resultRowsMax: rowsMax
        )
        let started = self.deadline.elapsed
        let number = self.log?.add(organization, sql)
        let result = try await self.service.query(
            organization: organization,
            statement: ShardStatement(
                sql: sql,
                origin: .router,
                asOf: self.asOf?.moment(of: organization),
                delivery: self.delivery
            ),
            requirement: self.consistency.requirement(for: organization),
            limits: limits
        )
        guard result.provenance.organization == organization else {
            throw QueryError(.internal, "the answer came from \(result.provenance.organization)")
        }
        guard let log = self.log, let number else { return result }
        let deadline = self.deadline
        return ShardResult(
            schema: result.schema,
            provenance: result.provenance,
            batches: RecordBatchStream {
                LoggedSource(
                    iterator: result.batches.makeAsyncIterator(),
                    log: log,
                    number: number,
                    elapsed: { deadline.elapsed - started }
                )
            }
        )
    }

    private func fetch(
        _ table: String,
        _ sql: String,
        _ organization: OrganizationKey,
        _ counter: Counter
    ) async throws -> ShardProvenance {
        let result = try await self.ask(
            sql,
            organization,
            rowsMax: self.configuration.gatherRowsMax,
            bytesMax: self.configuration.gatherBytesMax
        )
        for try await batch in result.batches {
            try self.count(batch, counter)
            try Task.checkCancellation()
            try await counter.buffer?.add(batch, to: table)
        }
        return result.provenance
    }

    private func count(_ batch: ArrowRecordBatch, _ counter: Counter) throws {
        let totals = counter.totals.withLock { totals in
            totals.rows += batch.rowCount
            totals.bytes += batch.byteCount
            return totals
        }
        guard totals.bytes <= self.configuration.gatherBytesMax, totals.rows <= self.configuration.gatherRowsMax else {
            throw QueryError(
                .tooLarge,
                "the statement needs more than \(self.configuration.gatherBytesMax) bytes"
                    + " or \(self.configuration.gatherRowsMax) rows of its organizations; name fewer of them, or filter"
            )
        }
    }

    /// A shard's error as the user sees it.
    ///
    /// Statements of ours that a shard does not understand are a defect, not the user's mistake.
    static func shardError(_ error: any Error, _ organization: OrganizationKey) -> QueryError {
        let wrapped = QueryError.wrapping(error, doing: "asking the shard")
        var isDefect = [.syntax, .notAllowed, .unknownTable].contains(wrapped.code)
        if let cause = error as? ColumnarError {
            isDefect = [.syntax, .binder, .catalog, .notAllowed].contains(cause.code)
        }
        guard isDefect else { return wrapped.code == .tooLarge ? wrapped : wrapped.from(organization) }
        return QueryError(
            .internal,
            "organization \(organization): the shard refused the router's statement",
            names: [organization.rawValue],
            cause: wrapped
        )
    }
}
