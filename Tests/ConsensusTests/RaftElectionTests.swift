internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftElectionTests {
    @Test func electsOneLeaderWithinTwoTimeouts() {
        for seed in 1...20 as ClosedRange<UInt64> {
            let cluster = RaftCluster(3, seed: seed)
            cluster.run(ticks: 40)
            #expect(cluster.leaders.count == 1, "seed \(seed)")
            #expect(cluster.violations.isEmpty, "seed \(seed): \(cluster.violations)")
        }
    }

    @Test func appendsOneEmptyEntryAsANewLeader() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        #expect(cluster.core(1).role == .leader)
        #expect(cluster.core(1).lastIndex == LogIndex(1))
        #expect(cluster[2].applied.map(\.kind) == [.empty])
        #expect(cluster.core(3).commit == LogIndex(1), "a leader pushes a new commit index at once")
    }

    @Test func leadsAloneOnlyAfterItsDisk() {
        let cluster = RaftCluster(1)
        cluster.campaign(1)
        #expect(cluster.core(1).role == .candidate)
        cluster.persist(NodeID(1))
        #expect(cluster.core(1).role == .leader)
        #expect(cluster.core(1).commit == .zero)
        cluster.propose(1, "a")
        #expect(cluster.core(1).commit == .zero)
        cluster.stabilize()
        #expect(cluster[1].text == "a")
        #expect(cluster.violations.isEmpty)
    }

    @Test func keepsALeaderWhenAPartitionedNodeReturns() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let term = cluster.core(1).term
        cluster.isolate(3)
        cluster.run(ticks: 100)
        #expect(cluster.core(3).term == term, "pre-vote keeps the term of a node that hears nobody")
        cluster.heal()
        cluster.run(ticks: 30)
        #expect(cluster.leaders == [NodeID(1)])
        #expect(cluster.core(1).term == term)
        #expect(cluster.core(3).leader == NodeID(1))
    }

    @Test func ignoresCandidatesWhileALeaderIsHeard() {
        for (faults, isDisturbed) in [(CoreFaults(), false), (.leaseIgnoredByVoters, true)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            let term = cluster.core(1).term
            let request = RaftMessage.VoteRequest(lastIndex: LogIndex(9), lastTerm: Term(9))
            let body = RaftMessage.Body.voteRequest(request)
            cluster.deliver(RaftMessage(from: NodeID(3), to: NodeID(2), term: term.next, body: body))
            #expect((cluster.core(2).term > term) == isDisturbed)
        }
    }

    @Test func stepsDownWithoutAMajority() {
        for (faults, leads) in [(CoreFaults(), false), (.lostQuorumIgnored, true)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            cluster.isolate(1)
            cluster.tick(1, count: 25)
            #expect((cluster.core(1).role == .leader) == leads)
        }
    }

    @Test func keepsOneVoteATermOverRoleChanges() {
        let cluster = RaftCluster(3)
        cluster.campaign(1)
        cluster.persist(NodeID(1))
        cluster.stabilize()
        let term = cluster.core(1).term
        // The leader loses its majority and becomes a follower of the same term: its vote stays its own.
        cluster.isolate(1)
        cluster.tick(1, count: 25)
        #expect(cluster.core(1).role != .leader)
        #expect(cluster.core(1).hardState == HardState(term: term, vote: NodeID(1)))
    }

    @Test func keepsItsVoteOverARestart() {
        let cluster = RaftCluster(3)
        cluster.isolate(3)
        cluster.elect(1)
        let vote = cluster[2].disk.state.withLock { $0.hardState }
        #expect(vote.vote == NodeID(1))
        cluster.restart(2)
        let request = RaftMessage.VoteRequest(lastIndex: LogIndex(9), lastTerm: vote.term)
        cluster.heal()
        cluster.deliver(
            RaftMessage(from: NodeID(3), to: NodeID(2), term: vote.term, body: .voteRequest(request))
        )
        cluster.persist(NodeID(2))
        let grants = cluster.inFlight.filter { $0.isGrant }
        #expect(grants.isEmpty)
        #expect(cluster.core(2).hardState == vote)
    }

    @Test func sendsAVoteOnlyWhenItIsDurable() {
        let cluster = RaftCluster(3)
        cluster.campaign(1)
        cluster.deliver()
        for id in cluster.ids.dropFirst() { cluster.persist(id) }
        cluster.deliver { if case .preVoteResponse = $0.body { true } else { false } }
        cluster.deliver { if case .voteRequest = $0.body { true } else { false } }
        #expect(!cluster.inFlight.contains { $0.isGrant }, "no vote leaves before the disk")
        cluster.persist(NodeID(2))
        #expect(cluster.inFlight.map(\.isGrant) == [true])
        cluster.deliver()
        #expect(cluster.core(1).role == .candidate, "its own vote is not durable yet")
        cluster.persist(NodeID(1))
        #expect(cluster.core(1).role == .leader)
    }

    @Test func refusesCandidatesWithAnOlderLog() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.crash(NodeID(1))
        cluster.heal()
        cluster.tick(2, count: 10)
        cluster.campaign(3)
        cluster.stabilize()
        #expect(cluster.core(3).role != .leader)
        cluster.elect(2)
        #expect(cluster.core(2).role == .leader)
        #expect(cluster[3].text == "a")
    }

    @Test func ignoresMessagesForOthersAndAnswersOfStrangers() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let before = cluster.core(1).hardState
        let heartbeat = RaftMessage.Body.heartbeat(RaftMessage.Heartbeat(commit: .zero))
        let beyond = RaftMessage.AppendAcceptance(match: LogIndex(1))
        cluster.isolate(2, 3)
        cluster.propose(1, "a")
        let commit = cluster.core(1).commit
        cluster.change(NodeID(1)) { core in
            core.step(RaftMessage(from: NodeID(2), to: NodeID(3), term: Term(7), body: heartbeat))
            core.step(RaftMessage(from: NodeID(1), to: NodeID(1), term: Term(7), body: heartbeat))
            core.step(RaftMessage(from: NodeID(9), to: NodeID(1), term: before.term, body: .appendAccepted(beyond)))
        }
        #expect(cluster.core(1).hardState == before)
        #expect(cluster.core(1).commit == commit)
    }

    /// The end of the log was not durable when the candidate asked: a vote given to it must not count in a later life.
    @Test func ignoresAVoteForALogThatACrashTookAway() {
        let cluster = RaftCluster(3)
        cluster.campaign(1)
        cluster.persist(NodeID(1))
        for id in [2, 3] as [UInt64] { cluster.persist(NodeID(id)) }
        cluster.deliver()
        cluster.drop { _ in true }
        cluster.campaign(1)
        for _ in 0..<4 where cluster.core(1).role != .candidate {
            cluster.deliver()
            for id in [2, 3] as [UInt64] { while !cluster[id].writes.isEmpty { cluster.persist(NodeID(id)) } }
        }
        #expect(cluster.core(1).role == .candidate)
        let term = cluster.core(1).term
        while !cluster[1].writes.isEmpty { cluster.persist(NodeID(1)) }
        for (last, role) in [(LogIndex(9), RaftRole.candidate), (.zero, .leader)] {
            let answer = RaftMessage.VoteAnswer(isGranted: true, lastIndex: last, lastTerm: .zero)
            cluster.deliver(RaftMessage(from: NodeID(2), to: NodeID(1), term: term, body: .voteResponse(answer)))
            #expect(cluster.core(1).role == role)
        }
    }

    @Test func leadsOnlyOnceItsOwnTermIsDurable() {
        let cluster = RaftCluster(3)
        cluster.campaign(1)
        for _ in 0..<6 {
            cluster.deliver()
            for id in [2, 3] as [UInt64] { while !cluster[id].writes.isEmpty { cluster.persist(NodeID(id)) } }
        }
        #expect(cluster.core(1).role == .candidate, "two votes of others are a majority, but its term is not durable")
        while !cluster[1].writes.isEmpty { cluster.persist(NodeID(1)) }
        #expect(cluster.core(1).role == .leader)
    }

    @Test func waitsLongerWithALowerPriority() {
        for priority in [0, 1, 4] {
            for seed in 1...20 as ClosedRange<UInt64> {
                let cluster = RaftCluster(3, seed: seed) { $0.electionPriority = priority }
                let timeout = cluster.core(1).electionTimeout
                #expect((10 + priority * 5..<20 + priority * 5).contains(timeout), "seed \(seed)")
            }
        }
    }

    @Test func keepsASetTimeoutUntilTheRoleChanges() {
        let cluster = RaftCluster(3) { $0.preVote = false }
        cluster.change(NodeID(1)) { $0.setElectionTimeout(3) }
        cluster.tick(1, count: 2)
        #expect(cluster.core(1).role == .follower)
        cluster.tick(1)
        #expect(cluster.core(1).role == .candidate)
        #expect(cluster.core(1).electionTimeout >= 10)
    }

    @Test func votesAfterItForgotItsLeader() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.change(NodeID(2)) { $0.forgetLeader() }
        cluster.isolate(1)
        cluster.campaign(3)
        cluster.stabilize()
        #expect(cluster.leaders.contains(NodeID(3)))
        #expect(cluster.violations.isEmpty)
    }

    @Test func countsAMissedQuorumByTicksNotByElapsedTime() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(1)
        cluster.change(NodeID(1)) { $0.tick(elapsed: 1_000) }
        #expect(cluster.core(1).role == .leader, "a pause of the process is one tick")
        cluster.tick(1, count: 25)
        #expect(cluster.core(1).role == .follower)
    }
}

extension RaftMessage {
    var isGrant: Bool {
        if case .voteResponse(let answer) = self.body { answer.isGranted } else { false }
    }
}
