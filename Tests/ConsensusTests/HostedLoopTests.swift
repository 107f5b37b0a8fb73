internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

/// A thread whose work the test runs, piece by piece.
private final class HandThread: RaftThread {
    private struct State {
        var work: [@Sendable () -> Void] = []
        var scheduled: [@Sendable () -> Void] = []
        var isFree = false
    }

    private let state = Mutex(State())

    func execute(_ work: @escaping @Sendable () -> Void) {
        let isFree = self.state.withLock { state in
            if !state.isFree { state.work.append(work) }
            return state.isFree
        }
        if isFree { work() }
    }

    func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) {
        let isFree = self.state.withLock { state in
            if !state.isFree { state.scheduled.append(work) }
            return state.isFree
        }
        if isFree { work() }
    }

    /// Runs the oldest piece.
    /// - Returns: False when there was none.
    @discardableResult
    func runNext() -> Bool {
        let work = self.state.withLock { $0.work.isEmpty ? nil : $0.work.removeFirst() }
        work?()
        return work != nil
    }

    func runAll() { while self.runNext() {} }

    var workCount: Int { self.state.withLock { $0.work.count } }
    var scheduledCount: Int { self.state.withLock { $0.scheduled.count } }

    /// Time passes: what was scheduled may run.
    func passTime() {
        self.state.withLock { state in
            state.work += state.scheduled
            state.scheduled = []
        }
    }

    /// From now on everything runs at once.
    func letGo() {
        while true {
            self.passTime()
            let isDone = self.state.withLock { state in
                state.isFree = state.work.isEmpty
                return state.isFree
            }
            if isDone { return }
            self.runAll()
        }
    }
}

/// Notes what is sent.
private final class Outgoing: PeerTransport {
    let sent = Mutex<[HostMessage]>([])

    func send(_ messages: [HostMessage], to peer: NodeID) { self.sent.withLock { $0 += messages } }

    var appends: [RaftMessage.Append] {
        self.sent.withLock { sent in
            sent.compactMap { message in
                guard case .raft(let item) = message, case .append(let append) = item.message.body else { return nil }
                return append.entries.contains { $0.kind == .commands } ? append : nil
            }
        }
    }

    var vote: RaftMessage? {
        self.sent.withLock { sent in
            for case .raft(let item) in sent {
                switch item.message.body {
                case .preVoteRequest, .voteRequest: return item.message
                default: continue
                }
            }
            return nil
        }
    }
}

