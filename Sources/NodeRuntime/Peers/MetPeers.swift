internal import Primitives
internal import Storage
internal import Synchronization

/// The nodes that have ever spoken to the groups of this one, durably: what tells a node that lost its data directory from one that
/// starts for the first time (``FoundingCheck``).
final class MetPeers: Sendable {
    private static let prefix = Array("met/".utf8)

    private let known: Mutex<Set<NodeID>>
    private let keep: @Sendable (NodeID) async throws -> Void

    /// - Parameters:
    ///   - known: Those met before.
    ///   - keep: Makes a meeting durable.
    init(known: Set<NodeID>, keep: @escaping @Sendable (NodeID) async throws -> Void) {
        self.known = Mutex(known)
        self.keep = keep
    }

    /// Reads from `store`, blocking, what is known, and keeps there on `threads` what comes.
    /// - Throws: ``StorageError`` or `MalformedBytes`.
    convenience init(store: any KeyValueStore, threads: StoreThreads) throws {
        var known: Set<NodeID> = []
        try store.scan(.meta, prefix: Self.prefix) { key, _ in
            var reader = ByteReader(Array(key.dropFirst(Self.prefix.count)))
            known.insert(NodeID(try reader.read()))
            return true
        }
        self.init(known: known) { peer in
            try await threads.run {
                var writer = ByteWriter(capacity: 8)
                writer.write(peer.rawValue)
                var batch = WriteBatch()
                batch.put(.meta, key: Self.prefix + writer.bytes, value: [1])
                try store.write(batch)
                try store.sync()
            }
        }
    }

    /// Whether `peer` has spoken to this node's groups.
    func contains(_ peer: NodeID) -> Bool { self.known.withLock { $0.contains(peer) } }

    /// Notes `peer` before anything that it says is heeded; writes once for each peer.
    /// - Throws: ``StorageError``: nothing of the peer may be heeded.
    func note(_ peer: NodeID) async throws {
        if self.contains(peer) { return }
        try await self.keep(peer)
        _ = self.known.withLock { $0.insert(peer) }
    }
}
