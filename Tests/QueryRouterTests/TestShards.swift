import Columnar
import Foundation
import Primitives
import Synchronization

@testable import QueryRouter

/// The dataset of the tests: one typed column per field of a record.
let auditLog = TableSchema(
    name: "audit_log",
    columns: [
        ColumnDefinition("organization", .utf8, nullable: false),
        ColumnDefinition("sequence", .uint64, nullable: false),
        ColumnDefinition("recorded_at", .timestampMicros, nullable: false),
        ColumnDefinition("occurred_at", .timestampMicros),
        ColumnDefinition("actor_id", .utf8),
        ColumnDefinition("actor_role", .utf8),
        ColumnDefinition("action", .utf8, nullable: false),
        ColumnDefinition("entity_type", .utf8, nullable: false),
        ColumnDefinition("entity_id", .utf8, nullable: false),
        ColumnDefinition("before", .json),
        ColumnDefinition("after", .json),
        ColumnDefinition("reason", .utf8),
        ColumnDefinition("severity", .utf8),
        ColumnDefinition("outcome", .utf8, nullable: false),
    ]
)

/// One generated event.
struct TestEvent: Sendable {
    var organization: String
    var sequence: UInt64
    var recordedAt: Int64
    var occurredAt: Int64?
    var actor: String?
    var role: String?
    var action: String
    var entity: String
    var before: String?
    var after: String?
    var reason: String?
    var severity: String?
    var outcome: String

    /// `count` events of one organization, the same for the same seed.
    static func generate(organization: String, count: Int, seed: UInt64) -> [TestEvent] {
        var random = SeededGenerator(seed: seed)
        let start: Int64 = 1_325_376_000_000_000
        let reasons = ["réanalyse", "wrong label", "", "it's \"quoted\"", "線"]
        let actions = ["opened", "accepted", "completed", "queued", "closed"]
        return (0..<count).map { index in
            let stock = Int.random(in: 0..<1_000, using: &random)
            let tags = (0..<Int.random(in: 0...3, using: &random)).map { "\"t\($0)\"" }.joined(separator: ",")
            let occurred = start + Int64.random(in: 0..<500 * 86_400, using: &random) * 1_000_000
            return TestEvent(
                organization: organization,
                sequence: UInt64(index + 1),
                recordedAt: start + Int64(index) * 1_000_003,
                occurredAt: index % 17 == 0 ? nil : occurred,
                actor: index % 11 == 0 ? nil : "person-\(Int.random(in: 0..<9, using: &random))",
                role: ["chemist", "lead", nil].randomElement(using: &random) ?? nil,
                action: actions.randomElement(using: &random) ?? "",
                entity: "case-\(Int.random(in: 1...40, using: &random))",
                before: index % 3 == 0 ? nil : "{\"stock\":\(stock),\"unit\":\"ml\"}",
                after: index % 5 == 0
                    ? nil
                    : "{\"stock\":\(stock + 1),\"unit\":\"ml\",\"tags\":[\(tags)],\"nested\":{\"x\":\(index % 7)}}",
                reason: index % 4 == 0 ? nil : reasons.randomElement(using: &random),
                severity: ["info", "notice", "warning", nil].randomElement(using: &random) ?? nil,
                outcome: index % 13 == 0 ? "failure" : "success"
            )
        }
    }

    static func batch(_ events: [TestEvent]) throws -> ColumnBatch {
        var columns = auditLog.columns.map { ColumnBuilder($0.type, capacity: events.count) }
        for event in events {
            columns[0].append(event.organization)
            columns[1].append(event.sequence)
            columns[2].append(event.recordedAt)
            if let value = event.occurredAt { columns[3].append(value) } else { columns[3].appendNull() }
            let texts = [
                event.actor, event.role, event.action, "case", event.entity, event.before, event.after, event.reason,
                event.severity, event.outcome,
            ]
            for (index, text) in texts.enumerated() {
                if let text { columns[4 + index].append(text) } else { columns[4 + index].appendNull() }
            }
        }
        return try ColumnBatch(columns: columns)
    }
}

/// Real columnar stores in files, one an organization, and one with the union of all.
final class TestShards: ShardQueryService, Sendable {
    /// How a shard misbehaves.
    enum Fault: Sendable {
        case failsAtOnce(any Error & Sendable)
        /// Hands out its first batch, then fails.
        case failsAfterFirstBatch
        /// Never answers; ends when it is cancelled.
        case hangs
        /// Calls itself another organization.
        case lies
    }

    struct Call: Sendable {
        var organization: OrganizationKey
        var sql: String
        var requirement: ReadRequirement
    }

    let directory: String
    let threads: ColumnarThreads
    let union: ColumnarStore
    let keys: [OrganizationKey]
    private let stores: [OrganizationKey: ColumnarStore]
    private let faults: Mutex<[OrganizationKey: Fault]> = Mutex([:])
    private let calls: Mutex<[Call]> = Mutex([])
    /// Organizations whose shard hangs, as they begin to.
    let hangs: AsyncStream<OrganizationKey>
    private let hangsContinuation: AsyncStream<OrganizationKey>.Continuation
    private let cancelled: Mutex<Set<OrganizationKey>> = Mutex([])

