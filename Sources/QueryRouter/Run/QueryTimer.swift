/// Time as the router sees it, from a clock that it is given.
package struct QueryTimer: Sendable {
    /// Time since the timer was made.
    let now: @Sendable () -> Duration
    let sleep: @Sendable (Duration) async throws -> Void

    package init(clock: some Clock<Duration>) {
        let origin = clock.now
        self.now = { origin.duration(to: clock.now) }
        self.sleep = { try await clock.sleep(for: $0) }
    }
}

/// The time that a query may take, counted from when it came.
struct QueryDeadline: Sendable {
    let timer: QueryTimer
    let limit: Duration
    let started: Duration

    init(timer: QueryTimer, limit: Duration) {
        self.timer = timer
        self.limit = limit
        self.started = timer.now()
    }

    var elapsed: Duration { self.timer.now() - self.started }

    static func error(_ limit: Duration) -> QueryError {
        QueryError(.timeLimit, "the query's time limit of \(limit) has passed")
    }

    /// The time left.
    /// - Throws: ``QueryError`` `.timeLimit` when there is none.
    func remaining() throws -> Duration {
        let left = self.limit - self.elapsed
        guard left > .zero else { throw Self.error(self.limit) }
        return left
    }

    /// Runs `body`, and cancels it when the time has passed.
    func run<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let left = try self.remaining()
        return try await withThrowingTaskGroup(of: Value.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await self.timer.sleep(left)
                throw Self.error(self.limit)
            }
            defer { group.cancelAll() }
            guard let value = try await group.next() else { throw CancellationError() }
            return value
        }
    }
}
