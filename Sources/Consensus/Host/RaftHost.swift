package import Primitives
package import Storage
internal import Synchronization

/// Runs the replicas of all groups of a node: time, disk, messages and waiting callers around ``RaftCore``.
///
/// One raft thread owns all cores; one log-writer thread makes the writes of all groups durable, one sync for
/// everything that waits; committed entries are applied on the lanes, in order for each group. Any failure of the log,
/// of the store or of the applier stops the host for good. All methods may be called from any thread.
package final class RaftHost: Sendable {
    /// Where ticks come from.
    package enum Ticks: Sendable {
        /// The monotonic clock, one each `tickInterval`.
        case clock
        /// ``RaftHost/tick(count:)``, for tests.
        case manual
    }

    /// What the host reports; called on its threads, must return soon.
    package struct Events: Sendable {
        /// On the raft thread, after every change of leader, term or role of a group.
        package var onLeadershipChange: @Sendable (LeadershipChange) -> Void
        /// Once, when the host stopped because of a failure: the node must stop serving.
        package var onFailure: @Sendable (ConsensusError) -> Void

        package init(
            onLeadershipChange: @escaping @Sendable (LeadershipChange) -> Void = { _ in },
            onFailure: @escaping @Sendable (ConsensusError) -> Void = { _ in }
        ) {
            self.onLeadershipChange = onLeadershipChange
            self.onFailure = onFailure
        }
    }

    private enum Phase: Sendable {
        case made
        case running(raft: SerialThread, writer: SerialThread)
        case stopped
    }

    /// Ticks that one turn makes up for after a pause; more would stand for election before hearing the leader.
    private static let ticksPerTurnMax = 2

    package let node: NodeID
    private let configuration: RaftConfiguration
    private let transport: any PeerTransport
    private let applier: any CommandApplier
    private let ticks: Ticks
    private let events: Events
    private let places: [GroupID: Int]
    private let replicas: [GroupReplica]
    private let lanes: [SerialThread]
    private let loop: RaftLoop
    private let writer: LogWriter
    private let inbox = TimedMonitor((work: Inbox(), isSleeping: false))
    private let phase = Mutex(Phase.made)
    private let failed = Mutex<ConsensusError?>(nil)

    /// Reads and checks the logs of all groups; starts nothing. Blocks.
    ///
    /// - Parameters:
    ///   - groups: The groups this node replicates, each with all its nodes, `node` among them.
    ///   - lanes: Threads on which groups are applied (`group % lanes.count`); at least one. Their owner ends them,
    ///     after ``stop()``.
    ///   - seed: Draws election timeouts; different on each node.
    /// - Throws: ``ConsensusError``: a log is damaged, or shorter than what was applied.
    package init(
        node: NodeID,
        groups: [GroupID: [NodeID]],
        store: any KeyValueStore,
        configuration: RaftConfiguration = RaftConfiguration(),
        transport: any PeerTransport,
        applier: any CommandApplier,
        lanes: [SerialThread],
        seed: UInt64,
        ticks: Ticks = .clock,
        events: Events = Events()
    ) throws(ConsensusError) {
        precondition(configuration.validate() == nil, "the configuration is valid")
        precondition(!lanes.isEmpty, "entries are applied on at least one lane")
        let logStore = RaftLogStore(store)
        var cores: [(core: RaftCore, replica: GroupReplica)] = []
        for group in groups.keys.sorted() {
            let core = try Self.restore(
                node: node,
                group: group,
                voters: groups[group] ?? [],
                store: logStore,
                configuration: configuration,
                applier: applier,
                seed: seed
            )
            let replica = GroupReplica(
                place: cores.count,
                status: core.status(of: group),
                lane: lanes[Int(group.rawValue) % lanes.count],
                waitsMax: configuration.applyWaitersMax
            )
            cores.append((core, replica))
        }
        self.node = node
        self.configuration = configuration
        self.transport = transport
        self.applier = applier
        self.ticks = ticks
        self.events = events
        self.lanes = lanes
        self.replicas = cores.map(\.replica)
        self.places = Dictionary(uniqueKeysWithValues: cores.map { ($0.replica.group, $0.replica.place) })
        self.loop = RaftLoop(configuration: configuration, cores: cores)
        self.writer = LogWriter(store: logStore)
    }

    private static func restore(
        node: NodeID,
        group: GroupID,
        voters: [NodeID],
        store: RaftLogStore,
        configuration: RaftConfiguration,
        applier: any CommandApplier,
        seed: UInt64
    ) throws(ConsensusError) -> RaftCore {
        precondition(voters.contains(node), "a node hosts only groups that it replicates")
        let restored = try store.load(group)
        let applied: LogIndex
        do {
            applied = try applier.appliedIndex(of: group)
        } catch {
            let message = "the applied index could not be read"
            throw ConsensusError(code: .applier, message: message, group: group, cause: error)
        }
        guard applied <= restored.terms.last else {
            let message = "the state is ahead of the log, which ends at \(restored.terms.last)"
            throw ConsensusError(code: .logLost, message: message, group: group, index: applied)
        }
        var mixer = SeededGenerator(seed: seed ^ node.rawValue << 32 ^ UInt64(group.rawValue))
        return RaftCore(
            id: node,
            voters: voters,
            configuration: configuration,
            hardState: restored.hardState,
            terms: restored.terms,
            commit: restored.commit,
            applied: applied,
            reader: store.reader(of: group),
            generator: SeededGenerator(seed: mixer.next())
        )
    }

    // MARK: - Life

    /// Starts the threads; to be called once.
    /// - Throws: ``ConsensusError`` `.thread`.
    package func start() throws(ConsensusError) {
        let raft: SerialThread
        let writer: SerialThread
        do throws(StorageError) {
            raft = try SerialThread(name: "raft")
            do throws(StorageError) {
                writer = try SerialThread(name: "raft-log")
            } catch {
                raft.shutdown()
                throw error
            }
        } catch {
            throw ConsensusError(code: .thread, message: "the host needs two threads", cause: error)
        }
        self.phase.withLock { phase in
            guard case .made = phase else { preconditionFailure("a host is started once") }
            phase = .running(raft: raft, writer: writer)
        }
        writer.enqueue { self.runWriter() }
        raft.enqueue { self.runLoop() }
    }

    /// Takes no more requests, answers those that wait, finishes writes and applies what is committed; blocks until
    /// both threads have ended. Idempotent. Not to be called on the cooperative pool or a lane.
    package func stop() {
        let before = self.phase.withLock { phase in
            defer { phase = .stopped }
            return phase
        }
        self.post { inbox in
            inbox.isStopping = true
            inbox.isClosed = true
        }
        switch before {
        case .stopped: return
        case .made:
            self.finish()
        case .running(let raft, let writer):
            raft.shutdown()
            self.writer.stop()
            writer.shutdown()
        }
        self.awaitLanes()
        for replica in self.replicas { replica.close() }
    }

    /// What made the host stop, or nil.
    package var failure: ConsensusError? { self.failed.withLock { $0 } }

    /// Stops the host for good; the first failure counts.
    private func fail(_ error: ConsensusError) {
        let isFirst = self.failed.withLock { failed in
            if failed != nil { return false }
            failed = error
            return true
        }
        guard isFirst else { return }
        self.post { inbox in
            inbox.failure = error
            inbox.isClosed = true
        }
        self.events.onFailure(error)
    }

    /// Returns when the lanes have applied everything that was handed to them.
    private func awaitLanes() {
        let waiting = TimedMonitor(0)
        // Work enqueues itself again behind our mark, so we look until nothing is scheduled.
        while let busy = self.replicas.first(where: { !$0.isIdle }) {
            waiting.withLock { $0 = 1 }
            busy.lane.enqueue {
                waiting.withLock { $0 = 0 }
                waiting.signal()
            }
            waiting.lock()
            while waiting.state > 0 { waiting.wait(until: nil) }
            waiting.unlock()
        }
    }

    // MARK: - Requests

    /// Proposes `command` and returns the applier's result once it is committed and applied here.
    ///
    /// A cancelled caller gets `.outcomeUnknown` at once; the command may still take effect.
    /// - Throws: ``ProposalError``; its code says whether the command may have taken effect.
    package func propose(_ command: [UInt8], to group: GroupID) async throws(ProposalError) -> [UInt8] {
        let place = try self.place(of: group)
        guard command.count <= self.configuration.commandBytesMax else {
            let message = "a command of \(command.count) bytes is over \(self.configuration.commandBytesMax)"
            throw ProposalError(code: .tooLarge, message: message)
        }
        let waiter = Waiter<[UInt8]>()
        try self.request { inbox in
            let bytes = inbox.proposalBytes + command.count
            if bytes > self.configuration.uncommittedBytesMax, !inbox.proposals.isEmpty { return false }
            inbox.proposalBytes = bytes
            inbox.proposals.append(Inbox.Proposal(place: place, command: command, waiter: waiter))
            return true
        }
        return try await waiter.value()
    }

    /// Returns an index up to which a replica must have applied to serve a linearizable read that begins now.
    ///
    /// Waits until an empty entry, shared by all barriers that wait, is committed; only the leader can.
    /// - Throws: ``ProposalError``; a barrier has no effect, so every failure may be retried.
    package func barrier(_ group: GroupID) async throws(ProposalError) -> LogIndex {
        let place = try self.place(of: group)
        let waiter = Waiter<LogIndex>()
        try self.request { inbox in
            inbox.barriers.append(Inbox.Barrier(place: place, waiter: waiter))
            return true
        }
        return try await waiter.value()
    }

    /// Returns when the effects of all entries up to `index` are in this node's state machine.
    /// - Throws: ``ProposalError`` `.groupNotHosted`, `.overloaded`, `.stopped`, or `.outcomeUnknown` when cancelled.
    package func waitUntilApplied(_ group: GroupID, _ index: LogIndex) async throws(ProposalError) {
        let place = try self.place(of: group)
        let waiter = Waiter<Void>()
        self.replicas[place].wait(for: index, waiter)
        try await waiter.value()
    }

    private func place(of group: GroupID) throws(ProposalError) -> Int {
        guard let place = self.places[group] else {
            throw ProposalError(code: .groupNotHosted, message: "node \(self.node) has no replica of group \(group)")
        }
        return place
    }

    /// - Parameter add: Returns false to refuse for want of room.
    private func request(_ add: (inout Inbox) -> Bool) throws(ProposalError) {
        enum Refusal {
            case closed
            case full
        }
        var refusal: Refusal?
        self.post { inbox in
            if inbox.isClosed {
                refusal = .closed
            } else if inbox.requestCount >= self.configuration.inboxRequestsMax || !add(&inbox) {
                refusal = .full
            }
        }
        switch refusal {
        case .closed:
            throw ProposalError(code: .stopped, message: "the host has stopped", cause: self.failure)
        case .full:
            throw ProposalError(code: .overloaded, message: "too many requests wait")
        case nil: return
        }
    }

    // MARK: - Peers and time

    /// Takes messages of `peer`; never blocks. Drops them when too many bytes wait, as a network may.
    package func receive(_ messages: [GroupMessage], from peer: NodeID) {
        var bytes = 0
        for message in messages { bytes += message.message.costBytes }
        self.post { inbox in
            guard !inbox.isClosed, inbox.messageBytes + bytes <= self.configuration.inboxMessageBytesMax else { return }
            inbox.messageBytes += bytes
            inbox.messages.append((peer, messages))
        }
    }

    /// Messages to `peer` were lost, or its connection was: senders probe before they send more.
    package func unreachable(_ peer: NodeID) {
        self.post { inbox in
            if !inbox.unreachable.contains(peer) { inbox.unreachable.append(peer) }
        }
    }

    /// Stands for election in `group` now; nothing comes of it while the others hear a leader.
    package func campaign(_ group: GroupID) {
        guard let place = self.places[group] else { return }
        self.post { inbox in
            if !inbox.campaigns.contains(place) { inbox.campaigns.append(place) }
        }
    }

    /// Lets time pass; only with ``Ticks/manual``.
    package func tick(count: Int = 1) {
        guard case .manual = self.ticks else { preconditionFailure("ticks come from the clock") }
        self.post { inbox in inbox.ticks += count }
    }

    // MARK: - Status

    /// The state of every group on this node, ascending by group.
    package func status() -> [GroupStatus] { self.replicas.map { $0.published.withLock { $0 } } }

    /// The state of one group, nil when it is not on this node.
    package func status(of group: GroupID) -> GroupStatus? {
        self.places[group].map { self.replicas[$0].published.withLock { $0 } }
    }

    /// The leader of `group` as far as this node knows.
    package func leader(of group: GroupID) -> NodeID? {
        self.places[group].flatMap { self.replicas[$0].published.withLock { $0.leader } }
    }

    // MARK: - Threads

    private func post(_ change: (inout Inbox) -> Void) {
        let mustWake = self.inbox.withLock { state in
            change(&state.work)
            defer { state.isSleeping = false }
            return state.isSleeping
        }
        if mustWake { self.inbox.signal() }
    }

    private func runLoop() {
        var taken = Inbox()
        let lonePlaces = self.loop.lonePlaces
        if !lonePlaces.isEmpty { self.post { $0.campaigns.append(contentsOf: lonePlaces) } }
        let interval = UInt64(self.configuration.tickInterval / .nanoseconds(1))
        var nextTick = MonotonicTime(nanoseconds: MonotonicTime.now().nanoseconds + interval)
        while true {
            let deadline: MonotonicTime? = if case .clock = self.ticks { nextTick } else { nil }
            self.takeInbox(&taken, until: deadline)
            var ticks = taken.ticks
            if let deadline {
                let now = MonotonicTime.now()
                if now >= deadline {
                    let due = (now.nanoseconds - deadline.nanoseconds) / interval + 1
                    ticks = Int(min(due, UInt64(Self.ticksPerTurnMax)))
                    nextTick = MonotonicTime(nanoseconds: deadline.nanoseconds + due * interval)
                }
            }
            if taken.isStopping || taken.failure != nil { break }
            self.loop.turn(&taken, ticks: ticks)
            self.perform()
            if self.failure != nil { break }
        }
        self.finish(&taken)
    }

    private func takeInbox(_ taken: inout Inbox, until deadline: MonotonicTime?) {
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

    /// Hands on what a turn left: writes first, as they take longest.
    private func perform() {
        if !self.loop.output.writes.isEmpty { self.writer.add(self.loop.output.writes) }
        for (place, messages) in self.loop.output.messages.enumerated() where !messages.isEmpty {
            self.transport.send(messages, to: self.loop.peers[place])
        }
        for replica in self.loop.output.scheduled { self.schedule(replica) }
        for change in self.loop.output.changes { self.events.onLeadershipChange(change) }
        if let failure = self.loop.output.failure { self.fail(failure) }
        self.loop.clearOutput()
    }

    private func schedule(_ replica: GroupReplica) {
        replica.lane.enqueue { self.apply(replica) }
    }

    private func apply(_ replica: GroupReplica) {
        do throws(ConsensusError) {
            if let failure = self.failure { throw failure }
            guard let index = try replica.apply(with: self.applier) else { return }
            self.post { inbox in inbox.applied.append((replica.place, index)) }
            if replica.hasMoreWork() { self.schedule(replica) }
        } catch {
            self.fail(error)
            replica.abandon(cause: error)
        }
    }

    private func runWriter() {
        do throws(ConsensusError) {
            try self.writer.run { writes in self.didPersist(writes) }
        } catch {
            self.fail(error)
        }
    }

    private func didPersist(_ writes: [PendingWrite]) {
        var messages = Array(repeating: [GroupMessage](), count: self.loop.peers.count)
        for write in writes {
            let group = self.replicas[write.place].group
            for message in write.messages {
                guard let peer = self.loop.peers.firstIndex(of: message.to) else { continue }
                messages[peer].append(GroupMessage(group: group, message: message))
            }
        }
        for (place, some) in messages.enumerated() where !some.isEmpty {
            self.transport.send(some, to: self.loop.peers[place])
        }
        self.post { inbox in
            for write in writes { inbox.persisted.append((write.place, write.ticket)) }
        }
    }

    private func finish() {
        var taken = Inbox()
        self.finish(&taken)
    }

    /// The end of the raft thread: everybody who waits is answered.
    private func finish(_ taken: inout Inbox) {
        self.loop.failWaiting(&taken, cause: self.failure)
        self.inbox.withLock { state in
            state.work.isClosed = true
            swap(&taken, &state.work)
            state.work.isClosed = true
        }
        self.loop.failWaiting(&taken, cause: self.failure)
        if self.failure != nil {
            for replica in self.replicas { replica.close() }
        }
    }
}
