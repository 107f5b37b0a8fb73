internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// What a node asks one worker process, from its start to its end.
///
/// Every request ends: by its answer, or when the process or the connection does. Safe to call from any task; nothing
/// blocks. ``run(onTick:)`` is for the thread that owns the process.
final class WorkerLink: Sendable {
    /// Why a worker cannot be used any longer.
    enum Fault: String, Sendable, CaseIterable {
        /// Its process ended.
        case ended
        /// No sign of life.
        case hung
        /// A request was not answered within its time.
        case overdue
        /// What it sent is not an answer.
        case malformed
    }

    private struct Request {
        /// Until the answer, or the result's first part, has come.
        var continuation: CheckedContinuation<[UInt8], any Error>?
        let inbox: ResultInbox?
        let isStatement: Bool
        /// Which statement, where that is remembered.
        let statement: Digest?
        /// On ``FramePipe/milliseconds()``.
        var deadline: Int
        var isOverdue = false
    }

    private struct State {
        var requests: [UInt64: Request] = [:]
        var last: UInt64 = 0
        var missedPongs = 0
        var openStores: UInt64 = 0
        var ending: Fault?
        var isReady = false
    }

    /// Most requests that are not answered yet.
    static let requestsMax = 1024
    /// How long after its time limit a request may take until the worker counts as hung.
    static let graceMilliseconds = 5_000
    /// How often signs of life are asked for, and what is overdue is looked for.
    static let tickMilliseconds = 250
    /// Ticks from ping to ping.
    private static let pingTicks = 4
    /// Pings without an answer after which the worker counts as hung.
    static let missedPongsMax = 15

    /// A store bounds its results itself; its batches are as large as they are.
    private static let streamLimits = ArrowStreamLimits(messageBytesMax: 1 << 30, batchRowsMax: Int(Int32.max))

    private let pipe: FramePipe
    private let graceMilliseconds: Int
    private let missedPongsMax: Int
    private let state = Mutex(State())
    private let memory: StatementMemory
    private let onReady: @Sendable (String) -> Void
    /// What is known of organizations' tables there.
    let tables = KnownTables()

    /// - Parameters:
    ///   - socket: The node's end; it is taken over.
    ///   - memory: Is told of statements that were running when the process ended.
    ///   - onReady: Called with what the worker says about its sandbox.
    init(
        socket: Int32,
        graceMilliseconds: Int = graceMilliseconds,
        missedPongsMax: Int = missedPongsMax,
        memory: StatementMemory = StatementMemory(),
        onReady: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.pipe = FramePipe(socket: socket, bodyBytesMax: WorkerFrame.answerBytesMax)
        self.graceMilliseconds = graceMilliseconds
        self.missedPongsMax = missedPongsMax
        self.memory = memory
        self.onReady = onReady
    }

    /// Whether the process is gone, or about to be replaced.
    var hasEnded: Bool { self.state.withLock { $0.ending != nil } }

    /// Users' statements that the worker has not ended yet, those among them that were given up.
    var statements: Int { self.state.withLock { $0.requests.values.count { $0.isStatement } } }

    func start(_ settings: WorkerSettings) { self.pipe.send(.hello, 0, settings.encoded()) }

    /// Asks the worker to close everything and to end.
    func shutdown() { self.pipe.send(.shutdown, 0) }

    /// Ends the connection.
    func close() { self.pipe.close() }

    // MARK: Requests

    /// Asks for something with one answer.
    ///
    /// Cancelling asks the worker to give up; its answer is awaited all the same.
    /// - Parameters:
    ///   - isStatement: Whether a user's statement runs: it may be what brings a worker down.
    ///   - statement: Which one; refused while it is under suspicion of ending its worker.
    /// - Throws: ``ColumnarError`` of the worker, `.busy`; ``WorkerGone``; ``QueryError`` `.quarantined`.
    func ask(
        _ body: [UInt8],
        limit: Duration,
        isStatement: Bool = false,
        statement: Digest? = nil
    ) async throws -> [UInt8] {
        try await self.send(body, limit, isStatement: isStatement, statement, inbox: nil).answer
    }

