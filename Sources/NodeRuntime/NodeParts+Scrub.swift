internal import AuditLedger
internal import Columnar
internal import Consensus
internal import CoreMetrics
internal import Foundation
internal import Laboratory
internal import Logging
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Synchronization

/// A service that is made after those who ask for it.
final class LateService<Service: Sendable>: Sendable {
    private let service = Mutex<Service?>(nil)
    func set(_ service: Service) { self.service.withLock { $0 = service } }
    /// Ends the ring of services that hold each other.
    func clear() { self.service.withLock { $0 = nil } }
    var current: Service? { self.service.withLock { $0 } }
}

// What finds damage, tells of it and repairs it.
extension NodeParts {
    var placement: Placement {
        Placement(
            node: self.configuration.nodeID,
            directory: self.applier.directory,
            host: self.host,
            damage: self.damage
        )
    }

    /// Looks at every ledger's head before anything is applied.
    func checkHeads() async throws -> StartCheck.Outcome {
        let (store, logs, applier, damage) = (self.store, self.logs, self.applier, self.damage)
        return try await self.threads.run {
            try StartCheck(store: store, applier: applier, register: damage) { try logs.load($0).terms.last }.run()
        }
    }

    func makeInspector() -> ReplicaInspector {
        ReplicaInspector(
            store: self.store,
            threads: self.threads,
            applier: self.applier,
            columnar: ColumnarAudit(
                store: self.store,
                threads: self.threads,
                stores: self.columnarStores,
                columnarThreads: self.columnarThreads
            ),
            checkpoints: CheckpointAudit(
                cluster: self.configuration.clusterID,
                book: self.audit.book,
                store: self.store
            )
        )
    }

    func makeReporter(_ gateway: CommandGateway) -> DamageReporter {
        let (audit, node) = (self.audit, self.configuration.nodeID)
        return DamageReporter(
            node: node,
            cluster: self.configuration.clusterID,
            register: self.damage,
            threads: self.threads,
            host: self.host,
            gateway: gateway,
            keys: { audit.keys.usable(in: audit.book.keys(of: node), at: SystemTime.now()) },
            metrics: self.scrubMetrics,
            logger: self.logger
        )
    }

    func makeTrustedHeads() -> TrustedHeads {
        TrustedHeads(
            node: self.configuration.nodeID,
            directory: self.applier.directory,
            placement: self.placement,
            links: self.links,
            threads: self.threads,
            rows: self.audit.rows,
            book: self.audit.book,
            timeout: Self.peerTimeout
        )
    }

    func makeReplicaReader(_ service: PeerService) -> ReplicaReader {
        ReplicaReader(
            node: self.configuration.nodeID,
            placement: self.placement,
            links: self.links,
            service: service,
            timeout: Self.peerTimeout,
            verifyTimeout: Self.verifyTimeout
        )
    }

    func makeRepairs(_ services: NodeServices, _ replicas: ReplicaReader) -> RepairService {
        let (stores, projector) = (self.columnarStores, self.projector)
        return RepairService(
            node: self.configuration.nodeID,
            host: self.host,
            placement: self.placement,
            applier: self.applier,
            store: self.store,
            threads: self.threads,
            replicas: replicas,
            trusted: services.trusted,
            inspector: services.inspector,
            reporter: services.reporter,
            checkpoints: self.audit.service,
            rebuildProjections: { organization in
                try await stores.reset(organization)
                projector.forgetPosition(of: organization)
                projector.advanced(organization)
            }
        )
    }

    func makeScrubber(
        _ services: NodeServices,
        _ start: StartCheck.Outcome
    ) -> Scrubber {
        let (host, owed) = (self.host, OwedLedgers(start.owed, store: self.store))
        let (applier, damage, placement) = (self.applier, self.damage, self.placement)
        let (reporter, metrics) = (services.reporter, self.scrubMetrics)
        return Scrubber(
            store: self.store,
            threads: self.threads,
            ports: Scrubber.Ports(
                organizations: {
                    let state = applier.directory.current
                    let all = state.organizations.values.sorted { $0.id < $1.id }
                    return (all + [state.clusterLedger].compactMap { $0 }).filter { placement.servesHere($0.group) }
                },
                late: { try owed.judge { host.appliedMark($0)?.index ?? .zero } },
                isSettled: { try !applier.hasStaged($0.id, in: $0.group) },
                isDamaged: { damage.contains($0) },
                found: { await reporter.found($0, in: $1, attestation: $2) },
                announce: { await reporter.announce($0, in: $1) },
                sound: { await reporter.sound($0, $1) },
                read: { metrics.bytes.increment(by: $0) },
                now: { SystemTime.now() }
            ),
            rate: TokenBucket(
                bytesPerSecond: Double(self.configuration.scrubBytesPerSecond),
                now: NodeClock.monotonic.now
            ),
            interval: .seconds(self.configuration.scrubIntervalHours * 3600),
            clock: NodeClock.monotonic,
            startFindings: start.findings,
            logger: self.logger
        )
    }
}
