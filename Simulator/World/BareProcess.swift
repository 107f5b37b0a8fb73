internal import Consensus
internal import Primitives
internal import Storage

/// The running process of a node: its cores, what waits for the disk, and what waits to be applied.
final class SimProcess {
    private struct Slot {
        let group: GroupID
        var core: RaftCore
        var toApply: [(entries: [LogEntry], memberships: [CommittedMembership])] = []
        var isApplying = false
        var isInstalling = false
    }

    private struct Pending {
        let group: GroupID
        let ticket: PersistTicket?
        let write: RaftLogStore.Write?
        let messages: [RaftMessage]
    }

    let node: SimNode
    private let life: Int
    private let logStore: RaftLogStore
    private let states: BareStates
    private var slots: [Slot] = []
    private var pending: [Pending] = []
    private var isWriting = false
    private var nextToken: UInt64 = 1
    private var answers: [UInt64: (CallAnswer) -> Void] = [:]
    private var hasFailed = false

    private var world: World { self.node.world }

    init(node: SimNode) throws {
        self.node = node
        self.life = node.life
        self.logStore = RaftLogStore(node.store)
        self.states = BareStates(store: node.store)
        let stored = try self.logStore.groups()
        for group in node.world.plan.groups {
            let isHere = group.voters.contains(node.id) || group.learners.contains(node.id)
            guard isHere || stored.contains(group.id) else { continue }
            let restored = try self.logStore.load(group.id)
            let initial = isHere ? Membership(voters: group.voters, learners: group.learners) : Membership(voters: [])
            self.slots.append(try self.slot(group.id, restored, initial: initial))
        }
    }

    private func slot(_ group: GroupID, _ restored: RaftLogStore.Restored, initial: Membership) throws -> Slot {
        let state = try self.states.state(of: group)
        let replica = RestoredReplica(
            hardState: restored.hardState,
            terms: restored.terms,
            commit: max(restored.commit, state.index),
            applied: state.index,
            appliedTerm: state.term,
            membership: state.membership ?? initial
        )
        let core = RaftCore(
            id: self.node.id,
            configuration: self.world.plan.configuration,
            restored: replica,
            reader: self.logStore.reader(of: group),
            generator: SeededGenerator(seed: self.node.dice.next()),
            faults: self.world.faults.core
        )
        return Slot(group: group, core: core)
    }

    func begin() {
        for slot in self.slots { self.world.invariants.started(slot.core, group: slot.group, tick: self.node.ticks) }
        for place in self.slots.indices { self.finish(place) }
    }

    // MARK: - Looking

    var groups: [GroupID] { self.slots.map(\.group) }
    func core(of group: GroupID) -> RaftCore? { self.place(of: group).map { self.slots[$0].core } }
    func isInstalling(_ group: GroupID) -> Bool { self.place(of: group).map { self.slots[$0].isInstalling } ?? false }
    private func place(of group: GroupID) -> Int? { self.slots.firstIndex { $0.group == group } }

    // MARK: - Inputs

    func tick(elapsed: Int) {
        for place in self.slots.indices {
            if !self.slots[place].core.isAsleep { self.slots[place].core.tick(elapsed: elapsed) }
            self.finish(place)
        }
    }

    func receive(_ messages: [HostMessage], from peer: NodeID) {
        for message in messages {
            guard case .raft(let item) = message, !self.hasFailed else { continue }
            self.makeReplica(for: item)
            guard let place = self.place(of: item.group) else { continue }
            self.world.note(.deliver, self.node.id, item.message.term.rawValue, peer.rawValue, item.traceText)
            self.slots[place].core.step(item.message)
            self.world.invariants.delivered(
                item.message,
                to: self.slots[place].core,
                group: item.group,
                tick: self.node.ticks
            )
            self.finish(place)
        }
    }

