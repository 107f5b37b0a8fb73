internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Logging
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage

/// What a node signs checkpoints with, and keeps of them.
final class NodeAudit: Sendable {
    /// How long a peer may take to sign what it is asked.
    static let askTimeout = Duration.seconds(1)

    let configuration: NodeConfiguration
    let keys: SigningKeys
    let book: KeyBook
    let rows: CheckpointStore
    /// Signs, and waits for the disk before.
    let signing: SerialThread
    let service: CheckpointService
    let courier: WitnessCourier

    /// - Throws: ``NodeError`` when the configured key cannot be used, ``StorageError`` without another thread.
    init(
        configuration: NodeConfiguration,
        applier: ShardApplier,
        store: any KeyValueStore,
        host: RaftHost,
        links: PeerLinks,
        threads: StoreThreads,
        damage: DamageRegister,
        loops: any EventLoopGroup,
        registry: PrometheusRegistry,
        logger: Logger
    ) throws {
        let node = configuration.nodeID
        let directory = applier.directory
        self.configuration = configuration
        do {
            self.keys = try SigningKeys(
                file: configuration.signingKeyFile.map { SigningKeyFile(path: $0) },
                cluster: configuration.clusterID,
                node: node
            )
        } catch {
            throw NodeError(.configuration, "audit.signing_key cannot be used", cause: error)
        }
        let (keys, book) = (self.keys, KeyBook(cluster: configuration.clusterID, directory: directory))
        self.book = book
        self.rows = CheckpointStore(store: store)
        self.signing = try SerialThread(name: "ft-sign")
        let placement = Placement(node: node, directory: directory, host: host, damage: damage)
        let start = NodeClock.monotonic.now
        let ports = CheckpointService.Ports(
            entry: { directory.organization($0) },
            leads: { group in
                guard host.leader(of: group) == node, let status = host.status(of: group),
                    !keys.usable(in: book.keys(of: node), at: SystemTime.now()).isEmpty
                else { return nil }
                return SigningQuorum(status.membership)
            },
            quorum: { group in host.status(of: group).map { SigningQuorum($0.membership) } },
            serves: { placement.servesHere($0) },
            size: { applier.knownHead(of: $0)?.size },
            ask: { peer, request in
                try await links.call(PeerPath.checkpoints, of: peer, request, timeout: Self.askTimeout)
            },
            now: { start.duration(to: NodeClock.monotonic.now) },
            sleep: { try? await Task.sleep(for: $0) }
        )
        let metrics = CheckpointMetrics(registry: registry)
        let witnesses = try WitnessCourier.witnesses(configuration, loops)
        let policy = WitnessPolicy(
            keys: witnesses.map(\.key),
            needed: configuration.witnessQuorum ?? witnesses.count
        )
        self.service = CheckpointService(
            node: node,
            ports: ports,
            signer: CheckpointSigner(
                cluster: configuration.clusterID,
                node: node,
                keys: keys,
                book: book,
                rows: self.rows
            ),
            threads: threads,
            signing: self.signing,
            metrics: metrics,
            witnesses: policy,
            logger: logger
        )
        let courier = WitnessCourier(witnesses: witnesses, policy: policy, service: self.service)
        self.courier = courier
        self.service.published.receive { courier.published($0.0, $0.1) }
        metrics.observe(self.service)
        metrics.observe(courier)
    }

    /// Whether this node has a key that is published and valid.
    var canSign: Bool {
        let known = self.book.keys(of: self.configuration.nodeID)
        return !self.keys.usable(in: known, at: SystemTime.now()).isEmpty
    }

    /// What this node says of itself to others.
    var status: WireAuditStatus {
        var status = WireAuditStatus()
        let known = self.service.status
        status.signing = self.canSign
        status.forks = UInt64(known.forks)
        status.contradictions = UInt64(known.contradictions)
        status.pending = UInt64(known.pending)
        status.witnesses = self.courier.status.map { witness in
            var wire = WireWitnessStatus()
            wire.name = witness.name
            wire.url = witness.url
            wire.state = witness.condition.rawValue
            wire.pending = UInt64(witness.pending)
            return wire
        }
        return status
    }

    /// Whose signatures make a checkpoint of an organization good, as a policy that anybody can keep.
    /// - Throws: ``NoteError`` when too few nodes have published keys.
    func policy(of origin: LogOrigin, replicas: [NodeID]) throws -> TrustPolicy {
        let keys = self.book.all()
        let witnesses = try self.configuration.witnesses.map { try NoteVerifierKey(parsing: $0.key) }
        return try TrustPolicy.cluster(
            logs: self.book.logKeys(of: origin).sorted { $0.id.rawValue < $1.id.rawValue },
            replicas: replicas.sorted().flatMap { (keys[$0] ?? []).map(\.key) },
            replicasNeeded: replicas.count / 2 + 1,
            witnesses: witnesses,
            witnessesNeeded: self.configuration.witnessQuorum ?? witnesses.count
        )
    }
}
