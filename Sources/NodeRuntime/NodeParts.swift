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

/// Everything a node is made of, wired together; ``run()`` gives it life and ``close()`` takes it apart.
final class NodeParts: Sendable {
    /// Threads that apply commands.
    static let lanes = 2
    /// Threads for blocking reads of the store.
    static let storeThreads = 4
    /// Reads that may wait for those threads.
    static let storeQueueMax = 4096
    /// Event loops.
    static let eventLoops = 2
    /// How long short questions to peers may take.
    static let peerTimeout = Duration.seconds(3)
    /// How long short requests of peers may go on when the node stops.
    static let peerShutdownTimeout = Duration.milliseconds(300)
    /// How long verifying one replica of one organization may take.
    static let verifyTimeout = Duration.seconds(600)
    /// How long a statement waits for the columnar store to catch up.
    static let freshnessMax = Duration.seconds(20)

    private let configuration: NodeConfiguration
    private let logger: Logger
    private let store: RocksStore
    private let lanes: [SerialThread]
    private let threads: StoreThreads
    private let columnarThreads: ColumnarThreads
    private let applier: ShardApplier
    private let projector: Projector
    private let columnarStores: ColumnarStores
    private let loops: MultiThreadedEventLoopGroup
    private let links: PeerLinks
    private let host: RaftHost
    private let placement: Placement
    private let tlsContexts: [ReloadableTLSContext]
    private let apiTLS: ReloadableTLSContext
    private let peerTLS: ReloadableTLSContext
    private let metrics: NodeMetrics
    private let status: NodeStatus
    private let failure: AsyncStream<ConsensusError>

    init(configuration: NodeConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        self.placement = Placement(
            members: configuration.members.map(\.id),
            dataGroups: configuration.dataGroups,
            replicas: configuration.replicas
        )
        let tls = try NodeTLS(configuration)
        (self.apiTLS, self.peerTLS) = (tls.api, tls.peerServer)
        self.tlsContexts = [tls.api, tls.peerServer, tls.peerClient]
        self.store = try Self.openStore(configuration)
        self.lanes = try (0..<Self.lanes).map { try SerialThread(name: "ft-apply-\($0)") }
        self.threads = try StoreThreads(name: "ft-read", count: Self.storeThreads, queuedMax: Self.storeQueueMax)
        self.columnarThreads = ColumnarThreads()
        self.columnarStores = ColumnarStores(
            directory: configuration.dataDirectory + "/" + Node.columnarFolder,
            threads: self.columnarThreads,
            configuration: Self.columnarConfiguration(configuration)
        )
        let advanced = Relay<OrganizationID>()
        self.applier = try ShardApplier(store: self.store, lanes: self.lanes) { advanced.send($0) }
        let applier = self.applier
        self.projector = Projector(store: self.store, projections: self.columnarStores, threads: self.threads) {
            organization,
            error in
            logger.warning(
                "columnar store failed; it is rebuilt from the ledger",
                metadata: ["organization.id": "\(organization)", "error.chain": "\(errorChain(error))"]
            )
        }
        let projector = self.projector
        advanced.receive { projector.advanced($0) }
        self.loops = MultiThreadedEventLoopGroup(numberOfThreads: Self.eventLoops)
        self.links = Self.makeLinks(configuration, tls.peerClient, self.loops, logger)
        let (failure, report) = AsyncStream.makeStream(of: ConsensusError.self, bufferingPolicy: .bufferingNewest(1))
        self.failure = failure
        var raft = RaftConfiguration()
        raft.tickInterval = .milliseconds(configuration.raftTickMilliseconds)
        raft.heartbeatTicks = configuration.raftHeartbeatTicks
        raft.electionTicks = configuration.raftElectionTicks
        var generator = SystemRandomNumberGenerator()  // ambient-ok: the composition root seeds the host
        self.host = try RaftHost(
            node: configuration.nodeID,
            groups: self.placement.groups(on: configuration.nodeID),
            store: self.store,
            configuration: raft,
            transport: self.links,
            applier: applier,
            lanes: self.lanes,
            seed: generator.next(),
            events: RaftHost.Events(
                onLeadershipChange: { change in
                    logger.info(
                        "leadership",
                        metadata: [
                            "raft.group": "\(change.group)", "raft.role": "\(change.role.rawValue)",
                            "raft.term": "\(change.term)", "raft.leader": "\(change.leader?.description ?? "none")",
                        ]
                    )
                },
                onFailure: { report.yield($0) }
            )
        )
        let host = self.host
        self.links.reportUnreachable { host.unreachable($0) }
        self.status = NodeStatus(node: configuration.nodeID, startedAt: NodeClock.monotonic.now)
        self.metrics = NodeMetrics(registry: PrometheusRegistry())
        self.metrics.observe(
            self.host,
            groups: self.placement.groups(on: configuration.nodeID).keys.sorted(),
            projector
        )
    }

