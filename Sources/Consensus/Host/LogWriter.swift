internal import Primitives

/// What one group's ``Ready`` gives to the log-writer thread.
struct PendingWrite: Sendable {
    let place: Int
    let ticket: PersistTicket
    /// Nil when only messages wait for earlier writes.
    let write: RaftLogStore.Write?
    let messages: [RaftMessage]
}

/// Makes the writes of all groups durable: one batch and one sync for everything that waits, in order.
///
/// While one batch is synced the next one fills; nothing waits for a timer. One thread runs ``run(_:)``.
final class LogWriter: Sendable {
    private struct State: Sendable {
        var pending: [PendingWrite] = []
        var isStopping = false
        var isSleeping = false
    }

    private let monitor = TimedMonitor(State())
    private let store: RaftLogStore

    /// Payload bytes after which a batch is closed; a single larger write still goes alone.
    private static let batchBytesMax = 32 << 20

    init(store: RaftLogStore) { self.store = store }

    func add(_ writes: [PendingWrite]) {
        let mustWake = self.monitor.withLock { state in
            state.pending.append(contentsOf: writes)
            defer { state.isSleeping = false }
            return state.isSleeping
        }
        if mustWake { self.monitor.signal() }
    }

    /// Ends ``run(_:)`` after what waits.
    func stop() {
        self.monitor.withLock { $0.isStopping = true }
        self.monitor.signal()
    }

    /// Writes until ``stop()`` or the first failure, after which nothing is written any more.
    /// - Parameter done: Gets what has become durable, in order.
    func run(_ done: ([PendingWrite]) -> Void) throws(ConsensusError) {
        var taken: [PendingWrite] = []
        while true {
            self.monitor.lock()
            while self.monitor.state.pending.isEmpty, !self.monitor.state.isStopping {
                self.monitor.state.isSleeping = true
                self.monitor.wait(until: nil)
                self.monitor.state.isSleeping = false
            }
            swap(&taken, &self.monitor.state.pending)
            self.monitor.unlock()
            if taken.isEmpty { return }
            try self.write(taken, done)
            taken.removeAll(keepingCapacity: true)
        }
    }

    private func write(_ taken: [PendingWrite], _ done: ([PendingWrite]) -> Void) throws(ConsensusError) {
        var start = 0
        while start < taken.count {
            var end = start
            var bytes = 0
            var writes: [RaftLogStore.Write] = []
            repeat {
                if let write = taken[end].write {
                    for entry in write.entries { bytes += entry.costBytes }
                    writes.append(write)
                }
                end += 1
            } while end < taken.count && bytes < Self.batchBytesMax
            if !writes.isEmpty { try self.store.write(writes) }
            done(Array(taken[start..<end]))
            start = end
        }
    }
}
