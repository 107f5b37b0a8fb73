internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

/// Records with texts of all kinds, and a store that holds them.
enum TextFixture {
    static let organization = OrganizationID(1)
    /// Granules of two records, blocks of 1,024.
    static let geometry = TextGeometry(granuleShift: 1)

    private static let frequent = ["stored", "Freezer", "late", "note", "after"]

    /// Three words of many; the higher the number the rarer.
    private static func word(_ generator: inout SeededGenerator) -> String {
        if Int.random(in: 0..<4, using: &generator) > 0 { return self.frequent.randomElement(using: &generator) ?? "" }
        let rare = [
            "quarantine", "Größe", "\u{130}stanbul", "\u{212A}elvin", "🧪 vial", "ST-99", "O'Brien", "a\\\"b", "\\\\",
            "\\n",
        ]
        let number = Int.random(in: 0..<400, using: &generator)
        return number < rare.count ? rare[number] : "w\(String(number * 7919, radix: 36))x"
    }

    private static func text(_ generator: inout SeededGenerator) -> String {
        (0..<Int.random(in: 1..<4, using: &generator)).map { _ in self.word(&generator) }.joined(separator: " ")
    }

    private static func state(_ generator: inout SeededGenerator) -> String {
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: "null"
        case 1: "\"\(self.text(&generator))\""
        case 2: "{}"
        default:
            "{\"state\":\"\(self.word(&generator))\",\"sample\":\"s-\(Int.random(in: 0..<300, using: &generator))\"}"
        }
    }

    static func events(_ count: Int, _ generator: inout SeededGenerator) -> [String] {
        (0..<count).map { _ in
            let reason = Int.random(in: 0..<8, using: &generator) == 0 ? "" : ",\"reason\":\"\(self.text(&generator))\""
            let study = Int.random(in: 0..<60, using: &generator)
            let compliance =
                Int.random(in: 0..<3, using: &generator) == 0
                ? "" : ",\"compliance\":{\"study\":\"ST-\(study)\",\"by\":\"\(self.word(&generator))\"}"
            let id = Int.random(in: 0..<300, using: &generator)
            let action = Int.random(in: 0..<90, using: &generator) == 0 ? "contaminate" : "weigh"
            // One in a hundred is reserved.
            let (type, kind) =
                Int.random(in: 0..<100, using: &generator) == 0
                ? (ReservedRecords.entityType, "access_denied") : ("sample", action)
            return
                #"{"action":"\#(kind)","entity_type":"\#(type)","entity_id":"s-\#(id)","before":\#(self.state(&generator))"#
                + #","after":\#(self.state(&generator))\#(reason)\#(compliance)}"#
        }
    }

    /// A store with `count` records whose texts are indexed.
    static func with(
        _ count: Int,
        seed: UInt64,
        _ body: (OrganizationDatasets, [StoredRecord]) async throws -> Void
    ) async throws {
        var generator = SeededGenerator(seed: seed)
        let records = try Fixture.records(self.events(count, &generator), organization: self.organization)
        try await DatasetHarness.withTexts { datasets in
            try await datasets.project(records, on: .query)
            try await datasets.indexTexts()
            try await body(datasets, records)
        }
    }
}

extension OrganizationDatasets {
    func numbers(_ sql: String, texts: TextSearch? = nil) async throws -> [Int64] {
        let statement = ShardStatement(sql: sql, texts: texts)
        var numbers: [Int64] = []
        for batch in try await self.query(statement, limits: QueryLimits()).collect() {
            for row in 0..<batch.rowCount { numbers.append(batch.int64(row: row, column: 0) ?? -1) }
        }
        return numbers
    }

    /// What a search finds with the index, and without it.
    func found(_ search: RecordSearch) async throws -> (fast: [Int64], slow: [Int64]) {
        let sql = RecordFilter.statement(search)
        return (try await self.numbers(sql, texts: RecordFilter.texts(search)), try await self.numbers(sql))
    }

    /// Whether rows are left out of a search before it begins.
    func isNarrowed(_ search: RecordSearch) async throws -> Bool {
        guard let texts = RecordFilter.texts(search) else { return false }
        let (index, blocks) = (TextIndex(geometry: TextFixture.geometry), self.indexedTextBlocks)
        return try await self.store.snapshot(on: .query) {
            try index.candidates(texts, blocks: blocks, $0) != nil
        }
    }
}

