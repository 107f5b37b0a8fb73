import Columnar
import Primitives
import Synchronization
import Testing

@testable import QueryRouter

/// An engine that counts what it is asked for.
private final class CountingEngine: QueryEngine {
    let engine: InProcessQueryEngine
    private let counts = Mutex((planning: 0, scratches: 0, answers: 0))

    init(_ engine: InProcessQueryEngine) { self.engine = engine }

    /// Questions that a plan needs and a run does not.
    var planning: Int { self.counts.withLock { $0.planning } }
    var scratches: Int { self.counts.withLock { $0.scratches } }
    /// Final steps that were asked for with their rows.
    var answers: Int { self.counts.withLock { $0.answers } }

    func syntaxTree(of sql: String) async throws -> String {
        self.counts.withLock { $0.planning += 1 }
        return try await self.engine.syntaxTree(of: sql)
    }

    func sql(of tree: String) async throws -> String {
        self.counts.withLock { $0.planning += 1 }
        return try await self.engine.sql(of: tree)
    }

    func describe(
        _ sql: String,
        over schema: EngineSchema,
        origin: StatementOrigin
    ) async throws -> StatementDescription {
        self.counts.withLock { $0.planning += 1 }
        return try await self.engine.describe(sql, over: schema, origin: origin)
    }

    func openScratch(_ settings: ScratchSettings) async throws -> any QueryScratch {
        self.counts.withLock { $0.scratches += 1 }
        return try await self.engine.openScratch(settings)
    }

    func answer(
        _ sql: String,
        over rows: TransientRows,
        in settings: ScratchSettings,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        self.counts.withLock { $0.answers += 1 }
        return try await self.engine.answer(sql, over: rows, in: settings, delivery: delivery, limits: limits)
    }

    func close() async { await self.engine.close() }
}

/// Shards that count how often they are asked for what their newest records bring, and whose tables may change.
private struct ChangingShards: ShardQueryService {
    let shards: RandomShards
    let state = State()

    final class State: Sendable {
        let current = Mutex(0)
        let hidesView = Mutex(true)
    }

    func tables(of organization: OrganizationKey, isCurrent: Bool) async throws -> ShardTables {
        if isCurrent { self.state.current.withLock { $0 += 1 } }
        let tables = try await self.shards.tables(of: organization, isCurrent: isCurrent)
        guard self.state.hidesView.withLock({ $0 }) else { return tables }
        return ShardTables(version: 100 + tables.version, tables: tables.tables.filter { !$0.isView })
    }

    func query(
        organization: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        try await self.shards.query(
            organization: organization,
            statement: statement,
            requirement: requirement,
            limits: limits
        )
    }
}

@Suite("Plans that are kept", .serialized, .timeLimit(.minutes(10)))
struct PlanCacheTests {
    private static func withRouter(
        _ service: any ShardQueryService,
        _ threads: ColumnarThreads,
        _ body: (QueryRouter, CountingEngine) async throws -> Void
    ) async throws {
        let engine = CountingEngine(try await InProcessQueryEngine.open(threads: threads))
        do {
            let router = try QueryRouter(service: service, engine: engine, timer: QueryTimer(clock: StoppedClock()))
            try await body(router, engine)
        } catch {
            await engine.close()
            throw error
        }
        await engine.close()
    }

    @Test(
        "a statement that comes again is run, and neither parsed nor bound",
        arguments: [
            "select k, count(*), avg(n) from m group by k", "select organization, k, v from e",
            "select k from m order by u limit 3", "select k, histogram(n) from m group by k order by k",
            "select * from m where organization = 'org-1'",
        ]
    )
    func runsAgain(sql: String) async throws {
        try await RandomShards.generated(3, seed: 12) { shards in
            try await Self.withRouter(shards, shards.threads) { router, engine in
                let request = QueryRequest(sql: sql, organizations: shards.keys)
                let first = try await router.rows(request, sorted: true)
                let (planned, opened) = (engine.planning, engine.scratches)
                #expect(planned > 0)
                for _ in 0..<3 {
                    let again = try await router.rows(request, sorted: true)
                    #expect(again.rows == first.rows)
                    #expect(again.outcome.plan == first.outcome.plan)
                }
                #expect(engine.planning == planned)
                #expect(engine.scratches + engine.answers == opened * 4, "no scratch is opened to bind what is bound")
            }
        }
    }

