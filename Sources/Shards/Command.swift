package import AuditLedger
package import Laboratory
package import Primitives

/// What a client wants done, as it stands in a group's Raft log.
///
/// Form on disk, big-endian: version u8 = 1 · kind u8 · stamp i64 · body. The stamp lies at a fixed place so that the leader writes its time
/// into bytes that another node has made.
package enum Command: Sendable {
    /// Data groups: appends records to one organization's ledger, all or none.
    case append(AppendCommand)
    /// System group: begins the cluster; ignored when it has begun.
    case bootstrap(BootstrapCommand)
    /// System group: adds an organization to the directory.
    case createOrganization(CreateOrganizationCommand)
    /// System group: adds a token.
    case createToken(CreateTokenCommand)
    /// System group: removes a token.
    case revokeToken(RevokeTokenCommand)

    private enum Kind: UInt8 {
        case append = 1
        case bootstrap = 2
        case createOrganization = 3
        case createToken = 4
        case revokeToken = 5
    }

    /// The version of the form that this code writes.
    private static let version: UInt8 = 1
    /// Bytes of version, kind and stamp.
    private static let headerByteCount = 10
    private static let stampOffset = 2

    /// The command's bytes, with a stamp of zero: the leader sets it by ``stamp(_:at:)``.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: self.encodedCapacity)
        writer.write(Self.version)
        writer.write(self.kind.rawValue)
        writer.write(Int64(0))
        switch self {
        case .append(let command): command.encode(into: &writer)
        case .bootstrap(let command): command.encode(into: &writer)
        case .createOrganization(let command): command.encode(into: &writer)
        case .createToken(let command): command.encode(into: &writer)
        case .revokeToken(let command): writer.write(prefixed: command.id)
        }
        return writer.bytes
    }

    private var encodedCapacity: Int {
        let perDraft = 1024
        if case .append(let command) = self { return 128 + command.drafts.count * perDraft }
        return 256
    }

    private var kind: Kind {
        switch self {
        case .append: .append
        case .bootstrap: .bootstrap
        case .createOrganization: .createOrganization
        case .createToken: .createToken
        case .revokeToken: .revokeToken
        }
    }

    /// Writes the leader's time into encoded bytes.
    /// - Throws: ``MalformedBytes`` when they are too short to be a command.
    package static func stamp(_ bytes: inout [UInt8], at time: Timestamp) throws(MalformedBytes) {
        guard bytes.count >= Self.headerByteCount else { throw MalformedBytes(what: "command", offset: 0) }
        withUnsafeBytes(of: time.rawValue.bigEndian) { stamp in
            for (offset, byte) in stamp.enumerated() { bytes[Self.stampOffset + offset] = byte }
        }
    }

    /// Reads a command and its stamp.
    package static func decode(
        _ bytes: ArraySlice<UInt8>
    ) throws(MalformedBytes) -> (command: Command, stampedAt: Timestamp) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "command version", offset: 0)
        }
        guard let kind = Kind(rawValue: try reader.read()) else {
            throw MalformedBytes(what: "command kind", offset: 1)
        }
        let stamp = Timestamp(microseconds: try reader.read())
        let command: Command
        switch kind {
        case .append: command = .append(try AppendCommand(from: &reader))
        case .bootstrap: command = .bootstrap(try BootstrapCommand(from: &reader))
        case .createOrganization: command = .createOrganization(try CreateOrganizationCommand(from: &reader))
        case .createToken: command = .createToken(try CreateTokenCommand(from: &reader))
        case .revokeToken: command = .revokeToken(RevokeTokenCommand(id: try reader.readPrefixedText()))
        }
        try reader.finish("command")
        return (command, stamp)
    }
}

/// What makes a repeated request recognisable.
package struct Idempotency: Sendable, Equatable {
    /// SHA-256 of the client's `Idempotency-Key`.
    package let key: Digest
    /// SHA-256 of what the key was used for, so that its use for something else is refused.
    package let request: Digest

    package init(key: Digest, request: Digest) {
        self.key = key
        self.request = request
    }

    /// Hashes a client's key and the bytes of its request.
    package init(key: String, request: some Collection<UInt8>) {
        self.key = sha256(Array(key.utf8))
        self.request = sha256(Array(request))
    }

    fileprivate static func encode(_ value: Idempotency?, into writer: inout ByteWriter) {
        writer.write(UInt8(value == nil ? 0 : 1))
        guard let value else { return }
        writer.write(value.key)
        writer.write(value.request)
    }

    fileprivate static func decode(from reader: inout ByteReader) throws(MalformedBytes) -> Idempotency? {
        switch try reader.read(UInt8.self) {
        case 0: nil
        case 1: Idempotency(key: try reader.readDigest(), request: try reader.readDigest())
        default: throw MalformedBytes(what: "idempotency flag", offset: reader.offset)
        }
    }
}

/// Appends `drafts`, in order, to one organization's ledger.
package struct AppendCommand: Sendable {
    package let organization: OrganizationID
    package let idempotency: Idempotency?
    /// At least one.
    package let drafts: [EventDraft]

    /// Bytes that a draft takes at least: three places and a length.
    private static let draftBytesMin = 16

    package init(organization: OrganizationID, idempotency: Idempotency?, drafts: [EventDraft]) {
        self.organization = organization
        self.idempotency = idempotency
        self.drafts = drafts
    }

    fileprivate func encode(into writer: inout ByteWriter) {
        writer.write(self.organization.rawValue)
        Idempotency.encode(self.idempotency, into: &writer)
        writer.write(UInt32(self.drafts.count))
        for draft in self.drafts { draft.encode(into: &writer) }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.organization = OrganizationID(try reader.read())
        self.idempotency = try Idempotency.decode(from: &reader)
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1, count <= reader.remaining else {
            throw MalformedBytes(what: "draft count", offset: reader.offset)
        }
        var drafts: [EventDraft] = []
        drafts.reserveCapacity(count)
        for _ in 0..<count { drafts.append(try EventDraft.decode(from: &reader)) }
        self.drafts = drafts
    }
}

/// Fixes what a cluster keeps for life, and its first operator token.
package struct BootstrapCommand: Sendable {
    package let clusterID: String
    package let dataGroups: Int
    package let operatorToken: Digest?

    package init(clusterID: String, dataGroups: Int, operatorToken: Digest?) {
        self.clusterID = clusterID
        self.dataGroups = dataGroups
        self.operatorToken = operatorToken
    }

    fileprivate func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.clusterID)
        writer.write(UInt32(self.dataGroups))
        writer.write(UInt8(self.operatorToken == nil ? 0 : 1))
        if let token = self.operatorToken { writer.write(token) }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.clusterID = try reader.readPrefixedText()
        self.dataGroups = Int(try reader.read(UInt32.self))
        self.operatorToken = try reader.read(UInt8.self) == 0 ? nil : try reader.readDigest()
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

    fileprivate func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.key.rawValue)
        writer.write(prefixed: self.name)
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
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

    fileprivate func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.id)
        writer.write(self.hash)
        writer.write(prefixed: self.name)
        self.grant.encode(into: &writer)
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
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
