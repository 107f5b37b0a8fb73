internal import Foundation
internal import Logging
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// One place for a worker process: starts it, watches it, and starts another when it has ended.
///
/// A thread of its own does that, from ``start()`` to ``stop()``; nothing else ever waits for a process. Requests that
/// come while there is none wait a short time for the next.
final class WorkerSlot: Sendable {
    /// How often a worker has ended, by why.
    struct Counters: Sendable {
        var restarts: [WorkerLink.Fault: UInt64] = [:]
    }

    private struct Waiter {
        let id: UInt64
        let deadline: Int
        let continuation: CheckedContinuation<WorkerLink, any Error>
    }

    private struct State {
        var link: WorkerLink?
        var pid: pid_t?
        var waiters: [Waiter] = []
        var lastWaiter: UInt64 = 0
        var isStopping = false
        var stopDeadline = Int.max
        var hasEnded = false
        var ends: [CheckedContinuation<Void, Never>] = []
        var counters = Counters()
    }

    /// A worker that has lived so long is started again at once when it ends.
    private static let settledMilliseconds = 10_000
    /// Pauses before the second start in a row and later ones.
    private static let pauseMilliseconds = (first: 100, max: 10_000)
    /// How long a request waits for a worker that is being started.
    static let availabilityMilliseconds = 5_000
    /// How long a worker may take to close its stores when the node stops.
    static let stopMilliseconds = 10_000
    private static let stepMilliseconds = 100

    let name: String
    private let settings: WorkerSettings
    private let launch: WorkerLaunch
    private let logger: Logger
    private let state = Mutex(State())
    private let alarm = DispatchSemaphore(value: 0)

    init(name: String, settings: WorkerSettings, launch: WorkerLaunch, logger: Logger) {
        self.name = name
        self.settings = settings
        self.launch = launch
        var logger = logger
        logger[metadataKey: "worker"] = "\(name)"
        self.logger = logger
    }

    /// Whether a process runs now.
    var isAlive: Bool { self.state.withLock { $0.link != nil } }
    /// Users' statements that it has not ended yet.
    var statements: Int { self.state.withLock { $0.link }?.statements ?? 0 }
    /// The process that runs now.
    var pid: pid_t? { self.state.withLock { $0.pid } }
    var counters: Counters { self.state.withLock { $0.counters } }

    /// Starts the thread, which starts the first process.
    func start() {
        let thread = Thread { self.live() }
        thread.name = "ft-\(self.name)"
        thread.start()
    }

    /// Lets the worker close its stores and end; returns when it has.
    func stop() async {
        let link = self.state.withLock { state in
            state.isStopping = true
            state.stopDeadline = FramePipe.milliseconds() + Self.stopMilliseconds
            return state.link
        }
        link?.shutdown()
        self.alarm.signal()
        await withCheckedContinuation { continuation in
            let hasEnded = self.state.withLock { state in
                if !state.hasEnded { state.ends.append(continuation) }
                return state.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }

    /// The worker to ask, now or when it has been started.
    /// - Throws: ``WorkerGone`` when there is none for a while, or the node stops; `CancellationError`.
    func current() async throws -> WorkerLink {
        let id = self.state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let answer = self.state.withLock { state -> Result<WorkerLink, any Error>? in
                    // One that has ended is replaced in a moment.
                    if let link = state.link, !link.hasEnded { return .success(link) }
                    if state.isStopping || state.hasEnded {
                        return .failure(WorkerGone(fault: .ended, wasAlone: false, hadBegun: false))
                    }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    let deadline = FramePipe.milliseconds() + Self.availabilityMilliseconds
                    state.waiters.append(Waiter(id: id, deadline: deadline, continuation: continuation))
                    return nil
                }
                if let answer { continuation.resume(with: answer) }
            }
        } onCancel: {
            let waiter = self.state.withLock { state -> Waiter? in
                guard let place = state.waiters.firstIndex(where: { $0.id == id }) else { return nil }
                return state.waiters.remove(at: place)
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    // MARK: The thread

    private func live() {
        var pause = 0
        while !self.state.withLock({ $0.isStopping }) {
            let begin = FramePipe.milliseconds()
            self.runOne()
            let isSettled = FramePipe.milliseconds() - begin >= Self.settledMilliseconds
            pause = isSettled ? 0 : min(max(pause * 2, Self.pauseMilliseconds.first), Self.pauseMilliseconds.max)
            self.rest(until: FramePipe.milliseconds() + pause)
        }
        let (waiters, ends) = self.state.withLock { state in
            state.hasEnded = true
            defer { (state.waiters, state.ends) = ([], []) }
            return (state.waiters, state.ends)
        }
        for waiter in waiters {
            waiter.continuation.resume(throwing: WorkerGone(fault: .ended, wasAlone: false, hadBegun: false))
        }
        for end in ends { end.resume() }
    }

    /// Starts a process and serves it until it has ended.
    private func runOne() {
        guard let (ours, theirs) = FramePipe.pair() else {
            return self.logger.error("no worker can be started: no descriptors are left")
        }
        let logger = self.logger
        let link = WorkerLink(socket: ours) { logger.info("worker ready", metadata: ["worker.sandbox": "\($0)"]) }
        let started = self.launch.start(socket: theirs, name: self.name)
        Foundation.close(theirs)
        let pid: pid_t
        switch started {
        case .success(let id): pid = id
        case .failure(let error):
            link.close()
            return self.logger.error("no worker can be started", metadata: ["error.chain": "\(error)"])
        }
        link.start(self.settings)
        let waiters = self.state.withLock { state in
            (state.link, state.pid) = (link, pid)
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.continuation.resume(returning: link) }
        if self.state.withLock({ $0.isStopping }) { link.shutdown() }
        let fault = link.run { FramePipe.milliseconds() < self.state.withLock { $0.stopDeadline } }
        // It is no child of ours any more only after it has been waited for, so the id is still its own.
        kill(pid, SIGKILL)
        let how = WorkerLaunch.wait(for: pid)
        let isStopping = self.state.withLock { state in
            (state.link, state.pid) = (nil, nil)
            if !state.isStopping { state.counters.restarts[fault, default: 0] += 1 }
            return state.isStopping
        }
        guard !isStopping else { return }
        self.logger.warning(
            "worker ended; it is started again",
            metadata: ["worker.pid": "\(pid)", "worker.fault": "\(fault.rawValue)", "worker.ending": "\(how)"]
        )
    }

    /// Waits for the next start; requests that have waited too long are refused.
    private func rest(until end: Int) {
        while !self.state.withLock({ $0.isStopping }) {
            let now = FramePipe.milliseconds()
            let late = self.state.withLock { state in
                let late = state.waiters.filter { $0.deadline <= now }
                state.waiters.removeAll { $0.deadline <= now }
                return late
            }
            for waiter in late {
                waiter.continuation.resume(throwing: WorkerGone(fault: .ended, wasAlone: false, hadBegun: false))
            }
            guard now < end else { return }
            _ = self.alarm.wait(timeout: .now() + .milliseconds(min(Self.stepMilliseconds, end - now)))
        }
    }
}
