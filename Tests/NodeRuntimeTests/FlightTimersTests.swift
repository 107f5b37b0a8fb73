internal import Columnar
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import NIOEmbedded
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime
@testable internal import Transport

/// A clock that stands until a test moves it.
private final class HandClock: Clock, Sendable {
    struct Instant: InstantProtocol {
        var offset: Duration
        func advanced(by duration: Duration) -> Self { Self(offset: self.offset + duration) }
        func duration(to other: Self) -> Duration { other.offset - self.offset }
        static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
    }

    private struct State {
        var now = Instant(offset: .zero)
        var sleeps = 0
        var sleepers: [Int: (deadline: Instant, continuation: CheckedContinuation<Void, any Error>)] = [:]
        var watchers: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
        var cancelled: Set<Int> = []
    }

    private let state = Mutex(State())

    var now: Instant { self.state.withLock { $0.now } }
    var minimumResolution: Duration { .nanoseconds(1) }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let id = self.state.withLock { state in
            state.sleeps += 1
            return state.sleeps
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let result: Result<Void, any Error>? = self.state.withLock { state in
                    guard state.cancelled.remove(id) == nil else { return .failure(CancellationError()) }
                    guard deadline > state.now else { return .success(()) }
                    state.sleepers[id] = (deadline, continuation)
                    return nil
                }
                if let result { continuation.resume(with: result) }
                self.tell()
            }
        } onCancel: {
            let sleeper = self.state.withLock { state in
                let sleeper = state.sleepers.removeValue(forKey: id)
                if sleeper == nil { state.cancelled.insert(id) }
                return sleeper
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    private func tell() {
        let watchers = self.state.withLock { state in
            let (ready, others) = (
                state.watchers.filter { $0.count <= state.sleeps }, state.watchers.filter { $0.count > state.sleeps }
            )
            state.watchers = others
            return ready
        }
        for watcher in watchers { watcher.continuation.resume() }
    }

    /// Returns when somebody has begun to sleep for the `count`th time.
    func sleepers(_ count: Int) async {
        await withCheckedContinuation { continuation in
            self.state.withLock { $0.watchers.append((count, continuation)) }
            self.tell()
        }
    }

    func advance(by duration: Duration) {
        let due = self.state.withLock { state in
            state.now = state.now.advanced(by: duration)
            let due = state.sleepers.filter { $0.value.deadline <= state.now }
            for id in due.keys { state.sleepers[id] = nil }
            return due.values.map(\.continuation)
        }
        for continuation in due { continuation.resume() }
    }
}

/// Batches whose end of life is noticed.
private final class Watched: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    let isDropped: Flag
    let batch: ArrowRecordBatch?

    final class Flag: Sendable {
        private let state = Mutex(false)
        var isSet: Bool { self.state.withLock { $0 } }
        func set() { self.state.withLock { $0 = true } }
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        let owner: Watched
        var left = 64

        mutating func next() async throws -> ArrowRecordBatch? {
            self.left -= 1
            return self.left < 0 ? nil : self.owner.batch
        }
    }

    init(_ flag: Flag, batch: ArrowRecordBatch? = nil) {
        self.isDropped = flag
        self.batch = batch
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(owner: self) }

    deinit { self.isDropped.set() }
}

@Suite("Flight SQL: what is given up, and when", .timeLimit(.minutes(10)))
struct FlightTimersTests {
    private static func held(_ flag: Watched.Flag, _ batch: ArrowRecordBatch? = nil) -> HeldResult {
        HeldResult(
            batches: RecordBatchStream(Watched(flag, batch: batch)),
            schema: batch?.schema ?? ArrowSchema(fields: []),
            profile: .arrow,
            compression: nil
        )
    }

    /// Runs `body` with a function that lets time pass. A loop of this kind belongs to one thread: nothing here waits.
    private func withState(_ body: (FlightState, (Duration) -> Void) throws -> Void) throws {
        let loop = EmbeddedEventLoop()
        try body(FlightState(eventLoop: loop)) { loop.advanceTime(by: TimeAmount($0)) }
        try loop.syncShutdownGracefully()
    }

    @Test func aResultThatNobodyReadsIsDroppedWithItsStatement() throws {
        try self.withState { state, pass in
            let flag = Watched.Flag()
            let handle = try state.hold(Self.held(flag), for: "t-1")
            pass(FlightLimits.heldTime - .seconds(1))
            #expect(!flag.isSet && state.counts.results == 1)
            pass(.seconds(1))
            #expect(flag.isSet && state.counts.results == 0)
            let status = #expect(throws: GRPCStatus.self) { try state.take(handle, by: "t-1") }
            #expect(status?.code == .notFound)
            let renewal = #expect(throws: GRPCStatus.self) { try state.renew(handle, by: "t-1") }
            #expect(renewal?.message.hasPrefix("ticket_unknown") == true)
            #expect(!state.cancel(handle, by: "t-1"))
        }
    }

