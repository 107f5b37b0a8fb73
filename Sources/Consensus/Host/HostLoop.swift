internal import Primitives

/// A ``RaftLoop``, its inbox, and the thread that brings them together.
final class HostLoop: Sendable {
    private struct State: Sendable {
        var work = Inbox()
        var isSleeping = false
    }

    let loop: RaftLoop
    private let inbox = TimedMonitor(State())

    init(_ loop: RaftLoop) { self.loop = loop }

    /// Changes the inbox and wakes the raft thread.
    func post(_ change: (inout Inbox) -> Void) {
        let mustWake = self.inbox.withLock { state in
            change(&state.work)
            defer { state.isSleeping = false }
            return state.isSleeping
        }
        if mustWake { self.inbox.signal() }
    }

    /// Changes the inbox for whatever turn comes next: for what nobody waits for.
    func leave(_ change: (inout Inbox) -> Void) {
        self.inbox.withLock { change(&$0.work) }
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
        }
        self.loop.failWaiting(&taken, cause: cause)
    }
}
