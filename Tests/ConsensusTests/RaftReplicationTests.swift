internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftReplicationTests {
    private static func isAppend(_ message: RaftMessage) -> Bool {
        if case .append = message.body { true } else { false }
    }

    private static func isAck(_ message: RaftMessage) -> Bool {
        if case .appendAccepted = message.body { true } else { false }
    }

    @Test func replicatesInOrderToEverybody() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        for text in ["a", "b", "c"] { cluster.propose(1, text) }
        cluster.stabilize()
        #expect(cluster.ids.map { cluster.nodes[$0]!.text } == ["abc", "abc", "abc"])
        #expect(cluster.committedTokens == [1, 2, 3])
        #expect(cluster.violations.isEmpty)
    }

    @Test func sendsOneMessageForManyProposalsOfATurn() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.change(NodeID(1)) { core in
            for token in 100..<164 as Range<UInt64> { _ = core.propose(kind: .commands, payload: [1], token: token) }
        }
        cluster[1].openTokens.formUnion(100..<164)
        cluster.ready(NodeID(1))
        #expect(cluster.inFlight.filter(Self.isAppend).count == 2)
        cluster.stabilize()
        #expect(cluster.core(3).commit == LogIndex(65))
    }

    @Test func splitsAppendsAndKeepsTheWindow() {
        let cluster = RaftCluster(3) { configuration in
            configuration.messageBytesMax = 10
            configuration.inflightMessagesMax = 3
        }
        cluster.elect(1)
        for _ in 0..<20 { cluster.propose(1, "123456") }
        let toSecond = cluster.inFlight.filter { $0.to == NodeID(2) && Self.isAppend($0) }
        #expect(toSecond.count == 3)
        for message in toSecond {
            guard case .append(let append) = message.body else { continue }
            #expect(append.entries.count == 1, "two entries are over the size of a message")
        }
        cluster.stabilize()
        #expect(cluster[2].text.count == 120)
    }

    @Test func acknowledgesOnlyWhatIsDurable() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.deliver(where: Self.isAppend)
        #expect(!cluster.inFlight.contains(where: Self.isAck))
        cluster.persist(NodeID(2))
        cluster.persist(NodeID(3))
        cluster.deliver(where: Self.isAck)
        #expect(cluster.core(1).commit == LogIndex(2), "two followers make a majority without the leader's disk")
        #expect(cluster[1].text.isEmpty, "but the leader applies nothing that is not durable on its own disk")
        cluster.stabilize()
        #expect(cluster[1].text == "a")
        #expect(cluster.violations.isEmpty)
    }

    /// What a new leader cuts before it was written was never on the disk.
    @Test func anAcknowledgementThatHasNotLeftEndsWithItsTerm() throws {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        var core = cluster.core(3)
        func append(_ leader: UInt64, term: UInt64, _ last: UInt64) -> RaftMessage {
            let entries = (2...last).map { LogEntry(index: LogIndex($0), term: Term(term), kind: .empty, payload: []) }
            let append = RaftMessage.Append(
                session: .zero,
                beat: 1,
                previousIndex: LogIndex(1),
                previousTerm: Term(1),
                entries: entries,
                commit: LogIndex(1),
                wantsAnswer: true
            )
            return RaftMessage(from: NodeID(leader), to: NodeID(3), term: Term(term), body: .append(append))
        }
        core.step(append(1, term: 1, 5))
        core.step(append(2, term: 2, 3))
        let taken = core.takeReady()
        let ready = try #require(taken)
        let acks = (ready.sendNow + ready.sendWhenPersisted).filter(Self.isAck)
        #expect(acks.map(\.term) == [Term(2)])
        #expect(acks.map(\.to) == [NodeID(2)])
    }

    @Test func acknowledgesPreviousAndSentNotItsOwnEnd() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        // Node 2 has a tail that the next leader does not share.
        cluster.isolate(2)
        cluster.campaignAlone(2, term: Term(9), entries: 3)
        cluster.heal()
        let term = cluster.core(2).term.next
        let append = RaftMessage.Append(previousIndex: LogIndex(1), previousTerm: Term(1), entries: [], commit: .zero)
        cluster.deliver(RaftMessage(from: NodeID(1), to: NodeID(2), term: term, body: .append(append)))
        while !cluster[2].writes.isEmpty { cluster.persist(NodeID(2)) }
        let acks = cluster.inFlight.filter { Self.isAck($0) && $0.from == NodeID(2) }
        #expect(acks.map(\.body) == [.appendAccepted(RaftMessage.AppendAcceptance(match: LogIndex(1)))])
    }

    @Test func keepsTheTailWhenAStaleAppendArrives() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        let stale = cluster.inFlight.first { $0.to == NodeID(2) && Self.isAppend($0) }!
        cluster.propose(1, "b")
        cluster.deliver()
        let last = cluster.core(2).lastIndex
        cluster.deliver(stale)
        #expect(cluster.core(2).lastIndex == last)
        cluster.stabilize()
        #expect(cluster[2].text == "ab")
    }

    @Test func ignoresAnswersOfEarlierTerms() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let old = cluster.core(1).term
        cluster.isolate(2, 3)
        cluster.run(ticks: 60)
        cluster.heal()
        cluster.run(ticks: 40)
        let leader = cluster.leaders.last!
        cluster.isolate(leader.rawValue)
        cluster.propose(leader.rawValue, "x")
        let other = cluster.ids.first { $0 != leader }!
        let commit = cluster.nodes[leader]!.core!.commit
        let last = cluster.nodes[leader]!.core!.lastIndex
        cluster.heal()
        if old < cluster.nodes[leader]!.core!.term {
            cluster.deliver(
                RaftMessage(
                    from: other,
                    to: leader,
                    term: old,
                    body: .appendAccepted(RaftMessage.AppendAcceptance(match: last))
                )
            )
        }
        let beyond = RaftMessage.Body.appendAccepted(
            RaftMessage.AppendAcceptance(match: LogIndex(last.rawValue + 5))
        )
        cluster.deliver(RaftMessage(from: other, to: leader, term: cluster.nodes[leader]!.core!.term, body: beyond))
        #expect(cluster.nodes[leader]!.core!.commit == commit)
    }

    @Test func backsUpOverManyConflictsInFewMessages() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        // Node 3 holds 200 entries of a term that never committed; nodes 1 and 2 hold 200 others.
        for number in 0..<200 { cluster.propose(1, "\(number),") }
        cluster.stabilize()
        cluster.campaignAlone(3, term: Term(2), entries: 200)
        cluster.run(ticks: 1)
        cluster.restart(1)
        cluster.restart(2)
        cluster.elect(1)
        cluster.elect(1)
        cluster.elect(1)
        cluster.heal()
        var rejections = 0
        for _ in 0..<60 {
            cluster.run(ticks: 1)
            rejections += cluster.rejectionsSeen()
        }
        #expect(cluster[3].text == cluster[1].text)
        #expect(cluster[3].text.hasPrefix("0,1,2,"))
        #expect(cluster.violations.isEmpty)
    }

    @Test func findsTheConflictInOneStepPerTerm() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        for number in 0..<100 { cluster.propose(1, "\(number),") }
        cluster.isolate(3)
        cluster.stabilize()
        cluster.drop { _ in true }
        cluster.heal()
        var rejections = 0
        var rounds = 0
        while cluster.core(3).lastIndex < cluster.core(1).lastIndex, rounds < 200 {
            rounds += 1
            cluster.tick(1)
            rejections += cluster.inFlight.filter { if case .appendRejected = $0.body { true } else { false } }.count
            for id in cluster.ids { while !cluster.nodes[id]!.writes.isEmpty { cluster.persist(id) } }
            rejections += cluster.inFlight.filter { if case .appendRejected = $0.body { true } else { false } }.count
            cluster.deliver()
        }
        #expect(rejections <= 4, "a hint saves walking back one entry a message")
        cluster.stabilize()
        #expect(cluster[3].text == cluster[1].text)
    }

    /// Figure 8 of the paper: an entry of an earlier term is on a majority and is still lost.
    @Test func neverCommitsAnEntryOfAnEarlierTermByCounting() {
        let cluster = RaftCluster(5)
        cluster.elect(1)
        cluster.isolate(3, 4, 5)
        cluster.propose(1, "x")
        cluster.deliver(where: Self.isAppend)
        cluster.persist(NodeID(1))
        cluster.persist(NodeID(2))
        cluster.crash(NodeID(1))
        cluster.heal()
        cluster.drop { _ in true }
        // Node 5 leads without node 2 and appends an entry of its own that nobody gets.
        cluster.isolate(2)
        for id in [3, 4, 5] as [UInt64] { cluster.restart(id) }
        cluster.campaign(5)
        cluster.drainUntilLeader(5)
        cluster.persist(NodeID(5))
        #expect(cluster.core(5).role == .leader)
        cluster.crash(NodeID(5))
        cluster.drop { _ in true }
        // Node 1 is back, leads again, and brings the old entry to node 3: a majority holds it.
        cluster.heal()
        cluster.start(NodeID(1))
        for id in [2, 3, 4] as [UInt64] { cluster.restart(id) }
        // The first attempt only learns of the newer term.
        for _ in 0..<2 where cluster.core(1).role != .leader {
            cluster.campaign(1)
            cluster.drainUntilLeader(1)
        }
        #expect(cluster.core(1).role == .leader)
        let old = LogIndex(2)
        #expect(cluster.core(1).term(at: old)! < cluster.core(1).term)
        cluster.deliver { Self.isAppend($0) && ($0.to == NodeID(2) || $0.to == NodeID(3)) }
        #expect(cluster.core(1).commit < old)
        cluster.stabilize()
        #expect(cluster.core(1).commit > old, "an entry of the own term commits it with itself")
        #expect(cluster.violations.isEmpty, "\(cluster.violations)")
    }

    @Test func keepsEverythingAcknowledgedOverAFailover() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        for text in ["a", "b", "c"] { cluster.propose(1, text) }
        cluster.stabilize()
        cluster.crash(NodeID(1))
        cluster.run(ticks: 60)
        let leader = cluster.leaders.last!
        cluster.propose(leader.rawValue, "d")
        cluster.stabilize()
        cluster.start(NodeID(1))
        cluster.run(ticks: 10)
        #expect(cluster.ids.map { cluster.nodes[$0]!.text } == ["abcd", "abcd", "abcd"])
    }

    @Test func answersDroppedProposalsOnceOnStepDown() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.isolate(1)
        cluster.propose(1, "b")
        cluster.propose(1, "c")
        cluster.tick(1, count: 25)
        #expect(cluster.droppedTokens == [2, 3])
        #expect(cluster.committedTokens == [1])
        #expect(cluster[1].openTokens.isEmpty)
        #expect(cluster.propose(1, "d") == .notLeader(leader: nil))
        cluster.run(ticks: 40)
        cluster.heal()
        cluster.run(ticks: 40)
        #expect(cluster.droppedTokens == [2, 3])
        #expect(cluster.violations.isEmpty)
        let leader = cluster.leaders.last!
        #expect(cluster.nodes[leader]!.core!.leader == leader)
    }

    @Test func refusesWhenTooManyBytesWait() {
        let cluster = RaftCluster(3) { $0.uncommittedBytesMax = 200 }
        cluster.elect(1)
        cluster.isolate(1)
        let big = String(repeating: "x", count: 500)
        guard case .accepted = cluster.propose(1, big) else {
            Issue.record("the first proposal is taken, however large")
            return
        }
        #expect(cluster.propose(1, "y") == .overloaded)
        cluster.heal()
        cluster.run(ticks: 6)
        guard case .accepted = cluster.propose(1, "y") else {
            Issue.record("there is room again")
            return
        }
    }

    @Test func catchesUpAFollowerFromTheStore() {
        let cluster = RaftCluster(3) { configuration in
            configuration.recentBytesMax = 100
            configuration.messageBytesMax = 50
        }
        cluster.elect(1)
        cluster.isolate(3)
        for number in 0..<100 {
            cluster.propose(1, "entry \(number),")
            cluster.stabilize()
        }
        #expect(cluster[1].disk.state.withLock { $0.reads } == 0)
        cluster.heal()
        cluster.run(ticks: 10)
        #expect(cluster[3].text == cluster[1].text)
        #expect(cluster[1].disk.state.withLock { $0.reads } > 10)
    }

    @Test func stopsWhenTheStoreLostAnEntry() {
        let cluster = RaftCluster(3) { $0.recentBytesMax = 1 }
        cluster.elect(1)
        cluster.isolate(3)
        for _ in 0..<10 {
            cluster.propose(1, "a")
            cluster.stabilize()
        }
        cluster[1].disk.state.withLock { $0.entries.removeSubrange(2..<5) }
        cluster.heal()
        cluster.tick(1, count: 4)
        cluster.stabilize()
        #expect(cluster.violations.contains { $0.contains("hole") })
    }

    @Test func stopsWhenItsOwnLogLostWhatItAcknowledged() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.crash(NodeID(3))
        cluster[3].disk.state.withLock { state in
            state.entries = []
            state.applied = []
            state.commit = .zero
        }
        cluster.start(NodeID(3))
        cluster.tick(1, count: 2)
        cluster.stabilize()
        #expect(cluster.violations.contains { $0.contains("logLost") })
    }

    /// An entry is written, replaced, and written again: the first notice must not stand for the third write.
    @Test func ignoresAPersistedNoticeOfReplacedEntries() {
        let cluster = RaftCluster(3)
        let disk = cluster[1].disk
        func append(_ sender: UInt64, term: UInt64, entries: [LogEntry]) {
            let append = RaftMessage.Append(previousIndex: .zero, previousTerm: .zero, entries: entries, commit: .zero)
            cluster.deliver(
                RaftMessage(from: NodeID(sender), to: NodeID(1), term: Term(term), body: .append(append))
            )
        }
        func entry(_ index: UInt64, _ term: UInt64) -> LogEntry {
            LogEntry(index: LogIndex(index), term: Term(term), kind: .commands, payload: [UInt8(term)])
        }
        append(2, term: 2, entries: [entry(1, 2), entry(2, 2)])
        append(3, term: 3, entries: [entry(1, 3)])
        append(2, term: 4, entries: [entry(1, 2), entry(2, 2)])
        #expect(cluster[1].writes.count == 3)
        #expect(cluster.core(1).lastIndex == LogIndex(2))
        cluster.persist(NodeID(1))
        #expect(disk.holds(LogIndex(2), Term(2)))
        #expect(cluster.core(1).persistedIndex == .zero, "the disk will hold term 3 before it holds this again")
        cluster.persist(NodeID(1))
        #expect(cluster.core(1).persistedIndex == .zero)
        cluster.persist(NodeID(1))
        #expect(cluster.core(1).persistedIndex == LogIndex(2))
        #expect(disk.holds(LogIndex(2), Term(2)))
    }

    @Test func capsTheCommitOfHeartbeatsByWhatTheFollowerHas() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.heal()
        cluster.tick(1, count: 2)
        let commits = cluster.inFlight.compactMap { message -> LogIndex? in
            guard case .heartbeat(let heartbeat) = message.body, message.to == NodeID(3) else { return nil }
            return heartbeat.commit
        }
        #expect(commits == [LogIndex(1)])
    }

    @Test func ignoresMalformedAppends() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let last = cluster.core(2).lastIndex
        let entries = [
            LogEntry(index: LogIndex(2), term: Term(1), kind: .empty, payload: []),
            LogEntry(index: LogIndex(5), term: Term(1), kind: .empty, payload: []),
        ]
        let append = RaftMessage.Append(
            previousIndex: LogIndex(1),
            previousTerm: Term(1),
            entries: entries,
            commit: .zero
        )
        cluster.deliver(RaftMessage(from: NodeID(1), to: NodeID(2), term: Term(1), body: .append(append)))
        #expect(cluster.core(2).lastIndex == last)
    }

    @Test func holdsBackWhatTheApplierCannotTake() {
        let cluster = RaftCluster(1) { configuration in
            configuration.applyBacklogBytesMax = 1
            configuration.messageBytesMax = 1
        }
        cluster.elect(1)
        cluster.isApplyingByHand = true
        for _ in 0..<5 { cluster.propose(1, "a") }
        while !cluster[1].writes.isEmpty { cluster.persist(NodeID(1)) }
        #expect(cluster[1].toApply.count == 1)
        while !cluster[1].toApply.isEmpty { cluster.apply(NodeID(1)) }
        #expect(cluster[1].text == "aaaaa")
    }

    @Test func trapsWhenTheCallerAppliesWhatWasNotGivenOut() async {
        await #expect(processExitsWith: .failure) {
            let cluster = RaftCluster(1)
            cluster.change(NodeID(1)) { $0.applied(LogIndex(5)) }
        }
    }

    @Test func resendsAfterAnUnreachablePeerReturns() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        for _ in 0..<5 { cluster.propose(1, "a") }
        cluster.drop { $0.to == NodeID(3) }
        cluster.change(NodeID(1)) { $0.unreachable(NodeID(3)) }
        cluster.propose(1, "b")
        #expect(!cluster.inFlight.contains { $0.to == NodeID(3) && Self.isAppend($0) }, "nothing is sent into the void")
        cluster.run(ticks: 4)
        #expect(cluster[3].text == "aaaaab")
    }
}

extension RaftCluster {
    /// Makes a cut-off node hold `entries` entries of `term` that nobody else has, as if it had led then.
    func campaignAlone(_ id: UInt64, term: Term, entries count: Int) {
        self.crash(NodeID(id))
        self[id].disk.state.withLock { state in
            state.hardState = HardState(term: term, vote: NodeID(id))
            for _ in 0..<count {
                let index = state.last.next
                state.entries.append(LogEntry(index: index, term: term, kind: .commands, payload: [UInt8(ascii: "!")]))
            }
        }
        self.start(NodeID(id))
    }

    /// Lets an election run without delivering what the new leader sends.
    func drainUntilLeader(_ id: UInt64) {
        for _ in 0..<20 where self[id].core?.role != .leader {
            for other in self.ids where self.nodes[other]!.core != nil {
                while !self.nodes[other]!.writes.isEmpty, self[id].core?.role != .leader { self.persist(other) }
            }
            if self[id].core?.role != .leader { self.deliver() }
        }
    }

    func rejectionsSeen() -> Int {
        self.inFlight.filter { if case .appendRejected = $0.body { true } else { false } }.count
    }
}
