import Columnar
import Foundation
import Primitives
import Synchronization

@testable import QueryRouter

/// Shards with tables of any form, in memory, and one store with the union of all.
final class RandomShards: ShardQueryService, Sendable {
    let threads: ColumnarThreads
    let union: ColumnarStore
    let keys: [OrganizationKey]
    private let stores: [OrganizationKey: ColumnarStore]
    private let tables: [OrganizationKey: ShardTables]
    private let calls: Mutex<[(organization: OrganizationKey, sql: String)]> = Mutex([])

    private init(
        threads: ColumnarThreads,
        union: ColumnarStore,
        stores: [OrganizationKey: ColumnarStore],
        tables: [OrganizationKey: ShardTables]
    ) {
        self.threads = threads
        self.union = union
        self.stores = stores
        self.tables = tables
        self.keys = stores.keys.sorted()
    }

    static let m = TableSchema(
        name: "m",
        columns: [
            ColumnDefinition("organization", .utf8, nullable: false, comment: "whose row it is"),
            ColumnDefinition("k", .utf8, comment: "a key"), ColumnDefinition("n", .int64),
            ColumnDefinition("u", .uint64, nullable: false), ColumnDefinition("d", .double),
            ColumnDefinition("t", .timestampMicros), ColumnDefinition("b", .bool), ColumnDefinition("s", .utf8),
            ColumnDefinition("j", .json),
        ],
        comment: "measurements"
    )
    static let e = TableSchema(
        name: "e",
        columns: [
            ColumnDefinition("organization", .utf8, nullable: false), ColumnDefinition("k", .utf8),
            ColumnDefinition("v", .int64),
        ],
        isView: true
    )

    /// Every shard's tables, and definitions with rows for each; the union is made of `unionSQL`.
    static func with(
        tables: [[TableSchema]],
        inserts: [[String]],
        unionTables: [TableSchema],
        unionInserts: [String],
        _ body: (RandomShards) async throws -> Void
    ) async throws {
        let threads = ColumnarThreads()
        let union = try await ColumnarStore.open(.memory, threads: threads)
        for table in unionTables { try await union.createTable(table) }
        for sql in unionInserts { try await union.execute(sql) }
        var stores: [OrganizationKey: ColumnarStore] = [:]
        var known: [OrganizationKey: ShardTables] = [:]
        for (index, own) in tables.enumerated() {
            let key = OrganizationKey("org-\(index + 1)")!
            let store = try await ColumnarStore.open(.memory, threads: threads)
            for table in own { try await store.createTable(table) }
            for sql in inserts[index] { try await store.execute(sql) }
            stores[key] = store
            known[key] = ShardTables(version: UInt64(index + 1), tables: own)
        }
        let shards = RandomShards(threads: threads, union: union, stores: stores, tables: known)
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(shards))
        } catch {
            result = .failure(error)
        }
        await union.close()
        for store in stores.values { await store.close() }
        await threads.shutdown()
        try result.get()
    }

    /// Random rows of `m` and `e` on `count` shards, some of them empty, one with most of the rows.
    static func generated(
        _ count: Int,
        seed: UInt64,
        _ body: (RandomShards) async throws -> Void
    ) async throws {
        var random = SeededGenerator(seed: seed)
        var inserts: [[String]] = []
        var unique = 0
        for index in 0..<count {
            let isEmpty = Int.random(in: 0..<5, using: &random) == 0
            let rows = isEmpty ? 0 : Int.random(in: 1...(index == 0 ? 60 : 14), using: &random)
            let values = (0..<rows).map { _ -> String in
                unique += 1
                return self.row(index, unique, &random)
            }
            let others = (0..<(isEmpty ? 0 : Int.random(in: 0...6, using: &random))).map { _ in
                let key = ["'a'", "'b'", "'c'", "null"].randomElement(using: &random) ?? "null"
                return "('org-\(index + 1)', \(key), \(Int.random(in: 0...9, using: &random)))"
            }
            inserts.append(
                (values.isEmpty ? [] : ["INSERT INTO m VALUES " + values.joined(separator: ", ")])
                    + (others.isEmpty ? [] : ["INSERT INTO e VALUES " + others.joined(separator: ", ")])
            )
        }
        try await self.with(
            tables: Array(repeating: [self.m, self.e], count: count),
            inserts: inserts,
            unionTables: [self.m, self.e],
            unionInserts: inserts.flatMap { $0 },
            body
        )
    }

    private static func row(_ shard: Int, _ unique: Int, _ random: inout SeededGenerator) -> String {
        func maybe(_ text: String) -> String { Int.random(in: 0..<6, using: &random) == 0 ? "null" : text }
        let key = maybe(["'a'", "'a'", "'b'", "'c'", "'\(shard)'"].randomElement(using: &random) ?? "null")
        let number = maybe("\(Int.random(in: -2...9, using: &random))")
        let double = maybe("\(Double(Int.random(in: -8...32, using: &random)) / 4)")
        let day = Int.random(in: 1...28, using: &random)
        let time = maybe("'2026-0\(Int.random(in: 1...4, using: &random))-\(day < 10 ? "0" : "")\(day) 10:00:00'")
        let bit = maybe(Bool.random(using: &random) ? "true" : "false")
        let text = maybe(["'s'", "'st'", "'x'", "''", "'sß'"].randomElement(using: &random) ?? "null")
        let json = maybe("'{\"a\":\"\(Bool.random(using: &random) ? "x" : "y")\",\"b\":\(day)}'")
        return "('org-\(shard + 1)', \(key), \(number), \(unique), \(double), \(time), \(bit), \(text), \(json))"
    }

    var recordedCalls: [(organization: OrganizationKey, sql: String)] { self.calls.withLock { $0 } }
    func forgetCalls() { self.calls.withLock { $0 = [] } }

    func tables(of organization: OrganizationKey, isCurrent: Bool) async throws -> ShardTables {
        guard let tables = self.tables[organization] else { throw TestFailure.noSuchShard }
        return tables
    }

    func query(
        organization: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        self.calls.withLock { $0.append((organization, statement.sql)) }
        guard let store = self.stores[organization] else { throw TestFailure.noSuchShard }
        let result = try await store.query(
            statement.sql,
            parameters: statement.parameters,
            origin: statement.origin,
            limits: QueryLimits(
                timeLimit: limits.timeLimit,
                rowsMax: limits.resultRowsMax,
                bytesMax: limits.resultBytesMax
            ),
            delivery: statement.delivery
        )
        return ShardResult(
            schema: result.schema,
            provenance: ShardProvenance(organization: organization, sequence: .zero, root: .zero, node: NodeID(1)),
            batches: RecordBatchStream(result.batches)
        )
    }

    func withRouter(
        options: QueryPlanner.Options = .init(),
        baseTables: [TableSchema] = [m, e],
        _ body: (QueryRouter) async throws -> Void
    ) async throws {
        let engine = try await InProcessQueryEngine.open(threads: self.threads)
        do {
            let router = try QueryRouter(
                service: self,
                engine: engine,
                timer: QueryTimer(clock: StoppedClock()),
                configuration: QueryRouterConfiguration(),
                baseTables: baseTables,
                planner: QueryPlanner(options: options)
            )
            try await body(router)
        } catch {
            await engine.close()
            throw error
        }
        await engine.close()
    }

    func expected(_ sql: String, parameters: [ArrowValue] = [], sorted: Bool) async throws -> Rows {
        let result = try await self.union.query(sql, parameters: parameters)
        return Rows(schema: result.schema, batches: try await result.collect(), sorted: sorted)
    }
}
