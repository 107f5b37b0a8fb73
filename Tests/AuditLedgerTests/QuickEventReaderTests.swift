import Primitives
import Testing

@testable import AuditLedger

/// The quick way of reading events does what the thorough one does, or leaves the event to it.
struct QuickEventReaderTests {
    static let limits = JSONLimits(bytesMax: EventLimits.eventBytesMax)

    static func context(_ format: RecordFormat) -> EventContext {
        EventContext(
            organization: LedgerFixture.key,
            request: RequestInfo(id: "r-1", channel: .api, ip: "::1", userAgent: "test/1"),
            defaultActor: Actor(kind: .apiKey, id: "key-1"),
            format: format,
            saltSeed: [UInt8](repeating: 7, count: 32)
        )
    }

    /// How many of the texts were read the quick way.
    struct Tally {
        var quick = 0
        var refused = 0
    }

    /// Reads an event in both ways and compares.
    static func check(_ input: [UInt8], _ tally: inout Tally, format: RecordFormat = .second, _ about: String) {
        let context = Self.context(format)
        var quick = QuickEventReader(context: context, limits: Self.limits)
        var parser = EventParser(context: context)
        let draft = quick.read(input, range: 0..<input.count)
        let thorough = Result { () throws(EventError) in
            try parser.parseThoroughly(input, range: 0..<input.count)
        }
        Self.compare(draft, thorough, &tally, "\(about): \(text(input))")
        let either = Result { () throws(EventError) in try EventDraft.parse(input, defaults: context) }
        #expect(either == thorough, "\(about): \(text(input))")
    }

    static func compare(
        _ quick: EventDraft?,
        _ thorough: Result<EventDraft, EventError>,
        _ tally: inout Tally,
        _ about: String
    ) {
        switch (quick, thorough) {
        case (let quick?, .success(let thorough)):
            tally.quick += 1
            #expect(quick == thorough, "\(about)")
        case (.some, .failure(let error)):
            Issue.record("the quick way takes what is refused with \(error): \(about)")
        case (nil, .success): break
        case (nil, .failure): tally.refused += 1
        }
    }

    @Test func aDraftThatDiffersIsSeen() throws {
        var tally = Tally()
        let (one, other) = (try LedgerFixture.draft(1), try LedgerFixture.draft(2))
        Self.compare(one, .success(one), &tally, "the same")
        withKnownIssue { Self.compare(one, .success(other), &tally, "another") }
        withKnownIssue { Self.compare(one, .failure(EventError(.emptyBatch, "")), &tally, "taken") }
    }

    // MARK: Random events

    static func pick(_ generator: inout SeededGenerator, _ texts: String...) -> String {
        texts.randomElement(using: &generator) ?? ""
    }

    static func space(_ generator: inout SeededGenerator) -> String {
        generator.next() % 8 == 0 ? Self.pick(&generator, " ", "\t", "\r", "  ", "\n") : ""
    }

    static func string(_ generator: inout SeededGenerator) -> String {
        var text = ""
        for _ in 0..<Int(generator.next() % 5) {
            text += Self.pick(
                &generator,
                "a",
                "state",
                "volume_ul",
                "x~y/z",
                "größe",
                "é",
                "e\u{301}",
                "\u{E000}",
                "\u{FFFF}",
                "😀",
                "long enough for whole words of eight bytes",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u00e9",
                "\\u0041",
                "\\u001f",
                "\\ud83d\\ude00",
                "\u{7F}"
            )
        }
        return "\"\(text)\""
    }

    static func number(_ generator: inout SeededGenerator) -> String {
        let digits = String(generator.next()).prefix(Int(generator.next() % 18) + 1)
        switch generator.next() % 8 {
        case 0: return "0"
        case 1:
            return Self.pick(
                &generator,
                "-0",
                "-0.0",
                "1e3",
                "1E-7",
                "0.0000001",
                "0.000001",
                "-0.5",
                "1.50",
                "01",
                "1."
            )
        case 2: return "-\(digits)"
        case 3: return "0.\(String(repeating: "0", count: Int(generator.next() % 8)))\(digits)"
        case 4: return "\(generator.next() % 100_000).\(digits)"
        case 5: return "\(Double(bitPattern: generator.next()))"
        default: return "\(digits)"
        }
    }

