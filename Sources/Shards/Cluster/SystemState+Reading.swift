internal import Consensus
internal import Laboratory
internal import Primitives
package import Storage

extension SystemState {
    static func key(_ kind: Kind, _ rest: [UInt8]) -> [UInt8] {
        GroupStateKey.make(.system, kind: kind.rawValue, rest)
    }

    /// Reads back what earlier batches wrote.
    /// - Throws: ``StorageError`` when a read fails, ``MalformedBytes`` when a value does not have its form.
    package init(reading store: any KeyValueReader) throws {
        self.init()
        if let value = try store.get(Self.key(.cluster, []), in: .groupState) {
            var reader = ByteReader(value)
            self.clusterID = try reader.readPrefixedText()
            self.dataGroups = Int(try reader.read(UInt32.self))
            try reader.finish("cluster state")
        }
        try store.scan(.groupState, prefix: Self.key(.organization, [])) { _, value in
            var reader = ByteReader(value)
            let entry = try OrganizationEntry(from: &reader)
            self.organizations[entry.key] = entry
            return true
        }
        let prefix = Self.key(.token, [])
        try store.scan(.groupState, prefix: prefix) { key, value in
            guard let hash = Digest(bytes: key[prefix.count...]) else {
                throw MalformedBytes(what: "token key", offset: prefix.count)
            }
            var reader = ByteReader(value)
            let token = TokenEntry(
                id: try reader.readPrefixedText(),
                hash: hash,
                name: try reader.readPrefixedText(),
                grant: try Grant(from: &reader),
                createdAt: Timestamp(microseconds: try reader.read())
            )
            self.tokens[hash] = token
            return true
        }
        let revokedPrefix = Self.key(.revokedToken, [])
        try store.scan(.groupState, prefix: revokedPrefix) { key, value in
            guard let hash = Digest(bytes: key[revokedPrefix.count...]) else {
                throw MalformedBytes(what: "key of a revoked token", offset: revokedPrefix.count)
            }
            var reader = ByteReader(value)
            self.revokedTokens[hash] = try RevokedToken(from: &reader)
            return true
        }
        if let value = try store.get(Self.key(.lastStamp, []), in: .groupState) {
            var reader = ByteReader(value)
            self.lastStamp = Timestamp(microseconds: try reader.read())
        }
        self.featureLevel = try GroupStateKey.featureLevel(of: .system, in: store)
        if let value = try store.get(Self.key(.settings, []), in: .groupState) {
            var reader = ByteReader(value)
            self.replicas = Int(try reader.read(UInt8.self))
            self.isRebalancing = try reader.read(UInt8.self) == 1
            try reader.finish("settings of the cluster")
        }
        try self.readNodes(store)
    }

    private mutating func readNodes(_ store: any KeyValueReader) throws {
        try store.scan(.groupState, prefix: Self.key(.node, [])) { key, value in
            var reader = ByteReader(key[Self.key(.node, []).count...])
            self.nodes.append(try NodeEntry(id: NodeID(try reader.read()), value: value))
            return true
        }
        try store.scan(.groupState, prefix: Self.key(.placement, [])) { key, value in
            var reader = ByteReader(key[Self.key(.placement, []).count...])
            self.placements.append(try PlacementEntry(group: GroupID(try reader.read()), value: value))
            return true
        }
        try store.scan(.groupState, prefix: Self.key(.joinToken, [])) { key, value in
            var reader = ByteReader(key[Self.key(.joinToken, []).count...])
            self.joinTokens.append(try JoinTokenEntry(hash: try reader.readDigest(), value: value))
            return true
        }
        let keyPrefix = Self.key(.nodeKey, [])
        try store.scan(.groupState, prefix: keyPrefix) { key, value in
            self.keys.append(try NodeKeyEntry(stateKey: key[keyPrefix.count...], value: value))
            return true
        }
    }
}
