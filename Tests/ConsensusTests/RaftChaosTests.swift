internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftChaosTests {
    static let seeds = 1...60 as ClosedRange<UInt64>

    @Test(arguments: seeds) func keepsEveryRuleAndHeals(seed: UInt64) {
        var chaos = RaftChaos(seed: seed)
        _ = chaos.run(steps: 2_500)
        if chaos.cluster.violations.isEmpty { chaos.heal() }
        #expect(chaos.cluster.violations.isEmpty, "seed \(seed): \(chaos.cluster.violations)")
    }

    @Test func comesToInterestingStates() {
        var counts = (committed: 0, dropped: 0, crashes: 0, reads: 0, granted: 0, changes: 0, installs: 0, sleeps: 0)
        var highestTerm = Term.zero
        for seed in Self.seeds.prefix(25) {
            var chaos = RaftChaos(seed: seed)
            _ = chaos.run(steps: 2_500)
            counts.committed += chaos.cluster.committedTokens.count
            counts.dropped += chaos.cluster.droppedTokens.count
            counts.granted += chaos.cluster.grantedReads.count
            counts.crashes += chaos.crashes
            counts.changes += chaos.changes
            counts.installs += chaos.cluster.installs
            counts.sleeps += chaos.sleeps
            for node in chaos.cluster.nodes.values {
                highestTerm = max(highestTerm, node.lastTerm)
                counts.reads += node.disk.state.withLock { $0.reads }
            }
        }
        #expect(counts.committed > 200 && counts.dropped > 10 && counts.crashes > 100, "\(counts)")
        #expect(counts.reads > 50 && counts.granted > 50 && counts.changes > 20, "\(counts)")
        #expect(counts.installs > 10 && counts.sleeps > 2 && highestTerm > Term(5), "\(counts)")
    }

    @Test func repeatsARunExactly() {
        func trace(_ seed: UInt64) -> [LogEntry] {
            var chaos = RaftChaos(seed: seed)
            _ = chaos.run(steps: 1_500)
            return chaos.cluster.ids.flatMap { chaos.cluster.nodes[$0]!.applied }
        }
        for seed in 1...5 as ClosedRange<UInt64> { #expect(trace(seed) == trace(seed), "seed \(seed)") }
    }

    struct Mistake: Sendable, CustomTestStringConvertible {
        let name: String
        let fault: CoreFaults
        var testDescription: String { self.name }
    }

    /// Those that need a rare course of events have tests of their own, and are the simulator's to find.
    static let rare: CoreFaults = [
        .campaignWithUnappliedMembership, .olderAcksTaken, .ackOfOwnLastIndex, .earlierSessionsTaken,
        .votesForFormerLife,
    ]
    static let mistakes = (CoreFaults.all + CoreFaults.further).filter { rare.isDisjoint(with: $0.fault) }
        .map { Mistake(name: $0.name, fault: $0.fault) }

    /// Where the search begins for those that are not found within a few seeds, to keep the test short.
    static let seedsNear: [String: UInt64] = [
        "vote-cleared-on-role-change": 44, "joint-vote-by-one-half": 23, "read-before-own-term-commit": 57,
        "index-compared-before-term": 33, "vote-forgotten-at-restart": 66, "older-appends-taken": 38,
    ]

    /// Seeds that a mistake is given; most are found in the first few.
    static let seedsToFind: UInt64 = 200

    @Test(arguments: mistakes) func findsEveryDeliberateMistake(_ mistake: Mistake) {
        let near = Self.seedsNear[mistake.name] ?? 1
        for seed in near...near + Self.seedsToFind {
            var chaos = RaftChaos(seed: seed, faults: mistake.fault, isLarge: seed % 2 == 0)
            if chaos.run(steps: 3_000) { return }
            chaos.heal()
            if !chaos.cluster.violations.isEmpty { return }
        }
        Issue.record("\(mistake.name) was not found in \(Self.seedsToFind) seeds")
    }
}
