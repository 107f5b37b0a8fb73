internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

/// A store with its datasets, and what its records should make of them.
struct DatasetHarness {
    let datasets: OrganizationDatasets

    static func with(
        path: String? = nil,
        geometry: TextGeometry = .standard,
        _ body: (DatasetHarness) async throws -> Void
    ) async throws {
        let threads = ColumnarThreads()
        do {
            let store = try await ColumnarStore.open(path.map { .file($0) } ?? .memory, threads: threads)
            do {
                let datasets = try await OrganizationDatasets.open(store, geometry: geometry)
                try await body(DatasetHarness(datasets: datasets))
            } catch {
                await store.close()
                throw error
            }
            await store.close()
        } catch {
            await threads.shutdown()
            throw error
        }
        await threads.shutdown()
    }

    func rows(_ sql: String, asOf: QueryMoment? = nil) async throws -> [[ArrowValue]] {
        try await self.answer(sql, asOf: asOf).rows
    }

    func answer(
        _ sql: String,
        asOf: QueryMoment? = nil
    ) async throws -> (rows: [[ArrowValue]], position: UInt64) {
        let result = try await self.datasets.query(ShardStatement(sql: sql, asOf: asOf), limits: QueryLimits())
        var rows: [[ArrowValue]] = []
        for batch in try await result.collect() {
            for row in 0..<batch.rowCount { rows.append(batch.columns.map { $0.value(row) }) }
        }
        return (rows, result.position)
    }

    /// Events on few entities, whole states and changes alike.
    static func events(_ count: Int, seed: UInt64) -> [String] {
        var generator = SeededGenerator(seed: seed)
        let values = ["1", "2.5", "true", #""a""#, #""it's""#, #""2026-01-02T03:04:05.5+02:00""#, "[1,2]", #"{"x":1}"#]
        func state() -> String {
            let names = ["a", "b", "due", "Mixed case", "q'uote", "sla/sh", "til~de"].shuffled(using: &generator)
            let members = names.prefix(Int.random(in: 0...3, using: &generator)).map {
                "\"\($0)\":\(values.randomElement(using: &generator) ?? "1")"
            }
            return ["{\(members.joined(separator: ","))}", "null", #""text""#].prefix(
                Int.random(in: 1...12, using: &generator) < 11 ? 1 : 3
            ).randomElement(using: &generator) ?? "null"
        }
        return (0..<count).map { _ in
            let action =
                ["create", "update", "update", "archive", "restore", "delete", "weigh"]
                .randomElement(using: &generator) ?? "update"
            let outcome = ["success", "success", "success", "denied", "failed"].randomElement(using: &generator) ?? ""
            let type = ["sample", "Sample", "order"].randomElement(using: &generator) ?? "sample"
            let id = Int.random(in: 0..<9, using: &generator)
            return #"{"action":"\#(action)","entity_type":"\#(type)","entity_id":"s-\#(id)","before":\#(state()),"#
                + #""after":\#(state()),"outcome":"\#(outcome)"}"#
        }
    }
}

@Suite("Entities of an organization's store", .timeLimit(.minutes(10)))
struct DatasetEntityTests {
    private let organization = OrganizationID(1)

    private static let entityColumns = """
        entity_type, entity_id, status, state, CAST(version AS BIGINT), CAST(first_sequence AS BIGINT), \
        CAST(last_sequence AS BIGINT), epoch_us(first_recorded_at), epoch_us(last_recorded_at), last_action, last_actor
        """

    /// The rows of `entities` by the fold of the records.
    private static func expected(_ state: OrganizationState) -> [[ArrowValue]] {
        state.sorted.map { entity in
            [
                .string(String(decoding: entity.name.type, as: UTF8.self)),
                .string(String(decoding: entity.name.id, as: UTF8.self)), .string(entity.status.rawValue),
                entity.value.isNull
                    ? .null : .string(String(decoding: CanonicalJSON.encode(entity.value), as: UTF8.self)),
                .int(Int64(entity.version)), .int(Int64(entity.firstSequence.rawValue)),
                .int(Int64(entity.lastSequence.rawValue)), .int(entity.firstRecordedAt.rawValue),
                .int(entity.lastRecordedAt.rawValue), .string(entity.lastAction), .string(entity.lastActor),
            ]
        }
    }

    private static func states(_ records: [StoredRecord]) throws -> [OrganizationState] {
        var state = OrganizationState()
        var states = [state]
        for record in records {
            try state.apply(try EntityChange(record.bytes))
            states.append(state)
        }
        return states
    }

    private static let entitiesStatement = "SELECT \(entityColumns) FROM entities ORDER BY entity_type, entity_id"

