internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Shards
internal import Storage

/// The running process of a node: the real loop, log store and applier, driven without threads.
///
/// What threads do on a real node, events do here: the disk takes its time, a lane's turn comes later, a snapshot
/// travels chunk by chunk; and between any two of them the process may end.
final class SimProcess {
    let node: SimNode
    let applier: ShardApplier
    let loop: RaftLoop
    private let log: SegmentLog
    private let watcher: ApplyWatcher
    private let lanes: [LaneQueue]
    private var inbox = Inbox()
    private var pending: [PendingWrite] = []
    private var inFlight: [PendingWrite] = []
    private var isWriting = false
    /// Messages that waited for the disk and leave now.
    private var released: Set<GroupMessage> = []
    private(set) var hasFailed = false
    /// Snapshots on their way to here.
    var fetches: [GroupID: SnapshotFetch] = [:]

    var world: World { self.node.world }

    init(node: SimNode) throws {
        let plan = node.world.plan
        self.node = node
        self.log = try SegmentLog.open(files: node.logFiles, configuration: plan.segments)
        let inlineLanes = (0..<plan.laneCount).map { _ in InlineLane() }
        self.lanes = inlineLanes.map { LaneQueue(lane: $0, turnBytesMax: plan.laneTurnBytesMax) }
        let flushDue = OneThreadFlag()
        let applier = try ShardApplier(
            store: node.store,
            lanes: inlineLanes,
            events: ShardEvents(onAdvance: { _, _ in }, onFlushDue: { flushDue.isSet = true }, onDiscard: { _ in }),
            flushBytes: plan.flushBytes,
            features: node.features,
            faults: node.world.faults.applier
        )
        self.applier = applier
        self.watcher = ApplyWatcher(applier: applier, flushDue: flushDue)
        var configuration = plan.configuration
        configuration.electionPriority = node.electionPriority
        let parts = LoopParts(
            node: node.id,
            configuration: configuration,
            store: self.log,
            applier: self.watcher,
            lanes: self.lanes,
            seed: node.dice.next(),
            epoch: UInt64(node.life),
            events: HostEvents(mayHost: { _, _ in true }),
            faults: node.world.faults.core
        )
        var groups: [GroupID: Membership] = [:]
        if node.isFounder {
            for group in plan.groups { groups[group.id] = Membership(voters: group.voters, learners: group.learners) }
        }
        self.loop = try RaftLoop(parts: parts, groups: groups)
    }

    func begin() {
        for group in self.loop.groups {
            guard let core = self.loop.core(of: group) else { continue }
            self.world.invariants.started(core, group: group, tick: self.node.ticks)
        }
        self.input { inbox in
            for group in self.loop.loneGroups { inbox.orders.append(.campaign(group)) }
        }
        self.checkLedgers(self.loop.groups)
    }

    func core(of group: GroupID) -> RaftCore? { self.loop.core(of: group) }

    /// What the node says of itself when the cluster's manager asks.
    var report: NodeReport {
        NodeReport(
            features: self.node.features,
            statuses: self.loop.groups.compactMap { self.loop.replica(of: $0)?.status }
        )
    }

    // MARK: - Inputs

    /// Gives the loop a turn with what `change` puts into the inbox, and does what follows from it.
    func input(elapsed: Int = 0, _ change: (inout Inbox) -> Void) {
        guard !self.hasFailed else { return }
        change(&self.inbox)
        self.loop.turn(&self.inbox, elapsed: elapsed)
        self.perform()
    }

    func tick(elapsed: Int) { self.input(elapsed: elapsed) { _ in } }

    func receive(_ messages: [HostMessage], from peer: NodeID) {
        self.input { inbox in inbox.messages.append((peer, messages)) }
        guard !self.hasFailed else { return }
        for message in messages {
            guard case .raft(let item) = message, let core = self.loop.core(of: item.group) else { continue }
            self.world.note(.deliver, self.node.id, item.message.term.rawValue, peer.rawValue, item.traceText)
            self.world.invariants.delivered(item.message, to: core, group: item.group, tick: self.node.ticks)
        }
    }

    func unreachable(_ peer: NodeID) { self.input { $0.unreachable.append(peer) } }

