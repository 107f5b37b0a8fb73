import Columnar
import Primitives
import Testing

@testable import QueryRouter

/// The router's answers equal those of one DuckDB over all rows, whatever the plan.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct DifferentialTests {
    private static let seed: UInt64 = 20_260_131

    /// Statements whose rows come in an order of their own (a total ORDER BY).
    static let ordered = [
        "select organization, count(*) n from audit_log group by organization order by organization",
        """
        select entity_id, count(distinct organization) organizations, count(*) n from audit_log
        group by entity_id order by organizations desc, n desc, entity_id limit 10
        """,
        """
        select organization, median(days) from (
            select organization, entity_id, date_diff('second', min(occurred_at), max(occurred_at)) / 86400.0 as days
            from audit_log group by organization, entity_id) group by organization order by organization
        """,
        """
        select date_trunc('month', occurred_at) as month, action, count(*) n from audit_log
        group by all order by month nulls first, action
        """,
        """
        select organization, sequence, action from audit_log order by occurred_at desc nulls last, \
        organization, sequence limit 20 offset 5
        """,
        "select * from audit_log order by organization, sequence limit 50",
        "from audit_log select sequence, organization order by all limit 12",
        """
        select organization, sequence, row_number() over (partition by entity_id order by organization, sequence) r,
            lag(action) over (partition by organization order by sequence) before_that
        from audit_log order by organization, sequence
        """,
        """
        select action, severity, grouping(action, severity) g, count(*) from audit_log group by rollup \
        (action, severity) order by 3, 1 nulls first, 2 nulls first
        """,
        "select string_agg(action, ',' order by organization, sequence) from audit_log where entity_id = 'case-3'",
        """
        select list(organization || ':' || sequence order by organization, sequence) from audit_log where \
        severity is null and reason = ''
        """,
        """
        with recursive steps(n) as (select 1 union all select n + 1 from steps where n < 5)
        select n, (select count(*) from audit_log where sequence = n) from steps order by n
        """,
        """
        select distinct on (organization) organization, sequence, action from audit_log order by \
        organization, sequence desc
        """,
        """
        select action, quantile_cont(sequence, 0.9), stddev_samp(sequence), mode(outcome) from audit_log \
        group by action order by action
        """,
        """
        pivot audit_log on outcome in ('success', 'failure') using count(*) group by organization order by \
        organization
        """,
        """
        select organization, k, count(*) from (select organization, unnest(json_keys(after)) k from \
        audit_log) group by all order by all
        """,
    ]

    /// Statements whose rows may come in any order.
    static let unordered = [
        "select count(*) from audit_log",
        "select 1 as one",
        "select count(*), min(sequence), max(sequence), sum(sequence), avg(sequence) from audit_log",
        "select count(distinct entity_id), count(distinct actor_id) from audit_log",
        "select distinct action, outcome from audit_log",
        "select after->>'$.stock' as stock, count(*) from audit_log where after->>'$.unit' = 'ml' group by 1",
        """
        select json_extract(after, '$.nested.x')::int x, count(*) from audit_log where after is not null \
        group by 1 having count(*) > 2
        """,
        "select after.nested.x, before->'stock' from audit_log where sequence < 20",
        """
        select organization, action from audit_log where severity = 'warning' and action like 'c%' and \
        sequence between 3 and 90
        """,
        """
        select organization, sequence from audit_log a where a.severity in ('info', 'notice') and \
        lower(a.action) <> 'queued'
        """,
        """
        select count(*) from audit_log where occurred_at >= timestamp '2012-06-01' and not (outcome = \
        'failure' or reason is null)
        """,
        "select 'warning' as severity, count(*) from audit_log where severity = 'info'",
        """
        select a.entity_id, count(*) from audit_log a join audit_log b using (entity_id) where a.action = \
        'opened' and b.action = 'closed' group by 1
        """,
        """
        select a.organization, b.organization, count(*) from audit_log a left join audit_log b on \
        a.entity_id = b.entity_id and b.severity = 'warning' and a.sequence = b.sequence group by 1, 2
        """,
        """
        with w as (select * from audit_log where severity = 'warning') select organization, count(*) from w \
        group by 1 union all select 'all', count(*) from w
        """,
        """
        with audit_log as (select action, 'x' as organization from audit_log) select organization, action, \
        count(*) from audit_log group by all
        """,
        """
        select entity_id from audit_log where organization = 'org-1' intersect select entity_id from \
        audit_log where organization = 'org-2'
        """,
        """
        select entity_id from audit_log where action = 'opened' except select entity_id from audit_log where \
        action = 'closed'
        """,
        """
        select organization, sequence from audit_log o where sequence = (select max(sequence) from audit_log \
        i where i.organization = o.organization and i.severity = 'info')
        """,
        """
        select count(*) from audit_log o where exists (select 1 from audit_log i where i.entity_id = \
        o.entity_id and i.organization <> o.organization)
        """,
        """
        select organization, sequence from audit_log qualify row_number() over (partition by organization \
        order by sequence desc) <= 2
        """,
        """
        select organization, sum(sequence) filter (where severity = 'info'), any_value(outcome) filter \
        (where outcome = 'failure') from audit_log group by organization
        """,
        "select action, organization, count(*) from audit_log group by cube (action, organization)",
        "select action, entity_type, count(*) from audit_log group by grouping sets ((action), (entity_type), ())",
        "select count(*) from audit_log where organization in ('org-1', 'org-3', 'nobody')",
        "select count(*), max(sequence) from audit_log where organization = 'org-2' and severity is not null",
        "select count(*) from audit_log where organization = 'nobody'",
        "select x.action.upper() u, count(*) from audit_log x group by u",
        "select a from audit_log a where a.sequence = 3",
        "select columns('.*_id') from audit_log where sequence <= 4",
        "select * exclude (before, after) replace (upper(action) as action) from audit_log where sequence <= 3",
        "select * from audit_log natural join (select 'closed' as action, 'success' as outcome) where sequence < 30",
        "select list_transform([sequence, 2], lambda v: v + 1) l from audit_log where sequence < 4",
        "select t.i, count(a.sequence) from range(1, 6) t(i) left join audit_log a on a.sequence = t.i group by t.i",
        """
        select r.n, l.c from (values (1), (2), (3)) r(n), lateral (select count(*) c from audit_log where \
        sequence = r.n) l
        """,
        "select j.key, count(*) from audit_log, json_each(after) j where sequence < 40 group by 1",
        "select case when severity is null then 'none' else severity end s, count(*) from audit_log group by 1",
        "describe select organization, sequence, after from audit_log",
        """
        select organization from audit_log group by organization having count(*) filter (where severity = \
        'info') > 10
        """,
        "select coalesce(reason, 'none') r, count(*) from audit_log where reason is distinct from '' group by r",
        "select main.audit_log.action, count(*) from main.audit_log group by 1",
        "select approx_count_distinct(entity_id) > 10 from audit_log",
        "select arg_max(action, organization || lpad(sequence::varchar, 9, '0')) from audit_log",
        "select sum(case when (after->'$.tags[0]') = '\"t0\"' then 1 else 0 end) from audit_log",
        "unpivot (select organization, count(*) n, max(sequence)::bigint m from audit_log group by 1) on n, m",
        "select count(*) from audit_log tablesample 100 percent",
        "select a, s from audit_log t(o, s, r, c, i, l, a) where s < 4",
        "select ilike_escape(action, 'C%', '$') x, count(*) from audit_log group by 1",
        "select epoch(max(recorded_at) - min(recorded_at)) from audit_log",
    ]

    /// The statements in parts, so that none takes long.
    private static func part(_ part: Int) -> [(sql: String, isSorted: Bool)] {
        let all = Self.ordered.map { ($0, false) } + Self.unordered.map { ($0, true) }
        return all.enumerated().filter { $0.offset % Self.parts == part }.map(\.element)
    }

    private static let parts = 3

    @Test(
        "equals one DuckDB over the union",
        arguments: [[120], [90, 0, 40], [60, 25, 0, 1, 110, 33, 70, 5]],
        Array(0..<parts)
    )
    func equalsTheUnion(counts: [Int], part: Int) async throws {
        try await TestShards.with(counts: counts, seed: Self.seed) { shards in
            try await shards.withRouter { router in
                for (sql, isSorted) in Self.part(part) {
                    guard let expected = try? await shards.expected(sql, sorted: isSorted) else {
                        Issue.record("not a statement: \(sql)")
                        continue
                    }
                    for choice in [QueryRequest.PlanChoice.gather, .automatic] {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        // Without force, only what takes another way than the gathered answer.
                        if choice == .automatic, case .gather = try await router.plan(request) {
                            continue
                        }
                        let context =
                            "seed \(Self.seed), \(counts), \(choice == .automatic ? "free" : "gather"): \(sql)"
                        do {
                            let (rows, _) = try await router.rows(request, sorted: isSorted)
                            #expect(rows == expected, "\(context)")
                        } catch {
                            Issue.record("\(context): \(error)")
                        }
                    }
                }
            }
        }
    }

    @Test("answers are the same when nothing is left out", arguments: Array(0..<parts))
    func pruningIsInvisible(part: Int) async throws {
        try await TestShards.with(counts: [90, 0, 40], seed: Self.seed) { shards in
            let options = QueryPlanner.Options(prunesColumns: false, pushesConditions: false)
            try await shards.withRouter(options: options) { router in
                for (sql, isSorted) in Self.part(part) {
                    let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: .gather)
                    let (rows, outcome) = try await router.rows(request, sorted: isSorted)
                    let expected = try await shards.expected(sql, sorted: isSorted)
                    #expect(rows == expected, "seed \(Self.seed): \(sql)")
                    let readsAll = outcome.statistics.gatheredRows == 130 || outcome.statistics.shards == 0
                    #expect(readsAll, "\(sql)")
                }
            }
        }
    }

    /// Conditions of every kind: those that are pushed, those that must not be, and those on nulls.
    private static let conditions = [
        "severity = 'info'", "severity <> 'warning'", "severity is null", "not (reason = '')",
        "reason is distinct from ''",
        "sequence between 5 and 60", "sequence % 3 = 1", "sequence in (1, 2, 3, 50)", "sequence not in (4, 5)",
        "organization = 'org-1'", "organization in ('org-2', 'org-3')", "organization > 'org-1'", "action like '%ed'",
        "lower(action) <> 'opened'", "occurred_at > timestamp '2012-09-01'", "coalesce(severity, 'x') = 'x'",
        "(after->>'$.unit') = 'ml'", "json_array_length(after, '$.tags') > 1",
        "actor_id is not null and outcome = 'success'",
        "sequence > (select avg(sequence) from audit_log)",
        "entity_id in (select entity_id from audit_log where action = 'closed')",
        "date_trunc('month', occurred_at) = timestamp '2012-05-01'", "length(reason) = 2",
        "sequence::varchar like '1%'",
        "case when severity is null then true else sequence < 30 end", "random() >= 0",
        "severity between 'info' and 'o'",
    ]

    private static let shapes = [
        "select organization, sequence, reason from audit_log where ?",
        "select a.action, count(*), sum(a.sequence) from audit_log a where ? group by a.action",
        "select count(*) from (select * from audit_log where ?)",
        """
        with w as (select organization, entity_id, severity as action from audit_log where ?) select action, \
        count(*) from w group by 1
        """,
        "select organization as severity, action as organization, severity as reason from audit_log where ?",
        """
        select o.organization, o.sequence from audit_log o where o.sequence = (select max(sequence) from \
        audit_log where ?)
        """,
        "select count(*) from audit_log where ? or sequence = 7",
        """
        select distinct organization from audit_log where ? union all select 'x' from audit_log where \
        outcome = 'failure'
        """,
    ]

    @Test("random conditions leave out no row too many", arguments: [11, 12] as [UInt64])
    func randomConditions(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        try await TestShards.with(counts: [70, 30, 0, 45], seed: seed) { shards in
            try await shards.withRouter { router in
                for _ in 0..<Self.randomStatements {
                    let parts = (0..<Int.random(in: 1...4, using: &random)).map { _ in
                        let condition = Self.conditions.randomElement(using: &random) ?? ""
                        return Bool.random(using: &random) ? condition : "(\(condition))"
                    }
                    let joined = parts.joined(separator: Int.random(in: 0..<4, using: &random) == 0 ? " or " : " and ")
                    let shape = Self.shapes.randomElement(using: &random) ?? ""
                    let sql = shape.split(separator: "?", omittingEmptySubsequences: false).joined(separator: joined)
                    let expected = try await shards.expected(sql, sorted: true)
                    for choice in [QueryRequest.PlanChoice.gather, .automatic] {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        if choice == .automatic, case .gather = try await router.plan(request) {
                            continue
                        }
                        let (rows, _) = try await router.rows(request, sorted: true)
                        #expect(rows == expected, "seed \(seed): \(sql)")
                    }
                }
            }
        }
    }

    private static let randomStatements = 25

    @Test("the comparison notices one wrong value")
    func comparisonNotices() async throws {
        try await TestShards.with(counts: [50, 20], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let asked = QueryRequest(sql: "select sum(sequence) from audit_log", organizations: shards.keys)
                let (rows, _) = try await router.rows(asked, sorted: true)
                let other = try await shards.expected("select sum(sequence) + 1 from audit_log", sorted: true)
                #expect(rows.rows != other.rows)
                let fewer = QueryRequest(sql: asked.sql, organizations: [shards.keys[0]])
                #expect(try await router.rows(fewer, sorted: true).rows.rows != rows.rows)
            }
        }
    }
}
