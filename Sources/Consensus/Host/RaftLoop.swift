internal import Primitives
internal import Synchronization

/// The serial owner of all cores of a node: turns inputs into writes, messages and work for the appliers.
///
/// Everything here runs on the raft thread, once a turn for all inputs that wait. Owned by ``RaftHost``.
final class RaftLoop: @unchecked Sendable {  // sendable-ok: touched only on the raft thread once it has started
    /// Who waits for an entry of this leader.
    private enum Waiting {
        case commands([Waiter<[UInt8]>])
        case barriers([Waiter<LogIndex>])
    }

    /// What only the raft thread knows of a group.
    private struct Slot {
        var core: RaftCore
        let replica: GroupReplica
        var isTouched = false
        /// Proposals that wait for the running write, so that they share an entry.
        var commands: [[UInt8]] = []
        var commandBytes = 0
        var commandWaiters: [Waiter<[UInt8]>] = []
        /// Barriers that wait for the running one, so that they share the next.
        var barriers: [Waiter<LogIndex>] = []
        var isBarrierRunning = false
        var waiting: [UInt64: Waiting] = [:]
    }

    /// What the turn hands to the rest of the host.
    struct Output {
        var messages: [[GroupMessage]]
        var writes: [PendingWrite] = []
        var scheduled: [GroupReplica] = []
        var changes: [LeadershipChange] = []
        var failure: ConsensusError?
    }

    private let configuration: RaftConfiguration
    /// Peers of all groups, ascending.
    let peers: [NodeID]
    private let places: [GroupID: Int]
    private var slots: [Slot]
    private var touched: [Int] = []
    private var nextToken: UInt64 = 1
    private(set) var output: Output

    init(configuration: RaftConfiguration, cores: [(core: RaftCore, replica: GroupReplica)]) {
        self.configuration = configuration
        self.slots = cores.map { Slot(core: $0.core, replica: $0.replica) }
        var places: [GroupID: Int] = [:]
        var peers: Set<NodeID> = []
        for (place, part) in cores.enumerated() {
            places[part.replica.group] = place
            peers.formUnion(part.core.voters)
        }
        if let own = cores.first?.core.id { peers.remove(own) }
        self.places = places
        self.peers = peers.sorted()
        self.output = Output(messages: Array(repeating: [], count: peers.count))
    }

    // MARK: - One turn

    /// Takes everything in `inbox`, then `ticks` ticks, and leaves what follows from it in ``output``.
    func turn(_ inbox: inout Inbox, ticks: Int) {
        for item in inbox.persisted {
            self.touch(item.place)
            self.slots[item.place].core.persisted(item.ticket)
        }
        for item in inbox.applied {
            self.touch(item.place)
            self.slots[item.place].core.applied(item.index)
        }
        for item in inbox.messages { self.step(item.messages, from: item.from) }
        for peer in inbox.unreachable {
            for place in self.slots.indices { self.slots[place].core.unreachable(peer) }
        }
        for place in inbox.campaigns {
            self.touch(place)
            self.slots[place].core.campaign()
        }
        for _ in 0..<ticks {
            for place in self.slots.indices {
                self.touch(place)
                self.slots[place].core.tick()
            }
        }
        for item in inbox.proposals { self.take(item) }
        for item in inbox.barriers {
            self.touch(item.place)
            self.slots[item.place].barriers.append(item.waiter)
        }
        for place in self.touched {
            self.proposeCommands(place)
            self.proposeBarrier(place)
            while let ready = self.slots[place].core.takeReady() { self.handle(ready, place: place) }
            self.publish(place)
            self.slots[place].isTouched = false
        }
        self.touched.removeAll(keepingCapacity: true)
        inbox.clear()
    }

    /// The places of the groups that have no other replica, so that nobody has to be waited for.
    var lonePlaces: [Int] { self.slots.indices.filter { self.slots[$0].core.voters.count == 1 } }

    /// Forgets what was handed on.
    func clearOutput() {
        for peer in self.output.messages.indices { self.output.messages[peer].removeAll(keepingCapacity: true) }
        self.output.writes.removeAll(keepingCapacity: true)
        self.output.scheduled.removeAll(keepingCapacity: true)
        self.output.changes.removeAll(keepingCapacity: true)
    }

    private func touch(_ place: Int) {
        if self.slots[place].isTouched { return }
        self.slots[place].isTouched = true
        self.touched.append(place)
    }

