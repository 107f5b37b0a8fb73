internal import Primitives
internal import Storage

/// What a data directory says of whom it belongs to; written once, checked at every start.
struct NodeIdentity: Equatable {
    /// The format of everything in the data directory that this program writes.
    static let formatVersion: UInt32 = 1
    private static let key = Array("identity".utf8)

    let clusterID: String
    let node: NodeID
    let members: [NodeID]
    let dataGroups: Int
    let replicas: Int

    init(_ configuration: NodeConfiguration) {
        self.clusterID = configuration.clusterID
        self.node = configuration.nodeID
        self.members = configuration.members.map(\.id).sorted()
        self.dataGroups = configuration.dataGroups
        self.replicas = configuration.replicas
    }

    private init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.clusterID = try reader.readPrefixedText()
        self.node = NodeID(try reader.read())
        self.dataGroups = Int(try reader.read(UInt32.self))
        self.replicas = Int(try reader.read(UInt32.self))
        var members: [NodeID] = []
        while !reader.isAtEnd { members.append(NodeID(try reader.read())) }
        self.members = members
    }

    private func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.formatVersion)
        writer.write(prefixed: self.clusterID)
        writer.write(self.node.rawValue)
        writer.write(UInt32(self.dataGroups))
        writer.write(UInt32(self.replicas))
        for member in self.members { writer.write(member.rawValue) }
        return writer.bytes
    }

    /// Checks that `store` belongs to this identity, or marks a new one.
    /// - Throws: ``NodeError`` `.dataDirectory` that says what differs.
    func claim(_ store: any KeyValueStore, directory: String) throws {
        guard let value = try store.get(Self.key, in: .meta) else {
            var batch = WriteBatch()
            batch.put(.meta, key: Self.key, value: self.encoded())
            try store.write(batch)
            try store.sync()
            return
        }
        let found = try self.read(value, directory)
        if found.clusterID != self.clusterID {
            throw self.refusal(directory, "belongs to cluster \"\(found.clusterID)\", not \"\(self.clusterID)\"")
        }
        if found.node != self.node { throw self.refusal(directory, "belongs to node \(found.node), not \(self.node)") }
        if found.dataGroups != self.dataGroups {
            throw self.refusal(
                directory,
                "has \(found.dataGroups) data groups, the configuration says \(self.dataGroups): they are fixed at creation"
            )
        }
        if found.replicas != self.replicas || found.members != self.members {
            throw self.refusal(
                directory,
                "was made for nodes \(Self.list(found.members)) with \(found.replicas) replicas, "
                    + "the configuration says nodes \(Self.list(self.members)) with \(self.replicas)"
            )
        }
    }

    private func read(_ value: [UInt8], _ directory: String) throws(NodeError) -> NodeIdentity {
        var reader = ByteReader(value)
        let version: UInt32
        let found: NodeIdentity?
        do {
            version = try reader.read(UInt32.self)
            found = version <= Self.formatVersion ? try NodeIdentity(from: &reader) : nil
        } catch {
            throw NodeError(.dataDirectory, "data directory \(directory) does not say whom it belongs to", cause: error)
        }
        guard let found else {
            throw self.refusal(
                directory,
                "is of format \(version), this program knows up to \(Self.formatVersion): use a newer program"
            )
        }
        return found
    }

    private static func list(_ nodes: [NodeID]) -> String { nodes.map(\.description).joined(separator: ", ") }

    private func refusal(_ directory: String, _ what: String) -> NodeError {
        NodeError(.dataDirectory, "data directory \(directory) \(what)")
    }
}
