internal import Consensus
internal import Primitives
internal import Storage

/// What a data directory says of whom it belongs to; written once, checked at every start.
struct NodeIdentity: Equatable, Sendable {
    /// How the data directory came to be.
    enum Origin: Equatable, Sendable {
        /// One of those that began the cluster: their ids in the order of ``FoundingPlacement``, and the copies of each data group.
        case founded(nodes: [NodeID], replicas: Int)
        /// Added to a running cluster: every replica came from others.
        case joined
        /// About to join: nothing is known yet of whether a member has let it in.
        case joining
    }

    /// The format of everything in the data directory that this program writes.
    ///
    /// Format 3 has a checksum in each row that nothing else vouches for (``RowChecksum``).
    static let formatVersion: UInt32 = 3
    private static let key = Array("identity".utf8)

    let clusterID: String
    let node: NodeID
    let dataGroups: Int
    /// Counts the recoveries of the cluster from a lost majority: nodes of different epochs do not talk.
    let recoveryEpoch: UInt64
    let origin: Origin

    init(clusterID: String, node: NodeID, dataGroups: Int, recoveryEpoch: UInt64, origin: Origin) {
        self.clusterID = clusterID
        self.node = node
        self.dataGroups = dataGroups
        self.recoveryEpoch = recoveryEpoch
        self.origin = origin
    }

    /// The identity of a founding node.
    init(founding configuration: NodeConfiguration) {
        self.init(
            clusterID: configuration.clusterID,
            node: configuration.nodeID,
            dataGroups: configuration.dataGroups,
            recoveryEpoch: 0,
            origin: .founded(nodes: FoundingPlacement.order(configuration.members), replicas: configuration.replicas)
        )
    }

    /// The identity of a node that asks to join, and of one that has, in a cluster of recovery epoch `epoch`.
    init(joining configuration: NodeConfiguration, hasJoined epoch: UInt64? = nil) {
        self.init(
            clusterID: configuration.clusterID,
            node: configuration.nodeID,
            dataGroups: configuration.dataGroups,
            recoveryEpoch: epoch ?? 0,
            origin: epoch == nil ? .joining : .joined
        )
    }

    /// The groups that a founding node begins with; none for others, to whom leaders bring them.
    var firstGroups: [GroupID: Membership] {
        guard case .founded(let nodes, let replicas) = self.origin else { return [:] }
        return FoundingPlacement(nodes: nodes, dataGroups: self.dataGroups, replicas: replicas).groups(on: self.node)
    }

    /// The same after another recovery.
    func recovered() -> NodeIdentity {
        NodeIdentity(
            clusterID: self.clusterID,
            node: self.node,
            dataGroups: self.dataGroups,
            recoveryEpoch: self.recoveryEpoch + 1,
            origin: self.origin
        )
    }

    private enum OriginKind: UInt8 {
        case founded = 1
        case joined = 2
        case joining = 3
    }