    /// Messages of groups that are not here, or that name another sender than the peer, are ignored.
    private func step(_ messages: [GroupMessage], from peer: NodeID) {
        for item in messages where item.message.from == peer {
            guard let place = self.places[item.group] else { continue }
            self.touch(place)
            self.slots[place].core.step(item.message)
        }
    }

    // MARK: - Requests

    private func take(_ proposal: Inbox.Proposal) {
        let place = proposal.place
        self.touch(place)
        let bytes = self.slots[place].commandBytes + proposal.command.count
        if self.slots[place].commandWaiters.count >= self.configuration.inboxRequestsMax
            || (bytes > self.configuration.uncommittedBytesMax && !self.slots[place].commands.isEmpty)
        {
            proposal.waiter.fail(.overloaded, "too many proposals wait")
            return
        }
        self.slots[place].commands.append(proposal.command)
        self.slots[place].commandBytes = bytes
        self.slots[place].commandWaiters.append(proposal.waiter)
    }

    /// Proposes what waits, in as few entries as the limits allow.
    ///
    /// While a write of the group is under way new commands wait for its end: they would wait for the disk anyway, and
    /// so they share an entry, a write and a message.
    private func proposeCommands(_ place: Int) {
        if self.slots[place].commands.isEmpty { return }
        guard self.slots[place].core.role == .leader else {
            let leader = self.slots[place].core.leader
            for waiter in self.slots[place].commandWaiters {
                waiter.fail(.notLeader(leader: leader), "this node does not lead the group")
            }
            self.clearCommands(place)
            return
        }
        let isFull = self.slots[place].commandBytes >= self.configuration.entryBatchBytesMax
        if self.slots[place].core.isWriting, !isFull { return }
        let commands = self.slots[place].commands
        let waiters = self.slots[place].commandWaiters
        self.clearCommands(place)
        var start = 0
        while start < commands.count {
            var end = start
            var bytes = 0
            repeat {
                bytes += commands[end].count + CommandBatch.overheadBytes
                end += 1
            } while end < commands.count && bytes + commands[end].count <= self.configuration.entryBatchBytesMax
            self.propose(Array(commands[start..<end]), Array(waiters[start..<end]), place: place)
            start = end
        }
    }

    private func clearCommands(_ place: Int) {
        self.slots[place].commands.removeAll(keepingCapacity: true)
        self.slots[place].commandWaiters.removeAll(keepingCapacity: true)
        self.slots[place].commandBytes = 0
    }

    private func propose(_ commands: [[UInt8]], _ waiters: [Waiter<[UInt8]>], place: Int) {
        let token = self.makeToken()
        let payload = CommandBatch.encode(commands)
        switch self.slots[place].core.propose(kind: .commands, payload: payload, token: token) {
        case .accepted:
            self.slots[place].waiting[token] = .commands(waiters)
        case .notLeader(let leader):
            for waiter in waiters { waiter.fail(.notLeader(leader: leader), "this node does not lead the group") }
        case .overloaded:
            for waiter in waiters { waiter.fail(.overloaded, "too many bytes wait to be committed and applied") }
        }
    }

    /// Proposes one empty entry for all barriers that wait, one entry at a time.
    private func proposeBarrier(_ place: Int) {
        if self.slots[place].barriers.isEmpty { return }
        if self.slots[place].isBarrierRunning, self.slots[place].core.role == .leader { return }
        let waiters = self.slots[place].barriers
        self.slots[place].barriers.removeAll(keepingCapacity: true)
        let token = self.makeToken()
        switch self.slots[place].core.propose(kind: .empty, payload: [], token: token) {
        case .accepted:
            self.slots[place].isBarrierRunning = true
            self.slots[place].waiting[token] = .barriers(waiters)
        case .notLeader(let leader):
            for waiter in waiters { waiter.fail(.notLeader(leader: leader), "this node does not lead the group") }
        case .overloaded:
            for waiter in waiters { waiter.fail(.overloaded, "too many bytes wait to be committed and applied") }
        }
    }

    private func makeToken() -> UInt64 {
        defer { self.nextToken += 1 }
        return self.nextToken
    }

    // MARK: - Output

