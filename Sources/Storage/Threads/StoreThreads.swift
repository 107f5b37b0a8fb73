/// A fixed number of threads for blocking calls, with a bounded queue in front.
///
/// Calls start in the order in which they came. The threads live until ``shutdown()``, which the owner must call.
package final class StoreThreads: Sendable {
    private struct State {
        var queue = Queue<@Sendable () -> Void>()
        var sleepers = 0
        var isStopping = false
        var threads: [OwnThread] = []
    }

    /// The name of the pool; its threads are called `name-0`, `name-1` and so on.
    package let name: String
    /// The number of calls that may wait for a thread.
    package let queuedMax: Int
    private let monitor = Monitor(State())

    /// Starts the threads.
    /// - Parameters:
    ///   - count: At least 1.
    ///   - queuedMax: Calls that may wait; one more is refused.
    ///   - niceness: 0 is normal, 19 gives way to everything else.
    /// - Throws: ``StorageError`` `.busy` when the operating system refuses another thread.
    package init(name: String, count: Int, queuedMax: Int, niceness: Int32 = 0) throws(StorageError) {
        precondition(count >= 1 && queuedMax >= 1, "a pool has at least one thread and one place to wait")
        self.name = name
        self.queuedMax = queuedMax
        let monitor = self.monitor
        for number in 0..<count {
            do throws(StorageError) {
                let thread = try OwnThread(name: "\(name)-\(number)", niceness: niceness) { Self.loop(monitor) }
                monitor.withLock { $0.threads.append(thread) }
            } catch {
                self.shutdown()
                throw error
            }
        }
    }

    /// Runs `body` on one of the threads and returns what it returns.
    ///
    /// A cancelled caller still waits: `body` has run, or will.
    /// - Throws: What `body` throws; ``StorageError`` `.busy` when ``queuedMax`` calls wait already (retry later),
    ///   `.closed` after ``shutdown()``. In these two cases `body` never runs.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let refusal = self.push { continuation.resume(with: Result(catching: body)) }
            if let refusal { continuation.resume(throwing: refusal) }
        }
    }

    /// The number of calls that wait for a thread.
    package var waitingCount: Int { self.monitor.withLock { $0.queue.count } }

    /// Refuses new calls, runs those that wait, ends the threads and waits for their end; blocks.
    ///
    /// Does nothing the second time. Not to be called on one of the threads.
    package func shutdown() {
        let threads = self.monitor.withLock { state in
            state.isStopping = true
            defer { state.threads = [] }
            return state.threads
        }
        self.monitor.broadcast()
        for thread in threads { thread.join() }
    }

    private func push(_ work: @escaping @Sendable () -> Void) -> StorageError? {
        self.monitor.lock()
        defer { self.monitor.unlock() }
        if self.monitor.state.isStopping {
            return StorageError(code: .closed, message: "the threads \(self.name) have ended")
        }
        if self.monitor.state.queue.count >= self.queuedMax {
            return StorageError(code: .busy, message: "\(self.queuedMax) calls wait for the threads \(self.name)")
        }
        self.monitor.state.queue.append(work)
        if self.monitor.state.sleepers > 0 { self.monitor.signal() }
        return nil
    }

    private static func loop(_ monitor: Monitor<State>) {
        monitor.lock()
        while true {
            if let work = monitor.state.queue.popFirst() {
                monitor.unlock()
                work()
                monitor.lock()
            } else if monitor.state.isStopping {
                break
            } else {
                monitor.state.sleepers += 1
                monitor.wait()
                monitor.state.sleepers -= 1
            }
        }
        monitor.unlock()
    }
}

/// A first-in, first-out queue over an array whose used front is cut off now and then.
struct Queue<Element> {
    private var items: [Element?] = []
    private var first = 0

    var count: Int { self.items.count - self.first }

    mutating func append(_ item: Element) { self.items.append(item) }

    mutating func popFirst() -> Element? {
        guard self.first < self.items.count else { return nil }
        let item = self.items[self.first]
        self.items[self.first] = nil
        self.first += 1
        if self.first == self.items.count {
            self.items.removeAll(keepingCapacity: true)
            self.first = 0
        } else if self.first >= 1024, self.first * 2 >= self.items.count {
            self.items.removeFirst(self.first)
            self.first = 0
        }
        return item
    }
}
