internal import Consensus
internal import CoreMetrics
internal import Primitives
internal import Shards
internal import Synchronization

/// The node's own metrics; labels come from closed sets.
struct NodeMetrics: Sendable {
    private let registry: PrometheusRegistry
    private let requestSeconds: Timer
    private let recordsAppended: Counter
    private let recordsReplayed: Counter
    private let batchRecords: Recorder
    private let elections: Counter
    private let leaderships: Counter
    private let answers = StatusCounters()

    init(registry: PrometheusRegistry) {
        self.registry = registry
        HeapStatistics.observe(in: registry)
        registry.describe("ft_api_request_seconds", "Time from a request's last byte to its answer.")
        registry.describe("ft_api_requests_total", "Answered requests by status.")
        registry.describe("ft_api_problems_total", "Refused requests by problem code.")
        registry.describe("ft_ledger_records_appended_total", "Records appended for clients of this node.")
        registry.describe("ft_ledger_records_replayed_total", "Records answered again by idempotency key.")
        registry.describe("ft_ledger_batch_records", "Records of one append.")
        registry.describe("ft_raft_elections_total", "Times that a replica of this node stood for election.")
        registry.describe("ft_raft_leaderships_total", "Times that a replica of this node became leader.")
        self.elections = Counter(label: "ft_raft_elections_total", dimensions: [], factory: registry)
        self.leaderships = Counter(label: "ft_raft_leaderships_total", dimensions: [], factory: registry)
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
        self.answers.counter(of: status, in: self.registry).increment()
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

    /// Counts what a group on this node has become.
    func leadershipChanged(_ change: LeadershipChange) {
        switch change.role {
        case .leader: self.leaderships.increment()
        case .candidate: self.elections.increment()
        case .follower, .preCandidate: break
        }
    }

    /// Groups that have gauges of their own; beyond it the sums must do.
    static let groupsMax = 128

    /// Gauges of a replica that is on this node now or was.
    func observe(_ group: GroupID, on host: RaftHost) {
        guard group.rawValue < UInt32(Self.groupsMax) else { return }
        let labels = [("group", group.description)]
        func gauge(_ name: String, _ help: String, _ value: @escaping @Sendable (GroupStatus) -> Double) {
            self.registry.sampledGauge(name, labels: labels, help: help) { host.status(of: group).map(value) ?? 0 }
        }
        gauge("ft_raft_term", "The group's term.") { Double($0.term.rawValue) }
        gauge("ft_raft_commit_index", "The last committed entry.") { Double($0.commit.rawValue) }
        gauge("ft_raft_applied_index", "The last applied entry.") { Double($0.applied.rawValue) }
        gauge("ft_raft_log_entries", "Entries that the log still has.") {
            Double($0.last.rawValue + 1 - min($0.first.rawValue, $0.last.rawValue + 1))
        }
        gauge("ft_raft_is_leader", "1 when this node leads the group.") { $0.role == .leader ? 1 : 0 }
        gauge("ft_raft_has_leader", "1 when this node knows a leader of the group.") { $0.leader == nil ? 0 : 1 }
    }

    /// Gauges that are asked for at each scrape.
    func observe(_ host: RaftHost, _ projector: Projector) {
        let registry = self.registry
        for status in host.status() { self.observe(status.group, on: host) }
        func sum(_ name: String, _ help: String, _ counts: @escaping @Sendable (GroupStatus) -> Bool) {
            registry.sampledGauge(name, help: help) { Double(host.status().count(where: counts)) }
        }
        sum("ft_raft_groups", "Groups with a replica on this node.") { _ in true }
        sum("ft_raft_groups_led", "Groups that this node leads.") { $0.role == .leader }
        sum("ft_raft_groups_leaderless", "Groups of which this node knows no leader.") {
            $0.leader == nil && !$0.membership.voters.isEmpty
        }
        sum("ft_raft_groups_asleep", "Groups without work, which send no heartbeats.") { $0.isAsleep }
        sum("ft_raft_groups_changing", "Groups whose membership is joint.") { $0.membership.isJoint }
        sum("ft_raft_snapshots_installing", "Replicas of this node that fetch a snapshot.") { $0.isInstalling }
        registry.sampledGauge(
            "ft_raft_lag_entries_max",
            help: "Entries by which the slowest replica of a led group is behind."
        ) {
            Double(host.status().flatMap(\.replicas).map(\.lag).max() ?? 0)
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

    /// Gauges of the node's clock and of the cluster manager.
    func observe(_ queries: RunningQueries) {
        self.registry.sampledGauge("ft_queries_running", help: "Statements that run or whose rows are read.") {
            Double(queries.counts.running)
        }
        self.registry.sampledGauge("ft_queries_waiting", help: "Statements that wait for a place.") {
            Double(queries.counts.waiting)
        }
    }

    func observe(_ clocks: ClockWatch, _ manager: ClusterManager) {
        self.registry.sampledGauge(
            "ft_clock_offset_seconds",
            help: "How far this node's clock is ahead of the median of all nodes'."
        ) { Double(clocks.reading.ownOffset) / 1_000_000 }
        self.registry.sampledGauge("ft_clock_jumps", help: "Jumps of this node's clock since the start.") {
            Double(clocks.reading.jumps)
        }
        self.registry.sampledGauge("ft_clock_is_drifted", help: "1 while the clock is beyond clock.drift_limit_ms.") {
            clocks.reading.isDrifted ? 1 : 0
        }
        self.registry.sampledGauge("ft_cluster_steps_done", help: "Steps that this node's cluster manager has taken.") {
            Double(manager.counters.done)
        }
        self.registry.sampledGauge(
            "ft_cluster_steps_failed",
            help: "Steps that did not succeed and were planned again."
        ) {
            Double(manager.counters.failed)
        }
    }

    func render() -> String { self.registry.render() }
}

/// The counters of answers by status, made on first use.
///
/// To ask the registry for one by its labels costs more than to count.
private final class StatusCounters: Sendable {
    private let counters = Mutex<[Int: Counter]>([:])

    func counter(of status: Int, in registry: PrometheusRegistry) -> Counter {
        self.counters.withLock { counters in
            if let known = counters[status] { return known }
            let counter = Counter(
                label: "ft_api_requests_total",
                dimensions: [("status", String(status))],
                factory: registry
            )
            counters[status] = counter
            return counter
        }
    }
}
