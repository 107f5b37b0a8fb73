internal import AuditLedger
internal import Logging
internal import Primitives
internal import Shards
internal import Synchronization

/// Watches this node's clock: for jumps against the monotonic clock, and for drift against the peers.
///
/// The comparison also tells how far the peers are, by which reads choose a replica. A finding is a warning in the log, a metric, a part of the cluster's status, and a record in the cluster ledger.
/// Clocks decide nothing about the order of records; they are what is written as a record's time.
final class ClockWatch: Sendable {
    /// Between two looks at the machine's own clocks.
    static let lookInterval = Duration.seconds(1)
    /// Looks between two comparisons with the peers.
    static let looksPerComparison = 5
    /// Jumps of which records are written in one hour; the others are counted and logged only.
    static let recordsPerHourMax = 60

    /// What is known at the moment.
    struct Reading: Sendable {
        /// How far this node is ahead of the median, in microseconds.
        var ownOffset: Int64 = 0
        /// How far each peer is ahead of this node, in microseconds.
        var peerOffsets: [NodeID: Int64] = [:]
        var isDrifted = false
        var jumps = 0
    }

    private let node: NodeID
    private let links: PeerLinks
    private let gateway: CommandGateway
    private let logger: Logger
    private let limitMilliseconds: Int
    private let timeout: Duration
    private let distances: PeerDistances
    private let published = Mutex(Reading())

    init(
        node: NodeID,
        links: PeerLinks,
        gateway: CommandGateway,
        limitMilliseconds: Int,
        timeout: Duration,
        distances: PeerDistances,
        logger: Logger
    ) {
        self.node = node
        self.links = links
        self.gateway = gateway
        self.limitMilliseconds = limitMilliseconds
        self.timeout = timeout
        self.distances = distances
        self.logger = logger
    }

    /// The last findings.
    var reading: Reading { self.published.withLock { $0 } }

    /// Looks until cancelled.
    func run() async {
        var comparison = ClockComparison(limitMicroseconds: Int64(self.limitMilliseconds) * 1000)
        let start = NodeClock.monotonic.now
        var looks = 0
        var records = 0
        while !Task.isCancelled {
            let elapsed = start.duration(to: NodeClock.monotonic.now).components
            let monotonic = elapsed.seconds * 1_000_000 + elapsed.attoseconds / 1_000_000_000_000
            var event = comparison.look(wall: SystemTime.now().rawValue, monotonic: monotonic)
            if event == nil, looks % Self.looksPerComparison == 0 {
                await self.compare(&comparison)
                event = comparison.judge()
            }
            self.publish(comparison)
            if let event {
                self.log(event)
                records += 1
                if records <= Self.recordsPerHourMax { await self.record(event) }
            }
            looks += 1
            if looks % 3600 == 0 { records = 0 }
            try? await Task.sleep(for: Self.lookInterval)
        }
    }

    private func compare(_ comparison: inout ClockComparison) async {
        let peers = self.links.peers
        comparison.keepOnly(peers)
        await withTaskGroup(of: (NodeID, ClockSample?).self) { group in
            for peer in peers {
                group.addTask {
                    let probe = try? await self.links.probe(peer, withoutGroups: true, timeout: self.timeout)
                    return (peer, probe?.clock)
                }
            }
            for await case (let peer, let sample?) in group { comparison.take(sample, of: peer) }
        }
    }

    private func publish(_ comparison: ClockComparison) {
        let reading = Reading(
            ownOffset: comparison.ownOffset,
            peerOffsets: comparison.peerOffsets,
            isDrifted: comparison.isDrifted,
            jumps: comparison.jumps
        )
        self.published.withLock { $0 = reading }
        self.distances.roundTrips = comparison.roundTrips
    }

    private func log(_ event: ClockComparison.Event) {
        let limit = Logger.MetadataValue.stringConvertible(self.limitMilliseconds)
        switch event {
        case .jumped(let offset):
            self.logger.warning(
                "the clock jumped",
                metadata: ["clock.ms": "\(offset / 1000)", "clock.limit_ms": limit]
            )
        case .drifted(let offset):
            self.logger.warning(
                "the clock is far from the other nodes'",
                metadata: ["clock.ms": "\(offset / 1000)", "clock.limit_ms": limit]
            )
        case .returned(let offset):
            self.logger.info(
                "the clock is near the other nodes' again",
                metadata: ["clock.ms": "\(offset / 1000)", "clock.limit_ms": limit]
            )
        }
    }

    private func record(_ event: ClockComparison.Event) async {
        let (action, offset, severity): (String, Int64, Severity) =
            switch event {
            case .jumped(let offset): ("cluster.clock_jumped", offset, .warning)
            case .drifted(let offset): ("cluster.clock_drifted", offset, .warning)
            case .returned(let offset): ("cluster.clock_returned", offset, .info)
            }
        var details = JSONOutput()
        details.beginObject()
        details.member("limit_ms", self.limitMilliseconds)
        details.member("offset_ms", offset / 1000)
        details.endObject()
        let command = ClusterEventCommand(
            action: action,
            entityType: "node",
            entityID: self.node.description,
            details: details.bytes,
            severity: severity
        )
        do {
            _ = try await self.gateway.submit(
                .recordClusterEvent(command),
                to: .system,
                mayRepeat: false,
                origin: .node(self.node)
            )
        } catch {
            self.logger.warning(
                "the cluster ledger has no record of the clock",
                metadata: ["error.chain": "\(errorChain(error))"]
            )
        }
    }
}