@Suite("Searches of texts by their index", .timeLimit(.minutes(10)))
struct TextIndexTests {
    private static func search(
        _ parameters: [(name: String, value: String)],
        _ condition: RecordCondition? = nil
    ) throws -> RecordSearch {
        try RecordSearch(Fixture.call(parameters), condition: condition)
    }

    /// A text that is in some record, or in none, in letters of any case.
    private static func needle(_ records: [StoredRecord], _ generator: inout SeededGenerator) throws -> String {
        var text = "nothing of that"
        if Int.random(in: 0..<8, using: &generator) > 0, let record = records.randomElement(using: &generator) {
            let fields = try RecordFields(scanning: record.bytes)
            let field = [RecordField.reason, .compliance, .before, .after].randomElement(using: &generator) ?? .reason
            let whole =
                field == .reason ? fields.text(field) : fields.json(field).map { String(decoding: $0, as: UTF8.self) }
            let characters = Array(whole ?? "")
            let start = Int.random(in: 0...characters.count, using: &generator)
            text = String(characters[start...].prefix(Int.random(in: 1...14, using: &generator)))
        }
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: text = text.uppercased()
        case 1:
            text = String(
                text.map { $0 == "k" ? "\u{212A}" : $0 == "i" ? "\u{130}" : $0 }
            )
        default: break
        }
        return text.isEmpty ? "x" : text
    }

    private static func condition(
        _ records: [StoredRecord],
        _ depth: Int,
        _ generator: inout SeededGenerator
    ) throws -> RecordCondition {
        let columns: [RecordCondition.Column] = [.reason, .compliance, .before, .after]
        let id = "s-\(Int.random(in: 0..<320, using: &generator))"
        switch Int.random(in: 0..<(depth > 0 ? 8 : 5), using: &generator) {
        case 0: return .equal(.entityID, id)
        case 1: return .oneOf(.action, ["contaminate", "alert_raised"])
        case 2: return .concerns(id)
        case 3, 4:
            return .contains(columns.randomElement(using: &generator) ?? .reason, try self.needle(records, &generator))
        case 5: return .equal([.entityType, .actorID].randomElement(using: &generator) ?? .actorID, "sample")
        case 6: return .any(try (0..<2).map { _ in try self.condition(records, depth - 1, &generator) })
        default: return .all(try (0..<2).map { _ in try self.condition(records, depth - 1, &generator) })
        }
    }

    /// Whatever is searched for, however: the index leaves out nothing and adds nothing.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func whatIsFoundIsWhatAScanFinds(_ seed: UInt64) async throws {
        try await TextFixture.with(3_400, seed: seed) { datasets, records in
            var generator = SeededGenerator(seed: seed &+ 100)
            #expect(datasets.indexedTextBlocks == 3)
            var (narrowed, hits) = (0, 0)
            for round in 0..<60 {
                var parameters: [(name: String, value: String)] = []
                if Bool.random(using: &generator) {
                    parameters.append(("reason", try Self.needle(records, &generator)))
                }
                if Int.random(in: 0..<3, using: &generator) == 0 {
                    let text = try Self.needle(records, &generator)
                    parameters.append(("compliance", text.hasPrefix("/") ? "x" : text))
                }
                if Int.random(in: 0..<5, using: &generator) == 0 { parameters.append(("entity_id", "s-17")) }
                if Bool.random(using: &generator) { parameters.append(("order", "desc")) }
                if Bool.random(using: &generator) {
                    parameters.append(("cursor", "\(Int.random(in: 1...3_600, using: &generator))"))
                }
                parameters.append(("limit", "\([1, 7, 100, 1000].randomElement(using: &generator) ?? 1)"))
                let condition =
                    Bool.random(using: &generator) ? try Self.condition(records, 2, &generator) : nil
                var search = try Self.search(parameters, condition)
                if Bool.random(using: &generator) { search = search.withoutReserved }
                // Without a filter no statement is run.
                guard search.hasFilter else { continue }
                let found = try await datasets.found(search)
                #expect(
                    found.fast == found.slow,
                    "seed \(seed), round \(round): \(parameters) \(String(describing: condition))"
                )
                if try await datasets.isNarrowed(search) { narrowed += 1 }
                hits += found.slow.isEmpty ? 0 : 1
            }
            #expect(narrowed > 10 && hits > 10, "seed \(seed): \(narrowed) narrowed, \(hits) found something")
        }
    }

    @Test func aQuestionAboutOneEntityReadsFewRecords() async throws {
        try await TextFixture.with(3_100, seed: 9) { datasets, _ in
            for condition in [RecordCondition.concerns("s-250"), .equal(.entityID, "s-250")] {
                let search = try Self.search([], condition)
                #expect(try await datasets.isNarrowed(search), "\(condition)")
                let found = try await datasets.found(search)
                #expect(found.fast == found.slow && !found.slow.isEmpty)
            }
            // Where a part of an alternative is not indexed, all is read.
            let search = try Self.search([], .any([.equal(.actorID, "x"), .contains(.reason, "quarantine")]))
            #expect(RecordFilter.texts(search) == nil)
            #expect(try await !datasets.isNarrowed(try Self.search([("reason", "stored")])))
        }
    }

    /// A search that only the index can be wrong about finds less when the index is: so the comparison above would see it.
    @Test func anIndexThatLiesHidesRecords() async throws {
        try await TextFixture.with(2_100, seed: 4) { datasets, _ in
            let search = try Self.search([("reason", "quarantine")])
            let before = try await datasets.found(search)
            #expect(before.fast == before.slow && before.slow.contains { $0 < 2_048 })
            try await datasets.store.execute("DELETE FROM _texts")
            let found = try await datasets.found(search)
            #expect(found.fast == found.slow.filter { $0 >= 2_048 } && found.fast != found.slow)
        }
    }

    @Test func recordsThatComeAreFoundBeforeTheyAreIndexed() async throws {
        var generator = SeededGenerator(seed: 11)
        var events = TextFixture.events(5_200, &generator)
        for place in [1_020, 1_023, 1_024, 2_047, 2_048, 5_100] {
            events[place] = #"{"action":"weigh","entity_type":"sample","entity_id":"s","reason":"Unheard of"}"#
        }
        let records = try Fixture.records(events, organization: TextFixture.organization)
        try await DatasetHarness.withTexts { datasets in
            let search = try Self.search([("reason", "unHEARD")])
            for (start, end) in [(0, 1_022), (1_022, 1_023), (1_023, 2_047), (2_047, 2_050), (2_050, 5_200)] {
                try await datasets.project(Array(records[start..<end]), on: .query)
                for _ in 0..<2 {
                    let found = try await datasets.found(search)
                    #expect(found.fast == found.slow, "\(end) records")
                    try await datasets.indexTexts(blocksMax: 1)
                }
                #expect(datasets.indexedTextBlocks <= UInt64(end + 1) / 1_024)
            }
            try await datasets.indexTexts()
            #expect(datasets.indexedTextBlocks == 5)
            #expect(try await datasets.isNarrowed(search))
            #expect(
                try await datasets.numbers(RecordFilter.statement(search), texts: RecordFilter.texts(search)).count == 6
            )
        }
    }

    @Test func usersSeeNoTableOfIt() async throws {
        try await TextFixture.with(1_100, seed: 5) { datasets, _ in
            let names = try await datasets.tables(isCurrent: true).tables.map(\.name)
            #expect(!names.contains { $0.hasPrefix("_") })
        }
    }

    @Test func aShortStoreHasNoTablesOfIt() async throws {
        try await TextFixture.with(1_000, seed: 5) { datasets, _ in
            #expect(datasets.indexedTextBlocks == 0)
            await #expect(throws: ColumnarError.self) { try await datasets.numbers("SELECT block FROM _texts") }
            let found = try await datasets.found(try Self.search([("reason", "quarantine")]))
            #expect(found.fast == found.slow)
        }
    }

    /// Stores of programs before the index, of another layout, and those that are opened again.
    @Test func itIsKeptOrMadeAnewWhenAStoreIsOpened() async throws {
        var generator = SeededGenerator(seed: 12)
        let records = try Fixture.records(TextFixture.events(2_100, &generator), organization: TextFixture.organization)
        try await Fixture.withDirectory { directory in
            let damages: [(String?, UInt64)] = [
                (nil, 0), (nil, 2), ("UPDATE _text_blocks SET layout = layout + 256", 0),
                ("DELETE FROM _text_blocks", 0), ("DROP TABLE _texts; DROP TABLE _text_blocks", 0), (nil, 2),
            ]
            for (place, (damage, expected)) in damages.enumerated() {
                try await DatasetHarness.withTexts(path: directory + "/one.duckdb") { datasets in
                    if place == 0 { try await datasets.project(records, on: .query) }
                }
                if let damage {
                    try await DatasetHarness.withTexts(path: directory + "/one.duckdb") { datasets in
                        try await datasets.store.execute(damage)
                    }
                }
                try await DatasetHarness.withTexts(path: directory + "/one.duckdb") { datasets in
                    #expect(datasets.indexedTextBlocks == expected, "\(damage ?? "\(place)")")
                    try await datasets.indexTexts()
                    #expect(datasets.indexedTextBlocks == 2)
                    let blocks = try await datasets.numbers(
                        "SELECT DISTINCT CAST(block AS BIGINT) b FROM _texts ORDER BY b"
                    )
                    #expect(blocks == [0, 1])
                    let found = try await datasets.found(try Self.search([("reason", "quarantine")]))
                    #expect(found.fast == found.slow)
                }
            }
        }
    }

    @Test func aStoreThatLacksARecordIsNotIndexed() async throws {
        for damage in [
            "DELETE FROM audit_log WHERE sequence = 700",
            "INSERT INTO audit_log SELECT * FROM audit_log WHERE sequence = 700",
        ] {
            var generator = SeededGenerator(seed: 13)
            let records = try Fixture.records(
                TextFixture.events(1_100, &generator),
                organization: TextFixture.organization
            )
            try await DatasetHarness.withTexts { datasets in
                try await datasets.project(records, on: .query)
                try await datasets.store.execute(damage)
                let error = await #expect(throws: ColumnarError.self) { try await datasets.indexTexts() }
                #expect(error?.code == .damaged)
                #expect(datasets.indexedTextBlocks == 0)
            }
        }
    }

    /// In quiet times, and while few records come, but not while many do.
    @Test func aNodeIndexesTextsWhenAStoreIsQuiet() async throws {
        var generator = SeededGenerator(seed: 14)
        let records = try Fixture.records(
            TextFixture.events(14_000, &generator),
            organization: TextFixture.organization
        )
        try await Fixture.withDirectory { directory in
            let threads = ColumnarThreads()
            let stores = ColumnarStores(
                directory: directory,
                threads: threads,
                configuration: ColumnarConfiguration(memoryLimitBytes: 64 << 20),
                geometry: TextFixture.geometry
            )
            func blocks() async throws -> UInt64 {
                try await stores.withDatasets(TextFixture.organization) { $0.indexedTextBlocks }
            }
            try await stores.project(Array(records[..<1_500]), to: TextFixture.organization, isUrgent: true)
            await stores.foldQuiet()
            #expect(try await blocks() == 0)
            try await stores.project(Array(records[1_500..<1_501]), to: TextFixture.organization, isUrgent: true)
            await stores.foldQuiet()
            #expect(try await blocks() == 1)
            try await stores.project(Array(records[1_501...]), to: TextFixture.organization, isUrgent: true)
            await stores.foldQuiet()
            #expect(try await blocks() == 1)
            for _ in 0..<10 { await stores.foldQuiet() }
            #expect(try await blocks() == 13)
            await stores.closeAll()
            await threads.shutdown()
        }
    }
}

extension DatasetHarness {
    /// An empty store, or one that is there, with the geometry of ``TextFixture``.
    static func withTexts(
        path: String? = nil,
        _ body: (OrganizationDatasets) async throws -> Void
    ) async throws {
        try await self.with(path: path, geometry: TextFixture.geometry) { try await body($0.datasets) }
    }
}