    private func handle(_ ready: Ready, place: Int) {
        let replica = self.slots[place].replica
        if let failure = ready.failure, self.output.failure == nil {
            self.output.failure = ConsensusError(
                code: failure.code,
                message: failure.message,
                group: replica.group,
                index: failure.index,
                cause: failure.cause
            )
        }
        for message in ready.sendNow { self.queue(message, group: replica.group) }
        if let ticket = ready.ticket { self.queueWrite(ready, ticket: ticket, place: place) }
        for dropped in ready.dropped { self.drop(dropped, place: place) }
        if !ready.committed.isEmpty { self.commit(ready, place: place) }
        if let change = ready.roleChange {
            if change.role != .leader { self.refuseWaiting(place) }
            self.output.changes.append(
                LeadershipChange(group: replica.group, role: change.role, leader: change.leader, term: change.term)
            )
        }
    }

    private func queue(_ message: RaftMessage, group: GroupID) {
        guard let peer = self.peers.firstIndex(of: message.to) else { return }
        self.output.messages[peer].append(GroupMessage(group: group, message: message))
    }

    private func queueWrite(_ ready: Ready, ticket: PersistTicket, place: Int) {
        var write: RaftLogStore.Write?
        if ready.mustPersist {
            write = RaftLogStore.Write(
                group: self.slots[place].replica.group,
                hardState: self.slots[place].core.hardState,
                commit: ready.commit,
                truncateFrom: ready.truncateFrom,
                entries: ready.entries,
                last: ticket.index,
                lastTerm: ticket.term
            )
        }
        self.output.writes.append(
            PendingWrite(place: place, ticket: ticket, write: write, messages: ready.sendWhenPersisted)
        )
    }

    private func drop(_ dropped: DroppedProposal, place: Int) {
        switch self.slots[place].waiting.removeValue(forKey: dropped.token) {
        case .commands(let waiters):
            for waiter in waiters {
                waiter.fail(.outcomeUnknown, "leadership was lost before the command was committed")
            }
        case .barriers(let waiters):
            self.slots[place].isBarrierRunning = false
            let leader = self.slots[place].core.leader
            for waiter in waiters { waiter.fail(.notLeader(leader: leader), "leadership was lost") }
        case nil:
            preconditionFailure("every proposal is answered once")
        }
    }

    private func commit(_ ready: Ready, place: Int) {
        var waiters: [(index: LogIndex, waiters: [Waiter<[UInt8]>])] = []
        for proposal in ready.committedProposals {
            switch self.slots[place].waiting.removeValue(forKey: proposal.token) {
            case .commands(let found): waiters.append((proposal.index, found))
            case .barriers(let found):
                self.slots[place].isBarrierRunning = false
                for waiter in found { waiter.answer(.success(proposal.index)) }
                self.proposeBarrier(place)
            case nil: preconditionFailure("every proposal is answered once")
            }
        }
        let replica = self.slots[place].replica
        if replica.add(GroupReplica.Work(entries: ready.committed, waiters: waiters)) {
            self.output.scheduled.append(replica)
        }
    }

    /// Requests that were never appended are refused when leadership is lost.
    private func refuseWaiting(_ place: Int) {
        self.proposeCommands(place)
        self.proposeBarrier(place)
    }

    private func publish(_ place: Int) {
        let status = self.slots[place].core.status(of: self.slots[place].replica.group)
        self.slots[place].replica.published.withLock { $0 = status }
    }

    // MARK: - End

    /// Answers everybody who waits, as no turn will follow.
    func failWaiting(_ inbox: inout Inbox, cause: ConsensusError?) {
        let appended: ProposalError.Code = cause == nil ? .outcomeUnknown : .failed
        for proposal in inbox.proposals { proposal.waiter.fail(.stopped, "the host has stopped", cause: cause) }
        for barrier in inbox.barriers { barrier.waiter.fail(.stopped, "the host has stopped", cause: cause) }
        inbox.clear()
        for place in self.slots.indices {
            for waiter in self.slots[place].commandWaiters {
                waiter.fail(.stopped, "the host has stopped", cause: cause)
            }
            for waiter in self.slots[place].barriers { waiter.fail(.stopped, "the host has stopped", cause: cause) }
            self.clearCommands(place)
            self.slots[place].barriers = []
            for waiting in self.slots[place].waiting.values {
                switch waiting {
                case .commands(let waiters):
                    for waiter in waiters { waiter.fail(appended, "the host has stopped", cause: cause) }
                case .barriers(let waiters):
                    for waiter in waiters { waiter.fail(.stopped, "the host has stopped", cause: cause) }
                }
            }
            self.slots[place].waiting = [:]
        }
    }
}
