internal import Columnar
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import QueryRouter
internal import RocksStorage
internal import ServiceLifecycle
internal import Shards
internal import Storage
internal import Synchronization
internal import Transport
internal import UnixSignals

/// A snapshot that a leader has for a replica of this node.
private struct SnapshotOffered: Sendable {
    let group: GroupID
    let leader: NodeID
    let offer: RaftMessage.SnapshotOffer
}

/// Everything a node is made of, wired together; ``run()`` gives it life and ``close()`` takes it apart.
final class NodeParts: Sendable {
    /// Threads that apply commands.
    static let lanes = 2
    /// Threads for blocking reads of the store.
    static let storeThreads = 4
    /// Reads that may wait for those threads.
    static let storeQueueMax = 4096
    /// How long short questions to peers may take.
    static let peerTimeout = Duration.seconds(3)
    /// How long short requests of peers may go on when the node stops.
    static let peerShutdownTimeout = Duration.milliseconds(300)
    /// How long verifying one replica of one organization may take.
    static let verifyTimeout = Duration.seconds(600)
    /// How long a statement waits for the columnar store to catch up.
    static let freshnessMax = Duration.seconds(20)

    let configuration: NodeConfiguration
    let logger: Logger
    let identity: NodeIdentity
    let store: CheckedStore
    let logs: any RaftLogStorage
    let lanes: [SerialThread]
    let threads: StoreThreads
    let columnarThreads: ColumnarThreads
    let applier: ShardApplier
    let projector: Projector
    let columnarStores: WorkerPool
    let runningQueries: RunningQueries
    let loops: MultiThreadedEventLoopGroup
    /// The one loop of all peers' connections and of consensus: a message, what follows from it, and its answer are the
    /// work of one thread.
    let peerLoops: MultiThreadedEventLoopGroup
    let links: PeerLinks
    let met: MetPeers
    let host: RaftHost
    let puller: SnapshotPuller
    let tls: NodeTLS
    let registry: PrometheusRegistry
    let metrics: NodeMetrics
    let peerMetrics: PeerMetrics
    let status: NodeStatus
    let audit: NodeAudit
    let damage: DamageRegister
    let scrubMetrics: ScrubMetrics
    let keyRing: SubjectKeyRing
    let pendingErasures: PendingErasures
    /// Destroys keys of data subjects.
    let erasing: SerialThread
    /// Data subjects whose keys changed or must go.
    let subjectNews = Relay<(OrganizationID, Digest?)>()
    /// Groups whose leader or members changed.
    let groupNews = Relay<GroupID>()
    let stamps = StampClock()
    /// Whether consensus runs: not while a node with an empty data directory asks whether it may.
    let hasBegun = Atomic<Bool>(false)
    let failure: AsyncStream<ConsensusError>
    let flushes: AsyncStream<Void>
    let discards: AsyncStream<OrganizationID>
    let directoryChanges: AsyncStream<Void>

