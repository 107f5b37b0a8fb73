internal import Primitives

/// A thread with work of its own, on which a raft loop runs too: that of the peers' connections, so that a message, the
/// turn that it causes and the answer change no threads.
package protocol RaftThread: Sendable {
    /// Runs `work` on the thread, after what was given to it before; from any thread.
    func execute(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` on the thread when `delay` has passed; from any thread. Between the call and `work` the thread looks
    /// after its other work.
    func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void)
}

/// Drives a ``HostLoop`` on a thread that it shares with other work.
///
/// A step takes what waits in the inbox, makes one turn and hands on its messages. The writes follow as a piece of work
/// of their own, so that the thread sends the messages before it waits for the disk. After a write the thread's other
/// work has its turn before the next step, which then takes everything that has come meanwhile.
final class HostedLoop: @unchecked Sendable {  // sendable-ok: all but `begin` and `awaitEnd` runs on the one thread
    private let host: RaftHost
    private let loop: HostLoop
    private let thread: any RaftThread
    private let ended = TimedMonitor(false)

    private var taken = Inbox()
    private var nextTick = MonotonicTime(nanoseconds: 0)
    /// A write is under way, or other work has its turn.
    private var isBusy = false
    /// A step was asked for meanwhile.
    private var isStepDue = false
    private var isOver = false

    /// How long other work has its turn when the next step waits already.
    private static let pause = Duration.microseconds(15)

    init(host: RaftHost, loop: HostLoop, thread: any RaftThread) {
        self.host = host
        self.loop = loop
        self.thread = thread
    }

    /// Starts; from any thread, once.
    func begin() {
        self.thread.execute {
            for group in self.loop.loop.loneGroups { self.taken.orders.append(.campaign(group)) }
            self.loop.loop.turn(&self.taken)
            self.loop.drive(on: self.thread) { self.step() }
            self.proceed()
            guard case .clock = self.host.ticks else { return }
            self.nextTick = MonotonicTime(nanoseconds: MonotonicTime.now().nanoseconds + self.interval)
            self.awaitTick()
        }
    }

    /// Waits until the loop has stopped and everybody was answered; blocks.
    func awaitEnd() {
        self.ended.lock()
        while !self.ended.state { self.ended.wait(until: nil) }
        self.ended.unlock()
    }

    // MARK: - Time

    private var interval: UInt64 { UInt64(self.host.configuration.tickInterval / .nanoseconds(1)) }

    private func awaitTick() {
        let now = MonotonicTime.now().nanoseconds
        let left = self.nextTick.nanoseconds > now ? self.nextTick.nanoseconds - now : 0
        self.thread.schedule(after: .nanoseconds(Int64(left))) {
            if self.isOver { return }
            self.step()
            // A step that has to wait counts the tick when it comes.
            if self.isBusy, self.isStepDue {
                self.thread.schedule(after: .nanoseconds(Int64(self.interval))) { self.awaitTick() }
            } else {
                self.awaitTick()
            }
        }
    }

    /// Tick intervals that have passed since they were last counted.
    private func takeElapsed() -> Int {
        guard case .clock = self.host.ticks, self.nextTick.nanoseconds > 0 else { return 0 }
        let now = MonotonicTime.now()
        guard now >= self.nextTick else { return 0 }
        let due = (now.nanoseconds - self.nextTick.nanoseconds) / self.interval + 1
        self.nextTick = MonotonicTime(nanoseconds: self.nextTick.nanoseconds + due * self.interval)
        return Int(min(due, UInt64(Int32.max)))
    }

    // MARK: - Steps

    private func step() {
        if self.isOver { return }
        if self.isBusy {
            self.isStepDue = true
            return
        }
        self.isStepDue = false
        self.loop.takeWaiting(&self.taken)
        if self.taken.isStopping || self.taken.failure != nil || self.host.failure != nil {
            self.end()
            return
        }
        self.loop.loop.turn(&self.taken, elapsed: self.takeElapsed())
        self.proceed()
    }

    /// Does what the turn left, up to the next write.
    private func proceed() {
        while !self.loop.loop.output.isEmpty {
            let output = self.loop.loop.output
            self.loop.loop.clearOutput()
            self.host.handOn(output)
            if let failure = output.failure {
                self.host.fail(failure)
                self.end()
                return
            }
            if output.writes.isEmpty { continue }
            self.isBusy = true
            self.thread.execute { self.write(output.writes) }
            return
        }
    }

    private func write(_ writes: [PendingWrite]) {
        do throws(ConsensusError) {
            if try self.host.writer.write(writes) { self.loop.loop.persisted(writes) }
        } catch {
            self.host.fail(error)
            self.end()
            return
        }
        self.isBusy = false
        self.proceed()
        if self.isBusy || self.isOver { return }
        // What the write has let go leaves first.
        self.isBusy = true
        self.thread.execute {
            guard self.isStepDue else {
                self.isBusy = false
                return
            }
            self.thread.schedule(after: Self.pause) {
                self.isBusy = false
                self.step()
            }
        }
    }

    private func end() {
        if self.isOver { return }
        self.isOver = true
        self.loop.finish(&self.taken, cause: self.host.failure)
        if self.host.failure != nil {
            for group in self.loop.loop.groups { self.loop.loop.replica(of: group)?.close() }
        }
        self.ended.withLock { $0 = true }
        self.ended.signal()
    }
}
