package import Primitives
internal import Synchronization

// The life of replicas: restored, made, brought by a snapshot, cut, removed.
extension RaftLoop {
    // MARK: - Start

    func restoreAll(_ groups: [GroupID: Membership]) throws(ConsensusError) {
        var isOurs: Set<GroupID> = []
        for group in try self.parts.store.groups() where self.isOurs(group) { isOurs.insert(group) }
        for tombstone in try self.parts.store.tombstones() where self.isOurs(tombstone.group) {
            self.tombstones[tombstone.group] = tombstone
        }
        for (group, membership) in groups where self.isOurs(group) && self.tombstones[group] == nil {
            if membership.replicas.contains(self.node) { isOurs.insert(group) }
        }
        for group in isOurs.sorted() { try self.restore(group, first: groups[group]) }
        // A removal may have been cut short before the state was discarded.
        for group in self.tombstones.keys.sorted() { self.discard(group) }
    }

    private func isOurs(_ group: GroupID) -> Bool {
        Int(group.rawValue) % self.parts.loopCount == self.parts.number
    }

    private func restore(_ group: GroupID, first: Membership?) throws(ConsensusError) {
        let stored = try self.parts.store.load(group)
        let applied = try self.appliedState(of: group)
        if stored.terms.term(at: applied.index) != applied.term {
            // A restart between the switch to a snapshot and the reset of the log; the core does the rest.
            guard applied.isInstalled, applied.index > stored.commit else {
                let message = "the state is at another place than the log, which ends at \(stored.terms.last)"
                throw ConsensusError(code: .logLost, message: message, group: group, index: applied.index)
            }
        }
        // A replica that was removed and came back empty is no founder any more: it waits for a snapshot.
        let isFounder = stored.removedAt == .zero
        let membership = applied.membership ?? (isFounder ? first : nil) ?? Membership(voters: [])
        let restored = RestoredReplica(
            hardState: stored.hardState,
            terms: stored.terms,
            commit: stored.commit,
            applied: applied.index,
            appliedTerm: applied.term,
            membership: membership,
            // What the former life knew is told as long as its tombstone lies there; that it ended, for ever.
            formerLife: isFounder
                ? nil : FormerLife(removedAt: stored.removedAt, committed: .zero, committedTerm: .zero)
        )
        self.touch(self.add(group, restored))
    }

    private func appliedState(of group: GroupID) throws(ConsensusError) -> AppliedState {
        do {
            return try self.parts.applier.appliedState(of: group)
        } catch {
            let message = "the applied state could not be read"
            throw ConsensusError(code: .applier, message: message, group: group, cause: error)
        }
    }

    private func add(_ group: GroupID, _ restored: RestoredReplica) -> GroupSlot {
        var mixer = SeededGenerator(seed: self.parts.seed ^ self.node.rawValue << 32 ^ UInt64(group.rawValue))
        let core = RaftCore(
            id: self.node,
            configuration: self.configuration,
            restored: restored,
            reader: self.parts.store.reader(of: group),
            generator: SeededGenerator(seed: mixer.next()),
            faults: self.parts.faults
        )
        let status = GroupStatus(
            group: group,
            role: .follower,
            leader: nil,
            term: core.term,
            commit: core.commit,
            applied: core.appliedIndex,
            first: core.firstIndex,
            last: core.lastIndex,
            membership: restored.membership
        )
        let mark = SnapshotMark(index: restored.applied, term: restored.appliedTerm, membership: restored.membership)
        let replica = GroupReplica(
            status: status,
            mark: mark,
            lane: self.parts.lane(of: group),
            waitsMax: self.configuration.applyWaitersMax
        )
        let slot = GroupSlot(core: core, replica: replica)
        if let last = self.slots.last, last.group > group {
            self.slots.insert(slot, at: self.slots.firstIndex { $0.group > group } ?? self.slots.count)
        } else {
            self.slots.append(slot)
        }
        self.slotOf[group] = slot
        self.countPeers(restored.membership.replicas, by: 1)
        self.keepAwakeList(slot)
        return slot
    }

    /// The groups that have no other replica, so that nobody has to be waited for.
    package var loneGroups: [GroupID] {
        self.slots.filter { $0.core.membership.voters == [self.node] && !$0.core.membership.isJoint }.map(\.group)
    }

    // MARK: - Made at run time

