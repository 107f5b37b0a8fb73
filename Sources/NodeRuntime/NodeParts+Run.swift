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

extension NodeParts {
    /// Serves until SIGTERM or SIGINT.
    func run() async throws {
        let store = self.store
        let mustAsk = try await self.threads.run { try FoundingCheck.isDemanded(in: store) }
        let start = try await self.checkHeads()
        if !mustAsk { try self.begin() }
        let services = self.makeServices()
        let repairs = LateService<RepairService>()
        let service = self.makePeerService(services, repairs)
        let replicas = self.makeReplicaReader(service)
        repairs.set(self.makeRepairs(services, replicas))
        let engine = self.makeQueryEngine()
        let workers = self.columnarStores.slots + [engine.slot]
        WorkerMetrics.observe(workers, in: self.registry)
        self.status.workers.set(workers)
        let routers = QueryRouters(
            all: try self.makeQueryRouter(service.queries, engine),
            withoutReserved: try self.makeQueryRouter(service.queries.withoutReserved, engine)
        )
        self.metrics.observe(services.clocks, services.manager)
        self.metrics.observe(self.runningQueries)
        let health = HealthReport(
            host: self.host,
            directory: self.applier.directory,
            damage: self.damage,
            workers: workers
        )
        var peerLimits = TransportLimits.peers
        // Peers hold their streams open for ever: there is nothing to wait for.
        peerLimits.gracefulShutdownTimeout = Self.peerShutdownTimeout
        let peerServer = self.server(
            self.configuration.peerListen,
            self.tls.peerServer,
            peerLimits,
            service,
            on: self.peerLoops
        )
        let api = self.makeAPI(services, replicas, routers, health)
        let apiServer = self.server(self.configuration.apiListen, self.tls.api, TransportLimits(), api, on: self.loops)
        try await self.listen(peerServer, self.configuration.peerListen, "peers")
        try await self.listen(apiServer, self.configuration.apiListen, "clients")
        self.logger.info(
            "serving",
            metadata: [
                "node.id": "\(self.configuration.nodeID)", "cluster.id": "\(self.configuration.clusterID)",
                "api.listen": "\(self.configuration.apiListen)", "peer.listen": "\(self.configuration.peerListen)",
            ]
        )
        let scrubber = self.makeScrubber(services, start)
        // Stopped in the reverse order: leadership first, while clients are still served, then the clients.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: LoopService { try await self.watchFailure() }),
                    .init(service: LoopService { await self.flushWhenDue() }),
                    .init(service: LoopService { await self.projector.run(clock: NodeClock.monotonic) }),
                    .init(service: LoopService { await self.discardColumnarStores(services.subjects) }),
                    .init(service: LoopService { await self.endAbandonedQueries() }),
                    .init(service: LoopService { try await self.takePart() }),
                    .init(service: LoopService { await self.puller.run() }),
                    .init(service: ServerService(server: peerServer, logger: self.logger, name: "peers")),
                    .init(service: LoopService { await self.reloadOnHangUp() }),
                    .init(service: LoopService { await self.followDirectory(services.manager) }),
                    .init(service: LoopService { await services.manager.run() }),
                    .init(service: LoopService { await scrubber.run() }),
                    .init(service: LoopService { await services.clocks.run() }),
                    .init(service: LoopService { await self.audit.service.run() }),
                    .init(service: LoopService { await services.subjects.run() }),
                    .init(service: AccessService(recorder: services.access)),
                    .init(service: OnceService { await self.audit.courier.run() }),
                    .init(service: OnceService { await services.publisher.run() }),
                    .init(service: OnceService { await self.beginCluster(services.gateway) }),
                    .init(service: OnceService { await self.recordRecovery(services.gateway) }),
                    .init(service: ServerService(server: apiServer, logger: self.logger, name: "clients")),
                    .init(
                        service: HandOverService(
                            host: self.host,
                            hasBegun: { self.hasBegun.load(ordering: .acquiring) },
                            health: health,
                            logger: self.logger
                        )
                    ),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: self.logger
            )
        )
        try await group.run()
        self.runningQueries.close()
        repairs.clear()
        await engine.close()
    }

    private func begin() throws {
        do {
            try self.host.start()
        } catch {
            throw NodeError(.failed, "consensus cannot start", cause: error)
        }
        self.hasBegun.store(true, ordering: .releasing)
    }

    /// Talks with the peers' groups until cancelled; before that, a node whose data directory was empty asks whether it may.
    private func takePart() async throws {
        if !self.hasBegun.load(ordering: .acquiring) {
            let inquiry = FoundingInquiry(configuration: self.configuration, links: self.links, logger: self.logger)
            try await inquiry.run(clock: NodeClock.monotonic)
            let store = self.store
            try await self.threads.run { try FoundingCheck.pass(in: store) }
            try self.begin()
        }
        await self.links.run()
    }

    private func server(
        _ address: NodeConfiguration.HostPort,
        _ tls: ReloadableTLSContext,
        _ limits: TransportLimits,
        _ router: any RequestRouter,
        on loops: any EventLoopGroup
    ) -> HTTPServer {
        HTTPServer(
            host: address.host,
            port: address.port,
            tls: tls,
            limits: limits,
            eventLoopGroup: loops,
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

    private func makeQueryEngine() -> WorkerEngine {
        WorkerEngine(settings: WorkerSettings(engine: self.configuration), logger: self.logger)
    }

    private func makeQueryRouter(_ queries: ShardQueries, _ engine: any QueryEngine) throws -> QueryRouter {
        var configuration = QueryRouterConfiguration()
        configuration.gatherBytesMax = self.configuration.gatherMemoryBytes
        return try QueryRouter(
            service: queries,
            engine: engine,
            timer: QueryTimer(clock: NodeClock.monotonic),
            configuration: configuration,
            baseTables: OrganizationDatasets.baseTables
        )
    }

    /// How often the node looks for answers that nobody reads.
    private static let abandonedCheckInterval = Duration.seconds(1)

    private func endAbandonedQueries() async {
        while (try? await NodeClock.monotonic.sleep(for: Self.abandonedCheckInterval)) != nil {
            let ended = self.runningQueries.endAbandoned()
            if ended > 0 { self.logger.info("answers nobody reads were ended", metadata: ["queries": "\(ended)"]) }
        }
    }

    /// Throws when consensus has failed: nothing may be served from then on.
    private func watchFailure() async throws {
        for await failure in self.failure {
            throw NodeError(.failed, "consensus failed; the node stops and must be restarted", cause: failure)
        }
    }

    private func reloadOnHangUp() async {
        for await _ in await UnixSignalsSequence(trapping: .sighup) {
            do {
                for context in [self.tls.api, self.tls.peerServer, self.tls.peerClient] { try context.reload() }
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
        let (host, lanes, store, logs) = (self.host, self.lanes, self.store, self.logs)
        let (signing, erasing) = (self.audit.signing, self.erasing)
        _ = try? await self.threads.run { host.stop() }
        self.projector.stop()
        await self.columnarStores.closeAll()
        await self.columnarThreads.shutdown()
        do {
            try await self.threads.run {
                for lane in lanes { lane.shutdown() }
                signing.shutdown()
                erasing.shutdown()
                try logs.close()
                try store.flush()
                try store.close()
            }
        } catch {
            self.logger.error("store not closed cleanly", metadata: ["error.chain": "\(errorChain(error))"])
        }
        self.threads.shutdown()
        try? await self.loops.shutdownGracefully()
        try? await self.peerLoops.shutdownGracefully()
        self.logger.info("stopped")
    }
}
