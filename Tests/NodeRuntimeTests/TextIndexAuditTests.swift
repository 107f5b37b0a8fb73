internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("Comparing the index of texts with the ledger", .timeLimit(.minutes(10)))
struct TextIndexAuditTests {
    private static let count = 2_500

    /// What is found wrong after `damage` was done to an index of two blocks.
    private static func audit(_ damage: String?, window: Int = 333) async throws -> (EntityAudit.Difference?, UInt64) {
        var difference: EntityAudit.Difference?
        var compared: UInt64 = 0
        try await TextFixture.with(self.count, seed: 21) { datasets, records in
            if let damage { try await datasets.store.execute(damage) }
            let rows: EntityAudit.Rows = { statement in
                try await datasets.query(ShardStatement(sql: statement), limits: QueryLimits()).collect()
            }
            do {
                let last = SequenceNumber(UInt64(self.count))
                var audit = try await TextIndexAudit(TextIndex(geometry: TextFixture.geometry), to: last, rows)
                for start in stride(from: 0, to: records.count, by: window) {
                    try await audit.compare(Array(records[start..<min(records.count, start + window)]), rows)
                }
                try await audit.finish(rows)
                compared = audit.rows
            } catch let found as EntityAudit.Difference {
                difference = found
            }
        }
        return (difference, compared)
    }

    @Test(arguments: [1, 333, 4_096]) func whatIsRightIsFoundRight(_ window: Int) async throws {
        let (difference, rows) = try await Self.audit(nil, window: window)
        #expect(difference == nil)
        #expect(rows > 100)
    }

    @Test func noIndexIsRight() async throws {
        let (difference, rows) = try await Self.audit("DROP TABLE _texts; DROP TABLE _text_blocks")
        #expect(difference == nil && rows == 0)
        let (none, _) = try await Self.audit("DELETE FROM _texts; UPDATE _text_blocks SET blocks = 0")
        #expect(none == nil)
    }

    /// One bit more or less, a page that is missing, doubled, moved or too much, and a progress that is wrong.
    @Test(arguments: [
        // The last page of a block: one granule less in a list, one more, and another one.
        """
        UPDATE _texts SET granules = left(granules, length(granules) - 1) \
        WHERE block = 1 AND page = (SELECT max(page) FROM _texts WHERE block = 1)
        """,
        """
        UPDATE _texts SET granules = granules || '020' \
        WHERE block = 0 AND page = (SELECT min(page) FROM _texts WHERE block = 0)
        """,
        """
        UPDATE _texts SET granules = translate(granules, '4', '5') \
        WHERE block = 0 AND page = (SELECT min(page) FROM _texts WHERE block = 0 AND contains(granules, '4'))
        """,
        "UPDATE _texts SET granules = '' WHERE block = 1 AND page = (SELECT min(page) FROM _texts WHERE block = 1)",
        "DELETE FROM _texts WHERE block = 0 AND page = (SELECT min(page) FROM _texts WHERE block = 0)",
        "DELETE FROM _texts WHERE block = 1 AND page = (SELECT max(page) FROM _texts WHERE block = 1)",
        "DELETE FROM _texts WHERE block = 1", "DELETE FROM _texts", "DROP TABLE _texts",
        "INSERT INTO _texts SELECT * FROM _texts WHERE block = 1 LIMIT 1",
        "INSERT INTO _texts SELECT * REPLACE (4000 AS page) FROM _texts WHERE block = 1 LIMIT 1",
        "INSERT INTO _texts SELECT * REPLACE (2 AS block) FROM _texts WHERE block = 1 LIMIT 1",
        "UPDATE _texts SET block = 1 - block", "UPDATE _texts SET page = page + 1 WHERE block = 0",
        "UPDATE _text_blocks SET blocks = 1", "UPDATE _text_blocks SET blocks = 3", "DELETE FROM _text_blocks",
        "INSERT INTO _text_blocks SELECT * FROM _text_blocks", "UPDATE _text_blocks SET layout = 1",
    ])
    func everyWrongIndexIsFound(_ damage: String) async throws {
        #expect(try await Self.audit(damage).0 != nil, "\(damage)")
    }
}
