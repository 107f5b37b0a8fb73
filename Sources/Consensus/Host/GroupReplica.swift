internal import Primitives
internal import Storage
internal import Synchronization

/// One group on this node: what the threads of the host share about it.
///
/// Role: hands committed entries to the applier on the group's lane, one call at a time and in order, and answers the
/// waiters. Owned by the host.
final class GroupReplica: Sendable {
    /// Consecutive committed entries and who waits for their results.
    struct Work: Sendable {
        let entries: [LogEntry]
        /// Ascending by index; one waiter for each command of the entry at that index.
        let waiters: [(index: LogIndex, waiters: [Waiter<[UInt8]>])]
    }

    private struct Wait: Sendable {
        let index: LogIndex
        let waiter: Waiter<Void>
    }

    private struct Queue: Sendable {
        var pending: [Work] = []
        var isScheduled = false
        var isClosed = false
        var applied: LogIndex
        var waits: [Wait] = []
    }

    let place: Int
    let group: GroupID
    let lane: SerialThread
    let published: Mutex<GroupStatus>
    private let queue: Mutex<Queue>
    private let waitsMax: Int

    init(place: Int, status: GroupStatus, lane: SerialThread, waitsMax: Int) {
        self.place = place
        self.group = status.group
        self.lane = lane
        self.waitsMax = waitsMax
        self.published = Mutex(status)
        self.queue = Mutex(Queue(applied: status.applied))
    }

    var isIdle: Bool { self.queue.withLock { !$0.isScheduled } }

    /// Adds committed entries.
    /// - Returns: Whether the lane must be told to call ``apply(with:)``.
    func add(_ work: Work) -> Bool {
        self.queue.withLock { queue in
            queue.pending.append(work)
            defer { queue.isScheduled = true }
            return !queue.isScheduled
        }
    }

    /// - Returns: All work that waits; empty when the lane's turn is over.
    func takeWork() -> [Work] {
        self.queue.withLock { queue in
            if queue.pending.isEmpty { queue.isScheduled = false }
            defer { queue.pending = [] }
            return queue.pending
        }
    }

    /// Ends the lane's turn when nothing waits.
    /// - Returns: Whether the lane must be told to call ``apply(with:)`` again.
    func hasMoreWork() -> Bool {
        self.queue.withLock { queue in
            queue.isScheduled = !queue.pending.isEmpty
            return queue.isScheduled
        }
    }

    /// The effects up to `index` are in the state machine.
    func didApply(_ index: LogIndex) {
        let due: [Wait] = self.queue.withLock { queue in
            precondition(index > queue.applied, "the applied index never goes back")
            queue.applied = index
            if queue.waits.isEmpty { return [] }
            let due = queue.waits.filter { $0.index <= index }
            queue.waits.removeAll { $0.index <= index }
            return due
        }
        for wait in due { wait.waiter.answer(.success(())) }
    }

    /// Answers `waiter` when the effects up to `index` are in the state machine.
    func wait(for index: LogIndex, _ waiter: Waiter<Void>) {
        let answer: Waiter<Void>.Answer? = self.queue.withLock { queue in
            if queue.applied >= index { return .success(()) }
            if queue.isClosed { return .failure(ProposalError(code: .stopped, message: "the host has stopped")) }
            if queue.waits.count >= self.waitsMax { queue.waits.removeAll { $0.waiter.isAnswered } }
            if queue.waits.count >= self.waitsMax {
                return .failure(ProposalError(code: .overloaded, message: "\(self.waitsMax) waits are pending"))
            }
            queue.waits.append(Wait(index: index, waiter: waiter))
            return nil
        }
        if let answer { waiter.answer(answer) }
    }

    /// Fails the waits of now and later; the group has no role here any more.
    func close() {
        self.published.withLock { status in
            status.role = .follower
            status.leader = nil
            status.replicas = []
        }
        let waits = self.queue.withLock { queue in
            queue.isClosed = true
            defer { queue.waits = [] }
            return queue.waits
        }
        for wait in waits { wait.waiter.fail(.stopped, "the host has stopped") }
    }

    /// Applies all work that waits.
    /// - Returns: The last index applied, nil when there was nothing.
    func apply(with applier: any CommandApplier) throws(ConsensusError) -> LogIndex? {
        let works = self.takeWork()
        guard let last = works.last?.entries.last?.index else { return nil }
        do throws(ConsensusError) {
            var entries: [CommittedEntry] = []
            var commandCount = 0
            for work in works {
                for entry in work.entries {
                    let committed = try self.decode(entry)
                    commandCount += committed.commands.count
                    entries.append(committed)
                }
            }
            let results: [[UInt8]]
            do {
                results = try applier.apply(group: self.group, entries: entries)
            } catch {
                let message = "the applier failed"
                throw ConsensusError(code: .applier, message: message, group: self.group, index: last, cause: error)
            }
            guard results.count == commandCount else {
                let message = "the applier gave \(results.count) results for \(commandCount) commands"
                throw ConsensusError(code: .applier, message: message, group: self.group, index: last)
            }
            self.answer(works, entries: entries, results: results)
            self.didApply(last)
            return last
        } catch {
            self.fail(works, cause: error)
            throw error
        }
    }

    /// Answers the waiters of work that will not be applied, as the host failed.
    func abandon(cause: ConsensusError) {
        while true {
            let works = self.takeWork()
            if works.isEmpty { return }
            self.fail(works, cause: cause)
        }
    }

    private func fail(_ works: [Work], cause: ConsensusError) {
        for work in works {
            for waiting in work.waiters {
                for waiter in waiting.waiters { waiter.fail(.failed, "the node failed", cause: cause) }
            }
        }
    }

    private func decode(_ entry: LogEntry) throws(ConsensusError) -> CommittedEntry {
        switch entry.kind {
        case .empty: return CommittedEntry(index: entry.index, term: entry.term, commands: [])
        case .commands:
            do throws(MalformedBytes) {
                let commands = try CommandBatch.decode(entry.payload)
                return CommittedEntry(index: entry.index, term: entry.term, commands: commands)
            } catch {
                let message = "a committed entry is malformed"
                throw ConsensusError(
                    code: .corruption,
                    message: message,
                    group: self.group,
                    index: entry.index,
                    cause: error
                )
            }
        }
    }

    private func answer(_ works: [Work], entries: [CommittedEntry], results: [[UInt8]]) {
        var waiting = works.lazy.flatMap(\.waiters).makeIterator()
        var next = waiting.next()
        var offset = 0
        for entry in entries {
            if let found = next, found.index == entry.index {
                precondition(found.waiters.count == entry.commands.count, "one waiter for each command")
                for (number, waiter) in found.waiters.enumerated() {
                    waiter.answer(.success(results[offset + number]))
                }
                next = waiting.next()
            }
            offset += entry.commands.count
        }
        precondition(next == nil, "every waiter's entry was applied")
    }
}
