package import AuditLedger
package import Consensus
package import Primitives

/// Who gave a command, for the record that it leaves.
package struct CommandOrigin: Sendable, Equatable {
    /// The name of an operator's token, or `node-3` for a node that acts of its own accord.
    package let actor: String
    package let kind: ActorKind
    /// The request that led to it; any text, may be empty.
    package let requestID: String
    package let channel: RequestChannel

    package init(actor: String, kind: ActorKind, requestID: String = "", channel: RequestChannel = .api) {
        self.actor = actor
        self.kind = kind
        self.requestID = requestID
        self.channel = channel
    }

    /// A node that acts of its own accord.
    package static func node(_ node: NodeID) -> CommandOrigin {
        CommandOrigin(actor: "node-\(node)", kind: .serviceAccount, channel: .system)
    }

    /// Of a command whose giver is not known.
    static let unknown = CommandOrigin(actor: "unknown", kind: .system, channel: .system)

    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.actor)
        writer.write(prefixed: self.kind.rawValue)
        writer.write(prefixed: self.requestID)
        writer.write(prefixed: self.channel.rawValue)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.actor = try reader.readPrefixedText()
        let kind = ActorKind(rawValue: try reader.readPrefixedText())
        self.requestID = try reader.readPrefixedText()
        let channel = RequestChannel(rawValue: try reader.readPrefixedText())
        guard let kind, let channel else { throw MalformedBytes(what: "origin of a command", offset: reader.offset) }
        self.kind = kind
        self.channel = channel
    }
}

/// Adds a node to the cluster; for a node that is known, changes where it is found and what it can do.
package struct RegisterNodeCommand: Sendable, Equatable {
    package let node: NodeID
    /// Where clients reach it: host and port.
    package let api: String
    /// Where peers reach it: host and port.
    package let peer: String
    /// Any text; replicas of a group are spread over regions.
    package let region: String
    /// 0 is preferred for leaders, larger ones less.
    package let priority: UInt8
    package let features: FeatureRange
    /// SHA-256 of the one-time token with which a new node joins; nil when the cluster itself registers it.
    package let joinToken: Digest?

    package init(
        node: NodeID,
        api: String,
        peer: String,
        region: String = "",
        priority: UInt8 = 0,
        features: FeatureRange = .supported,
        joinToken: Digest? = nil
    ) {
        self.node = node
        self.api = api
        self.peer = peer
        self.region = region
        self.priority = priority
        self.features = features
        self.joinToken = joinToken
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.node.rawValue)
        writer.write(prefixed: self.api)
        writer.write(prefixed: self.peer)
        writer.write(prefixed: self.region)
        writer.write(self.priority)
        self.features.encode(into: &writer)
        writer.write(UInt8(self.joinToken == nil ? 0 : 1))
        if let token = self.joinToken { writer.write(token) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.node = NodeID(try reader.read())
        self.api = try reader.readPrefixedText()
        self.peer = try reader.readPrefixedText()
        self.region = try reader.readPrefixedText()
        self.priority = try reader.read()
        self.features = try FeatureRange(from: &reader)
        self.joinToken = try reader.read(UInt8.self) == 0 ? nil : try reader.readDigest()
    }
}

/// Lets one node join, once, until a time; only the token's hash travels.
package struct CreateJoinTokenCommand: Sendable, Equatable {
    /// SHA-256 of the token.
    package let hash: Digest
    /// The id that the node will have; nil takes the next one that was never used.
    package let node: NodeID?
    /// In the leader's time.
    package let expiresAt: Timestamp

    package init(hash: Digest, node: NodeID? = nil, expiresAt: Timestamp) {
        self.hash = hash
        self.node = node
        self.expiresAt = expiresAt
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.hash)
        writer.write(self.node?.rawValue ?? 0)
        writer.write(self.expiresAt.rawValue)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.hash = try reader.readDigest()
        let node = try reader.read(UInt64.self)
        self.node = node == 0 ? nil : NodeID(node)
        self.expiresAt = Timestamp(microseconds: try reader.read())
    }
}

/// What may be placed on a node. Raw values are on disk and never change.
package enum NodeState: UInt8, Sendable, CaseIterable {
    /// Known, but it has not shown itself yet: nothing is placed on it.
    case joining = 1
    /// Takes replicas and leaders.
    case active = 2
    /// Keeps its replicas, but gets no new ones and should lead nothing.
    case cordoned = 3
    /// Gives away its leaders and replicas, then stays without any.
    case draining = 4
    /// As draining, and removed once it holds nothing.
    case leaving = 5
    /// No member any more; its id is never used again.
    case removed = 6

    /// The name in records, answers and texts.
    package var name: String { String(describing: self) }

    /// Whether an operator or the cluster may take a node from this state to `next`.
    package func allows(_ next: NodeState) -> Bool {
        switch (self, next) {
        case (.removed, _), (_, .joining): false
        case (.joining, .active), (.joining, .removed), (.joining, .leaving): true
        case (.joining, _): false
        case (_, .removed): self == .leaving || self == .draining
        default: self != next
        }
    }
}

