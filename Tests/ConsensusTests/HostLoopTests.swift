internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Consensus

@Suite struct HostLoopTests {
    private let group = GroupID(0)

    // MARK: - Many groups

    @Test func appliesAllGroupsThatWaitInOneCall() throws {
        let cluster = try HostLoopCluster(1, groups: 20)
        try cluster.elect(1)
        let before = cluster[1].applier.state.withLock { $0.calls }
        let answers = cluster.groups.map { cluster.propose("a\($0)", to: $0, on: 1) }
        try cluster.pump()
        #expect(answers.allSatisfy { $0.value != nil })
        #expect(cluster[1].applier.state.withLock { $0.calls } == before + 1)
        #expect(cluster[1].applier.state.withLock { $0.violations }.isEmpty)
    }

    @Test func sendsOneBatchToAPeerForAllGroups() throws {
        let cluster = try HostLoopCluster(3, groups: 50)
        try cluster.elect(1)
        for group in cluster.groups { _ = cluster.propose("x", to: group, on: 1) }
        cluster[1].loop.turn(&cluster[1].inbox)
        let batches = cluster[1].loop.output.outbox.batches.filter { !$0.messages.isEmpty }
        #expect(batches.map(\.to) == [NodeID(2), NodeID(3)])
        #expect(batches.allSatisfy { $0.messages.count == 50 })
        #expect(cluster[1].loop.output.writes.count == 50)
    }

    @Test func givesTheSameOutputForTheSameInput() throws {
        func run() throws -> [HostMessage] {
            let cluster = try HostLoopCluster(3, groups: 7)
            try cluster.elect(1)
            var all: [HostMessage] = []
            for round in 0..<20 {
                for group in cluster.groups { _ = cluster.propose("\(round)", to: group, on: 1) }
                if round == 10 { cluster.order(.transferAll(HostLoopCluster.Answer<Int>().waiter), on: 1) }
                try cluster.tick()
                all += cluster.seen
            }
            return all
        }
        #expect(try run() == run())
    }

    // MARK: - Sleep

    private func sleepingCluster(_ count: Int = 3, groups: Int = 1, wakesPerTick: Int = 256) throws -> HostLoopCluster {
        let cluster = try HostLoopCluster(count, groups: groups) {
            $0.hibernateTicks = 10
            $0.wakesPerTickMax = wakesPerTick
        }
        try cluster.elect(1)
        for group in cluster.groups { _ = cluster.propose("first", to: group, on: 1) }
        try cluster.tick(30)
        return cluster
    }

    private func asleep(_ cluster: HostLoopCluster, _ node: UInt64) -> Int {
        cluster.groups.count { cluster[node].loop.core(of: $0)?.isAsleep ?? false }
    }

    @Test func sleepsWhenNothingHappensAndCostsNothingButBeats() throws {
        let cluster = try self.sleepingCluster(groups: 10)
        for node in UInt64(1)...3 {
            #expect(self.asleep(cluster, node) == 10)
            #expect(cluster[node].loop.awake.isEmpty)
        }
        let sent = cluster.nodes.map(\.sent)
        let beats = cluster.nodes.map(\.beats)
        try cluster.tick(100)
        #expect(cluster.nodes.map(\.sent) == sent, "a sleeping group says nothing")
        let interval = cluster.configuration.heartbeatTicks
        #expect(zip(cluster.nodes.map(\.beats), beats).allSatisfy { $0 - $1 == 2 * 100 / interval })
        #expect(self.asleep(cluster, 2) == 10)
    }

    /// Whoever plans by the status would wait for ever for a group that sleeps with replicas that seem silent.
    @Test(arguments: 1...24) func sleepsWithAllReplicasKnownToBeActive(hibernateTicks: Int) throws {
        let cluster = try HostLoopCluster(3) { $0.hibernateTicks = hibernateTicks }
        try cluster.elect(1)
        _ = cluster.propose("first", on: 1)
        try cluster.tick(60)
        #expect(self.asleep(cluster, 1) == 1)
        let status = try #require(cluster[1].loop.replica(of: self.group)?.status)
        #expect(status.replicas.count == 3)
        #expect(status.replicas.allSatisfy { $0.isRecentlyActive && $0.lag == 0 }, "\(status.replicas)")
    }

