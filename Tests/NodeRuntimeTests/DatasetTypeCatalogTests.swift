internal import AuditLedger
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Types and columns found from records")
struct DatasetTypeCatalogTests {
    private static func change(_ sequence: UInt64, _ after: String, type: String = "sample") throws -> EntityChange {
        EntityChange(
            name: EntityName(type: type, id: "S-1"),
            sequence: SequenceNumber(sequence),
            recordedAt: Timestamp(microseconds: Int64(sequence)),
            action: "update",
            actor: "jane",
            outcome: .success,
            before: .null,
            after: try JSONParser.parse(Array(after.utf8))
        )
    }

    private static func catalog(_ states: [String]) throws -> TypeCatalog {
        var catalog = DatasetStorage.emptyCatalog()
        for (place, state) in states.enumerated() {
            _ = catalog.observe(try self.change(UInt64(place + 1), state))
        }
        return catalog
    }

    private static func columns(_ states: [String]) throws -> [String] {
        try self.catalog(states).types[0].columns.map {
            "\($0.name) \($0.kind) \(String(decoding: $0.pointer, as: UTF8.self))"
        }
    }

    @Test(arguments: [
        ("Sample", "sample"), ("growth chamber", "growth_chamber"), ("org:group", "org_group"), ("--a--b--", "a_b"),
        ("__own", "own"), ("order", "order_"), ("GROUP", "group_"), ("2024 plate", "word_2024_plate"), ("", "word"),
        ("+++", "word"), ("Größe", "größe"), ("試料", "試料"), ("A\u{030A}ngstro\u{0308}m", "ångström"),
        ("pg_class", "pg_class_"), ("test_result", "test_result"), ("left", "left_"), ("a\"b'c;--d", "a_b_c_d"),
        (String(repeating: "x", count: 200), String(repeating: "x", count: 60)),
    ])
    func namesNeedNoQuotes(_ name: String, _ expected: String) {
        let made = SQLName.make(name.utf8, word: "word")
        #expect(made == expected)
        #expect(Array(made.utf8) == Array(expected.utf8), "also by bytes")
    }

