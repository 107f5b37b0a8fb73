internal import CoreMetrics
internal import Logging
internal import Primitives
internal import Synchronization

/// What the links to peers count; labels come from closed sets.
final class PeerMetrics: Sendable {
    /// Who refused, seen from this node.
    enum Side: String {
        /// A peer wanted something of this node.
        case server
        /// This node wanted something of a peer.
        case client
    }

    private struct RefusalKey: Hashable {
        let peer: NodeID?
        let code: PeerRefusal.Code
        let side: Side
    }

    /// The same refusal of the same peer is logged once in this time.
    static let repeatInterval = Duration.seconds(60)

    let appendsDropped: Counter
    let snapshotBytesSent: Counter
    let snapshotBytesReceived: Counter
    private let registry: PrometheusRegistry
    private let refusals: Mutex<RepeatGuard<RefusalKey>>

    init(registry: PrometheusRegistry) {
        self.registry = registry
        registry.describe("ft_peer_appends_dropped_total", "Times that entries for a peer had to be dropped.")
        registry.describe("ft_peer_refusals_total", "Requests of peers, or to peers, that were refused, by reason.")
        registry.describe("ft_peer_frames_malformed_total", "Raft streams ended because of what they brought.")
        registry.describe("ft_snapshot_sent_bytes_total", "Bytes of snapshots sent to replicas.")
        registry.describe("ft_snapshot_received_bytes_total", "Bytes of snapshots fetched from leaders.")
        registry.describe("ft_snapshot_installs_total", "Snapshots that this node fetched, by how it ended.")
        self.appendsDropped = Counter(label: "ft_peer_appends_dropped_total", dimensions: [], factory: registry)
        self.snapshotBytesSent = Counter(label: "ft_snapshot_sent_bytes_total", dimensions: [], factory: registry)
        self.snapshotBytesReceived = Counter(
            label: "ft_snapshot_received_bytes_total",
            dimensions: [],
            factory: registry
        )
        self.refusals = Mutex(RepeatGuard(interval: Self.repeatInterval))
    }

    /// Counts a refusal and logs it, unless the same was logged lately.
    /// - Parameter peer: nil when the other side has not shown who it is.
    func refused(_ refusal: PeerRefusal, peer: NodeID?, side: Side, logger: Logger) {
        let dimensions = [("side", side.rawValue), ("reason", refusal.code.rawValue)]
        Counter(label: "ft_peer_refusals_total", dimensions: dimensions, factory: self.registry).increment()
        let key = RefusalKey(peer: peer, code: refusal.code, side: side)
        guard self.refusals.withLock({ $0.lets(key, at: NodeClock.monotonic.now) }) else { return }
        logger.warning(
            side == .server ? "peer refused" : "refused by peer",
            metadata: [
                "peer.id": "\(peer?.description ?? "unknown")", "peer.refusal": "\(refusal.code.rawValue)",
                "error.chain": "\(refusal.message)",
            ]
        )
    }

    /// Gauges that are asked for at each scrape.
    func observe(_ links: PeerLinks) {
        self.registry.sampledGauge("ft_peer_links", help: "Other nodes that this node keeps links to.") {
            [weak links] in
            Double(links?.peers.count ?? 0)
        }
        self.registry.sampledGauge("ft_peer_links_up", help: "Links to other nodes that stand.") { [weak links] in
            guard let links else { return 0 }
            return Double(links.peers.count { links.isConnected(to: $0) })
        }
    }

    /// Gauges that are asked for at each scrape.
    func observe(_ puller: SnapshotPuller) {
        self.registry.sampledGauge("ft_snapshot_pulls", help: "Snapshots that are fetched or wait.") { [weak puller] in
            Double(puller?.pulls.count ?? 0)
        }
        self.registry.sampledGauge(
            "ft_snapshot_records_left",
            help: "Records that the snapshots being fetched still have to bring."
        ) { [weak puller] in
            let pulls = puller?.pulls ?? []
            return pulls.reduce(0) { $0 + Double($1.recordsTotal - min($1.records, $1.recordsTotal)) }
        }
    }

    func malformedFrame(_ code: RaftFrameError.Code) {
        let dimensions = [("reason", code.rawValue)]
        Counter(label: "ft_peer_frames_malformed_total", dimensions: dimensions, factory: self.registry).increment()
    }

    /// - Parameter outcome: `installed`, or the code of what went wrong.
    func snapshotEnded(_ outcome: String) {
        Counter(label: "ft_snapshot_installs_total", dimensions: [("outcome", outcome)], factory: self.registry)
            .increment()
    }
}
