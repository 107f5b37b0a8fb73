internal import AuditLedger
internal import CoreMetrics

/// What signing checkpoints counts; labels come from closed sets.
struct CheckpointMetrics: Sendable {
    /// What must never happen.
    enum Alarm: String, CaseIterable {
        /// Two replicas have signed different heads of one size.
        case fork
        /// A replica stores something else than it signed.
        case contradiction
        /// A signature that names a node's key is not by it.
        case forgery
    }

    /// How asking a witness ended.
    enum WitnessOutcome: String, CaseIterable {
        case cosigned
        case conflict
        case unreachable
        case refused
    }

    private let registry: PrometheusRegistry
    let published: Counter
    let failedRounds: Counter

    init(registry: PrometheusRegistry) {
        self.registry = registry
        registry.describe("ft_checkpoint_published_total", "Checkpoints that a majority of replicas has signed.")
        registry.describe("ft_checkpoint_demands_failed_total", "Checkpoints on demand that did not come about.")
        registry.describe("ft_checkpoint_alarms_total", "Contradictions between heads; each must be looked into.")
        registry.describe("ft_witness_requests_total", "Checkpoints given to witnesses, by how it ended.")
        self.published = Counter(label: "ft_checkpoint_published_total", dimensions: [], factory: registry)
        self.failedRounds = Counter(label: "ft_checkpoint_demands_failed_total", dimensions: [], factory: registry)
        // A rule for alerts must find a zero, not nothing.
        for alarm in Alarm.allCases { self.counter(alarm).increment(by: 0) }
    }

    private func counter(_ alarm: Alarm) -> Counter {
        Counter(label: "ft_checkpoint_alarms_total", dimensions: [("kind", alarm.rawValue)], factory: self.registry)
    }

    func raised(_ alarm: Alarm) { self.counter(alarm).increment() }

    func witness(_ name: String, _ outcome: WitnessOutcome) {
        // Witnesses are those of the configuration: few.
        let dimensions = [("witness", name), ("outcome", outcome.rawValue)]
        Counter(label: "ft_witness_requests_total", dimensions: dimensions, factory: self.registry).increment()
    }

    /// Gauges that are asked for at each scrape.
    func observe(_ service: CheckpointService) {
        self.registry.sampledGauge(
            "ft_checkpoint_pending_organizations",
            help: "Organizations whose ledger has grown beyond the last checkpoint known here."
        ) { Double(service.status.pending) }
        self.registry.sampledGauge("ft_checkpoint_forks", help: "Fork proofs that this node stores.") {
            Double(service.status.forks)
        }
        self.registry.sampledGauge(
            "ft_checkpoint_contradictions",
            help: "Organizations of which this node stores something else than it signed."
        ) { Double(service.status.contradictions) }
    }

    /// Gauges of the witnesses.
    func observe(_ courier: WitnessCourier) {
        for (place, witness) in courier.witnesses.enumerated() {
            self.registry.sampledGauge(
                "ft_witness_pending_organizations",
                labels: [("witness", witness.key.name.description)],
                help: "Organizations led here whose newest checkpoint the witness has not cosigned."
            ) { Double(courier.status[place].pending) }
        }
    }
}
