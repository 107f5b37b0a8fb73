internal import Primitives

/// What one group's ``Ready`` gives to the disk.
package struct PendingWrite: Sendable {
    /// What the raft thread is told when it is durable.
    enum Purpose: Sendable {
        case ticket(PersistTicket)
        /// The log was cut at its start.
        case compaction
        /// The replica is gone.
        case tombstone
    }

    package let replica: GroupReplica
    let purpose: Purpose
    /// Nil when only messages wait for earlier writes.
    package let write: LogWrite?
    /// To be sent when this and all earlier writes are durable.
    package let messages: [RaftMessage]

    package var note: PersistedNote { PersistedNote(replica: self.replica, purpose: self.purpose) }

    var bytes: Int {
        var bytes = 0
        for entry in self.write?.entries ?? [] { bytes += entry.costBytes }
        return bytes
    }
}

extension PendingWrite {
    /// Whether this write, made after `acceptance` of the same replica was promised, takes back what that names.
    fileprivate func takesBack(_ acceptance: RaftMessage.AppendAcceptance) -> Bool {
        guard let write = self.write else { return false }
        if let from = write.truncateFrom, from <= acceptance.match { return true }
        if let base = write.resetTo, base.index < acceptance.match { return true }
        return write.removedAt != nil
    }

    /// Whether entries that were written before are gone with this write.
    fileprivate var isCut: Bool {
        guard let write = self.write else { return false }
        return write.truncateFrom != nil || write.resetTo != nil || write.removedAt != nil
    }
}

extension Outbox {
    /// Adds what waited for `writes`, all of which are durable now.
    ///
    /// An acknowledgement stays behind when a later write of the same batch cuts what it names: the disk never held it
    /// alone, and the leader that waits for it is deposed.
    mutating func release(_ writes: some Collection<PendingWrite>) {
        let hasCuts = writes.contains(where: \.isCut)
        for place in writes.indices where !writes[place].messages.isEmpty {
            let write = writes[place]
            var messages = write.messages
            if hasCuts {
                let later = writes[writes.index(after: place)...]
                messages.removeAll { message in
                    guard case .appendAccepted(let acceptance) = message.body else { return false }
                    return later.contains { $0.replica === write.replica && $0.takesBack(acceptance) }
                }
            }
            self.add(messages, of: write.replica.group)
        }
    }
}

/// A write has become durable.
package struct PersistedNote: Sendable {
    let replica: GroupReplica
    let purpose: PendingWrite.Purpose
}

/// Makes the writes of all groups durable: one batch and one sync for everything that waits, in order.
///
/// There is one writer at a time. A raft thread becomes it for a small write while nobody else writes, which spares two
/// changes of threads; everything else goes to the thread in ``run(_:)``. While one batch is synced the next one fills;
/// nothing waits for a timer.
final class LogWriter: Sendable {
    private struct State: Sendable {
        var pending: [PendingWrite] = []
        var isWriting = false
        var isStopping = false
        var isSleeping = false
        /// Small writes that are handed over after a slow one.
        var handOvers = 0
    }

    private let monitor = TimedMonitor(State())
    private let store: any RaftLogStorage
    private let inlineBytesMax: Int

    /// Payload bytes after which a batch is closed; a single larger write still goes alone.
    private static let batchBytesMax = 32 << 20
    /// Work this slow would hold up a raft thread: the next is handed over.
    private static let slowNanoseconds: UInt64 = 20_000_000
    /// Writes that are handed over after a slow one.
    private static let handOversMax = 64

    /// - Parameter inlineBytesMax: Bytes of entries that a raft thread writes itself; zero for never.
    init(store: any RaftLogStorage, inlineBytesMax: Int) {
        self.store = store
        self.inlineBytesMax = inlineBytesMax
    }

    /// Writes at once when that is small and nobody else writes, or leaves it to the thread.
    /// - Returns: Whether all of it is durable now.
    func write(_ writes: [PendingWrite]) throws(ConsensusError) -> Bool {
        var bytes = 0
        for write in writes { bytes += write.bytes }
        self.monitor.lock()
        let mayWrite =
            bytes <= self.inlineBytesMax && !self.monitor.state.isWriting && self.monitor.state.pending.isEmpty
        if mayWrite, self.monitor.state.handOvers == 0 {
            self.monitor.state.isWriting = true
            self.monitor.unlock()
            defer { self.endWriting() }
            try self.writeBatch(writes[...])
            return true
        }
        if self.monitor.state.handOvers > 0 { self.monitor.state.handOvers -= 1 }
        self.monitor.state.pending.append(contentsOf: writes)
        let mustWake = self.monitor.state.isSleeping && !self.monitor.state.isWriting
        if mustWake { self.monitor.state.isSleeping = false }
        self.monitor.unlock()
        if mustWake { self.monitor.signal() }
        return false
    }

    /// Whether the disk was quick of late.
    var isQuick: Bool { self.monitor.withLock { $0.handOvers == 0 } }

    /// Something that a raft thread did began at `start`; when it was slow, what follows is handed over for a while.
    func noteTime(since start: MonotonicTime) {
        guard MonotonicTime.now().nanoseconds - start.nanoseconds > Self.slowNanoseconds else { return }
        self.monitor.withLock { $0.handOvers = Self.handOversMax }
    }

    private func endWriting() {
        let mustWake = self.monitor.withLock { state in
            state.isWriting = false
            let mustWake = state.isSleeping && (!state.pending.isEmpty || state.isStopping)
            if mustWake { state.isSleeping = false }
            return mustWake
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
    func run(_ done: (ArraySlice<PendingWrite>) -> Void) throws(ConsensusError) {
        var taken: [PendingWrite] = []
        while true {
            self.monitor.lock()
            while self.monitor.state.isWriting
                || (self.monitor.state.pending.isEmpty && !self.monitor.state.isStopping)
            {
                self.monitor.state.isSleeping = true
                self.monitor.wait(until: nil)
                self.monitor.state.isSleeping = false
            }
            swap(&taken, &self.monitor.state.pending)
            self.monitor.state.isWriting = !taken.isEmpty
            self.monitor.unlock()
            if taken.isEmpty { return }
            try self.writeAll(taken, done)
            taken.removeAll(keepingCapacity: true)
        }
    }

    /// The batches of one round; others may write again only when all of them are done and told, so that the order of a
    /// group's notes is the order of its writes.
    private func writeAll(
        _ taken: [PendingWrite],
        _ done: (ArraySlice<PendingWrite>) -> Void
    ) throws(ConsensusError) {
        defer { self.endWriting() }
        var start = 0
        while start < taken.count {
            var end = start
            var bytes = 0
            repeat {
                bytes += taken[end].bytes
                end += 1
            } while end < taken.count && bytes < Self.batchBytesMax
            try self.writeBatch(taken[start..<end])
            done(taken[start..<end])
            start = end
        }
    }

    private func writeBatch(_ batch: ArraySlice<PendingWrite>) throws(ConsensusError) {
        let writes = batch.compactMap(\.write)
        if writes.isEmpty { return }
        let start = MonotonicTime.now()
        try self.store.write(writes)
        self.noteTime(since: start)
    }
}