    /// A leader that was told to add this node sends to it before there is a replica.
    private func makeReplica(for item: GroupMessage) {
        guard self.place(of: item.group) == nil else { return }
        switch item.message.body {
        case .append, .heartbeat, .snapshot: break
        default: return
        }
        do {
            let restored = try self.logStore.load(item.group)
            let slot = try self.slot(item.group, restored, initial: Membership(voters: []))
            self.slots.append(slot)
            self.world.coverage[.replicasAdded] += 1
            self.world.invariants.started(slot.core, group: item.group, tick: self.node.ticks)
        } catch {
            self.fail(error)
        }
    }

    func unreachable(_ peer: NodeID) {
        for place in self.slots.indices {
            self.slots[place].core.unreachable(peer)
            self.finish(place)
        }
    }

    func campaign(_ group: GroupID) {
        guard let place = self.place(of: group) else { return }
        self.world.invariants.released(self.node.id, group: group)
        self.slots[place].core.campaign()
        self.finish(place)
    }

    func transfer(_ group: GroupID, to node: NodeID) {
        guard let place = self.place(of: group) else { return }
        if self.slots[place].core.transferLeadership(to: node) {
            self.world.invariants.transferAsked(self.slots[place].core, group: group, tick: self.node.ticks)
        }
        self.finish(place)
    }

    func trySleep(_ group: GroupID) {
        guard let place = self.place(of: group) else { return }
        let live = self.world.nodes.filter { $0.process != nil }.map(\.id)
        _ = self.slots[place].core.trySleep(live: live)
        self.finish(place)
    }

    func compact(_ group: GroupID, keeping kept: UInt64) {
        guard let place = self.place(of: group) else { return }
        let applied = self.states.durableApplied(of: group)
        guard applied.rawValue > kept else { return }
        let through = LogIndex(applied.rawValue - kept)
        guard through > self.slots[place].core.baseIndex else { return }
        self.slots[place].core.compact(through: through)
        let core = self.slots[place].core
        let write = RaftLogStore.Write(
            group: group,
            hardState: core.hardState,
            commit: core.commit,
            compactThrough: LogMark(index: through, term: core.baseTerm),
            last: core.lastIndex,
            lastTerm: core.lastTerm
        )
        self.pending.append(Pending(group: group, ticket: nil, write: write, messages: []))
        self.finish(place)
        self.beginWrite()
    }

    func flush() {
        do { try self.states.flush() } catch { self.fail(error) }
    }

    func propose(_ group: GroupID, _ command: [UInt8], answer: @escaping (CallAnswer) -> Void) {
        guard let place = self.place(of: group) else { return answer(.notLeader(nil)) }
        let token = self.makeToken(answer)
        switch self.slots[place].core.propose(kind: .commands, payload: command, token: token) {
        case .accepted: break
        case .notLeader(let leader): self.answer(token, .notLeader(leader))
        case .overloaded: self.answer(token, .overloaded)
        case .transferring: self.answer(token, .notLeader(nil))
        }
        self.finish(place)
    }

    func change(_ group: GroupID, _ change: MembershipChange, answer: @escaping (CallAnswer) -> Void) {
        guard let place = self.place(of: group) else { return answer(.notLeader(nil)) }
        let token = self.makeToken(answer)
        switch self.slots[place].core.proposeMembership(change, token: token) {
        case .accepted: break
        case .notLeader(let leader): self.answer(token, .notLeader(leader))
        case .overloaded, .pending, .transferring, .invalid:
            self.world.coverage[.changesRefused] += 1
            self.answer(token, .overloaded)
        }
        self.finish(place)
    }

    func read(_ group: GroupID, answer: @escaping (CallAnswer) -> Void) {
        guard let place = self.place(of: group) else { return answer(.notLeader(nil)) }
        let token = self.makeToken(answer)
        self.slots[place].core.readIndex(token: token)
        self.finish(place)
    }

