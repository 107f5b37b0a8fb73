import Columnar
import Foundation
import Primitives
import Testing

@testable import QueryRouter

/// The statements of `make bench`, over small data: every plan answers like one DuckDB with the rows of all.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct BenchmarkStatementTests {
    private static func column(_ name: String, _ type: ColumnType) -> ColumnDefinition { ColumnDefinition(name, type) }

    private static func table(_ name: String, isView: Bool = false, _ columns: [ColumnDefinition]) -> TableSchema {
        TableSchema(name: name, columns: [Self.column("organization", .utf8)] + columns, isView: isView)
    }

    /// What the statements read of the tables that every organization has.
    static let baseTables = [
        table(
            "audit_log",
            [
                column("sequence", .uint64), column("occurred_at", .timestampMicros), column("actor_kind", .utf8),
                column("actor_id", .utf8), column("actor_role", .utf8), column("action", .utf8),
                column("entity_type", .utf8), column("entity_id", .utf8), column("after", .json),
                column("reason", .utf8), column("severity", .utf8), column("outcome", .utf8),
            ]
        ),
        table(
            "entities",
            [column("entity_type", .utf8), column("entity_id", .utf8), column("version", .uint64)]
        ),
        table(
            "entity_history",
            [
                column("entity_type", .utf8), column("entity_id", .utf8), column("sequence", .uint64),
                column("valid_to", .timestampMicros), column("valid_to_sequence", .uint64), column("state", .json),
                column("version", .uint64),
            ]
        ),
    ]

    /// And of the views, which an organization without such entities does not have.
    static let views = [
        table(
            "job",
            isView: true,
            [
                column("entity_id", .utf8), column("state", .utf8), column("customer", .utf8), column("country", .utf8),
                column("segment", .utf8), column("price", .double), column("discount", .double),
                column("lines", .double),
                column("priority", .double), column("due_at", .timestampMicros),
            ]
        ),
        table(
            "sample",
            isView: true,
            [
                column("entity_id", .utf8), column("state", .utf8), column("matrix", .utf8),
                column("priority", .double),
                column("mass_mg", .double), column("hazardous", .bool), column("job", .utf8),
                column("received_at", .timestampMicros), column("box__row", .double), column("box__slot", .double),
                column("result", .double),
            ]
        ),
        table(
            "instrument",
            isView: true,
            [
                column("entity_id", .utf8), column("kind", .utf8), column("site", .utf8), column("drift", .double),
                column("due_at", .timestampMicros),
            ]
        ),
    ]

    /// Rows made from their numbers: `count` records and what stands for their entities.
    private static func inserts(_ organization: String, _ count: Int) -> [String] {
        func pick(_ texts: [String], _ salt: Int) -> String {
            "[\(texts.map { "'\($0)'" }.joined(separator: ","))][1 + (hash(i, \(salt), '\(organization)') % \(texts.count))::int]"
        }
        func below(_ bound: Int, _ salt: Int) -> String { "(hash(i, \(salt), '\(organization)') % \(bound))::bigint" }
        let time = "(timestamp '2024-12-01' + to_hours(i * 17 % 8760))"
        let states = ["place", "close", "cancel", "register", "store", "reject", "measure"]
        let state = "'{\"state\":\"' || \(pick(states, 1)) || '\",\"result\":' || \(below(500, 2)) || '.5}'"
        func from(_ rows: Int) -> String { "FROM (SELECT range AS i FROM range(\(rows)))" }
        return [
            """
            INSERT INTO audit_log SELECT '\(organization)', i + 1, \(time), \(pick(["user", "service_account"], 3)),
            'person-' || \(below(9, 4)), \(pick(["lead", "chemist"], 5)), \(pick(["measure", "review", "reject", "store"], 6)),
            \(pick(["sample", "sample", "job", "instrument"], 7)), \(pick(["sample", "job"], 7)) || '-' || \(below(90, 8)), \(state),
            \(pick(["wrong label", "broken seal", "routine"], 9)), \(pick(["info", "warning", "critical"], 10)),
            \(pick(["success", "success", "denied"], 11)) \(from(count))
            """,
            """
            INSERT INTO entities SELECT '\(organization)', \(pick(["sample", "job"], 12)), 'x-' || i, 1 + \(below(12, 13))
            \(from(count / 3))
            """,
            """
            INSERT INTO entity_history SELECT '\(organization)', \(pick(["sample", "instrument"], 14)), 'x-' || i % 9, i,
            CASE WHEN i % 3 > 0 THEN \(time) END, CASE WHEN i % 3 > 0 THEN i + \(below(20, 15)) END, \(state), 1 + i // 9
            \(from(count / 2))
            """,
            """
            INSERT INTO job SELECT '\(organization)', 'job-' || i, \(pick(["place", "close", "cancel", "confirm"], 16)),
            'customer-' || \(below(7, 17)), \(pick(["AT", "BE", "DE", "FR", "NL"], 18)), \(pick(["food", "pharma", "water"], 19)),
            100 + \(below(9_000, 20)) / 4, \(below(10, 21)) / 100, 1 + \(below(20, 22)), 1 + \(below(5, 23)), \(time)
            \(from(count / 8))
            """,
            """
            INSERT INTO sample SELECT '\(organization)', 'sample-' || i, \(pick(["store", "reject", "measure"], 24)),
            \(pick(["air", "soil", "water", "blood"], 25)), 1 + \(below(5, 26)), 10 + \(below(900, 27)) / 8, \(below(3, 28)) = 0,
            'job-' || i % \(max(count / 30, 1)), \(time), 1 + \(below(3, 29)), 1 + \(below(3, 30)),
            CASE WHEN i % 5 > 0 THEN \(below(500, 31)) / 2 END \(from(count / 4))
            """,
            """
            INSERT INTO instrument SELECT '\(organization)', 'instrument-' || i, \(pick(["oven", "hplc"], 32)),
            \(pick(["east", "west"], 33)), (\(below(200, 34)) - 100) / 64, \(time) \(from(count / 20))
            """,
        ]
    }

    /// The statements of the files, each with its name.
    private static func statements() throws -> [(name: String, sql: String)] {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../Benchmarks/Queries").path
        var found: [(name: String, sql: String)] = []
        for file in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() where file.hasSuffix(".sql") {
            let text = try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8)
            for part in text.components(separatedBy: "-- name: ").dropFirst() {
                let lines = part.split(separator: "\n", maxSplits: 1)
                guard lines.count == 2 else { continue }
                let sql = lines[1].trimmingCharacters(in: .whitespacesAndNewlines)
                found.append(("\(file): \(lines[0])", String(sql.dropLast(sql.hasSuffix(";") ? 1 : 0))))
            }
        }
        return found
    }

    @Test("equal answers from every plan over three organizations, of which one has no views")
    func equalsTheUnion() async throws {
        let statements = try Self.statements()
        #expect(statements.count >= 40)
        let inserts = [Self.inserts("org-1", 900), Self.inserts("org-2", 240)]
        var plans: [QueryPlanKind: Int] = [:]
        var empty = 0
        try await RandomShards.with(
            tables: [Self.baseTables + Self.views, Self.baseTables + Self.views, Self.baseTables],
            inserts: inserts + [[]],
            unionTables: Self.baseTables + Self.views,
            unionInserts: inserts.flatMap { $0 }
        ) { shards in
            try await shards.withRouter(baseTables: Self.baseTables) { router in
                for (name, sql) in statements {
                    let expected = try await shards.expected(sql, sorted: true)
                    if expected.rows.isEmpty { empty += 1 }
                    for choice in [QueryRequest.PlanChoice.automatic, .gather] {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        let (rows, outcome) = try await router.rows(request, sorted: true)
                        #expect(rows == expected, "\(name) (\(outcome.plan)): \(rows.difference(from: expected))")
                        if choice == .automatic { plans[outcome.plan, default: 0] += 1 }
                    }
                }
            }
        }
        #expect(empty <= 3, "the data gives nearly every statement an answer")
        #expect((plans[.partial] ?? 0) > 10)
        #expect((plans[.concat] ?? 0) > 1)
    }
}