    /// A message of a group that is not here: its leader may have added a replica on this node.
    func meet(_ item: GroupMessage, from peer: NodeID) {
        guard self.isOurs(item.group) else { return }
        let tombstone = self.tombstones[item.group]
        switch item.message.body {
        case .append(let append):
            if let tombstone, append.session <= tombstone.removedAt { return }
        case .heartbeat(let heartbeat):
            if let tombstone, heartbeat.session <= tombstone.removedAt { return }
        case .snapshot(let offer):
            if let tombstone, offer.session <= tombstone.removedAt { return }
        case .preVoteRequest(let request), .voteRequest(let request):
            // Its later life may vote, which the candidate can need before it can lead.
            if let tombstone, request.session <= tombstone.removedAt {
                self.answer(item, for: tombstone)
                return
            }
        default: return
        }
        guard !self.discarding.contains(item.group), self.parts.events.mayHost(item.group, peer) else { return }
        do throws(ConsensusError) {
            guard try self.appliedState(of: item.group).index == .zero else {
                self.discard(item.group)
                return
            }
        } catch {
            if self.output.failure == nil { self.output.failure = error }
            return
        }
        self.tombstones[item.group] = nil
        let restored = RestoredReplica(
            hardState: tombstone?.hardState ?? HardState(),
            membership: Membership(voters: []),
            formerLife: tombstone.map { tombstone in
                FormerLife(
                    removedAt: tombstone.removedAt,
                    committed: tombstone.committed.index,
                    committedTerm: tombstone.committed.term
                )
            }
        )
        let slot = self.add(item.group, restored)
        self.output.created.append(slot.replica)
        self.touch(slot)
        slot.core.step(item.message)
    }

    /// A candidate still counts a replica that was removed: it did not know that the removal is committed.
    private func answer(_ item: GroupMessage, for tombstone: LogTombstone) {
        let mark = tombstone.committed
        guard let answer = RaftMessage.answerOfRemoved(to: item.message, index: mark.index, term: mark.term) else {
            return
        }
        self.output.outbox.add(.raft(GroupMessage(group: item.group, message: answer)), to: answer.to)
    }

    // MARK: - Snapshots

    /// What must be known before a lane's notes: the state machine may be ahead of the log.
    func takeInstall(_ order: Inbox.Order) {
        guard case .installed(let replica, let mark) = order, let slot = self.slotOf[replica.group],
            slot.replica === replica
        else { return }
        self.stir(slot)
        slot.isInstalling = false
        slot.tail = LogTail()
        let done = slot.pending.prefix { $0.index <= mark.index }.count
        for pending in slot.pending[..<done] {
            pending.waiters.fail(.outcomeUnknown, "a snapshot came before the result")
        }
        slot.pending.removeFirst(done)
        slot.core.snapshotInstalled(mark)
    }

    func take(_ order: Inbox.Order) {
        switch order {
        case .changeMembership(let group, let change, let waiter): self.changeMembership(group, change, waiter)
        case .transfer(let group, let target, let waiter): self.transfer(group, to: target, waiter)
        case .transferAll(let waiter): self.startTransferAll(waiter)
        case .campaign(let group):
            guard let slot = self.slotOf[group] else { return }
            self.stir(slot)
            slot.core.campaign()
        case .wake(let group):
            if let slot = self.slotOf[group] { self.wake(slot) }
        case .installed: break
        case .installFailed(let group):
            guard let slot = self.slotOf[group], slot.isInstalling else { return }
            slot.isInstalling = false
            self.stir(slot)
            slot.core.snapshotFailed()
        case .snapshotReport(let group, let peer, let hasSucceeded):
            guard let slot = self.slotOf[group] else { return }
            self.stir(slot)
            slot.core.snapshotReport(to: peer, succeeded: hasSucceeded)
        case .discarded(let group):
            self.discarding.remove(group)
        }
    }

    // MARK: - Log compaction

