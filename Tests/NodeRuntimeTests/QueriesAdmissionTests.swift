import Columnar
import Primitives
import Synchronization
import Testing

@testable import NodeRuntime
@testable import QueryRouter

@Suite struct QueriesAdmissionQueueTests {
    private static func queue(
        running: Int = 2,
        perKey: Int = 2,
        waiting: Int = 8,
        waitingPerKey: Int = 8
    ) -> AdmissionQueue<String> {
        AdmissionQueue(
            limits: .init(
                runningMax: running,
                runningPerKeyMax: perKey,
                waitingMax: waiting,
                waitingPerKeyMax: waitingPerKey
            )
        )
    }

    @Test func freedPlacesGoRoundTheKeys() {
        var queue = Self.queue()
        #expect(queue.request(1, of: "a") == .runs)
        #expect(queue.request(2, of: "a") == .runs)
        for ticket in UInt64(3)...5 { #expect(queue.request(ticket, of: "a") == .waits) }
        #expect(queue.request(6, of: "b") == .waits)
        #expect(queue.finish("a") == [3])
        #expect(queue.finish("a") == [6])
        #expect(queue.finish("b") == [4])
        #expect(queue.finish("a") == [5])
        #expect(queue.waiting == 0)
    }

    @Test func noKeyTakesMoreThanItsShare() {
        var queue = Self.queue(running: 3, perKey: 2)
        #expect(queue.request(1, of: "a") == .runs)
        #expect(queue.request(2, of: "a") == .runs)
        #expect(queue.request(3, of: "a") == .waits)
        #expect(queue.request(4, of: "b") == .runs)
        #expect(queue.finish("b") == [])
        #expect(queue.finish("a") == [3])
    }

    @Test func refusesWhatIsBeyondTheQueue() {
        var queue = Self.queue(running: 1, perKey: 1, waiting: 2, waitingPerKey: 1)
        #expect(queue.request(1, of: "a") == .runs)
        #expect(queue.request(2, of: "a") == .waits)
        #expect(queue.request(3, of: "a") == .refused)
        #expect(queue.request(4, of: "b") == .waits)
        #expect(queue.request(5, of: "c") == .refused)
    }

    @Test func whoLeavesTheQueueIsNotStarted() {
        var queue = Self.queue(running: 1, perKey: 1)
        #expect(queue.request(1, of: "a") == .runs)
        #expect(queue.request(2, of: "a") == .waits)
        let first = queue.withdraw(2, of: "a")
        let second = queue.withdraw(2, of: "a")
        #expect(first && !second)
        #expect(queue.finish("a") == [])
        #expect(queue.running == 0)
    }

    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func everyTicketRunsOnceAndNoBoundIsPassed(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var queue = Self.queue(running: 4, perKey: 2, waiting: 20, waitingPerKey: 9)
        var runs: [String: Int] = [:]
        var waits: [UInt64: String] = [:]
        var started: Set<UInt64> = []
        for ticket in UInt64(1)...2_000 {
            let key = String(random.next() % 5)
            if random.next() % 2 == 0, let busy = runs.filter({ $0.value > 0 }).keys.sorted().first {
                runs[busy, default: 0] -= 1
                for next in queue.finish(busy) {
                    #expect(started.insert(next).inserted, "seed \(seed)")
                    runs[waits.removeValue(forKey: next) ?? "?", default: 0] += 1
                }
            }
            switch queue.request(ticket, of: key) {
            case .runs:
                #expect(started.insert(ticket).inserted, "seed \(seed)")
                runs[key, default: 0] += 1
            case .waits: waits[ticket] = key
            case .refused: break
            }
            #expect(runs.values.reduce(0, +) == queue.running && queue.running <= 4, "seed \(seed)")
            #expect(runs.values.allSatisfy { $0 <= 2 } && waits.count == queue.waiting, "seed \(seed)")
            #expect(runs["?"] == nil, "seed \(seed)")
        }
    }
}

/// A generator with a seed.
private struct SplitMix {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

@Suite(.timeLimit(.minutes(10))) struct QueriesRunningTests {
    private static let lab = OrganizationKey("lab-a")!
    private static let caller = QueryCaller(
        token: "t1",
        name: "reader",
        channel: .rest,
        requestID: "r1",
        seesReserved: false
    )

    /// A time that the test moves.
    private final class Time: Sendable {
        private let value = Mutex(ContinuousClock.Instant.now)

        var now: ContinuousClock.Instant { self.value.withLock { $0 } }
        func advance(by duration: Duration) { self.value.withLock { $0 += duration } }
    }

    private static func running(_ places: Int, waiting: Int = 4, time: Time = Time()) -> RunningQueries {
        RunningQueries(
            limits: .init(running: places, waiting: waiting, waitMax: .seconds(60), unreadMax: .seconds(60)),
            now: { time.now }
        )
    }

    private static func outcome(_ batches: RecordBatchStream) -> QueryOutcome {
        QueryOutcome(
            schema: ArrowSchema(fields: []),
            batches: batches,
            provenance: [],
            absences: [],
            plan: .single,
            statistics: QueryStatistics(
                organizations: 1,
                shards: 1,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: .zero,
                gathering: .zero
            )
        )
    }

    private static func start(
        _ running: RunningQueries,
        _ batches: RecordBatchStream = RecordBatchStream(batches: [])
    ) async throws -> QueryOutcome {
        try await running.run(sql: "select 1", organizations: [Self.lab], caller: Self.caller) { Self.outcome(batches) }
    }

    @Test func aPlaceIsFreeOnceTheRowsWereReadOrDropped() async throws {
        let running = Self.running(1)
        var outcome: QueryOutcome? = try await Self.start(running)
        #expect(running.counts == (1, 0))
        #expect(running.all.map(\.sql) == ["select 1"])
        #expect(try await outcome?.batches.collect().isEmpty == true)
        outcome = nil
        #expect(running.counts == (0, 0))
        _ = try await Self.start(running)
        #expect(running.counts == (0, 0))
        #expect(running.all.isEmpty)
    }

    @Test func aFailedStatementGivesItsPlaceBack() async throws {
        let running = Self.running(1)
        await #expect(throws: QueryError.self) {
            try await running.run(sql: "x", organizations: [Self.lab], caller: Self.caller) {
                throw QueryError(.syntax, "no")
            }
        }
        #expect(running.counts == (0, 0))
        #expect(running.all.isEmpty)
    }

