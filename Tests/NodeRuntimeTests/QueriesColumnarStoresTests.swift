internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("Columnar stores of a node", .timeLimit(.minutes(10)))
struct QueriesColumnarStoresTests {
    private static func withStores(
        openMax: Int = ColumnarStores.openMaxDefault,
        _ body: (ColumnarStores, String) async throws -> Void
    ) async throws {
        try await Fixture.withDirectory { directory in
            let threads = ColumnarThreads()
            let stores = ColumnarStores(
                directory: directory,
                threads: threads,
                configuration: ColumnarConfiguration(memoryLimitBytes: 64 << 20),
                openMax: openMax
            )
            do {
                try await body(stores, directory)
            } catch {
                await stores.closeAll()
                await threads.shutdown()
                throw error
            }
            await stores.closeAll()
            await threads.shutdown()
        }
    }

    private static func rows(_ store: ColumnarStore, _ sql: String) async throws -> [[ArrowValue]] {
        var rows: [[ArrowValue]] = []
        for batch in try await store.query(sql).collect() {
            for row in 0..<batch.rowCount { rows.append(batch.columns.map { $0.value(row) }) }
        }
        return rows
    }

    private static func count(_ stores: ColumnarStores, _ organization: OrganizationID) async throws -> ArrowValue? {
        let store = try await stores.lend(organization)
        let rows = try await Self.rows(store, "SELECT CAST(count(*) AS BIGINT) FROM audit_log")
        await stores.release(store, of: organization)
        return rows.first?.first
    }

    private let one = OrganizationID(1)
    private let two = OrganizationID(2)
    private let three = OrganizationID(3)

