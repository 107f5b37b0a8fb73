internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("What a node knows of its workers' tables", .timeLimit(.minutes(10)))
struct WorkerKnownTablesTests {
    private static let one = OrganizationID(1)
    private static let two = OrganizationID(2)
    private static let tables = ShardTables(version: 7, tables: OrganizationDatasets.baseTables)

    @Test func keepsAnAnswerUntilItIsToldOtherwise() {
        let known = KnownTables()
        #expect(known.find(Self.one) == nil)
        known.keep(Self.tables, of: Self.one, askedIn: known.turn)
        known.keep(Self.tables, of: Self.two, askedIn: known.turn)
        #expect(known.find(Self.one) == Self.tables)
        known.forget(Self.one)
        #expect(known.find(Self.one) == nil)
        #expect(known.find(Self.two) == Self.tables)
    }

    @Test func doesNotKeepAnAnswerThatWasOnItsWayWhenTablesChanged() {
        let known = KnownTables()
        let turn = known.turn
        known.forget(Self.one)
        known.keep(Self.tables, of: Self.one, askedIn: turn)
        #expect(known.find(Self.one) == nil)
    }

    @Test func remembersABoundedNumber() {
        let known = KnownTables()
        for number in 0...UInt32(KnownTables.organizationsMax) {
            known.keep(Self.tables, of: OrganizationID(number), askedIn: known.turn)
        }
        #expect(known.find(OrganizationID(0)) == nil)
        #expect(known.find(OrganizationID(UInt32(KnownTables.organizationsMax))) == Self.tables)
    }

    @Test func readsOnlyItsOwnFrames() {
        #expect(KnownTables.decode(KnownTables.encode(OrganizationID(513))) == OrganizationID(513))
        #expect(KnownTables.decode([]) == nil)
        #expect(KnownTables.decode([0, 0, 0, 1, 0]) == nil)
    }

    @Test func aStoreTellsOfANewTableBeforeItAnswers() async throws {
        let told = Mutex<[OrganizationID]>([])
        let records = try Fixture.records(Fixture.events(20), organization: Self.one)
        try await Fixture.withDirectory { directory in
            let threads = ColumnarThreads()
            let stores = ColumnarStores(directory: directory, threads: threads, configuration: .init()) { id in
                told.withLock { $0.append(id) }
            }
            let before = try await stores.tables(of: Self.one, isCurrent: false)
            try await stores.project(records, to: Self.one, isUrgent: true)
            #expect(told.withLock { $0 }.isEmpty)
            let after = try await stores.tables(of: Self.one, isCurrent: true)
            #expect(after.tables.count > before.tables.count)
            #expect(told.withLock { $0 } == [Self.one])
            _ = try await stores.tables(of: Self.one, isCurrent: true)
            #expect(told.withLock { $0.count } == 1, "nothing has changed")
            await stores.closeAll()
            await threads.shutdown()
        }
    }
}