    init(configuration: NodeConfiguration, ground: NodeGround, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        (self.identity, self.store, self.logs) = (ground.identity, ground.store, ground.logs)
        (self.tls, self.loops, self.peerLoops) = (ground.tls, ground.loops, ground.peerLoops)
        self.lanes = try (0..<Self.lanes).map { try SerialThread(name: "ft-apply-\($0)") }
        self.threads = try StoreThreads(name: "ft-read", count: Self.storeThreads, queuedMax: Self.storeQueueMax)
        self.columnarThreads = ColumnarThreads()
        self.columnarStores = WorkerPool(
            count: configuration.workers,
            settings: WorkerSettings(stores: configuration),
            logger: logger
        )
        self.runningQueries = RunningQueries(
            limits: RunningQueries.Limits(
                running: configuration.queriesRunningMax,
                waiting: configuration.queriesWaitingMax,
                waitMax: .milliseconds(configuration.queryWaitMilliseconds),
                unreadMax: .milliseconds(configuration.queryUnreadMilliseconds)
            )
        )
        let (flushes, flushDue) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let (changes, changed) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let (failure, report) = AsyncStream.makeStream(of: ConsensusError.self, bufferingPolicy: .bufferingNewest(1))
        (self.flushes, self.directoryChanges, self.failure) = (flushes, changes, failure)
        // One for each organization of a group that leaves this node; bounded by how many there are.
        let (discards, discarded) = AsyncStream.makeStream(of: OrganizationID.self, bufferingPolicy: .unbounded)
        self.discards = discards
        let advanced = Relay<(organization: OrganizationID, records: Int)>()
        let (subjectNews, groupNews) = (self.subjectNews, self.groupNews)
        self.applier = try ShardApplier(
            store: self.store,
            lanes: self.lanes,
            events: ShardEvents(
                onAdvance: { advanced.send(($0, $1)) },
                onFlushDue: { flushDue.yield() },
                onDiscard: { discarded.yield($0) },
                onSubject: { subjectNews.send(($0, $1)) }
            )
        )
        self.applier.directory.observe { _ in changed.yield() }
        try Self.requireMember(ground, self.applier.directory.current)
        self.projector = Projector(store: self.store, projections: self.columnarStores, threads: self.threads) {
            organization,
            error in
            logger.warning(
                "columnar store failed; it is rebuilt from the ledger",
                metadata: ["organization.id": "\(organization)", "error.chain": "\(errorChain(error))"]
            )
        }
        let projector = self.projector
        let registry = PrometheusRegistry()
        self.registry = registry
        self.metrics = NodeMetrics(registry: registry)
        self.peerMetrics = PeerMetrics(registry: registry)
        self.links = Self.makeLinks(configuration, ground, self.peerMetrics, logger)
        self.met = try MetPeers(store: self.store, threads: self.threads)
        let offers = Relay<SnapshotOffered>()
        let created = Relay<GroupID>()
        let changedGroups = Relay<GroupID>()
        self.host = try Self.makeHost(
            configuration,
            ground,
            self.applier,
            self.lanes,
            self.links,
            Self.events(
                ground.identity,
                self.applier.directory,
                self.metrics,
                offers,
                created,
                changedGroups,
                report,
                logger
            )
        )
        let host = self.host
        self.links.reportUnreachable { host.unreachable($0) }
        self.puller = SnapshotPuller(
            host: host,
            links: self.links,
            applier: self.applier,
            threads: self.threads,
            directory: configuration.dataDirectory,
            metrics: self.peerMetrics,
            logger: logger,
            storeFailed: { report.yield($0) }
        )
        let puller = self.puller
        offers.receive { puller.offered($0.group, by: $0.leader, $0.offer) }
        let damage = try DamageRegister(store: self.store)
        self.damage = damage
        self.scrubMetrics = ScrubMetrics(registry: registry, register: damage)
        let audit = try NodeAudit(
            configuration: configuration,
            applier: self.applier,
            store: self.store,
            host: self.host,
            links: self.links,
            threads: self.threads,
            damage: damage,
            loops: self.loops,
            registry: registry,
            logger: logger
        )
        self.audit = audit
        advanced.receive { news in
            projector.advanced(news.organization, by: news.records)
            audit.service.advanced(news.organization)
        }
        let pendingErasures = PendingErasures(registry: registry)
        self.pendingErasures = pendingErasures
        self.status = NodeStatus(
            node: configuration.nodeID,
            startedAt: NodeClock.monotonic.now,
            audit: {
                var status = audit.status
                status.erasuresPending = UInt64(pendingErasures.total)
                return status
            },
            damaged: { damage.all.map { WireDamageStatus($0.organization, $0.finding) } }
        )
        changedGroups.receive { group in
            audit.service.groupChanged(group)
            groupNews.send(group)
        }
        self.erasing = try SerialThread(name: "ft-erase")
        do {
            let wrapping = try configuration.sealingKeyFile.map { try SealingKeyFile(path: $0).read() }
            self.keyRing = SubjectKeyRing(store: self.store, wrapping: wrapping)
        } catch {
            throw NodeError(.configuration, "audit.sealing_key cannot be used", cause: error)
        }
        self.metrics.observe(self.host, projector)
        let metrics = self.metrics
        created.receive { metrics.observe($0, on: host) }
    }

    /// A node that knows of its own removal does not start again.
    private static func requireMember(_ ground: NodeGround, _ state: SystemState) throws {
        // The system group is on every member: whoever was taken out of it is none.
        let isTakenOut = try ground.logs.tombstones().contains { $0.group == .system }
        let identity = ground.identity
        guard isTakenOut || state.node(identity.node)?.state == .removed else { return }
        throw NodeError(
            .join,
            "node \(identity.node) was removed from cluster \"\(identity.clusterID)\"; ids are never used again: "
                + "give the machine a new id and an empty data directory"
        )
    }

