import Columnar
import Primitives
import Testing

@testable import QueryRouter

@Suite(.serialized, .timeLimit(.minutes(10)))
struct ExplainTests {
    private static func lines(
        _ router: QueryRouter,
        _ sql: String,
        _ keys: [OrganizationKey]
    ) async throws -> [[ArrowValue]] {
        try await router.rows(QueryRequest(sql: sql, organizations: keys), sorted: false).rows.rows
    }

    private static func details(_ lines: [[ArrowValue]], _ item: String) -> [String] {
        lines.filter { $0[0] == .string(item) }.compactMap { if case .string(let text) = $0[2] { text } else { nil } }
    }

    @Test("shows the plan, why no cheaper one, and the statement for each shard, and asks none")
    func explains() async throws {
        try await RandomShards.generated(3, seed: 6) { shards in
            try await shards.withRouter { router in
                let partial = try await Self.lines(router, "EXPLAIN select k, avg(n) from m group by k", shards.keys)
                #expect(Self.details(partial, "plan").first?.hasPrefix("partial") == true)
                #expect(Self.details(partial, "not single").first?.contains("3 organizations") == true)
                #expect(Self.details(partial, "not concat").count == 1)
                #expect(Self.details(partial, "shard").count == 3)
                #expect(Self.details(partial, "shard").allSatisfy { $0.contains("EXPORT_STATE") })
                #expect(Self.details(partial, "final").first?.contains("combine_aggr") == true)
                let sql = " explain -- why\n select k, histogram(n) from m group by k"
                let gather = try await Self.lines(router, sql, shards.keys)
                #expect(Self.details(gather, "plan").first?.hasPrefix("gather") == true)
                let reason = Self.details(gather, "not partial").first ?? ""
                #expect(reason.contains("histogram does not decompose (byte 27)"), "\(reason)")
                let single = try await Self.lines(router, "explain select * from m", [shards.keys[0]])
                #expect(Self.details(single, "plan").first?.hasPrefix("single") == true)
                #expect(shards.recordedCalls.isEmpty)
            }
        }
    }

    @Test("shows whether LIMIT is pushed down, and why not")
    func explainsLimit() async throws {
        try await RandomShards.generated(3, seed: 6) { shards in
            try await shards.withRouter { router in
                let cases = [
                    (
                        "select k, count(*) from m group by k order by k limit 3 offset 2", "pushed down",
                        "at most 5 rows"
                    ),
                    ("select u from m order by u desc limit 4", "pushed down", "at most 4 rows"),
                    (
                        "select k, count(*) from m group by k order by 2 limit 3", "not pushed down",
                        "it is sorted by what is not grouped by"
                    ),
                    ("select u from m order by u limit 20%", "not pushed down", "no number of rows"),
                    ("select sum(u) from (select u from m order by u limit 3)", "pushed down", "at most 3 rows"),
                ]
                for (sql, beginning, part) in cases {
                    let lines = try await Self.lines(router, "explain \(sql)", shards.keys)
                    let limit = Self.details(lines, "limit").first ?? ""
                    #expect(limit.hasPrefix(beginning) && limit.contains(part), "\(sql): \(limit)")
                    let isPushed = Self.details(lines, "shard").allSatisfy { $0.contains("LIMIT") }
                    #expect(isPushed == (beginning == "pushed down"), "\(sql)")
                }
                let none = try await Self.lines(router, "explain select k, count(*) from m group by k", shards.keys)
                #expect(Self.details(none, "limit").isEmpty)
            }
        }
    }

    @Test(
        "ANALYZE runs the statement, and tells rows, bytes and time of every shard",
        arguments: [
            "select k, avg(n) from m group by k", "select * from m", "select k, mode(1) from m group by k",
            "select * from m where organization = 'org-1'",
        ]
    )
    func analyzes(sql: String) async throws {
        try await RandomShards.generated(3, seed: 6) { shards in
            try await shards.withRouter { router in
                let lines = try await Self.lines(router, "explain analyze \(sql)", shards.keys)
                let asked = shards.recordedCalls.count
                let shardLines = lines.filter { $0[0] == .string("shard") }
                #expect(shardLines.count == asked)
                #expect(asked > 0)
                let expected = try await shards.expected(sql, sorted: true)
                let result = lines.first { $0[0] == .string("result") }
                #expect(result?[3] == .int(Int64(expected.rows.count)))
                for line in shardLines {
                    guard case .int(let rows) = line[3], case .int(let bytes) = line[4] else {
                        Issue.record("no figures in \(line)")
                        continue
                    }
                    #expect(rows == 0 || bytes > 0)
                    #expect(line[5] != .null)
                }
            }
        }
    }

    @Test("errors keep their place behind EXPLAIN, and options are refused")
    func refuses() async throws {
        try await RandomShards.generated(2, seed: 6) { shards in
            try await shards.withRouter { router in
                let sql = "explain select nothing from m"
                let error = await router.failure(QueryRequest(sql: sql, organizations: shards.keys))
                #expect(error?.position == 15)
                for sql in ["explain (format json) select 1", "explain drop table m", "explain explain select 1"] {
                    let error = await router.failure(QueryRequest(sql: sql, organizations: shards.keys))
                    #expect(error != nil, "\(sql)")
                }
                let none = try ExplainPrefix.read("explained")
                #expect(none == nil)
                let text = try ExplainPrefix.read("select 1")
                #expect(text == nil)
            }
        }
    }
}
