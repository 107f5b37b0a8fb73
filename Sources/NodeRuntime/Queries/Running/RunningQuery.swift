internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// Who asked a question, and how it came.
struct QueryCaller: Sendable, Hashable {
    /// How a statement reached the node.
    enum Channel: String, Sendable {
        case rest
        case flight
    }

    let token: String
    /// The token's name, or its id when it has none.
    let name: String
    let channel: Channel
    let requestID: String
    /// Whether records that are for auditors and operators are rows to this caller.
    let seesReserved: Bool
}

/// One statement from its arrival to its last batch.
///
/// Whoever has it may ``stop(_:)`` it at any time: the step under way is cancelled, which reaches every shard, and what
/// produces its rows is let go.
final class RunningQuery: Sendable {
    /// Where a statement is.
    enum Phase: String, Sendable {
        /// For a place among those that run.
        case waiting
        /// Planning, gathering, up to the first rows.
        case running
        /// Its rows are read.
        case streaming
    }

    /// Why a statement was ended from outside.
    enum Stop: Sendable {
        /// By a person.
        case killed(by: String)
        /// Nobody read its rows.
        case abandoned(after: Duration)
        /// The node stops.
        case shutdown

        var error: QueryError {
            switch self {
            case .killed(let name): QueryError(.cancelled, "the query was ended by \(name)")
            case .abandoned(let patience):
                QueryError(
                    .cancelled,
                    "the query was ended: its rows were not read for \(patience.components.seconds) s"
                )
            case .shutdown: QueryError(.unavailable, "the node shuts down")
            }
        }
    }

    /// What a list of running statements shows.
    struct Sight: Sendable {
        let phase: Phase
        let rows: Int
        let bytes: Int
        let plan: String?
        /// When somebody last waited for rows.
        let lastRead: ContinuousClock.Instant
        /// Whether somebody waits for rows, or for the first ones, now.
        let isAwaited: Bool
    }

    /// The rows' source; its reader calls it from one task at a time.
    private final class Source: @unchecked Sendable {  // sendable-ok: used by one task at a time
        private var iterator: RecordBatchStream.AsyncIterator

        init(_ batches: RecordBatchStream) { self.iterator = batches.makeAsyncIterator() }

        func next() async throws -> ArrowRecordBatch? { try await self.iterator.next() }
    }

    private struct State {
        var phase = Phase.waiting
        var rows = 0
        var bytes = 0
        var plan: String?
        var source: Source?
        var stop: Stop?
        var cancel: (@Sendable () -> Void)?
        var lastRead: ContinuousClock.Instant
    }

    let id: String
    let sql: String
    let organizations: [OrganizationKey]
    let caller: QueryCaller
    let arrived: ContinuousClock.Instant
    private let now: @Sendable () -> ContinuousClock.Instant
    private let state: Mutex<State>

    init(
        id: String,
        sql: String,
        organizations: [OrganizationKey],
        caller: QueryCaller,
        now: @escaping @Sendable () -> ContinuousClock.Instant
    ) {
        self.id = id
        self.sql = sql
        self.organizations = organizations
        self.caller = caller
        self.now = now
        self.arrived = now()
        self.state = Mutex(State(lastRead: self.arrived))
    }

    /// How long it has been here.
    var age: Duration { self.arrived.duration(to: self.now()) }

    var sight: Sight {
        self.state.withLock {
            Sight(
                phase: $0.phase,
                rows: $0.rows,
                bytes: $0.bytes,
                plan: $0.plan,
                lastRead: $0.lastRead,
                isAwaited: $0.cancel != nil
            )
        }
    }

    /// Ends the statement; what waits for it throws the reason's error. The first reason counts.
    func stop(_ reason: Stop) {
        let cancel = self.state.withLock { state in
            if state.stop == nil { state.stop = reason }
            if state.cancel == nil { state.source = nil }
            return state.cancel
        }
        cancel?()
    }

    /// Runs one step of the statement so that ``stop(_:)`` and the caller's cancellation end it.
    /// - Throws: What `body` throws; the reason's error when it was stopped.
    func step<Value: Sendable>(
        _ phase: Phase,
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let task = Task { try await body() }  // task-owner: this call awaits it; stop and the caller cancel it
        let reason = self.state.withLock { state in
            state.phase = phase
            state.cancel = { task.cancel() }
            return state.stop
        }
        if reason != nil { task.cancel() }
        let result = await withTaskCancellationHandler {
            await task.result
        } onCancel: {
            task.cancel()
        }
        let now = self.now()
        let stopped = self.state.withLock { state in
            state.cancel = nil
            state.lastRead = now
            if state.stop != nil { state.source = nil }
            return state.stop
        }
        if let stopped { throw stopped.error }
        return try result.get()
    }

    /// Hands over what produces the rows.
    func begin(_ outcome: QueryOutcome) {
        let source = Source(outcome.batches)
        self.state.withLock { state in
            state.phase = .streaming
            state.plan = outcome.plan.rawValue
            if state.stop == nil { state.source = source }
        }
    }

    /// The next rows; nil after the last.
    func next() async throws -> ArrowRecordBatch? {
        let (source, stopped) = self.state.withLock { ($0.source, $0.stop) }
        if let stopped { throw stopped.error }
        guard let source else { return nil }
        do {
            let batch = try await self.step(.streaming) { try await source.next() }
            self.state.withLock { state in
                state.rows += batch?.rowCount ?? 0
                state.bytes += batch?.byteCount ?? 0
                if batch == nil { state.source = nil }
            }
            return batch
        } catch {
            self.state.withLock { $0.source = nil }
            throw error
        }
    }
}

/// The rows of a running statement; the statement ends with the last of these and of their iterators.
struct WatchedBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    let lease: QueryLease

    struct AsyncIterator: AsyncIteratorProtocol {
        var lease: QueryLease?

        mutating func next() async throws -> ArrowRecordBatch? {
            guard let lease = self.lease else { return nil }
            do {
                let batch = try await lease.query.next()
                if batch == nil { self.lease = nil }
                return batch
            } catch {
                self.lease = nil
                throw error
            }
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(lease: self.lease) }
}

/// Keeps a statement listed, and its place taken, as long as anybody holds this.
final class QueryLease: Sendable {
    let query: RunningQuery
    private let end: @Sendable () -> Void

    init(query: RunningQuery, end: @escaping @Sendable () -> Void) {
        self.query = query
        self.end = end
    }

    deinit { self.end() }
}
