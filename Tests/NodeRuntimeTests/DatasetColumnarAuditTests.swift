internal import AuditLedger
internal import Columnar
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("Columnar stores compared with their ledgers", .timeLimit(.minutes(10)))
struct DatasetColumnarAuditTests {
    private static let organization = OrganizationID(1)

    /// What the comparison finds after `damage` was done to the organization's columnar store.
    private static func outcome(_ damage: String?, count: Int = 60) async throws -> ColumnarAudit.Outcome {
        let store = InMemoryStore()
        var appender = LedgerAppender(head: LedgerHead(empty: self.organization))
        var batch = WriteBatch()
        var records: [StoredRecord] = []
        for (place, event) in DatasetHarness.events(count, seed: 5).enumerated() {
            let stamp = Timestamp(microseconds: Int64(place + 1) * 1_000_000)
            let record = appender.append(try Fixture.draft(event), stampedAt: stamp, into: &batch)
            records.append(StoredRecord(sequence: record.sequence, bytes: record.bytes))
        }
        appender.finish(into: &batch)
        try store.write(batch)
        let threads = try StoreThreads(name: "columnar-audit-test", count: 1, queuedMax: 8)
        let columnarThreads = ColumnarThreads()
        let outcome = try await Fixture.withDirectory { directory in
            let stores = ColumnarStores(
                directory: directory,
                threads: columnarThreads,
                configuration: ColumnarConfiguration(memoryLimitBytes: 64 << 20),
                geometry: TextFixture.geometry
            )
            try await stores.project(records, to: self.organization, isUrgent: true)
            try await stores.withDatasets(self.organization) { datasets in
                try await datasets.fold()
                try await datasets.indexTexts()
                if let damage { try await datasets.store.execute(damage) }
            }
            let audit = ColumnarAudit(
                store: store,
                threads: threads,
                stores: stores,
                columnarThreads: columnarThreads,
                geometry: TextFixture.geometry
            )
            let outcome = try await audit.run(self.organization)
            await stores.closeAll()
            return outcome
        }
        await columnarThreads.shutdown()
        return outcome
    }

    @Test func everyRowOfEveryTableIsCounted() async throws {
        let outcome = try await Self.outcome(nil)
        #expect(outcome.finding == nil)
        #expect(outcome.rows > 60)
    }

    @Test func aWrongIndexOfTextsIsFoundWithItsPlace() async throws {
        let right = try await Self.outcome(nil, count: 1_100)
        #expect(right.finding == nil)
        let damage = "DELETE FROM _texts WHERE page = (SELECT max(page) FROM _texts)"
        let finding = try #require(try await Self.outcome(damage, count: 1_100).finding)
        #expect(finding.kind == .staleProjection)
        #expect(finding.place == "columnar _texts/0")
    }

    @Test(arguments: [
        ("DELETE FROM audit_log WHERE sequence = 7", "audit_log/7"),
        ("INSERT INTO audit_log SELECT * REPLACE (61 AS sequence) FROM audit_log WHERE sequence = 7", "audit_log/61"),
        ("UPDATE entities SET state = '{\"forged\":1}'", "entity_history/"),
        ("UPDATE _entity_history SET status = 'deleted' WHERE status = 'present'", "entity_history/"),
        ("DELETE FROM _columns", "entity_history/"),
    ])
    func aWrongRowIsFoundWithItsPlace(_ damage: String, _ place: String) async throws {
        let finding = try #require(try await Self.outcome(damage).finding)
        #expect(finding.kind == .staleProjection)
        #expect(finding.place.hasPrefix("columnar \(place)"), "\(finding.place)")
    }
}
