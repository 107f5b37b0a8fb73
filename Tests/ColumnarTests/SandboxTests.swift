internal import Foundation
internal import Testing

@testable internal import Columnar

@Suite(.timeLimit(.minutes(10)))
struct SandboxTests {
    /// Everything that a user's statement might try; `%` stands for the store's own file.
    static let probes = [
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM read_blob('%')", "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '%'", "SELECT * FROM read_parquet('x.parquet')", "SELECT * FROM read_json('x.json')",
        "SELECT * FROM glob('/*')", "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM 'https://localhost/x.csv'",
        "SELECT * FROM READ_BLOB('%')", "SELECT * FROM \"read_blob\"('%')", "SELECT * FROM system.main.read_blob('%')",
        "WITH x AS (SELECT * FROM read_blob('%')) SELECT 1 FROM x",
        "SELECT (SELECT count(*) FROM read_blob('%'))", "SELECT 1 WHERE EXISTS (FROM read_blob('%'))",
        "SELECT * FROM (VALUES (1)) v, LATERAL (FROM read_blob('%'))",
        "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('events')",
        "SELECT * FROM json_execute_serialized_sql('{}')", "SELECT getvariable('x')",
        "SELECT current_setting('threads')",
        "SELECT * FROM duckdb_settings()", "SELECT * FROM duckdb_databases()", "SELECT * FROM duckdb_tables",
        "SELECT * FROM pragma_database_list", "SELECT * FROM pragma_table_info('events')",
        "SELECT * FROM information_schema.tables", "SELECT * FROM pg_catalog.pg_tables", "SELECT nextval('s')",
        "SELECT write_log('x')", "SELECT sum(1) EXPORT_STATE",
        "ATTACH ':memory:' AS x", "ATTACH '/tmp/x.duckdb'", "DETACH x", "COPY events TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.parquet'", "COPY events FROM '/etc/passwd'", "EXPORT DATABASE '/tmp/x'",
        "IMPORT DATABASE '/tmp/x'", "SET threads = 4", "SET GLOBAL memory_limit = '10GB'", "RESET threads",
        "SET enable_external_access = true", "SET VARIABLE x = 1", "PRAGMA version", "PRAGMA database_list",
        "PRAGMA enable_profiling", "INSTALL httpfs", "LOAD httpfs", "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x AS SELECT 1", "CREATE MACRO m() AS 1", "CREATE VIEW v AS SELECT 1", "DROP TABLE events",
        "ALTER TABLE events ADD COLUMN x INTEGER", "INSERT INTO events (sequence) VALUES (1)",
        "UPDATE _position SET position = 0", "DELETE FROM events", "TRUNCATE events", "CHECKPOINT", "VACUUM",
        "BEGIN", "COMMIT", "ROLLBACK", "USE main", "CALL range(3)", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1",
        "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE events",
        "COMMIT; DROP TABLE events", "CREATE SECRET s (TYPE s3)", "COMMENT ON TABLE events IS 'x'", "ANALYZE",
    ]

    @Test func refusesEveryProbe() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let path = directory + "/own.duckdb"
                let store = try await ColumnarStore.open(.file(path), threads: threads)
                try await store.createTable(eventTable)
                try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 3), position: 3)
                for probe in Self.probes {
                    let sql = probe.replacingOccurrences(of: "%", with: path)
                    var failure: ColumnarError?
                    do { _ = try await store.query(sql).collect() } catch { failure = error as? ColumnarError }
                    #expect(failure?.isUserError == true, "\(sql): \(failure?.description ?? "was allowed")")
                    // And nothing has changed.
                    #expect(
                        try await rows(store, "SELECT count(*), max(sequence) FROM events") == [[.int(3), .uint(3)]]
                    )
                }
                #expect(try await store.position() == 3)
                await store.close()
            }
        }
    }

    @Test(arguments: [
        "SELECT 1", "FROM events", "WITH x AS (SELECT 1 AS a) SELECT * FROM x", "SELECT * FROM range(3)",
        "SELECT unnest([1, 2])", "VALUES (1), (2)", "SELECT 'read_blob(''x'')' AS text",
        "SELECT '\"function_name\":\"read_blob\"' AS text", "SELECT 1 AS \"\"\"type\"\":\"\"TABLE_FUNCTION\"\"\"",
        "SELECT actor, row_number() OVER (ORDER BY sequence) FROM events QUALIFY 1 = 1",
        "PIVOT (SELECT actor, ok FROM events) ON ok IN (true, false) USING count(*)", "SELECT * FROM events LIMIT 1;",
        "SELECT date_trunc('month', moment), median(ratio) FROM events GROUP BY ALL -- a comment",
        "SELECT key, value FROM json_each('{\"a\":1}')", "DESCRIBE events", "SUMMARIZE events",
    ])
    func allows(_ sql: String) async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 3), position: 3)
            _ = try await store.query(sql).collect()
        }
    }

    @Test func theConfigurationIsLockedForOurOwnStatementsToo() async throws {
        try await withStore { store in
            #expect(await code { try await store.execute("SET enable_external_access = true") } == .notAllowed)
            #expect(await code { try await store.execute("SET lock_configuration = false") } == .notAllowed)
            #expect(await code { try await store.execute("COPY (SELECT 1) TO '/tmp/columnar-probe'") } == .notAllowed)
            #expect(await code { try await store.execute("ATTACH '/tmp/columnar-probe.duckdb'") } == .notAllowed)
        }
    }

    @Test func aVeryLongOrDeepStatementIsRefusedNotFatal() async throws {
        try await withStore { store in
            let long = "SELECT '" + String(repeating: "x", count: StatementGate.statementBytesMax) + "'"
            #expect(await code { try await store.query(long) } == .notAllowed)
            let deep = "SELECT " + String(repeating: "(", count: 20_000) + "1" + String(repeating: ")", count: 20_000)
            #expect(await code { try await store.query(deep).collect() } != nil)
        }
    }

    @Test func scannerReadsMembersAtAnyDepth() {
        var scanner = KeyScanner(
            bytes: Array(#"{"a":"x","b":{"c":"say \"c\":\"no\""},"d":[{"e":true},"f"],"g":1}"#.utf8)
        )
        var found: [String] = []
        while let (key, value) = scanner.next() { found.append("\(key)=\(value)") }
        #expect(found == ["a=x", #"c=say "c":"no""#, "e=true"])
    }
}