    func campaign(_ group: GroupID) {
        self.world.invariants.released(self.node.id, group: group)
        self.input { $0.orders.append(.campaign(group)) }
    }

    func propose(
        _ group: GroupID,
        _ command: [UInt8],
        answer: @escaping (Result<[UInt8], ProposalError>) -> Void
    ) {
        let box = OneThread(value: answer)
        let waiter = Waiter<[UInt8]> { result in box.value(result) }
        self.input { $0.proposals.append(Inbox.Proposal(group: group, command: command, waiter: waiter)) }
    }

    /// A linearizable read: answers when the index is applied here.
    func read(_ group: GroupID, answer: @escaping (Result<LogIndex, ProposalError>) -> Void) {
        let box = OneThread(value: answer)
        let waiter = Waiter<LogIndex> { result in box.value(result) }
        self.input { $0.reads.append(Inbox.Read(group: group, waitsUntilApplied: true, waiter: waiter)) }
    }

    func change(
        _ group: GroupID,
        _ change: MembershipChange,
        answer: @escaping (Result<Membership, ProposalError>) -> Void
    ) {
        let box = OneThread(value: answer)
        let world = OneThread(value: self.world)
        let waiter = Waiter<Membership> { result in
            if case .failure(let error) = result, [.refusedChange, .changePending].contains(error.code) {
                world.value.coverage[.changesRefused] += 1
            }
            box.value(result)
        }
        self.input { $0.orders.append(.changeMembership(group, change, waiter)) }
    }

    func transfer(_ group: GroupID, to target: NodeID, answer: @escaping (Result<Void, ProposalError>) -> Void) {
        let box = OneThread(value: answer)
        let waiter = Waiter<Void> { result in box.value(result) }
        self.input { $0.orders.append(.transfer(group, to: target, waiter)) }
    }

    /// Hands on every group that the node leads, as before a planned stop; `done` is called when nothing is left to try.
    func handOnAll(_ done: @escaping () -> Void) {
        let box = OneThread(value: done)
        let waiter = Waiter<Int> { _ in box.value() }
        self.world.invariants.handsOnAll(self.node.id)
        self.input { $0.orders.append(.transferAll(waiter)) }
    }

    // MARK: - Output

    /// Does what the turns left, until nothing is left but what takes time.
    private func perform() {
        while !self.hasFailed, !self.loop.output.isEmpty {
            let output = self.loop.output
            self.loop.clearOutput()
            if let failure = output.failure { return self.fail(failure) }
            self.noteDecisions(output)
            for write in output.writes { self.handOut(write) }
            self.observe()
            for batch in output.outbox.batches where !batch.messages.isEmpty { self.send(batch.messages, to: batch.to) }
            for lane in output.lanes { self.scheduleLane(lane) }
            for group in output.discards { self.scheduleDiscard(group) }
            for replica in output.created { self.created(replica.group) }
            for replica in output.removed {
                self.world.coverage[.replicasRemoved] += 1
                self.world.note(
                    .membership,
                    self.node.id,
                    UInt64(replica.group.rawValue),
                    "leaves group \(replica.group)"
                )
                self.fetches[replica.group] = nil
            }
            for change in output.changes {
                let leader = change.leader.map { "\($0)" } ?? "nobody"
                self.world.note(
                    .role,
                    self.node.id,
                    change.term.rawValue,
                    UInt64(change.group.rawValue),
                    "g\(change.group) \(change.role) t\(change.term) under \(leader)"
                )
            }
            for change in output.membershipChanges {
                self.world.note(
                    .membership,
                    self.node.id,
                    UInt64(change.group.rawValue),
                    "g\(change.group) \(change.membership.traceText)"
                )
            }
            for item in output.offers { self.beginFetch(item.group, from: item.from) }
            self.beginWrite()
        }
        self.observe()
    }

    private func beginFetch(_ group: GroupID, from leader: NodeID) {
        do {
            let fetch = try SnapshotFetch(self, group: group, leader: leader)
            self.fetches[group] = fetch
            fetch.begin()
        } catch {
            self.fail(error)
        }
    }

