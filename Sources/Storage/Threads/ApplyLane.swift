internal import Synchronization

/// Where the commands of some groups are applied: one closure or actor job at a time, first in, first out.
///
/// A node's lanes are threads (``SerialThread``); a simulated node's lane is driven by hand (``InlineLane``). An actor
/// takes part by returning `lane.asUnownedSerialExecutor()` as its `unownedExecutor`.
package protocol ApplyLane: SerialExecutor {
    /// Runs `work` on the lane after everything that was enqueued before.
    func enqueue(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` on the calling thread in place of the lane's, when the lane is idle and can lend its place.
    /// - Returns: False when it cannot; then `work` did not run.
    func runHere(_ work: () -> Void) -> Bool

    /// Whether the caller runs on this lane.
    var isCurrent: Bool { get }
}

extension ApplyLane {
    /// Runs `body` on the lane and returns what it returns; a cancelled caller still waits for it.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.enqueue { continuation.resume(with: Result(catching: body)) }
        }
    }
}

extension SerialThread: ApplyLane {}

/// A lane without a thread, for programs that run a whole cluster on one thread.
///
/// What is enqueued waits until ``runNext()`` or ``drain()``, which the one thread calls when it wants; so every order
/// of events is its own choice. The lane cannot tell threads apart: it takes every caller for its own.
package final class InlineLane: ApplyLane {
    private enum Item {
        case job(UnownedJob)
        case work(@Sendable () -> Void)
    }

    private let items = Mutex(Queue<Item>())

    package init() {}

    package func enqueue(_ job: consuming ExecutorJob) {
        let item = Item.job(UnownedJob(job))
        self.items.withLock { $0.append(item) }
    }

    package func enqueue(_ work: @escaping @Sendable () -> Void) {
        self.items.withLock { $0.append(.work(work)) }
    }

    /// Never: the order of events is the choice of the one thread.
    package func runHere(_ work: () -> Void) -> Bool { false }

    /// The number of closures and jobs that wait.
    package var waitingCount: Int { self.items.withLock { $0.count } }

    /// Runs the oldest item on the calling thread.
    /// - Returns: false when nothing waited.
    @discardableResult
    package func runNext() -> Bool {
        switch self.items.withLock({ $0.popFirst() }) {
        case .job(let job): unsafe job.runSynchronously(on: self.asUnownedSerialExecutor())
        case .work(let work): work()
        case nil: return false
        }
        return true
    }

    /// Runs everything that waits, also what is enqueued meanwhile, but at most `itemsMax` items.
    /// - Returns: The number of items run.
    @discardableResult
    package func drain(itemsMax: Int = .max) -> Int {
        var count = 0
        while count < itemsMax, self.runNext() { count += 1 }
        return count
    }

    /// Forgets what waits: the node that it belonged to has crashed.
    ///
    /// Only closures are dropped; a job belongs to a task that waits for it, and is run.
    package func abandon() {
        while let item = self.items.withLock({ $0.popFirst() }) {
            if case .job(let job) = item { unsafe job.runSynchronously(on: self.asUnownedSerialExecutor()) }
        }
    }

    package var isCurrent: Bool { true }

    package func checkIsolated() {}

    package func isIsolatingCurrentContext() -> Bool? { true }
}
