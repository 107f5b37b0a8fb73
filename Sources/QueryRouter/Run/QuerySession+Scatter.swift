internal import Columnar
internal import Primitives
internal import Synchronization

/// A split statement does not bind, or would give other columns: it is answered by gathering.
struct SplitFailure: Error {
    let obstacle: Obstacle
}

// Plans (b) and (c): shards answer in parts.
extension QuerySession {
    /// Answers by parts of the shards.
    /// - Throws: ``SplitFailure`` before any shard was asked; else ``QueryError`` or Columnar's error.
    func runScatter(_ plan: ScatterPlan, _ planned: Planned, _ planning: Duration) async throws -> QueryOutcome {
        guard let wanted = planned.described?.schema else { throw SplitFailure(obstacle: Obstacle("it is not bound")) }
        let known = try self.knownParts(planned)
        guard plan.final != nil else {
            let parts = try await self.keeping(planned.key, known) { (try await self.bindConcat(plan, wanted), nil) }.0
            return try await self.runConcat(plan, parts.body, wanted, planned, planning)
        }
        let (parts, bound) = try await self.keeping(planned.key, known) {
            let (parts, scratch) = try await self.bindPartial(plan, wanted)
            return (parts, scratch)
        }
        // Parts that are few need no store of their own: they and the final step are one question.
        let store = PartsStore(bound) { try await self.openParts(plan, parts.body) }
        do {
            var gathering = self.gathering(into: nil)
            gathering.delivery = plan.delivery
            let buffer = PartsBuffer(isLazy: bound == nil) { try await store.open() }
            let gathered = try await gathering.run(visits: self.visits(plan, parts.body), into: buffer)
            let limits = QueryLimits(
                timeLimit: try self.deadline.remaining(),
                rowsMax: self.request.resultRowsMax,
                bytesMax: self.request.resultBytesMax
            )
            let (result, scratch) = try await self.merge(plan, parts, buffer, store, limits)
            return QueryOutcome(
                schema: result.schema,
                batches: self.bounded(result.batches, scratch: scratch),
                provenance: gathered.provenance,
                absences: planned.absences,
                plan: plan.kind,
                statistics: QueryStatistics(
                    organizations: self.organizations.count,
                    shards: gathered.shards,
                    gatheredRows: gathered.rows,
                    gatheredBytes: gathered.bytes,
                    planning: planning,
                    gathering: self.deadline.elapsed - planning
                )
            )
        } catch {
            await store.close()
            throw error
        }
    }

    /// Runs the final step over the shards' answers.
    /// - Returns: With the store to be closed after the last row; nil: there is none.
    private func merge(
        _ plan: ScatterPlan,
        _ parts: BoundParts,
        _ buffer: PartsBuffer,
        _ store: PartsStore,
        _ limits: QueryLimits
    ) async throws -> (ScratchResult, (any QueryScratch)?) {
        let final = parts.final ?? ""
        if let few = buffer.take(ScatterPlan.table) {
            let result = try await self.engine.answer(
                final,
                over: TransientRows(table: ScatterPlan.table, batches: few),
                in: self.partsSettings(plan, parts.body),
                delivery: plan.delivery,
                limits: limits
            )
            return (result, nil)
        }
        let scratch = try await store.open()
        let result = try await scratch.query(
            final,
            parameters: [],
            origin: .router,
            delivery: plan.delivery,
            limits: limits
        )
        return (result, scratch)
    }

    /// Writes the split statement out and binds it, without asking a shard.
    func bind(_ plan: ScatterPlan, _ planned: Planned) async throws -> BoundParts {
        guard let wanted = planned.described?.schema else { throw SplitFailure(obstacle: Obstacle("it is not bound")) }
        if let known = try self.knownParts(planned) { return known }
        let (parts, scratch) = try await self.keeping(planned.key, nil) {
            guard plan.final != nil else { return (try await self.bindConcat(plan, wanted), nil) }
            return try await self.bindPartial(plan, wanted)
        }
        await scratch?.close()
        return parts
    }

    /// What an earlier request found out by binding the same.
    private func knownParts(_ planned: Planned) throws -> BoundParts? {
        switch self.plans.split(planned.key) {
        case .bound(let parts): return parts
        case .failed(let obstacle): throw SplitFailure(obstacle: obstacle)
        case nil: return nil
        }
    }

