package import Primitives
internal import Synchronization

/// What a ``RaftLoop`` is made of.
package struct LoopParts: Sendable {
    package var node: NodeID
    /// The loop has the groups with `group % loopCount == number`.
    package var number = 0
    package var loopCount = 1
    package var configuration: RaftConfiguration
    package var store: any RaftLogStorage
    package var applier: any CommandApplier
    /// Groups are applied on `lanes[group % lanes.count]`.
    package var lanes: [LaneQueue]
    /// Draws election timeouts; different on each node.
    package var seed: UInt64
    /// Names this life of the node.
    package var epoch: UInt64
    package var events: HostEvents
    /// Deliberate mistakes, for tests.
    package var faults: CoreFaults = []
    let peers = PeerCounts()

    package init(
        node: NodeID,
        configuration: RaftConfiguration,
        store: any RaftLogStorage,
        applier: any CommandApplier,
        lanes: [LaneQueue],
        seed: UInt64,
        epoch: UInt64,
        events: HostEvents = HostEvents(),
        faults: CoreFaults = []
    ) {
        precondition(configuration.validate() == nil, "the configuration is valid")
        precondition(!lanes.isEmpty, "entries are applied on at least one lane")
        self.node = node
        self.configuration = configuration
        self.store = store
        self.applier = applier
        self.lanes = lanes
        self.seed = seed
        self.epoch = epoch
        self.events = events
        self.faults = faults
    }

    func lane(of group: GroupID) -> LaneQueue { self.lanes[Int(group.rawValue) % self.lanes.count] }
}

/// What the turns of a loop have left for its owner to do.
package struct LoopOutput: Sendable {
    /// To be sent at any time; best before the writes, so that peers and the own disk work side by side.
    package var outbox = Outbox()
    /// To be made durable, in this order; then their messages are sent and their notes are taken.
    package var writes: [PendingWrite] = []
    /// Lanes on which a turn must be scheduled.
    package var lanes: [LaneQueue] = []
    /// Groups whose replica is gone for good: on their lane the state is discarded, then `.discarded` is ordered.
    package var discards: [GroupID] = []
    package var changes: [LeadershipChange] = []
    package var membershipChanges: [(group: GroupID, membership: Membership)] = []
    package var created: [GroupReplica] = []
    /// Replicas that take no part any more.
    package var removed: [GroupReplica] = []
    package var offers: [(group: GroupID, from: NodeID, offer: RaftMessage.SnapshotOffer)] = []
    /// The host must stop.
    package var failure: ConsensusError?

    package var isEmpty: Bool {
        self.outbox.isEmpty && self.writes.isEmpty && self.lanes.isEmpty && self.discards.isEmpty
            && self.changes.isEmpty && self.membershipChanges.isEmpty && self.created.isEmpty && self.removed.isEmpty
            && self.offers.isEmpty && self.failure == nil
    }

    mutating func clear() {
        self.outbox.clear()
        self.writes.removeAll(keepingCapacity: true)
        self.lanes.removeAll(keepingCapacity: true)
        self.discards.removeAll()
        self.changes.removeAll(keepingCapacity: true)
        self.membershipChanges.removeAll()
        self.created.removeAll()
        self.removed.removeAll()
        self.offers.removeAll()
    }
}

