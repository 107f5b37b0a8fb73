/// A serial executor on one thread of its own, for actors and closures that make blocking calls.
///
/// Jobs and closures run in one first-in, first-out order. An actor takes part by returning
/// `thread.asUnownedSerialExecutor()` as its `unownedExecutor`; `assumeIsolated` then holds on the thread.
/// An executor cannot refuse a job, so the queue has no limit of its own: who calls it from outside bounds its own
/// intake (see ``StoreThreads`` for a pool that refuses).
///
/// The thread lives until ``shutdown()``, which its owner must call. A job that arrives later is not lost: it runs on
/// the thread that brings it, still one at a time.
package final class SerialThread: SerialExecutor {
    private enum Item {
        case job(UnownedJob)
        case work(@Sendable () -> Void)
    }

    private struct State {
        var items: [Item] = []
        var isSleeping = false
        /// Another thread runs work in place of this one, which sleeps until that is done.
        var isLent = false
        var isStopping = false
        /// The thread has ended, so that late items run where they come from.
        var isEnded = false
        var isDrainingLate = false
        var thread: OwnThread?
    }

    /// The name of the thread; the operating system shows its first 15 bytes.
    package let name: String
    private let monitor = Monitor(State())

    /// Starts the thread.
    /// - Parameter niceness: 0 is normal, 19 gives way to everything else.
    /// - Throws: ``StorageError`` `.busy` when the operating system refuses another thread.
    package init(name: String, niceness: Int32 = 0) throws(StorageError) {
        self.name = name
        let thread = try OwnThread(name: name, niceness: niceness) { [self] in
            CurrentSerialThread.with(self) { self.loop() }
        }
        self.monitor.withLock { $0.thread = thread }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        self.push(.job(UnownedJob(job)))
    }

    /// Runs `work` on the thread after everything that was enqueued before.
    package func enqueue(_ work: @escaping @Sendable () -> Void) {
        self.push(.work(work))
    }

    /// Runs `work` on the calling thread in place of this one, which must be idle: spares short work two changes of
    /// threads. What is enqueued meanwhile runs after it.
    /// - Returns: False when the thread is busy or ends; then `work` did not run.
    package func runHere(_ work: () -> Void) -> Bool {
        let isLent = self.monitor.withLock { state in
            guard state.isSleeping, state.items.isEmpty, !state.isLent, !state.isStopping else { return false }
            state.isLent = true
            return true
        }
        guard isLent else { return false }
        CurrentSerialThread.with(self, work)
        let mustWake = self.monitor.withLock { state in
            state.isLent = false
            guard !state.items.isEmpty || state.isStopping else { return false }
            state.isSleeping = false
            return true
        }
        if mustWake { self.monitor.signal() }
        return true
    }

    /// Runs `body` on the thread and returns what it returns; a cancelled caller still waits for it.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.enqueue { continuation.resume(with: Result(catching: body)) }
        }
    }

    /// Whether the caller runs on this thread.
    package var isCurrent: Bool { CurrentSerialThread.isCurrent(self) }

    /// The number of jobs and closures that wait, without those of the batch being run.
    package var waitingCount: Int { self.monitor.withLock { $0.items.count } }

    package func checkIsolated() {
        precondition(self.isCurrent, "called outside the thread \(self.name)")
    }

    package func isIsolatingCurrentContext() -> Bool? { self.isCurrent }

    /// Runs what is enqueued, ends the thread and waits for its end; blocks, and does nothing the second time.
    ///
    /// Not to be called on the thread itself.
    package func shutdown() {
        precondition(!self.isCurrent, "the thread \(self.name) cannot wait for its own end")
        let thread = self.monitor.withLock { state in
            state.isStopping = true
            if !state.isLent { state.isSleeping = false }
            defer { state.thread = nil }
            return state.thread
        }
        self.monitor.signal()
        thread?.join()
    }

    private func push(_ item: Item) {
        self.monitor.lock()
        self.monitor.state.items.append(item)
        if self.monitor.state.isEnded {
            self.drainLate()
            self.monitor.unlock()
            return
        }
        let mustWake = self.monitor.state.isSleeping && !self.monitor.state.isLent
        if mustWake { self.monitor.state.isSleeping = false }
        self.monitor.unlock()
        if mustWake { self.monitor.signal() }
    }

    private func loop() {
        var batch: [Item] = []
        self.monitor.lock()
        while true {
            if self.monitor.state.items.isEmpty {
                if self.monitor.state.isStopping { break }
                self.monitor.state.isSleeping = true
                while self.monitor.state.isSleeping { self.monitor.wait() }
                continue
            }
            swap(&batch, &self.monitor.state.items)
            self.monitor.unlock()
            self.run(&batch)
            self.monitor.lock()
        }
        self.monitor.state.isEnded = true
        self.monitor.unlock()
    }

    private func run(_ batch: inout [Item]) {
        let executor = unsafe self.asUnownedSerialExecutor()
        for item in batch {
            switch item {
            case .job(let job): unsafe job.runSynchronously(on: executor)
            case .work(let work): work()
            }
        }
        batch.removeAll(keepingCapacity: true)
    }

    /// Called with the lock held, and returns with it held; another caller's drain takes our items with it.
    private func drainLate() {
        if self.monitor.state.isDrainingLate { return }
        self.monitor.state.isDrainingLate = true
        var batch: [Item] = []
        while !self.monitor.state.items.isEmpty {
            swap(&batch, &self.monitor.state.items)
            self.monitor.unlock()
            CurrentSerialThread.with(self) { self.run(&batch) }
            self.monitor.lock()
        }
        self.monitor.state.isDrainingLate = false
    }
}