    private init(
        directory: String,
        threads: ColumnarThreads,
        union: ColumnarStore,
        stores: [OrganizationKey: ColumnarStore]
    ) {
        self.directory = directory
        self.threads = threads
        self.union = union
        self.stores = stores
        self.keys = stores.keys.sorted()
        (self.hangs, self.hangsContinuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(64))
    }

    /// Opens one shard for every count, runs `body`, and removes everything.
    static func with(
        counts: [Int],
        seed: UInt64,
        _ body: (TestShards) async throws -> Void
    ) async throws {
        let name =
            "router-\(ProcessInfo.processInfo.processIdentifier)-\(Self.number.add(1, ordering: .relaxed).newValue)"
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(name).path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let threads = ColumnarThreads()
        let union = try await ColumnarStore.open(.memory, threads: threads)
        try await union.createTable(auditLog)
        var stores: [OrganizationKey: ColumnarStore] = [:]
        var position: UInt64 = 0
        for (index, count) in counts.enumerated() {
            let key = OrganizationKey("org-\(index + 1)")!
            let store = try await ColumnarStore.open(.memory, threads: threads)
            try await store.createTable(auditLog)
            stores[key] = store
            guard count > 0 else { continue }
            let events = TestEvent.generate(organization: key.rawValue, count: count, seed: seed &+ UInt64(index))
            let batch = try TestEvent.batch(events)
            try await store.ingest(table: "audit_log", batch: batch, position: UInt64(count))
            position += UInt64(count)
            try await union.ingest(table: "audit_log", batch: batch, position: position)
        }
        let shards = TestShards(directory: directory, threads: threads, union: union, stores: stores)
        do {
            try await body(shards)
        } catch {
            await shards.close()
            throw error
        }
        await shards.close()
    }

    private static let number = Atomic<Int>(0)

    private func close() async {
        await self.union.close()
        for store in self.stores.values { await store.close() }
        await self.threads.shutdown()
    }

    func set(_ fault: Fault?, for organization: OrganizationKey) { self.faults.withLock { $0[organization] = fault } }
    var recordedCalls: [Call] { self.calls.withLock { $0 } }
    func forgetCalls() { self.calls.withLock { $0 = [] } }
    var cancelledOrganizations: Set<OrganizationKey> { self.cancelled.withLock { $0 } }

    func query(
        organization: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        self.calls.withLock {
            $0.append(Call(organization: organization, sql: statement.sql, requirement: requirement))
        }
        let fault = self.faults.withLock { $0[organization] }
        if case .failsAtOnce(let error) = fault { throw error }
        if case .hangs = fault { try await self.hang(organization) }
        guard let store = self.stores[organization] else { throw TestFailure.noSuchShard }
        let result = try await store.query(
            statement.sql,
            parameters: statement.parameters,
            origin: statement.origin,
            limits: QueryLimits(
                timeLimit: limits.timeLimit,
                rowsMax: limits.resultRowsMax,
                bytesMax: limits.resultBytesMax,
                batchBytesTarget: 16 << 10
            ),
            delivery: statement.delivery
        )
        var named = organization
        if case .lies = fault { named = OrganizationKey("somebody-else")! }
        var batches = RecordBatchStream(result.batches)
        if case .failsAfterFirstBatch = fault { batches = RecordBatchStream(FailingBatches(batches: batches)) }
        return ShardResult(
            schema: result.schema,
            provenance: ShardProvenance(
                organization: named,
                sequence: SequenceNumber(result.position),
                root: .zero,
                node: NodeID(7)
            ),
            batches: batches
        )
    }

    func tables(of organization: OrganizationKey, isCurrent: Bool) async throws -> ShardTables {
        ShardTables(version: 1, tables: [auditLog])
    }

    /// Waits for its cancellation, and records it.
    private func hang(_ organization: OrganizationKey) async throws {
        self.hangsContinuation.yield(organization)
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingOldest(1))
        for await _ in stream {}
        withExtendedLifetime(continuation) {}
        _ = self.cancelled.withLock { $0.insert(organization) }
        throw CancellationError()
    }
}

enum TestFailure: Error {
    case noSuchShard
    case brokenConnection
}

/// One batch, then an error.
private struct FailingBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    let batches: RecordBatchStream

    struct AsyncIterator: AsyncIteratorProtocol {
        var iterator: RecordBatchStream.AsyncIterator
        var count = 0

        mutating func next() async throws -> ArrowRecordBatch? {
            guard self.count == 0 else { throw TestFailure.brokenConnection }
            self.count = 1
            return try await self.iterator.next()
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iterator: self.batches.makeAsyncIterator()) }
}