/// The serial owner of the cores of some groups: turns inputs into writes, messages and work for the lanes.
///
/// No clock, no thread, no chance but the seed: whoever drives it gives an inbox and ticks, takes what ``output`` says,
/// and does it. The same inputs give the same outputs. One caller at a time; ``RaftHost`` drives it from a raft thread.
package final class RaftLoop: @unchecked Sendable {  // sendable-ok: touched by its one driver only
    let parts: LoopParts
    let configuration: RaftConfiguration
    let node: NodeID

    /// All groups, ascending; what is looked up goes through ``places``.
    var slots: [GroupSlot] = []
    var slotOf: [GroupID: GroupSlot] = [:]
    /// Groups that are ticked.
    var awake: [GroupSlot] = []
    private var touched: [GroupSlot] = []
    /// Hard states and removal indices of removed replicas.
    var tombstones: [GroupID: LogTombstone] = [:]
    /// Removed groups whose state is not yet discarded.
    var discarding: Set<GroupID> = []

    /// How many groups have a replica on each peer.
    var peers: [(node: NodeID, groups: Int)] = []
    var liveness = PeerLiveness()
    var wakeQueue = Fifo<GroupID>()
    /// Ticks since the start.
    var now: UInt64 = 0
    var transferAll: TransferAll?
    private var nextToken: UInt64 = 1
    package internal(set) var output = LoopOutput()

    /// Restores the replicas that are on disk, and makes those of `groups` that never were. Blocks.
    ///
    /// - Parameter groups: The first membership of groups; used for what has no membership on disk.
    /// - Throws: ``ConsensusError``: a log is damaged, or state and log do not fit together.
    package init(parts: LoopParts, groups: [GroupID: Membership]) throws(ConsensusError) {
        self.parts = parts
        self.configuration = parts.configuration
        self.node = parts.node
        try self.restoreAll(groups)
    }

    /// The groups with a replica here, ascending.
    package var groups: [GroupID] { self.slots.map(\.group) }

    /// For checks.
    package func core(of group: GroupID) -> RaftCore? { self.slotOf[group]?.core }

    package func replica(of group: GroupID) -> GroupReplica? { self.slotOf[group]?.replica }

    // MARK: - One turn

    /// Takes everything in `inbox`, and adds what follows from it to ``output``.
    ///
    /// - Parameter elapsed: Tick intervals that the clock says have passed; elections count one of them, leases all.
    ///   Ticks of the inbox count one each.
    package func turn(_ inbox: inout Inbox, elapsed: Int = 0) {
        for note in inbox.persisted { self.take(note) }
        if !inbox.orders.isEmpty {
            for order in inbox.orders { self.takeInstall(order) }
        }
        for note in inbox.applied {
            guard let slot = self.slotOf[note.replica.group], slot.replica === note.replica else { continue }
            self.touch(slot)
            slot.core.applied(note.index)
        }
        for item in inbox.messages { self.receive(item.messages, from: item.from) }
        for peer in inbox.unreachable {
            for slot in self.awake { slot.core.unreachable(peer) }
        }
        for order in inbox.orders { self.take(order) }
        if elapsed > 0 { self.tick(elapsed: elapsed) }
        for _ in 0..<inbox.ticks { self.tick(elapsed: 1) }
        for proposal in inbox.proposals { self.take(proposal) }
        for read in inbox.reads { self.take(read) }
        inbox.clear()
        self.settle()
    }

    /// Takes writes that are durable now, in their order: their messages and what follows are added to ``output``.
    ///
    /// The same as sending the messages and giving the notes to the next turn.
    package func persisted(_ writes: some Collection<PendingWrite>) {
        self.output.outbox.release(writes)
        for write in writes { self.take(write.note) }
        self.settle()
    }

    /// Forgets what was handed on.
    package func clearOutput() { self.output.clear() }

    func touch(_ slot: GroupSlot) {
        if slot.isTouched { return }
        slot.isTouched = true
        self.touched.append(slot)
    }

    /// Something happened in a group that is more than a sign of life.
    func stir(_ slot: GroupSlot) {
        slot.quietTicks = 0
        self.touch(slot)
    }

    /// Brings every group that was touched to rest.
    private func settle() {
        var place = 0
        while place < self.touched.count {
            let slot = self.touched[place]
            place += 1
            self.proposeCommands(slot)
            self.askReads(slot)
            self.drain(slot)
            self.endTransfers(slot)
            slot.isTouched = false
            // Entries that were acknowledged in a later life of the replica lie after those that are not applied yet.
            if let index = slot.goneAt, slot.removedAt == nil, slot.core.appliedIndex >= slot.core.commit {
                slot.removedAt = index
            }
            if slot.removedAt == nil {
                self.keepAwakeList(slot)
                self.publish(slot)
            } else {
                self.bury(slot)
            }
        }
        self.touched.removeAll(keepingCapacity: true)
        if self.transferAll != nil { self.continueTransferAll() }
    }

    /// Hands on everything that a core wants done.
    func drain(_ slot: GroupSlot) {
        while let ready = slot.core.takeReady() { self.handle(ready, slot) }
    }

    func makeToken() -> UInt64 {
        defer { self.nextToken += 1 }
        return self.nextToken
    }

    // MARK: - Notes

    private func take(_ note: PersistedNote) {
        switch note.purpose {
        case .ticket(let ticket):
            guard let slot = self.slotOf[note.replica.group], slot.replica === note.replica else { return }
            self.touch(slot)
            slot.core.persisted(ticket)
        case .compaction: break
        case .tombstone: self.output.discards.append(note.replica.group)
        }
    }

    // MARK: - Output of a core

    private func handle(_ ready: Ready, _ slot: GroupSlot) {
        if let failure = ready.failure, self.output.failure == nil {
            self.output.failure = ConsensusError(
                code: failure.code,
                message: failure.message,
                group: slot.group,
                index: failure.index,
                cause: failure.cause
            )
        }
        if !ready.sendNow.isEmpty { self.output.outbox.add(ready.sendNow, of: slot.group) }
        if let ticket = ready.ticket { self.queueWrite(ready, ticket: ticket, slot) }
        if !ready.committed.isEmpty { self.commit(ready, slot) }
        if !ready.dropped.isEmpty { self.orphan(slot) }
        for read in ready.reads { self.answerRead(read.token, index: read.index, slot) }
        for token in ready.droppedReads { self.failRead(token, slot) }
        if let change = ready.roleChange { self.changeRole(change, slot) }
        if let session = ready.supersededBy, slot.removedAt == nil {
            // Removed and added again while it was away: what this life holds must not count for the next.
            slot.removedAt = LogIndex(session.rawValue - 1)
        }
        if let membership = ready.membershipChange { self.changeMembership(membership, slot) }
        if let found = ready.snapshotToInstall {
            slot.isInstalling = true
            self.output.offers.append((slot.group, found.from, found.offer))
        }
    }

    private func queueWrite(_ ready: Ready, ticket: PersistTicket, _ slot: GroupSlot) {
        var write: LogWrite?
        if ready.mustPersist {
            if let from = ready.truncateFrom { slot.tail.cut(from: from) }
            slot.tail.wrote(ready.entries, configuration: self.configuration)
            write = LogWrite(
                group: slot.group,
                hardState: slot.core.hardState,
                commit: ready.commit,
                resetTo: ready.resetLog.map { LogMark(index: $0.index, term: $0.term) },
                truncateFrom: ready.truncateFrom,
                entries: ready.entries,
                last: ticket.index,
                lastTerm: ticket.term
            )
        }
        self.output.writes.append(
            PendingWrite(
                replica: slot.replica,
                purpose: .ticket(ticket),
                write: write,
                messages: ready.sendWhenPersisted
            )
        )
    }

    private func changeRole(_ change: RoleChange, _ slot: GroupSlot) {
        slot.quietTicks = 0
        self.publishReplicas(slot)
        self.output.changes.append(
            LeadershipChange(group: slot.group, role: change.role, leader: change.leader, term: change.term)
        )
    }

    // MARK: - Status

    func publish(_ slot: GroupSlot) {
        // Property by property: to hand over the core would copy it.
        let seen = GroupSlot.Published(
            role: slot.core.role,
            leader: slot.core.leader,
            term: slot.core.term,
            commit: slot.core.commit,
            applied: slot.core.appliedIndex,
            first: slot.core.firstIndex,
            last: slot.core.lastIndex,
            isAsleep: slot.core.isAsleep,
            isInstalling: slot.isInstalling
        )
        if seen == slot.seen { return }
        slot.seen = seen
        slot.replica.published.withLock { status in
            status.role = seen.role
            status.leader = seen.leader
            status.term = seen.term
            status.commit = seen.commit
            status.applied = seen.applied
            status.first = seen.first
            status.last = seen.last
            status.isAsleep = seen.isAsleep
            status.isInstalling = seen.isInstalling
        }
    }

    /// What a leader knows of the replicas; not each turn, as nobody asks so often.
    func publishReplicas(_ slot: GroupSlot) {
        let last = slot.core.lastIndex
        let replicas = slot.core.replicas.map { progress in
            GroupStatus.Replica(
                node: progress.node,
                match: progress.match,
                isRecentlyActive: progress.isRecentlyActive,
                lag: last.rawValue - min(progress.match, last).rawValue,
                isLearner: progress.isLearner,
                snapshot: progress.pendingSnapshot
            )
        }
        slot.replica.published.withLock { $0.replicas = replicas }
    }
}
