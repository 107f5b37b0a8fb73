internal import Consensus
internal import Shards

/// Deliberate mistakes of the code under test, for runs that show that the simulator would find them.
struct PlantedFaults {
    var core: CoreFaults = []
    var applier: ApplierFaults = []

    /// No mistakes.
    init() {}

    /// - Returns: nil when no mistake has this name.
    init?(named name: String) {
        let known = CoreFaults.all + CoreFaults.further
        if let found = known.first(where: { $0.name == name }) {
            self.core = found.fault
        } else if let found = ApplierFaults.all.first(where: { $0.name == name }) {
            self.applier = found.fault
        } else {
            return nil
        }
    }

    /// The mistakes that must be found.
    static var names: [String] { CoreFaults.all.map(\.name) + ApplierFaults.all.map(\.name) }
}
