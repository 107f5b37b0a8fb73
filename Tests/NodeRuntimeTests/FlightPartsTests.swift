internal import Columnar
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import QueryRouter
internal import Shards
internal import SwiftProtobuf
internal import Testing
internal import Transport

@testable internal import NodeRuntime

@Suite("Flight SQL: its parts")
struct FlightPartsTests {
    // MARK: Rows in

    @Test(arguments: ["1,\"reason\":\"mine\"", "{", "", "1 2", "{}}"])
    func textThatIsNotOneValueBringsInNoMembers(text: String) throws {
        let schema = ArrowSchema(fields: [ArrowField("action", .utf8), ArrowField("after", .utf8)])
        let ingest = try FlightIngest(schema, organization: "lab-a")
        func batch(_ after: String) throws -> ArrowRecordBatch {
            try ArrowRecordBatch.make(schema: schema, columns: [[.string("create")], [.string(after)]])
        }
        #expect(throws: GRPCStatus.self) { try ingest.lines(batch(text)) }
        #expect(try ingest.lines(batch("{\"a\":1}")).count == 1)
    }

    // MARK: Sessions

    private static func session(_ fields: [(String, String)]) throws -> FlightSession {
        var headers = HTTPFields()
        for (name, value) in fields {
            headers.append(HTTPField(name: try #require(HTTPField.Name(name)), value: value))
        }
        return try FlightSession(headers)
    }

    private static func expect(_ wanted: Bool, _ isSet: Bool, line: Int = #line) {
        #expect(isSet == wanted, "line \(line)")
    }

    @Test func optionsLiveInTheCookie() throws {
        var session = FlightSession()
        Self.expect(true, session.set(.catalog, to: "lab-a"))
        Self.expect(true, session.set(.profile, to: "grafana"))
        Self.expect(true, session.set(.compression, to: "zstd"))
        let cookie = try #require(session.setCookie.split(separator: ";").first)
        let again = try Self.session([("cookie", "other=1; \(cookie)")])
        #expect(again.options == session.options)
        #expect(again.keepsCookies)
        #expect(again.profile == .grafana)
        #expect(again.compression == .zstd)
    }

    @Test func refusesValuesThatNoOptionHas() {
        var session = FlightSession()
        Self.expect(false, session.set(.catalog, to: "no key\n"))
        Self.expect(false, session.set(.schema, to: "other"))
        Self.expect(false, session.set(.profile, to: "excel"))
        Self.expect(false, session.set(.compression, to: "gzip"))
        Self.expect(false, session.set(.consistency, to: "maybe"))
        #expect(session.options.isEmpty)
    }

    @Test(arguments: [
        "", "0", "zz", "6", "ff00ff", "636174616c6f673d2e2e2f2e2e", String(repeating: "61", count: 4_000),
    ])
    func aForgedCookieSetsNothing(_ value: String) throws {
        let session = try Self.session([("cookie", "flasktrack_session=\(value)")])
        #expect(session.options.isEmpty)
    }

    @Test func headersOverrideTheCookie() throws {
        var session = FlightSession()
        Self.expect(true, session.set(.catalog, to: "lab-a"))
        let cookie = String(try #require(session.setCookie.split(separator: ";").first))
        let chosen = try Self.session([("cookie", cookie), ("x-flasktrack-catalog", "lab-b")])
        #expect(chosen.catalog == "lab-b")
        #expect(try Self.session([("database", "lab-c")]).catalog == "lab-c")
        #expect(throws: GRPCStatus.self) { try Self.session([("x-flasktrack-profile", "excel")]) }
    }

    @Test func readsSecretsOfBothSchemes() throws {
        func secret(_ value: String) -> String? {
            APIRouter.flightSecret([.authorization: value]).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(secret("Bearer abc") == "abc")
        #expect(secret("bearer abc") == "abc")
        #expect(secret("Basic " + Data("me:pa:ss".utf8).base64EncodedString()) == "pa:ss")
        // As the Go client sends it: without padding.
        #expect(secret("Basic bWU6cGFzcw") == "pass")
        for wrong in ["", "abc", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Digest abc"] {
            #expect(secret(wrong) == nil, "\(wrong)")
        }
    }

    // MARK: Patterns and tables

    @Test(arguments: [
        ("audit_log", "%", true), ("audit_log", "audit\\_log", true), ("auditxlog", "audit\\_log", false),
        ("auditxlog", "audit_log", true), ("audit_log", "aud%g", true), ("audit_log", "aud%x", false),
        ("", "%", true), ("", "", true), ("a", "", false), ("aaa", "%a%a%", true), ("ab", "b%", false),
        ("100%", "100\\%", true),
    ])
    func likePatterns(_ text: String, _ pattern: String, _ wanted: Bool) {
        #expect(LikePattern.matches(text, pattern) == wanted)
    }

    @Test func aHostilePatternCostsNoMoreThanItsLength() {
        let text = String(repeating: "a", count: 2_000)
        #expect(!LikePattern.matches(text, String(repeating: "%a", count: 500) + "b"))
    }

    @Test func tableTypesAreTakenInAnyForm() throws {
        let table = FlightTable(AuditLogDataset.table, of: try Fixture.key("lab-a"))
        #expect(table.isOne(of: []))
        #expect(table.isOne(of: ["table"]))
        #expect(table.isOne(of: ["VIEW", "base table"]))
        #expect(!table.isOne(of: ["VIEW"]))
    }

    // MARK: Facts

    @Test func sqlInfoHasTheSixChildrenThatClientsCastTo() throws {
        guard case .denseUnion(let children) = FlightSQLInfo.schema.fields[1].type else {
            Issue.record("no union")
            return
        }
        #expect(
            children.map(\.name) == [
                "string_value", "bool_value", "bigint_value", "int32_bitmask", "string_list", "int32_to_int32_list_map",
            ]
        )
        let all = try FlightSQLInfo.batch([])
        let numbers = (0..<all.rowCount).compactMap { all.int64(row: $0, column: 0) }
        #expect(numbers == numbers.sorted())
        #expect(Set(numbers).count == numbers.count)
        for wanted in [0, 1, 2, 3, 8, 9, 504] { #expect(numbers.contains(Int64(wanted))) }
        let few = try FlightSQLInfo.batch([8, 504, 9_999])
        #expect(few.rowCount == 2)
        #expect(few.value(row: 0, column: 1) == .union(3, .int(0)))
        #expect(few.value(row: 1, column: 1) == .union(0, .string("\"")))
    }

    @Test func typesComeInTheOrderOfTheirNumbers() throws {
        let all = try FlightTypeInfo.batch(nil)
        let numbers = (0..<all.rowCount).compactMap { all.int64(row: $0, column: 1) }
        #expect(numbers == numbers.sorted())
        let texts = try FlightTypeInfo.batch(12)
        #expect((0..<texts.rowCount).map { texts.string(row: $0, column: 0) } == ["JSON", "VARCHAR"])
    }

    // MARK: Commands

    @Test func readsCommandsAndRefusesTheRest() throws {
        var query = FlightSQLCommandStatementQuery()
        query.query = "select 1"
        guard case .statement("select 1") = try FlightCommand(try query.wrapped()) else {
            Issue.record("another command")
            return
        }
        for bytes in [Data(), Data([1, 2, 3]), Data("select 1".utf8)] {
            let status = #expect(throws: GRPCStatus.self) { try FlightCommand(bytes) }
            #expect(status?.code == .invalidArgument)
        }
        var any = Google_Protobuf_Any()
        any.typeURL = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementSubstraitPlan"
        let status = #expect(throws: GRPCStatus.self) { try FlightCommand(try any.serializedData()) }
        #expect(status?.code == .unimplemented)
        any.typeURL = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
        any.value = Data([0xFF])
        let malformed = #expect(throws: GRPCStatus.self) { try FlightCommand(try any.serializedData()) }
        #expect(malformed?.code == .invalidArgument)
    }

    @Test func problemsBecomeStatusesWithCodeAndPlace() {
        let status = Problem(.sqlSyntax, "near x", members: [.number("position", 7)]).grpcStatus(requestID: "r-1")
        #expect(status == GRPCStatus(.invalidArgument, "sql_syntax: near x (at byte 7) [request r-1]"))
        let codes: [(Problem.Code, GRPCStatus.Code)] = [
            (.unauthenticated, .unauthenticated), (.forbidden, .permissionDenied), (.sqlNotAllowed, .permissionDenied),
            (.organizationNotFound, .notFound), (.resultTooLarge, .resourceExhausted), (.overloaded, .unavailable),
            (.queryUnavailable, .unavailable), (.queryTimeLimit, .deadlineExceeded), (.internal, .internal),
            (.queryMemoryLimit, .resourceExhausted), (.idempotencyKeyReused, .invalidArgument),
        ]
        for (code, wanted) in codes { #expect(Problem(code, "x").grpcStatus(requestID: "r").code == wanted, "\(code)") }
    }

    // MARK: Messages

    @Test func theHandWrittenMessageIsAFlightData() throws {
        let schema = ArrowSchema(fields: [ArrowField("n", .int64), ArrowField("t", .utf8)])
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [[.int(1), .null], [.string("x"), .string("a longer text")]]
        )
        let parts = try ArrowStreamEncoder(schema: schema).parts(of: batch)
        var reader = GRPCFrameReader(messageBytesMax: 1 << 20)
        reader.feed(FlightSender.frame(header: parts.header, body: parts))
        let next = try reader.next()
        let message = try #require(next)
        let data = try FlightFlightData.read(message)
        #expect(Array(data.dataHeader) == parts.header)
        #expect(data.dataBody.count == parts.bodyBytes)
        var decoder = ArrowMessageDecoder()
        let head = Array(ArrowStreamEncoder(schema: schema).flightSchemaHeader())
        let none = try decoder.decode(metadata: head, body: [UInt8]())
        #expect(none == nil)
        let read = try decoder.decode(metadata: Array(data.dataHeader), body: data.dataBody)
        let found = try #require(read)
        #expect(found.value(row: 1, column: 1) == .string("a longer text"))
    }

    @Test func aBodyThatIsThereIsSentFromWhereItLies() throws {
        let schema = ArrowSchema(fields: [ArrowField("n", .int64), ArrowField("t", .utf8)])
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [[.int(1), .null], [.string("x"), .string("a longer text")]]
        )
        let made = try ArrowStreamEncoder(schema: schema).parts(of: batch)
        let lent = try Self.lent(made, schema)
        let parts = try ArrowStreamEncoder(schema: schema).parts(of: lent)
        let message = FlightSender.message(parts)
        #expect(message.count == 2 && message.last?.readableBytes == parts.bodyBytes)
        let whole = message.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) }
        #expect(whole == FlightSender.frame(header: made.header, body: made))
        // Half of the rows is another body, which is put together.
        let half = FlightSender.message(
            try ArrowStreamEncoder(schema: schema).parts(of: lent.slice(from: 1, count: 1))
        )
        #expect(half.count == 1)
        // So is one that is compressed.
        let compressed = try ArrowStreamEncoder(schema: schema, compression: .lz4).parts(of: lent)
        #expect(FlightSender.message(compressed).count == 1)
        var encoder = try ResultEncoder(format: .arrow, schema: schema)
        let stream = try encoder.buffers(of: lent).reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) }
        #expect(try Array(stream.readableBytesView) == encoder.encode(batch))
    }

    /// The batch of a message, its columns in a buffer of ours.
    private static func lent(_ parts: ArrowMessageParts, _ schema: ArrowSchema) throws -> ArrowRecordBatch {
        var body = ByteBuffer()
        parts.forEachSpan { body.writeBytes($0) }
        let owner = body
        let memory = owner.withUnsafeReadableBytesWithStorageManagement { bytes, _ in
            ArrowBuffer(lent: bytes, owner: owner)
        }
        var decoder = ArrowMessageDecoder()
        _ = try decoder.decode(metadata: ArrowStreamEncoder(schema: schema).flightSchemaHeader(), body: [UInt8]())
        return try #require(try decoder.decode(metadata: parts.header, body: memory))
    }

    // MARK: Events from rows

    private static func lines(_ columns: [(String, ArrowType, [ArrowValue])], _ key: String?) throws -> [String] {
        let schema = ArrowSchema(fields: columns.map { ArrowField($0.0, $0.1) })
        let batch = try ArrowRecordBatch.make(schema: schema, columns: columns.map(\.2))
        return try FlightIngest(schema, organization: key).lines(batch).map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func rowsBecomeEvents() throws {
        let lines = try Self.lines(
            [
                ("action", .utf8, [.string("weigh"), .string("a\"b\n")]),
                ("actor_id", .utf8, [.string("ada"), .null]), ("actor_kind", .utf8, [.string("human"), .null]),
                ("after", .utf8, [.string("{\"g\":1}"), .null]),
                (
                    "occurred_at", .timestamp(.microsecond, timezone: nil),
                    [.timestamp(1_500_000, .microsecond, timezone: nil), .null]
                ),
            ],
            "lab-a"
        )
        #expect(
            lines == [
                #"{"organization":"lab-a","action":"weigh","after":{"g":1},"occurred_at":"1970-01-01T00:00:01.500000Z","#
                    + #""actor":{"id":"ada","kind":"human"}}"#,
                #"{"organization":"lab-a","action":"a\"b\n"}"#,
            ]
        )
    }

    @Test func refusesColumnsThatNoEventHas() {
        let text: [ArrowValue] = [.string("x")]
        for name in ["sequence", "recorded_at", "checksum", "colour", "actor_age", "Action", ""] {
            #expect(throws: GRPCStatus.self, "\(name)") { try Self.lines([(name, .utf8, text)], "lab-a") }
        }
        #expect(throws: GRPCStatus.self) {
            try Self.lines([("action", .utf8, text), ("action", .utf8, text)], "lab-a")
        }
        #expect(throws: GRPCStatus.self) {
            try Self.lines([("actor", .utf8, text), ("actor_id", .utf8, text)], "lab-a")
        }
        #expect(throws: GRPCStatus.self) { try Self.lines([("action", .utf8, text)], nil) }
        #expect(throws: GRPCStatus.self) { try Self.lines([("after", .int64, [.int(1)])], "lab-a") }
        #expect(throws: GRPCStatus.self) { try Self.lines([("organization", .utf8, [.string("a b")])], nil) }
    }
}

