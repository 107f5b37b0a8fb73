internal import Primitives
internal import Synchronization

// Commands, reads, membership changes and transfers: what callers wait for.
extension RaftLoop {
    // MARK: - Commands

    func take(_ proposal: Inbox.Proposal) {
        guard let slot = self.slotOf[proposal.group] else {
            proposal.waiter.fail(.groupNotHosted, "node \(self.node) has no replica of group \(proposal.group)")
            return
        }
        self.stir(slot)
        let bytes = slot.commandBytes + proposal.command.count
        if slot.commands.count >= self.configuration.inboxRequestsMax
            || (bytes > self.configuration.uncommittedBytesMax && !slot.commands.isEmpty)
        {
            proposal.waiter.fail(.overloaded, "too many proposals wait")
            return
        }
        slot.commands.append(proposal.command)
        slot.commandBytes = bytes
        slot.commandWaiters.append(proposal.waiter)
    }

    /// Proposes what waits, in as few entries as the limits allow.
    ///
    /// While a write of the group is under way new commands wait for its end: they would wait for the disk anyway, and
    /// so they share an entry, a write and a message. While leadership is being transferred they wait for the outcome.
    func proposeCommands(_ slot: GroupSlot) {
        if slot.commands.isEmpty { return }
        guard slot.core.role == .leader else {
            // After a transfer they wait to learn who leads.
            if slot.core.leader == nil, slot.isTransferring || slot.handOverDeadline != nil { return }
            self.refuseCommands(slot)
            return
        }
        if slot.core.transferee != nil { return }
        let isFull = slot.commandBytes >= self.configuration.entryBatchBytesMax
        if slot.core.isWriting, !isFull { return }
        let commands = slot.commands
        let waiters = slot.commandWaiters
        self.clearCommands(slot)
        var start = 0
        while start < commands.count {
            var end = start
            var bytes = 0
            repeat {
                bytes += commands[end].count + CommandBatch.overheadBytes
                end += 1
            } while end < commands.count && bytes + commands[end].count <= self.configuration.entryBatchBytesMax
            self.propose(commands[start..<end], Array(waiters[start..<end]), slot)
            start = end
        }
    }

    private func propose(_ commands: ArraySlice<[UInt8]>, _ waiters: [Waiter<[UInt8]>], _ slot: GroupSlot) {
        let payload = CommandBatch.encode(Array(commands))
        switch slot.core.propose(kind: .commands, payload: payload, token: self.makeToken()) {
        case .accepted(let index, let term):
            let waiting = LaneQueue.EntryWaiters(index: index, kind: .commands(waiters))
            slot.addPending(GroupSlot.Pending(index: index, term: term, waiters: waiting, deadline: nil))
        case .notLeader(let leader):
            for waiter in waiters { waiter.fail(.notLeader(leader: leader), "this node does not lead the group") }
        case .overloaded:
            for waiter in waiters { waiter.fail(.overloaded, "too many bytes wait to be committed and applied") }
        case .transferring:
            for waiter in waiters { waiter.fail(.overloaded, "leadership is being transferred") }
        }
    }

    func refuseCommands(_ slot: GroupSlot) {
        if slot.commands.isEmpty { return }
        let waiters = slot.commandWaiters
        let leader = slot.core.leader
        self.clearCommands(slot)
        for waiter in waiters { waiter.fail(.notLeader(leader: leader), "this node does not lead the group") }
    }

    func clearCommands(_ slot: GroupSlot) {
        slot.commands.removeAll(keepingCapacity: slot.commands.count < Self.keptMax)
        slot.commandWaiters.removeAll(keepingCapacity: slot.commandWaiters.count < Self.keptMax)
        slot.commandBytes = 0
    }

    /// Places of an empty queue whose memory is kept for the next turn.
    private static let keptMax = 1024

    /// Hands committed entries to the lane, each with who waits for it.
    ///
    /// An entry of ours is done when the entry at its index has its term, whoever leads now (Raft section 5.3, log
    /// matching); when another entry was committed there it surely never takes effect.
    func commit(_ ready: Ready, _ slot: GroupSlot) {
        let entries = ready.committed
        var waiters: [LaneQueue.EntryWaiters] = []
        if let first = entries.first, let last = entries.last, !slot.pending.isEmpty {
            var done = 0
            for pending in slot.pending {
                if pending.index > last.index { break }
                done += 1
                let offset = pending.index.rawValue.subtractingReportingOverflow(first.index.rawValue)
                if offset.overflow {
                    pending.waiters.fail(.outcomeUnknown, "leadership was lost before the command was committed")
                } else if entries[Int(offset.partialValue)].term == pending.term {
                    waiters.append(pending.waiters)
                } else {
                    let leader = slot.core.leader
                    pending.waiters.fail(.notLeader(leader: leader), "another leader's entry took the place")
                }
            }
            slot.pending.removeFirst(done)
        }
        let work = LaneQueue.Work(
            replica: slot.replica,
            entries: entries,
            memberships: ready.committedMemberships,
            waiters: waiters
        )
        if slot.replica.lane.add(work) { self.output.lanes.append(slot.replica.lane) }
        if slot.core.role == .leader { slot.quietTicks = 0 }
    }

