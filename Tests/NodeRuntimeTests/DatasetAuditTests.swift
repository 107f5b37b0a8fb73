internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("Comparing entities with the ledger", .timeLimit(.minutes(10)))
struct DatasetAuditTests {
    private static let count = 200

    /// What is found wrong after `damage` was done to a store that has folded every record.
    private static func audit(_ damage: String?, window: Int = 33) async throws -> EntityAudit.Difference? {
        let records = try Fixture.records(
            DatasetHarness.events(self.count, seed: 77),
            organization: OrganizationID(1)
        )
        var difference: EntityAudit.Difference?
        try await DatasetHarness.with { harness in
            try await harness.datasets.project(records, on: .query)
            try await harness.datasets.fold()
            if let damage { try await harness.datasets.store.execute(damage) }
            let last = SequenceNumber(UInt64(self.count))
            var audit = EntityAudit()
            let rows: EntityAudit.Rows = { statement in
                let statement = ShardStatement(sql: statement, asOf: .sequence(last))
                return try await harness.datasets.query(statement, limits: QueryLimits()).collect()
            }
            do {
                for start in stride(from: 0, to: records.count, by: window) {
                    try await audit.compare(Array(records[start..<min(records.count, start + window)]), rows)
                }
                try await audit.finish(last) { statement in
                    try await harness.datasets.query(ShardStatement(sql: statement), limits: QueryLimits()).collect()
                }
                let successes = try records.filter { try EntityChange($0.bytes).outcome == .success }.count
                #expect(audit.rows == UInt64(successes))
            } catch let found as EntityAudit.Difference {
                difference = found
            }
        }
        return difference
    }

    @Test(arguments: [1, 7, 33, 500]) func whatIsRightIsFoundRight(_ window: Int) async throws {
        #expect(try await Self.audit(nil, window: window) == nil)
    }

    @Test(arguments: [
        "UPDATE entities SET state = '{}' WHERE entity_id = 's-3' AND entity_type = 'sample'",
        "UPDATE entities SET last_actor = 'nobody' WHERE entity_id = 's-3'",
        "UPDATE entities SET status = 'present' WHERE status = 'archived'",
        "DELETE FROM entities WHERE entity_id = 's-5'",
        "INSERT INTO entities SELECT * FROM entities WHERE entity_id = 's-5'",
        "INSERT INTO entities SELECT * REPLACE ('other' AS entity_id) FROM entities WHERE entity_id = 's-5'",
        "INSERT INTO entities SELECT * REPLACE ('other' AS entity_id, 9999 AS last_sequence) FROM entities LIMIT 1",
        "DELETE FROM _entity_history WHERE sequence = (SELECT min(sequence) FROM _entity_history)",
        "DELETE FROM _entity_history WHERE sequence = (SELECT max(sequence) FROM _entity_history)",
        "UPDATE _entity_history SET valid_to_sequence = valid_to_sequence + 1 WHERE valid_to_sequence > 100",
        "UPDATE _entity_history SET valid_to_sequence = NULL WHERE sequence = (SELECT max(sequence) FROM _entity_history)",
        "UPDATE _entity_history SET valid_to = valid_from WHERE version = 2",
        "UPDATE _entity_history SET state = '{\"a\":7}' WHERE version = 3",
        "UPDATE _entity_history SET action = 'nothing' WHERE version = 3",
        "UPDATE _entity_history SET first_sequence = 1 WHERE version = 4",
        "UPDATE _columns SET kind = 'text' WHERE kind = 'number'",
        "DELETE FROM _columns WHERE place = (SELECT max(place) FROM _columns)",
        "INSERT INTO _columns SELECT * REPLACE (place + 1000 AS place) FROM _columns WHERE view IS NULL LIMIT 1",
    ])
    func everyWrongRowIsFound(_ damage: String) async throws {
        #expect(try await Self.audit(damage) != nil, "\(damage)")
    }
}