    @Test func renewingLetsAResultWaitForItsWholeTimeAgain() throws {
        try self.withState { state, pass in
            let flag = Watched.Flag()
            let handle = try state.hold(Self.held(flag), for: "t-1")
            for _ in 0..<3 {
                pass(FlightLimits.heldTime - .seconds(1))
                try state.renew(handle, by: "t-1")
            }
            pass(FlightLimits.heldTime - .seconds(1))
            #expect(!flag.isSet)
            #expect(throws: GRPCStatus.self) { try state.renew(handle, by: "t-2") }
            pass(.seconds(1))
            #expect(flag.isSet && state.counts.results == 0)
        }
    }

    @Test func cancellingDropsTheStatementAtOnce() throws {
        try self.withState { state, pass in
            let flag = Watched.Flag()
            let handle = try state.hold(Self.held(flag), for: "t-1")
            #expect(!state.cancel(handle, by: "t-2"))
            #expect(!flag.isSet)
            #expect(state.cancel(handle, by: "t-1"))
            #expect(flag.isSet && state.counts.results == 0)
        }
    }

    @Test func aResultThatIsBeingReadIsNotTakenAway() throws {
        try self.withState { state, pass in
            let flag = Watched.Flag()
            let handle = try state.hold(Self.held(flag), for: "t-1")
            let result = try state.take(handle, by: "t-1")
            pass(FlightLimits.heldTime * 2)
            #expect(!flag.isSet)
            withExtendedLifetime(result) {}
        }
    }

    @Test func anUnusedPreparedStatementIsForgotten() throws {
        try self.withState { state, pass in
            let statement = PreparedStatement(
                sql: "select ?",
                schema: ArrowSchema(fields: []),
                parameterTypes: [.int64]
            )
            let handle = try state.prepare(statement, for: "t-1")
            for _ in 0..<3 {
                pass(FlightLimits.preparedTime - .seconds(1))
                _ = try state.prepared(handle, by: "t-1")
            }
            pass(FlightLimits.preparedTime - .seconds(1))
            #expect(state.counts.prepared == 1)
            // Another's question does not keep it.
            #expect(throws: GRPCStatus.self) { try state.prepared(handle, by: "t-2") }
            pass(.seconds(1))
            #expect(state.counts.prepared == 0)
            let status = #expect(throws: GRPCStatus.self) { try state.prepared(handle, by: "t-1") }
            #expect(status?.code == .notFound)
            #expect(status?.message.hasPrefix("statement_unknown") == true)
            #expect(throws: GRPCStatus.self) { try state.bind([.int(1)], to: handle, by: "t-1") }
        }
    }

    /// Its statement ends, its stream is reset; no status is sent, which would wait behind what is not read.
    @Test func aClientThatDoesNotReadIsGivenUp() async throws {
        let threads = try StoreThreads(name: "flight-test", count: 1, queuedMax: 8)
        defer { threads.shutdown() }
        let clock = HandClock()
        let flag = Watched.Flag()
        let schema = ArrowSchema(fields: [ArrowField("t", .utf8)])
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [[.string(String(repeating: "x", count: 3 << 20))]]
        )
        let pipe = OutboundBody(bytesMax: FlightLimits.messageBytesMax) {}
        // The columns and the first batch fit, which costs no timer; the second has to wait.
        let waits = 1
        let told = Watched.Flag()
        let response = APIRouter.flightStream(
            id: "r-1",
            { writer in try await FlightSender(Self.held(flag, batch), writer, threads, clock: clock).run() },
            status: { _ in
                told.set()
                return GRPCStatus(.internal, "told")
            }
        )
        guard case .stream(let produce) = response.body else {
            Issue.record("no stream")
            return
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                await #expect(throws: FlightSender.Stalled.self) {
                    _ = try await produce(ResponseBodyWriter(pipe: pipe))
                }
            }
            await clock.sleepers(waits)
            clock.advance(by: FlightLimits.stalledTime - .seconds(1))
            #expect(!flag.isSet)
            clock.advance(by: .seconds(1))
            try await group.waitForAll()
        }
        #expect(flag.isSet && !told.isSet)
        // What was ready is at most one message and what a stream may keep.
        #expect(pipe.waitingBytes <= 2 * (3 << 20) + 1_000)
    }
}