    private func makeToken(_ answer: @escaping (CallAnswer) -> Void) -> UInt64 {
        defer { self.nextToken += 1 }
        self.answers[self.nextToken] = answer
        return self.nextToken
    }

    private func answer(_ token: UInt64, _ answer: CallAnswer) {
        guard let waiting = self.answers.removeValue(forKey: token) else {
            self.world.violate("node \(self.node.id) answers request \(token) twice")
            return
        }
        waiting(answer)
    }

    // MARK: - Output

    /// Does what follows from an input to a core.
    private func finish(_ place: Int) {
        let group = self.slots[place].group
        while !self.hasFailed, let ready = self.slots[place].core.takeReady() {
            if let failure = ready.failure { return self.fail(failure) }
            if let change = ready.roleChange {
                self.world.note(.role, self.node.id, change.term.rawValue, "g\(group) \(change.role) t\(change.term) under \(change.leader.map { "\($0)" } ?? "-")")
            }
            self.handOut(ready, place: place)
            self.send(ready.sendNow, group: group)
            if !ready.committed.isEmpty { self.queueApply(ready, place: place) }
            for proposal in ready.committedProposals {
                self.answer(proposal.token, .committed(proposal.index, self.slots[place].core.term))
            }
            for dropped in ready.dropped {
                self.world.coverage[.proposalsDropped] += 1
                self.answer(dropped.token, .unknown)
            }
            for read in ready.reads { self.answer(read.token, .readable(read.index)) }
            for token in ready.droppedReads {
                self.world.coverage[.readsDropped] += 1
                self.answer(token, .notLeader(nil))
            }
            if let offer = ready.snapshotToInstall { self.fetch(from: offer.from, group: group) }
        }
        if self.hasFailed { return }
        self.world.invariants.observe(self.slots[place].core, group: group, tick: self.node.ticks)
    }

    private func handOut(_ ready: Ready, place: Int) {
        guard let ticket = ready.ticket else { return }
        var write: RaftLogStore.Write?
        if ready.mustPersist {
            let made = RaftLogStore.Write(
                group: self.slots[place].group,
                hardState: self.slots[place].core.hardState,
                commit: ready.commit,
                resetTo: ready.resetLog.map { LogMark(index: $0.index, term: $0.term) },
                truncateFrom: ready.truncateFrom,
                entries: ready.entries,
                last: ticket.index,
                lastTerm: ticket.term
            )
            self.world.invariants.handedOut(made, by: self.slots[place].core)
            write = made
        }
        let group = self.slots[place].group
        self.pending.append(Pending(group: group, ticket: ticket, write: write, messages: ready.sendWhenPersisted))
        self.beginWrite()
    }

    private func send(_ messages: [RaftMessage], group: GroupID) {
        for message in messages {
            self.world.invariants.sent(message, group: group, tick: self.node.ticks)
            let item = GroupMessage(group: group, message: message)
            self.world.note(.send, self.node.id, message.term.rawValue, message.to.rawValue, item.traceText)
            self.world.network.send([.raft(item)], from: self.node.id, to: message.to)
        }
    }

    // MARK: - Disk

    /// Everything that waits becomes durable together, as the log writer does it.
    private func beginWrite() {
        guard !self.isWriting, !self.pending.isEmpty, !self.hasFailed else { return }
        self.isWriting = true
        let taken = self.pending
        self.pending = []
        self.node.after(self.node.drawSyncTime()) { process in process.endWrite(taken) }
        self.inFlight = taken.compactMap(\.write)
    }

    private var inFlight: [RaftLogStore.Write] = []

