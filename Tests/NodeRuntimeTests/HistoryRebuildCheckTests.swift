internal import AuditLedger
internal import Columnar
internal import Laboratory
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("Rebuilding, over a ledger and its columnar store", .timeLimit(.minutes(10)))
struct HistoryRebuildCheckTests {
    private static let organization = OrganizationID(1)

    /// What rebuilding comes to after `damage` was done to the organization's columnar store.
    private static func result(_ damage: String?) async throws -> RebuildCheck.Result {
        let store = InMemoryStore()
        var appender = LedgerAppender(head: LedgerHead(empty: self.organization))
        var batch = WriteBatch()
        var records: [StoredRecord] = []
        for (place, event) in DatasetHarness.events(60, seed: 5).enumerated() {
            let stamp = Timestamp(microseconds: Int64(place + 1) * 1_000_000)
            let record = appender.append(try Fixture.draft(event), stampedAt: stamp, into: &batch)
            records.append(StoredRecord(sequence: record.sequence, bytes: record.bytes))
        }
        appender.finish(into: &batch)
        try store.write(batch)
        let threads = try StoreThreads(name: "rebuild-test", count: 1, queuedMax: 8)
        let columnarThreads = ColumnarThreads()
        let result = try await Fixture.withDirectory { directory in
            let stores = ColumnarStores(
                directory: directory,
                threads: columnarThreads,
                configuration: ColumnarConfiguration(memoryLimitBytes: 64 << 20)
            )
            try await stores.project(records, to: self.organization, isUrgent: true)
            let key = try await stores.withDatasets(self.organization) { datasets in
                try await datasets.fold()
                if let damage { try await datasets.store.execute(damage) }
                let rows = try await datasets.store.query("SELECT organization FROM audit_log LIMIT 1").collect()
                return OrganizationKey(rows.first?.string(row: 0, column: 0) ?? "")
            }
            let check = RebuildCheck(store: store, threads: threads) { entry, statement, _, _ in
                try await stores.query(StoreQuestion(statement), of: entry.id).batches
            }
            let entry = OrganizationEntry(
                id: self.organization,
                key: try #require(key),
                name: "laboratory",
                group: GroupID(1),
                createdAt: Timestamp(microseconds: 0)
            )
            let result = await Result.of { try await check.run(entry) }
            await stores.closeAll()
            return result
        }
        await columnarThreads.shutdown()
        return try result.get()
    }

    @Test func aSoundStoreIsWhatTheLedgerFoldsTo() async throws {
        let result = try await Self.result(nil)
        #expect(result.isEqual)
        #expect(result.size == 60)
        #expect(result.entitiesState == result.ledgerState)
    }

    @Test(arguments: [
        "UPDATE entities SET state = '{\"forged\":1}' WHERE entity_id = (SELECT min(entity_id) FROM entities)",
        "DELETE FROM entities WHERE entity_id = (SELECT min(entity_id) FROM entities)",
        "INSERT INTO entities SELECT * FROM entities LIMIT 1",
        "UPDATE entities SET version = version + 1 WHERE entity_id = (SELECT min(entity_id) FROM entities)",
        "UPDATE entities SET last_actor = 'somebody else' WHERE entity_id = (SELECT max(entity_id) FROM entities)",
    ])
    func aWrongRowOfEntitiesIsNoticed(_ damage: String) async throws {
        let result = try await Self.result(damage)
        #expect(!result.isEqual)
        #expect(result.entitiesState != result.ledgerState)
        #expect(result.columnarState == result.ledgerState, "audit_log is as it was")
    }

    @Test(arguments: [
        "UPDATE _entity_history SET status = 'deleted' WHERE sequence = (SELECT min(sequence) FROM _entity_history)",
        "DELETE FROM _entity_history WHERE sequence = (SELECT min(sequence) FROM _entity_history)",
        "INSERT INTO _entity_history SELECT * FROM _entity_history LIMIT 1",
        """
        UPDATE _entity_history SET valid_to_sequence = valid_to_sequence + 1 \
        WHERE sequence = (SELECT min(sequence) FROM _entity_history)
        """,
        """
        UPDATE _entity_history SET valid_to = valid_to + INTERVAL 1 MICROSECOND \
        WHERE sequence = (SELECT min(sequence) FROM _entity_history)
        """,
    ])
    func aWrongRowOfTheHistoryIsNoticed(_ damage: String) async throws {
        let result = try await Self.result(damage)
        #expect(!result.isEqual)
        #expect(result.columnarHistory != result.ledgerHistory)
        #expect(result.entitiesState == result.ledgerState, "the states of now are as they were")
    }

    @Test func anotherOrganizationsEntityIsAnError() async throws {
        let error = await #expect(throws: ShardError.self) {
            try await Self.result("UPDATE entities SET organization = 'elsewhere'")
        }
        #expect(error?.code == .projection)
    }
}

extension Result where Failure == any Error {
    fileprivate static func of(_ body: () async throws -> Success) async -> Self {
        do { return .success(try await body()) } catch { return .failure(error) }
    }
}
