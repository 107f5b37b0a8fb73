internal import Primitives
internal import Storage
internal import Synchronization

// What runs on the raft threads, the log-writer thread and the lanes.
extension RaftHost {
    // MARK: - Raft threads

    func run(_ loop: HostLoop) {
        var taken = Inbox()
        for group in loop.loop.loneGroups { taken.orders.append(.campaign(group)) }
        loop.loop.turn(&taken)
        self.perform(loop)
        let interval = UInt64(self.configuration.tickInterval / .nanoseconds(1))
        var nextTick = MonotonicTime(nanoseconds: MonotonicTime.now().nanoseconds + interval)
        while self.failure == nil {
            let deadline: MonotonicTime? = if case .clock = self.ticks { nextTick } else { nil }
            loop.take(&taken, until: deadline)
            var elapsed = 0
            if let deadline {
                let now = MonotonicTime.now()
                if now >= deadline {
                    let due = (now.nanoseconds - deadline.nanoseconds) / interval + 1
                    elapsed = Int(min(due, UInt64(Int32.max)))
                    nextTick = MonotonicTime(nanoseconds: deadline.nanoseconds + due * interval)
                }
            }
            if taken.isStopping || taken.failure != nil { break }
            loop.loop.turn(&taken, elapsed: elapsed)
            self.perform(loop)
        }
        loop.finish(&taken, cause: self.failure)
        if self.failure != nil {
            for group in loop.loop.groups { loop.loop.replica(of: group)?.close() }
        }
    }

    /// Does what the turn left, until nothing is left.
    ///
    /// Messages leave before the disk is waited for, so that peers work meanwhile. After a write on this thread what
    /// follows from it, and the messages that waited for it, are handled at once.
    private func perform(_ loop: HostLoop) {
        while !loop.loop.output.isEmpty {
            let output = loop.loop.output
            loop.loop.clearOutput()
            self.handOn(output)
            if let failure = output.failure {
                self.fail(failure)
                return
            }
            if output.writes.isEmpty { continue }
            do throws(ConsensusError) {
                if try self.writer.write(output.writes) { loop.loop.persisted(output.writes) }
            } catch {
                self.fail(error)
                return
            }
        }
    }

    func handOn(_ output: LoopOutput) {
        output.outbox.send(by: self.transport)
        for lane in output.lanes where !self.turnHere(lane, output) { self.schedule(lane) }
        if !output.created.isEmpty || !output.removed.isEmpty {
            self.replicas.withLock { replicas in
                for replica in output.removed { replicas[replica.group] = nil }
                for replica in output.created { replicas[replica.group] = replica }
            }
            for replica in output.created { self.events.onReplicaCreated(replica.group) }
        }
        for change in output.changes { self.events.onLeadershipChange(change) }
        for change in output.membershipChanges { self.events.onMembershipChange(change.group, change.membership) }
        for item in output.offers { self.events.onSnapshotOffered(item.group, item.from, item.offer) }
        for group in output.discards { self.discard(group) }
    }

    // MARK: - Log-writer thread

    func runWriter() {
        do throws(ConsensusError) {
            try self.writer.run { writes in self.didPersist(writes) }
        } catch {
            self.fail(error)
        }
    }

    private func didPersist(_ writes: ArraySlice<PendingWrite>) {
        var outbox = Outbox()
        outbox.release(writes)
        outbox.send(by: self.transport)
        for (place, loop) in self.loops.enumerated() {
            let isOne = self.loops.count == 1
            loop.post { inbox in
                for write in writes where isOne || Int(write.replica.group.rawValue) % self.loops.count == place {
                    inbox.persisted.append(write.note)
                }
            }
        }
    }

    // MARK: - Lanes

    private func schedule(_ lane: LaneQueue) { lane.lane.enqueue { self.turn(lane) } }

    /// Applies little on the raft thread when nothing else is to be done there and the lane is idle: a lone client waits
    /// for the change of threads otherwise.
    private func turnHere(_ lane: LaneQueue, _ output: LoopOutput) -> Bool {
        guard output.writes.isEmpty, lane.hasAtMost(bytes: Self.turnHereBytesMax), self.writer.isQuick else {
            return false
        }
        let start = MonotonicTime.now()
        let didRun = lane.lane.runHere { self.turn(lane) }
        if didRun { self.writer.noteTime(since: start) }
        return didRun
    }

    /// Bytes of entries that the raft thread applies itself.
    private static let turnHereBytesMax = 8 << 10

    private func turn(_ lane: LaneQueue) {
        do throws(ConsensusError) {
            if let failure = self.failure { throw failure }
            let notes = try lane.turn(with: self.applier)
            if self.loops.count == 1 {
                self.tell(notes, self.loops[0])
            } else {
                for (place, loop) in self.loops.enumerated() {
                    self.tell(notes.filter { Int($0.replica.group.rawValue) % self.loops.count == place }, loop)
                }
            }
            if lane.hasMoreWork() { self.schedule(lane) }
        } catch {
            self.fail(error)
            repeat { lane.abandon(cause: error) } while lane.hasMoreWork()
        }
    }

    /// Nobody waits for what was applied but the bounds of memory, so the raft thread is rarely woken for it.
    private func tell(_ notes: [AppliedNote], _ loop: HostLoop) {
        if notes.isEmpty { return }
        if notes.contains(where: \.isUrgent) {
            loop.post { $0.applied.append(contentsOf: notes) }
        } else {
            loop.leave { $0.applied.append(contentsOf: notes) }
        }
    }

    /// Forgets the state of a removed replica.
    private func discard(_ group: GroupID) {
        self.lanes[Int(group.rawValue) % self.lanes.count].lane.enqueue {
            do {
                try self.applier.discard(group)
            } catch {
                let message = "the state of a removed replica could not be discarded"
                self.fail(ConsensusError(code: .applier, message: message, group: group, cause: error))
                return
            }
            self.events.onReplicaRemoved(group)
            self.loop(of: group).post { $0.orders.append(.discarded(group)) }
        }
    }
}