    private static func openStore(_ configuration: NodeConfiguration) throws -> RocksStore {
        let root = configuration.dataDirectory
        do {
            for folder in [Node.columnarFolder, Node.temporaryFolder] {
                try FileManager.default.createDirectory(atPath: root + "/" + folder, withIntermediateDirectories: true)
            }
            let temporary = root + "/" + Node.temporaryFolder
            for entry in try FileManager.default.contentsOfDirectory(atPath: temporary) {
                try FileManager.default.removeItem(atPath: temporary + "/" + entry)
            }
        } catch {
            throw NodeError(.dataDirectory, "data directory \(root) cannot be used", cause: error)
        }
        let store: RocksStore
        do {
            store = try RocksStore.open(path: root + "/" + Node.storeFolder)
        } catch {
            let what = error.code == .busy ? "is in use by another process" : "cannot be opened"
            throw NodeError(.dataDirectory, "data directory \(root) \(what)", cause: error)
        }
        try NodeIdentity(configuration).claim(store, directory: root)
        return store
    }

    private static func columnarConfiguration(_ configuration: NodeConfiguration) -> ColumnarConfiguration {
        var columnar = ColumnarConfiguration()
        columnar.memoryLimitBytes = configuration.columnarMemoryBytes
        columnar.timeLimit = .milliseconds(configuration.queryTimeLimitMilliseconds)
        return columnar
    }

    private static func makeLinks(
        _ configuration: NodeConfiguration,
        _ tls: ReloadableTLSContext,
        _ loops: MultiThreadedEventLoopGroup,
        _ logger: Logger
    ) -> PeerLinks {
        let peers = configuration.members.filter { $0.id != configuration.nodeID }.map { member in
            PeerLinks.Peer(
                id: member.id,
                host: member.peerAddress.host,
                port: member.peerAddress.port,
                expectedName: PeerIdentity.dnsName(node: member.id, cluster: configuration.clusterID)
            )
        }
        return PeerLinks(
            node: configuration.nodeID,
            peers: peers,
            client: HTTPClient(eventLoopGroup: loops, tls: tls, limits: .peers),
            logger: logger
        )
    }
}

/// The node's TLS contexts.
struct NodeTLS {
    let api: ReloadableTLSContext
    let peerServer: ReloadableTLSContext
    let peerClient: ReloadableTLSContext

    init(_ configuration: NodeConfiguration) throws {
        let names = Set(
            configuration.members.map { PeerIdentity.dnsName(node: $0.id, cluster: configuration.clusterID) }
        )
        do {
            for file in [configuration.apiCertificateFile, configuration.peerCertificateFile] {
                let now = SystemTime.now().rawValue / 1_000_000
                _ = try CertificateInspector.requireValid(file: file, nowUnixSeconds: now)
            }
            self.api = try ReloadableTLSContext(
                server: TLSServerConfiguration(
                    certificateChainFile: configuration.apiCertificateFile,
                    privateKeyFile: configuration.apiKeyFile
                )
            )
            self.peerServer = try ReloadableTLSContext(
                server: TLSServerConfiguration(
                    certificateChainFile: configuration.peerCertificateFile,
                    privateKeyFile: configuration.peerKeyFile,
                    clients: .peers(caFile: configuration.caFile),
                    acceptsPeer: { certificate in certificate.dnsNames.contains { names.contains($0) } }
                )
            )
            self.peerClient = try ReloadableTLSContext(
                client: TLSClientConfiguration(
                    caFile: configuration.caFile,
                    identity: TLSClientConfiguration.Identity(
                        certificateChainFile: configuration.peerCertificateFile,
                        privateKeyFile: configuration.peerKeyFile
                    )
                )
            )
        } catch {
            throw NodeError(.certificate, "a certificate cannot be used", cause: error)
        }
    }
}