    private static func makeHost(
        _ configuration: NodeConfiguration,
        _ ground: NodeGround,
        _ applier: ShardApplier,
        _ lanes: [SerialThread],
        _ links: PeerLinks,
        _ events: HostEvents
    ) throws -> RaftHost {
        let own = applier.directory.current.node(configuration.nodeID)
        var raft = RaftConfiguration()
        raft.tickInterval = .milliseconds(configuration.raftTickMilliseconds)
        raft.heartbeatTicks = configuration.raftHeartbeatTicks
        raft.electionTicks = configuration.raftElectionTicks
        raft.electionPriority = own.map { Int($0.priority) } ?? configuration.ownEntry?.priority ?? 0
        raft.loopCount = configuration.raftLoops
        raft.leaseReads = configuration.raftLeaseReads
        if !configuration.raftSleep { raft.hibernateTicks = 0 }
        raft.logTailBytes = configuration.raftLogTailBytes
        raft.logTailBytesMax = max(raft.logTailBytesMax, configuration.raftLogTailBytes)
        var generator = SystemRandomNumberGenerator()  // ambient-ok: the composition root seeds the host
        return try RaftHost(
            node: configuration.nodeID,
            groups: ground.identity.firstGroups,
            log: ground.logs,
            configuration: raft,
            transport: links,
            applier: applier,
            lanes: lanes,
            thread: PeerThread(eventLoop: ground.peerLoops.next()),
            seed: generator.next(),
            epoch: generator.next(),
            events: events
        )
    }

    private static func events(
        _ identity: NodeIdentity,
        _ directory: ShardDirectory,
        _ metrics: NodeMetrics,
        _ offers: Relay<SnapshotOffered>,
        _ created: Relay<GroupID>,
        _ changed: Relay<GroupID>,
        _ failures: AsyncStream<ConsensusError>.Continuation,
        _ logger: Logger
    ) -> HostEvents {
        HostEvents(
            onLeadershipChange: { change in
                metrics.leadershipChanged(change)
                changed.send(change.group)
                logger.info(
                    "leadership",
                    metadata: [
                        "raft.group": "\(change.group)", "raft.role": "\(change.role.rawValue)",
                        "raft.term": "\(change.term)", "raft.leader": "\(change.leader?.description ?? "none")",
                    ]
                )
            },
            onMembershipChange: { group, membership in
                changed.send(group)
                logger.info(
                    "membership",
                    metadata: [
                        "raft.group": "\(group)", "raft.voters": "\(membership.voters)",
                        "raft.outgoing": "\(membership.outgoing)", "raft.learners": "\(membership.learners)",
                    ]
                )
            },
            mayHost: { group, _ in
                // Before the system group has come, this node knows of no group that there is.
                let groups = directory.current.dataGroups
                return groups == 0 || group.rawValue <= UInt32(groups)
            },
            onReplicaCreated: { group in
                logger.info("replica made", metadata: ["raft.group": "\(group)"])
                created.send(group)
            },
            onReplicaRemoved: { group in
                logger.info("replica removed", metadata: ["raft.group": "\(group)"])
                if group == .system {
                    logger.error(
                        "this node was removed from the cluster: stop it",
                        metadata: ["node.id": "\(identity.node)"]
                    )
                }
            },
            onSnapshotOffered: { group, leader, offer in
                offers.send(SnapshotOffered(group: group, leader: leader, offer: offer))
            },
            onFailure: { failures.yield($0) }
        )
    }

    private static func makeLinks(
        _ configuration: NodeConfiguration,
        _ ground: NodeGround,
        _ metrics: PeerMetrics,
        _ logger: Logger
    ) -> PeerLinks {
        let seeds = configuration.members.map { member in
            PeerLinks.Peer(
                id: member.id,
                host: member.peerAddress.host,
                port: member.peerAddress.port,
                cluster: configuration.clusterID
            )
        }
        return PeerLinks(
            handshake: PeerHandshake(
                cluster: configuration.clusterID,
                node: configuration.nodeID,
                epoch: ground.identity.recoveryEpoch
            ),
            seeds: seeds,
            client: HTTPClient(eventLoopGroup: ground.peerLoops, tls: ground.tls.peerClient, limits: .peers),
            metrics: metrics,
            logger: logger
        )
    }
}
