internal import Consensus
internal import Foundation
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import RocksStorage
internal import Storage
internal import Transport

/// What a node stands on before it has any life: its data directory, who it is, its certificates and event loops.
struct NodeGround: Sendable {
    /// Event loops.
    static let eventLoops = 2

    let store: CheckedStore
    /// The Raft logs of all groups.
    let logs: any RaftLogStorage
    let identity: NodeIdentity
    let tls: NodeTLS
    let loops: MultiThreadedEventLoopGroup
    /// For the peers' connections and the raft loop.
    let peerLoops: MultiThreadedEventLoopGroup

    /// Opens the data directory; an empty one becomes that of a founding node, or of one that joins, which takes until a member has
    /// let it in.
    /// - Throws: ``NodeError``.
    static func open(_ configuration: NodeConfiguration, _ logger: Logger) async throws -> NodeGround {
        let tls = try NodeTLS(configuration)
        try self.prepareFolders(configuration.dataDirectory)
        let store = try self.openRows(configuration.dataDirectory)
        let logs: any RaftLogStorage
        do {
            logs = try self.openLogs(configuration.dataDirectory)
        } catch {
            try? store.close()
            throw error
        }
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: Self.eventLoops)
        let peerLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            let identity = try await self.identify(configuration, store, tls, loops, logger)
            return NodeGround(
                store: store,
                logs: logs,
                identity: identity,
                tls: tls,
                loops: loops,
                peerLoops: peerLoops
            )
        } catch {
            try? logs.close()
            try? store.close()
            try? await loops.shutdownGracefully()
            try? await peerLoops.shutdownGracefully()
            throw error
        }
    }

    private static func prepareFolders(_ root: String) throws(NodeError) {
        do {
            for folder in [Node.columnarFolder, Node.temporaryFolder] {
                try FileManager.default.createDirectory(atPath: root + "/" + folder, withIntermediateDirectories: true)
            }
            let temporary = root + "/" + Node.temporaryFolder
            for entry in try FileManager.default.contentsOfDirectory(atPath: temporary) {
                try FileManager.default.removeItem(atPath: temporary + "/" + entry)
            }
            try FileManager.default.createDirectory(
                atPath: temporary + "/" + Node.engineFolder,
                withIntermediateDirectories: true
            )
        } catch {
            throw NodeError(.dataDirectory, "data directory \(root) cannot be used", cause: error)
        }
    }

    /// Opens the key-value store of the data directory `root`.
    static func openStore(_ root: String) throws(NodeError) -> RocksStore {
        do {
            return try RocksStore.open(path: root + "/" + Node.storeFolder)
        } catch {
            let what = error.code == .busy ? "is in use by another process" : "cannot be opened"
            throw NodeError(.dataDirectory, "data directory \(root) \(what)", cause: error)
        }
    }

    /// Opens the key-value store of a node's data directory, whose rows have checksums. Blocks, longer for a directory of
    /// the format before.
    static func openRows(_ root: String) throws -> CheckedStore {
        let store = try self.openStore(root)
        do {
            return try NodeIdentity.openRows(store, directory: root)
        } catch {
            try? store.close()
            throw error
        }
    }

    /// Opens the Raft logs of the data directory `root`.
    static func openLogs(_ root: String) throws(NodeError) -> any RaftLogStorage {
        let path = root + "/" + Node.logFolder
        do {
            let files = try DiskLogFiles(path: path)
            let preparer = try SerialThread(name: "ft-log-spare")
            do {
                return try SegmentLog.open(files: files, preparer: preparer)
            } catch {
                preparer.shutdown()
                throw error
            }
        } catch {
            throw NodeError(.dataDirectory, "the Raft logs in \(path) cannot be used", cause: error)
        }
    }

    private static func identify(
        _ configuration: NodeConfiguration,
        _ store: CheckedStore,
        _ tls: NodeTLS,
        _ loops: MultiThreadedEventLoopGroup,
        _ logger: Logger
    ) async throws -> NodeIdentity {
        let directory = configuration.dataDirectory
        if let found = try NodeIdentity.read(store, directory: directory) {
            try found.requireMatch(configuration, directory: directory)
            if found.origin != .joining { return found }
        } else if configuration.joinToken == nil {
            guard configuration.ownEntry != nil else {
                throw NodeError(.configuration, "node \(configuration.nodeID) is not in cluster.nodes")
            }
            let identity = NodeIdentity(founding: configuration)
            try identity.claim(store)
            return identity
        }
        guard let token = configuration.joinToken else {
            throw NodeError(
                .join,
                "node \(configuration.nodeID) has not joined yet: cluster.join_token of `ftnode cluster add-node` is needed"
            )
        }
        try NodeIdentity(joining: configuration).claim(store)
        let links = PeerLinks(
            handshake: PeerHandshake(cluster: configuration.clusterID, node: configuration.nodeID, epoch: 0),
            seeds: [],
            client: HTTPClient(eventLoopGroup: loops, tls: tls.peerClient, limits: .peers),
            metrics: PeerMetrics(registry: PrometheusRegistry()),
            logger: logger
        )
        let epoch = try await ClusterJoin.run(configuration, token: token, links: links, logger: logger)
        let identity = NodeIdentity(joining: configuration, hasJoined: epoch)
        try identity.claim(store)
        logger.notice("joined the cluster", metadata: ["cluster.id": "\(configuration.clusterID)"])
        return identity
    }
}

/// The node's TLS contexts.
struct NodeTLS: Sendable {
    let api: ReloadableTLSContext
    let peerServer: ReloadableTLSContext
    let peerClient: ReloadableTLSContext

    init(_ configuration: NodeConfiguration) throws {
        let cluster = configuration.clusterID
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
                    // Which of the cluster's nodes may talk is decided for each request.
                    acceptsPeer: { certificate in
                        certificate.dnsNames.contains { PeerIdentity.node(ofDNSName: $0, cluster: cluster) != nil }
                    }
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