    @Test(arguments: [1, 2, 3, 0xE17 as UInt64])
    func theyAreTheFoldOfTheRecordsAtEveryMoment(_ seed: UInt64) async throws {
        let records = try Fixture.records(DatasetHarness.events(120, seed: seed), organization: self.organization)
        let states = try Self.states(records)
        var generator = SeededGenerator(seed: seed)
        try await DatasetHarness.with { harness in
            var next = 0
            while next < records.count {
                let end = min(records.count, next + Int.random(in: 1...40, using: &generator))
                try await harness.datasets.project(Array(records[next..<end]), on: .query)
                if Bool.random(using: &generator) { try await harness.datasets.fold() }
                next = end
            }
            let now = try await harness.answer(Self.entitiesStatement)
            #expect(now.rows == Self.expected(states[120]), "seed \(seed)")
            #expect(now.position == 120)
            for sequence in stride(from: 0, through: 120, by: 7) {
                let moment = QueryMoment.sequence(SequenceNumber(UInt64(sequence)))
                let past = try await harness.answer(Self.entitiesStatement, asOf: moment)
                #expect(past.rows == Self.expected(states[sequence]), "seed \(seed), as of \(sequence)")
                #expect(past.position == UInt64(sequence))
                let time = QueryMoment.time(Timestamp(microseconds: Int64(sequence) * 1_000_000 + 500_000))
                let sameTime = try await harness.answer(Self.entitiesStatement, asOf: time)
                #expect(sameTime.rows == past.rows && sameTime.position == UInt64(sequence), "seed \(seed)")
            }
        }
    }

    @Test(arguments: [4, 5 as UInt64])
    func historyHasOneRowForEachStateAndNoGap(_ seed: UInt64) async throws {
        let records = try Fixture.records(DatasetHarness.events(150, seed: seed), organization: self.organization)
        let states = try Self.states(records)
        try await DatasetHarness.with { harness in
            for start in stride(from: 0, to: 150, by: 50) {
                try await harness.datasets.project(Array(records[start..<start + 50]), on: .query)
                try await harness.datasets.fold()
            }
            let rows = try await harness.rows("SELECT CAST(sequence AS BIGINT), state FROM entity_history ORDER BY 1")
            var expected: [[ArrowValue]] = []
            for (place, record) in records.enumerated() {
                let change = try EntityChange(record.bytes)
                guard change.outcome == .success, let state = states[place + 1][change.name] else { continue }
                let text = String(decoding: CanonicalJSON.encode(state.value), as: UTF8.self)
                expected.append([.int(Int64(place + 1)), state.value.isNull ? .null : .string(text)])
            }
            #expect(rows == expected, "seed \(seed)")
            let gaps = try await harness.rows(
                """
                SELECT count(*) FROM (SELECT *, lead(sequence) OVER entity AS next, lead(valid_from) OVER entity AS later,
                row_number() OVER entity AS number FROM entity_history
                WINDOW entity AS (PARTITION BY entity_type, entity_id ORDER BY sequence))
                WHERE valid_to_sequence IS DISTINCT FROM next OR valid_to IS DISTINCT FROM later OR version <> number
                """
            )
            #expect(gaps == [[.int(0)]], "seed \(seed)")
            let past = try await harness.rows(
                "SELECT count(*) FROM entity_history WHERE valid_to_sequence IS NULL",
                asOf: .sequence(SequenceNumber(75))
            )
            #expect(past == [[.int(Int64(states[75].count))]], "seed \(seed)")
        }
    }

