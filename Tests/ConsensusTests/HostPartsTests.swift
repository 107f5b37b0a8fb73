internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Consensus

@Suite struct HostPartsTests {
    private func replica(_ group: UInt32, _ lane: LaneQueue, waitsMax: Int = 10) -> GroupReplica {
        let membership = Membership(voters: [NodeID(1)])
        let status = GroupStatus(
            group: GroupID(group),
            role: .follower,
            leader: nil,
            term: .zero,
            commit: .zero,
            applied: .zero,
            first: LogIndex(1),
            last: .zero,
            membership: membership
        )
        let mark = SnapshotMark(index: .zero, term: .zero, membership: membership)
        return GroupReplica(status: status, mark: mark, lane: lane, waitsMax: waitsMax)
    }

    private func pending(_ group: UInt32, _ lane: LaneQueue, payloadBytes: Int = 0) -> PendingWrite {
        let payload = [UInt8](repeating: 0, count: payloadBytes)
        let entry = LogEntry(index: LogIndex(1), term: Term(1), kind: .empty, payload: payload)
        let write = LogWrite(
            group: GroupID(group),
            hardState: HardState(term: Term(1), vote: nil),
            commit: .zero,
            entries: [entry],
            last: entry.index,
            lastTerm: entry.term
        )
        let ticket = PersistTicket(number: 1, index: entry.index, term: entry.term)
        return PendingWrite(replica: self.replica(group, lane), purpose: .ticket(ticket), write: write, messages: [])
    }

    // MARK: - The log writer

    @Test func makesManyGroupsDurableByOneSync() throws {
        let disk = SimulatedLogFiles()
        // The batch fits into one segment.
        let log = try SegmentLog.open(files: disk)
        let (writes, syncs) = (disk.count(of: .write), disk.count(of: .sync))
        let lane = LaneQueue(lane: InlineLane())
        let writer = LogWriter(store: log, inlineBytesMax: 0)
        let isDone = try writer.write((0..<100).map { self.pending(UInt32($0), lane) })
        #expect(!isDone, "inline writes are off")
        writer.stop()
        var groups: [GroupID] = []
        try writer.run { groups += $0.map(\.replica.group) }
        #expect(groups == (0..<100).map { GroupID($0) })
        #expect(disk.count(of: .sync) == syncs + 1)
        #expect(disk.count(of: .write) == writes + 1)
        #expect(try log.load(GroupID(99)).terms.last == LogIndex(1))
    }

    @Test func writesSmallBatchesOnTheCallersThreadUnlessOthersWait() throws {
        let disk = SimulatedLogFiles()
        let log = try LogDisk.open(disk)
        let syncs = disk.count(of: .sync)
        let lane = LaneQueue(lane: InlineLane())
        let writer = LogWriter(store: log, inlineBytesMax: 1_000)
        #expect(try writer.write([self.pending(1, lane)]))
        #expect(disk.count(of: .sync) == syncs + 1)
        #expect(try !writer.write([self.pending(2, lane, payloadBytes: 2_000)]), "too large")
        #expect(try !writer.write([self.pending(3, lane)]), "the order of the writes is kept")
        writer.stop()
        var groups: [GroupID] = []
        try writer.run { groups += $0.map(\.replica.group) }
        #expect(groups == [GroupID(2), GroupID(3)])
    }

