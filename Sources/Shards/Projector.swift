package import AuditLedger
package import Primitives
package import Storage
internal import Synchronization

/// The columnar stores of a node as the shards see them: one per organization, derived from its ledger.
package protocol ProjectionStore: Sendable {
    /// The last sequence that the organization's columnar store holds; zero when it holds none or does not exist.
    /// - Throws: ``ProjectionUnavailable``; any other error: the store is unusable and is rebuilt by ``reset(_:)``.
    func position(of organization: OrganizationID) async throws -> SequenceNumber

    /// Adds consecutive records and moves the position to that of the last, in one transaction.
    ///
    /// Records at or below the position are already there and are left alone.
    /// - Parameter isUrgent: A query waits; otherwise the work gives way to everything else.
    func project(_ records: [StoredRecord], to organization: OrganizationID, isUrgent: Bool) async throws

    /// Deletes the organization's columnar store, so that it is built anew from the first record.
    func reset(_ organization: OrganizationID) async throws
}

/// The columnar store cannot be had now, and its files are not to blame: it stays as it is, and is tried again later.
package struct ProjectionUnavailable: CausedError, Sendable, CustomStringConvertible {
    package let organization: OrganizationID
    package let cause: (any Error)?

    package init(organization: OrganizationID, cause: (any Error)?) {
        self.organization = organization
        self.cause = cause
    }

    package var description: String { "the columnar store of organization \(self.organization) cannot be had now" }
}

/// Counts what the projector does.
package struct ProjectorCounters: Sendable, Equatable {
    package var records: UInt64 = 0
    package var batches: UInt64 = 0
    package var failures: UInt64 = 0
    package var rebuilds: UInt64 = 0
}

