internal import Primitives
internal import Synchronization

// Time, signs of life, sleep, and the messages of peers.
extension RaftLoop {
    /// Lets one tick pass for the groups that are awake; those that sleep cost nothing.
    func tick(elapsed: Int) {
        self.now += 1
        for peer in self.liveness.tick(silentTicksMax: self.configuration.electionTicks) { self.didLose(peer) }
        if self.parts.number == 0, self.now % UInt64(self.configuration.heartbeatTicks) == 0 {
            let beat = HostMessage.beat(NodeBeat(epoch: self.parts.epoch))
            for peer in self.parts.peers.all { self.output.outbox.add(beat, to: peer) }
        }
        self.wakeSome()
        var alive: [NodeID]?
        for slot in self.awake {
            slot.core.tick(elapsed: elapsed)
            if slot.core.hasReady() { self.touch(slot) }
            self.tickRequests(slot)
            let number = self.now + UInt64(slot.group.rawValue)
            if number % Self.compactionTicks == 0 { self.compact(slot) }
            guard slot.core.role == .leader else { continue }
            if number % Self.statusTicks == 0 { self.publishReplicas(slot) }
            slot.quietTicks += 1
            guard self.configuration.hibernateTicks > 0, slot.quietTicks >= self.configuration.hibernateTicks,
                slot.quietTicks % self.configuration.heartbeatTicks == 0
            else { continue }
            if alive == nil { alive = ([self.node] + self.liveness.alive).sorted() }
            if slot.core.trySleep(live: alive ?? []) {
                self.touch(slot)
                // Nobody says anything new until the group wakes.
                self.publishReplicas(slot)
            }
        }
    }

    /// Ticks between two looks at whether a group's log is to be cut.
    private static let compactionTicks: UInt64 = 16
    /// Ticks between two reports of what a leader knows of its replicas.
    private static let statusTicks: UInt64 = 8

    private func tickRequests(_ slot: GroupSlot) {
        if slot.hasOrphans { self.expireOrphans(slot) }
        if slot.isTransferring || slot.handOverDeadline != nil { self.touch(slot) }
    }

    // MARK: - Sleep

    /// Keeps the list of groups that are ticked.
    func keepAwakeList(_ slot: GroupSlot) {
        // A group in which somebody waits is looked at, whatever its core says.
        let mustTick =
            !slot.core.isAsleep || slot.hasOrphans || slot.isTransferring || slot.handOverDeadline != nil
        if mustTick, slot.awakePlace == nil {
            slot.awakePlace = self.awake.count
            self.awake.append(slot)
        } else if !mustTick {
            self.leaveAwakeList(slot)
        }
    }

    func leaveAwakeList(_ slot: GroupSlot) {
        guard let place = slot.awakePlace else { return }
        slot.awakePlace = nil
        let last = self.awake.removeLast()
        if last !== slot {
            self.awake[place] = last
            last.awakePlace = place
        }
    }

    /// A peer was silent for an election timeout: groups that sleep in its care must find another leader.
    private func didLose(_ peer: NodeID) {
        for slot in self.slots where slot.core.isAsleep && slot.core.leader == peer {
            self.wakeQueue.append(slot.group)
        }
    }

    /// A peer is back, perhaps in another life: what it led has no leader, and what it follows may lag behind.
    private func didReturn(_ peer: NodeID) {
        for slot in self.slots where slot.core.isAsleep {
            let isConcerned =
                slot.core.leader == peer
                || (slot.core.role == .leader && slot.core.membership.replicas.contains(peer))
            if isConcerned { self.wakeQueue.append(slot.group) }
        }
    }

    /// Wakes a bounded number of groups a tick, so that many elections do not come at once.
    private func wakeSome() {
        var count = 0
        while count < self.configuration.wakesPerTickMax, let group = self.wakeQueue.first {
            self.wakeQueue.removeFirst()
            guard let slot = self.slotOf[group], slot.core.isAsleep else { continue }
            self.wake(slot)
            count += 1
        }
    }

    func wake(_ slot: GroupSlot) {
        slot.core.wake()
        self.stir(slot)
    }

    // MARK: - Peers

    /// Messages that name another sender than the peer are ignored.
    func receive(_ messages: [HostMessage], from peer: NodeID) {
        var isBack = self.liveness.heard(peer)
        for message in messages {
            switch message {
            case .beat(let beat):
                if self.liveness.heard(peer, epoch: beat.epoch) { isBack = true }
            case .removed(let notice): self.take(notice)
            case .raft(let item):
                guard item.message.from == peer else { continue }
                if let slot = self.slotOf[item.group] {
                    self.step(item.message, slot)
                } else {
                    self.meet(item, from: peer)
                }
            }
        }
        if isBack { self.didReturn(peer) }
    }

    private func step(_ message: RaftMessage, _ slot: GroupSlot) {
        self.touch(slot)
        switch message.body {
        case .heartbeat, .heartbeatResponse: break
        case .preVoteRequest, .voteRequest:
            slot.quietTicks = 0
            self.noticeRemoved(message.from, slot)
        default: slot.quietTicks = 0
        }
        slot.core.step(message)
    }

    /// Tells a candidate that is no replica any more.
    private func noticeRemoved(_ peer: NodeID, _ slot: GroupSlot) {
        let membership = slot.core.membership
        guard !membership.isJoint, !membership.replicas.isEmpty, !membership.replicas.contains(peer) else { return }
        let notice = RemovalNotice(group: slot.group, index: slot.core.appliedIndex)
        self.output.outbox.add(.removed(notice), to: peer)
    }

    /// A replica has seen a membership without this node, and later than the one that brought it in.
    private func take(_ notice: RemovalNotice) {
        guard let slot = self.slotOf[notice.group], slot.core.role != .leader,
            !slot.core.membership.replicas.isEmpty, slot.core.appliedIndex < notice.index,
            (slot.core.membership.session(of: self.node) ?? .zero) <= notice.index
        else { return }
        if slot.removedAt == nil { slot.removedAt = notice.index }
        self.touch(slot)
    }

    /// Counts replicas on peers, so that beats go to those who have some.
    func countPeers(_ nodes: [NodeID], by change: Int) {
        var hasChanged = false
        for node in nodes where node != self.node {
            if let place = self.peers.firstIndex(where: { $0.node == node }) {
                self.peers[place].groups += change
            } else {
                self.peers.append((node, change))
                hasChanged = true
            }
        }
        if self.peers.contains(where: { $0.groups == 0 }) {
            self.peers.removeAll { $0.groups == 0 }
            hasChanged = true
        }
        guard hasChanged else { return }
        self.peers.sort { $0.node < $1.node }
        let nodes = self.peers.map(\.node)
        self.liveness.setPeers(nodes)
        self.parts.peers.set(nodes, of: self.parts.number)
    }
}

/// The peers of all loops of a host.
package final class PeerCounts: Sendable {
    private struct State: Sendable {
        var byLoop: [Int: [NodeID]] = [:]
        var all: [NodeID] = []
    }

    private let state = Mutex(State())

    package init() {}

    /// Ascending.
    var all: [NodeID] { self.state.withLock { $0.all } }

    func set(_ nodes: [NodeID], of loop: Int) {
        self.state.withLock { state in
            state.byLoop[loop] = nodes
            state.all = Set(state.byLoop.values.joined()).sorted()
        }
    }
}