    /// What is known, or else what `bind` finds, which is kept for the next.
    private func keeping(
        _ key: PlanCache.Key?,
        _ known: BoundParts?,
        _ bind: () async throws -> (BoundParts, (any QueryScratch)?)
    ) async throws -> (BoundParts, (any QueryScratch)?) {
        if let known { return (known, nil) }
        do {
            let (parts, scratch) = try await bind()
            self.plans.keep(.bound(parts), as: key)
            return (parts, scratch)
        } catch let failure as SplitFailure {
            self.plans.keep(.failed(failure.obstacle), as: key)
            throw failure
        }
    }

    private func splitting<Value>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as ColumnarError
            where [.binder, .catalog, .syntax, .unsupported, .notAllowed, .execution].contains(error.code)
        {
            throw SplitFailure(obstacle: Obstacle("the engine does not bind the split statement: \(error.message)"))
        }
    }

    // MARK: - What shards are asked

    private func visits(_ plan: ScatterPlan, _ body: String) -> [Gathering.Visit] {
        plan.organizations.compactMap { organization in
            self.shardSQL(plan, body, organization).map {
                Gathering.Visit(organization: organization, statements: [(ScatterPlan.table, $0)])
            }
        }
    }

    /// The statement for one organization; nil when it has none of the tables.
    func shardSQL(_ plan: ScatterPlan, _ body: String, _ organization: OrganizationKey) -> String? {
        var adaptations: [String] = []
        var absent = 0
        for table in plan.tables {
            let name = SQLText.quoted(table.name)
            switch self.catalog.share(of: organization, in: table.name) {
            case .same: continue
            case .adapted(let own):
                adaptations.append("\(name) AS (SELECT \(SQLText.adapted(table.columns, from: own)) FROM main.\(name))")
            case .absent:
                absent += 1
                let none = TableSchema(name: table.name, columns: [])
                adaptations.append("\(name) AS (SELECT \(SQLText.adapted(table.columns, from: none)) WHERE false)")
            }
        }
        guard absent < plan.tables.count else { return nil }
        let with = adaptations.isEmpty ? "" : "WITH \(adaptations.joined(separator: ", ")) "
        return with + Self.named(body, plan.columns)
    }

    private static func named(_ body: String, _ columns: [String]) -> String {
        "SELECT * FROM (\(body)) AS _ft_answer(\(columns.joined(separator: ", ")))"
    }

    // MARK: - The final step

    /// Types that lose something on the way between engines.
    private static let lossyTypes = [
        "UHUGEINT", "BIT", "UUID", "TIME WITH", "TIMETZ", "ENUM", "UNION", "VARIANT", "BIGNUM",
    ]

    /// Opens a store with an empty table for the shards' answers, whose types are the engine's own.
    private func openParts(_ plan: ScatterPlan, _ body: String) async throws -> any QueryScratch {
        try await self.splitting { try await self.engine.openScratch(self.partsSettings(plan, body)) }
    }

    private func partsSettings(_ plan: ScatterPlan, _ body: String) -> ScratchSettings {
        ScratchSettings(
            memoryBytesMax: self.request.memoryBytesMax,
            timeLimit: self.deadline.limit,
            schema: EngineSchema(definitions: plan.tables.map(\.createStatement)),
            definition: "CREATE TABLE \(ScatterPlan.table) AS \(Self.named(body, plan.columns)) LIMIT 0"
        )
    }

    /// Binds the final step over the table for the shards' answers, which is there then.
    private func bindPartial(
        _ plan: ScatterPlan,
        _ wanted: ArrowSchema
    ) async throws -> (BoundParts, (any QueryScratch)?) {
        guard let final = plan.final else { throw QueryError(.internal, "there is no final step") }
        // The datasets' tables are there too, without rows: the final step must have nothing to do with them.
        let strays = final.contains { node in
            node.text("type") == "BASE_TABLE" && self.catalog.table(named: node.text("table_name")) != nil
        }
        guard !strays else { throw SplitFailure(obstacle: Obstacle("the final step would read a dataset")) }
        let body = try await self.splitting { try await self.engine.sql(of: plan.shard.asStatement.json) }
        let scratch = try await self.openParts(plan, body)
        do {
            let sql = try await self.splitting {
                try await self.checkTypes(in: scratch)
                let sql = try await self.engine.sql(of: final.asStatement.json)
                let described = try await scratch.describe(sql, origin: .router)
                guard Self.isSame(described.schema, wanted) else {
                    throw SplitFailure(obstacle: Obstacle("the final step would give other columns"))
                }
                return sql
            }
            return (BoundParts(body: body, final: sql), scratch)
        } catch {
            await scratch.close()
            throw error
        }
    }

    /// - Throws: ``SplitFailure`` when a value of the shards' answers would change on its way.
    private func checkTypes(in scratch: any QueryScratch) async throws {
        let types = try await scratch.query(
            "SELECT column_type FROM (DESCRIBE \(ScatterPlan.table))",
            parameters: [],
            origin: .router,
            delivery: .streamed,
            limits: QueryLimits()
        )
        for try await batch in types.batches {
            for row in 0..<batch.rowCount {
                let type = batch.string(row: row, column: 0) ?? ""
                if Self.lossyTypes.contains(where: { type.uppercased().contains($0) }) {
                    throw SplitFailure(obstacle: Obstacle("values of the type \(type) do not travel unchanged"))
                }
            }
        }
    }

    static func isSame(_ left: ArrowSchema, _ right: ArrowSchema, ignoringNames: Bool = false) -> Bool {
        left.fields.count == right.fields.count
            && zip(left.fields, right.fields).allSatisfy { one, other in
                one.type == other.type && one.isJSON == other.isJSON && (ignoringNames || one.name == other.name)
            }
    }

    // MARK: - Answers as they come

    private func bindConcat(_ plan: ScatterPlan, _ wanted: ArrowSchema) async throws -> BoundParts {
        let (body, described) = try await self.splitting {
            let body = try await self.engine.sql(of: plan.shard.asStatement.json)
            let described = try await self.engine.describe(
                Self.named(body, plan.columns),
                over: self.catalog.engineSchema,
                origin: .router
            )
            return (body, described)
        }
        guard Self.isSame(described.schema, wanted, ignoringNames: true) else {
            throw SplitFailure(obstacle: Obstacle("the shards would give other columns"))
        }
        return BoundParts(body: body, final: nil)
    }

    private func runConcat(
        _ plan: ScatterPlan,
        _ body: String,
        _ wanted: ArrowSchema,
        _ planned: Planned,
        _ planning: Duration
    ) async throws -> QueryOutcome {
        let visits = self.visits(plan, body)
        let gathering = self.gathering(into: nil)
        let (rowsMax, bytesMax) = (self.request.resultRowsMax, self.request.resultBytesMax)
        let answers = try await self.deadline.run {
            try await gathering.open(visits, rowsMax: rowsMax, bytesMax: bytesMax)
        }
        let batches = RecordBatchStream {
            ConcatSource(answers: answers[...], schema: wanted, current: nil)
        }
        return QueryOutcome(
            schema: wanted,
            batches: self.bounded(batches),
            provenance: answers.map(\.provenance),
            absences: planned.absences,
            plan: plan.kind,
            statistics: QueryStatistics(
                organizations: self.organizations.count,
                shards: answers.count,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: planning,
                gathering: self.deadline.elapsed - planning
            )
        )
    }
}

