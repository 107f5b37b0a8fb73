internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftReadTests {
    private static func isHeartbeat(_ message: RaftMessage) -> Bool {
        if case .heartbeat = message.body { true } else { false }
    }

    @Test func servesReadsOfLeaderAndFollowersWithoutEntries() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        let last = cluster.core(1).lastIndex
        let reads = [1, 2, 3].map { cluster.read($0) }
        cluster.stabilize()
        for read in reads { #expect(cluster.grantedReads[read] == last) }
        #expect(cluster.core(1).lastIndex == last)
    }

    @Test func sharesOneRoundAmongAllThatWait() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.change(NodeID(1)) { core in
            for token in 100..<140 as Range<UInt64> { core.readIndex(token: token) }
        }
        for token in 100..<140 as Range<UInt64> { cluster[1].openReads[token] = .zero }
        cluster.ready(NodeID(1))
        #expect(cluster.inFlight.filter(Self.isHeartbeat).count == 2)
        cluster.stabilize()
        #expect(cluster.grantedReads.count == 40)
    }

    @Test func waitsForACommitOfItsOwnTerm() {
        for (faults, isServed) in [(CoreFaults(), false), (.readBeforeOwnTermCommit, true)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.campaign(1)
            cluster.drainUntilLeader(1)
            let read = cluster.read(1)
            cluster.deliver(where: Self.isHeartbeat)
            for id in [2, 3] as [UInt64] { while !cluster[id].writes.isEmpty { cluster.persist(NodeID(id)) } }
            cluster.deliver { if case .heartbeatResponse = $0.body { true } else { false } }
            #expect((cluster.grantedReads[read] != nil) == isServed)
            cluster.stabilize()
            #expect(cluster.grantedReads[read] != nil)
        }
    }

    @Test func failsReadsAtOnceWhenLeadershipIsLost() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(1)
        let read = cluster.read(1)
        cluster.tick(1, count: 25)
        #expect(cluster.droppedReads.contains(read))
        let late = cluster.read(1)
        #expect(cluster.droppedReads.contains(late), "nobody leads")
    }

    /// etcd 20418: a late answer of an earlier round must not release a later read.
    @Test func countsOnlyAnswersToItsOwnBeatOrLater() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.tick(1, count: 2)
        cluster.deliver(where: Self.isHeartbeat)
        let old = cluster.inFlight
        cluster.drop { _ in true }
        let read = cluster.read(1)
        cluster.drop { _ in true }
        for message in old { cluster.deliver(message) }
        #expect(cluster.grantedReads[read] == nil, "the answers are older than the read")
        cluster.run(ticks: 2)
        #expect(cluster.grantedReads[read] != nil)
    }

    @Test func givesUpForwardedReadsThatGetNoAnswer() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        let read = cluster.read(2)
        cluster.drop { _ in true }
        cluster.run(ticks: 9)
        #expect(!cluster.droppedReads.contains(read))
        cluster.run(ticks: 2)
        #expect(cluster.droppedReads.contains(read))
        #expect(cluster.grantedReads[read] == nil)
    }

    @Test func refusesMoreReadsThanMayWait() {
        let cluster = RaftCluster(3) { $0.readsWaitingMax = 2 }
        cluster.elect(1)
        cluster.isolate(1)
        let reads = (0..<3).map { _ in cluster.read(1) }
        #expect(cluster.droppedReads == [reads[2]])
    }

    // MARK: - Leases

    private static func leased(_ count: Int = 3) -> RaftCluster {
        let cluster = RaftCluster(count) { configuration in
            configuration.leaseReads = true
            configuration.leaseDriftTicks = 2
        }
        cluster.elect(1)
        return cluster
    }

    @Test func readsUnderALeaseWithoutMessages() {
        let cluster = Self.leased()
        let read = cluster.read(1)
        #expect(cluster.grantedReads[read] != nil)
        #expect(cluster.inFlight.isEmpty)
    }

    @Test func endsALeaseByTheTimeThatPassed() {
        let cluster = Self.leased()
        cluster.change(NodeID(1)) { $0.tick(elapsed: 8) }
        #expect(!cluster.core(1).isLeaseHeld)
        let read = cluster.read(1)
        #expect(cluster.grantedReads[read] == nil)
        cluster.stabilize()
        #expect(cluster.grantedReads[read] != nil, "a round of heartbeats takes its place")
        #expect(cluster.core(1).isLeaseHeld, "and renews it")
    }

    @Test func givesALeaseUpForATransfer() {
        let cluster = Self.leased()
        cluster.transfer(1, to: 2)
        #expect(!cluster.core(1).isLeaseHeld)
        cluster.drop { _ in true }
        cluster.run(ticks: 12)
        #expect(cluster.core(1).transferee == nil)
        #expect(!cluster.core(1).isLeaseHeld, "the message may still be on its way")
    }

    @Test func holdsToALeaderAfterARestart() {
        let cluster = Self.leased()
        cluster.restart(2)
        cluster.restart(3)
        cluster.isolate(1)
        cluster.campaign(2)
        cluster.stabilize()
        #expect(cluster.core(2).role == .follower, "its first life may have promised to hear only the leader")
        cluster.run(ticks: 40)
        #expect(cluster.leaders.contains { $0 != NodeID(1) })
        #expect(cluster.violations.isEmpty)
    }
}