    /// Asks for a result.
    /// - Throws: As ``ask(_:limit:isStatement:statement:)``, and ``QueryError`` `.internal` when the answer is not a result's.
    func open(_ body: [UInt8], limit: Duration, statement: Digest? = nil) async throws -> StoreResult {
        let inbox = ResultInbox()
        let (answer, request) = try await self.send(body, limit, isStatement: true, statement, inbox: inbox)
        let owner = WorkerBatches.Owner(inbox: inbox, link: self, request: request)
        do {
            let head = try WorkerResultHead.decode(answer)
            var decoder = ArrowStreamDecoder(limits: Self.streamLimits)
            guard try decoder.feed(head.schemaMessage).isEmpty, let schema = decoder.schema else {
                throw QueryError(.internal, "a worker's answer does not begin with its columns")
            }
            return StoreResult(
                schema: schema,
                position: SequenceNumber(head.position),
                batches: RecordBatchStream(WorkerBatches(owner: owner, decoder: decoder))
            )
        } catch {
            throw QueryError(.internal, "a worker's answer cannot be read", cause: error)
        }
    }

    private func send(
        _ body: [UInt8],
        _ limit: Duration,
        isStatement: Bool,
        _ statement: Digest?,
        inbox: ResultInbox?
    ) async throws -> (answer: [UInt8], request: UInt64) {
        if let statement { try self.memory.check(statement) }
        let id = self.state.withLock { state in
            state.last += 1
            return state.last
        }
        let deadline = FramePipe.milliseconds() + Int(clamping: limit.milliseconds)
        let answer = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<[UInt8], any Error>) in
                let refusal = self.state.withLock { state -> (any Error)? in
                    if let fault = state.ending { return WorkerGone(fault: fault, wasAlone: false, hadBegun: false) }
                    guard state.requests.count < Self.requestsMax else {
                        return ColumnarError(.busy, "\(Self.requestsMax) requests to a worker are not answered yet")
                    }
                    state.requests[id] = Request(
                        continuation: continuation,
                        inbox: inbox,
                        isStatement: isStatement,
                        statement: statement,
                        deadline: deadline
                    )
                    return nil
                }
                if let refusal { return continuation.resume(throwing: refusal) }
                self.pipe.send(.ask, id, body)
                // Cancelled before there was anything to cancel.
                if Task.isCancelled { self.pipe.send(.cancel, id) }
            }
        } onCancel: {
            self.cancel(id)
        }
        return (answer, id)
    }

    /// Gives a request up; a no-op when it has ended.
    func cancel(_ request: UInt64) {
        guard self.state.withLock({ $0.requests[request] != nil }) else { return }
        self.pipe.send(.cancel, request)
    }

    /// Lets the worker send so many bytes more of a result.
    func grant(_ bytes: Int, to request: UInt64) {
        guard self.state.withLock({ $0.requests[request] != nil }) else { return }
        var writer = ByteWriter(capacity: 8)
        writer.write(UInt64(bytes))
        self.pipe.send(.credit, request, writer.bytes)
    }

    // MARK: The owning thread

    /// Sends and receives until the connection ends; then every request has been answered.
    /// - Parameter onTick: False: end now.
    func run(onTick: () -> Bool) -> Fault {
        var ticks = 0
        var fault: Fault?
        let ending = self.pipe.run(
            tickMilliseconds: Self.tickMilliseconds,
            onFrame: { frame in
                if !self.receive(frame) {
                    fault = .malformed
                    self.pipe.close()
                }
            },
            onTick: {
                ticks += 1
                fault = self.look(pings: ticks % Self.pingTicks == 0)
                return fault == nil && onTick()
            }
        )
        if fault == nil, case .malformed = ending { fault = .malformed }
        self.end(fault ?? .ended)
        return fault ?? .ended
    }

    /// The columnar stores that the worker had open when it last gave a sign of life.
    var openStores: UInt64 { self.state.withLock { $0.openStores } }

    /// - Returns: False when the frame is not what a worker may send.
    private func receive(_ frame: WorkerFrame) -> Bool {
        switch frame.kind {
        case .pong:
            var reader = ByteReader(frame.body)
            let openStores = (try? reader.read(UInt64.self)) ?? 0
            self.state.withLock { ($0.missedPongs, $0.openStores) = (0, openStores) }
            return true
        case .ready:
            self.state.withLock { $0.isReady = true }
            self.onReady(String(decoding: frame.body, as: UTF8.self))
            return true
        case .tables:
            guard let organization = KnownTables.decode(frame.body) else { return false }
            self.tables.forget(organization)
            return true
        case .rows:
            // A request that was given up has an inbox that has ended.
            guard let request = self.state.withLock({ $0.requests[frame.request] }) else { return true }
            return request.inbox?.put(.bytes(frame.body)) ?? false
        case .batch:
            guard let request = self.state.withLock({ $0.requests[frame.request] }) else { return true }
            guard let inbox = request.inbox, let batch = frame.batch else { return false }
            return inbox.put(.batch(batch))
        case .head:
            let continuation = self.state.withLock { state in
                defer { state.requests[frame.request]?.continuation = nil }
                return state.requests[frame.request]?.continuation
            }
            continuation?.resume(returning: frame.body)
            return true
        case .answer: return self.receive(answer: frame)
        case .done, .end, .failed:
            guard let request = self.state.withLock({ $0.requests.removeValue(forKey: frame.request) }) else {
                return true
            }
            if frame.kind != .failed, let statement = request.statement { self.memory.clear(statement) }
            let result: Result<[UInt8], any Error> =
                frame.kind == .failed ? .failure(self.failure(frame.body, of: request)) : .success(frame.body)
            request.inbox?.finish(result.map { _ in })
            request.continuation?.resume(with: result)
            return true
        case .hello, .ping, .cancel, .credit, .shutdown, .ask: return false
        }
    }

    /// - Returns: False when the frame is not an answer, or the request did not ask for rows.
    private func receive(answer frame: WorkerFrame) -> Bool {
        guard let answer = try? WorkerShortAnswer.decode(frame.body) else { return false }
        guard let request = self.state.withLock({ $0.requests.removeValue(forKey: frame.request) }) else { return true }
        if let statement = request.statement { self.memory.clear(statement) }
        guard let inbox = request.inbox, inbox.put(.bytes(answer.stream)) else {
            request.continuation?.resume(throwing: WorkerGone(fault: .malformed, wasAlone: false))
            return false
        }
        inbox.finish(.success(()))
        request.continuation?.resume(returning: answer.head)
        return true
    }

    /// A request that was cancelled because its time had passed says so.
    private func failure(_ body: [UInt8], of request: Request) -> any Error {
        let error = WorkerFailure.decode(body)
        guard request.isOverdue, error.code == .cancelled else { return error }
        return Self.timeLimit
    }

    private static let timeLimit = ColumnarError(.timeLimit, "the query's time limit has passed")

    /// Looks for what is overdue.
    private func look(pings: Bool) -> Fault? {
        let now = FramePipe.milliseconds()
        let (overdue, fault) = self.state.withLock { state -> ([UInt64], Fault?) in
            var overdue: [UInt64] = []
            for (id, request) in state.requests where request.deadline <= now {
                if request.deadline + self.graceMilliseconds <= now { return ([], .overdue) }
                if !request.isOverdue { overdue.append(id) }
                state.requests[id]?.isOverdue = true
            }
            if pings {
                guard state.missedPongs < self.missedPongsMax else { return (overdue, .hung) }
                state.missedPongs += 1
            }
            return (overdue, nil)
        }
        for id in overdue {
            self.state.withLock { $0.requests[id]?.inbox }?.finish(.failure(Self.timeLimit))
            self.pipe.send(.cancel, id)
        }
        if pings, fault == nil { self.pipe.send(.ping, 0) }
        return fault
    }

    private func end(_ fault: Fault) {
        self.pipe.close()
        let (requests, isReady) = self.state.withLock { state in
            state.ending = state.ending ?? fault
            defer { state.requests = [:] }
            return (state.requests.values, state.isReady)
        }
        self.memory.ended(with: Set(requests.compactMap(\.statement)))
        let statements = requests.count { $0.isStatement }
        for request in requests {
            let others = statements - (request.isStatement ? 1 : 0)
            let error: any Error =
                request.isOverdue && request.isStatement
                ? Self.timeLimit : WorkerGone(fault: fault, wasAlone: isReady && others == 0)
            request.inbox?.finish(.failure(error))
            request.continuation?.resume(throwing: error)
        }
    }
}

/// The process that a request was sent to is gone; the request may be sent again.
struct WorkerGone: Error, CustomStringConvertible {
    let fault: WorkerLink.Fault
    /// Whether no statement but this request's own was running there, in a process that had come to life.
    let wasAlone: Bool
    /// Whether the request had been sent to it.
    var hadBegun = true

    var description: String { "the worker process that was asked is gone (\(self.fault.rawValue))" }
}
