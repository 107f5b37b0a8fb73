internal import Foundation
internal import Testing

extension RealCluster.Shared {
    @Suite("Records that must be refused")
    struct BadRecordTests {
        private static func one(
            _ name: String,
            _ body: String,
            _ code: String,
            pointer: String? = nil,
            status: Int = 400
        ) -> BadRequest {
            BadRequest(
                name: name,
                method: "POST",
                path: Bench.recordsPath,
                contentType: "application/json",
                body: Array(body.utf8),
                status: status,
                code: code,
                pointer: pointer
            )
        }

        private static func many(
            _ name: String,
            _ lines: [String],
            _ code: String,
            status: Int = 400,
            line: Int? = nil,
            limit: Int? = nil
        ) -> BadRequest {
            BadRequest(
                name: name,
                method: "POST",
                path: Bench.recordsPath,
                contentType: "application/x-ndjson",
                body: Array(lines.map { $0 + "\n" }.joined().utf8),
                status: status,
                code: code,
                line: line,
                limit: limit
            )
        }

        private static func number(_ text: String) -> BadRequest {
            self.one(
                "the number \(text)",
                Bench.event("\"after\":{\"n\":\(text)}"),
                "number_not_representable",
                pointer: "/after/n"
            )
        }

        static let singles: [BadRequest] = [
            one("an empty body", "", "malformed_json"),
            one("half an object", "{\"action\":", "malformed_json"),
            one("two values", Bench.event("\"reason\":\"r\"") + "{}", "malformed_json"),
            one("an array", "[1]", "invalid_field"),
            one("a member twice", Bench.event("\"after\":{\"a\":1,\"a\":2}"), "duplicate_key", pointer: "/after/a"),
            one("an escaped member twice", Bench.event("\"after\":{\"a\":1,\"\\u0061\":2}"), "duplicate_key"),
            number("1e400"), number("-1e400"), number("9007199254740993"), number("1.0"), number("-0"),
            number("0.1000000000000000055511151231257827"),
            one("a lone surrogate", Bench.event("\"after\":\"\\ud800\""), "malformed_json", pointer: "/after"),
            one("a low surrogate first", Bench.event("\"after\":\"\\udc00\\ud800\""), "malformed_json"),
            one(
                "nesting of depth 40",
                Bench.event("\"after\":" + String(repeating: "[", count: 40) + String(repeating: "]", count: 40)),
                "too_deep"
            ),
            one("an unknown member", Bench.event("\"colour\":\"red\""), "unknown_field", pointer: "/colour"),
            one("a number as action", Bench.event("\"action\":5"), "invalid_field", pointer: "/action"),
            one("no action", "{\"entity_type\":\"t\",\"entity_id\":\"1\"}", "invalid_field", pointer: "/action"),
            one("null as entity", Bench.event("\"entity_id\":null"), "invalid_field", pointer: "/entity_id"),
            one("an empty text", Bench.event("\"entity_type\":\"\""), "invalid_field", pointer: "/entity_type"),
            one("an unknown severity", Bench.event("\"severity\":\"loud\""), "invalid_field", pointer: "/severity"),
            one(
                "a time that is none",
                Bench.event("\"occurred_at\":\"noon\""),
                "invalid_field",
                pointer: "/occurred_at"
            ),
            one(
                "another organization",
                Bench.event("\"organization\":\"hidden\""),
                "invalid_field",
                pointer: "/organization"
            ),
            one("a member of the ledger", Bench.event("\"sequence\":1"), "unknown_field", pointer: "/sequence"),
            BadRequest(
                name: "bytes that are not UTF-8",
                method: "POST",
                path: Bench.recordsPath,
                contentType: "application/json",
                body: Array(Bench.event("\"reason\":\"").utf8.dropLast()) + [0xC3, 0x28] + Array("\"}".utf8),
                status: 400,
                code: "invalid_utf8",
                pointer: "/reason"
            ),
            BadRequest(
                name: "a record that is too large",
                method: "POST",
                path: Bench.recordsPath,
                contentType: "application/json",
                body: Array(Bench.event("\"after\":\"\(String(repeating: "x", count: 61_000))\"").utf8),
                status: 413,
                code: "record_too_large",
                limit: 60_000
            ),
            BadRequest(
                name: "a body of another kind",
                method: "POST",
                path: Bench.recordsPath,
                contentType: "text/plain",
                body: Array(Bench.event("\"reason\":\"r\"").utf8),
                status: 415,
                code: "unsupported_media_type"
            ),
            BadRequest(
                name: "a body of no kind",
                method: "POST",
                path: Bench.recordsPath,
                body: Array(Bench.event("\"reason\":\"r\"").utf8),
                status: 415,
                code: "unsupported_media_type"
            ),
        ]

        private static let sound = Bench.event("\"reason\":\"r\"")

        static let batches: [BadRequest] = [
            many("an empty batch", [], "invalid_field"),
            many("blank lines", ["", ""], "invalid_field"),
            many(
                "a third line of five that is no JSON",
                [sound, sound, "{\"a\"", sound, sound],
                "malformed_json",
                line: 3
            ),
            many("a last line that lacks a member", [sound, sound, "{}"], "invalid_field", line: 3),
            many("a first line with an unknown member", [Bench.event("\"x\":1"), sound], "unknown_field", line: 1),
            many(
                "more than 1,000 records",
                Array(repeating: sound, count: 1001),
                "batch_too_large",
                status: 413,
                limit: 1000
            ),
            many(
                "more than 4 MiB",
                Array(repeating: Bench.event("\"after\":\"\(String(repeating: "x", count: 50_000))\""), count: 90),
                "body_too_large",
                status: 413,
                limit: 4 << 20
            ),
        ]

        @Test(.timeLimit(.minutes(1)), arguments: singles)
        func leaveTheLedgerAsItIs(request: BadRequest) async throws {
            try await request.check(try await Bench.prepare())
        }

        @Test(.timeLimit(.minutes(1)), arguments: batches)
        func inABatchLeaveTheLedgerAsItIs(request: BadRequest) async throws {
            try await request.check(try await Bench.prepare())
        }
    }
}