    @Test(arguments: [0, 1_000]) func reportsNothingAsDurableWhenTheSyncFails(inlineBytes: Int) throws {
        let disk = SimulatedLogFiles()
        let log = try LogDisk.open(disk)
        let lane = LaneQueue(lane: InlineLane())
        disk.arm(StoreFault(.sync))
        let writer = LogWriter(store: log, inlineBytesMax: inlineBytes)
        var groups: [GroupID] = []
        #expect(throws: ConsensusError.self) {
            if try writer.write([self.pending(1, lane)]) { groups.append(GroupID(1)) }
            writer.stop()
            try writer.run { groups += $0.map(\.replica.group) }
        }
        #expect(groups.isEmpty)
    }

    // MARK: - Promises

    private func promise(
        _ replica: GroupReplica,
        _ match: UInt64?,
        cutAt: UInt64? = nil,
        removedAt: UInt64? = nil
    ) -> PendingWrite {
        let messages = match.map { match in
            [
                RaftMessage(
                    from: NodeID(2),
                    to: NodeID(1),
                    term: Term(1),
                    body: .appendAccepted(RaftMessage.AppendAcceptance(match: LogIndex(match)))
                )
            ]
        }
        let write = LogWrite(
            group: replica.group,
            hardState: HardState(term: Term(cutAt == nil ? 1 : 2), vote: nil),
            commit: .zero,
            removedAt: removedAt.map { LogIndex($0) },
            truncateFrom: cutAt.map { LogIndex($0) },
            last: LogIndex(3),
            lastTerm: Term(1)
        )
        let ticket = PersistTicket(number: 1, index: LogIndex(3), term: Term(1))
        return PendingWrite(replica: replica, purpose: .ticket(ticket), write: write, messages: messages ?? [])
    }

    private func released(_ writes: [PendingWrite]) -> [UInt64] {
        var outbox = Outbox()
        outbox.release(writes)
        return outbox.batches.flatMap(\.messages).compactMap { message in
            guard case .raft(let item) = message, case .appendAccepted(let answer) = item.message.body else {
                return nil
            }
            return answer.match.rawValue
        }
    }

    @Test func anAcknowledgementThatALaterWriteOfTheBatchTakesBackDoesNotLeave() {
        let lane = LaneQueue(lane: InlineLane())
        let (one, other) = (self.replica(1, lane), self.replica(2, lane))
        let cut = self.promise(one, nil, cutAt: 3)
        #expect(self.released([self.promise(one, 2), self.promise(one, 3), cut]) == [2], "the entry 3 is gone")
        #expect(self.released([self.promise(other, 3), cut]) == [3], "in another group")
        #expect(self.released([cut, self.promise(one, 3)]) == [3], "written again after the cut")
        #expect(self.released([self.promise(one, 3), self.promise(one, 4)]) == [3, 4])
        #expect(self.released([self.promise(one, 2), self.promise(one, nil, removedAt: 9)]).isEmpty)
    }

    // MARK: - The loop

    @Test func sharesOneEntryAmongProposalsAndLetsLaterOnesWaitForTheWrite() throws {
        let cluster = try HostLoopCluster(1)
        try cluster.elect(1)
        let loop = cluster[1].loop
        func entries() -> Int { loop.output.writes.reduce(0) { $0 + ($1.write?.entries.count ?? 0) } }
        let first = (0..<200).map { cluster.propose("\($0)", on: 1) }
        loop.turn(&cluster[1].inbox)
        #expect(entries() == 1)
        let later = (0..<5).map { cluster.propose("later \($0)", on: 1) }
        loop.turn(&cluster[1].inbox)
        #expect(entries() == 1, "commands wait for the running write")
        try cluster.pump()
        #expect(first.allSatisfy { $0.value != nil })
        #expect(later.allSatisfy { $0.value != nil })
        #expect(loop.core(of: GroupID(0))!.lastIndex == LogIndex(3))
    }

    // MARK: - Lanes and waiters

    private func work(
        _ replica: GroupReplica,
        _ index: UInt64,
        _ text: String,
        _ waiter: Waiter<[UInt8]>
    ) -> LaneQueue.Work {
        let payload = CommandBatch.encode([Array(text.utf8)])
        return LaneQueue.Work(
            replica: replica,
            entries: [LogEntry(index: LogIndex(index), term: Term(1), kind: .commands, payload: payload)],
            memberships: [],
            waiters: [LaneQueue.EntryWaiters(index: LogIndex(index), kind: .commands([waiter]))]
        )
    }

    @Test func skipsWhatASnapshotHasBrought() async throws {
        let applier = ListApplier()
        let lane = LaneQueue(lane: InlineLane())
        let replica = self.replica(0, lane)
        let waiters = (0..<4).map { _ in Waiter<[UInt8]>() }
        #expect(lane.add(self.work(replica, 1, "a", waiters[0])))
        #expect(!lane.add(self.work(replica, 2, "b", waiters[1])))
        let mark = SnapshotMark(index: LogIndex(2), term: Term(1), membership: replica.appliedMark.membership)
        #expect(replica.install(mark) { applier.install(["a", "b"], of: GroupID(0), mark) } == nil)
        #expect(!lane.add(self.work(replica, 3, "c", waiters[2])))
        let notes = try lane.turn(with: applier)
        #expect(notes.map(\.index) == [LogIndex(3)])
        #expect(!lane.hasMoreWork())
        #expect(applier.commands(of: GroupID(0)) == ["a", "b", "c"])
        #expect(try await waiters[2].value() == Array("done c".utf8))
        await #expect(throws: ProposalError.self) { try await waiters[0].value() }
        // A snapshot that comes late changes nothing.
        let stale = replica.install(mark) { Issue.record("nothing is switched") }
        #expect(stale?.code == .staleSnapshot)
    }

    @Test func dropsTheWorkOfARemovedReplicaOnly() async throws {
        let applier = ListApplier()
        let lane = LaneQueue(lane: InlineLane())
        let gone = self.replica(0, lane)
        let here = self.replica(1, lane)
        let waiters = [Waiter<[UInt8]>(), Waiter<[UInt8]>()]
        _ = lane.add(self.work(gone, 1, "gone", waiters[0]))
        _ = lane.add(self.work(here, 1, "here", waiters[1]))
        gone.close()
        _ = try lane.turn(with: applier)
        #expect(applier.commands(of: GroupID(0)).isEmpty)
        #expect(try await waiters[1].value() == Array("done here".utf8))
        await #expect(throws: ProposalError.self) { try await waiters[0].value() }
    }

    @Test func answersAWaiterOnce() async throws {
        let waiter = Waiter<Int>()
        waiter.answer(.success(1))
        waiter.answer(.success(2))
        waiter.fail(.stopped, "late")
        #expect(try await waiter.value() == 1)
        waiter.answer(.success(3))
        let told = HostLoopCluster.Answer<Int>()
        let telling = told.waiter
        telling.answer(.success(1))
        telling.fail(.stopped, "late")
        #expect(told.value == 1)
        #expect(told.count.withLock { $0 } == 1)
    }

    @Test func boundsTheWaitsForAnAppliedIndex() async throws {
        let replica = self.replica(0, LaneQueue(lane: InlineLane()), waitsMax: 1)
        let first = Waiter<LogIndex>()
        let second = Waiter<LogIndex>()
        replica.wait(for: LogIndex(1), first)
        replica.wait(for: LogIndex(1), second)
        await #expect(throws: ProposalError.self) { try await second.value() }
        replica.didApply(SnapshotMark(index: LogIndex(1), term: Term(1), membership: replica.appliedMark.membership))
        #expect(try await first.value() == LogIndex(1))
        let third = Waiter<LogIndex>()
        replica.wait(for: LogIndex(1), third)
        #expect(try await third.value() == LogIndex(1))
    }

    @Test func knowsWhoIsSilentAndWhoIsBack() {
        var liveness = PeerLiveness()
        func heard(_ node: UInt64, epoch: UInt64? = nil) -> Bool { liveness.heard(NodeID(node), epoch: epoch) }
        func tick() -> [NodeID] { liveness.tick(silentTicksMax: 5) }
        liveness.setPeers([NodeID(2), NodeID(3)])
        #expect(liveness.alive.isEmpty)
        #expect(heard(2, epoch: 1))
        #expect(!heard(2, epoch: 1))
        #expect(heard(2, epoch: 2), "another life")
        #expect(!heard(9), "not a peer")
        for _ in 0..<4 { #expect(tick().isEmpty) }
        #expect(tick() == [NodeID(2)])
        #expect(tick().isEmpty, "told once")
        #expect(!liveness.isAlive(NodeID(2)))
        #expect(heard(2))
        liveness.setPeers([NodeID(2), NodeID(4)])
        #expect(liveness.alive == [NodeID(2)])
    }

    @Test func refusesSettingsThatCannotWork() {
        #expect(RaftConfiguration().validate() == nil)
        let changes: [(inout RaftConfiguration) -> Void] = [
            { $0.tickInterval = .zero }, { $0.heartbeatTicks = 0 }, { $0.electionTicks = $0.heartbeatTicks },
            { $0.messageBytesMax = 0 }, { $0.inflightMessagesMax = 0 }, { $0.applyWaitersMax = 0 },
            { $0.loopCount = 0 }, { $0.inlineWriteBytesMax = -1 }, { $0.hibernateTicks = -1 },
            { $0.logTailEntries = 0 },
        ]
        for change in changes {
            var configuration = RaftConfiguration()
            change(&configuration)
            #expect(configuration.validate() != nil)
        }
    }

    @Test func hasTheChecksumOfTheStandard() {
        var checksum = CRC32C()
        checksum.update(Array("123456789".utf8))
        #expect(checksum.value == 0xE306_9283)
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending.
        let expected: [([UInt8], UInt32)] = [
            (Array(repeating: 0, count: 32), 0x8A91_36AA),
            (Array(repeating: 0xFF, count: 32), 0x62A8_AB43),
            (Array(0..<32), 0x46DD_794E),
        ]
        for (bytes, value) in expected {
            var whole = CRC32C()
            whole.update(bytes)
            #expect(whole.value == value)
            var parts = CRC32C()
            parts.update(bytes[..<5])
            parts.update(bytes[5...])
            #expect(parts.value == value)
        }
    }
}
