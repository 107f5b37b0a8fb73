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

/// What the parts of a node that answer clients and peers share.
struct NodeServices: Sendable {
    let gateway: CommandGateway
    let reads: ReadGate
    let observer: ClusterObserver
    let changes: GroupChanges
    let administration: ClusterAdministration
    let manager: ClusterManager
    let clocks: ClockWatch
    let queries: ShardQueries
    let records: RecordReader
    let checkpoints: CheckpointReader
    let publisher: KeyPublisher
    let packages: PackageMaker
    let inspector: ReplicaInspector
    let reporter: DamageReporter
    let trusted: TrustedHeads
    let subjects: SubjectKeeper
    let access: AccessRecorder
}

extension NodeParts {
    /// How long a change of membership may take before it is planned again.
    static let changeTimeout = Duration.seconds(10)

    var proposer: CommandProposer {
        let applier = self.applier
        return CommandProposer(host: self.host, stamps: self.stamps) { applier.admits($0, to: $1) }
    }

    func makeServices() -> NodeServices {
        let configuration = self.configuration
        let directory = self.applier.directory
        let timeout = Duration.milliseconds(configuration.writeTimeoutMilliseconds)
        let election = Duration.milliseconds(configuration.raftTickMilliseconds * configuration.raftElectionTicks)
        let gateway = CommandGateway(
            node: configuration.nodeID,
            proposer: self.proposer,
            links: self.links,
            replicas: { directory.current.placement(of: $0)?.membership.voters ?? [] },
            timeout: timeout,
            attemptMax: election * 2
        )
        let reads = ReadGate(host: self.host, timeout: timeout)
        let observer = ClusterObserver(
            node: configuration.nodeID,
            host: self.host,
            links: self.links,
            status: self.status,
            timeout: Self.peerTimeout
        )
        let changes = GroupChanges(
            node: configuration.nodeID,
            host: self.host,
            links: self.links,
            timeout: Self.changeTimeout
        )
        let distances = PeerDistances()
        let (queries, records) = self.makeReaders(reads, distances, timeout)
        return NodeServices(
            gateway: gateway,
            reads: reads,
            observer: observer,
            changes: changes,
            administration: ClusterAdministration(
                node: configuration.nodeID,
                directory: directory,
                gateway: gateway,
                reads: reads,
                observer: observer,
                changes: changes,
                stamps: self.stamps
            ),
            manager: ClusterManager(
                node: configuration.nodeID,
                host: self.host,
                directory: directory,
                observer: observer,
                gateway: gateway,
                changes: changes,
                logger: self.logger
            ),
            clocks: ClockWatch(
                node: configuration.nodeID,
                links: self.links,
                gateway: gateway,
                limitMilliseconds: configuration.clockDriftLimitMilliseconds,
                timeout: Self.peerTimeout,
                distances: distances,
                logger: self.logger
            ),
            queries: queries,
            records: records,
            checkpoints: self.makeCheckpointReader(reads, timeout),
            publisher: KeyPublisher(
                node: configuration.nodeID,
                cluster: configuration.clusterID,
                keys: self.audit.keys,
                directory: directory,
                gateway: gateway,
                logger: self.logger
            ),
            packages: self.makePackages(reads),
            inspector: self.makeInspector(),
            reporter: self.makeReporter(gateway),
            trusted: self.makeTrustedHeads(),
            subjects: self.makeSubjectKeeper(gateway, reads, timeout),
            access: AccessRecorder(
                configuration: configuration,
                directory: directory,
                gateway: gateway,
                registry: self.registry,
                store: self.store,
                threads: self.threads,
                logger: self.logger
            )
        )
    }

    private func makePackages(_ reads: ReadGate) -> PackageMaker {
        PackageMaker(
            node: self.configuration.nodeID,
            directory: self.applier.directory,
            placement: self.placement,
            store: self.store,
            threads: self.threads,
            reads: reads,
            links: self.links,
            audit: self.audit
        )
    }

    private func makeExports(
        _ services: NodeServices,
        _ filter: RecordFilter,
        _ queries: QueryService
    ) -> ExportService {
        ExportService(
            configuration: self.configuration,
            directory: self.applier.directory,
            filter: filter,
            records: services.records,
            checkpoints: services.checkpoints,
            queries: queries,
            audit: self.audit,
            gateway: services.gateway,
            maker: services.packages,
            supplements: SupplementReader(
                directory: self.applier.directory,
                filter: filter,
                records: services.records,
                checkpoints: services.checkpoints,
                subjects: services.subjects
            )
        )
    }

    private func makeSubjectKeeper(_ gateway: CommandGateway, _ reads: ReadGate, _ timeout: Duration) -> SubjectKeeper {
        let keeper = SubjectKeeper(
            node: self.configuration.nodeID,
            ring: self.keyRing,
            applier: self.applier,
            host: self.host,
            placement: self.placement,
            links: self.links,
            threads: self.threads,
            erasing: self.erasing,
            reads: reads,
            gateway: gateway,
            timeout: timeout,
            logger: self.logger,
            pending: self.pendingErasures
        )
        self.subjectNews.receive { organization, subject in keeper.changed(organization, subject) }
        self.groupNews.receive { keeper.groupChanged($0) }
        return keeper
    }

