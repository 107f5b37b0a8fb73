internal import Foundation
internal import Testing

@testable internal import Columnar

/// Rows that a query must not see, whatever its text says.
@Suite(.timeLimit(.minutes(10)))
struct HiddenRowsTests {
    private static let odd = HiddenRows(table: "events", condition: "sequence % 2 = 1")
    private static let last = HiddenRows(table: "events", condition: "sequence = 10")

    private func withEvents(_ body: (ColumnarStore) async throws -> Void) async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                // A name that has to be quoted.
                let store = try await ColumnarStore.open(.file(directory + "/organization-1.duckdb"), threads: threads)
                try await store.createTable(eventTable)
                try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 10), position: 10)
                try await body(store)
                await store.close()
            }
        }
    }

    private func count(_ store: ColumnarStore, _ sql: String, _ hidden: [HiddenRows]) async throws -> Int64? {
        try await store.query(sql, limits: QueryLimits(hidden: hidden)).collect().first?.int64(row: 0, column: 0)
    }

    @Test(arguments: [
        "SELECT count(*) FROM events", "SELECT count(*) FROM main.events", "SELECT count(*) FROM main.\"events\" AS e",
        "SELECT count(*) FROM EVENTS", "FROM events SELECT count(*)",
        "WITH x AS (SELECT * FROM events) SELECT count(*) FROM x",
        "WITH events AS (SELECT * FROM main.events) SELECT count(*) FROM events",
        "SELECT (SELECT count(*) FROM events)", "SELECT count(*) FROM (SELECT DISTINCT sequence FROM events)",
        "SELECT count(DISTINCT a.sequence) FROM events a, events b",
        "WITH RECURSIVE r AS (SELECT sequence FROM events UNION SELECT sequence FROM r WHERE false) SELECT count(*) FROM r",
        "SELECT count(*) FROM events WHERE true OR sequence = 1",
    ])
    func noStatementSeesThem(sql: String) async throws {
        try await self.withEvents { store in
            let counts = [
                try await self.count(store, sql, []), try await self.count(store, sql, [Self.odd]),
                try await self.count(store, sql, [Self.odd, Self.last]), try await self.count(store, sql, []),
            ]
            // The sound question, two that hide, and that they hide from that query only.
            #expect(counts == [10, 5, 4, 10])
        }
    }

    @Test(arguments: [
        "SELECT count(*) FROM \"organization-1\".main.events", "SELECT count(*) FROM \"organization-1\".events",
        "SELECT (SELECT count(*) FROM \"organization-1\".main.events)", "SELECT count(*) FROM temp.events",
    ])
    func noStatementNamesTheTableBehindThem(sql: String) async throws {
        try await self.withEvents { store in
            let refusal = await code { try await self.count(store, sql, [Self.odd]) }
            #expect(refusal == .notAllowed)
        }
    }

    @Test func theirFormIsThatOfTheTable() async throws {
        try await self.withEvents { store in
            let all = try await store.query("SELECT * FROM events LIMIT 0").schema
            let some = try await store.query("SELECT * FROM events LIMIT 0", limits: QueryLimits(hidden: [Self.odd]))
                .schema
            #expect(all == some)
        }
    }
}
