internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

/// Both ends of the protocol in one process, over a real socket pair.
@Suite("What a node asks its worker", .timeLimit(.minutes(10)))
struct WorkerLinkTests {
    private static func onThread(_ body: @escaping @Sendable () -> Void) {
        let thread = Thread(block: body)
        thread.start()
    }

    /// Runs `body` with a link to a worker that answers from `stores`.
    private static func withLink(
        _ stores: any OrganizationStores,
        graceMilliseconds: Int = WorkerLink.graceMilliseconds,
        _ body: (WorkerLink, FramePipe) async throws -> Void
    ) async throws -> WorkerLink.Fault {
        let (ours, theirs) = try #require(FramePipe.pair())
        let link = WorkerLink(socket: ours, graceMilliseconds: graceMilliseconds)
        let pipe = FramePipe(socket: theirs, bodyBytesMax: WorkerFrame.requestBytesMax)
        let server = WorkerServer(pipe: pipe, service: .stores(stores))
        let (faults, report) = AsyncStream.makeStream(of: WorkerLink.Fault.self, bufferingPolicy: .bufferingNewest(1))
        pipe.send(.ready, 0)
        self.onThread { server.run() }
        self.onThread {
            report.yield(link.run { true })
            report.finish()
        }
        do {
            try await body(link, pipe)
        } catch {
            link.close()
            throw error
        }
        link.close()
        var found = WorkerLink.Fault.ended
        for await fault in faults { found = fault }
        return found
    }

    private static let one = OrganizationID(1)

    private static func query(_ link: WorkerLink, limit: Duration = .seconds(300)) async throws -> StoreResult {
        try await link.open(WorkerQuestion.query(Self.one, StoreQuestion(sql: "x")).encoded(), limit: limit)
    }

