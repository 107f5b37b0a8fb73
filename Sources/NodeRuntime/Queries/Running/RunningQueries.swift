internal import Laboratory
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// The statements that this node answers: how many run at once, who waits, and a handle on each.
///
/// Freed places go round the organizations that wait, so that one with many statements does not hold up the others. Safe to call from any task.
final class RunningQueries: Sendable {
    /// Most bytes of a statement's text that lists show.
    static let shownBytesMax = 2_048
    /// Most organizations of a statement that lists name.
    static let shownOrganizationsMax = 16
    /// Bytes of randomness in an id.
    static let idBytes = 8

    /// Bounds of this node.
    struct Limits: Sendable, Hashable {
        var admission: AdmissionQueue<Share>.Limits
        /// How long a statement waits for its place.
        var waitMax: Duration
        /// How long rows may lie unread.
        var unreadMax: Duration

        /// - Parameters:
        ///   - running: At once, of all callers.
        ///   - waiting: In the queue.
        init(running: Int, waiting: Int, waitMax: Duration, unreadMax: Duration) {
            self.admission = AdmissionQueue<Share>.Limits(
                runningMax: running,
                // The others always find a place, unless there is just one.
                runningPerKeyMax: max(1, running - max(1, running / 4)),
                waitingMax: waiting,
                waitingPerKeyMax: max(1, waiting / 2)
            )
            self.waitMax = waitMax
            self.unreadMax = unreadMax
        }
    }

    /// Who shares the places with the others.
    enum Share: Sendable, Hashable {
        case organization(OrganizationKey)
        /// A statement over several organizations counts for its token.
        case token(String)
    }

    private struct State {
        var queue: AdmissionQueue<Share>
        var waiters: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        var tickets: UInt64 = 0
        var queries: [String: RunningQuery] = [:]
        var isClosed = false
    }

    let limits: Limits
    private let state: Mutex<State>
    private let now: @Sendable () -> ContinuousClock.Instant

    /// - Parameter now: The time, which tells how long a statement has run and its rows lie unread.
    init(limits: Limits, now: @escaping @Sendable () -> ContinuousClock.Instant = { NodeClock.monotonic.now }) {
        self.limits = limits
        self.now = now
        self.state = Mutex(State(queue: AdmissionQueue(limits: limits.admission)))
    }

    /// Of all statements: those that run, and those that wait.
    var counts: (running: Int, waiting: Int) { self.state.withLock { ($0.queue.running, $0.queue.waiting) } }

    /// Every statement, the oldest first.
    var all: [RunningQuery] {
        self.state.withLock { Array($0.queries.values) }.sorted { ($0.arrived, $0.id) < ($1.arrived, $1.id) }
    }

    /// The statement of that id, while it runs.
    func query(_ id: String) -> RunningQuery? { self.state.withLock { $0.queries[id] } }

    /// Waits for a place, runs `body`, and hands out its outcome with rows that can be stopped.
    ///
    /// The place is free again when the outcome's rows were read or dropped.
    /// - Throws: ``QueryError`` `.busy` when the queue is full or the wait too long; what `body` throws.
    func run(
        sql: String,
        organizations: [OrganizationKey],
        caller: QueryCaller,
        _ body: @escaping @Sendable () async throws -> QueryOutcome
    ) async throws -> QueryOutcome {
        let share: Share =
            if let only = organizations.first, organizations.count == 1 {
                .organization(only)
            } else {
                .token(caller.token)
            }
        let query = RunningQuery(
            id: RandomText.hex(bytes: Self.idBytes),
            sql: Self.shown(sql),
            organizations: organizations,
            caller: caller,
            now: self.now
        )
        let isOpen = self.state.withLock { state in
            if !state.isClosed { state.queries[query.id] = query }
            return !state.isClosed
        }
        guard isOpen else { throw QueryError(.unavailable, "the node shuts down") }
        let lease: QueryLease
        do {
            // The lease is made with the place: whatever happens then gives it back.
            lease = try await query.step(.waiting) {
                try await self.admit(share)
                return QueryLease(query: query) {
                    self.forget(query)
                    self.release(share)
                }
            }
        } catch {
            self.forget(query)
            throw error
        }
        let outcome = try await query.step(.running, body)
        query.begin(outcome)
        return outcome.replacing(batches: RecordBatchStream(WatchedBatches(lease: lease)))
    }

    /// Ends statements whose rows nobody reads, which would hold their place, a snapshot and memory for ever.
    /// - Returns: How many were ended.
    @discardableResult
    func endAbandoned() -> Int {
        let now = self.now()
        var ended = 0
        for query in self.all {
            let sight = query.sight
            guard sight.phase == .streaming, !sight.isAwaited,
                sight.lastRead.duration(to: now) >= self.limits.unreadMax
            else { continue }
            query.stop(.abandoned(after: self.limits.unreadMax))
            ended += 1
        }
        return ended
    }

    /// Takes no statement any more and ends those there are.
    func close() {
        let queries = self.state.withLock { state in
            state.isClosed = true
            return Array(state.queries.values)
        }
        for query in queries { query.stop(.shutdown) }
    }

    // MARK: Places

    private func admit(_ share: Share) async throws {
        let (ticket, answer) = self.state.withLock { state in
            state.tickets += 1
            return (state.tickets, state.queue.request(state.tickets, of: share))
        }
        switch answer {
        case .runs: return
        case .refused: throw QueryError(.busy, "too many queries wait on this node; try again")
        case .waits: break
        }
        let patience = self.limits.waitMax
        let timer = Task {  // task-owner: cancelled below, once the wait is over
            while true {
                try await NodeClock.monotonic.sleep(for: patience)
                let seconds = patience.components.seconds
                self.withdraw(ticket, share, QueryError(.busy, "no place became free within \(seconds) s; try again"))
            }
        }
        defer { timer.cancel() }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let isAdmitted = self.state.withLock { state in
                    guard state.queue.isWaiting(ticket, of: share) else { return true }
                    state.waiters[ticket] = continuation
                    return false
                }
                if isAdmitted { return continuation.resume() }
                // The cancellation may have come before there was a continuation.
                if Task.isCancelled { self.withdraw(ticket, share, CancellationError()) }
            }
        } onCancel: {
            self.withdraw(ticket, share, CancellationError())
        }
    }

    /// Takes back a request that waits for its place. Without a continuation yet it goes on waiting: who makes one asks for the cancellation.
    private func withdraw(_ ticket: UInt64, _ share: Share, _ error: any Error) {
        let continuation = self.state.withLock { state -> CheckedContinuation<Void, any Error>? in
            guard state.waiters[ticket] != nil, state.queue.withdraw(ticket, of: share) else { return nil }
            return state.waiters.removeValue(forKey: ticket)
        }
        continuation?.resume(throwing: error)
    }

    private func release(_ share: Share) {
        let started = self.state.withLock { state in
            state.queue.finish(share).map { state.waiters.removeValue(forKey: $0) }
        }
        for continuation in started { continuation?.resume() }
    }

    private func forget(_ query: RunningQuery) { self.state.withLock { $0.queries[query.id] = nil } }

    private static func shown(_ sql: String) -> String {
        guard sql.utf8.count > self.shownBytesMax else { return sql }
        return String(decoding: Array(sql.utf8.prefix(self.shownBytesMax)), as: UTF8.self) + "…"
    }
}
