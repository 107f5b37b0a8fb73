package import Laboratory
package import Primitives

/// Fixes what a cluster keeps for life, its first nodes and placements, and its first operator token.
package struct BootstrapCommand: Sendable {
    /// The first replicas of a group.
    package struct Placement: Sendable, Equatable {
        package let group: GroupID
        /// Ascending.
        package let replicas: [NodeID]

        package init(group: GroupID, replicas: [NodeID]) {
            self.group = group
            self.replicas = replicas.sorted()
        }
    }

    package let clusterID: String
    package let dataGroups: Int
    package let operatorToken: Digest?
    /// What the cluster begins with.
    package let featureLevel: FeatureLevel
    /// Replicas that a data group should have: 1, 3, 5 or 7.
    package let replicas: Int
    package let nodes: [RegisterNodeCommand]
    package let placements: [Placement]

    package init(
        clusterID: String,
        dataGroups: Int,
        operatorToken: Digest?,
        featureLevel: FeatureLevel = .current,
        replicas: Int = 3,
        nodes: [RegisterNodeCommand] = [],
        placements: [Placement] = []
    ) {
        self.clusterID = clusterID
        self.dataGroups = dataGroups
        self.operatorToken = operatorToken
        self.featureLevel = featureLevel
        self.replicas = replicas
        self.nodes = nodes
        self.placements = placements
    }

    func encode(into writer: inout ByteWriter, isFirst: Bool) {
        writer.write(prefixed: self.clusterID)
        writer.write(UInt32(self.dataGroups))
        writer.write(UInt8(self.operatorToken == nil ? 0 : 1))
        if let token = self.operatorToken { writer.write(token) }
        if isFirst { return }
        writer.write(self.featureLevel.rawValue)
        writer.write(UInt8(self.replicas))
        writer.write(UInt32(self.nodes.count))
        for node in self.nodes { node.encode(into: &writer) }
        writer.write(UInt32(self.placements.count))
        for placement in self.placements {
            writer.write(placement.group.rawValue)
            writer.write(nodes: placement.replicas)
        }
    }

    init(from reader: inout ByteReader, isFirst: Bool) throws(MalformedBytes) {
        self.clusterID = try reader.readPrefixedText()
        self.dataGroups = Int(try reader.read(UInt32.self))
        self.operatorToken = try reader.read(UInt8.self) == 0 ? nil : try reader.readDigest()
        if isFirst {
            self.featureLevel = .one
            self.replicas = 3
            self.nodes = []
            self.placements = []
            return
        }
        self.featureLevel = FeatureLevel(rawValue: try reader.read())
        self.replicas = Int(try reader.read(UInt8.self))
        var nodes: [RegisterNodeCommand] = []
        for _ in 0..<(try reader.readCount()) { nodes.append(try RegisterNodeCommand(from: &reader)) }
        self.nodes = nodes
        var placements: [Placement] = []
        for _ in 0..<(try reader.readCount()) {
            placements.append(Placement(group: GroupID(try reader.read()), replicas: try reader.readNodes()))
        }
        self.placements = placements
    }
}

/// Adds an organization; its id and group are chosen when the command is applied.
package struct CreateOrganizationCommand: Sendable {
    package let key: OrganizationKey
    package let name: String

    package init(key: OrganizationKey, name: String) {
        self.key = key
        self.name = name
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.key.rawValue)
        writer.write(prefixed: self.name)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        guard let key = OrganizationKey(try reader.readPrefixedText()) else {
            throw MalformedBytes(what: "organization key", offset: reader.offset)
        }
        self.key = key
        self.name = try reader.readPrefixedText()
    }
}

/// Adds a token that the node asked has made; only its hash travels.
package struct CreateTokenCommand: Sendable {
    package let id: String
    package let hash: Digest
    package let name: String
    package let grant: Grant

    package init(id: String, hash: Digest, name: String, grant: Grant) {
        self.id = id
        self.hash = hash
        self.name = name
        self.grant = grant
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.id)
        writer.write(self.hash)
        writer.write(prefixed: self.name)
        self.grant.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.id = try reader.readPrefixedText()
        self.hash = try reader.readDigest()
        self.name = try reader.readPrefixedText()
        self.grant = try Grant(from: &reader)
    }
}

/// Removes a token by its id.
package struct RevokeTokenCommand: Sendable {
    package let id: String

    package init(id: String) { self.id = id }
}

extension Grant {
    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.role.rawValue)
        writer.write(UInt32(self.organizations.count))
        for organization in self.organizations.sorted() { writer.write(prefixed: organization.rawValue) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        guard let role = Role(rawValue: try reader.readPrefixedText()) else {
            throw MalformedBytes(what: "role", offset: reader.offset)
        }
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining else {
            throw MalformedBytes(what: "count of organizations", offset: reader.offset)
        }
        var organizations: Set<OrganizationKey> = []
        for _ in 0..<count {
            guard let key = OrganizationKey(try reader.readPrefixedText()) else {
                throw MalformedBytes(what: "organization key", offset: reader.offset)
            }
            organizations.insert(key)
        }
        self.init(role: role, organizations: organizations)
    }
}