    @Test func everyFieldOfARecordHasItsColumn() async throws {
        let full =
            #"{"action":"weigh","entity_type":"sample","entity_id":"s-1","actor":{"kind":"user","id":"u-1","#
            + #""name":"Änn","role":"chemist","on_behalf_of":"u-2"},"occurred_at":"1970-01-01T00:00:00.5Z","#
            + #""before":null,"after":{"grams":1.5,"tags":["a"]},"reason":"a \"spill\"\n","severity":"warning","#
            + #""compliance":{"gxp":true},"outcome":"denied"}"#
        let least = #"{"action":"a","entity_type":"t","entity_id":"1","after":true}"#
        let records = try Fixture.records([full, least], organization: self.one)
        try await Self.withStores { stores, _ in
            try await stores.project(records, to: self.one, isUrgent: true)
            let store = try await stores.lend(self.one)
            let names = try await store.query("SELECT * FROM audit_log LIMIT 0").schema.fields.map(\.name)
            #expect(names == AuditLogDataset.table.columns.map(\.name))
            #expect(names.count == 30)
            let rows = try await Self.rows(
                store,
                """
                SELECT CAST(sequence AS BIGINT), epoch_us(recorded_at), epoch_us(occurred_at),
                    * EXCLUDE (sequence, recorded_at, occurred_at) FROM audit_log ORDER BY sequence
                """
            )
            await stores.release(store, of: self.one)
            let checksums = records.map { LedgerHash.leaf($0.bytes).hex }
            func texts(_ values: [String?]) -> [ArrowValue] { values.map { $0.map { .string($0) } ?? .null } }
            #expect(
                rows.first == [.int(1), .int(1_000_000), .int(500_000)]
                    + texts([
                        "lab-a", "user", "u-1", "Änn", "chemist", "u-2", "weigh", "sample", "s-1", nil,
                        #"{"grams":1.5,"tags":["a"]}"#, "a \"spill\"\n", "warning", nil, nil, nil, nil, nil,
                        #"{"gxp":true}"#, "denied", "r-1",
                        "api", "127.0.0.1:5", "test", "bearer", String(repeating: "0", count: 64), checksums[0],
                    ])
            )
            #expect(
                rows.last == [.int(2), .int(2_000_000), .null]
                    + texts([
                        "lab-a", "api_key", "t-1", "scanner", "writer", nil, "a", "t", "1", nil, "true", nil, "info",
                        nil, nil, nil, nil, nil, nil, "success", "r-1", "api", "127.0.0.1:5", "test", "bearer",
                        checksums[0], checksums[1],
                    ])
            )
        }
    }

    @Test func aDamagedRecordIsRefusedWhole() throws {
        var records = try Fixture.records(Fixture.events(2), organization: self.one)
        records[1] = StoredRecord(sequence: SequenceNumber(2), bytes: Array(records[1].bytes.dropLast()))
        #expect(throws: LedgerError.self) { try AuditLogDataset.batch(of: records) }
    }

    @Test func recordsThatComeTwiceAreThereOnce() async throws {
        let records = try Fixture.records(Fixture.events(5), organization: self.one)
        try await Self.withStores { stores, _ in
            #expect(try await stores.position(of: self.one) == .zero)
            try await stores.project(records, to: self.one, isUrgent: true)
            try await stores.project(records, to: self.one, isUrgent: true)
            try await stores.project([], to: self.one, isUrgent: false)
            #expect(try await stores.position(of: self.one) == SequenceNumber(5))
            #expect(try await Self.count(stores, self.one) == .int(5))
        }
    }

    @Test func theLeastRecentlyUsedIsClosedAndItsDataStay() async throws {
        let records = try Fixture.records(Fixture.events(3), organization: self.one)
        try await Self.withStores(openMax: 2) { stores, _ in
            try await stores.project(records, to: self.one, isUrgent: true)
            let first = try await stores.lend(self.one)
            await stores.release(first, of: self.one)
            for other in [self.two, self.three] {
                let events = try Fixture.records(Fixture.events(1), organization: other)
                try await stores.project(events, to: other, isUrgent: true)
            }
            #expect(await stores.openCount == 2)
            let again = try await stores.lend(self.one)
            #expect(again !== first)
            #expect(try await again.position() == 3)
            await stores.release(again, of: self.one)
            #expect(await stores.openCount == 2)
        }
    }

    @Test func whatIsLentStaysOpenOverTheLimit() async throws {
        try await Self.withStores(openMax: 1) { stores, _ in
            let first = try await stores.lend(self.one)
            let second = try await stores.lend(self.two)
            #expect(await stores.openCount == 2)
            #expect(try await first.position() == 0)
            #expect(try await second.position() == 0)
            await stores.release(first, of: self.one)
            #expect(await stores.openCount == 1)
            #expect(try await second.position() == 0)
            await stores.release(second, of: self.two)
            #expect(await stores.openCount == 1)
        }
    }

    @Test func manyWhoAskAtOnceGetTheSameStore() async throws {
        try await Self.withStores { stores, _ in
            let organization = self.one
            try await withThrowingTaskGroup(of: ColumnarStore.self) { group in
                for _ in 0..<8 { group.addTask { try await stores.lend(organization) } }
                var lent: [ColumnarStore] = []
                for try await store in group { lent.append(store) }
                #expect(lent.allSatisfy { $0 === lent[0] })
                #expect(await stores.openCount == 1)
                for store in lent { await stores.release(store, of: organization) }
            }
        }
    }

    @Test func anOrganizationWithoutRecordsIsAnsweredWithoutAStore() async throws {
        let records = try Fixture.records(Fixture.events(3), organization: self.one)
        try await Self.withStores { stores, directory in
            func count(_ organization: OrganizationID, _ table: String) async throws -> (ArrowValue?, SequenceNumber) {
                let question = StoreQuestion(sql: "SELECT CAST(count(*) AS BIGINT) FROM \(table)")
                let result = try await stores.query(question, of: organization)
                return (try await result.batches.collect().first?.value(row: 0, column: 0), result.position)
            }
            for table in ["audit_log", "entities", "entity_history"] {
                let (rows, position) = try await count(self.one, table)
                #expect(rows == .int(0))
                #expect(position == .zero)
            }
            let (position, tables) = (
                try await stores.position(of: self.one), try await stores.tables(of: self.one, isCurrent: true)
            )
            #expect(position == .zero)
            #expect(await stores.openCount == 0)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
            await #expect(throws: ColumnarError.self) { _ = try await count(self.one, "no_such_table") }
            // The first records make its store, and the others stay without one.
            try await stores.project(records, to: self.one, isUrgent: true)
            let (rows, after) = try await count(self.one, "audit_log")
            #expect(rows == .int(3))
            #expect(after == SequenceNumber(3))
            let (none, _) = try await count(self.two, "audit_log")
            #expect(none == .int(0))
            #expect(await stores.openCount == 1)
            // Without a store the tables are those that every store begins with.
            let made = try await stores.tables(of: self.three, isCurrent: false)
            #expect(made == tables)
            try await stores.reset(self.one)
            #expect(try await count(self.one, "audit_log").0 == .int(0))
        }
    }

    @Test func resetDeletesTheFiles() async throws {
        let records = try Fixture.records(Fixture.events(3), organization: self.one)
        try await Self.withStores { stores, directory in
            try await stores.project(records, to: self.one, isUrgent: true)
            let others = try Fixture.records(Fixture.events(1), organization: self.two)
            try await stores.project(others, to: self.two, isUrgent: true)
            try await stores.reset(self.one)
            let files = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(files.filter { $0.hasPrefix("organization-1.") } == [])
            #expect(files.contains("organization-2.duckdb"))
            #expect(try await stores.position(of: self.one) == .zero)
            try await stores.project(records, to: self.one, isUrgent: true)
            #expect(try await Self.count(stores, self.one) == .int(3))
        }
    }

    @Test func aFileThatIsNoColumnarStoreIsRefusedAndResetHealsIt() async throws {
        try await Self.withStores { stores, directory in
            let path = directory + "/organization-1.duckdb"
            try Data(repeating: 7, count: 4096).write(to: URL(filePath: path))
            await #expect(throws: ColumnarError.self) { try await stores.position(of: self.one) }
            try await stores.reset(self.one)
            #expect(try await stores.position(of: self.one) == .zero)
        }
    }

    /// A result that is still held when its store is reset must not count against the store that comes after.
    @Test func aStoreLentBeforeAResetDoesNotCountForTheNext() async throws {
        try await Self.withStores(openMax: 1) { stores, _ in
            let before = try await stores.lend(self.one)
            try await stores.reset(self.one)
            let after = try await stores.lend(self.one)
            await stores.release(before, of: self.one)
            _ = try await stores.position(of: self.two)
            #expect(try await after.position() == 0, "it is in use and stays open")
            await stores.release(after, of: self.one)
        }
    }
}
