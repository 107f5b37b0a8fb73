import Columnar
import Primitives
import Synchronization
import Testing

@testable import QueryRouter

/// Shards of which one knows a table only when it is asked for what its newest records bring.
private struct LateShards: ShardQueryService {
    let shards: RandomShards
    let late: OrganizationKey
    let asked = Asked()

    final class Asked: Sendable {
        let times = Mutex(0)
    }

    func tables(of organization: OrganizationKey, isCurrent: Bool) async throws -> ShardTables {
        let tables = try await self.shards.tables(of: organization, isCurrent: isCurrent)
        if isCurrent { self.asked.times.withLock { $0 += 1 } }
        guard organization == self.late, !isCurrent else { return tables }
        return ShardTables(version: 0, tables: tables.tables.filter { !$0.isView })
    }

    func query(
        organization: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        try await self.shards.query(
            organization: organization,
            statement: statement,
            requirement: requirement,
            limits: limits
        )
    }
}

@Suite("Tables that newest records bring", .timeLimit(.minutes(10)))
struct StaleCatalogTests {
    @Test("the rows of an organization are never absent because its table was not known yet")
    func asksAgain() async throws {
        try await RandomShards.generated(3, seed: 11) { shards in
            let late = LateShards(shards: shards, late: shards.keys[1])
            let engine = try await InProcessQueryEngine.open(threads: shards.threads)
            do {
                let router = try QueryRouter(
                    service: late,
                    engine: engine,
                    timer: QueryTimer(clock: StoppedClock()),
                    configuration: QueryRouterConfiguration(),
                    baseTables: [RandomShards.m]
                )
                let sql = "select organization, k, v from e order by all"
                let (rows, _) = try await router.rows(
                    QueryRequest(sql: sql, organizations: shards.keys),
                    sorted: true
                )
                let expected = try await shards.expected(sql, sorted: true)
                #expect(rows == expected)
                #expect(late.asked.times.withLock { $0 } == 3)
                _ = try await router.rows(
                    QueryRequest(sql: "select count(*) from m", organizations: shards.keys),
                    sorted: true
                )
                #expect(late.asked.times.withLock { $0 } == 3, "what all have is not asked for again")
            } catch {
                await engine.close()
                throw error
            }
            await engine.close()
        }
    }
}
