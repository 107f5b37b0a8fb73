package import Laboratory
package import Primitives
package import Storage

/// A token as the cluster knows it: never the token itself, only its SHA-256.
package struct TokenEntry: Sendable, Equatable {
    package let id: String
    package let hash: Digest
    package let name: String
    package let grant: Grant
    package let createdAt: Timestamp

    package init(id: String, hash: Digest, name: String, grant: Grant, createdAt: Timestamp) {
        self.id = id
        self.hash = hash
        self.name = name
        self.grant = grant
        self.createdAt = createdAt
    }
}

/// What applying the system group's log builds: the directory of organizations and the tokens.
///
/// Pure: a value that changes only by ``apply(_:stampedAt:into:)``. Every change also goes into the batch, so that the value read back by
/// ``init(reading:)`` equals the one in memory.
package struct SystemState: Sendable, Equatable {
    package private(set) var clusterID: String?
    package private(set) var dataGroups = 0
    package private(set) var organizations: [OrganizationKey: OrganizationEntry] = [:]
    package private(set) var tokens: [Digest: TokenEntry] = [:]
    /// Never decreases: the time of the newest change.
    private var lastStamp = Timestamp(microseconds: 0)

    package init() {}

    /// Keys below `group_state` · system group.
    private enum Kind: UInt8 {
        case cluster = 1
        case organization = 2
        case token = 3
        case lastStamp = 4
    }

    /// The id of the token that the cluster is created with.
    package static let bootstrapTokenID = "bootstrap"
    /// The longest name of a token, in UTF-8 bytes.
    package static let tokenNameBytesMax = 200

    /// Applies one command; a refusal changes nothing.
    package mutating func apply(
        _ command: Command,
        stampedAt stamp: Timestamp,
        into batch: inout WriteBatch
    ) -> CommandResult {
        if stamp > self.lastStamp {
            self.lastStamp = stamp
            var writer = ByteWriter()
            writer.write(stamp.rawValue)
            batch.put(.groupState, key: Self.key(.lastStamp, []), value: writer.bytes)
        }
        switch command {
        case .append: return .refused(.wrongGroup)
        case .bootstrap(let command): return self.bootstrap(command, into: &batch)
        case .createOrganization(let command): return self.createOrganization(command, into: &batch)
        case .createToken(let command): return self.createToken(command, into: &batch)
        case .revokeToken(let command): return self.revokeToken(command, into: &batch)
        }
    }

    private mutating func bootstrap(_ command: BootstrapCommand, into batch: inout WriteBatch) -> CommandResult {
        guard self.clusterID == nil else { return .done }
        guard command.dataGroups >= 1 else { return .refused(.malformed) }
        self.clusterID = command.clusterID
        self.dataGroups = command.dataGroups
        var writer = ByteWriter()
        writer.write(prefixed: command.clusterID)
        writer.write(UInt32(command.dataGroups))
        batch.put(.groupState, key: Self.key(.cluster, []), value: writer.bytes)
        if let hash = command.operatorToken {
            self.add(
                TokenEntry(
                    id: Self.bootstrapTokenID,
                    hash: hash,
                    name: "created with the cluster",
                    grant: Grant(role: .operator),
                    createdAt: self.lastStamp
                ),
                into: &batch
            )
        }
        return .done
    }

    private mutating func createOrganization(
        _ command: CreateOrganizationCommand,
        into batch: inout WriteBatch
    ) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard OrganizationRules.isValid(name: command.name) else { return .refused(.malformed) }
        guard self.organizations[command.key] == nil else { return .refused(.organizationExists) }
        let ordinal = self.organizations.count
        let entry = OrganizationEntry(
            id: OrganizationID(UInt32(ordinal) + 1),
            key: command.key,
            name: command.name,
            group: OrganizationRules.group(ofOrdinal: ordinal, dataGroups: self.dataGroups),
            createdAt: self.lastStamp
        )
        self.organizations[command.key] = entry
        var writer = ByteWriter()
        entry.encode(into: &writer)
        batch.put(.groupState, key: Self.key(.organization, Array(entry.key.rawValue.utf8)), value: writer.bytes)
        return .organization(entry)
    }

    private mutating func createToken(_ command: CreateTokenCommand, into batch: inout WriteBatch) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard command.name.utf8.count <= Self.tokenNameBytesMax else { return .refused(.malformed) }
        guard self.tokens[command.hash] == nil, !self.tokens.values.contains(where: { $0.id == command.id }) else {
            return .refused(.tokenExists)
        }
        guard command.grant.organizations.allSatisfy({ self.organizations[$0] != nil }) else {
            return .refused(.organizationNotFound)
        }
        self.add(
            TokenEntry(
                id: command.id,
                hash: command.hash,
                name: command.name,
                grant: command.grant,
                createdAt: self.lastStamp
            ),
            into: &batch
        )
        return .done
    }

    private mutating func revokeToken(_ command: RevokeTokenCommand, into batch: inout WriteBatch) -> CommandResult {
        guard let token = self.tokens.values.first(where: { $0.id == command.id }) else {
            return .refused(.tokenNotFound)
        }
        if token.grant.role == .operator,
            self.tokens.values.count(where: { $0.grant.role == .operator }) == 1
        {
            return .refused(.lastOperatorToken)
        }
        self.tokens[token.hash] = nil
        batch.delete(.groupState, key: Self.key(.token, token.hash.bytes))
        return .done
    }

    private mutating func add(_ token: TokenEntry, into batch: inout WriteBatch) {
        self.tokens[token.hash] = token
        var writer = ByteWriter()
        writer.write(prefixed: token.id)
        writer.write(prefixed: token.name)
        token.grant.encode(into: &writer)
        writer.write(token.createdAt.rawValue)
        batch.put(.groupState, key: Self.key(.token, token.hash.bytes), value: writer.bytes)
    }
}

extension SystemState {
    private static func key(_ kind: Kind, _ rest: [UInt8]) -> [UInt8] {
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
        if let value = try store.get(Self.key(.lastStamp, []), in: .groupState) {
            var reader = ByteReader(value)
            self.lastStamp = Timestamp(microseconds: try reader.read())
        }
    }
}

/// Keys of the family `group_state`: group u32 · kind u8 · rest.
enum GroupStateKey {
    /// Kind 0 of every group: the index and term of the last applied entry.
    static func applied(_ group: GroupID) -> [UInt8] { self.make(group, kind: 0, []) }

    static func make(_ group: GroupID, kind: UInt8, _ rest: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: 5 + rest.count)
        writer.write(group.rawValue)
        writer.write(kind)
        writer.write(raw: rest)
        return writer.bytes
    }
}
