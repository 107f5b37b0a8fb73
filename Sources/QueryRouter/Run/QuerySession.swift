internal import Columnar
internal import Primitives

/// What is known of the organizations' tables is not enough for the statement.
struct StaleCatalog: Error {}

/// One request on its way: everything that its plan needs to run.
struct QuerySession: Sendable {
    let service: any ShardQueryService
    let engine: any QueryEngine
    let configuration: QueryRouterConfiguration
    let planner: QueryPlanner
    var request: QueryRequest
    /// In key order, each once.
    let organizations: [OrganizationKey]
    let catalog: TableCatalog
    /// Whether the catalog has what the organizations' newest records bring.
    let isCurrent: Bool
    let deadline: QueryDeadline
    /// Where shards' answers are written down; nil: nowhere.
    var log: ShardLog?
    /// Sub-queries around this one that are being answered first.
    var pulls = 0
    /// Plans of statements that came lately.
    let plans: PlanCache

    /// A statement on its way, with all that was found out about it.
    struct Planned: Sendable {
        let statement: CheckedStatement
        let chosen: ChosenPlan
        /// What the binder says of it; nil for a statement that one shard binds.
        let described: StatementDescription?
        /// Tables that the statement reads and some organizations do not have.
        let absences: [TableAbsence]
        /// Under what the plan is kept; nil: nowhere.
        let key: PlanCache.Key?
    }

    /// Parses, checks and plans the statement.
    func plan() async throws -> QueryPlan { try await self.planned().chosen.plan }

    func planned() async throws -> Planned {
        let key = PlanCache.key(self.request, self.catalog)
        if let known = self.plans.find(key) {
            // An organization may have by now what it lacked.
            if !self.isCurrent, known.statement.isAdapted { throw StaleCatalog() }
            return known
        }
        let planned = try await self.makePlan(key)
        self.plans.keep(planned, as: planned.key)
        return planned
    }

    private func makePlan(_ key: PlanCache.Key?) async throws -> Planned {
        var key = key
        let original = try await self.check()
        var statement = original
        if let now = self.request.now, self.organizations.count > 1,
            let tree = StatementTime.pinning(now, in: original, hasParameters: !self.request.parameters.isEmpty)
        {
            statement = try StatementGate(catalog: self.catalog).check(original.sql, root: tree)
            // The plan is of this moment.
            key = nil
        }
        if !self.request.parameters.isEmpty,
            let tree = Parameters.substituting(self.request.parameters, in: statement.tree)
        {
            statement = try StatementGate(catalog: self.catalog).check(original.sql, root: tree)
        }
        statement.isAdapted = self.organizations.contains { organization in
            statement.tables.contains { self.catalog.share(of: organization, in: $0) != .same }
        }
        let absences = self.absences(statement)
        let forcesGather = self.request.planChoice == .gather
        // One shard binds what it runs.
        let first = self.choose(statement, names: nil, forcesGather: forcesGather)
        if case .single = first.plan {
            return Planned(statement: statement, chosen: first, described: nil, absences: absences, key: key)
        }
        let described = try await self.describe(original, statement)
        let names = described.namesAreKnown ? described.description.schema.fields.map(\.name) : nil
        return Planned(
            statement: statement,
            chosen: forcesGather ? first : self.choose(statement, names: names, forcesGather: false),
            described: described.description,
            absences: absences,
            key: key
        )
    }

    func choose(_ statement: CheckedStatement, names: [String]?, forcesGather: Bool) -> ChosenPlan {
        self.planner.plan(
            statement,
            organizations: self.organizations,
            catalog: self.catalog,
            names: names,
            forcesGather: forcesGather
        )
    }