    @Test("what hangs on the plan is in the key: values, the plan that is forced, the organizations")
    func keepsApart() async throws {
        try await RandomShards.generated(3, seed: 13) { shards in
            try await Self.withRouter(shards, shards.threads) { router, _ in
                let sql = "select count(*) from m where u > ?"
                for value in [ArrowValue.int(2), .int(20), .double(0), .double(-0.0)] {
                    for keys in [shards.keys, [shards.keys[0]]] {
                        for choice in [QueryRequest.PlanChoice.automatic, .gather] {
                            let request = QueryRequest(
                                sql: sql,
                                parameters: [value],
                                organizations: keys,
                                planChoice: choice
                            )
                            let (rows, outcome) = try await router.rows(request, sorted: true)
                            let names = keys.map { "'\($0)'" }.joined(separator: ", ")
                            let expected = try await shards.expected(
                                "\(sql) and organization in (\(names))",
                                parameters: [value],
                                sorted: true
                            )
                            #expect(rows == expected, "\(value) \(keys) \(choice)")
                            #expect((outcome.plan == .gather) == (choice == .gather))
                        }
                    }
                }
                // Zeros are equal whatever their sign, and literals are not.
                #expect(router.plans.count == 8)
            }
        }
    }

    @Test("an organization that lacks a table is asked each time whether it has it now")
    func asksForWhatIsMissing() async throws {
        let row = "INSERT INTO m VALUES ('org-1', 'a', 1, 1, null, null, null, null, null)"
        let view = "INSERT INTO e VALUES ('org-1', 'a', 7)"
        try await RandomShards.with(
            tables: [[RandomShards.m, RandomShards.e], [RandomShards.m]],
            inserts: [[row, view], []],
            unionTables: [RandomShards.m, RandomShards.e],
            unionInserts: [row, view]
        ) { shards in
            let changing = ChangingShards(shards: shards)
            changing.state.hidesView.withLock { $0 = false }
            try await Self.withRouter(changing, shards.threads) { router, engine in
                let request = QueryRequest(sql: "select sum(v) from e", organizations: shards.keys)
                for turn in 1...3 {
                    let (rows, outcome) = try await router.rows(request, sorted: true)
                    let expected = try await shards.expected(request.sql, sorted: true)
                    #expect(rows == expected)
                    #expect(outcome.absences.map(\.organizations) == [[shards.keys[1]]])
                    #expect(changing.state.current.withLock { $0 } == 2 * turn)
                }
            }
        }
    }

    @Test("a table that appears makes other plans")
    func plansAnew() async throws {
        try await RandomShards.generated(3, seed: 14) { shards in
            let changing = ChangingShards(shards: shards)
            try await Self.withRouter(changing, shards.threads) { router, _ in
                let request = QueryRequest(sql: "select count(*) from e", organizations: shards.keys)
                for _ in 0..<2 {
                    let error = await router.failure(request)
                    #expect(error?.code == .unknownTable, "an error is not kept, and there is nothing else to keep")
                }
                changing.state.hidesView.withLock { $0 = false }
                let rows = try await router.rows(request, sorted: true).rows
                let expected = try await shards.expected(request.sql, sorted: true)
                #expect(rows == expected)
            }
        }
    }

