package import Consensus
package import Primitives

/// What the cluster knows of one of its nodes.
package struct NodeEntry: Sendable, Equatable {
    package let id: NodeID
    /// Where clients reach it: host and port.
    package internal(set) var api: String
    /// Where peers reach it: host and port.
    package internal(set) var peer: String
    package internal(set) var region: String
    /// 0 is preferred for leaders, larger ones less.
    package internal(set) var priority: UInt8
    package internal(set) var features: FeatureRange
    package internal(set) var state: NodeState
    /// While it leaves: the node that takes its replicas over.
    package internal(set) var replacement: NodeID?
    package let addedAt: Timestamp

    init(_ command: RegisterNodeCommand, state: NodeState, addedAt: Timestamp) {
        self.id = command.node
        self.api = command.api
        self.peer = command.peer
        self.region = command.region
        self.priority = command.priority
        self.features = command.features
        self.state = state
        self.replacement = nil
        self.addedAt = addedAt
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(prefixed: self.api)
        writer.write(prefixed: self.peer)
        writer.write(prefixed: self.region)
        writer.write(self.priority)
        self.features.encode(into: &writer)
        writer.write(self.state.rawValue)
        writer.write(self.replacement?.rawValue ?? 0)
        writer.write(self.addedAt.rawValue)
        return writer.bytes
    }

    init(id: NodeID, value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        self.id = id
        self.api = try reader.readPrefixedText()
        self.peer = try reader.readPrefixedText()
        self.region = try reader.readPrefixedText()
        self.priority = try reader.read()
        self.features = try FeatureRange(from: &reader)
        guard let state = NodeState(rawValue: try reader.read()) else {
            throw MalformedBytes(what: "state of a node", offset: reader.offset)
        }
        self.state = state
        let replacement = try reader.read(UInt64.self)
        self.replacement = replacement == 0 ? nil : NodeID(replacement)
        self.addedAt = Timestamp(microseconds: try reader.read())
        try reader.finish("node")
    }
}

/// Where a group's replicas are, as far as the system group was told, and where they should be.
package struct PlacementEntry: Sendable, Equatable {
    package let group: GroupID
    package internal(set) var membership: Membership
    /// The index of the group's log at which the membership was in force; zero for the first one.
    package internal(set) var index: LogIndex
    /// What an operator wants, ascending; empty: the planner chooses.
    package internal(set) var target: [NodeID]

    init(group: GroupID, membership: Membership, index: LogIndex = .zero, target: [NodeID] = []) {
        self.group = group
        self.membership = membership
        self.index = index
        self.target = target
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(self.index.rawValue)
        writer.write(prefixed: self.membership.encoded())
        writer.write(nodes: self.target)
        return writer.bytes
    }

    init(group: GroupID, value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        self.group = group
        self.index = LogIndex(try reader.read())
        self.membership = try Membership(bytes: try reader.readPrefixed())
        self.target = try reader.readNodes()
        try reader.finish("placement")
    }
}

/// Leave to join, for one node, once.
package struct JoinTokenEntry: Sendable, Equatable {
    /// SHA-256 of the token.
    package let hash: Digest
    package let node: NodeID
    package let expiresAt: Timestamp

    init(hash: Digest, node: NodeID, expiresAt: Timestamp) {
        self.hash = hash
        self.node = node
        self.expiresAt = expiresAt
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 16)
        writer.write(self.node.rawValue)
        writer.write(self.expiresAt.rawValue)
        return writer.bytes
    }

    init(hash: Digest, value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        self.hash = hash
        self.node = NodeID(try reader.read())
        self.expiresAt = Timestamp(microseconds: try reader.read())
        try reader.finish("join token")
    }
}
