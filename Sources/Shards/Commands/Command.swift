package import AuditLedger
package import Primitives

/// What a client wants done, as it stands in a group's Raft log.
///
/// Form on disk, big-endian: version u8 · kind u8 · stamp i64 · in version 2: who (``CommandOrigin``) · body. The stamp
/// lies at a fixed place so that the leader writes its time into bytes that another node has made. A form never
/// changes: what is new gets a new kind or version, which a ``FeatureLevel`` allows.
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
    /// System group: adds a node to the cluster, or changes where a node is found.
    case registerNode(RegisterNodeCommand)
    /// System group: lets one new node join, once.
    case createJoinToken(CreateJoinTokenCommand)
    /// System group: what may be placed on a node.
    case setNodeState(SetNodeStateCommand)
    /// System group: the membership of a group, as its leader has applied it.
    case confirmPlacement(ConfirmPlacementCommand)
    /// System group: the replicas that an operator wants for a group.
    case setTarget(SetTargetCommand)
    /// System group: whether replicas and leaders are to be moved for balance alone.
    case setRebalancing(Bool)
    /// System group: lets the cluster use what every node knows.
    case raiseFeatureLevel(FeatureLevel)
    /// Data groups: the same for one group, in the order of its log.
    case setFeatureLevel(FeatureLevel)
    /// System group: something that happened to the cluster, for its ledger.
    case recordClusterEvent(ClusterEventCommand)
    /// System group: makes known a key with which a node signs checkpoints.
    case publishKey(PublishKeyCommand)
    /// System group: ends the validity of such a key.
    case retireKey(RetireKeyCommand)
    /// Data groups: ends what is kept of a data subject's personal values.
    case eraseSubject(EraseSubjectCommand)
    /// Data groups: keeps a data subject's personal values from erasure, or lets them go.
    case holdSubject(HoldSubjectCommand)
    /// Data groups: no replica holds a key of an erased data subject any more.
    case completeErasure(CompleteErasureCommand)
    /// System group: a record for the cluster's ledger that a node has made whole, as an append is for an organization.
    case appendToSystem(EventDraft)

    enum Kind: UInt8 {
        case append = 1
        case bootstrap = 2
        case createOrganization = 3
        case createToken = 4
        case revokeToken = 5
        case registerNode = 6
        case createJoinToken = 7
        case setNodeState = 8
        case confirmPlacement = 9
        case setTarget = 10
        case raiseFeatureLevel = 11
        case setFeatureLevel = 12
        case recordClusterEvent = 13
        case setRebalancing = 14
        case publishKey = 15
        case retireKey = 16
        case appendSealed = 17
        case eraseSubject = 18
        case holdSubject = 19
        case completeErasure = 20
        case appendToSystem = 21

        /// The level from which on a group may be given commands of this kind.
        var level: FeatureLevel {
            switch self {
            case .publishKey, .retireKey: .three
            case .appendSealed, .eraseSubject, .holdSubject, .completeErasure: .three
            case .appendToSystem: .four
            default: .one
            }
        }

        /// Kinds that were there before commands said who gives them.
        var hasFirstVersion: Bool { self.rawValue <= Kind.revokeToken.rawValue }
    }

    /// A command with what goes with it.
    package struct Decoded: Sendable {
        package let command: Command
        /// The leader's time.
        package let stampedAt: Timestamp
        /// Who gave it; nil in a form that does not say.
        package let origin: CommandOrigin?
    }

    /// The form without an origin.
    private static let firstVersion: UInt8 = 1
    /// The form with an origin.
    private static let originVersion: UInt8 = 2
    /// Bytes of version, kind and stamp.
    private static let headerByteCount = 10
    private static let stampOffset = 2

    /// The command's bytes, with a stamp of zero: the leader sets it by ``stamp(_:at:)``.
    ///
    /// - Parameter origin: Who gives the command; an append names its actors in its records and does not need it.
    package func encoded(origin: CommandOrigin? = nil) -> [UInt8] {
        var writer = ByteWriter(capacity: self.encodedCapacity)
        let isFirst = origin == nil && self.kind.hasFirstVersion
        writer.write(isFirst ? Self.firstVersion : Self.originVersion)
        writer.write(self.kind.rawValue)
        writer.write(Int64(0))
        if !isFirst { (origin ?? .unknown).encode(into: &writer) }
        switch self {
        case .append(let command): command.encode(into: &writer)
        case .bootstrap(let command): command.encode(into: &writer, isFirst: isFirst)
        case .createOrganization(let command): command.encode(into: &writer)
        case .createToken(let command): command.encode(into: &writer)
        case .revokeToken(let command): writer.write(prefixed: command.id)
        case .registerNode(let command): command.encode(into: &writer)
        case .createJoinToken(let command): command.encode(into: &writer)
        case .setNodeState(let command): command.encode(into: &writer)
        case .confirmPlacement(let command): command.encode(into: &writer)
        case .setTarget(let command): command.encode(into: &writer)
        case .setRebalancing(let isOn): writer.write(UInt8(isOn ? 1 : 0))
        case .raiseFeatureLevel(let level), .setFeatureLevel(let level): writer.write(level.rawValue)
        case .recordClusterEvent(let command): command.encode(into: &writer)
        case .publishKey(let command): command.encode(into: &writer)
        case .retireKey(let command): command.encode(into: &writer)
        case .eraseSubject(let command): command.encode(into: &writer)
        case .holdSubject(let command): command.encode(into: &writer)
        case .completeErasure(let command): command.encode(into: &writer)
        case .appendToSystem(let draft): draft.encode(into: &writer)
        }
        return writer.bytes
    }

    private var encodedCapacity: Int {
        let perDraft = 1024
        if case .append(let command) = self {
            return 128 + command.drafts.count * perDraft + command.sealed.count * perDraft
        }
        return 256
    }

    private var kind: Kind {
        switch self {
        case .append(let command): command.sealed.isEmpty ? .append : .appendSealed
        case .bootstrap: .bootstrap
        case .createOrganization: .createOrganization
        case .createToken: .createToken
        case .revokeToken: .revokeToken
        case .registerNode: .registerNode
        case .createJoinToken: .createJoinToken
        case .setNodeState: .setNodeState
        case .confirmPlacement: .confirmPlacement
        case .setTarget: .setTarget
        case .setRebalancing: .setRebalancing
        case .raiseFeatureLevel: .raiseFeatureLevel
        case .setFeatureLevel: .setFeatureLevel
        case .recordClusterEvent: .recordClusterEvent
        case .publishKey: .publishKey
        case .retireKey: .retireKey
        case .eraseSubject: .eraseSubject
        case .holdSubject: .holdSubject
        case .completeErasure: .completeErasure
        case .appendToSystem: .appendToSystem
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

    /// The level that a group must have for these bytes, which says nothing about their body.
    ///
    /// ``FeatureLevel/unknown`` for a version or kind that this program does not know: a newer one gave the command,
    /// and whoever cannot read it cannot go on applying. nil for bytes that are too short for any version.
    package static func level(of bytes: ArraySlice<UInt8>) -> FeatureLevel? {
        guard bytes.count >= Self.headerByteCount else { return nil }
        let version = bytes[bytes.startIndex]
        guard let kind = Kind(rawValue: bytes[bytes.startIndex + 1]),
            version == Self.originVersion || version == Self.firstVersion && kind.hasFirstVersion
        else { return .unknown }
        return kind.level
    }

    /// The level to which a command wants its group raised; nil for every other command, whose body is not looked at.
    package static func wantedLevel(of bytes: ArraySlice<UInt8>) -> FeatureLevel? {
        guard bytes.count >= Self.headerByteCount,
            Kind(rawValue: bytes[bytes.startIndex + 1]) == .setFeatureLevel,
            case .setFeatureLevel(let wanted)? = (try? Self.decode(bytes))?.command
        else { return nil }
        return wanted
    }

    /// Reads a command and what goes with it.
    package static func decode(_ bytes: ArraySlice<UInt8>) throws(MalformedBytes) -> Decoded {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == Self.firstVersion || version == Self.originVersion else {
            throw MalformedBytes(what: "command version", offset: 0)
        }
        let isFirst = version == Self.firstVersion
        guard let kind = Kind(rawValue: try reader.read()), !isFirst || kind.hasFirstVersion else {
            throw MalformedBytes(what: "command kind", offset: 1)
        }
        let stamp = Timestamp(microseconds: try reader.read())
        let origin = isFirst ? nil : try CommandOrigin(from: &reader)
        let command: Command
        switch kind {
        case .append: command = .append(try AppendCommand(from: &reader, hasSealed: false))
        case .appendSealed: command = .append(try AppendCommand(from: &reader, hasSealed: true))
        case .bootstrap: command = .bootstrap(try BootstrapCommand(from: &reader, isFirst: isFirst))
        case .createOrganization: command = .createOrganization(try CreateOrganizationCommand(from: &reader))
        case .createToken: command = .createToken(try CreateTokenCommand(from: &reader))
        case .revokeToken: command = .revokeToken(RevokeTokenCommand(id: try reader.readPrefixedText()))
        case .registerNode: command = .registerNode(try RegisterNodeCommand(from: &reader))
        case .createJoinToken: command = .createJoinToken(try CreateJoinTokenCommand(from: &reader))
        case .setNodeState: command = .setNodeState(try SetNodeStateCommand(from: &reader))
        case .confirmPlacement: command = .confirmPlacement(try ConfirmPlacementCommand(from: &reader))
        case .setTarget: command = .setTarget(try SetTargetCommand(from: &reader))
        case .setRebalancing: command = .setRebalancing(try reader.read(UInt8.self) == 1)
        case .raiseFeatureLevel: command = .raiseFeatureLevel(FeatureLevel(rawValue: try reader.read()))
        case .setFeatureLevel: command = .setFeatureLevel(FeatureLevel(rawValue: try reader.read()))
        case .recordClusterEvent: command = .recordClusterEvent(try ClusterEventCommand(from: &reader))
        case .publishKey: command = .publishKey(try PublishKeyCommand(from: &reader))
        case .retireKey: command = .retireKey(try RetireKeyCommand(from: &reader))
        case .eraseSubject: command = .eraseSubject(try EraseSubjectCommand(from: &reader))
        case .holdSubject: command = .holdSubject(try HoldSubjectCommand(from: &reader))
        case .completeErasure: command = .completeErasure(try CompleteErasureCommand(from: &reader))
        case .appendToSystem: command = .appendToSystem(try EventDraft.decode(from: &reader))
        }
        try reader.finish("command")
        return Decoded(command: command, stampedAt: stamp, origin: origin)
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
    /// Personal values of the drafts, sealed; ascending by draft.
    package let sealed: [SealedValue]

    package init(
        organization: OrganizationID,
        idempotency: Idempotency?,
        drafts: [EventDraft],
        sealed: [SealedValue] = []
    ) {
        self.organization = organization
        self.idempotency = idempotency
        self.drafts = drafts
        self.sealed = sealed
    }

    fileprivate func encode(into writer: inout ByteWriter) {
        writer.write(self.organization.rawValue)
        Idempotency.encode(self.idempotency, into: &writer)
        writer.write(UInt32(self.drafts.count))
        for draft in self.drafts { draft.encode(into: &writer) }
        guard !self.sealed.isEmpty else { return }
        writer.write(UInt32(self.sealed.count))
        for value in self.sealed { value.encode(into: &writer) }
    }

    fileprivate init(from reader: inout ByteReader, hasSealed: Bool) throws(MalformedBytes) {
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
        self.sealed = hasSealed ? try SealedValue.decodeAll(from: &reader, drafts: count) : []
    }
}
