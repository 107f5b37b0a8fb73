internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftSnapshotTests {
    private static func isOffer(_ message: RaftMessage) -> Bool {
        if case .snapshot = message.body { true } else { false }
    }

    /// Node 3 lacks what the leader has compacted.
    private static func lagging(faults: CoreFaults = []) -> RaftCluster {
        let cluster = RaftCluster(3, faults: faults)
        cluster.elect(1)
        cluster.isolate(3)
        for text in ["a", "b", "c", "d"] { cluster.propose(1, text) }
        cluster.stabilize()
        cluster.compact(NodeID(1), through: cluster.core(1).appliedIndex)
        cluster.isInstallingByHand = true
        cluster.heal()
        return cluster
    }

    @Test func bringsALaggingFollowerUpByAnOffer() {
        let cluster = Self.lagging()
        cluster.tick(1, count: 2)
        cluster.stabilize()
        #expect(cluster[3].install != nil)
        let progress = cluster.core(1).replicas.first { $0.node == NodeID(3) }
        #expect(progress?.state == .snapshot)
        cluster.propose(1, "e")
        cluster.stabilize()
        #expect(cluster[3].text.isEmpty, "nothing but the offer is sent meanwhile")
        cluster.isInstallingByHand = false
        cluster.run(ticks: 4)
        #expect(cluster[3].text == "abcde")
        #expect(cluster.core(3).firstIndex > LogIndex(1))
        #expect(cluster.violations.isEmpty, "\(cluster.violations)")
    }

    @Test func offersAgainWhatWasLost() {
        let cluster = Self.lagging()
        var isDropped = false
        for _ in 0..<12 where !isDropped {
            cluster.tick(1)
            for _ in 0..<4 {
                if cluster.inFlight.contains(where: Self.isOffer) { isDropped = true }
                cluster.drop(where: Self.isOffer)
                cluster.deliver()
                for id in cluster.ids { while !cluster.nodes[id]!.writes.isEmpty { cluster.persist(id) } }
            }
        }
        #expect(isDropped)
        cluster.isInstallingByHand = false
        cluster.run(ticks: 4)
        #expect(cluster[3].text == "abcd")
    }

    @Test func startsAnotherInstallAfterAFailure() {
        let cluster = Self.lagging()
        cluster.run(ticks: 2)
        #expect(cluster.core(3).isInstalling)
        cluster.change(NodeID(3)) { $0.snapshotFailed() }
        cluster[3].install = nil
        #expect(!cluster.core(3).isInstalling)
        cluster.isInstallingByHand = false
        cluster.run(ticks: 4)
        #expect(cluster[3].text == "abcd")
    }

    @Test func doesNotStandWhileItInstalls() {
        let cluster = Self.lagging()
        cluster.run(ticks: 2)
        cluster.campaign(3)
        #expect(cluster.core(3).role == .follower)
    }

    @Test func goesOnAfterACrashBetweenInstallAndReset() {
        let cluster = Self.lagging()
        cluster.run(ticks: 2)
        cluster.install(NodeID(3), crashesBeforeReset: true)
        #expect(cluster.core(3).appliedIndex == cluster.core(1).appliedIndex)
        cluster.isInstallingByHand = false
        cluster.propose(1, "e")
        cluster.run(ticks: 10)
        #expect(cluster[3].text == "abcde")
        #expect(cluster[3].disk.state.withLock { $0.base } > .zero)
        #expect(cluster.violations.isEmpty, "\(cluster.violations)")
    }

    @Test func ignoresAnOfferThatItDoesNotNeed() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        let mark = SnapshotMark(index: LogIndex(1), term: Term(1), membership: cluster.core(1).membership)
        let offer = RaftMessage.SnapshotOffer(mark: mark)
        cluster.deliver(RaftMessage(from: NodeID(1), to: NodeID(2), term: Term(1), body: .snapshot(offer)))
        #expect(cluster[2].install == nil)
        let acks = cluster.inFlight.compactMap { message -> LogIndex? in
            if case .appendAccepted(let acceptance) = message.body { acceptance.match } else { nil }
        }
        #expect(acks == [LogIndex(2)], "what is committed here is told instead")
    }

    @Test func learnsACommitFromAnOfferOfWhatItHas() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.deliver { $0.to == NodeID(2) }
        while !cluster[2].writes.isEmpty { cluster.persist(NodeID(2)) }
        #expect(cluster.core(2).commit == LogIndex(1))
        let mark = SnapshotMark(index: LogIndex(2), term: Term(1), membership: cluster.core(1).membership)
        cluster.stabilize()
        cluster.deliver(
            RaftMessage(
                from: NodeID(1),
                to: NodeID(2),
                term: Term(1),
                body: .snapshot(RaftMessage.SnapshotOffer(mark: mark))
            )
        )
        #expect(cluster.core(2).commit == LogIndex(2) && cluster[2].install == nil)
    }

    @Test func answersStaleInstallsByNothing() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        let before = cluster.core(2).lastIndex
        cluster.change(NodeID(2)) {
            $0.snapshotInstalled(SnapshotMark(index: LogIndex(1), term: Term(1), membership: $0.membership))
        }
        #expect(cluster.core(2).lastIndex == before)
    }

    @Test func answersAppendsThatLieBeforeItsBase() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        for text in ["a", "b", "c"] { cluster.propose(1, text) }
        cluster.stabilize()
        let entries = (1...4 as ClosedRange<UInt64>).compactMap { cluster.core(1).entry(at: LogIndex($0)) }
        cluster.compact(NodeID(2), through: LogIndex(3))
        let append = RaftMessage.Append(previousIndex: .zero, previousTerm: .zero, entries: entries, commit: .zero)
        cluster.deliver(RaftMessage(from: NodeID(1), to: NodeID(2), term: Term(1), body: .append(append)))
        #expect(cluster.core(2).lastIndex == LogIndex(4))
        #expect(cluster.violations.isEmpty)
    }

    @Test func trapsWhenMoreIsCompactedThanApplied() async {
        await #expect(processExitsWith: .failure) {
            let cluster = RaftCluster(1)
            cluster.elect(1)
            cluster.change(NodeID(1)) { $0.compact(through: LogIndex(9)) }
        }
    }

    @Test func keepsTermsOverCompactionAndTruncation() {
        var terms = TermRuns()
        for term in [1, 1, 2, 2, 2, 5] as [UInt64] { terms.append(Term(term)) }
        terms.compact(through: LogIndex(4))
        #expect(terms.term(at: LogIndex(3)) == nil && terms.term(at: LogIndex(4)) == Term(2))
        #expect(terms.term(at: LogIndex(5)) == Term(2) && terms.lastTerm == Term(5))
        #expect(terms.lastIndex(atOrBefore: LogIndex(6), termAtMost: Term(2)) == LogIndex(5))
        #expect(terms.lastIndex(atOrBefore: LogIndex(6), termAtMost: Term(1)) < LogIndex(4))
        terms.truncate(from: LogIndex(5))
        #expect(terms.last == LogIndex(4) && terms.lastTerm == Term(2))
        terms.append(Term(7))
        #expect(terms.term(at: LogIndex(5)) == Term(7))
    }
}