    @Test func wakesForAProposalAReadAndAMessage() throws {
        let cluster = try self.sleepingCluster()
        let answer = cluster.propose("again", on: 1)
        try cluster.tick(5)
        #expect(answer.value == Array("done again".utf8))
        try cluster.tick(40)
        #expect(self.asleep(cluster, 3) == 1)
        let read = cluster.read(on: 3)
        try cluster.tick(3)
        #expect(read.value != nil)
        #expect(cluster[3].applier.commands(of: self.group) == ["first", "again"])
    }

    @Test func aDeadMemberDoesNotHinderSleepAndIsBroughtUpWhenItIsBack() throws {
        let cluster = try HostLoopCluster(3) { $0.hibernateTicks = 10 }
        try cluster.elect(1)
        cluster.cut = [NodeID(3)]
        try cluster.tick(25)
        let answer = cluster.propose("without three", on: 1)
        try cluster.tick(60)
        #expect(answer.value != nil)
        #expect(self.asleep(cluster, 1) == 1)
        #expect(self.asleep(cluster, 2) == 1)
        cluster.cut = []
        try cluster.tick(60)
        #expect(cluster[3].applier.commands(of: self.group) == ["without three"])
    }

    @Test func groupsOfALostNodeWakeAFewAtATime() throws {
        let cluster = try self.sleepingCluster(groups: 40, wakesPerTick: 4)
        cluster.cut = [NodeID(1)]
        var most = 0
        for _ in 0..<cluster.configuration.electionTicks * 6 {
            let before = self.asleep(cluster, 2)
            try cluster.tick()
            most = max(most, before - self.asleep(cluster, 2))
        }
        #expect(most > 0)
        let led = cluster.groups.filter { group in
            [2, 3].contains { cluster[$0].loop.core(of: group)?.role == .leader }
        }
        #expect(led.count == 40)
    }

    @Test func aRestartedLeaderIsMissedAtOnce() throws {
        let cluster = try self.sleepingCluster()
        try cluster.restart(1)
        try cluster.tick(3)
        #expect(self.asleep(cluster, 2) == 0, "another epoch wakes those that slept in the node's care")
        try cluster.tick(80)
        let leaders = cluster.nodes.filter { $0.loop.core(of: self.group)?.role == .leader }
        #expect(leaders.count == 1)
    }

    // MARK: - Replicas that come and go

    private func learner(_ node: UInt64) -> MembershipChange { MembershipChange([.addLearner(NodeID(node))]) }

    @Test func aNewReplicaComesBySnapshotAndThenFollowsTheLog() throws {
        let cluster = try HostLoopCluster(4, members: 3)
        try cluster.elect(1)
        _ = cluster.propose("a", on: 1)
        try cluster.tick(3)
        #expect(cluster[4].loop.groups.isEmpty)
        let answer = cluster.change(self.learner(4), on: 1)
        try cluster.tick(5)
        #expect(answer.value?.learners == [NodeID(4)])
        #expect(cluster[4].loop.groups == [self.group])
        #expect(cluster[4].offers.count == 1)
        try cluster.install(on: 4)
        _ = cluster.propose("b", on: 1)
        try cluster.tick(10)
        #expect(cluster[4].applier.commands(of: self.group) == ["a", "b"])
        #expect(cluster[4].loop.replica(of: self.group)?.appliedMark.membership.learners == [NodeID(4)])
        // It goes on after a restart.
        try cluster.restart(4)
        _ = cluster.propose("c", on: 1)
        try cluster.tick(10)
        #expect(cluster[4].applier.commands(of: self.group) == ["a", "b", "c"])
        #expect(cluster[4].applier.state.withLock { $0.violations }.isEmpty)
    }

    @Test func aRestartBetweenTheSwitchAndTheResetOfTheLogGoesOn() throws {
        let cluster = try HostLoopCluster(4, members: 3)
        try cluster.elect(1)
        _ = cluster.propose("a", on: 1)
        _ = cluster.change(self.learner(4), on: 1)
        try cluster.tick(5)
        let mark = cluster[1].loop.replica(of: self.group)!.appliedMark
        cluster[4].applier.install(["a"], of: self.group, mark)
        try cluster.restart(4)
        try cluster.tick(3)
        _ = cluster.propose("b", on: 1)
        try cluster.tick(40)
        #expect(cluster[4].applier.commands(of: self.group) == ["a", "b"])
        try cluster.restart(4)
        #expect(cluster[4].loop.core(of: self.group)?.firstIndex == mark.index.next)
    }

