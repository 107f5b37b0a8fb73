internal import Primitives
internal import Synchronization

/// How many erasures are asked for and not complete, in the groups that this node leads.
final class PendingErasures: Sendable {
    private let groups = Mutex<[GroupID: Int]>([:])

    init(registry: PrometheusRegistry) {
        registry.sampledGauge(
            "ft_erasures_pending",
            help: "Erasures in groups that this node leads whose keys not every replica has destroyed."
        ) { Double(self.total) }
    }

    func set(_ group: GroupID, _ count: Int) {
        self.groups.withLock { $0[group] = count == 0 ? nil : count }
    }

    var total: Int { self.groups.withLock { $0.values.reduce(0, +) } }
}