    /// Leadership was lost: entries that are not committed may still be, under the next leader.
    ///
    /// They are answered when that shows; after an election timeout their outcome is unknown.
    func orphan(_ slot: GroupSlot) {
        let deadline = self.now + UInt64(self.configuration.electionTicks)
        for place in slot.pending.indices where slot.pending[place].deadline == nil {
            slot.pending[place].deadline = deadline
        }
        slot.hasOrphans = !slot.pending.isEmpty
    }

    /// Answers those who have waited long enough.
    func expireOrphans(_ slot: GroupSlot) {
        guard slot.hasOrphans else { return }
        var isLeft = false
        slot.pending.removeAll { pending in
            guard let deadline = pending.deadline else { return false }
            if deadline > self.now {
                isLeft = true
                return false
            }
            pending.waiters.fail(.outcomeUnknown, "leadership was lost before the command was committed")
            return true
        }
        slot.hasOrphans = isLeft
    }

    // MARK: - Reads

    func take(_ read: Inbox.Read) {
        guard let slot = self.slotOf[read.group] else {
            read.waiter.fail(.groupNotHosted, "node \(self.node) has no replica of group \(read.group)")
            return
        }
        self.stir(slot)
        if slot.reads.count >= self.configuration.inboxRequestsMax {
            read.waiter.fail(.overloaded, "too many reads wait")
            return
        }
        slot.reads.append(read)
    }

    /// One question for all reads that wait.
    func askReads(_ slot: GroupSlot) {
        if slot.reads.isEmpty { return }
        let token = self.makeToken()
        slot.readBatches.append(GroupSlot.ReadBatch(token: token, reads: slot.reads))
        slot.reads.removeAll(keepingCapacity: slot.reads.count < Self.keptMax)
        slot.core.readIndex(token: token)
    }

    func answerRead(_ token: UInt64, index: LogIndex, _ slot: GroupSlot) {
        guard let place = slot.readBatches.firstIndex(where: { $0.token == token }) else {
            preconditionFailure("every read is answered once")
        }
        for read in slot.readBatches.remove(at: place).reads {
            if read.waitsUntilApplied {
                slot.replica.wait(for: index, read.waiter)
            } else {
                read.waiter.answer(.success(index))
            }
        }
    }

    func failRead(_ token: UInt64, _ slot: GroupSlot) {
        guard let place = slot.readBatches.firstIndex(where: { $0.token == token }) else {
            preconditionFailure("every read is answered once")
        }
        let leader = slot.core.leader
        for read in slot.readBatches.remove(at: place).reads {
            read.waiter.fail(.notLeader(leader: leader), "no leader confirmed the read")
        }
    }

    // MARK: - Membership

    func changeMembership(_ group: GroupID, _ change: MembershipChange, _ waiter: Waiter<Membership>) {
        guard let slot = self.slotOf[group] else {
            waiter.fail(.groupNotHosted, "node \(self.node) has no replica of group \(group)")
            return
        }
        self.stir(slot)
        switch slot.core.proposeMembership(change, token: self.makeToken()) {
        case .accepted(let index, let term):
            let waiting = LaneQueue.EntryWaiters(index: index, kind: .membership(waiter))
            slot.addPending(GroupSlot.Pending(index: index, term: term, waiters: waiting, deadline: nil))
        case .notLeader(let leader):
            waiter.fail(.notLeader(leader: leader), "this node does not lead the group")
        case .pending:
            waiter.fail(.changePending, "another membership change is under way")
        case .invalid(let error):
            waiter.fail(.refusedChange, "the change does not fit the membership", cause: error)
        case .overloaded:
            waiter.fail(.overloaded, "too many bytes wait to be committed and applied")
        case .transferring:
            waiter.fail(.changePending, "leadership is being transferred")
        }
    }

    /// A membership has taken effect.
    func changeMembership(_ membership: Membership, _ slot: GroupSlot) {
        let before = slot.replica.published.withLock { status in
            defer { status.membership = membership }
            return status.membership
        }
        self.countPeers(before.replicas, by: -1)
        self.countPeers(membership.replicas, by: 1)
        self.publishReplicas(slot)
        self.output.membershipChanges.append((slot.group, membership))
        let isGone = !membership.isJoint && !membership.replicas.isEmpty && !membership.replicas.contains(self.node)
        slot.goneAt = isGone ? slot.core.appliedIndex : nil
    }

