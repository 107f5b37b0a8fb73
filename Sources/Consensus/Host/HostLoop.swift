internal import Primitives

/// A ``RaftLoop``, its inbox, and the thread that brings them together: one that waits in ``take(_:until:)``, or one that
/// is called when something has come (``drive(on:_:)``).
final class HostLoop: Sendable {
    private struct State: Sendable {
        var work = Inbox()
        var isSleeping = false
        /// How a thread that does not wait is called.
        var call: (@Sendable () -> Void)?
        var isCalled = false
    }

    let loop: RaftLoop
    private let inbox = TimedMonitor(State())

    init(_ loop: RaftLoop) { self.loop = loop }

    /// Changes the inbox and wakes the raft thread.
    func post(_ change: (inout Inbox) -> Void) {
        let (mustWake, call) = self.inbox.withLock { state in
            change(&state.work)
            defer { state.isSleeping = false }
            guard let call = state.call, !state.isCalled else {
                return (state.isSleeping, nil as (@Sendable () -> Void)?)
            }
            state.isCalled = true
            return (false, call)
        }
        if mustWake { self.inbox.signal() }
        call?()
    }

    /// Changes the inbox for whatever turn comes next: for what nobody waits for.
    func leave(_ change: (inout Inbox) -> Void) {
        self.inbox.withLock { change(&$0.work) }
    }

    /// From now on `step` is called on `thread` soon after something has come.
    func drive(on thread: any RaftThread, _ step: @escaping @Sendable () -> Void) {
        self.inbox.withLock { $0.call = { thread.execute(step) } }
        // What came before.
        self.post { _ in }
    }

    /// Takes what is in the inbox, without waiting.
    /// - Parameter taken: Empty; gets what is in the inbox.
    func takeWaiting(_ taken: inout Inbox) {
        self.inbox.withLock { state in
            state.isCalled = false
            taken.isClosed = state.work.isClosed
            swap(&taken, &state.work)
        }
    }

    /// Waits until something is in the inbox or the time has come.
    /// - Parameter taken: Empty; gets what is in the inbox.
    func take(_ taken: inout Inbox, until deadline: MonotonicTime?) {
        self.inbox.lock()
        defer { self.inbox.unlock() }
        while self.inbox.state.work.isEmpty {
            if let deadline, MonotonicTime.now() >= deadline { break }
            self.inbox.state.isSleeping = true
            self.inbox.wait(until: deadline)
            self.inbox.state.isSleeping = false
        }
        taken.isClosed = self.inbox.state.work.isClosed
        swap(&taken, &self.inbox.state.work)
    }

    /// Answers everybody who waits, now and from now on.
    func finish(_ taken: inout Inbox, cause: ConsensusError?) {
        self.loop.failWaiting(&taken, cause: cause)
        self.inbox.withLock { state in
            state.work.isClosed = true
            swap(&taken, &state.work)
            state.work.isClosed = true
            state.call = nil
        }
        self.loop.failWaiting(&taken, cause: cause)
    }
}