    @Test func recordsGoInAndRowsComeOut() async throws {
        let records = try Fixture.records(Fixture.events(500), organization: Self.one)
        try await Fixture.withDirectory { directory in
            let threads = ColumnarThreads()
            let stores = ColumnarStores(directory: directory, threads: threads, configuration: .init())
            _ = try await Self.withLink(stores) { link, _ in
                let limit = Duration.seconds(300)
                _ = try await link.ask(
                    WorkerQuestion.project(Self.one, records, isUrgent: true).encoded(),
                    limit: limit
                )
                let answer = try await link.ask(WorkerQuestion.position(Self.one).encoded(), limit: limit)
                #expect(answer == [0, 0, 0, 0, 0, 0, 0x01, 0xF4])
                let question = StoreQuestion(
                    sql: "select sequence::bigint, action from audit_log, range(300) order by all"
                )
                let result = try await link.open(WorkerQuestion.query(Self.one, question).encoded(), limit: limit)
                #expect(result.position == SequenceNumber(500))
                #expect(result.schema.fields.map(\.name).last == "action")
                let rows = try await result.batches.collect().reduce(0) { $0 + $1.rowCount }
                #expect(rows == 150_000)
                let wrong = WorkerQuestion.query(Self.one, StoreQuestion(sql: "select nothing from audit_log"))
                let failure = await #expect(throws: ColumnarError.self) {
                    try await link.open(wrong.encoded(), limit: limit)
                }
                #expect(failure?.code == .binder && failure?.position == 7)
            }
            await stores.closeAll()
            await threads.shutdown()
        }
    }

    @Test func aSlowConsumerHoldsTheWorkerBack() async throws {
        let stores = try await MadeUpStores(batches: 200)
        _ = try await Self.withLink(stores) { link, _ in
            let result = try await Self.query(link)
            var rows = 0
            for try await batch in result.batches {
                rows += batch.rowCount
                stores.consumed(batch.byteCount)
            }
            #expect(rows == 200 * MadeUpStores.batchRows)
        }
        // The window, a batch that is being put together, and one that is cut into frames.
        #expect(stores.aheadMax <= ResultInbox.windowBytes + 3 * MadeUpStores.batchBytes, "\(stores.aheadMax)")
        #expect(stores.aheadMax >= ResultInbox.windowBytes / 2, "the window is used: \(stores.aheadMax)")
    }

    @Test func wholeAnswersAreThoseThatAreStreamed() async throws {
        let records = try Fixture.records(Fixture.events(500), organization: Self.one)
        try await Fixture.withDirectory { directory in
            let threads = ColumnarThreads()
            let stores = ColumnarStores(directory: directory, threads: threads, configuration: .init())
            try await stores.project(records, to: Self.one, isUrgent: true)
            _ = try await Self.withLink(stores) { link, _ in
                // One frame, several, none, and more than one batch.
                for rows in [1, 30_000, 0, 1_200_000] {
                    var answers: [Int64] = []
                    for delivery in [AnswerDelivery.streamed, .whole] {
                        let statement = ShardStatement(
                            sql: "SELECT range + (SELECT count(*) FROM audit_log) AS n FROM range(\(rows)) ORDER BY 1",
                            origin: .router,
                            delivery: delivery
                        )
                        let limits = QueryLimits(rowsMax: .max, bytesMax: .max)
                        let question = WorkerQuestion.query(Self.one, StoreQuestion(statement, limits: limits))
                        let result = try await link.open(question.encoded(), limit: .seconds(30))
                        #expect(result.position == SequenceNumber(500))
                        #expect(result.schema.fields.map(\.name) == ["n"])
                        var (count, sum) = (0, Int64(0))
                        for try await batch in result.batches {
                            count += batch.rowCount
                            sum +=
                                (batch.int64(row: 0, column: 0) ?? 0)
                                + (batch.int64(row: batch.rowCount - 1, column: 0) ?? 0)
                        }
                        #expect(count == rows)
                        answers.append(sum)
                    }
                    #expect(answers[0] == answers[1])
                }
                let wrong = ShardStatement(sql: "SELECT x FROM audit_log", origin: .router, delivery: .whole)
                let failure = await #expect(throws: ColumnarError.self) {
                    try await link.open(
                        WorkerQuestion.query(Self.one, StoreQuestion(wrong)).encoded(),
                        limit: .seconds(30)
                    )
                }
                #expect(failure?.code == .binder)
            }
            await stores.closeAll()
            await threads.shutdown()
        }
    }

    @Test func whoStopsReadingStopsTheQuery() async throws {
        let stores = try await MadeUpStores(batches: .max)
        _ = try await Self.withLink(stores) { link, _ in
            var result: StoreResult? = try await Self.query(link)
            var iterator = result?.batches.makeAsyncIterator()
            _ = try await iterator?.next()
            (result, iterator) = (nil, nil)
            // Ends only when the worker has let go of the result.
            await stores.untilStopped()
        }
    }

    @Test func aCancelledTaskStopsTheQuery() async throws {
        let stores = try await MadeUpStores(batches: 0, hangs: true)
        _ = try await Self.withLink(stores) { link, _ in
            await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    let result = try await Self.query(link)
                    _ = try await result.batches.collect()
                }
                await stores.untilStarted()
                group.cancelAll()
                await #expect(throws: (any Error).self) { try await group.next() }
            }
            await stores.untilStopped()
        }
    }

    @Test func aQueryEndsAtItsTimeLimitEvenIfTheWorkerDoesNotSay() async throws {
        let stores = try await MadeUpStores(batches: 0, hangs: true)
        _ = try await Self.withLink(stores) { link, _ in
            let result = try await Self.query(link, limit: .milliseconds(1))
            let failure = await #expect(throws: ColumnarError.self) { try await result.batches.collect() }
            #expect(failure?.code == .timeLimit)
            await stores.untilStopped()
        }
    }

    @Test func aWorkerThatDoesNotLetGoIsGivenUp() async throws {
        let stores = try await MadeUpStores(batches: 0, hangs: true, isDeaf: true)
        let fault = try await Self.withLink(stores, graceMilliseconds: 1) { link, _ in
            // Its head may come in time or not; its rows do not.
            await #expect(throws: (any Error).self) {
                try await Self.query(link, limit: .milliseconds(1)).batches.collect()
            }
            // The link ends by itself: what is asked now is refused.
            while (try? await link.ask([1], limit: .seconds(30))) != nil {}
            stores.letGo()
        }
        #expect(fault == .overdue)
    }

    @Test func aWorkerThatEndsCostsItsRequestsARetriableError() async throws {
        let stores = try await MadeUpStores(batches: 0, hangs: true)
        let fault = try await Self.withLink(stores) { link, pipe in
            let result = try await Self.query(link)
            pipe.close()
            let failure = await #expect(throws: WorkerGone.self) { try await result.batches.collect() }
            #expect(failure?.fault == .ended && failure?.wasAlone == true)
            await #expect(throws: WorkerGone.self) { try await link.ask([1], limit: .seconds(30)) }
        }
        #expect(fault == .ended)
    }

    @Test func aWorkerThatShowsNoSignOfLifeIsHung() async throws {
        let (ours, theirs) = try #require(FramePipe.pair())
        defer { close(theirs) }
        let link = WorkerLink(socket: ours, missedPongsMax: 1)
        let fault = await withCheckedContinuation { continuation in
            Self.onThread { continuation.resume(returning: link.run { true }) }
        }
        #expect(fault == .hung)
    }

    @Test func rowsThatNobodyAskedForAreAFault() async throws {
        let (ours, theirs) = try #require(FramePipe.pair())
        let link = WorkerLink(socket: ours)
        let stranger = FramePipe(socket: theirs, bodyBytesMax: 1 << 20)
        stranger.send(.ask, 1, [1])
        let fault = await withCheckedContinuation { continuation in
            Self.onThread { continuation.resume(returning: link.run { true }) }
        }
        #expect(fault == .malformed)
    }
}