    // MARK: - Transfers of leadership

    func transfer(_ group: GroupID, to target: NodeID, _ waiter: Waiter<Void>) {
        guard let slot = self.slotOf[group] else {
            waiter.fail(.groupNotHosted, "node \(self.node) has no replica of group \(group)")
            return
        }
        self.stir(slot)
        guard slot.core.role == .leader else {
            waiter.fail(.notLeader(leader: slot.core.leader), "this node does not lead the group")
            return
        }
        if target == self.node {
            waiter.answer(.success(()))
            return
        }
        guard self.startTransfer(slot, to: target) else {
            waiter.fail(.notTransferred, "node \(target) cannot lead group \(group) now")
            return
        }
        slot.transfers.append((target, waiter))
    }

    private func startTransfer(_ slot: GroupSlot, to target: NodeID) -> Bool {
        guard slot.core.transferLeadership(to: target) else { return false }
        slot.isTransferring = true
        self.touch(slot)
        return true
    }

    /// Answers who waits for a transfer that has ended, and lets commands go on.
    func endTransfers(_ slot: GroupSlot) {
        guard slot.isTransferring || slot.handOverDeadline != nil else { return }
        if slot.core.role == .leader {
            if slot.core.transferee != nil { return }
            slot.isTransferring = false
            slot.handOverDeadline = nil
            for item in slot.transfers {
                item.waiter.fail(.notTransferred, "node \(item.to) did not take over in time")
            }
            slot.transfers = []
            self.proposeCommands(slot)
            self.drain(slot)
            return
        }
        if slot.isTransferring {
            slot.isTransferring = false
            slot.handOverDeadline = self.now + UInt64(self.configuration.electionTicks)
        }
        guard let deadline = slot.handOverDeadline, slot.core.leader != nil || self.now >= deadline else { return }
        slot.handOverDeadline = nil
        for item in slot.transfers {
            if slot.core.leader == item.to {
                item.waiter.answer(.success(()))
            } else {
                item.waiter.fail(.notTransferred, "leadership was lost, but not to node \(item.to)")
            }
        }
        slot.transfers = []
        self.refuseCommands(slot)
    }

    /// Begins to hand all groups to other nodes.
    func startTransferAll(_ waiter: Waiter<Int>) {
        let deadline = self.now + UInt64(Self.transferAllTimeouts * self.configuration.electionTicks)
        self.transferAll?.waiter.answer(.success(self.slots.count { $0.core.role == .leader }))
        self.transferAll = TransferAll(waiter: waiter, deadline: deadline)
        self.continueTransferAll()
    }

    /// Election timeouts for which transfers are tried before this node gives up.
    private static let transferAllTimeouts = 3

    /// Hands on every group that is still led here, each once.
    ///
    /// A group that comes back stays: whoever had it stops too, and would else be given it again and again.
    func continueTransferAll() {
        guard var all = self.transferAll else { return }
        var left = 0
        for slot in self.slots {
            let isWaiting = slot.isTransferring || slot.handOverDeadline != nil
            if slot.core.role == .leader {
                if let term = all.handedOn[slot.group], term < slot.core.term { continue }
                guard slot.isTransferring || self.transferAway(slot) else { continue }
                all.handedOn[slot.group] = slot.core.term
                left += 1
            } else if isWaiting {
                left += 1
            }
        }
        guard left == 0 || self.now >= all.deadline else {
            self.transferAll = all
            return
        }
        self.transferAll = nil
        all.waiter.answer(.success(self.slots.count { $0.core.role == .leader }))
    }

    /// Picks who is nearest to the end of the log among those that live; equals share the groups.
    private func transferAway(_ slot: GroupSlot) -> Bool {
        let candidates = slot.core.replicas.filter { replica in
            replica.node != self.node && slot.core.membership.voters.contains(replica.node)
                && self.liveness.isAlive(replica.node)
        }
        guard let best = candidates.map(\.match).max() else { return false }
        let equals = candidates.filter { $0.match == best }
        return self.startTransfer(slot, to: equals[Int(slot.group.rawValue) % equals.count].node)
    }
}

/// All groups of a node are being handed to others, as before a planned stop.
struct TransferAll {
    let waiter: Waiter<Int>
    /// The tick at which the node gives up.
    let deadline: UInt64
    /// The term in which the node led each group when it began to hand it on; at most one a group.
    var handedOn: [GroupID: Term] = [:]
}