    @Test func viewsShowTheStatesWithTypedColumns() async throws {
        let events = [
            #"{"action":"create","entity_type":"Test Sample","entity_id":"1","after":{"grams":1,"due":"2026-01-02T03:04:05.5+02:00","ok":true,"it's \"odd\"":"x","'́; --":"y","a/b~c":{"d":[1]}}}"#,
            #"{"action":"update","entity_type":"Test Sample","entity_id":"1","after":{"grams":1.5}}"#,
            #"{"action":"create","entity_type":"Test Sample","entity_id":"2","after":{"grams":"heavy","due":"soon","ok":null}}"#,
            #"{"action":"delete","entity_type":"x'́; DROP VIEW test_sample; --","entity_id":"3","after":{"q":1}}"#,
        ]
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(
                try Fixture.records(events, organization: self.organization),
                on: .query
            )
            // The view is there although nothing was folded before.
            let rows = try await harness.rows(
                """
                SELECT entity_id, entity_status, grams, grams__v2, epoch_us(due), due__v2, ok, it_s_odd, a_b_c__d
                FROM test_sample ORDER BY entity_id
                """
            )
            let due = try #require(Timestamp("2026-01-02T01:04:05.5Z")).rawValue
            #expect(
                rows == [
                    [
                        .string("1"), .string("present"), .double(1.5), .null, .int(due),
                        .string("2026-01-02T03:04:05.5+02:00"), .bool(true), .string("x"), .string("[1]"),
                    ],
                    [
                        .string("2"), .string("present"), .null, .string("heavy"), .null, .string("soon"), .null, .null,
                        .null,
                    ],
                ]
            )
            let early = try await harness.rows("SELECT grams FROM test_sample", asOf: .sequence(SequenceNumber(1)))
            #expect(early == [[.double(1)]])
            let tables = try await harness.datasets.tables(isCurrent: true)
            #expect(tables.tables.map(\.name).count == 5)
            #expect(tables.tables.filter(\.comment.isEmpty).isEmpty)
            #expect(tables.tables.flatMap(\.columns).filter(\.comment.isEmpty).isEmpty)
            for table in tables.tables {
                let fields = try await harness.datasets.query(
                    ShardStatement(sql: "SELECT * FROM \(table.name)"),
                    limits: QueryLimits()
                )
                #expect(fields.schema.fields.map(\.name) == table.columns.map(\.name), "\(table.name)")
                _ = try await fields.collect()
            }
        }
    }

    @Test func onlyWhatReadsEntitiesFoldsThem() async throws {
        let records = try Fixture.records(DatasetHarness.events(20, seed: 9), organization: self.organization)
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(records, on: .query)
            #expect(try await harness.rows("SELECT count(*) FROM audit_log") == [[.int(20)]])
            #expect(try await harness.rows("WITH a AS (SELECT 1 AS x) SELECT x FROM a") == [[.int(1)]])
            #expect(harness.datasets.foldedPosition == .zero)
            let before = try await harness.datasets.tables(isCurrent: false)
            #expect(before.tables.count == 3)
            _ = try await harness.rows("SELECT count(*) FROM entity_history")
            #expect(harness.datasets.foldedPosition == SequenceNumber(20))
            let after = try await harness.datasets.tables(isCurrent: false)
            #expect(after.tables.count > 3 && after.version > before.version)
        }
    }

    @Test func aMomentThatHasNotComeIsRefused() async throws {
        let records = try Fixture.records(DatasetHarness.events(5, seed: 9), organization: self.organization)
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(records, on: .query)
            for table in ["audit_log", "entities"] {
                await #expect(throws: ColumnarError.self) {
                    _ = try await harness.rows("SELECT * FROM \(table)", asOf: .sequence(SequenceNumber(6)))
                }
                let none = try await harness.rows(
                    "SELECT count(*) FROM \(table)",
                    asOf: .time(Timestamp(microseconds: 1))
                )
                #expect(none == [[.int(0)]])
            }
        }
    }

    @Test func aStoreFromBeforeIsBroughtUp() async throws {
        let records = try Fixture.records(DatasetHarness.events(30, seed: 3), organization: self.organization)
        let states = try Self.states(records)
        try await Fixture.withDirectory { directory in
            let path = directory + "/old.duckdb"
            let threads = ColumnarThreads()
            let store = try await ColumnarStore.open(.file(path), threads: threads)
            try await store.createTable(AuditLogDataset.table)
            try await store.ingest(
                table: AuditLogDataset.table.name,
                batch: try AuditLogDataset.batch(of: records),
                position: 30
            )
            await store.close()
            await threads.shutdown()
            for layout in [DatasetStorage.layout, 0, DatasetStorage.layout + 1] {
                try await DatasetHarness.with(path: path) { (harness: DatasetHarness) async throws in
                    #expect(try await harness.rows(Self.entitiesStatement) == Self.expected(states[30]))
                    try await harness.datasets.store.execute("UPDATE _datasets SET layout = \(layout)")
                }
                try await DatasetHarness.with(path: path) { (harness: DatasetHarness) async throws in
                    let expected = SequenceNumber(layout == DatasetStorage.layout ? 30 : 0)
                    #expect(harness.datasets.foldedPosition == expected)
                    #expect(try await harness.rows(Self.entitiesStatement) == Self.expected(states[30]))
                    #expect(try await harness.rows("SELECT count(*) FROM sample") != [[.int(0)]])
                }
            }
        }
    }

    @Test func aRowThatIsMissingStopsTheFold() async throws {
        let records = try Fixture.records(DatasetHarness.events(10, seed: 3), organization: self.organization)
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(records, on: .query)
            try await harness.datasets.store.execute("DELETE FROM audit_log WHERE sequence = 4")
            await #expect(throws: ColumnarError.self) { try await harness.datasets.fold() }
            #expect(harness.datasets.foldedPosition == .zero)
        }
    }

    @Test func anAnswerIsOfOneSequenceWhileRecordsCome() async throws {
        let records = try Fixture.records(DatasetHarness.events(600, seed: 8), organization: self.organization)
        let states = try Self.states(records)
        let successes = try records.map { try EntityChange($0.bytes).outcome == .success ? 1 : 0 }
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(Array(records[..<10]), on: .query)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for start in stride(from: 10, to: 600, by: 5) {
                        try await harness.datasets.project(Array(records[start..<start + 5]), on: .ingest)
                    }
                }
                for _ in 0..<3 {
                    group.addTask {
                        for _ in 0..<15 {
                            let answer = try await harness.answer(
                                """
                                SELECT (SELECT count(*) FROM entities), (SELECT count(*) FROM entity_history),
                                (SELECT count(*) FROM audit_log)
                                """
                            )
                            let at = Int(answer.position)
                            #expect(
                                answer.rows == [
                                    [
                                        .int(Int64(states[at].count)), .int(Int64(successes[..<at].reduce(0, +))),
                                        .int(Int64(at)),
                                    ]
                                ],
                                "at \(at)"
                            )
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}
