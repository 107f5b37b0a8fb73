/// One seed from beginning to end.
enum Simulation {
    struct Outcome {
        /// What was broken; empty when nothing was.
        let violations: [String]
        let coverage: Coverage
        /// Equal for two runs of the same seed.
        let hash: UInt64
        let events: Int
    }

    static func run(
        seed: UInt64,
        profile: SimulationPlan.Profile,
        faults: PlantedFaults = PlantedFaults(),
        isTracing: Bool = false
    ) -> Outcome {
        let plan = SimulationPlan(seed: seed, profile: profile)
        let world = World(plan: plan, faults: faults, isTracing: isTracing)
        let violations = world.run()
        return Outcome(
            violations: violations,
            coverage: world.coverage,
            hash: world.trace.hash,
            events: world.eventsHandled
        )
    }
}

extension SimulationPlan.Profile {
    static var names: String { Self.allCases.map(\.rawValue).joined(separator: ", ") }

    /// The profile of a seed when nobody chooses one: every second run is a wide one.
    static func of(_ seed: UInt64) -> Self {
        if seed % 2 == 0 { return .wide }
        return Self.allCases[Int(seed / 2 % UInt64(Self.allCases.count))]
    }
}