    /// Binds the statement, with its values where types hang on them.
    private func describe(
        _ original: CheckedStatement,
        _ substituted: CheckedStatement
    ) async throws -> (description: StatementDescription, namesAreKnown: Bool) {
        let schema = self.catalog.engineSchema
        let described = try await self.engine.describe(original.sql, over: schema, origin: .user)
        guard described.parameterTypes.count == self.request.parameters.count else {
            let (wanted, given) = (described.parameterTypes.count, self.request.parameters.count)
            throw QueryError(.invalid, "the statement has \(wanted) parameters; there are \(given) values")
        }
        guard !described.parameterTypes.isEmpty else { return (described, true) }
        let sql = try await self.engine.sql(of: substituted.tree.json)
        let bound = try? await self.engine.describe(sql, over: schema, origin: .router)
        guard let bound, bound.parameterTypes.isEmpty, let query = original.query, !Parameters.name(query) else {
            return (described, false)
        }
        return (bound, true)
    }

    func check() async throws -> CheckedStatement {
        let statement = try await self.checkSyntax()
        // An organization that lacks a table or column now may have it since its newest records: its rows must not be absent.
        let mayBeStale =
            !self.isCurrent
            && self.organizations.contains { organization in
                statement.tables.contains { self.catalog.share(of: organization, in: $0) != .same }
            }
        if mayBeStale { throw StaleCatalog() }
        return statement
    }

    private func checkSyntax() async throws -> CheckedStatement {
        try StatementGate.checkLength(self.request.sql)
        let text = try await self.engine.syntaxTree(of: self.request.sql)
        let gate = StatementGate(catalog: self.catalog)
        let root = try gate.read(text)
        let tree = StatementForm(organizations: self.organizations).normalized(root)
        guard tree != root else { return try gate.check(self.request.sql, root: root) }
        // Refused statements are refused by their own words.
        var statement = try gate.check(self.request.sql, root: tree)
        statement.sql = try await self.engine.sql(of: tree.json)
        return statement
    }

    func run() async throws -> QueryOutcome {
        let planned = try await self.planned()
        let planning = self.deadline.elapsed
        switch planned.chosen.plan {
        case .single(let organization): return try await self.runSingle(organization, planned, planning)
        case .gather(let tables):
            let pullsTables = self.planner.options.pullsTablesFirst
            if let outcome = try await self.runPulling(planned, planning, tables: pullsTables) { return outcome }
            do {
                return try await self.runGather(tables, planned, planning)
            } catch let error as QueryError where error.code == .tooLarge {
                // Reading everything twice takes longer than gathering it, but needs no room.
                guard let outcome = try await self.runPulling(planned, planning, tables: true) else { throw error }
                return outcome
            }
        case .scatter(let plan):
            do {
                return try await self.runScatter(plan, planned, planning)
            } catch let failure as SplitFailure {
                // Bound before any shard was asked: the split statement is not what it should be.
                let tables = self.gathered(planned.statement)
                return try await self.runGather(tables, planned, planning, instead: failure.obstacle)
            }
        }
    }

    func gathered(_ statement: CheckedStatement) -> [GatheredTable] {
        guard case .gather(let tables) = self.choose(statement, names: nil, forcesGather: true).plan else { return [] }
        return tables
    }

    /// What the statement reads and some organizations do not have.
    func absences(_ statement: CheckedStatement) -> [TableAbsence] {
        var seen: Set<String> = []
        return statement.references.compactMap { reference in
            let name = reference.table.name
            guard seen.insert(name).inserted else { return nil }
            let lacking = self.organizations.filter { self.catalog.share(of: $0, in: name) == .absent }
            return lacking.isEmpty ? nil : TableAbsence(table: name, organizations: lacking)
        }
    }

    // MARK: - (a) One organization

