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
        var committed = 0
        var dropped = 0
        var crashes = 0
        var reads = 0
        var highestTerm = Term.zero
        for seed in Self.seeds.prefix(20) {
            var chaos = RaftChaos(seed: seed)
            _ = chaos.run(steps: 2_500)
            committed += chaos.cluster.committedTokens.count
            dropped += chaos.cluster.droppedTokens.count
            crashes += chaos.crashes
            for node in chaos.cluster.nodes.values {
                highestTerm = max(highestTerm, node.lastTerm)
                reads += node.disk.state.withLock { $0.reads }
            }
        }
        #expect(committed > 200 && dropped > 10 && crashes > 100 && reads > 50 && highestTerm > Term(5))
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
        var faults: CoreFaults = []
        var isForgettingVotes = false
        var testDescription: String { self.name }
    }

    static let mistakes = [
        Mistake(name: "vote cleared on role change", faults: .voteClearedOnRoleChange),
        Mistake(name: "older term committed by counting", faults: .olderTermCommitted),
        Mistake(name: "rejection counted as acknowledgement", faults: .rejectionCountsAsAck),
        Mistake(name: "stale append cuts the tail", faults: .staleAppendCutsTail),
        Mistake(name: "index compared before term", faults: .indexComparedBeforeTerm),
        Mistake(name: "votes and acknowledgements before the disk", faults: .promisesBeforeDisk),
        Mistake(name: "own acknowledgement before the disk", faults: .ownAckBeforeDisk),
        Mistake(name: "heartbeat commit not capped", faults: .heartbeatCommitNotCapped),
        Mistake(name: "messages of older terms taken", faults: .olderTermsTaken),
        Mistake(name: "own last index acknowledged", faults: .ackOfOwnLastIndex),
        Mistake(name: "dropped proposals forgotten", faults: .droppedProposalsForgotten),
        Mistake(name: "vote forgotten at restart", isForgettingVotes: true),
    ]

    /// Seeds that a mistake is given; most are found in the first few.
    static let seedsToFind: UInt64 = 300

    @Test(arguments: mistakes) func findsEveryDeliberateMistake(_ mistake: Mistake) {
        for seed in 1...Self.seedsToFind {
            var chaos = RaftChaos(seed: seed, faults: mistake.faults, isForgettingVotes: mistake.isForgettingVotes)
            if chaos.run(steps: 3_000) { return }
            chaos.heal()
            if !chaos.cluster.violations.isEmpty { return }
        }
        Issue.record("\(mistake.name) was not found in \(Self.seedsToFind) seeds")
    }
}
