import Columnar
import Primitives
import Testing

@testable import QueryRouter

/// What is fetched for a statement: enough always, and no more where that is certain.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct QueryPlannerTests {
    private static let keys = ["org-1", "org-2", "org-3"].compactMap(OrganizationKey.init)

    private static func plan(_ sql: String, _ parser: ColumnarStore) async throws -> QueryPlan {
        let tree = try await parser.serializeSQL(sql)
        let catalog = try TableCatalog([:], base: [auditLog])
        let statement = try StatementGate(catalog: catalog).check(sql, tree: tree)
        return QueryPlanner().plan(
            statement,
            organizations: self.keys,
            catalog: catalog,
            names: nil,
            forcesGather: true
        ).plan
    }

    private static func withParser(_ body: (ColumnarStore) async throws -> Void) async throws {
        let threads = ColumnarThreads()
        let parser = try await ColumnarStore.open(.memory, threads: threads)
        try await body(parser)
        await parser.close()
        await threads.shutdown()
    }

    private static let all = auditLog.columns.map(\.name)

    /// Statement, columns (nil: all), whether conditions are pushed, organizations (nil: all).
    static let cases: [(sql: String, columns: [String]?, conditions: Int, organizations: [Int]?)] = [
        ("select count(*) from audit_log", ["sequence"], 0, nil),
        ("select action from audit_log", ["action"], 0, nil),
        ("select A.\"Action\", severity from audit_log a", ["action", "severity"], 0, nil),
        ("select * from audit_log", nil, 0, nil),
        ("select a from audit_log a", nil, 0, nil),
        ("select to_json(audit_log) from audit_log", nil, 0, nil),
        ("select columns('a.*') from audit_log", nil, 0, nil),
        ("select count(*) from audit_log natural join audit_log b", nil, 0, nil),
        ("select x from audit_log t(x)", nil, 0, nil),
        ("select count(*) from audit_log join audit_log b using (entity_id)", ["entity_id"], 0, nil),
        ("select action.upper() from audit_log", ["action"], 0, nil),
        (
            "select reason from audit_log where severity = 'info' and action <> 'x'", ["action", "reason", "severity"],
            2, nil
        ),
        (
            "select reason from audit_log where severity = 'info' or action <> 'x'", ["action", "reason", "severity"],
            1, nil
        ),
        (
            "select reason from audit_log a where a.severity = 'info' and random() > 0.5", ["reason", "severity"], 1,
            nil
        ),
        ("select 1 from audit_log where sequence in (select 1)", ["sequence"], 0, nil),
        ("select 1 from audit_log where sequence::varchar = '1'", ["sequence"], 0, nil),
        ("select 1 from audit_log where (after->>'$.x') = '1'", ["after"], 0, nil),
        ("select 1 from audit_log where occurred_at > now()", ["occurred_at"], 0, nil),
        ("select 1 from audit_log where occurred_at > date '2012-01-01'", ["occurred_at"], 1, nil),
        ("select 1 from audit_log where occurred_at > timestamptz '2012-01-01'", ["occurred_at"], 0, nil),
        ("select 1 from audit_log a, audit_log b where a.severity = 'info'", ["severity"], 0, nil),
        ("select 1 from audit_log left join (select 1) on true where severity is null", ["severity"], 0, nil),
        ("select 1 from audit_log where severity = 'info' union all select 1 from audit_log", ["severity"], 0, nil),
        ("select 1 from audit_log where severity = 'info' using sample 5 rows", ["severity"], 0, nil),
        ("select 1 from audit_log tablesample 5 percent where severity = 'info'", ["severity"], 0, nil),
        ("select 1 from (select severity, 1 as one from audit_log) where severity = 'info'", ["severity"], 0, nil),
        ("select 1 from audit_log having count(severity) > 1", ["severity"], 0, nil),
        ("select 1 from audit_log where organization = 'org-2'", ["organization"], 1, [1]),
        ("select 1 from audit_log where organization in ('org-3', 'x', 'org-1')", ["organization"], 1, [0, 2]),
        ("select 1 from audit_log where organization = 'x'", ["organization"], 1, []),
        ("select 1 from audit_log where organization = 'org-1' and organization = 'org-2'", ["organization"], 2, []),
        ("select 1 from audit_log where not organization = 'org-1'", ["organization"], 1, nil),
        ("select 1 from audit_log where organization = 'org-1' or true", ["organization"], 1, nil),
        ("select 1 from audit_log where organization || '' = 'org-1'", ["organization"], 0, nil),
        (
            """
            select 1 from audit_log where organization = 'org-1' union select 2 from audit_log where \
            organization = 'org-3'
            """,
            ["organization"], 0, [0, 2]
        ),
        (
            "select (select count(*) from audit_log), 1 from audit_log where organization = 'org-1'", ["organization"],
            0, nil
        ),
        ("with audit_log as (select 1 as organization) select * from audit_log where organization = 'x'", [], 0, nil),
        (
            "select 1 from audit_log o where exists (select 1 from audit_log i where i.organization = o.organization)",
            ["organization"], 0, nil
        ),
    ]

    @Test("fetches what the statement needs")
    func fetches() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            for expected in Self.cases {
                guard case .gather(let tables) = try await Self.plan(expected.sql, parser) else {
                    Issue.record("not gathered: \(expected.sql)")
                    continue
                }
                guard let table = tables.first else {
                    #expect(expected.columns?.isEmpty == true, "\(expected.sql)")
                    continue
                }
                #expect(tables.count == 1)
                #expect(table.columns.map(\.name) == expected.columns ?? Self.all, "\(expected.sql)")
                #expect(table.conditions.count == expected.conditions, "\(expected.sql)")
                let organizations = expected.organizations.map { $0.map { Self.keys[$0] } } ?? Self.keys
                #expect(table.organizations == organizations, "\(expected.sql)")
            }
        }
    }

    @Test("writes the shards' statement with quoted names")
    func writesStatements() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            guard case .gather(let plain) = try await Self.plan("select before, action from audit_log", parser) else {
                return
            }
            #expect(plain.first?.plainSQL == "SELECT \"action\", \"before\" FROM \"audit_log\"")
            let odd = TableSchema(name: "a\"b", columns: [ColumnDefinition("c\"; drop", .utf8)])
            let table = GatheredTable(table: odd, columns: odd.columns, conditions: [], organizations: [])
            #expect(table.plainSQL == "SELECT \"c\"\"; drop\" FROM \"a\"\"b\"")
            let sql = "select 1 from audit_log x where x.before is not null and x.action = 'it''s'"
            guard case .gather(let tables) = try await Self.plan(sql, parser) else { return }
            let written = try await parser.deserializeSQL(try #require(tables.first?.tree?.json))
            #expect(written.contains("it''s"))
            #expect(!written.contains("x."))
            try await parser.createTable(auditLog)
            #expect(try await parser.query(written).collect().isEmpty)
        }
    }
}
