import Columnar
import Primitives
import Testing

@testable import QueryRouter

/// What broke other ways of splitting statements, class by class: each answers like one DuckDB, or is refused.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct SplitClassTests {
    /// Compares every plan that admits a statement with one DuckDB, and says which plan the free choice was.
    private static func compare(
        _ statements: [String],
        seed: UInt64 = 4,
        options: QueryPlanner.Options = .init()
    ) async throws -> [QueryPlanKind] {
        var plans: [QueryPlanKind] = []
        try await RandomShards.generated(4, seed: seed) { shards in
            try await shards.withRouter(options: options) { router in
                for sql in statements {
                    let isOrdered = sql.contains("order by all") || sql.contains("-- ordered")
                    let expected = try await shards.expected(sql, sorted: !isOrdered)
                    for choice in [QueryRequest.PlanChoice.automatic, .gather] {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        let (rows, outcome) = try await router.rows(request, sorted: !isOrdered)
                        #expect(rows == expected, "\(outcome.plan) \(sql): \(rows.difference(from: expected))")
                        if choice == .automatic { plans.append(outcome.plan) }
                    }
                }
            }
        }
        return plans
    }

    @Test("1: row ids differ between shards, and are refused")
    func rowIdentifiers() async throws {
        try await RandomShards.generated(2, seed: 1) { shards in
            try await shards.withRouter { router in
                let request = QueryRequest(sql: "select rowid from m", organizations: shards.keys)
                #expect(await router.failure(request)?.code == .notAllowed)
            }
        }
    }

    @Test("2: DISTINCT aggregates are computed over sets of values")
    func distinctAggregates() async throws {
        let plans = try await Self.compare([
            "select count(distinct k), sum(distinct n), avg(distinct d), count(*) from m",
            "select b, count(distinct k), count(distinct n), sum(n) from m group by b",
            "select count(distinct k) filter (where n > 2), count(k) from m",
            "select string_agg(distinct k, '|' order by k desc) from m",
            "select organization, count(distinct k) from m group by organization",
        ])
        #expect(plans == [.partial, .partial, .partial, .partial, .concat])
    }

    @Test("3: aggregates with an inner order keep it")
    func orderedAggregates() async throws {
        let plans = try await Self.compare([
            "select first(k order by u), last(n order by u), list(n order by u desc), string_agg(s, ',' order by u) from m",
            "select k, any_value(n order by u), sum(n order by u), array_agg(u order by n nulls first, u) from m group by k",
        ])
        #expect(plans == [.partial, .partial])
    }

    @Test("4: GROUP BY () without aggregates is one row")
    func emptyGroup() async throws {
        let plans = try await Self.compare(["select 1 as one from m group by ()", "select count(*) from m group by ()"])
        #expect(plans == [.gather, .gather])
    }

    @Test("5: a column comes before an alias of its name in GROUP BY; where both are possible, nothing is split")
    func aliasesAndColumns() async throws {
        let plans = try await Self.compare([
            "select n % 2 as n, count(*) as c from m group by n", "select n % 2 as q, count(*) as c from m group by q",
            "select n % 2 as q, count(*) as c from m group by q having q = 1",
            "select sum(n) as n from m having n > 3", "select sum(n) as x from m having x > 3",
            "select k as b, n as k from m order by k, b, u -- ordered",
            "select -n as x, u from m order by x + 0, u -- ordered",
        ])
        #expect(plans == [.partial, .partial, .partial, .gather, .partial, .concat, .gather])
    }

    @Test("6: types that do not travel unchanged are not split")
    func lossyTypes() async throws {
        let plans = try await Self.compare([
            "select max(u::uhugeint) from m", "select max(n::varchar::bit) from m where n in (0, 1)",
            "select max('00000000-0000-0000-0000-00000000000' || (u % 10)::varchar)::uuid::varchar from m",
            "select sum(n::hugeint), max(t::date), min(d::decimal(9, 3)) from m", "select k, max(j) from m group by k",
        ])
        #expect(plans == [.gather, .gather, .partial, .partial, .partial])
    }

    @Test("7: a collation is not split")
    func collations() async throws {
        let plans = try await Self.compare([
            "select count(*) from m group by k collate nocase", "select k from m where k = 'A' collate nocase",
        ])
        #expect(plans == [.gather, .gather])
    }

    @Test("8: DISTINCT ON is not split")
    func distinctOn() async throws {
        let plans = try await Self.compare([
            "select distinct on (k) k, u from m order by k, u -- ordered",
            "select distinct on (columns('k|b')) k, b, u from m order by k, b, u -- ordered",
        ])
        #expect(plans == [.gather, .gather])
    }

    @Test("9: LIMIT counts the rows of all, after all were sorted")
    func limits() async throws {
        let plans = try await Self.compare([
            "select k, u from m order by u desc limit 5 offset 3 -- ordered", "select u from m order by all limit 3",
            "select k, count(*) from m group by k order by all limit 2 offset 1", "select u from m order by u limit 0",
            "select u from m order by u limit 20% -- ordered",
            "select count(*) from (select u from m order by u limit 7)",
        ])
        #expect(plans == [.concat, .concat, .partial, .concat, .concat, .partial])
    }

    @Test("9: groups are cut on the shards where the order hangs on nothing but what is grouped by")
    func limitsOfGroups() async throws {
        let pushed = [
            "select k, count(*) from m group by k order by k limit 2 -- ordered",
            "select k, b, sum(n) from m group by k, b order by k desc nulls last, b limit 3 offset 1 -- ordered",
            "select n % 3 as r, k, count(*) from m group by r, k order by 1, k limit 4 -- ordered",
            "select k, b, count(*) from m group by k, b order by all limit 3",
            "select count(*), k from m group by k order by k, avg(n) limit 2 -- ordered",
        ]
        let whole = [
            "select k, count(*) from m group by k order by count(*) desc, k limit 2 -- ordered",
            "select count(*) as k, max(k) from m group by k order by k, 2 limit 2 -- ordered",
            "select k, count(*) from m group by rollup (k) order by all limit 3",
            "select k, count(*) as c from m group by k having count(*) > 2 order by k limit 2 -- ordered",
            "select k, row_number() over (order by k desc) from m group by k order by k limit 2 -- ordered",
            "select distinct min(b) from m group by k, s order by 1 limit 2 -- ordered",
            "select k, unnest([1, 1]) from m group by k order by k limit 3 -- ordered",
            "select k, count(distinct n) from m group by k order by k limit 2 -- ordered",
            "select count(*), k from m group by k order by k, count(distinct s) limit 2 -- ordered",
            "select count(*) from m limit 3 -- ordered",
        ]
        let plans = try await Self.compare(pushed + whole)
        #expect(plans == (pushed + whole).map { _ in .partial })
        try await RandomShards.generated(4, seed: 4) { shards in
            try await shards.withRouter { router in
                for (sql, isPushed) in pushed.map({ ($0, true) }) + whole.map({ ($0, false) }) {
                    let plan = try await router.plan(QueryRequest(sql: sql, organizations: shards.keys))
                    guard case .scatter(let scatter) = plan else {
                        Issue.record("\(sql) is not split")
                        continue
                    }
                    switch scatter.cut {
                    case .rows: #expect(isPushed, "\(sql)")
                    case .whole: #expect(!isPushed, "\(sql)")
                    case .none: Issue.record("\(sql): its LIMIT is not seen")
                    }
                }
            }
        }
    }

    @Test(
        "9: of groups that ORDER BY leaves equal whole ones are answered",
        arguments: ["", "order by k", "order by k desc", "order by 2 nulls first"]
    )
    func tiesOfGroups(order: String) async throws {
        let groups = "select u % 5 as r, k, count(*), sum(n) from m group by r, k"
        for seed in UInt64(1)...6 {
            try await RandomShards.generated(4, seed: seed) { shards in
                try await shards.withRouter { router in
                    let all = try await shards.expected(groups, sorted: true)
                    for limit in 1...4 {
                        let sql = "\(groups) \(order) limit \(limit)"
                        let request = QueryRequest(sql: sql, organizations: shards.keys)
                        let (answer, outcome) = try await router.rows(request, sorted: false)
                        #expect(outcome.plan == .partial)
                        #expect(answer.rows.count == min(limit, all.rows.count))
                        for row in answer.rows { #expect(all.rows.contains(row), "seed \(seed): \(sql): \(row)") }
                    }
                }
            }
        }
    }

    @Test("queries in WITH and FROM that need all organizations can be answered first, and the rest is split")
    func pulledTables() async throws {
        var options = QueryPlanner.Options()
        options.pullsTablesFirst = true
        let statements = [
            "select count(*), sum(m.n) from m join (select k, max(v) as top from e group by k) b on b.k = m.k where m.n < b.top",
            "with w as (select k, count(*) as c from m group by k) select m.k, count(*), max(c) from m join w on w.k = m.k group by m.k",
            "with w as (select k, max(u) as top from m group by k) select m.organization, m.u from m join w on w.k = m.k and w.top = m.u order by all",
            "with a as (select k, sum(n) as s from m group by k), b as (select max(s) as s from a) select count(*) from m, b where m.u < b.s",
            "with w as (select k, count(*) as c from m where false group by k) select count(*), count(c) from m left join w on w.k = m.k",
            "with w as (select max(d) as d, max(s) as s, bool_or(b) as b, max(u::hugeint) as h from m) select count(*) from m, w where m.d <= w.d and m.s <= w.s and w.b and m.u < w.h",
            "with w as (select u, max(k) as k from m group by u) select count(*), min(w.k) from m join w on w.u = m.u",
            "select count(*) from m join (select k, n from m order by u limit 5) t on t.k = m.k",
            // Rows that would be kept without a partner would come from every shard.
            "with w as (select k, count(*) as c from m group by k) select count(*), sum(c) from m right join w on w.k = m.k",
            // Hangs on rows outside.
            "select sum(c) from m, lateral (select count(*) as c from e where e.k = m.k)",
            // A moment has no form as a literal.
            "with w as (select max(t) as t from m) select count(*) from m, w where m.t = w.t",
        ]
        let plans = try await Self.compare(statements, options: options)
        #expect(plans[..<8].allSatisfy { $0 == .partial || $0 == .concat }, "\(plans)")
        #expect(plans[8...].allSatisfy { $0 == .gather }, "\(plans)")
    }

    @Test("10: a common table expression that is named like a dataset hides it")
    func hidingNames() async throws {
        let plans = try await Self.compare([
            "with m as (select organization, k from m where n > 2) select k, count(*) from m group by k",
            "with e as (select 1 as x) select count(*) from e",
            "with m as (select * from m) select count(*) from m, main.e",
        ])
        #expect(plans == [.partial, .gather, .gather])
    }

    @Test("11: USING, NATURAL, ORDER BY ALL and stars keep their columns")
    func starsAndUsing() async throws {
        let plans = try await Self.compare([
            "select * from m join e using (organization, k)", "select k, v from m natural join e",
            "select * from m order by all", "select * exclude (j), n + 1 as more from m order by u -- ordered",
            "select organization, count(*) from m left join e using (organization) group by organization",
            "select organization, count(*) from m full join e using (organization) group by organization",
            "select organization, count(*) from m right join (values ('x'), ('org-1')) w(organization) using (organization) group by 1",
        ])
        #expect(plans == [.concat, .concat, .concat, .concat, .partial, .partial, .gather])
    }

    @Test("12: macros of several aggregates are not split")
    func macros() async throws {
        let plans = try await Self.compare([
            "select geomean(abs(n) + 1), weighted_avg(d, n) from m", "select json_group_array(k) from m where false",
        ])
        #expect(plans == [.gather, .gather])
    }

    @Test("13: settings are the same everywhere: order of nulls, and a sub-query of several rows")
    func settings() async throws {
        let plans = try await Self.compare([
            "select k from m order by k, u -- ordered", "select k from m order by k desc, u limit 9 -- ordered",
        ])
        #expect(plans == [.concat, .concat])
        try await RandomShards.generated(3, seed: 2) { shards in
            try await shards.withRouter { router in
                let sql = "select (select u from m) from m"
                for choice in [QueryRequest.PlanChoice.automatic, .gather] {
                    let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                    #expect(await router.failure(request)?.code == .invalid)
                }
            }
        }
    }

    @Test("14: users cannot ask for aggregate states")
    func states() async throws {
        try await RandomShards.generated(2, seed: 1) { shards in
            try await shards.withRouter { router in
                for sql in [
                    "select avg(n) export_state from m", "select finalize(k) from m",
                    "select combine_aggr(k) from m", "select to_aggregate_state(n, 'sum', ['BIGINT']) from m",
                ] {
                    let error = await router.failure(QueryRequest(sql: sql, organizations: shards.keys))
                    #expect(error?.code == .notAllowed, "\(sql)")
                }
            }
        }
    }

    @Test("sub-queries over all organizations are answered first, and the rest is split")
    func pullsSubqueries() async throws {
        let plans = try await Self.compare([
            "select organization, u from m where n > (select avg(n) from m)",
            "select k, count(*) from m where k in (select k from e where v > 3) group by k",
            "select k, count(*) from m where k not in (select k from e where k is not null and v > 8) group by k",
            "select count(*) from m where k in (select k from e where v > 1000)",
            "with w as (select max(v) as v from e) select u, (select v from w) as x from m where n < 3",
            "select k, sum(n) from m group by k having sum(n) > (select avg(n) from m)",
            "select u from m where n > (select avg(n) from m where n > (select min(v) from e))",
            "select u from m where exists (select 1 from e where e.k = m.k)",
            "select u from m where n > (select max(v) from e where e.k = m.k)",
            "select u from m where n = (select v from e where false)",
        ])
        #expect(
            plans == [
                .concat, .partial, .partial, .partial, .concat, .partial, .concat, .gather, .gather, .concat,
            ]
        )
    }

    @Test("a query inside that holds all datasets is split, and the rest runs over its groups")
    func splitsAQueryInside() async throws {
        let plans = try await Self.compare([
            "with w as (select k, sum(n) as s from m group by k) select k, s from w where s = (select max(s) from w)",
            "select c, count(*) from (select organization, k, count(*) as c from m group by organization, k) group by c",
            "select x.k, v.f from (select k, sum(n) as s from m group by k) x join (values ('a', 1)) v(k, f) on v.k = x.k",
            "select (select max(c) from (select k, count(*) as c from m group by k)) as top",
            "with a as (select k, n from m where b), w as (select k, count(*) as c from a group by k) select max(c) from w",
            "with a as (select k, n from m where b), w as (select k, count(*) as c from a group by k) select max(c), (select count(*) from a) from w",
            "with w as (select k, count(*) as c from m group by k) select max(c), (select count(*) from e) from w",
            "with recursive w as (select k, count(*) as c from m group by k), r as (select 1 as x union all select x + 1 from r where x < (select max(c) from w)) select max(x) from r",
            "select sum(c) from (values (1), (2)) v(x), lateral (select count(*) as c from m where n > x)",
            "with w(a, b) as (select k, count(*) as c from m group by k) select a, b from w where b > 1",
            "with m as (select k, count(*) as c from m group by k) select k, c from m where c > (select min(c) from m)",
        ])
        #expect(
            plans == [
                .partial, .partial, .partial, .partial, .partial, .gather, .gather, .partial, .gather, .partial,
                .gather,
            ]
        )
    }

    @Test("lists of the row's own organization are looked up by its shard; ON keeps the left side's organization")
    func ownLists() async throws {
        let plans = try await Self.compare([
            "select u from m where (organization, k) in (select (organization, k) from e)",
            "select u from m where (k, organization) not in (select (k, organization) from e)",
            "select u from m where organization in (select organization from e where v > 4)",
            "select u from m where (k, n) in (select (k, v) from e)",
            "select u from m where (organization, k) in (select (k, organization) from e)",
            "select u from m where (organization, n) in (select (organization, count(*)) from m group by k, organization)",
            "select u from m where (organization, n) in (select (max(organization), count(*)) from m group by k)",
            "select x.organization, count(v) as c from m x left join e on e.organization = x.organization and e.k = x.k group by x.organization",
            "select organization, count(v) as c from m left join e using (organization, k) group by organization",
        ])
        #expect(
            plans == [.concat, .concat, .concat, .gather, .gather, .concat, .gather, .concat, .partial]
        )
    }

    @Test("long lists are pulled as one text")
    func pullsLongLists() async throws {
        let inserts = (0..<3).map { shard in
            [
                "INSERT INTO m SELECT 'org-\(shard + 1)', 'k' || (i * 7 % 1000), i, \(shard) * 1000 + i, i / 4, "
                    + "timestamp '2026-01-01' + to_hours(i), i % 2 = 0, 's', null FROM range(700) r(i)",
                "INSERT INTO e SELECT 'org-\(shard + 1)', 'k' || (i + \(shard) * 300), i FROM range(400) r(i)",
            ]
        }
        try await RandomShards.with(
            tables: Array(repeating: [RandomShards.m, RandomShards.e], count: 3),
            inserts: inserts,
            unionTables: [RandomShards.m, RandomShards.e],
            unionInserts: inserts.flatMap { $0 }
        ) { shards in
            try await shards.withRouter { router in
                for sql in [
                    "select count(*), sum(n) from m where k in (select k from e)",
                    "select count(*), sum(n) from m where k not in (select k from e)",
                    "select count(*), sum(n) from m where n in (select v from e where v % 3 = 0)",
                    "select count(*) from m where u not in (select v from e)",
                    "select count(*) from m where d in (select v / 4 from e)",
                    "select count(*) from m where t in (select timestamp '2026-01-01' + to_hours(v) from e)",
                    "select count(*) from m where k not in (select case when v < 399 then k end from e)",
                    "select count(*) from m where k in (select k || chr(31) from e)",
                ] {
                    let expected = try await shards.expected(sql, sorted: true)
                    let request = QueryRequest(sql: sql, organizations: shards.keys)
                    let (rows, outcome) = try await router.rows(request, sorted: true)
                    #expect(rows == expected, "\(sql)")
                    let isGathered = ["case when", "chr(31)", "to_hours"].contains { sql.contains($0) }
                    #expect(outcome.plan == (isGathered ? .gather : .partial), "\(sql)")
                }
            }
        }
    }

    @Test("every aggregate that the gate allows has a rule, and nothing else has")
    func aggregatesAreKnown() async throws {
        try await RandomShards.generated(1, seed: 1) { shards in
            let batches = try await shards.union.query(
                """
                SELECT DISTINCT lower(function_name), function_type, coalesce(lower(macro_definition), '')
                FROM duckdb_functions() WHERE function_type IN ('aggregate', 'macro')
                """,
                origin: .router
            ).collect()
            var aggregates: Set<String> = []
            var macros: [(name: String, text: String)] = []
            for batch in batches {
                for row in 0..<batch.rowCount {
                    guard let name = batch.string(row: row, column: 0) else { continue }
                    if batch.string(row: row, column: 1) == "aggregate" {
                        aggregates.insert(name)
                    } else {
                        macros.append((name, batch.string(row: row, column: 2) ?? ""))
                    }
                }
            }
            #expect(aggregates.count > 50)
            for _ in 0..<3 {
                for macro in macros where aggregates.contains(where: { Self.calls($0, in: macro.text) }) {
                    aggregates.insert(macro.name)
                }
            }
            let allowed = aggregates.intersection(AllowedFunctions.names)
            #expect(allowed.subtracting(AggregateRules.all).isEmpty)
        }
    }

    private static func calls(_ name: String, in text: String) -> Bool {
        text.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "(" }).contains { part in
            part.split(separator: "(", omittingEmptySubsequences: false).dropLast().contains(Substring(name))
        }
    }
}
