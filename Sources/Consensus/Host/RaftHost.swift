package import Primitives
package import Storage
internal import Synchronization

/// Runs the replicas of all groups of a node: time, disk, messages and waiting callers around ``RaftLoop``.
///
/// Each raft thread owns the cores of its groups; the writes of all groups become durable by one batch and one sync for
/// everything that waits; committed entries are applied on the lanes, in order for each group and in one call a turn
/// for all groups of a lane. Any failure of the log, of the store or of the applier stops the host for good. All
/// methods may be called from any thread.
package final class RaftHost: Sendable {
    /// Where ticks come from.
    package enum Ticks: Sendable {
        /// The monotonic clock, one each `tickInterval`.
        case clock
        /// ``RaftHost/tick(count:)``, for tests.
        case manual
    }

    enum Phase: Sendable {
        case made
        case running(raft: [SerialThread], hosted: HostedLoop?, writer: SerialThread)
        case stopped
    }

    package let node: NodeID
    let configuration: RaftConfiguration
    let transport: any PeerTransport
    let applier: any CommandApplier
    let ticks: Ticks
    let events: HostEvents
    let lanes: [LaneQueue]
    let loops: [HostLoop]
    let writer: LogWriter
    /// The replicas that are here, for callers of any thread.
    let replicas: Mutex<[GroupID: GroupReplica]>
    /// Drives the one loop beside other work; nil when the loops have threads of their own.
    private let thread: (any RaftThread)?
    private let phase = Mutex(Phase.made)
    private let failed = Mutex<ConsensusError?>(nil)

    /// Applied bytes of a group after which a raft thread is told at once.
    private static let urgentBytesMax = 1 << 20

    /// Reads and checks the logs of all groups on disk; starts nothing. Blocks.
    ///
    /// - Parameters:
    ///   - groups: The first membership of groups; makes those that were never here and have `node` in it, and stands
    ///     in for what has no membership on disk.
    ///   - log: Where the logs are; its owner closes it, after ``stop()``.
    ///   - lanes: Where groups are applied (`group % lanes.count`); at least one. Their owner ends them, after
    ///     ``stop()``.
    ///   - thread: Drives the loop beside other work, until ``stop()`` has returned; nil for raft threads of the host's
    ///     own, as several loops need them.
    ///   - seed: Draws election timeouts; different on each node.
    ///   - epoch: Names this life of the node; another one after each start.
    /// - Throws: ``ConsensusError``: a log is damaged, or shorter than what was applied.
    package init(
        node: NodeID,
        groups: [GroupID: Membership],
        log: any RaftLogStorage,
        configuration: RaftConfiguration = RaftConfiguration(),
        transport: any PeerTransport,
        applier: any CommandApplier,
        lanes: [any ApplyLane],
        thread: (any RaftThread)? = nil,
        seed: UInt64,
        epoch: UInt64,
        ticks: Ticks = .clock,
        events: HostEvents = HostEvents()
    ) throws(ConsensusError) {
        let urgentBytes = min(Self.urgentBytesMax, max(1, configuration.applyBacklogBytesMax / 2))
        let queues = lanes.map { LaneQueue(lane: $0, urgentBytes: urgentBytes) }
        var parts = LoopParts(
            node: node,
            configuration: configuration,
            store: log,
            applier: applier,
            lanes: queues,
            seed: seed,
            epoch: epoch,
            events: events
        )
        parts.loopCount = configuration.loopCount
        var loops: [HostLoop] = []
        var replicas: [GroupID: GroupReplica] = [:]
        for number in 0..<configuration.loopCount {
            parts.number = number
            let loop = try RaftLoop(parts: parts, groups: groups)
            for group in loop.groups { replicas[group] = loop.replica(of: group) }
            loops.append(HostLoop(loop))
        }
        self.node = node
        self.configuration = configuration
        self.transport = transport
        self.applier = applier
        self.ticks = ticks
        self.events = events
        self.lanes = queues
        self.loops = loops
        self.replicas = Mutex(replicas)
        self.thread = configuration.loopCount == 1 ? thread : nil
        self.writer = LogWriter(store: log, inlineBytesMax: configuration.inlineWriteBytesMax)
    }

    // MARK: - Life

    /// Starts the threads; to be called once.
    /// - Throws: ``ConsensusError`` `.thread`.
    package func start() throws(ConsensusError) {
        var threads: [SerialThread] = []
        do throws(StorageError) {
            for number in self.loops.indices where self.thread == nil {
                threads.append(try SerialThread(name: "raft-\(number)"))
            }
            threads.append(try SerialThread(name: "raft-log"))
        } catch {
            for thread in threads { thread.shutdown() }
            throw ConsensusError(code: .thread, message: "the host needs its threads", cause: error)
        }
        let writer = threads.removeLast()
        let raft = threads
        let hosted = self.thread.map { HostedLoop(host: self, loop: self.loops[0], thread: $0) }
        self.phase.withLock { phase in
            guard case .made = phase else { preconditionFailure("a host is started once") }
            phase = .running(raft: raft, hosted: hosted, writer: writer)
        }
        writer.enqueue { self.runWriter() }
        hosted?.begin()
        for (thread, loop) in zip(raft, self.loops) { thread.enqueue { self.run(loop) } }
    }

    /// Takes no more requests, answers those that wait, finishes writes and applies what is committed; blocks until all
    /// threads have ended. Idempotent. Not to be called on the cooperative pool, a lane or
    /// the thread that drives the loop.
    package func stop() {
        let before = self.phase.withLock { phase in
            defer { phase = .stopped }
            return phase
        }
        for loop in self.loops {
            loop.post { inbox in
                inbox.isStopping = true
                inbox.isClosed = true
            }
        }
        switch before {
        case .stopped: return
        case .made:
            for loop in self.loops {
                var taken = Inbox()
                loop.finish(&taken, cause: self.failure)
            }
        case .running(let raft, let hosted, let writer):
            for thread in raft { thread.shutdown() }
            hosted?.awaitEnd()
            self.writer.stop()
            writer.shutdown()
        }
        self.awaitLanes()
        for replica in self.allReplicas { replica.close() }
    }

    /// What made the host stop, or nil.
    package var failure: ConsensusError? { self.failed.withLock { $0 } }

    /// Stops the host for good; the first failure counts.
    func fail(_ error: ConsensusError) {
        let isFirst = self.failed.withLock { failed in
            if failed != nil { return false }
            failed = error
            return true
        }
        guard isFirst else { return }
        for loop in self.loops {
            loop.post { inbox in
                inbox.failure = error
                inbox.isClosed = true
            }
        }
        self.events.onFailure(error)
    }

    /// Returns when the lanes have applied everything that was handed to them.
    private func awaitLanes() {
        let waiting = TimedMonitor(0)
        // Work enqueues itself again behind our mark, so we look until nothing is scheduled.
        while let busy = self.lanes.first(where: { !$0.isIdle }) {
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

    // MARK: - Status

    var allReplicas: [GroupReplica] { self.replicas.withLock { $0.values.sorted { $0.group < $1.group } } }

    func replica(of group: GroupID) -> GroupReplica? { self.replicas.withLock { $0[group] } }

    func loop(of group: GroupID) -> HostLoop { self.loops[Int(group.rawValue) % self.loops.count] }

    /// The state of every group on this node, ascending by group.
    package func status() -> [GroupStatus] { self.allReplicas.map(\.status) }

    /// The state of one group, nil when it is not on this node.
    package func status(of group: GroupID) -> GroupStatus? { self.replica(of: group)?.status }

    /// The leader of `group` as far as this node knows.
    package func leader(of group: GroupID) -> NodeID? {
        self.replica(of: group).flatMap { $0.published.withLock { $0.leader } }
    }

    /// How far the state machine of `group` is on this node, and the membership there; nil when it is not here.
    ///
    /// On the group's lane (see ``withLane(_:_:)``) it fits the state exactly, elsewhere it may be a moment ahead.
    package func appliedMark(_ group: GroupID) -> SnapshotMark? { self.replica(of: group)?.appliedMark }
}