    static func value(_ generator: inout SeededGenerator, depth: Int) -> String {
        switch generator.next() % (depth > 0 ? 9 : 6) {
        case 0: return Self.pick(&generator, "null", "true", "false", "nul", "True")
        case 1, 2: return Self.number(&generator)
        case 3, 4, 5: return Self.string(&generator)
        case 6:
            let elements = (0..<Int(generator.next() % 4)).map { _ in Self.value(&generator, depth: depth - 1) }
            return "[" + elements.joined(separator: Self.space(&generator) + ",") + "]"
        default: return Self.object(&generator, depth: depth)
        }
    }

    static func object(_ generator: inout SeededGenerator, depth: Int) -> String {
        let members = (0..<Int(generator.next() % 6)).map { _ in
            Self.string(&generator) + Self.space(&generator) + ":" + Self.space(&generator)
                + Self.value(&generator, depth: depth - 1)
        }
        return "{" + Self.space(&generator) + members.joined(separator: "," + Self.space(&generator)) + "}"
    }

    /// An event whose members are right more often than not.
    static func event(_ generator: inout SeededGenerator) -> String {
        var members = [
            "\"action\":\(Self.pick(&generator, "\"create\"", "\"update\"", "\"ä\"", "\"\\n\""))",
            "\"entity_type\":\"sample\"", "\"entity_id\":\"s-1\"",
        ]
        let before = Self.object(&generator, depth: 3)
        let after = generator.next() % 3 == 0 ? before : Self.object(&generator, depth: 3)
        var more = [
            "\"before\":\(before)", "\"after\":\(after)", "\"before\":\(Self.value(&generator, depth: 2))",
            "\"after\":{\"a\":\(after),\"b\":[\(before)]}", "\"before\":{\"b\":[\(before)],\"a\":\(before)}",
            "\"actor\":\(Self.string(&generator))", "\"compliance\":\(Self.object(&generator, depth: 2))",
            #""actor":{"kind":"user","id":"u-1","role":null,"name":"Ä"}"#,
            #""actor":{"on_behalf_of":"x","role":"r","name":"n","kind":"system","id":"u"}"#,
            #""actor":{"id":"u","other":1}"#,
            "\"reason\":\(Self.string(&generator))", "\"causation\":\(Self.string(&generator))",
            "\"correlation\":\"c\"", "\"session\":\"s\"", #""severity":"warning""#, #""severity":"other""#,
            #""severity":null"#, #""outcome":"denied""#, #""organization":"lab-a""#, #""organization":"lab-b""#,
            #""occurred_at":"2026-11-22T03:04:05.123456Z""#, #""occurred_at":"2026-11-22T03:04:05Z""#,
            #""occurred_at":"2026-02-30T03:04:05Z""#, #""occurred_at":"2026-11-22T03:04:05.5+02:00""#,
            #""personal":{"/after/a":"x"}"#, #""personal":null"#, #""unknown":1"#, "\"actor\":null",
        ]
        for _ in 0..<Int(generator.next() % 6) {
            members.append(more.remove(at: Int(generator.next() % UInt64(more.count))))
        }
        members.shuffle(using: &generator)
        let body = members.joined(separator: Self.space(&generator) + "," + Self.space(&generator))
        return Self.space(&generator) + "{" + body + "}" + Self.space(&generator)
    }

    @Test(arguments: UInt64(1)...24)
    func readsLikeTheThoroughWay(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var tally = Tally()
        for _ in 0..<400 {
            let format: RecordFormat = generator.next() % 4 == 0 ? .first : .second
            Self.check(bytes(Self.event(&generator)), &tally, format: format, "seed \(seed)")
        }
        #expect(tally.quick > 20, "seed \(seed): \(tally)")
        #expect(tally.refused > 20, "seed \(seed): \(tally)")
    }

    @Test(arguments: UInt64(1)...24)
    func damageIsSeenAlike(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var tally = Tally()
        for _ in 0..<400 {
            var input = bytes(Self.event(&generator))
            for _ in 0..<Int.random(in: 1..<3, using: &generator) where !input.isEmpty {
                let place = Int.random(in: 0..<input.count, using: &generator)
                switch generator.next() % 4 {
                case 0: input[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: input.remove(at: place)
                case 2: input.removeSubrange(place...)
                default: input.insert(bytes("\"\\{}[],:0-.eu")[Int.random(in: 0..<13, using: &generator)], at: place)
                }
            }
            Self.check(input, &tally, "seed \(seed)")
        }
        #expect(tally.refused > 100, "seed \(seed): \(tally)")
    }

    @Test(arguments: UInt64(1)...8)
    func decimalsAreTakenOnlyInTheirShortestForm(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var tally = Tally()
        for _ in 0..<2_000 {
            let event = "{\(EventDraftTests.least),\"after\":\(Self.number(&generator))}"
            Self.check(bytes(event), &tally, "seed \(seed)")
        }
        #expect(tally.quick > 200 && tally.refused > 200, "seed \(seed): \(tally)")
    }

    // MARK: Cases

    @Test(
        arguments: [
            #"{"after":{"state":"a","number":1,"volume":2.5},"before":{"volume":2,"state":"b"},"#, #"{"#,
            #"{"actor":{"kind":"user","id":"u-1","name":"Person","role":"technician"},"reason":"größer","#,
            #"{ "compliance" : { "b" : [ 1, 2 ], "a" : null } , "reason" : "a \"b\"\n" , "#,
        ]
    )
    func usualEventsGoTheQuickWay(start: String) {
        var tally = Tally()
        Self.check(bytes(start + EventDraftTests.least + "}"), &tally, "usual")
        #expect(tally.quick == 1)
    }

    @Test func boundsAreThoseOfTheThoroughWay() {
        func event(_ value: String) -> [UInt8] { bytes("{\(EventDraftTests.least),\"after\":\(value)}") }
        var tally = Tally()
        for depth in [30, 31, 32, 33] {
            let nested = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            Self.check(event(nested), &tally, "depth \(depth)")
            let objects = String(repeating: "{\"a\":", count: depth) + "1" + String(repeating: "}", count: depth)
            Self.check(event(objects), &tally, "depth \(depth)")
        }
        #expect(tally.quick == 4)
        for count in [31, 32, 33, 63, 64, 65, 255, 256, 257, 300] {
            for order in [Array(0..<count), Array((0..<count).reversed())] {
                let members = order.map { "\"k\(1000 + $0)\":\($0)" }.joined(separator: ",")
                Self.check(event("{\(members)}"), &tally, "\(count) members")
                Self.check(event("{\(members)},\"before\":{}"), &tally, "\(count) members")
            }
        }
        for count in [59_000, 59_300, 59_400, 59_500, 59_700, 60_000, 131_000, 132_000] {
            Self.check(event("\"\(String(repeating: "x", count: count))\""), &tally, "\(count) bytes")
        }
        for count in [199, 200, 201] {
            let session = "\"a\",\"session\":\"\(String(repeating: "s", count: count))\""
            Self.check(event(session), &tally, "\(count) bytes of session")
        }
    }

    @Test func aBatchKeepsItsLinesApart() throws {
        var generator = SeededGenerator(seed: 5)
        var lines: [String] = []
        var drafts: [EventDraft] = []
        while drafts.count < 50 {
            let event = Self.event(&generator).replacing("\n", with: " ").replacing("\r", with: " ")
            var parser = EventParser(context: Self.context(.second))
            let input = bytes(event)
            guard !event.contains("personal"), let draft = try? parser.parseThoroughly(input, range: 0..<input.count)
            else {
                continue
            }
            lines.append(event)
            drafts.append(draft)
        }
        for end in ["\n", "\r\n"] {
            let body = bytes(lines.joined(separator: end))
            #expect(try EventBatch.parse(body, defaults: Self.context(.second)) == drafts)
            #expect(try EventBatch.parse(body + bytes(end), defaults: Self.context(.second)) == drafts)
        }
    }

    @Test func findsTheEndOfALine() {
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<2_000 {
            let alphabet: [UInt8] = [0x0A, 0x0B, 0x09, 0x8A, 0x00, 0x7F, 0xFF, 0x2A]
            let count = Int(generator.next() % 40)
            let text = (0..<count).map { _ in
                generator.next() % 6 == 0 ? alphabet[Int(generator.next() % 8)] : UInt8(ascii: "x")
            }
            let start = Int(generator.next() % UInt64(count + 1))
            #expect(JSONText.lineEnd(text, from: start) == text[start...].firstIndex(of: 0x0A) ?? count)
        }
    }
}