    @Test func everyKindOfValueHasItsColumn() throws {
        let columns = try Self.columns([
            #"{"grams":1.5,"count":2,"sterile":true,"note":"a","due":"2026-01-02T03:04:05.5+02:00","tags":["a"],"none":null}"#
        ])
        #expect(
            columns == [
                "count number /count", "due timestamp /due", "grams number /grams", "note text /note",
                "sterile boolean /sterile", "tags json /tags",
            ]
        )
    }

    @Test func membersOfObjectsHaveColumnsToADepth() throws {
        let columns = try Self.columns([#"{"box":{"row":1,"slot":{"x":2,"deep":{"y":3}},"empty":{}},"a/b":{"~":1}}"#])
        #expect(
            columns == [
                "a_b__column number /a~1b/~0", "box__row number /box/row", "box__slot__deep json /box/slot/deep",
                "box__slot__x number /box/slot/x",
            ]
        )
    }

    @Test func anotherKindOfValueIsAnotherColumn() throws {
        let columns = try Self.columns([
            #"{"weight":1}"#, #"{"weight":"heavy"}"#, #"{"weight":2.5}"#, #"{"weight":{"value":1}}"#,
            #"{"weight":[1]}"#, #"{"weight":"2026-01-02T03:04:05Z"}"#,
        ])
        #expect(
            columns == [
                "weight number /weight", "weight__v2 text /weight", "weight__value number /weight/value",
                "weight__v3 json /weight",
            ],
            "a text that looks like a time is a text where texts are"
        )
        #expect(
            try Self.columns([#"{"due":"2026-01-02T03:04:05Z"}"#, #"{"due":"soon"}"#])
                == ["due timestamp /due", "due__v2 text /due"]
        )
    }

    @Test(arguments: [
        ("2026-01-02T03:04:05Z", true), ("2026-01-02T03:04:05.123456Z", true), ("2026-01-02T03:04:05-11:30", true),
        ("2026-01-02", false), ("2026-01-02 03:04:05Z", false), ("2026-01-02T03:04:05", false),
        ("2026-02-30T03:04:05Z", false), ("2026-01-02T03:04:60Z", false), ("0000-01-02T03:04:05Z", false),
        ("2026-01-02t03:04:05z", false), ("not a time, but long", false),
    ])
    func aTimestampIsATimeWithItsOffset(_ text: String, _ isTimestamp: Bool) {
        #expect(ValueKind.isTimestamp(Array(text.utf8)) == isTimestamp)
    }

    @Test func namesThatMeetGetNumbers() throws {
        let columns = try Self.columns([
            #"{"Mass":1,"mass":2,"MASS ":3,"organization":"x","entity_id":"y","a b":1,"a_b":2,"q":{"r":1},"q__r":1}"#,
            #"{"\u00e9":1}"#, #"{"e\u0301":2}"#, #"{"mass":"heavy"}"#, #"{"mass__v2":1}"#,
        ])
        #expect(
            columns == [
                "mass number /MASS ", "mass__2 number /Mass", "a_b number /a b", "a_b__2 number /a_b",
                "entity_id__2 text /entity_id", "mass__3 number /mass", "organization__2 text /organization",
                "q__r number /q/r", "q__r__2 number /q__r", "é number /\u{E9}", "é__2 number /e\u{301}",
                "mass__v2 text /mass", "mass__v2__2 number /mass__v2",
            ]
        )
        var catalog = DatasetStorage.emptyCatalog()
        for (place, type) in ["Sample", "sample", "SAMPLE", "entities", "audit_log", "é", "e\u{0301}"].enumerated() {
            _ = catalog.observe(try Self.change(UInt64(place + 1), "null", type: type))
        }
        #expect(
            catalog.types.map(\.view) == [
                "sample", "sample__2", "sample__3", "entities__2", "audit_log__2", "é", "é__2",
            ]
        )
    }

    @Test func whatWouldEndAStatementHasNoName() throws {
        #expect(try Self.columns([#"{"a\u0000b":1,"c\nd":2,"e":3}"#]) == ["e number /e"])
        var catalog = DatasetStorage.emptyCatalog()
        #expect(catalog.observe(try Self.change(1, #"{"a":1}"#, type: "x\u{0}y")).isEmpty)
        #expect(catalog.types.isEmpty)
    }

    @Test func numbersOfTypesAndColumnsAreBounded() throws {
        var catalog = DatasetStorage.emptyCatalog()
        for number in 0..<(TypeCatalog.typesMax + 50) {
            _ = catalog.observe(try Self.change(UInt64(number + 1), #"{"a":1}"#, type: "type-\(number)"))
        }
        #expect(catalog.types.count == TypeCatalog.typesMax)
        let members = (0..<150).map { #""m\#($0)":1"# }.joined(separator: ",")
        let others = (0..<150).map { #""n\#($0)":1"# }.joined(separator: ",")
        let wide = try Self.catalog(["{\(members)}", "{\(others)}", "{\(others)}", #"{"late":1}"#])
        #expect(wide.types[0].columns.count == TypeCatalog.columnsMax)
        #expect(wide.count == 1 + TypeCatalog.columnsMax)
    }

    @Test(arguments: [1, 2, 3, 0xDA7A as UInt64])
    func whatWasFoundIsFoundAgainFromItsList(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let values = ["1", "1.5", "true", #""a""#, #""2026-01-02T03:04:05Z""#, "[1]", #"{"a":1,"B":"x"}"#, "null"]
        var catalog = DatasetStorage.emptyCatalog()
        var findings: [TypeCatalog.Finding] = []
        var changes: [EntityChange] = []
        for sequence in 1...300 {
            let members = (0..<Int.random(in: 0...4, using: &generator)).map { place in
                let name = ["a", "A", "b", "order", "a b", "organization"].randomElement(using: &generator) ?? "a"
                return #""\#(name)\#(place)":\#(values.randomElement(using: &generator) ?? "1")"#
            }
            let type = ["sample", "Sample", "batch", "group"].randomElement(using: &generator) ?? "sample"
            changes.append(try Self.change(UInt64(sequence), "{\(members.joined(separator: ","))}", type: type))
        }
        let cut = Int.random(in: 0...300, using: &generator)
        for change in changes[..<cut] { findings += catalog.observe(change) }
        var restored = DatasetStorage.emptyCatalog()
        for finding in findings { restored.restore(finding) }
        for change in changes[cut...] {
            #expect(catalog.observe(change) == restored.observe(change), "seed \(seed)")
        }
        #expect(catalog.types == restored.types, "seed \(seed)")
        for type in catalog.types {
            let names = type.columns.map(\.name)
            #expect(Set(names).count == names.count, "seed \(seed): \(names)")
        }
        #expect(OrganizationDatasets.tables(of: catalog) == OrganizationDatasets.tables(of: restored))
    }
}