/// The store for the shards' answers, opened by whoever needs it first.
private final class PartsStore: Sendable {
    private let opening: Mutex<Task<any QueryScratch, any Error>?>
    private let make: @Sendable () async throws -> any QueryScratch

    /// - Parameter open: One that is open already.
    init(_ open: (any QueryScratch)?, make: @escaping @Sendable () async throws -> any QueryScratch) {
        var opening: Task<any QueryScratch, any Error>?
        if let open { opening = Task { open } }  // task-owner: none is needed, it ends at once
        self.opening = Mutex(opening)
        self.make = make
    }

    func open() async throws -> any QueryScratch {
        let task = self.opening.withLock { opening in
            let task = opening ?? Task { try await self.make() }  // task-owner: the callers of open(), who await it
            opening = task
            return task
        }
        return try await task.value
    }

    /// Closes it, if it was opened.
    func close() async {
        let task = self.opening.withLock { $0 }
        try? await task?.value.close()
    }
}

/// The shards' answers one after the other, in the order of their organizations.
private struct ConcatSource: BatchSource {
    var answers: ArraySlice<ShardResult>
    let schema: ArrowSchema
    var current: (organization: OrganizationKey, iterator: RecordBatchStream.AsyncIterator)?

    mutating func next() async throws -> ArrowRecordBatch? {
        while true {
            if var current = self.current {
                do {
                    let batch = try await current.iterator.next()
                    self.current = batch == nil ? nil : current
                    if let batch { return try batch.with(schema: self.schema) }
                } catch {
                    self.answers = []
                    throw Gathering.shardError(error, current.organization)
                }
            }
            guard let next = self.answers.popFirst() else { return nil }
            self.current = (next.provenance.organization, next.batches.makeAsyncIterator())
        }
    }
}
