import Columnar
import Primitives
import Testing

@testable import QueryRouter

@Suite("The time of a statement", .serialized, .timeLimit(.minutes(10)))
struct StatementTimeTests {
    /// 2026-02-15 09:30:00.25 UTC, in the middle of the generated rows.
    private static let now = Timestamp(microseconds: 1_771_147_800_250_000)
    private static let literals = [
        ("now()", "TIMESTAMPTZ '2026-02-15 09:30:00.25+00'"),
        ("current_timestamp", "TIMESTAMPTZ '2026-02-15 09:30:00.25+00'"),
        ("localtimestamp", "TIMESTAMP '2026-02-15 09:30:00.25'"),
        ("today()", "DATE '2026-02-15'"), ("current_date", "DATE '2026-02-15'"),
    ]

    /// The statement with the time written out.
    private static func written(_ sql: String) -> String {
        self.literals.reduce(sql) { $0.replacing($1.0, with: $1.1) }
    }

    @Test(
        "is the same on all shards, and lets it be split",
        arguments: [
            ("select count(*), max(t) from m where t > now() - interval 20 days", QueryPlanKind.partial),
            ("select k, count(*) filter (t < current_timestamp) as old from m group by k", .partial),
            ("select organization, u from m where t::date < current_date", .concat),
            ("select date_diff('day', t, localtimestamp) as age, count(*) from m group by age", .partial),
            ("select k, now() as moment, today() as day from m where n > 2", .concat),
            ("select k, max(t) from m group by k having max(t) < now()", .partial),
            ("select distinct organization, current_date - t::date as days from m", .concat),
        ]
    )
    func isPinned(sql: String, plan: QueryPlanKind) async throws {
        try await RandomShards.generated(5, seed: 21) { shards in
            try await shards.withRouter { router in
                let request = QueryRequest(sql: sql, organizations: shards.keys, now: Self.now)
                let expected = try await shards.expected(Self.written(sql), sorted: true)
                for _ in 0..<2 {
                    let (rows, outcome) = try await router.rows(request, sorted: true)
                    #expect(rows == expected, "\(sql)")
                    #expect(outcome.plan == plan, "\(sql)")
                }
                #expect(router.plans.count == 0, "a plan of one moment is not kept")
                #expect(shards.recordedCalls.allSatisfy { !$0.sql.lowercased().contains("now()") })
                var later = request
                later.now = Timestamp(microseconds: 4_000_000_000_000_000)
                let (rows, _) = try await router.rows(later, sorted: true)
                #expect(rows != expected, "\(sql) hangs on the time")
            }
        }
    }

    @Test(
        "is left alone where the result would be named by it, where a column has its name, and where it is not only a time",
        arguments: [
            "select count(*) from (select now() from m) as x",
            "select count(*) from m where t < cast(current_time as varchar)::timestamp",
            "select k, count(*) from (select k, t as current_date from m) as x where current_date > '2026-02-01' group by k",
            "select count(*) from m where t < now() and random() < 2",
            "select count(*) from (select k from m union all select localtimestamp::varchar from e) as x",
        ]
    )
    func isNotPinned(sql: String) async throws {
        try await RandomShards.generated(3, seed: 22) { shards in
            try await shards.withRouter { router in
                let plan = try? await router.plan(
                    QueryRequest(sql: sql, organizations: shards.keys, now: Self.now)
                )
                #expect(plan.map { $0.kind == .gather } ?? true, "\(sql)")
            }
        }
    }

    @Test("without a time, and with a column's name made of it, such a statement is gathered")
    func needsATime() async throws {
        try await RandomShards.generated(3, seed: 23) { shards in
            try await shards.withRouter { router in
                for sql in [
                    "select count(*) from m where t < now()", "select count(*) from m where t < current_timestamp",
                ] {
                    let plan = try await router.plan(QueryRequest(sql: sql, organizations: shards.keys))
                    #expect(plan.kind == .gather, "\(sql)")
                }
                let sql = "select now(), k from m where n > ?"
                let plan = try await router.plan(
                    QueryRequest(sql: sql, parameters: [.int(1)], organizations: shards.keys, now: Self.now)
                )
                #expect(plan.kind == .gather)
            }
        }
    }

    @Test("names and types of the result are those of the statement")
    func keepsNames() async throws {
        try await RandomShards.generated(3, seed: 24) { shards in
            try await shards.withRouter { router in
                let sql = "select now(), today(), k from m"
                let request = QueryRequest(sql: sql, organizations: shards.keys, now: Self.now)
                let (rows, outcome) = try await router.rows(request, sorted: true)
                #expect(outcome.plan == .concat)
                let own = try await shards.union.query(sql)
                #expect(outcome.schema.fields.map(\.name) == own.schema.fields.map(\.name))
                #expect(outcome.schema.fields.map(\.type) == own.schema.fields.map(\.type))
                #expect(!rows.rows.isEmpty)
                own.cancel()
            }
        }
    }
}