    @Test func aRemovedReplicaLeavesATombstoneAndComesBackOnlyWhenItIsAddedAgain() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        _ = cluster.propose("a", on: 1)
        try cluster.tick(5)
        let term = cluster[3].loop.core(of: self.group)!.term
        _ = cluster.change(MembershipChange([.remove(NodeID(3))]), on: 1)
        try cluster.tick(10)
        #expect(cluster[3].loop.groups.isEmpty)
        #expect(cluster[3].removed == [self.group])
        #expect(cluster[3].applier.state.withLock { $0.discarded } == [self.group])
        let tombstones = try cluster[3].loop.parts.store.tombstones()
        #expect(tombstones.map(\.group) == [self.group])
        #expect(tombstones.first?.hardState.term == term)
        // A late message of its first life, and a vote request, do not bring it back; nor does a restart.
        let beat = RaftMessage.Heartbeat(session: .zero, beat: 9, commit: .zero)
        let late = RaftMessage(from: NodeID(1), to: NodeID(3), term: term, body: .heartbeat(beat))
        cluster[3].inbox.messages.append((NodeID(1), [.raft(GroupMessage(group: self.group, message: late))]))
        try cluster.pump()
        #expect(cluster[3].loop.groups.isEmpty)
        try cluster.restart(3)
        try cluster.tick(2)
        #expect(cluster[3].loop.groups.isEmpty)
        // Added again it is a new replica, that remembers its term and vote.
        _ = cluster.change(self.learner(3), on: 1)
        try cluster.tick(5)
        #expect(cluster[3].loop.groups == [self.group])
        #expect(cluster[3].loop.core(of: self.group)!.term >= term)
        try cluster.install(on: 3)
        try cluster.tick(5)
        #expect(cluster[3].applier.commands(of: self.group) == ["a"])
        #expect(try cluster[3].loop.parts.store.tombstones().isEmpty)
    }

    @Test func aReplicaThatMissedItsRemovalLearnsOfItFromThoseItAsksForVotes() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        cluster.cut = [NodeID(3)]
        _ = cluster.change(MembershipChange([.remove(NodeID(3))]), on: 1)
        try cluster.tick(10)
        #expect(cluster[3].loop.groups == [self.group])
        cluster.cut = []
        try cluster.tick(3 * cluster.configuration.electionTicks)
        #expect(cluster[3].loop.groups.isEmpty)
        #expect(cluster[1].loop.core(of: self.group)?.role == .leader, "nobody was disturbed")
    }

    @Test func aTombstoneTellsACandidateThatTheRemovalIsCommitted() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        _ = cluster.change(MembershipChange([.remove(NodeID(3))]), on: 1)
        try cluster.tick(10)
        try cluster.restart(3)
        let tombstone = try #require(try cluster[3].loop.parts.store.tombstones().first)
        #expect(tombstone.committed.index >= tombstone.removedAt)
        // A candidate that still counts the replica, and does not know of the commit.
        let request = RaftMessage.VoteRequest(lastIndex: LogIndex(2), lastTerm: Term(1), commit: LogIndex(1))
        let message = RaftMessage(from: NodeID(2), to: NodeID(3), term: Term(9), body: .preVoteRequest(request))
        cluster[3].inbox.messages.append((NodeID(2), [.raft(GroupMessage(group: self.group, message: message))]))
        cluster[3].loop.turn(&cluster[3].inbox)
        let answers = cluster[3].loop.output.outbox.batches.first { $0.to == NodeID(2) }?.messages ?? []
        let expected = RaftMessage.answerOfRemoved(
            to: message,
            index: tombstone.committed.index,
            term: tombstone.committed.term
        )!
        #expect(answers == [.raft(GroupMessage(group: self.group, message: expected))])
        #expect(cluster[3].loop.groups.isEmpty)
    }

    @Test func anOldNoticeDoesNotRemoveAReplicaThatWasAddedAgain() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        _ = cluster.change(MembershipChange([.remove(NodeID(3))]), on: 1)
        try cluster.tick(5)
        let removedAt = try #require(try cluster[3].loop.parts.store.tombstones().first?.removedAt)
        _ = cluster.change(self.learner(3), on: 1)
        try cluster.tick(5)
        try cluster.install(on: 3)
        cluster[3].inbox.messages.append((NodeID(2), [.removed(RemovalNotice(group: self.group, index: removedAt))]))
        try cluster.tick(2)
        #expect(cluster[3].loop.groups == [self.group])
    }

    // MARK: - Compaction

    @Test func cutsItsLogUpToWhatIsDurableAndBringsTheLaggingBySnapshot() throws {
        let cluster = try HostLoopCluster(3) {
            $0.logTailEntries = 8
            $0.logTailEntriesMax = 20
            $0.recentBytesMax = 1
        }
        try cluster.elect(1)
        cluster.cut = [NodeID(3)]
        cluster[1].applier.state.withLock { $0.durable[self.group] = LogIndex(30) }
        for number in 0..<60 {
            _ = cluster.propose("\(number)", on: 1)
            try cluster.tick()
        }
        let leader = cluster[1].loop.core(of: self.group)!
        #expect(leader.firstIndex > LogIndex(8))
        #expect(leader.firstIndex <= LogIndex(31), "what is not durable in the state stays in the log")
        cluster[1].applier.state.withLock { $0.durable[self.group] = nil }
        try cluster.tick(40)
        #expect(cluster[1].loop.core(of: self.group)!.firstIndex > LogIndex(31))
        cluster.cut = []
        try cluster.tick(10)
        #expect(cluster[3].offers.count == 1)
        try cluster.install(on: 3)
        try cluster.tick(10)
        #expect(cluster[3].applier.commands(of: self.group).count == 60)
        #expect(cluster[3].applier.state.withLock { $0.violations }.isEmpty)
        // Cut logs start again where they begin.
        for node in UInt64(1)...3 {
            let first = cluster[node].loop.core(of: self.group)!.firstIndex
            try cluster.restart(node)
            #expect(cluster[node].loop.core(of: self.group)!.firstIndex == first)
        }
        let answer = Self.later(cluster)
        try cluster.tick(100)
        #expect(answer() != nil)
    }

    /// A command on whoever leads later.
    private static func later(_ cluster: HostLoopCluster) -> () -> [UInt8]? {
        {
            for node in UInt64(1)...3 where cluster[node].loop.core(of: GroupID(0))?.role == .leader {
                let answer = cluster.propose("late", on: node)
                try? cluster.tick(3)
                return answer.value
            }
            return nil
        }
    }

    @Test func keepsATailForAReplicaThatIsALittleBehind() {
        var configuration = RaftConfiguration()
        configuration.logTailEntries = 100
        configuration.logTailEntriesMax = 1_000
        configuration.logTailBytes = 1 << 20
        configuration.logTailBytesMax = 2 << 20
        let tail = LogTail()
        func cut(_ slowest: UInt64?, last: UInt64 = 2_000, durable: UInt64 = 2_000) -> UInt64? {
            tail.cut(
                first: LogIndex(1),
                last: LogIndex(last),
                durable: LogIndex(durable),
                slowest: slowest.map { LogIndex($0) },
                configuration: configuration
            )?.rawValue
        }
        #expect(cut(nil) == 1_900)
        #expect(cut(1_950) == 1_900)
        #expect(cut(1_500) == 1_500)
        #expect(cut(10) == 1_900, "too far behind: a snapshot is cheaper than the log")
        #expect(cut(nil, durable: 500) == 400)
        #expect(cut(nil, durable: 105) == nil, "a cut that is not worth a write")
    }

    @Test func boundsTheBytesOfTheTail() {
        var configuration = RaftConfiguration()
        configuration.logTailEntries = 100
        configuration.logTailBytes = 1_000
        configuration.logTailBytesMax = 2_000
        var tail = LogTail()
        for index in 1...50 as ClosedRange<UInt64> {
            let payload = [UInt8](repeating: 0, count: 100 - LogEntry.overheadBytes)
            let entry = LogEntry(index: LogIndex(index), term: Term(1), kind: .commands, payload: payload)
            tail.wrote([entry], configuration: configuration)
        }
        func cut(_ slowest: UInt64?, durable: UInt64 = 50) -> UInt64? {
            tail.cut(
                first: LogIndex(1),
                last: LogIndex(50),
                durable: LogIndex(durable),
                slowest: slowest.map { LogIndex($0) },
                configuration: configuration
            )?.rawValue
        }
        #expect(tail.mayCut(first: LogIndex(1), last: LogIndex(50), configuration: configuration))
        #expect(cut(nil) == 40)
        #expect(cut(nil, durable: 30) == 30, "what is not durable in the state stays")
        #expect(cut(35) == 35)
        #expect(cut(20) == 40, "3,000 bytes are too much to keep for one")
        tail.compacted(through: LogIndex(40))
        #expect(!tail.mayCut(first: LogIndex(41), last: LogIndex(50), configuration: configuration))
    }

    @Test func cutsFewEntriesWhenTheyAreLarge() {
        var configuration = RaftConfiguration()
        configuration.logTailBytes = 16_000
        var tail = LogTail()
        var (first, kept, largest) = (UInt64(1), 0, 0)
        for index in 1...200 as ClosedRange<UInt64> {
            let payload = [UInt8](repeating: 0, count: 1_000 - LogEntry.overheadBytes)
            let entry = LogEntry(index: LogIndex(index), term: Term(1), kind: .commands, payload: payload)
            tail.wrote([entry], configuration: configuration)
            kept += 1_000
            let cut = tail.cut(
                first: LogIndex(first),
                last: LogIndex(index),
                durable: LogIndex(index),
                slowest: nil,
                configuration: configuration
            )
            if let cut {
                #expect(cut.rawValue > first, "a cut that is not worth a write")
                tail.compacted(through: cut)
                kept -= Int(cut.rawValue + 1 - first) * 1_000
                first = cut.rawValue + 1
            }
            largest = max(largest, kept)
        }
        #expect(largest <= 19_000, "200 entries are far fewer than the tail may have, but not their bytes")
    }

    // MARK: - Leadership

    @Test func commandsThatWaitDuringATransferLearnTheNewLeader() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        let done = HostLoopCluster.Answer<Void>()
        cluster.order(.transfer(self.group, to: NodeID(2), done.waiter), on: 1)
        let waiting = cluster.propose("meanwhile", on: 1)
        try cluster.tick(5)
        #expect(done.value != nil)
        #expect(cluster[2].loop.core(of: self.group)?.role == .leader)
        #expect(waiting.code == .notLeader(leader: NodeID(2)))
        #expect(waiting.count.withLock { $0 } == 1)
    }

    @Test func aTransferThatDoesNotComeAboutLetsCommandsGoOn() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        cluster.cut = [NodeID(2)]
        let done = HostLoopCluster.Answer<Void>()
        cluster.order(.transfer(self.group, to: NodeID(2), done.waiter), on: 1)
        let waiting = cluster.propose("meanwhile", on: 1)
        try cluster.tick(cluster.configuration.electionTicks + 5)
        #expect(done.code == .notTransferred)
        #expect(waiting.value == Array("done meanwhile".utf8))
    }

    @Test func handsAllGroupsOnBeforeAStop() throws {
        let cluster = try HostLoopCluster(3, groups: 12)
        try cluster.elect(1)
        let left = HostLoopCluster.Answer<Int>()
        cluster.order(.transferAll(left.waiter), on: 1)
        try cluster.tick(10)
        #expect(left.value == 0)
        let led = [UInt64(2), 3].map { node in
            cluster.groups.count { cluster[node].loop.core(of: $0)?.role == .leader }
        }
        #expect(led == [6, 6], "equals share the groups")
    }

    /// Two nodes that stop, each held up by a group that nobody takes over: a third group must not go to and fro meanwhile.
    @Test func nodesThatAllStopHandAGroupOnOnceEach() throws {
        let cluster = try HostLoopCluster(3, groups: 3)
        try cluster.elect(1)
        cluster.order(.transfer(GroupID(2), to: NodeID(2), HostLoopCluster.Answer<Void>().waiter), on: 1)
        try cluster.tick(5)
        #expect(cluster[2].loop.core(of: GroupID(2))?.role == .leader)
        cluster.isLost = { message in
            guard case .raft(let item) = message, case .timeoutNow = item.message.body else { return false }
            return item.group != GroupID(0)
        }
        let before = cluster[1].loop.core(of: self.group)?.term.rawValue ?? 0
        let answers = [UInt64(1), 2, 3].map { _ in HostLoopCluster.Answer<Int>() }
        for node in [UInt64(1), 2, 3] { cluster.order(.transferAll(answers[Int(node) - 1].waiter), on: node) }
        try cluster.tick(3 * cluster.configuration.electionTicks + 1)
        let after = cluster.nodes.compactMap { $0.loop.core(of: self.group)?.term.rawValue }.max() ?? 0
        #expect(after > before && after <= before + 3, "from term \(before) to \(after)")
        #expect(answers.allSatisfy { $0.value != nil }, "everybody may stop")
        #expect(answers.reduce(0) { $0 + ($1.value ?? 0) } == 3, "each group is led by one of them")
    }

    @Test func anEntryOfALostLeadershipIsAnsweredWhenTheNextLeaderCommitsIt() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        // The append reaches node 2, its answer does not come back in time.
        let answer = cluster.propose("kept", on: 1)
        cluster[1].loop.turn(&cluster[1].inbox)
        let output = cluster[1].loop.output
        cluster[1].loop.clearOutput()
        try cluster[1].loop.parts.store.write(output.writes.compactMap(\.write))
        cluster[1].loop.persisted(output.writes)
        let toTwo = output.outbox.batches.first { $0.to == NodeID(2) }!
        cluster.cut = [NodeID(1)]
        cluster[2].inbox.messages.append((NodeID(1), toTwo.messages))
        try cluster.pump()
        // Node 2 is elected; node 1 comes back before its patience ends.
        for _ in 0..<100 where cluster[2].loop.core(of: self.group)?.role != .leader {
            cluster[2].inbox.ticks = 1
            cluster[3].inbox.ticks = 1
            try cluster.pump()
            cluster.order(.campaign(self.group), on: 2)
        }
        cluster.cut = []
        try cluster.tick(8)
        #expect(answer.value == Array("done kept".utf8))
    }

    @Test func anEntryWhosePlaceWasTakenIsSurelyNotApplied() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        cluster.cut = [NodeID(1)]
        let answer = cluster.propose("lost", on: 1)
        try cluster.pump()
        for _ in 0..<100 where cluster[2].loop.core(of: self.group)?.role != .leader {
            cluster[2].inbox.ticks = 1
            cluster[3].inbox.ticks = 1
            try cluster.pump()
            cluster.order(.campaign(self.group), on: 2)
        }
        _ = cluster.propose("other", on: 2)
        try cluster.pump()
        cluster.cut = []
        try cluster.tick(8)
        #expect(answer.code == .notLeader(leader: NodeID(2)))
        #expect(cluster[1].applier.commands(of: self.group) == ["other"])
    }

    @Test func anEntryOfUnknownFateIsAnsweredAfterAnElectionTimeout() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        cluster.cut = [NodeID(1)]
        let answer = cluster.propose("unknown", on: 1)
        try cluster.tick(4 * cluster.configuration.electionTicks)
        #expect(answer.code == .outcomeUnknown)
        #expect(answer.count.withLock { $0 } == 1)
    }

    // MARK: - Reads

    @Test func oneRoundServesAllReadsThatWait() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        let reads = (0..<50).map { _ in cluster.read(on: 1) } + (0..<50).map { _ in cluster.read(on: 2) }
        let sent = cluster.nodes.reduce(0) { $0 + $1.sent }
        try cluster.pump()
        #expect(reads.allSatisfy { $0.value != nil })
        #expect(cluster.nodes.reduce(0) { $0 + $1.sent } - sent <= 12)
    }

    @Test func readsFailWithTheLeadership() throws {
        let cluster = try HostLoopCluster(3)
        try cluster.elect(1)
        cluster.cut = [NodeID(1)]
        let read = cluster.read(on: 1)
        try cluster.tick(3 * cluster.configuration.electionTicks)
        guard case .notLeader = read.code else {
            Issue.record("the read ended with \(String(describing: read.code))")
            return
        }
    }
}
