internal import ArgumentParser
internal import Consensus

/// Runs seeds one after the other until one fails.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run seeds; says how a failing one can be seen again."
    )

    @Option(help: "How many seeds to run.")
    var seeds: UInt64 = 100

    @Option(help: "The first seed.")
    var first: UInt64 = 1

    @Option(help: "Draw from one part of the space only: \(SimulationPlan.Profile.names).")
    var profile: String?

    @Option(help: "Plant a deliberate mistake; «simulator faults --list» names them.")
    var fault: String?

    @Option(help: "Begin no further seed after so many events; 0 for no limit.")
    var events = 0

    @Option(help: ArgumentHelp("Seconds of processor time after which the process ends.", visibility: .hidden))
    var processorSeconds: UInt64?

    @Flag(help: "Print every event.")
    var trace = false

    @Flag(help: "Go on after a seed that failed.")
    var keepGoing = false

    @Flag(help: "Print only what failed.")
    var quiet = false

    /// A run of at least so many seeds must have seen every interesting event.
    static let seedsForCoverage: UInt64 = 200
    /// One seed in so many is run twice, to see that both runs are the same.
    private static let repeatEvery: UInt64 = 25

    func run() throws {
        let chosen = try self.chosenProfile
        let faults = try self.plantedFaults
        if let seconds = self.processorSeconds { ProcessorLimit.set(seconds) }
        var coverage = Coverage()
        var events = 0
        var failures = 0
        let start = ContinuousClock.now  // ambient-ok: how long the run took, for the user
        for seed in self.first..<(self.first + self.seeds) {
            if self.events > 0, events >= self.events { break }
            let profile = chosen ?? SimulationPlan.Profile.of(seed)
            TrapReport.arm(self.replay(seed))
            let outcome = Simulation.run(seed: seed, profile: profile, faults: faults, isTracing: self.trace)
            coverage.add(outcome.coverage)
            events += outcome.events
            if !outcome.violations.isEmpty {
                self.report(seed, outcome.violations)
                failures += 1
                if !self.keepGoing { throw ExitCode.failure }
            }
            if seed % Self.repeatEvery == 0, !self.trace {
                let again = Simulation.run(seed: seed, profile: profile, faults: faults)
                if again.hash != outcome.hash {
                    self.report(seed, ["determinism: two runs of the seed differ"])
                    throw ExitCode.failure
                }
            }
        }
        if failures > 0 {
            print("\(failures) of \(self.seeds) seeds failed")
            throw ExitCode.failure
        }
        if self.quiet { return }
        let seconds = (ContinuousClock.now - start) / .seconds(1)  // ambient-ok: as above
        let tenths = Int(seconds * 10)
        print("\(self.seeds) seeds, \(events) events in \(tenths / 10).\(tenths % 10) s,", terminator: " ")
        print("\(Int(Double(self.seeds) / max(seconds, 0.001))) seeds/s; every rule held")
        print(coverage.table)
        try self.checkCoverage(coverage, profile: chosen, faults: faults)
    }

    private var chosenProfile: SimulationPlan.Profile? {
        get throws {
            guard let name = self.profile else { return nil }
            guard let profile = SimulationPlan.Profile(rawValue: name) else {
                throw ValidationError("there is no profile «\(name)», but \(SimulationPlan.Profile.names)")
            }
            return profile
        }
    }

    private var plantedFaults: PlantedFaults {
        get throws {
            guard let name = self.fault else { return PlantedFaults() }
            guard let faults = PlantedFaults(named: name) else { throw ValidationError("there is no fault «\(name)»") }
            return faults
        }
    }

    private func replay(_ seed: UInt64) -> String {
        let profile = self.profile.map { " --profile \($0)" } ?? ""
        let fault = self.fault.map { " --fault \($0)" } ?? ""
        return "simulator run --first \(seed) --seeds 1\(profile)\(fault) --trace"
    }

    private func report(_ seed: UInt64, _ violations: [String]) {
        print("seed \(seed) failed")
        for violation in violations { print("  \(violation)") }
        print("see it again: \(self.replay(seed))")
    }

    private func checkCoverage(
        _ coverage: Coverage,
        profile: SimulationPlan.Profile?,
        faults: PlantedFaults
    ) throws {
        guard self.seeds >= Self.seedsForCoverage, profile == nil, self.fault == nil else { return }
        let missing = coverage.missing
        guard !missing.isEmpty else { return }
        print("never happened: \(missing.map(\.rawValue).joined(separator: ", "))")
        throw ExitCode.failure
    }
}
