internal import Foundation
internal import Testing

extension RealCluster.Shared {
    @Suite("Statements that must be refused")
    struct BadQueryTests {
        private static func body(_ members: String) -> BadRequest {
            BadRequest(
                name: members,
                method: "POST",
                path: "/v1/query",
                contentType: "application/json",
                body: Array("{\(members)}".utf8),
                status: 400,
                code: "invalid_field"
            )
        }

        private static func sql(_ text: String, _ status: Int, _ code: String, position: Bool = false) -> BadRequest {
            let escaped = text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"")
            var request = self.body("\"sql\":\"\(escaped)\",\"organizations\":[\"\(Bench.organization)\"]")
            request.name = text.isEmpty ? "an empty statement" : String(text.prefix(80))
            request.status = status
            request.code = code
            request.hasPosition = position
            return request
        }

        private static func refused(_ text: String) -> BadRequest { self.sql(text, 403, "sql_not_allowed") }

        static let statements: [BadRequest] = [
            sql("selec 1", 400, "sql_syntax", position: true),
            sql("select * from audit_log where", 400, "sql_syntax", position: true),
            sql("select nothing from audit_log", 400, "sql_invalid"),
            sql("select * from nothing", 400, "sql_invalid", position: true),
            sql("select * from 'file.csv'", 400, "sql_invalid", position: true),
            sql("select * from main._position", 400, "sql_invalid", position: true),
            sql("select * from main._texts", 400, "sql_invalid", position: true),
            sql("select cast(action as integer) from audit_log", 400, "sql_invalid"),
            sql("select cast('x' as integer)", 400, "sql_invalid"),
            sql("select 9223372036854775807::bigint + sequence::bigint from audit_log", 400, "sql_invalid"),
            sql("select sum(action) from audit_log", 400, "sql_invalid"),
            refused(""), refused("   "), refused("-- nothing"),
            refused("select 1; select 2"), refused("select 1; drop table audit_log"),
            refused("insert into audit_log select * from audit_log"), refused("update audit_log set action = 'x'"),
            refused("delete from audit_log"), refused("create table t (a int)"),
            refused("create table t as select * from audit_log"), refused("drop table audit_log"),
            refused("attach 'x.db' as other"), refused("detach other"), refused("copy audit_log to 'x.csv'"),
            refused("copy audit_log from 'x.csv'"), refused("pragma version"), refused("set threads = 8"),
            refused("reset threads"), refused("install httpfs"), refused("load httpfs"),
            refused("call pragma_version()"),
            refused("explain delete from audit_log"), refused("export database 'x'"), refused("checkpoint"),
            refused("use other"),
            refused("select * from read_csv('/etc/passwd')"), refused("select * from read_blob('/etc/passwd')"),
            refused("select * from read_text('/etc/passwd')"), refused("select * from read_parquet('x')"),
            refused("select * from glob('/*')"), refused("select * from duckdb_settings()"),
            refused("select getenv('HOME')"), refused("select current_setting('threads')"),
            refused("select * from other.main.audit_log"), refused("select * from information_schema.key_column_usage"),
            refused("select * from pg_catalog.pg_tables"),
            refused("select (select count(*) from read_csv('/etc/passwd'))"),
            refused("with t as (select * from glob('*')) select * from t"),
            sql("select ?", 400, "sql_invalid"), sql("select $1", 400, "sql_invalid"),
            sql("select repeat('x', 1000000) from range(200)", 413, "result_too_large"),
        ]

        static let requests: [BadRequest] = [
            body(""), body("\"sql\":5"), body("\"sql\":null"), body("\"sql\":[\"select 1\"]"),
            body("\"sql\":\"select 1\",\"organizations\":\"checks\""),
            body("\"sql\":\"select 1\",\"organizations\":[5]"),
            body("\"sql\":\"select 1\",\"format\":\"xml\""), body("\"sql\":\"select 1\",\"format\":1"),
            body("\"sql\":\"select 1\",\"consistency\":\"strong\""), body("\"sql\":\"select 1\",\"consistency\":1"),
            body("\"sql\":\"select 1\",\"consistency\":{\"at_least\":{\"checks\":-1}}"),
            body("\"sql\":\"select 1\",\"consistency\":{\"at_least\":{\"checks\":\"1\"}}"),
            body("\"sql\":\"select 1\",\"consistency\":{\"at_least\":[]}"),
        ]

        @Test(.timeLimit(.minutes(1)), arguments: statements)
        func namesWhatIsWrong(request: BadRequest) async throws {
            try await request.check(try await Bench.prepare())
        }

        @Test(.timeLimit(.minutes(1)), arguments: requests)
        func namesTheMemberOfTheBody(request: BadRequest) async throws {
            try await request.check(try await Bench.prepare())
        }

        @Test(.timeLimit(.minutes(1)))
        func refusesOtherFaultsOfTheBody() async throws {
            let bench = try await Bench.prepare()
            var unknown = Self.body("\"sql\":\"select 1\",\"more\":1")
            unknown.code = "unknown_field"
            try await unknown.check(bench)
            var elsewhere = Self.body("\"sql\":\"select 1\",\"organizations\":[\"nowhere\"]")
            (elsewhere.status, elsewhere.code) = (404, "organization_not_found")
            try await elsewhere.check(bench)
            var malformed = Self.body("\"sql\":")
            malformed.code = "malformed_json"
            try await malformed.check(bench)
            var kind = Self.body("\"sql\":\"select 1\"")
            (kind.contentType, kind.status, kind.code) = ("text/plain", 415, "unsupported_media_type")
            try await kind.check(bench)
        }
    }
}
