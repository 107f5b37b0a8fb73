internal import Consensus

/// Deliberate mistakes of the code under test, for runs that show that the simulator would find them.
struct PlantedFaults {
    var core: CoreFaults = []
}