extension NodeParts {
    /// Serves until SIGTERM or SIGINT.
    func run() async throws {
        do {
            try self.host.start()
        } catch {
            throw NodeError(.failed, "consensus cannot start", cause: error)
        }
        let service = self.makePeerService()
        let router = try await self.makeQueryRouter(service.queries)
        let health = HealthReport(
            host: self.host,
            directory: self.applier.directory,
            groups: self.placement.groups(on: self.configuration.nodeID).keys.sorted()
        )
        var peerLimits = TransportLimits.peers
        // Peers hold their streams open for ever: there is nothing to wait for.
        peerLimits.gracefulShutdownTimeout = Self.peerShutdownTimeout
        let peerServer = self.server(self.configuration.peerListen, self.peerTLS, peerLimits, service)
        let api = self.makeAPI(service, router, health)
        let apiServer = self.server(self.configuration.apiListen, self.apiTLS, TransportLimits(), api)
        try await self.listen(peerServer, self.configuration.peerListen, "peers")
        try await self.listen(apiServer, self.configuration.apiListen, "clients")
        self.logger.info(
            "serving",
            metadata: [
                "node.id": "\(self.configuration.nodeID)", "cluster.id": "\(self.configuration.clusterID)",
                "api.listen": "\(self.configuration.apiListen)", "peer.listen": "\(self.configuration.peerListen)",
            ]
        )
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: LoopService { try await self.watchFailure() }),
                    .init(service: LoopService { await self.projector.run(clock: NodeClock.monotonic) }),
                    .init(service: LoopService { await self.links.run() }),
                    .init(service: ServerService(server: peerServer, logger: self.logger, name: "peers")),
                    .init(service: LoopService { await self.reloadOnHangUp() }),
                    .init(
                        service: LoopService { await self.beginCluster(api.gateway) },
                        successTerminationBehavior: .ignore
                    ),
                    .init(service: ServerService(server: apiServer, logger: self.logger, name: "clients")),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: self.logger
            )
        )
        try await group.run()
        health.stop()
        await router.close()
    }

    private func server(
        _ address: NodeConfiguration.HostPort,
        _ tls: ReloadableTLSContext,
        _ limits: TransportLimits,
        _ router: any RequestRouter
    ) -> HTTPServer {
        HTTPServer(
            host: address.host,
            port: address.port,
            tls: tls,
            limits: limits,
            eventLoopGroup: self.loops,
            router: router
        )
    }

    private func listen(_ server: HTTPServer, _ address: NodeConfiguration.HostPort, _ whom: String) async throws {
        do {
            _ = try await server.start()
        } catch {
            throw NodeError(.listen, "cannot listen on \(address) for \(whom)", cause: error)
        }
    }

    private func makePeerService() -> PeerService {
        let timeout = Duration.milliseconds(self.configuration.writeTimeoutMilliseconds)
        let reads = ReadGate(
            node: self.configuration.nodeID,
            host: self.host,
            links: self.links,
            timeout: timeout
        )
        let queries = ShardQueries(
            node: self.configuration.nodeID,
            directory: self.applier.directory,
            placement: self.placement,
            applier: self.applier,
            projector: self.projector,
            stores: self.columnarStores,
            reads: reads,
            storeThreads: self.threads,
            keyValueStore: self.store,
            links: self.links,
            freshnessMax: Self.freshnessMax
        )
        let records = RecordReader(
            node: self.configuration.nodeID,
            placement: self.placement,
            applier: self.applier,
            store: self.store,
            threads: self.threads,
            reads: reads,
            links: self.links,
            timeout: timeout
        )
        let names = self.configuration.members.map {
            (PeerIdentity.dnsName(node: $0.id, cluster: self.configuration.clusterID), $0.id)
        }
        return PeerService(
            node: self.configuration.nodeID,
            host: self.host,
            store: self.store,
            storeThreads: self.threads,
            directory: self.applier.directory,
            applier: self.applier,
            projector: self.projector,
            queries: queries,
            records: records,
            status: self.status,
            logger: self.logger,
            memberByName: Dictionary(uniqueKeysWithValues: names)
        )
    }

    private func makeQueryRouter(_ queries: ShardQueries) async throws -> QueryRouter {
        var configuration = QueryRouterConfiguration()
        configuration.memoryLimitBytes = self.configuration.gatherMemoryBytes
        configuration.gatherBytesMax = self.configuration.gatherMemoryBytes
        configuration.temporaryDirectory = self.configuration.dataDirectory + "/" + Node.temporaryFolder + "/router"
        return try await QueryRouter.open(
            catalog: TableCatalog(datasets: [AuditLogDataset.table]),
            service: queries,
            threads: self.columnarThreads,
            timer: QueryTimer(clock: NodeClock.monotonic),
            configuration: configuration
        )
    }

    private func makeAPI(_ service: PeerService, _ router: QueryRouter, _ health: HealthReport) -> APIRouter {
        let timeout = Duration.milliseconds(self.configuration.writeTimeoutMilliseconds)
        let election = Duration.milliseconds(
            self.configuration.raftTickMilliseconds * self.configuration.raftElectionTicks
        )
        let queryLimit = Duration.milliseconds(self.configuration.queryTimeLimitMilliseconds)
        let temporary = self.configuration.dataDirectory + "/" + Node.temporaryFolder
        return APIRouter(
            node: self.configuration.nodeID,
            configuration: self.configuration,
            directory: self.applier.directory,
            gateway: CommandGateway(
                node: self.configuration.nodeID,
                host: self.host,
                links: self.links,
                timeout: timeout,
                attemptMax: election * 2
            ),
            records: service.records,
            recordFilter: RecordFilter(queries: service.queries, timeLimit: queryLimit),
            queries: QueryService(
                router: router,
                parquet: ParquetExporter(threads: self.columnarThreads, temporaryDirectory: temporary),
                resultBytesMax: self.configuration.queryResultBytesMax,
                timeLimit: queryLimit
            ),
            replicas: ReplicaReader(
                node: self.configuration.nodeID,
                placement: self.placement,
                links: self.links,
                service: service,
                timeout: Self.peerTimeout,
                verifyTimeout: Self.verifyTimeout
            ),
            cluster: ClusterReader(
                node: self.configuration.nodeID,
                members: self.configuration.members,
                clusterID: self.configuration.clusterID,
                placement: self.placement,
                host: self.host,
                links: self.links,
                status: self.status,
                timeout: Self.peerTimeout
            ),
            health: health,
            metrics: self.metrics,
            ids: RequestIDs(),
            threads: self.threads,
            recordCache: RecordCache(),
            logger: self.logger
        )
    }

    /// Throws when consensus has failed: nothing may be served from then on.
    private func watchFailure() async throws {
        for await failure in self.failure {
            throw NodeError(.failed, "consensus failed; the node stops and must be restarted", cause: failure)
        }
    }

    /// Begins the cluster, once, from whichever node can; ends when it has begun.
    private func beginCluster(_ gateway: CommandGateway) async {
        let command = BootstrapCommand(
            clusterID: self.configuration.clusterID,
            dataGroups: self.configuration.dataGroups,
            operatorToken: self.configuration.bootstrapTokenSHA256.flatMap { Digest(hex: $0) }
        )
        let pause = Duration.milliseconds(200)
        while !Task.isCancelled, !self.applier.directory.isBootstrapped {
            if self.host.leader(of: .system) == self.configuration.nodeID {
                _ = try? await gateway.submit(.bootstrap(command), to: .system, mayRepeat: true)
            }
            try? await Task.sleep(for: pause)
        }
    }

    private func reloadOnHangUp() async {
        for await _ in await UnixSignalsSequence(trapping: .sighup) {
            do {
                for context in self.tlsContexts { try context.reload() }
                self.logger.info("certificates reloaded")
            } catch {
                self.logger.error(
                    "certificates not reloaded; the old ones stay in use",
                    metadata: ["error.chain": "\(errorChain(error))"]
                )
            }
        }
    }

    /// Takes everything apart, in the reverse order of its making; what is in memory only goes into the store's files.
    func close() async {
        let (host, lanes, store) = (self.host, self.lanes, self.store)
        _ = try? await self.threads.run { host.stop() }
        self.projector.stop()
        await self.columnarStores.closeAll()
        await self.columnarThreads.shutdown()
        do {
            try await self.threads.run {
                for lane in lanes { lane.shutdown() }
                try store.flush()
                try store.close()
            }
        } catch {
            self.logger.error("store not closed cleanly", metadata: ["error.chain": "\(errorChain(error))"])
        }
        self.threads.shutdown()
        try? await self.loops.shutdownGracefully()
        self.logger.info("stopped")
    }
}
