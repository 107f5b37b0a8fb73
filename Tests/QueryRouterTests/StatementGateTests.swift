import Columnar
import Testing

@testable import QueryRouter

/// Nothing but a read-only SELECT over the datasets passes, wherever in the statement it stands.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct StatementGateTests {
    /// Tables and table functions that must not be read.
    static let tables = [
        "read_csv('/etc/passwd')", "read_csv_auto('/etc/passwd')", "read_text('/etc/passwd')",
        "read_blob('shard.duckdb')",
        "read_json('x.json')", "read_json_auto('x.json')", "read_ndjson('x')", "read_parquet('x.parquet')",
        "parquet_scan('x.parquet')", "parquet_metadata('x.parquet')", "parquet_schema('x')", "sniff_csv('x.csv')",
        "glob('/**')", "'/etc/passwd'", "'data.csv'", "'https://example.org/x.parquet'", "\"x.parquet\"",
        "query('select 1')", "query_table('audit_log')", "json_execute_serialized_sql('{}')", "duckdb_settings()",
        "duckdb_databases()", "duckdb_secrets()", "duckdb_tables()", "duckdb_functions()", "duckdb_extensions()",
        "duckdb_temporary_files()", "duckdb_variables()", "duckdb_logs()", "duckdb_memory()",
        "duckdb_prepared_statements()",
        "pragma_database_size()", "pragma_table_info('audit_log')", "pragma_storage_info('audit_log')",
        "pragma_version()",
        "pragma_user_agent()", "pragma_platform()", "which_secret('x', 's3')", "checkpoint()", "force_checkpoint()",
        "seq_scan('audit_log')", "repeat_row(1, num_rows = 10)", "test_all_types()", "summary('audit_log')",
        "enable_logging()", "enable_profiling()", "arrow_scan(1, 2, 3)", "pandas_scan(1)", "read_duckdb('x.duckdb')",
        "histogram('audit_log', action)", "truncate_duckdb_logs()", "register_external_resource('x')",
        "information_schema.tables", "information_schema.columns", "pg_catalog.pg_tables", "pg_tables", "pg_class",
        "sqlite_master", "duckdb_tables", "duckdb_settings", "system.main.duckdb_settings", "system.audit_log",
        "other.main.audit_log", "memory.audit_log", "temp.audit_log", "_position", "main._position",
        "_texts", "main._texts", "_text_blocks",
        "recurring.audit_log",
        "no_such_table", "audit_log at (version => 1)", "main.range(3)", "(show tables)", "(show all tables)",
        "(describe duckdb_settings)", "(summarize pg_tables)",
        "(pivot pg_tables on schemaname in ('main') using count(*))",
    ]

    /// Expressions that must not be evaluated.
    static let expressions = [
        "current_setting('threads')", "getvariable('x')", "nextval('s')", "currval('s')", "setval('s', 1)",
        "setseed(0.5)",
        "write_log('x')", "getenv('HOME')", "current_database()", "current_catalog", "current_database",
        "current_schema()",
        "current_schemas(true)", "current_query()", "current_connection_id()", "current_transaction_id()",
        "txid_current()",
        "in_search_path('a', 'b')", "version()", "sleep_ms(10)", "pg_sleep(1)", "pg_get_viewdef('x')",
        "get_block_size('x')",
        "to_aggregate_state(1, 'min', ['INTEGER'])", "finalize(1)", "combine(1, 2)", "combine_aggr(1)",
        "inet_server_addr()",
        "has_table_privilege('x', 'y')", "json_serialize_sql('select 1')", "json_deserialize_sql('{}')",
        "json_serialize_plan('select 1')", "json_execute_serialized_sql('{}')", "query('select 1')", "read_text('x')",
        "stats(1)", "vector_type(1)", "create_sort_key(1, 'ASC')", "parse_duckdb_log_message('x', 'y')", "glob('x')",
        "sum(1) export_state", "pg_catalog.abs(1)", "system.main.abs(1)", "rowid", "audit_log.rowid",
        "no_such_function(1)",
        "__internal_compress_integral_utinyint(1, 2)", "collate_de('x')", "duckdb_settings()", "$name", "default",
    ]

    /// Statements that are not a SELECT, or more than one.
    static let statements = [
        "", ";", "-- nothing", "select 1; select 2", "select 1; drop table audit_log", "attach 'x.duckdb'",
        "attach ':memory:' as m",
        "detach m", "copy audit_log to 'x.csv'", "copy (select 1) to '/tmp/x'", "copy audit_log from 'x.csv'",
        "export database 'x'", "import database 'x'", "install httpfs", "load httpfs", "create secret s (type s3)",
        "set threads = 4", "set search_path = 'x'", "set variable x = 1", "reset threads", "pragma version",
        "pragma threads = 1",
        "pragma enable_profiling", "create table t (i int)", "create temp table t as select 1",
        "create view v as select 1",
        "create macro f(x) as x", "create sequence s", "create schema s", "create type t as enum ('a')",
        "insert into audit_log select * from audit_log", "update audit_log set action = 'x'", "delete from audit_log",
        "truncate audit_log", "drop table audit_log", "alter table audit_log rename to x",
        "merge into audit_log using (select 1) on true when matched then delete",
        "begin", "commit", "rollback", "checkpoint", "vacuum", "analyze", "prepare p as select 1", "execute p",
        "deallocate p",
        "call duckdb_settings()", "use other", "explain select 1", "explain analyze select 1", "show tables",
        "show databases",
        "show all tables", "comment on table audit_log is 'x'",
        "with x as (delete from audit_log returning *) select * from x",
    ]

    static let tableContexts = [
        "select * from %", "from %", "select 1 from audit_log, %", "select * from audit_log a join % b on true",
        "with w as (select * from %) select * from w",
        "with w as (select 1), v as (with u as (from %) from u) select * from v",
        "select (select count(*) from %)", "select 1 where exists (from %)", "select 1 union all select 1 from %",
        "select * from (select * from (select * from %))", "select 1 from audit_log where 1 in (select 1 from %)",
        "select * from audit_log, lateral (select 1 from %) l", "select 1 order by (select count(*) from %)",
        "select list_transform([1], lambda x: x + (select count(*) from %))", "describe select * from %",
        "with recursive r as (select 1 union all select 1 from r, %) from r", "select 1 limit (select count(*) from %)",
    ]

    static let expressionContexts = [
        "select %", "select 1 where % is null", "select 1 from audit_log group by %", "select 1 having % is null",
        "select 1 from audit_log order by %", "select case when true then 1 else % end", "select [%]",
        "select {'a': %}",
        "select abs(%)", "select cast(% as varchar)", "select * from (values (%))", "select * from range(%)",
        "select list_transform([1], lambda x: %)", "select count(*) filter (where % is null)", "select (select %)",
        "select sum(1) over (partition by %)", "select 1 from audit_log a join audit_log b on a.sequence = %",
        "with w as (select % as x) select * from w", "select 1 between 0 and %", "select 1 in (2, %)",
        "select * replace (% as action) from audit_log",
        "select 1 from audit_log qualify row_number() over (order by %) = 1", "select distinct on (%) 1 from audit_log",
        "select string_agg(action order by %) from audit_log", "select unnest([%])", "select try(%)",
        "select 1 limit %",
    ]

    /// The error for a statement, or nil when it passes.
    private static func failure(_ sql: String, _ parser: ColumnarStore) async throws -> QueryError? {
        do {
            try StatementGate.checkLength(sql)
            let tree = try await parser.serializeSQL(sql)
            _ = try StatementGate(catalog: TableCatalog([:], base: [auditLog])).check(sql, tree: tree)
            return nil
        } catch { return QueryError.wrapping(error, doing: "check") }
    }

    private static func withParser(_ body: (ColumnarStore) async throws -> Void) async throws {
        let threads = ColumnarThreads()
        let parser = try await ColumnarStore.open(.memory, threads: threads)
        try await parser.createTable(auditLog)
        try await body(parser)
        await parser.close()
        await threads.shutdown()
    }

    private static func fill(_ context: String, _ probe: String) -> String {
        context.split(separator: "%", omittingEmptySubsequences: false).joined(separator: probe)
    }

    @Test("refuses every table that is not a dataset, at every place", arguments: tableContexts)
    func refusesTables(context: String) async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            let control = Self.fill(context, "audit_log")
            #expect(try await Self.failure(control, parser) == nil, "\(control)")
            for table in Self.tables {
                let sql = Self.fill(context, table)
                let error = try await Self.failure(sql, parser)
                #expect(
                    [.notAllowed, .unknownTable, .syntax].contains(error?.code),
                    "\(sql): \(String(describing: error))"
                )
            }
        }
    }

    @Test("refuses every function that is not allowed, at every place", arguments: expressionContexts)
    func refusesExpressions(context: String) async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            let control = Self.fill(context, "upper('x')")
            #expect(try await Self.failure(control, parser) == nil, "\(control)")
            for expression in Self.expressions {
                let sql = Self.fill(context, expression)
                let error = try await Self.failure(sql, parser)
                #expect([.notAllowed, .invalid, .syntax].contains(error?.code), "\(sql): \(String(describing: error))")
            }
        }
    }

    @Test("the probes are refused for what they are, not because they do not parse")
    func probesParse() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            for table in Self.tables where !table.hasPrefix("(") {
                let error = try await Self.failure("select * from \(table)", parser)
                #expect([.notAllowed, .unknownTable].contains(error?.code), "\(table): \(String(describing: error))")
            }
            for expression in Self.expressions {
                let error = try await Self.failure("select \(expression)", parser)
                #expect([.notAllowed, .invalid].contains(error?.code), "\(expression): \(String(describing: error))")
            }
        }
    }

    @Test("refuses what is not one SELECT")
    func refusesOtherStatements() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            for sql in Self.statements {
                let error = try await Self.failure(sql, parser)
                #expect([.notAllowed, .syntax].contains(error?.code), "\(sql): \(String(describing: error))")
            }
            #expect(try await Self.failure("select 1;", parser) == nil)
        }
    }

    @Test("says where and what")
    func saysWhere() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            let syntax = try await Self.failure("select 'éé', 1 frm audit_log x y", parser)
            #expect(syntax?.code == .syntax)
            #expect(syntax?.position == 21)
            let table = try await Self.failure("select 'é' from audt_log", parser)
            #expect(table?.code == .unknownTable)
            #expect(table?.position == 17)
            #expect(table?.names == ["audt_log"])
            #expect(table?.message.contains("did you mean audit_log") == true)
            let function = try await Self.failure("select 1, read_text('x')", parser)
            #expect(function?.code == .notAllowed)
            #expect(function?.position == 10)
            #expect(function?.names == ["read_text"])
        }
    }

    @Test("bounds length, depth, lists and what literals generate")
    func boundsSizes() async throws {
        try await Self.withParser { (parser: ColumnarStore) async throws in
            func code(_ sql: String) async throws -> QueryError.Code? { try await Self.failure(sql, parser)?.code }
            let long = "select '" + String(repeating: "x", count: StatementGate.statementBytesMax) + "'"
            #expect(try await code(long) == .tooLarge)
            func nested(_ count: Int) -> String {
                "select " + String(repeating: "abs(", count: count) + "1" + String(repeating: ")", count: count)
            }
            #expect(try await code(nested(90)) == nil)
            #expect(try await code(nested(110)) == .tooLarge)
            #expect(
                try await code(
                    "select * from audit_log" + String(repeating: " join audit_log using (sequence)", count: 150)
                ) == .tooLarge
            )
            func list(_ count: Int) -> String {
                "select 1 in (" + (0..<count).map(String.init).joined(separator: ",") + ")"
            }
            #expect(try await code(list(StatementGate.listElementsMax)) == nil)
            #expect(try await code(list(StatementGate.listElementsMax + 1)) == .tooLarge)
            let tooMuch = [
                "select range(1000000000)", "select range(0, 1000000000, 2)", "select repeat('x', 100000000)",
                "select lpad('x', 100000000, 'y')", "select rpad('x', 2000000000, 'y')",
                "select generate_series(1, 10000 * 10000)",
                "select repeat(repeat('x', 100000), 100000)", "select range(10 ** 9)", "select repeat('x', 1e9::int)",
                "select list_resize([1], 1000000000)", "select * from range(1000000000000)",
                "select range(-1000000000, 5)",
            ]
            for sql in tooMuch { #expect(try await code(sql) == .tooLarge, "\(sql)") }
            let fine = [
                "select range(1000)", "select repeat('x', 1000)", "select * from range(1000000)",
                "select lpad('x', 5, '0')",
            ]
            for sql in fine { #expect(try await code(sql) == nil, "\(sql)") }
        }
    }

    @Test("allows only functions that the engine has")
    func allowedFunctionsExist() async throws {
        let threads = ColumnarThreads()
        let engine = try await ColumnarStore.open(.memory, configuration: .init(access: .trusted), threads: threads)
        let batches = try await engine.query("select distinct function_name from duckdb_functions()").collect()
        var known: Set<String> = ["count_star", "unnest"]
        for batch in batches { for row in 0..<batch.rowCount { known.insert(batch.string(row: row, column: 0) ?? "") } }
        let allowed = AllowedFunctions.names.union(AllowedFunctions.operators).union(AllowedFunctions.tableFunctions)
        #expect(allowed.subtracting(known).isEmpty)
        #expect(AllowedFunctions.names.count > 500)
        #expect(
            AllowedFunctions.names.filter(AllowedFunctions.isKnownRefusal).sorted() == [
                "current_date", "current_localtime", "current_localtimestamp",
            ]
        )
        await engine.close()
        await threads.shutdown()
    }
}