    @Test func theNextOneWaitsForThePlaceAndThenRuns() async throws {
        let running = Self.running(1)
        var first: QueryOutcome? = try await Self.start(running)
        async let second = Self.start(running).batches.collect()
        while running.counts.waiting == 0 { await Task.yield() }
        #expect(first != nil)
        first = nil
        #expect(try await second.isEmpty)
        #expect(running.counts == (0, 0))
    }

    @Test func aFullQueueSaysBusy() async throws {
        let running = Self.running(1, waiting: 0)
        let first = try await Self.start(running)
        let error = await #expect(throws: QueryError.self) { try await Self.start(running) }
        #expect(error?.code == .busy)
        _ = first
    }

    @Test func killingOneThatRunsCancelsItsWorkAndSaysWho() async throws {
        let running = Self.running(1)
        let (started, start) = AsyncStream.makeStream(of: Void.self)
        let work = Task {
            try await running.run(sql: "long", organizations: [Self.lab], caller: Self.caller) {
                start.yield()
                // Ends by cancellation only.
                for await _ in AsyncStream<Void>.makeStream().stream {}
                throw CancellationError()
            }
        }
        for await _ in started { break }
        let query = try #require(running.all.first)
        #expect(query.sight.phase == .running)
        query.stop(.killed(by: "anna"))
        let error = await #expect(throws: QueryError.self) { try await work.value }
        #expect(error?.code == .cancelled)
        #expect(error?.message.contains("anna") == true)
        #expect(running.counts == (0, 0))
    }

    @Test func killingOneThatIsReadEndsItsRows() async throws {
        let running = Self.running(1)
        let ended = EndOfRows()
        let outcome = try await Self.start(running, RecordBatchStream(EndlessRows(ended: ended)))
        let rows = Task { try await outcome.batches.collect() }
        while running.all.first?.sight.isAwaited != true { await Task.yield() }
        running.all.first?.stop(.killed(by: "anna"))
        await #expect(throws: QueryError.self) { try await rows.value }
    }

    @Test func rowsThatNobodyReadsAreLetGo() async throws {
        let time = Time()
        let running = Self.running(1, time: time)
        let ended = EndOfRows()
        let outcome = try await Self.start(running, RecordBatchStream(EndlessRows(ended: ended)))
        time.advance(by: .seconds(59))
        #expect(running.endAbandoned() == 0)
        time.advance(by: .seconds(1))
        #expect(running.endAbandoned() == 1)
        #expect(ended.isEnded)
        let error = await #expect(throws: QueryError.self) { try await outcome.batches.collect() }
        #expect(error?.message.contains("not read") == true)
    }

    @Test func onlyItsTokenOrAnOperatorEndsAStatement() async throws {
        let running = Self.running(1)
        let outcome = try await Self.start(running)
        var request = WireEndQueryRequest()
        request.id = try #require(running.all.first).id
        request.token = "t2"
        #expect(!running.answer(request).found)
        var list = WireListQueriesRequest()
        list.token = "t2"
        #expect(running.answer(list).queries.isEmpty)
        list.token = "t1"
        #expect(running.answer(list).queries.map(\.caller) == ["reader"])
        request.token = ""
        #expect(running.answer(request).found)
        await #expect(throws: QueryError.self) { try await outcome.batches.collect() }
    }

    @Test func aStoppingNodeTakesNoneAndEndsThoseThereAre() async throws {
        let running = Self.running(2)
        let outcome = try await Self.start(running)
        running.close()
        let error = await #expect(throws: QueryError.self) { try await outcome.batches.collect() }
        #expect(error?.code == .unavailable)
        await #expect(throws: QueryError.self) { try await Self.start(running) }
    }
}

/// Whether a source of rows was let go.
private final class EndOfRows: Sendable {
    private let ended = Atomic(false)

    var isEnded: Bool { self.ended.load(ordering: .acquiring) }
    func end() { self.ended.store(true, ordering: .releasing) }
}

/// Rows that never come; ends when cancelled or dropped.
private struct EndlessRows: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    final class Lease: Sendable {
        private let ended: EndOfRows
        init(ended: EndOfRows) { self.ended = ended }
        deinit { self.ended.end() }
    }

    let ended: EndOfRows

    struct AsyncIterator: AsyncIteratorProtocol {
        let lease: Lease

        mutating func next() async throws -> ArrowRecordBatch? {
            for await _ in AsyncStream<Void>.makeStream().stream {}
            throw CancellationError()
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(lease: Lease(ended: self.ended)) }
}