@Suite("Flight SQL: what is kept between calls")
struct FlightStateTests {
    private static let group = MultiThreadedEventLoopGroup.singleton

    private static func result() -> HeldResult {
        HeldResult(
            batches: RecordBatchStream(batches: []),
            schema: ArrowSchema(fields: []),
            profile: .arrow,
            compression: nil
        )
    }

    @Test func aResultIsReadOnceByItsOwner() throws {
        let state = FlightState(eventLoop: Self.group.any())
        let handle = try state.hold(Self.result(), for: "t-1")
        let other = #expect(throws: GRPCStatus.self) { try state.take(handle, by: "t-2") }
        #expect(other?.code == .notFound)
        #expect(throws: GRPCStatus.self) { try state.take(Array(repeating: 0, count: 24), by: "t-1") }
        #expect(throws: GRPCStatus.self) { try state.take([], by: "t-1") }
        try state.renew(handle, by: "t-1")
        _ = try state.take(handle, by: "t-1")
        #expect(throws: GRPCStatus.self) { try state.take(handle, by: "t-1") }
        #expect(state.counts.results == 0)
    }

    @Test func oneTokenCannotTakeAllPlaces() throws {
        let state = FlightState(eventLoop: Self.group.any())
        for _ in 0..<FlightLimits.heldPerTokenMax { _ = try state.hold(Self.result(), for: "t-1") }
        let status = #expect(throws: GRPCStatus.self) { try state.hold(Self.result(), for: "t-1") }
        #expect(status?.code == .resourceExhausted)
        let handle = try state.hold(Self.result(), for: "t-2")
        #expect(state.cancel(handle, by: "t-2"))
        #expect(!state.cancel(handle, by: "t-2"))
    }

    @Test func preparedStatementsBelongToOneToken() throws {
        let state = FlightState(eventLoop: Self.group.any())
        let statement = PreparedStatement(sql: "select ?", schema: ArrowSchema(fields: []), parameterTypes: [.int64])
        let handle = try state.prepare(statement, for: "t-1")
        #expect(throws: GRPCStatus.self) { try state.prepared(handle, by: "t-2") }
        #expect(throws: GRPCStatus.self) { try state.bind([.int(1)], to: handle, by: "t-2") }
        state.close(handle, by: "t-2")
        try state.bind([.int(5)], to: handle, by: "t-1")
        #expect(try state.prepared(handle, by: "t-1").parameters == [.int(5)])
        state.close(handle, by: "t-1")
        #expect(throws: GRPCStatus.self) { try state.prepared(handle, by: "t-1") }
        for _ in 0..<FlightLimits.preparedPerTokenMax { _ = try state.prepare(statement, for: "t-1") }
        #expect(throws: GRPCStatus.self) { try state.prepare(statement, for: "t-1") }
    }
}