/// A clock that stands still; sleepers wait until they are cancelled.
struct StoppedClock: Clock {
    struct Instant: InstantProtocol {
        var offset: Duration
        func advanced(by duration: Duration) -> Instant { Instant(offset: self.offset + duration) }
        func duration(to other: Instant) -> Duration { other.offset - self.offset }
        static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    var now: Instant { Instant(offset: .zero) }
    var minimumResolution: Duration { .nanoseconds(1) }
    /// Sleeps end at once: the time has always passed.
    var rings = false

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        if self.rings { return }
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingOldest(1))
        for await _ in stream {}
        withExtendedLifetime(continuation) {}
        throw CancellationError()
    }
}

/// Rows of an answer, for comparison.
struct Rows: Equatable, CustomStringConvertible {
    var names: [String]
    var rows: [[ArrowValue]]

    init(schema: ArrowSchema, batches: [ArrowRecordBatch], sorted: Bool) {
        self.names = schema.fields.map { "\($0.name) \($0.type.sqlName)" }
        var rows: [[ArrowValue]] = []
        for batch in batches {
            for row in 0..<batch.rowCount {
                rows.append(schema.fields.indices.map { batch.value(row: row, column: $0) })
            }
        }
        guard sorted else {
            self.rows = rows
            return
        }
        let keyed = rows.map { (key: "\($0.map(Self.rounded))", row: $0) }
        self.rows = keyed.sorted { $0.key < $1.key }.map(\.row)
    }

    static func == (left: Rows, right: Rows) -> Bool {
        left.names == right.names && left.rows.count == right.rows.count
            && zip(left.rows, right.rows).allSatisfy(Self.isSame)
    }

    private static func isSame(_ left: [ArrowValue], _ right: [ArrowValue]) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy(Self.isSame)
    }

    /// Sums of doubles hang on their order: nine digits are compared, and what is nothing but rounding is nothing.
    private static func isSame(_ left: ArrowValue, _ right: ArrowValue) -> Bool {
        switch (left, right) {
        case (.double(let one), .double(let other)):
            if one == other || (one.isNaN && other.isNaN) { return true }
            return abs(one - other) <= 1e-9 * max(1, abs(one), abs(other))
        case (.list(let one), .list(let other)): return self.isSame(one, other)
        case (.structure(let one), .structure(let other)): return self.isSame(one.map(\.value), other.map(\.value))
        default: return left == right
        }
    }

    private static func rounded(_ value: ArrowValue) -> ArrowValue {
        switch value {
        case .list(let elements): return .list(elements.map(Self.rounded))
        case .double(let number) where number.isFinite:
            guard abs(number) > 1e-9 else { return .double(0) }
            let scale = pow(10, 5 - floor(log10(abs(number))))
            return .double((number * scale).rounded() / scale)
        default: return value
        }
    }

    /// The first place where two answers part.
    func difference(from other: Rows) -> String {
        if self.names != other.names { return "columns \(self.names), not \(other.names)" }
        for (got, want) in zip(self.rows, other.rows) where !Self.isSame(got, want) {
            return "\n got  \(got)\n want \(want)"
        }
        return "\(self.rows.count) rows, not \(other.rows.count)"
    }

    var description: String {
        "\(self.names) \(self.rows.count) rows: " + self.rows.prefix(5).map { "\($0)" }.joined(separator: "; ")
    }
}

extension TestShards {
    func withRouter(
        _ configuration: QueryRouterConfiguration = .init(),
        engine: InProcessQueryEngine.Configuration = .init(),
        clock: StoppedClock = StoppedClock(),
        options: QueryPlanner.Options = .init(),
        _ body: (QueryRouter) async throws -> Void
    ) async throws {
        let engine = try await InProcessQueryEngine.open(threads: self.threads, configuration: engine)
        do {
            let router = try QueryRouter(
                service: self,
                engine: engine,
                timer: QueryTimer(clock: clock),
                configuration: configuration,
                baseTables: [auditLog],
                planner: QueryPlanner(options: options)
            )
            try await body(router)
        } catch {
            await engine.close()
            throw error
        }
        await engine.close()
    }

    /// The answer of one DuckDB over all rows.
    func expected(_ sql: String, sorted: Bool) async throws -> Rows {
        let result = try await self.union.query(sql)
        return Rows(schema: result.schema, batches: try await result.collect(), sorted: sorted)
    }
}

extension QueryRouter {
    func rows(_ request: QueryRequest, sorted: Bool) async throws -> (rows: Rows, outcome: QueryOutcome) {
        let outcome = try await self.run(request)
        let batches = try await outcome.batches.collect()
        return (Rows(schema: outcome.schema, batches: batches, sorted: sorted), outcome)
    }

    /// The error of a request that must fail.
    func failure(_ request: QueryRequest) async -> QueryError? {
        do {
            _ = try await self.rows(request, sorted: false)
            return nil
        } catch { return error as? QueryError }
    }
}
