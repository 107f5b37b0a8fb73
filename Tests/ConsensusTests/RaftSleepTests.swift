internal import Consensus
internal import Primitives
internal import Testing

@Suite struct RaftSleepTests {
    private static func asleep() -> RaftCluster {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.run(ticks: 4)
        #expect(cluster.hibernate(1, live: [1, 2, 3]))
        cluster.stabilize()
        return cluster
    }

    @Test func sendsNothingWhileAsleep() {
        let cluster = Self.asleep()
        #expect(cluster.ids.allSatisfy { cluster.nodes[$0]!.core!.isAsleep })
        for id in cluster.ids { cluster.tick(id.rawValue, count: 200) }
        #expect(cluster.inFlight.isEmpty)
        #expect(cluster.leaders == [NodeID(1)])
    }

    @Test func staysAwakeWithWork() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.propose(1, "a")
        #expect(!cluster.hibernate(1, live: [1, 2]), "not committed")
        cluster.stabilize()
        #expect(!cluster.hibernate(1, live: [1, 2, 3]), "node 3 lacks an entry")
        #expect(!cluster.hibernate(1, live: [1]), "no majority is up")
        #expect(cluster.hibernate(1, live: [1, 2]), "a dead member does not hinder")
    }

    @Test func wakesForAProposal() {
        let cluster = Self.asleep()
        cluster.propose(1, "b")
        cluster.stabilize()
        #expect(cluster.ids.allSatisfy { cluster.nodes[$0]!.text == "ab" })
        #expect(cluster.ids.allSatisfy { !cluster.nodes[$0]!.core!.isAsleep })
    }

    @Test func wakesForAReadOfAFollower() {
        let cluster = Self.asleep()
        let read = cluster.read(2)
        cluster.stabilize()
        #expect(cluster.grantedReads[read] != nil)
    }

    @Test func wakesItsLeaderWhenItDoesNotAgree() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.run(ticks: 4)
        #expect(cluster.hibernate(1, live: [1, 2, 3]))
        // The message to node 3 names an index that it does not have.
        cluster.inFlight = cluster.inFlight.map { message in
            guard case .heartbeat(var heartbeat) = message.body, message.to == NodeID(3) else { return message }
            heartbeat.sleepAt = LogIndex(99)
            return RaftMessage(from: message.from, to: message.to, term: message.term, body: .heartbeat(heartbeat))
        }
        cluster.stabilize()
        #expect(cluster.ids.allSatisfy { !cluster.nodes[$0]!.core!.isAsleep })
    }

    @Test func ignoresAnswersFromBeforeItSlept() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.run(ticks: 3)
        cluster.tick(1)
        cluster.deliver()
        #expect(!cluster.inFlight.isEmpty)
        #expect(cluster.hibernate(1, live: [1, 2, 3]))
        cluster.stabilize()
        #expect(cluster.ids.allSatisfy { cluster.nodes[$0]!.core!.isAsleep })
    }

    @Test func electsAnotherWhenTheLeadersNodeIsSilent() {
        let cluster = Self.asleep()
        cluster.crash(NodeID(1))
        for id in [2, 3] as [UInt64] {
            cluster.change(NodeID(id)) { $0.wake() }
            #expect(cluster.core(id).leader == NodeID(1), "until its timeout")
        }
        cluster.run(ticks: 60)
        #expect(cluster.leaders.count == 1)
        #expect(cluster.violations.isEmpty)
    }

    /// One replica alone wakes up: its question whether it could be elected wakes the leader, which stays.
    @Test func keepsItsLeaderWhenAFollowerWakesAlone() {
        let cluster = Self.asleep()
        let term = cluster.core(1).term
        cluster.change(NodeID(3)) { $0.wake() }
        cluster.run(ticks: 40)
        #expect(cluster.leaders == [NodeID(1)])
        #expect(cluster.core(1).term == term)
    }

    @Test func findsASleepWithWork() {
        let cluster = RaftCluster(3, faults: .sleepsWithWork)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.propose(1, "a")
        #expect(cluster.hibernate(1, live: [1, 2, 3]))
        #expect(!cluster.violations.isEmpty)
    }
}
