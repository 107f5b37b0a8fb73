internal import AuditLedger
internal import Primitives
internal import Storage
internal import Synchronization

@testable internal import Shards

/// A clock that moves only when a test says so.
final class ManualClock: Clock, Sendable {
    struct Instant: InstantProtocol, Hashable {
        var offset: Duration
        func advanced(by duration: Duration) -> Self { Self(offset: self.offset + duration) }
        func duration(to other: Self) -> Duration { other.offset - self.offset }
        static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
    }

    private struct Sleeper {
        let deadline: Instant
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var now = Instant(offset: .zero)
        var sleeps = 0
        var sleepers: [Int: Sleeper] = [:]
        var cancelled: Set<Int> = []
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    var now: Instant { self.state.withLock { $0.now } }
    var minimumResolution: Duration { .nanoseconds(1) }
    /// How often anybody has slept.
    var sleepCount: Int { self.state.withLock { $0.sleeps } }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let id = self.state.withLock { state in
            state.sleeps += 1
            return state.sleeps
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let (isCancelled, waiters) = self.state.withLock { state in
                    if state.cancelled.remove(id) != nil { return (true, [CheckedContinuation<Void, Never>]()) }
                    state.sleepers[id] = Sleeper(deadline: deadline, continuation: continuation)
                    defer { state.waiters = [] }
                    return (false, state.waiters)
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) }
                for waiter in waiters { waiter.resume() }
            }
        } onCancel: {
            let sleeper = self.state.withLock { state -> Sleeper? in
                if let sleeper = state.sleepers.removeValue(forKey: id) { return sleeper }
                state.cancelled.insert(id)
                return nil
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Returns when somebody sleeps.
    func sleeper() async {
        await withCheckedContinuation { continuation in
            let isThere = self.state.withLock { state in
                if !state.sleepers.isEmpty { return true }
                state.waiters.append(continuation)
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    /// Moves time forward and wakes those whose time has come.
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

/// Columnar stores that keep sequences in memory, watch that each comes once and in order, and fail when told to.
final class FakeProjections: ProjectionStore {
    struct Failure: Error {}

    struct State {
        var rows: [OrganizationID: [SequenceNumber]] = [:]
        var batchSizes: [Int] = []
        var urgencies: [Bool] = []
        var violations: [String] = []
        var resets = 0
        /// Calls of `position`.
        var questions = 0
        /// Calls of `project` that fail before one succeeds.
        var failuresLeft = 0
        var running = 0
        var runningMax = 0
        var isHolding = false
        var held: [CheckedContinuation<Void, Never>] = []
        var watchers: [CheckedContinuation<Void, Never>] = []
    }

    let state = Mutex(State())

    func position(of organization: OrganizationID) async throws -> SequenceNumber {
        self.state.withLock { state in
            state.questions += 1
            return state.rows[organization]?.last ?? .zero
        }
    }

    func project(_ records: [StoredRecord], to organization: OrganizationID, isUrgent: Bool) async throws {
        self.state.withLock { state in
            state.running += 1
            state.runningMax = max(state.runningMax, state.running)
        }
        defer { self.state.withLock { $0.running -= 1 } }
        await self.holdBack()
        try self.state.withLock { state in
            if state.failuresLeft > 0 {
                state.failuresLeft -= 1
                throw Failure()
            }
            state.batchSizes.append(records.count)
            state.urgencies.append(isUrgent)
            for record in records {
                let expected = (state.rows[organization]?.last ?? .zero).next
                if record.sequence != expected {
                    state.violations.append("organization \(organization): \(record.sequence) instead of \(expected)")
                }
                state.rows[organization, default: []].append(record.sequence)
            }
        }
    }

    func reset(_ organization: OrganizationID) async throws {
        self.state.withLock { state in
            state.resets += 1
            state.rows[organization] = []
        }
    }

    func rows(of organization: OrganizationID) -> [UInt64] {
        self.state.withLock { $0.rows[organization] ?? [] }.map(\.rawValue)
    }

    // MARK: Holding

    private func holdBack() async {
        await withCheckedContinuation { continuation in
            let (goesOn, watchers) = self.state.withLock { state in
                guard state.isHolding else { return (true, [CheckedContinuation<Void, Never>]()) }
                state.held.append(continuation)
                defer { state.watchers = [] }
                return (false, state.watchers)
            }
            if goesOn { continuation.resume() }
            for watcher in watchers { watcher.resume() }
        }
    }

    /// From now on calls of `project` wait.
    func hold() { self.state.withLock { $0.isHolding = true } }

    /// Returns when a call of `project` waits.
    func heldCall() async {
        await withCheckedContinuation { continuation in
            let isThere = self.state.withLock { state in
                if !state.held.isEmpty { return true }
                state.watchers.append(continuation)
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    /// Lets held calls go on, and those to come.
    func letGo() {
        let held = self.state.withLock { state in
            state.isHolding = false
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }
}

/// Something that happens once.
final class Flag: Sendable {
    private let state = Mutex(false)
    var isRaised: Bool { self.state.withLock { $0 } }
    func raise() { self.state.withLock { $0 = true } }
}

/// A ledger, a projector that runs over it, and what it projects into.
struct ProjectorBench: Sendable {
    let store: FaultInjectingStore
    let projections: FakeProjections
    let projector: Projector
    let clock: ManualClock
    let failures: FailureList

    final class FailureList: Sendable {
        let all = Mutex<[any Error]>([])
        var count: Int { self.all.withLock { $0.count } }
    }

    /// Writes `count` more records of the organization.
    func grow(_ organization: OrganizationID, by count: Int) throws {
        var appender = LedgerAppender(head: try LedgerReader(store: self.store, organization: organization).head())
        var batch = WriteBatch()
        for number in 0..<count {
            let draft = try Fixture.draft(number, of: organization)
            _ = appender.append(draft, stampedAt: Timestamp(microseconds: 1), into: &batch)
        }
        appender.finish(into: &batch)
        try self.store.write(batch)
    }

    /// Runs `body` beside a running projector, which is cancelled afterwards.
    static func run(
        configure: (inout Projector.Configuration) -> Void = { _ in },
        _ body: @escaping @Sendable (ProjectorBench) async throws -> Void
    ) async throws {
        let threads = try StoreThreads(name: "test-read", count: 1, queuedMax: 64)
        defer { threads.shutdown() }
        var configuration = Projector.Configuration()
        configure(&configuration)
        let store = try FaultInjectingStore(InMemoryStore())
        let projections = FakeProjections()
        let failures = FailureList()
        let projector = Projector(
            store: store,
            projections: projections,
            threads: threads,
            configuration: configuration
        ) { _, error in failures.all.withLock { $0.append(error) } }
        let bench = ProjectorBench(
            store: store,
            projections: projections,
            projector: projector,
            clock: ManualClock(),
            failures: failures
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await projector.run(clock: bench.clock) }
            do {
                try await body(bench)
            } catch {
                projections.letGo()
                group.cancelAll()
                throw error
            }
            projections.letGo()
            group.cancelAll()
            try await group.waitForAll()
        }
    }
}
