internal import Consensus
internal import CoreMetrics
internal import Primitives
internal import Shards

/// The node's own metrics; labels come from closed sets.
struct NodeMetrics: Sendable {
    private let registry: PrometheusRegistry
    private let requestSeconds: Timer
    private let recordsAppended: Counter
    private let recordsReplayed: Counter
    private let batchRecords: Recorder

    init(registry: PrometheusRegistry) {
        self.registry = registry
        registry.describe("ft_api_request_seconds", "Time from a request's last byte to its answer.")
        registry.describe("ft_api_requests_total", "Answered requests by status.")
        registry.describe("ft_api_problems_total", "Refused requests by problem code.")
        registry.describe("ft_ledger_records_appended_total", "Records appended for clients of this node.")
        registry.describe("ft_ledger_records_replayed_total", "Records answered again by idempotency key.")
        registry.describe("ft_ledger_batch_records", "Records of one append.")
        self.requestSeconds = Timer(label: "ft_api_request_seconds", dimensions: [], factory: registry)
        self.recordsAppended = Counter(label: "ft_ledger_records_appended_total", dimensions: [], factory: registry)
        self.recordsReplayed = Counter(label: "ft_ledger_records_replayed_total", dimensions: [], factory: registry)
        self.batchRecords = Recorder(
            label: "ft_ledger_batch_records",
            dimensions: [],
            aggregate: true,
            factory: registry
        )
    }

    func answered(_ status: Int, after duration: Duration) {
        self.requestSeconds.recordNanoseconds(
            duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
        )
        Counter(label: "ft_api_requests_total", dimensions: [("status", String(status))], factory: self.registry)
            .increment()
    }

    func refused(_ code: Problem.Code) {
        Counter(label: "ft_api_problems_total", dimensions: [("code", code.rawValue)], factory: self.registry)
            .increment()
    }

    func appended(_ receipt: AppendReceipt) {
        let counter = receipt.isReplay ? self.recordsReplayed : self.recordsAppended
        counter.increment(by: receipt.checksums.count)
        self.batchRecords.record(receipt.checksums.count)
    }

    /// Gauges that are asked for at each scrape.
    func observe(_ host: RaftHost, groups: [GroupID], _ projector: Projector) {
        let registry = self.registry
        for group in groups {
            let labels = [("group", group.description)]
            func gauge(_ name: String, _ help: String, _ value: @escaping @Sendable (GroupStatus) -> Double) {
                registry.sampledGauge(name, labels: labels, help: help) {
                    host.status(of: group).map(value) ?? 0
                }
            }
            gauge("ft_raft_term", "The group's term.") { Double($0.term.rawValue) }
            gauge("ft_raft_commit_index", "The last committed entry.") { Double($0.commit.rawValue) }
            gauge("ft_raft_applied_index", "The last applied entry.") { Double($0.applied.rawValue) }
            gauge("ft_raft_is_leader", "1 when this node leads the group.") { $0.role == .leader ? 1 : 0 }
            gauge("ft_raft_has_leader", "1 when this node knows a leader of the group.") { $0.leader == nil ? 0 : 1 }
        }
        registry.sampledGauge("ft_projector_records", help: "Records projected since the start.") {
            Double(projector.counters.records)
        }
        registry.sampledGauge("ft_projector_batches", help: "Batches projected since the start.") {
            Double(projector.counters.batches)
        }
        registry.sampledGauge("ft_projector_failures", help: "Failures of columnar stores since the start.") {
            Double(projector.counters.failures)
        }
    }

    func render() -> String { self.registry.render() }
}
