internal import Testing

@testable internal import simulator

@Suite struct SimulationTests {
    /// A few of the seeds of `make sim`, for the quick gate.
    @Test(arguments: 1...24 as ClosedRange<UInt64>) func keepsEveryRule(seed: UInt64) {
        let outcome = Simulation.run(seed: seed, profile: .of(seed))
        #expect(outcome.violations.isEmpty, "simulator run --first \(seed) --seeds 1 --trace")
    }

    @Test(arguments: [3, 8, 14] as [UInt64]) func repeatsASeedExactly(seed: UInt64) {
        let first = Simulation.run(seed: seed, profile: .of(seed))
        let second = Simulation.run(seed: seed, profile: .of(seed))
        #expect(first.hash == second.hash && first.events == second.events, "seed \(seed)")
    }

    @Test func differsFromSeedToSeed() {
        let hashes = (1...6 as ClosedRange<UInt64>).map { Simulation.run(seed: $0, profile: .elections).hash }
        #expect(Set(hashes).count == 6)
    }

    /// Mistakes that end no process by an assertion and are found in the first seeds; `simulator faults` plants all.
    static let mistakes = [
        "vote-cleared-on-role-change", "older-term-committed", "rejection-counts-as-ack", "ack-before-disk",
        "vote-before-disk", "vote-forgotten-at-restart", "lost-quorum-ignored", "lease-ignored-by-voters",
        "apply-out-of-order", "chain-head-not-restored",
    ]

    @Test(arguments: mistakes) func findsADeliberateMistake(_ name: String) throws {
        let faults = try #require(PlantedFaults(named: name))
        let isFound = (1...12 as ClosedRange<UInt64>).contains { seed in
            !Simulation.run(seed: seed, profile: .of(seed), faults: faults).violations.isEmpty
        }
        #expect(isFound, "simulator run --fault \(name)")
    }

    @Test func knowsEveryMistakeByName() {
        #expect(PlantedFaults.names.count == 26)
        #expect(PlantedFaults.names.allSatisfy { PlantedFaults(named: $0) != nil })
        #expect(PlantedFaults(named: "no-such-mistake") == nil)
    }
}