@Suite("A loop on a shared thread", .timeLimit(.minutes(10))) struct HostedLoopTests {
    private static let group = GroupID(0)
    private static let other = NodeID(2)

    /// One of two hosts; the test speaks for the other.
    private struct Bench {
        let thread = HandThread()
        let outgoing = Outgoing()
        let disk = SimulatedLogFiles()
        let applier = ListApplier()
        let lane: SerialThread
        let host: RaftHost
        let failures = EventLog<ConsensusError>()

        init() throws {
            self.lane = try SerialThread(name: "test-lane")
            self.host = try RaftHost(
                node: NodeID(1),
                groups: [HostedLoopTests.group: Membership(voters: [NodeID(1), HostedLoopTests.other])],
                log: try LogDisk.open(self.disk),
                transport: self.outgoing,
                applier: self.applier,
                lanes: [self.lane],
                thread: self.thread,
                seed: 3,
                epoch: 1,
                ticks: .manual,
                events: HostEvents(onFailure: { [failures] in failures.add($0) })
            )
            try self.host.start()
        }

        /// Runs what waits, and what is scheduled, until nothing is left.
        func settle() {
            repeat {
                self.thread.runAll()
                self.thread.passTime()
            } while self.thread.workCount > 0
        }

        func answer(_ body: RaftMessage.Body, term: Term) {
            let message = RaftMessage(from: HostedLoopTests.other, to: NodeID(1), term: term, body: body)
            self.host.receive(
                [.raft(GroupMessage(group: HostedLoopTests.group, message: message))],
                from: HostedLoopTests.other
            )
        }

        /// Wins the election.
        func lead() throws {
            for _ in 0..<100 where self.outgoing.vote == nil {
                self.host.tick()
                self.settle()
            }
            for _ in 0..<2 {
                let vote = try #require(self.outgoing.vote)
                self.outgoing.sent.withLock { $0 = [] }
                if case .preVoteRequest = vote.body {
                    self.answer(.preVoteResponse(granted: true), term: vote.term)
                } else {
                    let answer = RaftMessage.VoteAnswer(isGranted: true, lastIndex: .zero, lastTerm: .zero)
                    self.answer(.voteResponse(answer), term: vote.term)
                }
                self.settle()
            }
            try #require(self.host.status(of: HostedLoopTests.group)?.role == .leader)
            self.outgoing.sent.withLock { $0 = [] }
        }

        func propose(_ text: String, _ answer: @escaping @Sendable (Result<[UInt8], ProposalError>) -> Void = { _ in })
        {
            self.host.propose(Array(text.utf8), to: HostedLoopTests.group, answer: answer)
        }

        func end() {
            self.thread.letGo()
            self.host.stop()
            self.lane.shutdown()
        }
    }

    @Test func messagesLeaveBeforeTheDiskIsWaitedFor() throws {
        let bench = try Bench()
        defer { bench.end() }
        try bench.lead()
        // The other must accept the first entry of the term before more is sent.
        let first = try #require(bench.host.status(of: Self.group))
        bench.answer(
            .appendAccepted(RaftMessage.AppendAcceptance(session: .zero, beat: 0, match: first.last)),
            term: first.term
        )
        bench.settle()
        let writes = bench.disk.count(of: .write)
        bench.propose("a")
        #expect(bench.outgoing.appends.isEmpty)
        #expect(bench.thread.runNext())
        #expect(bench.outgoing.appends.count == 1)
        #expect(bench.disk.count(of: .write) == writes)
        #expect(bench.thread.runNext())
        #expect(bench.disk.count(of: .write) == writes + 1)
    }

    @Test func otherWorkHasItsTurnBetweenAWriteAndTheNextStep() throws {
        let bench = try Bench()
        defer { bench.end() }
        try bench.lead()
        bench.propose("a")
        bench.thread.runNext()
        // These come while the first is written, and share the next step.
        let calls = bench.thread.workCount
        for text in ["b", "c", "d"] { bench.propose(text) }
        #expect(bench.thread.workCount == calls + 1, "one call for all")
        let last = bench.host.status(of: Self.group)?.last
        bench.thread.runAll()
        #expect(bench.thread.scheduledCount == 1)
        #expect(bench.host.status(of: Self.group)?.last == last, "no step before the other work")
        bench.thread.passTime()
        bench.settle()
        #expect(bench.host.status(of: Self.group)?.last == last?.next, "one entry for three commands")
    }

    @Test func endsWhenTheStoreFailsAndAnswersEverybody() throws {
        let bench = try Bench()
        defer { bench.end() }
        try bench.lead()
        bench.settle()
        let codes = EventLog<ProposalError.Code?>()
        let note: @Sendable (Result<[UInt8], ProposalError>) -> Void = { answer in
            if case .failure(let error) = answer { codes.add(error.code) } else { codes.add(nil) }
        }
        bench.disk.arm(StoreFault(.write))
        bench.propose("a", note)
        bench.settle()
        #expect(codes.take() == [.failed])
        #expect(bench.failures.take().count == 1)
        bench.propose("b", note)
        bench.settle()
        #expect(codes.take() == [.stopped])
    }

    @Test func takesNothingAfterItsEnd() throws {
        let bench = try Bench()
        try bench.lead()
        bench.end()
        let codes = EventLog<Bool>()
        bench.propose("a") { answer in
            if case .failure(let error) = answer { codes.add(error.code == .stopped) } else { codes.add(false) }
        }
        #expect(codes.take() == [true])
    }
}
