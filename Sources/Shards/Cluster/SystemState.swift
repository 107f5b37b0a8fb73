package import AuditLedger
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

/// A token that is of no use any more.
package struct RevokedToken: Sendable, Equatable {
    package let id: String
    package let name: String
    package let role: Role
    package let revokedAt: Timestamp

    package init(id: String, name: String, role: Role, revokedAt: Timestamp) {
        self.id = id
        self.name = name
        self.role = role
        self.revokedAt = revokedAt
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.id = try reader.readPrefixedText()
        self.name = try reader.readPrefixedText()
        let text = try reader.readPrefixedText()
        guard let role = Role(rawValue: text) else {
            throw MalformedBytes(what: "role of a revoked token", offset: reader.offset)
        }
        self.role = role
        self.revokedAt = Timestamp(microseconds: try reader.read())
        try reader.finish("revoked token")
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.id)
        writer.write(prefixed: self.name)
        writer.write(prefixed: self.role.rawValue)
        writer.write(self.revokedAt.rawValue)
    }
}

/// What applying the system group's log builds: the directory of organizations, the tokens, the nodes and where the
/// groups are.
///
/// Pure: a value that changes only by ``apply(_:into:records:)``. Every change also goes into the batch, so that the
/// value read back by ``init(reading:)`` equals the one in memory.
package struct SystemState: Sendable, Equatable {
    package internal(set) var clusterID: String?
    package internal(set) var dataGroups = 0
    package internal(set) var organizations: [OrganizationKey: OrganizationEntry] = [:]
    package internal(set) var tokens: [Digest: TokenEntry] = [:]
    /// The tokens that were revoked last, at most ``revokedTokensMax``: from feature level 5 on.
    package internal(set) var revokedTokens: [Digest: RevokedToken] = [:]
    /// All nodes that ever were members, ascending.
    package internal(set) var nodes: [NodeEntry] = []
    /// Ascending by group.
    package internal(set) var placements: [PlacementEntry] = []
    /// Ascending by hash.
    package internal(set) var joinTokens: [JoinTokenEntry] = []
    /// With which nodes sign checkpoints, ascending by node and key.
    package internal(set) var keys: [NodeKeyEntry] = []
    package internal(set) var featureLevel = FeatureLevel.one
    /// Replicas that a data group should have: 1, 3, 5 or 7.
    package internal(set) var replicas = 3
    /// Whether replicas and leaders are to be moved for balance alone.
    package internal(set) var isRebalancing = false
    /// Never decreases: the time of the newest change.
    package internal(set) var lastStamp = Timestamp(microseconds: 0)

    package init() {}

    /// Keys below `group_state` · system group.
    enum Kind: UInt8 {
        case cluster = 1
        case organization = 2
        case token = 3
        case lastStamp = 4
        case node = 5
        case placement = 6
        case joinToken = 7
        case settings = 11
        case nodeKey = 13
        case revokedToken = 17
    }

    /// The id of the token that the cluster is created with.
    package static let bootstrapTokenID = "bootstrap"
    /// The longest name of a token, in UTF-8 bytes.
    package static let tokenNameBytesMax = 200
    /// The most revoked tokens that are remembered; the one that was revoked first is forgotten for another.
    package static let revokedTokensMax = 4096
    /// The most nodes that a cluster ever has, removed ones included.
    package static let nodesMax = 1024
    /// The most tokens to join that are open at a time.
    package static let joinTokensMax = 64
    /// The longest address and region of a node, in UTF-8 bytes.
    package static let nodeTextBytesMax = 255
    /// The sizes that a group may have.
    package static let replicaCounts = [1, 3, 5, 7]
    /// The organization under which the cluster keeps its own ledger.
    package static let ledgerID = OrganizationID(0)
    /// The key of ``ledgerID``, which no other organization may have.
    package static let ledgerKey: OrganizationKey = {
        guard let key = OrganizationKey("system") else { preconditionFailure("the key of the cluster's ledger is one") }
        return key
    }()

    /// Where one command is applied, and what it leaves.
    struct Turn {
        var batch: WriteBatch
        var records: [EventDraft]
        let origin: CommandOrigin?

        mutating func put(_ kind: Kind, _ rest: [UInt8], _ value: [UInt8]) {
            self.batch.put(.groupState, key: SystemState.key(kind, rest), value: value)
        }

        mutating func record(_ record: ClusterRecord) {
            if let draft = record.draft(origin: self.origin) { self.records.append(draft) }
        }
    }

    /// Applies one command; a refusal changes nothing.
    ///
    /// - Parameter records: Gets what the command leaves in the cluster's ledger.
    package mutating func apply(
        _ decoded: Command.Decoded,
        into batch: inout WriteBatch,
        records: inout [EventDraft]
    ) -> CommandResult {
        var turn = Turn(batch: WriteBatch(), records: [], origin: decoded.origin)
        swap(&turn.batch, &batch)
        swap(&turn.records, &records)
        defer {
            swap(&turn.batch, &batch)
            swap(&turn.records, &records)
        }
        if decoded.stampedAt > self.lastStamp {
            self.lastStamp = decoded.stampedAt
            var writer = ByteWriter()
            writer.write(decoded.stampedAt.rawValue)
            turn.put(.lastStamp, [], writer.bytes)
        }
        switch decoded.command {
        case .append, .setFeatureLevel, .eraseSubject, .holdSubject, .completeErasure: return .refused(.wrongGroup)
        case .bootstrap(let command): return self.bootstrap(command, &turn)
        case .createOrganization(let command): return self.createOrganization(command, &turn)
        case .createToken(let command): return self.createToken(command, &turn)
        case .revokeToken(let command): return self.revokeToken(command, &turn)
        case .registerNode(let command): return self.registerNode(command, &turn)
        case .createJoinToken(let command): return self.createJoinToken(command, &turn)
        case .setNodeState(let command): return self.setNodeState(command, &turn)
        case .confirmPlacement(let command): return self.confirmPlacement(command, &turn)
        case .setTarget(let command): return self.setTarget(command, &turn)
        case .setRebalancing(let isOn): return self.setRebalancing(isOn, &turn)
        case .raiseFeatureLevel(let level): return self.raiseFeatureLevel(level, &turn)
        case .recordClusterEvent(let command): return self.recordClusterEvent(command, &turn)
        case .publishKey(let command): return self.publishKey(command, &turn)
        case .retireKey(let command): return self.retireKey(command, &turn)
        case .appendToSystem(let draft):
            guard self.clusterID != nil else { return .refused(.notBootstrapped) }
            turn.records.append(draft)
            return .done
        }
    }

    /// Whether changes of organizations and tokens leave records.
    private var recordsDirectory: Bool { self.featureLevel >= .two }

    private mutating func createOrganization(
        _ command: CreateOrganizationCommand,
        _ turn: inout Turn
    ) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard OrganizationRules.isValid(name: command.name) else { return .refused(.malformed) }
        guard command.key != Self.ledgerKey else { return .refused(.reservedKey) }
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
        turn.put(.organization, Array(entry.key.rawValue.utf8), writer.bytes)
        if self.recordsDirectory {
            let after = [
                JSONMember("name", .text(entry.name)),
                JSONMember("id", .count(UInt64(entry.id.rawValue))),
                JSONMember("group", .count(UInt64(entry.group.rawValue))),
            ]
            turn.record(
                ClusterRecord(
                    action: "cluster.organization_created",
                    entityType: "organization",
                    entityID: entry.key.rawValue,
                    after: after
                )
            )
        }
        return .organization(entry)
    }

    private mutating func createToken(_ command: CreateTokenCommand, _ turn: inout Turn) -> CommandResult {
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
            &turn
        )
        if self.recordsDirectory {
            let organizations = command.grant.organizations.sorted().map { JSONValue.text($0.rawValue) }
            let after = [
                JSONMember("name", .text(command.name)),
                JSONMember("role", .text(command.grant.role.rawValue)),
                JSONMember("organizations", .array(organizations)),
            ]
            turn.record(
                ClusterRecord(action: "cluster.token_created", entityType: "token", entityID: command.id, after: after)
            )
        }
        return .done
    }

    private mutating func revokeToken(_ command: RevokeTokenCommand, _ turn: inout Turn) -> CommandResult {
        guard let token = self.tokens.values.first(where: { $0.id == command.id }) else {
            return .refused(.tokenNotFound)
        }
        if token.grant.role == .operator,
            self.tokens.values.count(where: { $0.grant.role == .operator }) == 1
        {
            return .refused(.lastOperatorToken)
        }
        self.tokens[token.hash] = nil
        turn.batch.delete(.groupState, key: Self.key(.token, token.hash.bytes))
        self.remember(token, &turn)
        if self.recordsDirectory {
            let before = [JSONMember("name", .text(token.name)), JSONMember("role", .text(token.grant.role.rawValue))]
            turn.record(
                ClusterRecord(
                    action: "cluster.token_revoked",
                    entityType: "token",
                    entityID: token.id,
                    before: before
                )
            )
        }
        return .done
    }

    /// Keeps who it was, so that later attempts with it are not taken for those of a stranger.
    private mutating func remember(_ token: TokenEntry, _ turn: inout Turn) {
        guard self.featureLevel >= .five else { return }
        if self.revokedTokens.count >= Self.revokedTokensMax,
            let oldest = self.revokedTokens.min(by: { ($0.value.revokedAt, $0.key) < ($1.value.revokedAt, $1.key) })
        {
            self.revokedTokens[oldest.key] = nil
            turn.batch.delete(.groupState, key: Self.key(.revokedToken, oldest.key.bytes))
        }
        let revoked = RevokedToken(
            id: token.id,
            name: token.name,
            role: token.grant.role,
            revokedAt: self.lastStamp
        )
        self.revokedTokens[token.hash] = revoked
        var writer = ByteWriter()
        revoked.encode(into: &writer)
        turn.put(.revokedToken, token.hash.bytes, writer.bytes)
    }

    mutating func add(_ token: TokenEntry, _ turn: inout Turn) {
        self.tokens[token.hash] = token
        var writer = ByteWriter()
        writer.write(prefixed: token.id)
        writer.write(prefixed: token.name)
        token.grant.encode(into: &writer)
        writer.write(token.createdAt.rawValue)
        turn.put(.token, token.hash.bytes, writer.bytes)
    }
}