    /// Cuts the front of a log that is long enough, up to what the state machine holds durably.
    func compact(_ slot: GroupSlot) {
        let first = slot.core.firstIndex
        let last = slot.core.lastIndex
        guard last >= first, slot.tail.mayCut(first: first, last: last, configuration: self.configuration) else {
            return
        }
        let applied = slot.core.appliedIndex
        let durable = min(self.parts.applier.durableApplied(of: slot.group), applied)
        guard durable >= first else { return }
        var slowest: LogIndex?
        if slot.core.role == .leader {
            for replica in slot.core.replicas where replica.node != self.node && replica.isRecentlyActive {
                let held = max(replica.match, replica.pendingSnapshot ?? .zero)
                slowest = min(slowest ?? held, held)
            }
        }
        let cut = slot.tail.cut(
            first: first,
            last: last,
            durable: durable,
            slowest: slowest,
            configuration: self.configuration
        )
        guard let through = cut, let term = slot.core.term(at: through) else { return }
        self.touch(slot)
        self.drain(slot)
        slot.core.compact(through: through)
        slot.tail.compacted(through: through)
        let write = LogWrite(
            group: slot.group,
            hardState: slot.core.hardState,
            commit: slot.core.commit,
            compactThrough: LogMark(index: through, term: term),
            last: slot.core.lastIndex,
            lastTerm: slot.core.lastTerm
        )
        self.output.writes.append(
            PendingWrite(replica: slot.replica, purpose: .compaction, write: write, messages: [])
        )
    }

    // MARK: - Removal

    /// Ends a replica: nobody hears of it any more, its log goes, a tombstone stays.
    func bury(_ slot: GroupSlot) {
        guard let removedAt = slot.removedAt else { return }
        self.slots.removeAll { $0 === slot }
        self.slotOf[slot.group] = nil
        self.leaveAwakeList(slot)
        self.fail(slot, appended: .outcomeUnknown, "the replica was removed", cause: nil)
        slot.replica.close()
        self.countPeers(slot.replica.published.withLock { $0.membership.replicas }, by: -1)
        let mark = slot.core.commitMark
        let committed = LogMark(index: mark.index, term: mark.term)
        self.tombstones[slot.group] = LogTombstone(
            group: slot.group,
            hardState: slot.core.hardState,
            removedAt: removedAt,
            committed: committed
        )
        self.discarding.insert(slot.group)
        let write = LogWrite(
            tombstone: slot.group,
            hardState: slot.core.hardState,
            removedAt: removedAt,
            committed: committed
        )
        self.output.writes.append(
            PendingWrite(replica: slot.replica, purpose: .tombstone, write: write, messages: [])
        )
        self.output.removed.append(slot.replica)
    }

    private func discard(_ group: GroupID) {
        self.discarding.insert(group)
        self.output.discards.append(group)
    }

    // MARK: - End

    /// Answers everybody who waits, as no turn will follow.
    package func failWaiting(_ inbox: inout Inbox, cause: ConsensusError?) {
        let message = "the host has stopped"
        for proposal in inbox.proposals { proposal.waiter.fail(.stopped, message, cause: cause) }
        for read in inbox.reads { read.waiter.fail(.stopped, message, cause: cause) }
        for order in inbox.orders {
            switch order {
            case .changeMembership(_, _, let waiter): waiter.fail(.stopped, message, cause: cause)
            case .transfer(_, _, let waiter): waiter.fail(.stopped, message, cause: cause)
            case .transferAll(let waiter): waiter.answer(.success(0))
            case .campaign, .wake, .installed, .installFailed, .snapshotReport, .discarded: break
            }
        }
        inbox.clear()
        for slot in self.slots {
            self.fail(slot, appended: cause == nil ? .outcomeUnknown : .failed, message, cause: cause)
        }
        self.discarding = []
        self.transferAll?.waiter.answer(.success(0))
        self.transferAll = nil
    }

    private func fail(
        _ slot: GroupSlot,
        appended: ProposalError.Code,
        _ message: String,
        cause: ConsensusError?
    ) {
        for waiter in slot.commandWaiters { waiter.fail(.stopped, message, cause: cause) }
        self.clearCommands(slot)
        for pending in slot.pending { pending.waiters.fail(appended, message, cause: cause) }
        slot.pending = []
        slot.hasOrphans = false
        for read in slot.reads { read.waiter.fail(.stopped, message, cause: cause) }
        slot.reads = []
        for batch in slot.readBatches {
            for read in batch.reads { read.waiter.fail(.stopped, message, cause: cause) }
        }
        slot.readBatches = []
        for item in slot.transfers { item.waiter.fail(.stopped, message, cause: cause) }
        slot.transfers = []
    }
}
