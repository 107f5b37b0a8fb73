internal import Consensus
internal import Primitives
internal import Testing

@Suite struct RaftTransferTests {
    @Test func handsOverToAFollowerThatIsCaughtUp() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let term = cluster.core(1).term
        #expect(cluster.transfer(1, to: 2))
        cluster.stabilize()
        #expect(cluster.leaders == [NodeID(2)])
        #expect(cluster.core(2).term == term.next, "without pre-vote, although the leader is heard")
        #expect(cluster.violations.isEmpty)
    }

    @Test func waitsUntilTheTargetHasCaughtUp() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.transfer(1, to: 3)
        #expect(cluster.core(1).transferee == NodeID(3))
        #expect(cluster.propose(1, "b") == .transferring)
        cluster.heal()
        cluster.run(ticks: 4)
        #expect(cluster.leaders == [NodeID(3)])
        #expect(cluster[3].text == "a")
    }

    @Test func refusesLearnersAndStrangers() {
        let cluster = RaftCluster(4, voters: 3, learners: [4])
        cluster.elect(1)
        #expect(!cluster.transfer(1, to: 4))
        #expect(!cluster.transfer(1, to: 9))
        #expect(!cluster.transfer(2, to: 1), "only a leader hands over")
        #expect(cluster.core(1).transferee == nil)
    }

    @Test func endsAfterOneElectionTimeout() {
        for (faults, isEnded) in [(CoreFaults(), true), (.transferWithoutEnd, false)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            cluster.isolate(3)
            cluster.transfer(1, to: 3)
            cluster.run(ticks: 11)
            #expect((cluster.propose(1, "a") != .transferring) == isEnded)
        }
    }

    /// hashicorp/raft 696: a transfer that step-down cut short must not outlive the leadership.
    @Test func diesWithLeadership() {
        for (faults, isServed) in [(CoreFaults(), true), (.transferKeptOverStepDown, false)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            cluster.isolate(1)
            cluster.transfer(1, to: 3)
            let later = RaftMessage.AppendRejection(previousIndex: .zero, hintIndex: .zero, hintTerm: .zero)
            cluster.change(NodeID(1)) { core in
                let term = core.term.next
                core.step(RaftMessage(from: NodeID(2), to: NodeID(1), term: term, body: .appendRejected(later)))
            }
            #expect(cluster.core(1).role != .leader)
            cluster.heal()
            for id in [2, 3] as [UInt64] { cluster.change(NodeID(id)) { $0.forgetLeader() } }
            cluster.elect(1)
            cluster.elect(1)
            #expect((cluster.propose(1, "a") != .transferring) == isServed)
        }
    }

    @Test func endsWhenTheTargetIsRemoved() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.changeMembership(1, [.remove(NodeID(3))])
        cluster.transfer(1, to: 3)
        cluster.stabilize()
        #expect(cluster.core(1).transferee == nil)
    }
}
