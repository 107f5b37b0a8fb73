internal import Primitives
internal import Storage
internal import Testing

@testable internal import Consensus

@Suite struct HostPartsTests {
    private func pending(_ group: UInt32, place: Int, number: UInt64 = 1) -> PendingWrite {
        let entry = LogEntry(index: LogIndex(1), term: Term(1), kind: .empty, payload: [])
        let write = RaftLogStore.Write(
            group: GroupID(group),
            hardState: HardState(term: Term(1), vote: nil),
            commit: .zero,
            truncateFrom: nil,
            entries: [entry],
            last: entry.index,
            lastTerm: entry.term
        )
        let ticket = PersistTicket(number: number, index: entry.index, term: entry.term)
        return PendingWrite(place: place, ticket: ticket, write: write, messages: [])
    }

    @Test func makesManyGroupsDurableByOneSync() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let writer = LogWriter(store: RaftLogStore(store))
        writer.add((0..<100).map { self.pending(UInt32($0), place: $0) })
        writer.stop()
        var places: [Int] = []
        try writer.run { places += $0.map(\.place) }
        #expect(places == Array(0..<100))
        #expect(store.count(of: .sync) == 1)
        #expect(store.count(of: .write) == 1)
        #expect(try RaftLogStore(store).load(GroupID(99)).terms.last == LogIndex(1))
    }

    @Test func reportsNothingAsDurableWhenTheSyncFails() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        store.arm(StoreFault(.sync))
        let writer = LogWriter(store: RaftLogStore(store))
        writer.add([self.pending(1, place: 0)])
        writer.stop()
        var places: [Int] = []
        #expect(throws: ConsensusError.self) { try writer.run { places += $0.map(\.place) } }
        #expect(places.isEmpty)
    }

    /// A loop with one group of one replica that leads.
    private func leadingLoop(_ lane: SerialThread) -> RaftLoop {
        let configuration = RaftConfiguration()
        let store = RaftLogStore(InMemoryStore())
        let core = RaftCore(
            id: NodeID(1),
            voters: [NodeID(1)],
            configuration: configuration,
            reader: store.reader(of: GroupID(0)),
            generator: SeededGenerator(seed: 1)
        )
        let replica = GroupReplica(place: 0, status: core.status(of: GroupID(0)), lane: lane, waitsMax: 10)
        let loop = RaftLoop(configuration: configuration, cores: [(core, replica)])
        var inbox = Inbox()
        inbox.campaigns = [0]
        loop.turn(&inbox, ticks: 0)
        self.finishWrites(loop)
        return loop
    }

    private func finishWrites(_ loop: RaftLoop) {
        while !loop.output.writes.isEmpty {
            var inbox = Inbox()
            inbox.persisted = loop.output.writes.map { ($0.place, $0.ticket) }
            loop.clearOutput()
            loop.turn(&inbox, ticks: 0)
        }
    }

    @Test func sharesOneEntryAmongBarriersAndAmongProposals() async throws {
        let lane = try SerialThread(name: "test-lane")
        defer { lane.shutdown() }
        let loop = self.leadingLoop(lane)
        func entries() -> Int { loop.output.writes.reduce(0) { $0 + ($1.write?.entries.count ?? 0) } }

        let barriers = (0..<50).map { _ in Waiter<LogIndex>() }
        var inbox = Inbox()
        inbox.barriers = barriers.map { Inbox.Barrier(place: 0, waiter: $0) }
        loop.turn(&inbox, ticks: 0)
        #expect(entries() == 1)
        // More come while the first entry is on its way: they wait for the next.
        let late = (0..<50).map { _ in Waiter<LogIndex>() }
        inbox.barriers = late.map { Inbox.Barrier(place: 0, waiter: $0) }
        loop.turn(&inbox, ticks: 0)
        #expect(entries() == 1)
        self.finishWrites(loop)
        for waiter in barriers { #expect(try await waiter.value() == LogIndex(2)) }
        for waiter in late { #expect(try await waiter.value() == LogIndex(3)) }

        inbox.proposals = (0..<200).map { Inbox.Proposal(place: 0, command: [UInt8($0)], waiter: Waiter()) }
        loop.turn(&inbox, ticks: 0)
        #expect(entries() == 1)
        inbox.proposals = (0..<5).map { Inbox.Proposal(place: 0, command: [UInt8($0)], waiter: Waiter()) }
        loop.turn(&inbox, ticks: 0)
        #expect(entries() == 1, "commands wait for the running write")
    }

    @Test func answersAWaiterOnce() async throws {
        let waiter = Waiter<Int>()
        waiter.answer(.success(1))
        waiter.answer(.success(2))
        waiter.fail(.stopped, "late")
        #expect(try await waiter.value() == 1)
        waiter.answer(.success(3))
    }

    @Test func boundsTheWaitsForAnAppliedIndex() async throws {
        let lane = try SerialThread(name: "test-lane")
        defer { lane.shutdown() }
        let status = GroupStatus(
            group: GroupID(0),
            role: .follower,
            leader: nil,
            term: .zero,
            commit: .zero,
            applied: .zero,
            last: .zero,
            voters: [NodeID(1)],
            replicas: []
        )
        let replica = GroupReplica(place: 0, status: status, lane: lane, waitsMax: 1)
        let first = Waiter<Void>()
        let second = Waiter<Void>()
        replica.wait(for: LogIndex(1), first)
        replica.wait(for: LogIndex(1), second)
        await #expect(throws: ProposalError.self) { try await second.value() }
        replica.didApply(LogIndex(1))
        try await first.value()
        let third = Waiter<Void>()
        replica.wait(for: LogIndex(1), third)
        try await third.value()
    }

    @Test func refusesSettingsThatCannotWork() {
        #expect(RaftConfiguration().validate() == nil)
        let changes: [(inout RaftConfiguration) -> Void] = [
            { $0.tickInterval = .zero }, { $0.heartbeatTicks = 0 }, { $0.electionTicks = $0.heartbeatTicks },
            { $0.messageBytesMax = 0 }, { $0.inflightMessagesMax = 0 }, { $0.applyWaitersMax = 0 },
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
