internal import Dispatch
internal import Foundation
internal import Synchronization

/// The threads on which every call into the engine runs, so that none blocks Swift's own pool or an event loop.
///
/// Two lanes with their own threads and bounded queues: a long query never holds up ingest. A further thread
/// interrupts queries that were cancelled or whose time has passed.
package final class ColumnarThreads: Sendable {
    /// Numbers of threads and length of the queues.
    package struct Configuration: Sendable {
        /// Threads for queries; each runs one job at a time.
        package var queryThreads: Int
        /// Threads for ingest.
        package var ingestThreads: Int
        /// Most waiting jobs of one lane; one more is refused with `.busy`.
        package var queuedJobsMax: Int
        /// Niceness added to ingest threads, so that queries go first when processors are short.
        package var ingestNice: Int

        /// Creates a configuration.
        package init(
            queryThreads: Int = 2,
            ingestThreads: Int = 1,
            queuedJobsMax: Int = 1_024,
            ingestNice: Int = 15
        ) {
            self.queryThreads = queryThreads
            self.ingestThreads = ingestThreads
            self.queuedJobsMax = queuedJobsMax
            self.ingestNice = ingestNice
        }
    }

    /// Which threads a job runs on.
    package enum Lane: Sendable {
        /// Queries and everything a caller waits for.
        case query
        /// Projection of the ledger.
        case ingest
    }

    let interrupter = Interrupter()
    /// For all stores that use these threads.
    let statements = KnownStatements()
    private let queryLane: WorkLane
    private let ingestLane: WorkLane

    /// Starts the threads. They end with ``shutdown()``.
    package init(configuration: Configuration = .init()) {
        precondition(configuration.queryThreads > 0 && configuration.ingestThreads > 0, "a lane needs a thread")
        self.queryLane = WorkLane(
            name: "columnar-query",
            threads: configuration.queryThreads,
            queuedJobsMax: configuration.queuedJobsMax,
            nice: 0
        )
        self.ingestLane = WorkLane(
            name: "columnar-ingest",
            threads: configuration.ingestThreads,
            queuedJobsMax: configuration.queuedJobsMax,
            nice: configuration.ingestNice
        )
        self.interrupter.start()
    }

    deinit {
        // A forgotten shutdown must not leave threads behind; they end on their own.
        self.queryLane.close()
        self.ingestLane.close()
        self.interrupter.close()
    }

    /// Runs `body` on a thread of `lane` and returns what it returns.
    ///
    /// Cancelling the calling task does not stop a job: queries are stopped through their own cancellation.
    /// - Throws: What `body` throws; ``ColumnarError`` `.busy` when the queue is full, `.closed` after shutdown.
    package func run<T: Sendable>(on lane: Lane, _ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            let refusal = self.submit(on: lane) { continuation.resume(with: Result { try body() }) }
            if let refusal { continuation.resume(throwing: refusal) }
        }
    }

    /// Queues `job` without waiting.
    /// - Returns: The reason when it was not taken; then `job` never runs.
    func submit(on lane: Lane, _ job: @escaping @Sendable () -> Void) -> ColumnarError? {
        switch lane {
        case .query: self.queryLane.submit(job)
        case .ingest: self.ingestLane.submit(job)
        }
    }

    /// Refuses new jobs, finishes the queued ones and waits until every thread has ended. May be called again.
    package func shutdown() async {
        await self.queryLane.closeAndWait()
        await self.ingestLane.closeAndWait()
        self.interrupter.close()
    }
}

/// Statements that came lately, with the tables that they name, so that one that comes again, or to the next store, is not
/// parsed for that; what is remembered hangs on the text alone.
final class KnownStatements: Sendable {
    /// Statements of each kind; when there are more, all are forgotten.
    static let max = 256
    /// The longest of the router's own that is remembered.
    static let bytesMax = 16 << 10

    /// Those of users that have passed the gate.
    let passed = Mutex([String: Set<String>]())
    /// Those of the router's own, which no gate has seen.
    let routers = Mutex([String: Set<String>]())
    /// The router's own that are one SELECT and nothing else.
    let selects = Mutex(Set<String>())
}

/// One bounded queue and its threads.
private final class WorkLane: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var head = 0
        var closed = false
        var running: Int
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// DuckDB's parser and binder recurse: more room than the default of some systems.
    private static let stackBytes = 16 << 20

    private let state: Mutex<State>
    private let ready = DispatchSemaphore(value: 0)
    private let queuedJobsMax: Int
    private let threads: Int

    init(name: String, threads: Int, queuedJobsMax: Int, nice: Int) {
        self.state = Mutex(State(running: threads))
        self.queuedJobsMax = queuedJobsMax
        self.threads = threads
        for number in 0..<threads {
            let thread = Thread { [self] in
                if nice > 0 { lowerPriority(by: nice) }
                self.work()
            }
            thread.name = "\(name)-\(number)"
            thread.stackSize = Self.stackBytes
            thread.start()
        }
    }

    func submit(_ job: @escaping @Sendable () -> Void) -> ColumnarError? {
        let refusal: ColumnarError? = self.state.withLock { state in
            guard !state.closed else { return ColumnarError(.closed, "the columnar threads have been shut down") }
            guard state.jobs.count - state.head < self.queuedJobsMax else {
                return ColumnarError(.busy, "\(self.queuedJobsMax) columnar jobs are already waiting")
            }
            state.jobs.append(job)
            return nil
        }
        if refusal == nil { self.ready.signal() }
        return refusal
    }

    private func work() {
        while true {
            self.ready.wait()
            let job: (@Sendable () -> Void)? = self.state.withLock { state in
                guard state.head < state.jobs.count else { return nil }
                let job = state.jobs[state.head]
                state.jobs[state.head] = {}
                state.head += 1
                if state.head == state.jobs.count || state.head > self.queuedJobsMax {
                    state.jobs.removeFirst(state.head)
                    state.head = 0
                }
                return job
            }
            guard let job else { break }
            job()
        }
        let waiters = self.state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.running -= 1
            guard state.running == 0 else { return [] }
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Wakes every thread once more than there are jobs: the surplus wake-ups find no job and end the threads.
    func close() {
        let first = self.state.withLock { state in
            defer { state.closed = true }
            return !state.closed
        }
        guard first else { return }
        for _ in 0..<self.threads { self.ready.signal() }
    }

    func closeAndWait() async {
        self.close()
        await withCheckedContinuation { continuation in
            let ended = self.state.withLock { state in
                if state.running > 0 { state.waiters.append(continuation) }
                return state.running == 0
            }
            if ended { continuation.resume() }
        }
    }
}

/// Lowers the calling thread's priority; a refusal is harmless, the lane then runs at normal priority.
private func lowerPriority(by nice: Int) {
    _ = setpriority(CInt(PRIO_PROCESS.rawValue), 0, CInt(nice))
}