    @Test("plans are bounded in number and in text")
    func staysBounded() async throws {
        try await RandomShards.generated(1, seed: 15) { shards in
            try await Self.withRouter(shards, shards.threads) { router, _ in
                for number in 0..<PlanCache.plansMax + 20 {
                    _ = try await router.plan(
                        QueryRequest(sql: "select \(number) from m", organizations: shards.keys)
                    )
                }
                #expect(router.plans.count == PlanCache.plansMax)
                let long = String(repeating: " ", count: PlanCache.textBytesMax - 100)
                for number in 0..<20 {
                    _ = try await router.plan(
                        QueryRequest(sql: "select \(number)\(long) from m", organizations: shards.keys)
                    )
                }
                #expect(router.plans.count <= PlanCache.textBytesTotalMax / long.utf8.count)
                let most = router.plans.count
                let tooLong = String(repeating: " ", count: PlanCache.textBytesMax)
                _ = try await router.plan(
                    QueryRequest(sql: "select 1\(tooLong) from m", organizations: shards.keys)
                )
                #expect(router.plans.count == most)
                // Values count too.
                let value = ArrowValue.string(String(repeating: "x", count: 1_000))
                let values = [ArrowValue](repeating: value, count: PlanCache.textBytesMax / 1_000 + 1)
                let sum = values.map { _ in "?" }.joined(separator: ",")
                let request = QueryRequest(sql: "select [\(sum)]", parameters: values, organizations: shards.keys)
                let tables = try await shards.tables(of: shards.keys[0], isCurrent: false)
                let catalog = try TableCatalog([shards.keys[0]: tables], identity: 1)
                let isKept = PlanCache.key(request, catalog) != nil
                #expect(!isKept)
                var small = request
                small.parameters = Array(values.prefix(2))
                #expect(PlanCache.key(small, catalog) != nil)
            }
        }
    }

    @Test("a final step that would read a dataset is no final step")
    func refusesStrays() async throws {
        try await RandomShards.generated(2, seed: 16) { shards in
            let engine = try await InProcessQueryEngine.open(threads: shards.threads)
            let catalog = try TableCatalog(
                [
                    shards.keys[0]: try await shards.tables(of: shards.keys[0], isCurrent: false)
                ]
            )
            let session = QuerySession(
                service: shards,
                engine: engine,
                configuration: QueryRouterConfiguration(),
                planner: QueryPlanner(),
                request: QueryRequest(sql: "", organizations: shards.keys),
                organizations: shards.keys,
                catalog: catalog,
                isCurrent: true,
                deadline: QueryDeadline(timer: QueryTimer(clock: StoppedClock()), limit: .seconds(30)),
                plans: PlanCache()
            )
            func query(_ sql: String) async throws -> CheckedStatement {
                let gate = StatementGate(catalog: catalog)
                return try gate.check(sql, root: try gate.read(try await engine.syntaxTree(of: sql)))
            }
            let shard = try await query("select count(*) as n from m")
            for (sql, isBound) in [("select sum(n) as n from _ft_parts", true), ("select sum(v) as n from E", false)] {
                let text = try await engine.syntaxTree(of: sql)
                let final = try StatementGate(catalog: catalog).read(text).list("statements").first?.node("node")
                let plan = ScatterPlan(
                    kind: .partial,
                    shard: try #require(shard.query),
                    columns: ["n"],
                    final: final,
                    organizations: shards.keys,
                    tables: [RandomShards.m],
                    cut: .none
                )
                let planned = QuerySession.Planned(
                    statement: shard,
                    chosen: ChosenPlan(plan: .scatter(plan), rejections: []),
                    described: try await engine.describe(
                        "select sum(v) as n from e",
                        over: catalog.engineSchema,
                        origin: .router
                    ),
                    absences: [],
                    key: nil
                )
                if isBound {
                    let parts = try await session.bind(plan, planned)
                    #expect(parts.final != nil)
                } else {
                    await #expect(throws: SplitFailure.self) { _ = try await session.bind(plan, planned) }
                }
            }
            await engine.close()
        }
    }
}
