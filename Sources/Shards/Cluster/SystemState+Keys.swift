internal import AuditLedger
package import Primitives
internal import Storage

/// A key with which a node signs checkpoints, as the cluster knows it: the public part only.
package struct NodeKeyEntry: Sendable, Equatable {
    package let node: NodeID
    /// The public key as a C2SP vkey.
    package let key: String
    /// The leader's time when it was published.
    package let validFrom: Timestamp
    /// The last moment at which it is valid; nil while it is in use.
    package internal(set) var validTo: Timestamp?

    package init(node: NodeID, key: String, validFrom: Timestamp, validTo: Timestamp? = nil) {
        self.node = node
        self.key = key
        self.validFrom = validFrom
        self.validTo = validTo
    }

    /// Whether the key is valid at `time`; both ends belong to its validity.
    package func isValid(at time: Timestamp) -> Bool {
        self.validFrom <= time && self.validTo.map { time <= $0 } ?? true
    }

    var stateKey: [UInt8] {
        var writer = ByteWriter(capacity: 8 + self.key.utf8.count)
        writer.write(self.node.rawValue)
        writer.write(raw: Array(self.key.utf8))
        return writer.bytes
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 17)
        writer.write(self.validFrom.rawValue)
        writer.write(UInt8(self.validTo == nil ? 0 : 1))
        if let validTo = self.validTo { writer.write(validTo.rawValue) }
        return writer.bytes
    }

    init(stateKey: ArraySlice<UInt8>, value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(stateKey)
        self.node = NodeID(try reader.read())
        guard let key = String(validating: try reader.read(count: reader.remaining), as: UTF8.self) else {
            throw MalformedBytes(what: "node key", offset: 8)
        }
        self.key = key
        var values = ByteReader(value)
        self.validFrom = Timestamp(microseconds: try values.read())
        self.validTo = try values.read(UInt8.self) == 0 ? nil : Timestamp(microseconds: try values.read())
        try values.finish("node key")
    }
}

/// The keys with which nodes sign checkpoints.
extension SystemState {
    /// The longest public key, in UTF-8 bytes.
    package static let nodeKeyBytesMax = 255
    /// The most keys that a node ever has, retired ones included.
    package static let nodeKeysMax = 256

    /// The keys of a node, oldest first.
    package func keys(of node: NodeID) -> [NodeKeyEntry] {
        self.keys.filter { $0.node == node }.sorted { ($0.validFrom, $0.key) < ($1.validFrom, $1.key) }
    }

    mutating func publishKey(_ command: PublishKeyCommand, _ turn: inout Turn) -> CommandResult {
        guard let node = self.node(command.node) else { return .refused(.nodeNotFound) }
        guard node.state != .removed else { return .refused(.nodeRemoved) }
        guard (1...Self.nodeKeyBytesMax).contains(command.key.utf8.count),
            command.key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { return .refused(.malformed) }
        if let known = self.keys.first(where: { $0.key == command.key }) {
            // What was retired is not made valid again: signatures of the time between would become good.
            return known.node == command.node && known.validTo == nil ? .done : .refused(.keyExists)
        }
        guard self.keys.count(where: { $0.node == command.node }) < Self.nodeKeysMax else { return .refused(.tooMany) }
        let entry = NodeKeyEntry(node: command.node, key: command.key, validFrom: self.lastStamp)
        self.put(entry, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.key_published",
                entityType: "node_key",
                entityID: entry.key,
                after: entry.members
            )
        )
        return .done
    }

    mutating func retireKey(_ command: RetireKeyCommand, _ turn: inout Turn) -> CommandResult {
        guard var entry = self.keys.first(where: { $0.node == command.node && $0.key == command.key }) else {
            return .refused(.keyNotFound)
        }
        let at = max(command.at ?? self.lastStamp, entry.validFrom)
        // The end may be moved to an earlier time, for a key that was stolen, and never to a later one.
        if let validTo = entry.validTo, validTo <= at { return .done }
        let before = entry
        entry.validTo = at
        self.put(entry, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.key_retired",
                entityType: "node_key",
                entityID: entry.key,
                before: before.members,
                after: entry.members
            )
        )
        return .done
    }

    /// Ends the validity of everything that a node signs with, because it is no member any more.
    mutating func retireKeys(of node: NodeID, _ turn: inout Turn) {
        for entry in self.keys(of: node) where entry.validTo.map({ $0 > self.lastStamp }) ?? true {
            _ = self.retireKey(RetireKeyCommand(node: node, key: entry.key), &turn)
        }
    }

    private mutating func put(_ entry: NodeKeyEntry, _ turn: inout Turn) {
        let order = { (key: NodeKeyEntry) in (key.node, key.key) }
        let place = self.keys.firstIndex { order($0) >= order(entry) } ?? self.keys.count
        if place < self.keys.count, order(self.keys[place]) == order(entry) {
            self.keys[place] = entry
        } else {
            self.keys.insert(entry, at: place)
        }
        turn.put(.nodeKey, entry.stateKey, entry.encoded())
    }
}

extension NodeKeyEntry {
    /// What the cluster's ledger says of a key.
    fileprivate var members: [JSONMember] {
        var members = [
            JSONMember("node", .count(self.node.rawValue)),
            JSONMember("valid_from", .text(self.validFrom.description)),
        ]
        if let validTo = self.validTo { members.append(JSONMember("valid_to", .text(validTo.description))) }
        return members
    }
}