/// Feeds new records of every organization into its columnar store, in batches, exactly once.
///
/// A store that fails is deleted and rebuilt from the ledger; one that fails again waits for the next append or query, as does one whose ledger
/// cannot be read. Nothing here changes the ledger. Progress is kept in the columnar stores themselves, in the transactions that add the rows.
///
/// What no query waits for gives way: after a small batch its worker rests for a multiple of the time that it took, and
/// batches grow meanwhile. So a thousand organizations with a few new records each cost a bounded part of a core, and
/// one with many records, whose batches are full, is projected without a pause.
package final class Projector: Sendable {
    /// How the projector paces itself.
    package struct Configuration: Sendable {
        /// Most records of one transaction.
        package var batchRecordsMax = 8192
        /// Most bytes of records read for one transaction.
        package var batchBytesMax = 16 * 1024 * 1024
        /// Organizations worked on at once.
        package var concurrencyMax = 2
        /// How long new records may wait for more, unless a query wants them.
        package var linger = Duration.milliseconds(750)
        /// How many times as long as a small batch took its worker rests before it takes the next organization, unless
        /// a query waits: with two workers and 49 the work takes at most a 25th of a core.
        package var restFactor = 49
        /// The longest rest.
        package var restMax = Duration.seconds(2)
        /// An organization that has grown by so many records since it was last worked on waits neither for its turn nor
        /// for more: a batch of that size costs little more for a record than the largest.
        package var backlogRecords = 2_048

        package init() {}
    }

    private struct Waiter {
        let id: UInt64
        let sequence: SequenceNumber
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct Progress {
        /// Nil until the columnar store was asked.
        var projected: SequenceNumber?
        var waiters: [Waiter] = []
        var isDirty = false
        var isRunning = false
        /// In ``State/urgent``.
        var isUrgent = false
        /// By how many records it has grown since it was last worked on.
        var backlog = 0

        /// - Returns: Whether it was dirty before.
        mutating func markDirty() -> Bool {
            defer { self.isDirty = true }
            return self.isDirty
        }

        /// - Returns: Whether there is anything to do that nobody does yet.
        mutating func begin() -> Bool {
            guard self.isDirty, !self.isRunning else { return false }
            self.isDirty = false
            self.isRunning = true
            self.backlog = 0
            return true
        }
    }

    private struct State {
        var organizations: [OrganizationID: Progress] = [:]
        /// Organizations that were found dirty, oldest first; some may have been worked on since.
        var dirty = OrganizationQueue()
        /// Those of them that a query waits for, or that have grown much.
        var urgent = OrganizationQueue()
        var counters = ProjectorCounters()
        var nextWaiter: UInt64 = 0
        var isStopped = false

        /// - Returns: Whether the organization was clean.
        mutating func mark(_ organization: OrganizationID) -> Bool {
            let wasDirty = self.organizations[organization, default: Progress()].markDirty()
            if wasDirty { return false }
            self.dirty.append(organization)
            if self.organizations[organization]?.waiters.isEmpty == false { self.hurry(organization) }
            return true
        }

        mutating func hurry(_ organization: OrganizationID) {
            guard self.organizations[organization]?.isUrgent == false else { return }
            self.organizations[organization]?.isUrgent = true
            self.urgent.append(organization)
        }

        mutating func grow(_ organization: OrganizationID, by records: Int, backlogMax: Int) -> Bool {
            let isNew = self.mark(organization)
            self.organizations[organization]?.backlog += records
            if let backlog = self.organizations[organization]?.backlog, backlog >= backlogMax {
                self.hurry(organization)
            }
            return isNew
        }

        /// Takes the organization that is to be worked on next: those that a query waits for come first.
        mutating func take() -> OrganizationID? {
            while let organization = self.urgent.popFirst() {
                self.organizations[organization]?.isUrgent = false
                if self.organizations[organization]?.begin() == true { return organization }
            }
            while let organization = self.dirty.popFirst() {
                if self.organizations[organization]?.begin() == true { return organization }
            }
            return nil
        }

        /// - Returns: Whether there is more to do for the organization.
        mutating func end(_ organization: OrganizationID) -> Bool {
            self.organizations[organization]?.isRunning = false
            guard let progress = self.organizations[organization], progress.isDirty else { return false }
            self.dirty.append(organization)
            if !progress.waiters.isEmpty { self.hurry(organization) }
            return true
        }
    }

    private let state = Mutex(State())
    private let wake: AsyncStream<Bool>
    private let wakeUp: AsyncStream<Bool>.Continuation
    private let store: any KeyValueStore
    private let projections: any ProjectionStore
    private let threads: StoreThreads
    private let configuration: Configuration
    /// Reports a failure of a columnar store to whoever keeps the log.
    private let onFailure: @Sendable (OrganizationID, any Error) -> Void

    package init(
        store: any KeyValueStore,
        projections: any ProjectionStore,
        threads: StoreThreads,
        configuration: Configuration = Configuration(),
        onFailure: @escaping @Sendable (OrganizationID, any Error) -> Void
    ) {
        self.store = store
        self.projections = projections
        self.threads = threads
        self.configuration = configuration
        self.onFailure = onFailure
        (self.wake, self.wakeUp) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    package var counters: ProjectorCounters { self.state.withLock { $0.counters } }

    /// The last sequence known to be in the organization's columnar store; nil when it was not opened yet.
    package func knownPosition(of organization: OrganizationID) -> SequenceNumber? {
        self.state.withLock { $0.organizations[organization]?.projected }
    }

    /// Says that the organization's ledger has grown; cheap, from any thread.
    package func advanced(_ organization: OrganizationID, by records: Int = 1) {
        let backlogMax = self.configuration.backlogRecords
        let isNew = self.state.withLock { $0.grow(organization, by: records, backlogMax: backlogMax) }
        if isNew { self.wakeUp.yield(false) }
    }

    /// Whether the columnar store is known to have reached `sequence`; false also when that was not asked yet.
    package func hasProjected(_ organization: OrganizationID, _ sequence: SequenceNumber) -> Bool {
        self.state.withLock { state in
            guard !state.isStopped, let projected = state.organizations[organization]?.projected else { return false }
            return projected >= sequence
        }
    }

    /// Returns when the columnar store holds `sequence`; wakes the projector at once.
    ///
    /// A sequence that the ledger does not hold yet is waited for until ``advanced(_:)`` says that it does. Bound the wait by cancelling the task.
    /// - Throws: ``ShardError`` `.projection` when the columnar store failed twice, `.damaged` or `.storage` when the
    ///   ledger cannot be read, `.stopped`, or `CancellationError`.
    package func waitUntilProjected(_ organization: OrganizationID, _ sequence: SequenceNumber) async throws {
        let id = self.state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                enum Outcome { case done, stopped, cancelled, waiting }
                let outcome: Outcome = self.state.withLock { state in
                    if state.isStopped { return .stopped }
                    if Task.isCancelled { return .cancelled }
                    if let projected = state.organizations[organization]?.projected, projected >= sequence {
                        return .done
                    }
                    _ = state.mark(organization)
                    let waiter = Waiter(id: id, sequence: sequence, continuation: continuation)
                    state.organizations[organization]?.waiters.append(waiter)
                    state.hurry(organization)
                    return .waiting
                }
                switch outcome {
                case .done: continuation.resume()
                case .stopped: continuation.resume(throwing: ShardError(code: .stopped, message: "the node stops"))
                case .cancelled: continuation.resume(throwing: CancellationError())
                case .waiting: self.wakeUp.yield(true)
                }
            }
        } onCancel: {
            let waiter = self.state.withLock { state -> Waiter? in
                guard let place = state.organizations[organization]?.waiters.firstIndex(where: { $0.id == id }) else {
                    return nil
                }
                return state.organizations[organization]?.waiters.remove(at: place)
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Forgets what is known of the organization's store, so that the next use asks it again.
    package func forgetPosition(of organization: OrganizationID) {
        self.state.withLock { $0.organizations[organization]?.projected = nil }
    }
}

extension Projector {
    /// Works until cancelled; waiters that are left then get `.stopped`.
    /// - Parameter clock: What lingering is measured by.
    package func run(clock: some Clock<Duration>) async {
        defer { self.stop() }
        var isUrgent = false
        for await wantedNow in self.wake {
            if Task.isCancelled { return }
            isUrgent = wantedNow || self.hasWaiters
            if !isUrgent {
                await self.linger(clock)
                if Task.isCancelled { return }
            }
            await self.workThroughDirty(clock)
        }
    }

    /// Ends the projector: ``run(clock:)`` returns and every waiter is answered.
    package func stop() {
        self.wakeUp.finish()
        let waiters = self.state.withLock { state in
            state.isStopped = true
            let waiters = state.organizations.values.flatMap(\.waiters)
            for organization in state.organizations.keys { state.organizations[organization]?.waiters = [] }
            return waiters
        }
        for waiter in waiters {
            waiter.continuation.resume(throwing: ShardError(code: .stopped, message: "the node stops"))
        }
    }

    private var isStopped: Bool { self.state.withLock { $0.isStopped } }

    private var hasWaiters: Bool {
        self.state.withLock { $0.organizations.values.contains { !$0.waiters.isEmpty } }
    }

    private func hasWaiters(for organization: OrganizationID) -> Bool {
        self.state.withLock { $0.organizations[organization]?.waiters.isEmpty == false }
    }

    /// Waits for more records, in short steps so that a query that comes meanwhile does not wait long.
    private func linger(_ clock: some Clock<Duration>) async {
        if self.configuration.linger <= .zero { return }
        let steps = 10
        for _ in 0..<steps {
            if self.isStopped || self.state.withLock({ !$0.urgent.isEmpty }) { return }
            try? await clock.sleep(for: self.configuration.linger / steps)
            if Task.isCancelled { return }
        }
    }

    private func workThroughDirty<Time: Clock<Duration>>(_ clock: Time) async {
        await withDiscardingTaskGroup { group in
            let inFlight = Semaphore(count: self.configuration.concurrencyMax)
            while true {
                await inFlight.wait()
                guard let organization = self.state.withLock({ $0.take() }) else {
                    // Somebody else may find more to do while a worker rests.
                    inFlight.signal()
                    return
                }
                group.addTask {
                    let begin = clock.now
                    let isBehind = await self.project(organization)
                    if !isBehind { await self.rest(after: begin.duration(to: clock.now), clock) }
                    inFlight.signal()
                }
            }
        }
    }

    /// Lets everything else go first, in short steps so that a query that comes meanwhile does not wait long.
    private func rest(after work: Duration, _ clock: some Clock<Duration>) async {
        var left = min(work * self.configuration.restFactor, self.configuration.restMax)
        while left > .zero {
            let isNeeded = self.state.withLock { !$0.urgent.isEmpty || $0.dirty.isEmpty || $0.isStopped }
            if isNeeded || Task.isCancelled { return }
            let step = min(left, Self.restStep)
            try? await clock.sleep(for: step)
            left -= step
        }
    }

    /// How long a query may wait for a worker that rests.
    private static let restStep = Duration.milliseconds(20)

    /// - Returns: Whether a batch was full, so that more records may come faster than small batches take them.
    private func project(_ organization: OrganizationID) async -> Bool {
        var failure: (any Error)?
        var isBehind = false
        do {
            isBehind = try await self.catchUp(organization)
        } catch let error as LedgerUnreadable {
            // The columnar store is not to blame: it stays as it is.
            self.onFailure(organization, error.asShardError)
            self.state.withLock { $0.counters.failures += 1 }
            failure = error
        } catch let error as ProjectionUnavailable {
            self.onFailure(organization, error)
            self.state.withLock { $0.counters.failures += 1 }
            failure = error
        } catch let firstError {
            self.onFailure(organization, firstError)
            self.state.withLock {
                $0.counters.failures += 1
                $0.counters.rebuilds += 1
                $0.organizations[organization]?.projected = nil
            }
            do {
                try await self.projections.reset(organization)
                isBehind = try await self.catchUp(organization)
            } catch {
                self.onFailure(organization, (error as? LedgerUnreadable)?.asShardError ?? error)
                self.state.withLock { $0.counters.failures += 1 }
                failure = error
            }
        }
        self.finish(organization, failure: failure)
        return isBehind
    }

    /// The ledger could not be read, so that nothing is known against the columnar store.
    private struct LedgerUnreadable: Error {
        let organization: OrganizationID
        let cause: any Error

        var asShardError: ShardError {
            let isDamaged = (self.cause as? LedgerError)?.code == .damaged
            return ShardError(
                code: isDamaged ? .damaged : .storage,
                message: "the ledger of organization \(self.organization) cannot be read",
                cause: self.cause
            )
        }
    }

    private func readLedger<Value: Sendable>(
        _ organization: OrganizationID,
        _ body: @escaping @Sendable (LedgerReader) throws -> Value
    ) async throws(LedgerUnreadable) -> Value {
        let store = self.store
        do {
            return try await self.threads.run { try body(LedgerReader(store: store, organization: organization)) }
        } catch {
            throw LedgerUnreadable(organization: organization, cause: error)
        }
    }

    private func finish(_ organization: OrganizationID, failure: (any Error)?) {
        let (failed, isDirty) = self.state.withLock { state -> ([Waiter], Bool) in
            var failed: [Waiter] = []
            if failure != nil {
                failed = state.organizations[organization]?.waiters ?? []
                state.organizations[organization]?.waiters = []
            }
            return (failed, state.end(organization))
        }
        if !failed.isEmpty {
            let error =
                (failure as? LedgerUnreadable)?.asShardError
                ?? ShardError(code: .projection, message: "the columnar store failed", cause: failure)
            for waiter in failed { waiter.continuation.resume(throwing: error) }
        }
        if isDirty { self.wakeUp.yield(false) }
    }

    /// - Returns: Whether a batch was full.
    private func catchUp(_ organization: OrganizationID) async throws -> Bool {
        var isBehind = false
        var position: SequenceNumber
        if let known = self.knownPosition(of: organization) {
            position = known
        } else {
            position = try await self.projections.position(of: organization)
            try await self.checkNotAhead(organization, position)
            self.reached(organization, position, records: 0)
        }
        while !Task.isCancelled {
            let from = position.next
            let configuration = self.configuration
            let (records, size) = try await self.readLedger(organization) {
                // First the size: what comes later is another turn's, so that turns under load do not get small.
                let size = try $0.head().size
                let records = try $0.records(
                    from: from,
                    limit: configuration.batchRecordsMax,
                    bytesMax: configuration.batchBytesMax
                )
                return (records, size)
            }
            guard let last = records.last else { break }
            let isUrgent = self.hasWaiters(for: organization)
            try await self.projections.project(records, to: organization, isUrgent: isUrgent)
            position = last.sequence
            self.reached(organization, position, records: records.count)
            if position.rawValue >= size { break }
            isBehind = true
        }
        return isBehind
    }

    /// A columnar store that holds more than the ledger belongs to another history.
    private func checkNotAhead(_ organization: OrganizationID, _ position: SequenceNumber) async throws {
        let size = try await self.readLedger(organization) { try $0.head().size }
        guard position.rawValue <= size else {
            throw ShardError(
                code: .projection,
                message: "columnar store of organization \(organization) is ahead of its ledger (\(position) > \(size))"
            )
        }
    }

    private func reached(_ organization: OrganizationID, _ position: SequenceNumber, records: Int) {
        let done = self.state.withLock { state -> [Waiter] in
            state.organizations[organization, default: Progress()].projected = position
            if records > 0 {
                state.counters.records += UInt64(records)
                state.counters.batches += 1
            }
            let waiters = state.organizations[organization]?.waiters ?? []
            state.organizations[organization]?.waiters = waiters.filter { $0.sequence > position }
            return waiters.filter { $0.sequence <= position }
        }
        for waiter in done { waiter.continuation.resume() }
    }
}

/// A first-in, first-out queue of organizations.
private struct OrganizationQueue {
    private var items: [OrganizationID] = []
    private var head = 0

    var isEmpty: Bool { self.head == self.items.count }

    mutating func append(_ organization: OrganizationID) { self.items.append(organization) }

    mutating func popFirst() -> OrganizationID? {
        guard self.head < self.items.count else { return nil }
        defer {
            self.head += 1
            if self.head * 2 > self.items.count {
                self.items.removeFirst(self.head)
                self.head = 0
            }
        }
        return self.items[self.head]
    }
}

/// A counting semaphore for tasks: `wait` suspends, `signal` resumes the longest waiting.
private final class Semaphore: Sendable {
    private struct State {
        var free: Int
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(count: Int) { self.state = Mutex(State(free: count)) }

    func wait() async {
        await withCheckedContinuation { continuation in
            let goesOn = self.state.withLock { state in
                if state.free > 0 {
                    state.free -= 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if goesOn { continuation.resume() }
        }
    }

    func signal() {
        let next = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.waiting.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
