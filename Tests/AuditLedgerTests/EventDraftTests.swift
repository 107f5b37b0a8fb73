import AuditLedger
import Primitives
import Storage
import Testing

/// From a client's event to a record.
struct EventDraftTests {
    static let least = #""action":"create","entity_type":"sample","entity_id":"s-1""#

    func record(_ event: String, context: EventContext = LedgerFixture.context) throws -> LedgerRecord {
        let draft = try EventDraft.parse(bytes(event), defaults: context)
        var writer = ByteWriter()
        draft.encode(into: &writer)
        var reader = ByteReader(writer.bytes)
        let decoded = try EventDraft.decode(from: &reader)
        #expect(decoded == draft)
        try reader.finish("test")
        var appender = LedgerAppender(head: LedgerHead(empty: LedgerFixture.organization))
        var batch = WriteBatch()
        let appended = appender.append(decoded, stampedAt: Timestamp(microseconds: 1), into: &batch)
        #expect(CanonicalJSON.isCanonical(appended.bytes))
        let record = try LedgerRecord(appended.bytes)
        #expect(record.checksum == appended.checksum)
        return record
    }

    func failure(_ event: String) -> EventError? {
        #expect(throws: EventError.self) { try EventDraft.parse(bytes(event), defaults: LedgerFixture.context) }
    }