    private func runSingle(
        _ organization: OrganizationKey,
        _ planned: Planned,
        _ planning: Duration
    ) async throws -> QueryOutcome {
        let limits = ShardQueryLimits(
            timeLimit: try self.deadline.remaining(),
            resultBytesMax: self.request.resultBytesMax,
            resultRowsMax: self.request.resultRowsMax
        )
        let request = self.request
        let service = self.service
        let sql = planned.statement.sql
        let started = self.deadline.elapsed
        let number = self.log?.add(organization, sql)
        let result = try await self.deadline.run {
            do {
                return try await service.query(
                    organization: organization,
                    statement: ShardStatement(
                        sql: sql,
                        parameters: request.parameters,
                        asOf: request.asOf?.moment(of: organization)
                    ),
                    requirement: request.consistency.requirement(for: organization),
                    limits: limits
                )
            } catch {
                throw QueryError.wrapping(error, doing: "asking the shard").naming(organization)
            }
        }
        return QueryOutcome(
            schema: result.schema,
            batches: self.bounded(self.logged(result, number, started), organization: organization),
            provenance: [result.provenance],
            absences: planned.absences,
            plan: .single,
            statistics: QueryStatistics(
                organizations: self.organizations.count,
                shards: 1,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: planning,
                gathering: self.deadline.elapsed - planning
            )
        )
    }

    // MARK: - (d) Gather

    private func runGather(
        _ tables: [GatheredTable],
        _ planned: Planned,
        _ planning: Duration,
        instead obstacle: Obstacle? = nil
    ) async throws -> QueryOutcome {
        let scratch = try await self.engine.openScratch(
            ScratchSettings(memoryBytesMax: self.request.memoryBytesMax, timeLimit: self.deadline.limit)
        )
        do {
            if planned.statement.readsDictionary {
                let rows = StatementForm.Dictionary.rows(self.catalog.datasets, catalog: self.catalogName)
                try await scratch.define((StatementForm.Dictionary.definitions + rows).joined(separator: ";\n"))
            }
            let gathered = try await self.gathering(into: scratch).run(tables)
            let result = try await scratch.query(
                planned.statement.sql,
                parameters: self.request.parameters,
                origin: .user,
                delivery: .streamed,
                limits: QueryLimits(
                    timeLimit: try self.deadline.remaining(),
                    rowsMax: self.request.resultRowsMax,
                    bytesMax: self.request.resultBytesMax
                )
            )
            return QueryOutcome(
                schema: result.schema,
                batches: self.bounded(result.batches, scratch: scratch),
                provenance: gathered.provenance,
                absences: planned.absences,
                plan: .gather,
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
            await scratch.close()
            throw error
        }
    }

    /// What `table_catalog` says: the organization, when there is one.
    private var catalogName: String { self.organizations.count == 1 ? self.organizations[0].rawValue : "organizations" }

    /// The batches of an answer, counted where that is asked for.
    func logged(_ result: ShardResult, _ number: Int?, _ started: Duration) -> RecordBatchStream {
        guard let log = self.log, let number else { return result.batches }
        let deadline = self.deadline
        return RecordBatchStream {
            LoggedSource(
                iterator: result.batches.makeAsyncIterator(),
                log: log,
                number: number,
                elapsed: { deadline.elapsed - started }
            )
        }
    }

    func gathering(into scratch: (any QueryScratch)?) -> Gathering {
        Gathering(
            service: self.service,
            scratch: scratch,
            engine: self.engine,
            catalog: self.catalog,
            configuration: self.configuration,
            deadline: self.deadline,
            consistency: self.request.consistency,
            asOf: self.request.asOf,
            log: self.log
        )
    }

    func bounded(
        _ batches: RecordBatchStream,
        scratch: (any QueryScratch)? = nil,
        organization: OrganizationKey? = nil
    ) -> RecordBatchStream {
        let request = self.request
        let deadline = self.deadline
        return RecordBatchStream {
            BoundedSource(
                iterator: batches.makeAsyncIterator(),
                deadline: deadline,
                scratch: scratch,
                organization: organization,
                bytesLeft: request.resultBytesMax,
                rowsLeft: request.resultRowsMax
            )
        }
    }
}
