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

    private static let narrow = Self.allCases.filter { $0 != .wide }

    /// The profile of a seed when nobody chooses one: every third run is a wide one, the narrow ones take turns.
    static func of(_ seed: UInt64) -> Self {
        if seed % 3 == 0 { return .wide }
        let place = seed / 3 * 2 + seed % 3 - 1
        return Self.narrow[Int(place % UInt64(Self.narrow.count))]
    }
}
