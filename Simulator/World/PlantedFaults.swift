internal import Consensus

/// Deliberate mistakes of the code under test, for runs that show that the simulator would find them.
struct PlantedFaults {
    var core: CoreFaults = []

    /// No mistakes.
    init() {}

    /// - Returns: nil when no mistake has this name.
    init?(named name: String) {
        let known = CoreFaults.all + CoreFaults.further
        guard let found = known.first(where: { $0.name == name }) else { return nil }
        self.core = found.fault
    }

    /// The mistakes that must be found.
    static var names: [String] { CoreFaults.all.map(\.name) }
}