    private func created(_ group: GroupID) {
        self.world.coverage[.replicasAdded] += 1
        self.world.note(.membership, self.node.id, UInt64(group.rawValue), "has a blank replica of group \(group)")
    }

    private func observe() {
        for group in self.loop.groups {
            guard let core = self.loop.core(of: group) else { continue }
            self.world.invariants.observe(core, group: group, tick: self.node.ticks)
        }
    }

    /// Answers are judged by what the replica knew when it made them, not by what it knows when they leave.
    private func noteDecisions(_ output: LoopOutput) {
        for write in output.writes {
            for message in write.messages {
                self.world.invariants.decided(message, group: write.replica.group, tick: self.node.ticks)
            }
        }
        for batch in output.outbox.batches {
            for case .raft(let item) in batch.messages where !self.released.contains(item) {
                self.world.invariants.decided(item.message, group: item.group, tick: self.node.ticks)
            }
        }
        self.released = []
    }

    private func handOut(_ write: PendingWrite) {
        self.pending.append(write)
        guard let made = write.write else { return }
        if made.removedAt != nil { return self.world.invariants.buries(made, by: self.node.id) }
        guard let core = self.loop.core(of: made.group) else { return }
        self.world.invariants.handedOut(made, by: core)
    }

    private func send(_ messages: [HostMessage], to peer: NodeID) {
        for message in messages {
            guard case .raft(let item) = message else { continue }
            self.world.invariants.sent(item.message, group: item.group, tick: self.node.ticks)
            self.world.note(.send, self.node.id, item.message.term.rawValue, peer.rawValue, item.traceText)
        }
        self.world.network.send(messages, from: self.node.id, to: peer)
    }

    // MARK: - Disk

    private func beginWrite() {
        guard !self.isWriting, !self.pending.isEmpty, !self.hasFailed else { return }
        self.isWriting = true
        self.inFlight = self.pending
        self.pending = []
        self.node.after(self.node.drawSyncTime()) { process in process.endWrite() }
    }

    private func endWrite() {
        guard !self.hasFailed else { return }
        let taken = self.inFlight
        self.inFlight = []
        self.isWriting = false
        let writes = taken.compactMap(\.write)
        if !writes.isEmpty {
            do { try self.log.write(writes) } catch { return self.fail(error) }
            self.world.note(.write, self.node.id, UInt64(writes.count), "\(writes.count) writes are durable")
        }
        for write in writes {
            if write.removedAt != nil {
                self.world.invariants.removed(self.node.id, by: write)
            } else {
                self.world.invariants.persisted(write, by: self.node.id)
            }
        }
        for write in taken {
            for message in write.messages {
                self.released.insert(GroupMessage(group: write.replica.group, message: message))
            }
        }
        self.loop.persisted(taken)
        self.perform()
        self.beginWrite()
    }

    /// The process ends: what was being written has come to any point, or was not begun.
    func abandonWrites() {
        let writes = self.inFlight.compactMap(\.write)
        guard !writes.isEmpty, !self.hasFailed else { return }
        self.world.coverage[.crashesInWrite] += 1
        guard self.node.dice.chance(50) else { return }
        let callsBefore = self.node.dice.roll(Self.callsOfWriteMax)
        self.node.logFiles.set(SimLogFiles.Trap(callsBefore: callsBefore, hasEffect: self.node.dice.chance(50)))
        _ = try? self.log.write(writes)
    }

    /// A write of the log takes two calls of its disk, and seldom more than this.
    private static let callsOfWriteMax = 5

    /// Brings the applied state to the disk.
    func flush() {
        guard !self.hasFailed else { return }
        do { try self.applier.flush() } catch { self.fail(error) }
    }

    // MARK: - Lanes

    private func scheduleLane(_ lane: LaneQueue) {
        self.node.after(self.node.drawApplyTime()) { process in process.runLane(lane) }
    }