    private func makeCheckpointReader(_ reads: ReadGate, _ timeout: Duration) -> CheckpointReader {
        let audit = self.audit
        return CheckpointReader(
            node: self.configuration.nodeID,
            host: self.host,
            placement: self.placement,
            directory: self.applier.directory,
            links: self.links,
            threads: self.threads,
            proofs: LedgerProofs(cluster: self.configuration.clusterID, rows: self.audit.rows),
            service: self.audit.service,
            reads: reads,
            canSign: { audit.canSign },
            timeout: Self.peerTimeout,
            freshTimeout: timeout
        )
    }

    private func makeReaders(
        _ reads: ReadGate,
        _ distances: PeerDistances,
        _ timeout: Duration
    ) -> (ShardQueries, RecordReader) {
        let placement = self.placement
        let queries = ShardQueries(
            node: self.configuration.nodeID,
            directory: self.applier.directory,
            placement: placement,
            applier: self.applier,
            projector: self.projector,
            stores: self.columnarStores,
            reads: reads,
            storeThreads: self.threads,
            keyValueStore: self.store,
            links: self.links,
            distances: distances,
            freshnessMax: Self.freshnessMax
        )
        let records = RecordReader(
            node: self.configuration.nodeID,
            placement: placement,
            applier: self.applier,
            store: self.store,
            threads: self.threads,
            reads: reads,
            links: self.links,
            timeout: timeout
        )
        return (queries, records)
    }

    func makePeerService(_ services: NodeServices, _ repairs: LateService<RepairService>) -> PeerService {
        let administration = services.administration
        let epoch = self.identity.recoveryEpoch
        let (directory, reads) = (self.applier.directory, services.records.reads)
        return PeerService(
            door: PeerDoor(
                handshake: self.links.handshake,
                links: self.links,
                met: self.met,
                metrics: self.peerMetrics,
                logger: self.logger
            ),
            host: self.host,
            proposer: self.proposer,
            store: self.store,
            storeThreads: self.threads,
            directory: directory,
            news: OrganizationNews(
                known: { directory.organization($0)?.id },
                catchUp: { try await reads.linearize(.system) }
            ),
            placement: self.placement,
            applier: self.applier,
            projector: self.projector,
            queries: services.queries,
            records: services.records,
            snapshots: SnapshotSender(
                host: self.host,
                applier: self.applier,
                reporter: services.reporter,
                inspector: services.inspector,
                threads: self.threads,
                rate: TokenBucket(
                    bytesPerSecond: Double(self.configuration.snapshotBytesPerSecond),
                    now: NodeClock.monotonic.now
                ),
                metrics: self.peerMetrics,
                logger: self.logger
            ),
            puller: self.puller,
            status: self.status,
            checkpoints: services.checkpoints,
            publisher: services.publisher,
            packages: services.packages,
            inspector: services.inspector,
            reporter: services.reporter,
            trusted: services.trusted,
            repairs: { repairs.current },
            subjects: services.subjects,
            running: self.runningQueries,
            join: { peer, request in
                await ClusterJoin.answer(request, from: peer, administration: administration, epoch: epoch)
            }
        )
    }

    func makeAPI(
        _ services: NodeServices,
        _ replicas: ReplicaReader,
        _ routers: QueryRouters,
        _ health: HealthReport
    ) -> APIRouter {
        let queryLimit = Duration.milliseconds(self.configuration.queryTimeLimitMilliseconds)
        let temporary = self.configuration.dataDirectory + "/" + Node.temporaryFolder
        let filter = RecordFilter(queries: services.queries, timeLimit: queryLimit)
        let queries = QueryService(
            routers: routers,
            shards: services.queries,
            running: self.runningQueries,
            cache: QueryCache(bytesMax: self.configuration.queryCacheBytes, registry: self.registry),
            sequences: { [queries = services.queries] keys, consistency in
                try await queries.sequences(of: keys, consistency)
            },
            parquet: ParquetExporter(threads: self.columnarThreads, temporaryDirectory: temporary),
            resultBytesMax: self.configuration.queryResultBytesMax,
            timeLimit: queryLimit
        )
        return APIRouter(
            node: self.configuration.nodeID,
            configuration: self.configuration,
            directory: self.applier.directory,
            gateway: services.gateway,
            records: services.records,
            recordFilter: filter,
            queries: queries,
            queryWatch: QueryWatch(
                node: self.configuration.nodeID,
                running: self.runningQueries,
                links: self.links,
                nodes: { [directory = self.applier.directory] in directory.current.nodes.map(\.id) },
                timeout: Self.peerTimeout
            ),
            replicas: replicas,
            trusted: services.trusted,
            cluster: ClusterReader(
                identity: self.identity,
                directory: self.applier.directory,
                observer: services.observer
            ),
            administration: services.administration,
            audit: self.audit,
            checkpoints: services.checkpoints,
            publisher: services.publisher,
            subjects: services.subjects,
            health: health,
            metrics: self.metrics,
            ids: RequestIDs(),
            threads: self.threads,
            recordCache: RecordCache(),
            exports: self.makeExports(services, filter, queries),
            access: services.access,
            flight: FlightState(eventLoop: self.loops.any()),
            logger: self.logger
        )
    }
}