    private init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.clusterID = try reader.readPrefixedText()
        self.node = NodeID(try reader.read())
        self.dataGroups = Int(try reader.read(UInt32.self))
        self.recoveryEpoch = try reader.read()
        switch OriginKind(rawValue: try reader.read()) {
        case .joined: self.origin = .joined
        case .joining: self.origin = .joining
        case .founded:
            let replicas = Int(try reader.read(UInt32.self))
            var nodes: [NodeID] = []
            while !reader.isAtEnd { nodes.append(NodeID(try reader.read())) }
            self.origin = .founded(nodes: nodes, replicas: replicas)
        case nil: throw MalformedBytes(what: "origin of a data directory", offset: reader.offset)
        }
        try reader.finish("identity")
    }

    private func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.formatVersion)
        writer.write(prefixed: self.clusterID)
        writer.write(self.node.rawValue)
        writer.write(UInt32(self.dataGroups))
        writer.write(self.recoveryEpoch)
        switch self.origin {
        case .joined: writer.write(OriginKind.joined.rawValue)
        case .joining: writer.write(OriginKind.joining.rawValue)
        case .founded(let nodes, let replicas):
            writer.write(OriginKind.founded.rawValue)
            writer.write(UInt32(replicas))
            for node in nodes { writer.write(node.rawValue) }
        }
        return writer.bytes
    }

    /// Puts the identity into a batch of writes.
    func write(into batch: inout WriteBatch) { batch.put(.meta, key: Self.key, value: self.encoded()) }

    /// Marks an empty data directory, durably; that of a founding node is still to be checked (``FoundingCheck``).
    func claim(_ store: any KeyValueStore) throws {
        var batch = WriteBatch()
        self.write(into: &batch)
        if case .founded = self.origin { FoundingCheck.demand(in: &batch) }
        try store.write(batch)
        try store.sync()
    }

    /// The store of a data directory with its checksums; one of the format before gets them first, which may take a
    /// while. Blocks.
    /// - Throws: ``NodeError`` `.dataDirectory` when its format is another or it cannot be read; ``StorageError``.
    static func openRows(_ store: any KeyValueStore, directory: String) throws -> CheckedStore {
        guard let value = try store.get(Self.key, in: .meta) else { return CheckedStore(store) }
        var reader = ByteReader(value)
        do {
            let version = try reader.read(UInt32.self)
            if version == RowChecksumUpgrade.oldFormat {
                // Read to its end: one with a checksum, whose version was changed, is none of the old format.
                let identity = try NodeIdentity(from: &reader)
                try RowChecksumUpgrade(store: store).run { identity.write(into: &$0) }
            } else {
                try Self.require(version, directory)
            }
            return CheckedStore(store)
        } catch let error as MalformedBytes {
            throw Self.unreadable(directory, error)
        }
    }

    private static func require(_ version: UInt32, _ directory: String) throws(NodeError) {
        guard version != Self.formatVersion else { return }
        let advice = version > Self.formatVersion ? "use a newer program" : "it cannot be converted"
        throw Self.refusal(directory, "is of format \(version), this program needs \(Self.formatVersion): \(advice)")
    }

    private static func unreadable(_ directory: String, _ cause: any Error) -> NodeError {
        NodeError(.dataDirectory, "data directory \(directory) does not say whom it belongs to", cause: cause)
    }

    /// What the data directory says; nil when it is empty.
    /// - Throws: ``NodeError`` `.dataDirectory` when its format is another or it cannot be read.
    static func read(_ store: any KeyValueReader, directory: String) throws -> NodeIdentity? {
        do {
            guard let value = try store.get(Self.key, in: .meta) else { return nil }
            var reader = ByteReader(value)
            try Self.require(try reader.read(UInt32.self), directory)
            return try NodeIdentity(from: &reader)
        } catch let error as MalformedBytes {
            throw Self.unreadable(directory, error)
        } catch let error as StorageError where error.code == .corruption {
            throw Self.unreadable(directory, error)
        }
    }

    /// Checks that the data directory is that of the configuration's node.
    ///
    /// `cluster.nodes` and `cluster.replicas` may change after the first start: the cluster keeps its own account of both.
    /// - Throws: ``NodeError`` `.dataDirectory` that says what differs.
    func requireMatch(_ configuration: NodeConfiguration, directory: String) throws(NodeError) {
        if self.clusterID != configuration.clusterID {
            throw Self.refusal(
                directory,
                "belongs to cluster \"\(self.clusterID)\", not \"\(configuration.clusterID)\""
            )
        }
        if self.node != configuration.nodeID {
            throw Self.refusal(
                directory,
                "belongs to node \(self.node), not \(configuration.nodeID); a copy of another node's directory is never used"
            )
        }
        if case .founded = self.origin, self.dataGroups != configuration.dataGroups {
            throw Self.refusal(
                directory,
                "has \(self.dataGroups) data groups, the configuration says \(configuration.dataGroups): "
                    + "they are fixed at creation"
            )
        }
    }

    private static func refusal(_ directory: String, _ what: String) -> NodeError {
        NodeError(.dataDirectory, "data directory \(directory) \(what)")
    }
}