    private func endWrite(_ taken: [Pending]) {
        guard !self.hasFailed else { return }
        self.isWriting = false
        let writes = taken.compactMap(\.write)
        self.inFlight = []
        if !writes.isEmpty {
            do { try self.logStore.write(writes) } catch { return self.fail(error) }
            self.world.note(.write, self.node.id, UInt64(writes.count), "\(writes.count) writes are durable")
        }
        for write in writes { self.world.invariants.persisted(write, by: self.node.id) }
        for item in taken {
            guard let ticket = item.ticket, let place = self.place(of: item.group) else { continue }
            self.send(item.messages, group: item.group)
            self.slots[place].core.persisted(ticket)
            self.finish(place)
        }
        self.beginWrite()
    }

    /// The process ends: what was being written may be on the disk, unsynced.
    func abandonWrites() {
        guard !self.inFlight.isEmpty, !self.hasFailed else { return }
        self.world.coverage[.crashesInWrite] += 1
        if self.node.dice.chance(50) {
            self.node.store.arm(StoreFault(.sync))
            _ = try? self.logStore.write(self.inFlight)
        }
    }

    // MARK: - Apply

    private func queueApply(_ ready: Ready, place: Int) {
        self.slots[place].toApply.append((ready.committed, ready.committedMemberships))
        self.beginApply(place)
    }

    private func beginApply(_ place: Int) {
        guard !self.slots[place].isApplying, !self.slots[place].toApply.isEmpty else { return }
        self.slots[place].isApplying = true
        let group = self.slots[place].group
        self.node.after(self.node.dice.draw(self.world.plan.applyTime)) { process in process.apply(group) }
    }

    private func apply(_ group: GroupID) {
        guard let place = self.place(of: group), !self.hasFailed else { return }
        self.slots[place].isApplying = false
        guard !self.slots[place].toApply.isEmpty else { return }
        let (entries, memberships) = self.slots[place].toApply.removeFirst()
        self.world.invariants.applies(entries, group: group, node: self.node.id)
        guard let last = entries.last, self.world.isSound else { return }
        do {
            try self.states.apply(entries, group: group, membership: memberships.last?.membership)
        } catch {
            return self.fail(error)
        }
        self.world.note(.apply, self.node.id, last.index.rawValue, "group \(group) up to \(last.index)")
        self.slots[place].core.applied(last.index)
        self.finish(place)
        self.beginApply(place)
    }

    // MARK: - Snapshots

    private func fetch(from leader: NodeID, group: GroupID) {
        guard let place = self.place(of: group), !self.slots[place].isInstalling else { return }
        self.slots[place].isInstalling = true
        let delay = self.world.network.drawLatency() * 4
        self.node.after(delay) { process in process.install(from: leader, group: group) }
    }

    private func install(from leader: NodeID, group: GroupID) {
        guard let place = self.place(of: group), !self.hasFailed else { return }
        self.slots[place].isInstalling = false
        let world = self.world
        let isCut = world.network.isCut(self.node.id, leader) || world.network.isCut(leader, self.node.id)
        guard let source = world.node(leader), source.isRunning, !isCut, let process = source.process,
            let mark = process.appliedMark(group), mark.index > self.slots[place].core.commit,
            let state = try? process.states.state(of: group)
        else {
            world.coverage[.snapshotsFailed] += 1
            self.slots[place].core.snapshotFailed()
            self.finish(place)
            return
        }
        do { try self.states.install(state, mark, group: group) } catch { return self.fail(error) }
        self.slots[place].toApply = []
        world.invariants.installs(mark, group: group, node: self.node.id)
        self.slots[place].core.snapshotInstalled(mark)
        self.finish(place)
    }

    private func appliedMark(_ group: GroupID) -> SnapshotMark? {
        guard let core = self.core(of: group), let term = core.term(at: core.appliedIndex), core.appliedIndex > .zero
        else { return nil }
        return SnapshotMark(index: core.appliedIndex, term: term, membership: core.membership)
    }

    // MARK: - Failure

    private func fail(_ error: any Error) {
        guard !self.hasFailed else { return }
        self.hasFailed = true
        let node = self.node
        let life = self.life
        node.world.after(0) { if node.life == life { node.failed(error) } }
    }
}