    private func runLane(_ lane: LaneQueue) {
        guard !self.hasFailed else { return }
        let notes: [AppliedNote]
        do { notes = try lane.turn(with: self.watcher) } catch { return self.fail(error) }
        let applied = self.watcher.take()
        for work in applied {
            self.world.invariants.applies(work.entries, group: work.group, node: self.node.id)
            let last = work.entries.last?.index ?? .zero
            self.world.note(
                .apply,
                self.node.id,
                last.rawValue,
                UInt64(work.group.rawValue),
                "group \(work.group) up to \(last)"
            )
        }
        self.checkLedgers(applied.map(\.group))
        guard self.world.isSound else { return }
        self.input { $0.applied.append(contentsOf: notes) }
        if lane.hasMoreWork() { self.scheduleLane(lane) }
        if self.watcher.flushDue.isSet { self.planFlush() }
    }

    private func planFlush() {
        self.watcher.flushDue.isSet = false
        self.node.after(self.node.drawSyncTime() * 3) { process in process.flush() }
    }

    private func scheduleDiscard(_ group: GroupID) {
        self.node.after(self.node.drawApplyTime()) { process in process.discard(group) }
    }

    private func discard(_ group: GroupID) {
        guard !self.hasFailed else { return }
        do { try self.applier.discard(group) } catch { return self.fail(error) }
        self.input { $0.orders.append(.discarded(group)) }
    }

    /// Holds the ledgers of `groups` against the one true history.
    func checkLedgers(_ groups: [GroupID]) {
        let store = self.node.store.unfaulted
        for group in groups {
            do {
                for organization in try Self.organizations(of: group, in: store) {
                    let reader = LedgerReader(store: store, organization: organization)
                    let problem = try self.world.oracle.sees(try reader.head()) { from, count in
                        try reader.records(from: from, limit: count)
                    }
                    self.world.coverage[.rootsCompared] += 1
                    self.world.coverage[.ledgerRecords] = self.world.oracle.recordCount
                    if let problem { self.world.violate("node \(self.node.id), \(problem)") }
                }
            } catch {
                self.world.violate("node \(self.node.id): the ledgers of group \(group) cannot be read: \(error)")
            }
        }
    }

    /// The organizations with records in `group`, ascending.
    static func organizations(of group: GroupID, in store: any KeyValueReader) throws -> [OrganizationID] {
        if group == .system { return [OrganizationID(0)] }
        var prefix = ByteWriter()
        prefix.write(group.rawValue)
        prefix.write(Self.organizationKind)
        var found: [OrganizationID] = []
        try store.scan(.groupState, prefix: prefix.bytes) { key, _ in
            var reader = ByteReader(key[prefix.bytes.count...])
            found.append(OrganizationID(try reader.read()))
            return true
        }
        return found
    }

    /// The kind of the rows of `group_state` that name the organizations of a group.
    private static let organizationKind: UInt8 = 9

    // MARK: - Failure

    func fail(_ error: any Error) {
        guard !self.hasFailed else { return }
        self.hasFailed = true
        let node = self.node
        let life = node.life
        node.world.after(0) { if node.life == life { node.failed(error) } }
    }
}

/// Gives something of the simulation's one thread to a closure that must be sendable.
struct OneThread<Value>: @unchecked Sendable {  // sendable-ok: the simulation has one thread
    let value: Value
}

/// A note that one part of the simulation's one thread leaves for another.
final class OneThreadFlag: @unchecked Sendable {  // sendable-ok: the simulation has one thread
    var isSet = false
}

/// Stands before an applier and remembers what went through.
final class ApplyWatcher: CommandApplier, @unchecked Sendable {  // sendable-ok: the simulation has one thread
    private let applier: ShardApplier
    let flushDue: OneThreadFlag
    private var applied: [GroupEntries] = []

    init(applier: ShardApplier, flushDue: OneThreadFlag) {
        self.applier = applier
        self.flushDue = flushDue
    }

    /// What was applied since the last call.
    func take() -> [GroupEntries] {
        defer { self.applied = [] }
        return self.applied
    }

    func appliedState(of group: GroupID) throws -> AppliedState { try self.applier.appliedState(of: group) }

    func apply(_ work: [GroupEntries]) throws -> [[[UInt8]]] {
        self.applied.append(contentsOf: work)
        return try self.applier.apply(work)
    }

    func durableApplied(of group: GroupID) -> LogIndex { self.applier.durableApplied(of: group) }

    func discard(_ group: GroupID) throws { try self.applier.discard(group) }
}
