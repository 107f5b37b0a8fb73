import Columnar
import Primitives
import Testing

@testable import QueryRouter

/// Organizations whose tables differ, and statements that ask about tables.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct CatalogTests {
    private static func table(_ name: String, _ columns: [(String, ColumnType)]) -> TableSchema {
        TableSchema(
            name: name,
            columns: [ColumnDefinition("organization", .utf8, nullable: false)]
                + columns.map { ColumnDefinition($0.0, $0.1) }
        )
    }

    /// Three organizations: `x` is a whole number, a floating-point number, missing; `y` a number here and a text
    /// there; the table `extra` is the second one's alone.
    private static func withDiffering(_ body: (RandomShards) async throws -> Void) async throws {
        try await RandomShards.with(
            tables: [
                [self.table("r", [("x", .int64), ("y", .int64)])],
                [self.table("r", [("x", .double), ("y", .utf8)]), self.table("extra", [("v", .int64)])],
                [self.table("r", [("z", .bool)])],
            ],
            inserts: [
                ["INSERT INTO r VALUES ('org-1', 1, 7), ('org-1', 2, 8), ('org-1', NULL, 7)"],
                [
                    "INSERT INTO r VALUES ('org-2', 1.5, 'seven'), ('org-2', 1, '7')",
                    "INSERT INTO extra VALUES ('org-2', 5)",
                ],
                ["INSERT INTO r VALUES ('org-3', true)"],
            ],
            unionTables: [
                self.table("r", [("x", .double), ("y", .utf8), ("z", .bool)]), self.table("extra", [("v", .int64)]),
            ],
            unionInserts: [
                """
                INSERT INTO r VALUES ('org-1', 1, '7', NULL), ('org-1', 2, '8', NULL), ('org-1', NULL, '7', NULL),
                ('org-2', 1.5, 'seven', NULL), ('org-2', 1, '7', NULL), ('org-3', NULL, NULL, true)
                """,
                "INSERT INTO extra VALUES ('org-2', 5)",
            ],
            body
        )
    }

    @Test("differing tables answer like one table by the documented rule, in every plan")
    func differingTables() async throws {
        try await Self.withDiffering { shards in
            try await shards.withRouter { router in
                let statements: [(String, QueryPlanKind)] = [
                    ("select * from r", .concat), ("select y, count(*), sum(x), avg(x) from r group by y", .partial),
                    ("select organization, x, z from r where y = '7' or z", .concat),
                    ("select median(x), count(distinct y) from r", .partial),
                    ("select * from r where organization = 'org-1'", .concat),
                    ("select y, row_number() over (order by x, y) from r", .gather),
                    ("select count(*), sum(v) from extra", .single),
                    ("select r.y, v from r left join extra using (organization)", .concat),
                    ("with extra as (select y from r) select count(*) from extra", .partial),
                    ("select count(*) from main.r", .gather),
                ]
                for (sql, plan) in statements {
                    let expected = try await shards.expected(sql, sorted: true)
                    for choice in [QueryRequest.PlanChoice.automatic, .gather] {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        let (rows, outcome) = try await router.rows(request, sorted: true)
                        #expect(rows == expected, "\(choice) \(sql): \(rows.difference(from: expected))")
                        if choice == .automatic, plan != .single { #expect(outcome.plan == plan, "\(sql)") }
                    }
                }
            }
        }
    }

    @Test("says which organizations have no such table")
    func namesTheAbsent() async throws {
        try await Self.withDiffering { shards in
            try await shards.withRouter { router in
                let request = QueryRequest(sql: "select count(*) from extra", organizations: shards.keys)
                let (rows, outcome) = try await router.rows(request, sorted: true)
                #expect(rows.rows == [[.int(1)]])
                #expect(
                    outcome.absences == [TableAbsence(table: "extra", organizations: [shards.keys[0], shards.keys[2]])]
                )
                #expect(outcome.provenance.map(\.organization) == [shards.keys[1]])
                let nobody = QueryRequest(sql: "select * from extra", organizations: [shards.keys[0]])
                #expect(await router.failure(nobody)?.code == .unknownTable)
            }
        }
    }

    @Test(
        "the rule for types",
        arguments: [
            (ColumnType.int64, ColumnType.double, ColumnType.double), (.int64, .uint64, .double),
            (.utf8, .int64, .utf8),
            (.json, .utf8, .utf8), (.bool, .int64, .utf8), (.timestampMicros, .timestampMicros, .timestampMicros),
            (.timestampMicros, .utf8, .utf8),
        ]
    )
    func commonTypes(left: ColumnType, right: ColumnType, common: ColumnType) throws {
        let one = OrganizationKey("one")!
        let two = OrganizationKey("two")!
        for (first, second) in [(left, right), (right, left)] {
            let catalog = try TableCatalog([
                one: ShardTables(version: 1, tables: [Self.table("r", [("x", first)])]),
                two: ShardTables(version: 1, tables: [Self.table("R", [("X", second)])]),
            ])
            #expect(catalog.datasets.count == 1)
            #expect(catalog.table(named: "r")?.columns.last?.type == common)
        }
    }

    @Test("information_schema tells of tables and columns with their comments")
    func dictionary() async throws {
        try await RandomShards.generated(2, seed: 3) { shards in
            try await shards.withRouter { router in
                func rows(_ sql: String) async throws -> [[ArrowValue]] {
                    try await router.rows(QueryRequest(sql: sql, organizations: shards.keys), sorted: false).rows.rows
                }
                let tables = try await rows(
                    "select table_name, table_type, table_comment from information_schema.tables order by 1"
                )
                #expect(
                    tables == [
                        [.string("e"), .string("VIEW"), .null],
                        [.string("m"), .string("BASE TABLE"), .string("measurements")],
                    ]
                )
                let columns = try await rows(
                    """
                    select column_name, data_type, is_nullable, column_comment from information_schema.columns c
                    where c.table_name = 'm' and ordinal_position <= 2 order by ordinal_position
                    """
                )
                #expect(
                    columns == [
                        [.string("organization"), .string("VARCHAR"), .string("NO"), .string("whose row it is")],
                        [.string("k"), .string("VARCHAR"), .string("YES"), .string("a key")],
                    ]
                )
                #expect(try await rows("show tables") == [[.string("m")], [.string("e")]])
                let both = "select count(*) > 0 from information_schema.columns where (select count(*) from m) >= 0"
                #expect(try await rows(both) == [[.bool(true)]])
                for sql in ["select * from information_schema.views", "select * from pg_catalog.pg_tables"] {
                    #expect(
                        await router.failure(QueryRequest(sql: sql, organizations: shards.keys))?.code == .notAllowed
                    )
                }
                #expect(try await router.tables(of: shards.keys).map(\.name) == ["m", "e"])
            }
        }
    }

    @Test("an organization may stand for a catalog, and only its rows are read", arguments: [1, 3])
    func organizationAsCatalog(scope: Int) async throws {
        try await RandomShards.generated(3, seed: 8) { shards in
            try await shards.withRouter { router in
                let keys = Array(shards.keys.prefix(scope))
                for name in ["\"org-1\".main.m", "\"org-1\".\"m\""] {
                    let request = QueryRequest(sql: "select m.u, k from \(name) where n > 0", organizations: keys)
                    let rows = try await router.rows(request, sorted: true).rows
                    let sql = "select u, k from m where n > 0 and organization = 'org-1'"
                    let expected = try await shards.expected(sql, sorted: true)
                    #expect(rows == expected)
                }
                let other = QueryRequest(sql: "select * from \"org-9\".main.m", organizations: keys)
                #expect(await router.failure(other)?.code == .notAllowed)
                let bin = QueryRequest(
                    sql: "select date_bin(interval '1 day', t, timestamp '1970-01-01'), count(*) from m group by 1",
                    organizations: keys
                )
                #expect(await router.failure(bin) == nil)
            }
        }
    }

    @Test("an unknown name is answered with the nearest one, and its place")
    func nearestNames() async throws {
        try await RandomShards.generated(2, seed: 3) { shards in
            try await shards.withRouter { router in
                let table = await router.failure(QueryRequest(sql: "select 1 from mm", organizations: shards.keys))
                #expect(table?.code == .unknownTable)
                #expect(table?.position == 14)
                #expect(table?.message.contains("did you mean m?") == true)
                let column = await router.failure(
                    QueryRequest(sql: "select  organisation from m", organizations: shards.keys)
                )
                #expect(column?.code == .invalid)
                #expect(column?.position == 8)
                #expect(column?.message.contains("\"organization\"") == true)
            }
        }
    }
}