/// Changes a node's state.
package struct SetNodeStateCommand: Sendable, Equatable {
    package let node: NodeID
    package let state: NodeState
    /// With `.leaving`: the node that takes the replicas over.
    package let replacement: NodeID?
    /// Removes a node that still counts as a replica somewhere: only for one that is lost for good.
    package let isForced: Bool

    package init(node: NodeID, state: NodeState, replacement: NodeID? = nil, isForced: Bool = false) {
        self.node = node
        self.state = state
        self.replacement = replacement
        self.isForced = isForced
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.node.rawValue)
        writer.write(self.state.rawValue)
        writer.write(self.replacement?.rawValue ?? 0)
        writer.write(UInt8(self.isForced ? 1 : 0))
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.node = NodeID(try reader.read())
        guard let state = NodeState(rawValue: try reader.read()) else {
            throw MalformedBytes(what: "state of a node", offset: reader.offset)
        }
        self.state = state
        let replacement = try reader.read(UInt64.self)
        self.replacement = replacement == 0 ? nil : NodeID(replacement)
        self.isForced = try reader.read(UInt8.self) == 1
    }
}

/// A group's membership, as its leader has applied it at `index` of the group's log.
package struct ConfirmPlacementCommand: Sendable, Equatable {
    package let group: GroupID
    package let membership: Membership
    package let index: LogIndex

    package init(group: GroupID, membership: Membership, index: LogIndex) {
        self.group = group
        self.membership = membership
        self.index = index
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.group.rawValue)
        writer.write(self.index.rawValue)
        writer.write(prefixed: self.membership.encoded())
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.group = GroupID(try reader.read())
        self.index = LogIndex(try reader.read())
        self.membership = try Membership(bytes: try reader.readPrefixed())
    }
}

/// The replicas that an operator wants for a group.
package struct SetTargetCommand: Sendable, Equatable {
    package let group: GroupID
    /// Ascending, 1, 3, 5 or 7 of them; empty lets the planner choose.
    package let replicas: [NodeID]

    package init(group: GroupID, replicas: [NodeID]) {
        self.group = group
        self.replicas = replicas.sorted()
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.group.rawValue)
        writer.write(nodes: self.replicas)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.group = GroupID(try reader.read())
        self.replicas = try reader.readNodes()
    }
}

/// Something that happened to the cluster and changes no state: a clock that drifts, a recovery, a rebalance.
package struct ClusterEventCommand: Sendable, Equatable {
    /// Such as `cluster.clock_drift`; of the same form as actions of other records.
    package let action: String
    package let entityType: String
    package let entityID: String
    /// A JSON object, which becomes `after`; empty for none.
    package let details: [UInt8]
    package let severity: Severity

    /// Bytes of the details.
    package static let detailsBytesMax = 16 << 10

    package init(action: String, entityType: String, entityID: String, details: [UInt8] = [], severity: Severity) {
        self.action = action
        self.entityType = entityType
        self.entityID = entityID
        self.details = details
        self.severity = severity
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.action)
        writer.write(prefixed: self.entityType)
        writer.write(prefixed: self.entityID)
        writer.write(prefixed: self.details)
        writer.write(prefixed: self.severity.rawValue)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.action = try reader.readPrefixedText()
        self.entityType = try reader.readPrefixedText()
        self.entityID = try reader.readPrefixedText()
        self.details = Array(try reader.readPrefixed())
        guard let severity = Severity(rawValue: try reader.readPrefixedText()) else {
            throw MalformedBytes(what: "severity", offset: reader.offset)
        }
        self.severity = severity
    }
}

extension FeatureRange {
    func encode(into writer: inout ByteWriter) {
        writer.write(self.min.rawValue)
        writer.write(self.max.rawValue)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        let low = FeatureLevel(rawValue: try reader.read())
        let high = FeatureLevel(rawValue: try reader.read())
        guard low <= high else { throw MalformedBytes(what: "range of feature levels", offset: reader.offset) }
        self.init(min: low, max: high)
    }
}

extension ByteWriter {
    mutating func write(nodes: [NodeID]) {
        self.write(UInt32(nodes.count))
        for node in nodes { self.write(node.rawValue) }
    }
}

extension ByteReader {
    /// A count of things of at least one byte each.
    mutating func readCount() throws(MalformedBytes) -> Int {
        let count = Int(try self.read(UInt32.self))
        guard count <= self.remaining else { throw MalformedBytes(what: "count", offset: self.offset) }
        return count
    }

    /// Nodes in ascending order, each once.
    mutating func readNodes() throws(MalformedBytes) -> [NodeID] {
        var nodes: [NodeID] = []
        for _ in 0..<(try self.readCount()) {
            let node = NodeID(try self.read(UInt64.self))
            guard nodes.last.map({ $0 < node }) ?? true else {
                throw MalformedBytes(what: "order of nodes", offset: self.offset)
            }
            nodes.append(node)
        }
        return nodes
    }
}