    @Test func writesExactlyThisRecord() throws {
        let record = try self.record(
            #"{"entity_id":"s-1","entity_type":"sample","action":"create","after":{"z":1,"a":"\u00e9"},"#
                + #""occurred_at":"2010-03-31T16:59:42.5+02:00","actor":"Frederic","compliance":{"tags":["gmo"]},"#
                + #""reason":"why","severity":"warning","outcome":"denied","organization":"lab-a"}"#
        )
        #expect(
            text(record.bytes)
                == #"{"action":"create","actor":{"id":"Frederic","kind":"user"},"after":{"a":"é","z":1},"before":null,"#
                + #""compliance":{"tags":["gmo"]},"entity_id":"s-1","entity_type":"sample","#
                + #""occurred_at":"2010-03-31T14:59:42.500000Z","organization":"lab-a","outcome":"denied","#
                + #""previous":"0000000000000000000000000000000000000000000000000000000000000000","reason":"why","#
                + #""recorded_at":"1970-01-01T00:00:00.000001Z","request":{"authentication":"bearer","channel":"api","#
                + #""id":"r-1","ip":"::1","user_agent":"test/1"},"sequence":1,"severity":"warning"}"#
        )
        #expect(record.reason == "why")
        #expect(record.severity == .warning)
        #expect(record.outcome == .denied)
        #expect(record.before == .null)
        #expect(record.after["z"] == .number(JSONNumber(1)!))
        #expect(record.occurredAt?.description == "2010-03-31T14:59:42.500000Z")
        #expect(record.previous == .zero)
    }

    @Test func completesWhatIsLeftOut() throws {
        let record = try self.record("{\(Self.least)}")
        #expect(record.actor == Actor(kind: .apiKey, id: "key-1"))
        #expect(record.severity == .info)
        #expect(record.outcome == .success)
        #expect(record.reason == nil)
        #expect(record.compliance == nil)
        #expect(record.occurredAt == nil)
        #expect(record.request.userAgent == "test/1")
        let bare = EventContext(
            organization: LedgerFixture.key,
            request: RequestInfo(id: "1", channel: .mcp),
            defaultActor: nil
        )
        #expect(try self.record(#"{\#(Self.least),"actor":"a"}"#, context: bare).request.channel == .mcp)
        let error = #expect(throws: EventError.self) {
            try EventDraft.parse(bytes("{\(Self.least)}"), defaults: bare)
        }
        #expect(error?.code == .missingMember)
        #expect(error?.member == "/actor")
    }

    @Test func keepsAWholeActor() throws {
        let actor = #"{"role":"Auditor","on_behalf_of":"u2","name":"N","kind":"service_account","id":"sa"}"#
        let record = try self.record(#"{\#(Self.least),"actor":\#(actor)}"#)
        #expect(record.actor == Actor(kind: .serviceAccount, id: "sa", name: "N", role: "Auditor", onBehalfOf: "u2"))
        #expect(try self.record(#"{\#(Self.least),"actor":{"id":"x","name":null}}"#).actor == Actor(id: "x"))
    }

    @Test(
        arguments: [
            (#"{"entity_type":"s","entity_id":"1"}"#, EventError.Code.missingMember, "/action"),
            (#"{"action":"a","entity_id":"1"}"#, .missingMember, "/entity_type"),
            (#"{"action":"a","entity_type":"1"}"#, .missingMember, "/entity_id"),
            (#"{"action":"","entity_type":"s","entity_id":"1"}"#, .emptyText, "/action"),
            (#"{"action":7,"entity_type":"s","entity_id":"1"}"#, .wrongType, "/action"),
            (#"{\#(least),"extra/x":1}"#, .unknownMember, "/extra~1x"),
            (#"{\#(least),"sequence":1}"#, .unknownMember, "/sequence"),
            (#"{\#(least),"previous":"00"}"#, .unknownMember, "/previous"),
            (#"{\#(least),"recorded_at":"2020-01-01T00:00:00Z"}"#, .unknownMember, "/recorded_at"),
            (#"{\#(least),"occurred_at":"yesterday"}"#, .valueNotAllowed, "/occurred_at"),
            (#"{\#(least),"occurred_at":"2023-02-29T00:00:00Z"}"#, .valueNotAllowed, "/occurred_at"),
            (#"{\#(least),"occurred_at":5}"#, .wrongType, "/occurred_at"),
            (#"{\#(least),"severity":"loud"}"#, .valueNotAllowed, "/severity"),
            (#"{\#(least),"severity":1}"#, .wrongType, "/severity"),
            (#"{\#(least),"outcome":"maybe"}"#, .valueNotAllowed, "/outcome"),
            (#"{\#(least),"compliance":[]}"#, .wrongType, "/compliance"),
            (#"{\#(least),"reason":{}}"#, .wrongType, "/reason"),
            (#"{\#(least),"organization":"lab-b"}"#, .organizationMismatch, "/organization"),
            (#"{\#(least),"actor":7}"#, .wrongType, "/actor"),
            (#"{\#(least),"actor":{}}"#, .missingMember, "/actor/id"),
            (#"{\#(least),"actor":{"id":"x","kind":"robot"}}"#, .valueNotAllowed, "/actor/kind"),
            (#"{\#(least),"actor":{"id":"x","email":"y"}}"#, .unknownMember, "/actor/email"),
            (#"{\#(least),"after":{"a":1.0}}"#, .malformedJSON, "/after/a"),
            (#"{\#(least),"after":{"a":1,"a":1}}"#, .malformedJSON, "/after/a"),
            ("[]", .notAnObject, ""), ("7", .notAnObject, ""), ("{", .malformedJSON, ""),
        ]
    )
    func refusesWithTheMembersName(event: String, code: EventError.Code, member: String) {
        let error = self.failure(event)
        #expect(error?.code == code)
        #expect(error?.member == member)
    }

    @Test func countsTextsInBytesAfterUnescaping() throws {
        let fits = String(repeating: "é", count: EventLimits.actionBytesMax / 2)
        #expect(try self.record(#"{"action":"\#(fits)","entity_type":"s","entity_id":"1"}"#).action == fits)
        let escaped = String(repeating: #"\u0001"#, count: EventLimits.actionBytesMax)
        #expect(
            try self.record(#"{"action":"\#(escaped)","entity_type":"s","entity_id":"1"}"#).action.utf8.count == 128
        )
        #expect(self.failure(#"{"action":"\#(fits)x","entity_type":"s","entity_id":"1"}"#)?.code == .textTooLong)
        #expect(self.failure(#"{"action":"\#(escaped)x","entity_type":"s","entity_id":"1"}"#)?.code == .textTooLong)
        let long = String(repeating: "x", count: EventLimits.reasonBytesMax + 1)
        #expect(self.failure(#"{\#(Self.least),"reason":"\#(long)"}"#)?.member == "/reason")
    }

    @Test func boundsTheRecord() throws {
        let overhead = try self.record(#"{\#(Self.least),"after":""}"#).bytes.count
        let room = EventLimits.recordBytesMax - overhead - 100
        let fits = String(repeating: "x", count: room)
        #expect(try self.record(#"{\#(Self.least),"after":"\#(fits)"}"#).bytes.count <= EventLimits.recordBytesMax)
        let tooLong = fits + String(repeating: "x", count: 101)
        #expect(self.failure(#"{\#(Self.least),"after":"\#(tooLong)"}"#)?.code == .recordTooLarge)
    }

    @Test func cutsTheRequestsTextsAtAScalar() throws {
        let context = EventContext(
            organization: LedgerFixture.key,
            request: RequestInfo(id: "1", userAgent: "x" + String(repeating: "é", count: 300)),
            defaultActor: Actor(id: "a")
        )
        let agent = try #require(try self.record("{\(Self.least)}", context: context).request.userAgent)
        #expect(agent.utf8.count == EventLimits.userAgentBytesMax - 1)
    }

    @Test func refusesADamagedDraft() throws {
        let draft = try EventDraft.parse(bytes("{\(Self.least)}"), defaults: LedgerFixture.context)
        var writer = ByteWriter()
        draft.encode(into: &writer)
        for length in 0..<writer.bytes.count {
            var reader = ByteReader(writer.bytes[..<length])
            #expect(throws: MalformedBytes.self) { try EventDraft.decode(from: &reader) }
        }
        for place in 0..<12 {
            var damaged = writer.bytes
            damaged[place] ^= 0xFF
            var reader = ByteReader(damaged)
            #expect(throws: MalformedBytes.self) { try EventDraft.decode(from: &reader) }
        }
    }

    // MARK: Batches

    @Test func readsABatch() throws {
        let body = bytes("{\(Self.least)}\r\n{\(Self.least)}\n\n")
        #expect(try EventBatch.parse(body, defaults: LedgerFixture.context).count == 2)
        #expect(try EventBatch.parse(bytes("{\(Self.least)}"), defaults: LedgerFixture.context).count == 1)
    }

    @Test func namesTheLineOfTheFirstFault() {
        func failure(_ body: String, _ limits: EventBatch.Limits = .init()) -> EventError? {
            #expect(throws: EventError.self) {
                try EventBatch.parse(bytes(body), limits: limits, defaults: LedgerFixture.context)
            }
        }
        let good = "{\(Self.least)}\n"
        #expect(failure(good + "{\"action\":1}\n" + "{\n")?.line == 2)
        #expect(failure(good + good + "{}{}\n")?.json?.code == .trailingBytes)
        #expect(failure(good + "\n" + good)?.line == 2)
        #expect(failure("")?.code == .emptyBatch)
        #expect(failure("\n\n")?.code == .emptyBatch)
        #expect(failure(good + good + good, .init(recordsMax: 2))?.line == 3)
        #expect(failure(good + good, .init(bytesMax: 20))?.code == .batchTooLarge)
        let error = failure(good + good + #"{\#(Self.least),"after":{"n":1.0}}"#)
        #expect(error?.line == 3)
        #expect(error?.member == "/after/n")
        #expect(error?.json?.line == 1)
    }
}