/// Stores whose only result is made up: so many batches, or one that never comes.
private final class MadeUpStores: OrganizationStores {
    static let batchRows = 16_384
    static let batchBytes = batchRows * 8

    private struct State {
        var made = 0
        var consumed = 0
        var aheadMax = 0
        var started = false
        var stopped = false
        var starts: [CheckedContinuation<Void, Never>] = []
        var stops: [CheckedContinuation<Void, Never>] = []
        var hanging: CheckedContinuation<Void, Never>?
        var isLetGo = false
    }

    private let batch: ArrowRecordBatch
    private let batches: Int
    private let hangs: Bool
    private let isDeaf: Bool
    private let state = Mutex(State())

    init(batches: Int, hangs: Bool = false, isDeaf: Bool = false) async throws {
        self.batch = try await Self.makeBatch()
        self.batches = batches
        self.hangs = hangs
        self.isDeaf = isDeaf
    }

    var aheadMax: Int { self.state.withLock { $0.aheadMax } }

    func consumed(_ bytes: Int) { self.state.withLock { $0.consumed += bytes } }

    func untilStarted() async {
        await withCheckedContinuation { continuation in
            let now = self.state.withLock { state in
                if !state.started { state.starts.append(continuation) }
                return state.started
            }
            if now { continuation.resume() }
        }
    }

    func untilStopped() async {
        await withCheckedContinuation { continuation in
            let now = self.state.withLock { state in
                if !state.stopped { state.stops.append(continuation) }
                return state.stopped
            }
            if now { continuation.resume() }
        }
    }

    func letGo() {
        let hanging = self.state.withLock { state in
            state.isLetGo = true
            defer { state.hanging = nil }
            return state.hanging
        }
        hanging?.resume()
    }

    fileprivate func next(_ place: Int) async throws -> ArrowRecordBatch? {
        let starts = self.state.withLock { state in
            state.started = true
            defer { state.starts = [] }
            return state.starts
        }
        for start in starts { start.resume() }
        if self.hangs {
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = self.state.withLock { state in
                        if !state.isLetGo { state.hanging = continuation }
                        return state.isLetGo
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                if !self.isDeaf { self.letGo() }
            }
            throw CancellationError()
        }
        try Task.checkCancellation()
        guard place < self.batches else { return nil }
        let batch = self.batch
        self.state.withLock { state in
            state.made += batch.byteCount
            state.aheadMax = max(state.aheadMax, state.made - state.consumed)
        }
        return batch
    }

    fileprivate func stop() {
        let stops = self.state.withLock { state in
            state.stopped = true
            defer { state.stops = [] }
            return state.stops
        }
        for stop in stops { stop.resume() }
    }

    /// The batch that is handed out again and again.
    private static func makeBatch() async throws -> ArrowRecordBatch {
        let threads = ColumnarThreads()
        let store = try await ColumnarStore.open(.memory, threads: threads)
        let batches = try await store.query("select i::bigint as n from range(\(self.batchRows)) t(i)").collect()
        await store.close()
        await threads.shutdown()
        return try #require(batches.first)
    }

    func tables(of organization: OrganizationID, isCurrent: Bool) async throws -> ShardTables {
        ShardTables(version: 1, tables: [])
    }

    func query(_ question: StoreQuestion, of organization: OrganizationID) async throws -> StoreResult {
        StoreResult(
            schema: self.batch.schema,
            position: SequenceNumber(1),
            batches: RecordBatchStream(MadeUpBatches(stores: self, end: End(stores: self)))
        )
    }

    func position(of organization: OrganizationID) async throws -> SequenceNumber { .zero }
    func project(_ records: [StoredRecord], to organization: OrganizationID, isUrgent: Bool) async throws {}
    func reset(_ organization: OrganizationID) async throws {}
    func closeAll() async {}
}

/// Tells when the last user of a result has gone.
private final class End: Sendable {
    private let stores: MadeUpStores

    init(stores: MadeUpStores) { self.stores = stores }

    deinit { self.stores.stop() }
}

private struct MadeUpBatches: AsyncSequence, Sendable {
    let stores: MadeUpStores
    let end: End

    struct AsyncIterator: AsyncIteratorProtocol {
        let stores: MadeUpStores
        let end: End
        var place = 0

        mutating func next() async throws -> ArrowRecordBatch? {
            defer { self.place += 1 }
            return try await self.stores.next(self.place)
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stores: self.stores, end: self.end) }
}
