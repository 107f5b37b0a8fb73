package import Laboratory
package import Primitives

/// What applying a command led to; travels from the replica that applied it to the node that the client asked.
package enum CommandResult: Sendable, Equatable {
    case appended(AppendReceipt)
    case organization(OrganizationEntry)
    /// The command needed no other answer.
    case done
    case refused(Refusal)
    /// The id that a new node gets.
    case node(NodeID)
    /// The command was done or refused elsewhere, and its effect, if any, came here with a snapshot: a repeat with the
    /// same idempotency key tells which.
    case unknown

    private enum Kind: UInt8 {
        case appended = 1
        case organization = 2
        case done = 3
        case refused = 4
        case node = 5
        case unknown = 6
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: self.encodedCapacity)
        switch self {
        case .appended(let receipt):
            writer.write(Kind.appended.rawValue)
            receipt.encode(into: &writer)
        case .organization(let entry):
            writer.write(Kind.organization.rawValue)
            entry.encode(into: &writer)
        case .done:
            writer.write(Kind.done.rawValue)
        case .refused(let refusal):
            writer.write(Kind.refused.rawValue)
            writer.write(refusal.rawValue)
        case .node(let node):
            writer.write(Kind.node.rawValue)
            writer.write(node.rawValue)
        case .unknown:
            writer.write(Kind.unknown.rawValue)
        }
        return writer.bytes
    }

    private var encodedCapacity: Int {
        guard case .appended(let receipt) = self else { return 128 }
        return 32 + receipt.checksums.count * Digest.byteCount
    }

    package static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> CommandResult {
        var reader = ByteReader(bytes)
        guard let kind = Kind(rawValue: try reader.read()) else { throw MalformedBytes(what: "result kind", offset: 0) }
        let result: CommandResult
        switch kind {
        case .appended: result = .appended(try AppendReceipt(from: &reader))
        case .organization: result = .organization(try OrganizationEntry(from: &reader))
        case .done: result = .done
        case .refused:
            guard let refusal = Refusal(rawValue: try reader.read()) else {
                throw MalformedBytes(what: "refusal", offset: reader.offset)
            }
            result = .refused(refusal)
        case .node: result = .node(NodeID(try reader.read()))
        case .unknown: result = .unknown
        }
        try reader.finish("result")
        return result
    }
}

/// Why a command changed nothing. Raw values are on the wire and never change.
package enum Refusal: UInt8, Sendable, CaseIterable {
    /// The bytes are not a command of this version.
    case malformed = 1
    /// The command belongs to another kind of group.
    case wrongGroup = 2
    case organizationExists = 3
    /// The key was used before for another request.
    case idempotencyKeyReused = 4
    case tokenExists = 5
    case tokenNotFound = 6
    /// The cluster has not begun: no bootstrap command was applied yet.
    case notBootstrapped = 7
    /// The first operator token cannot be revoked while it is the only operator token.
    case lastOperatorToken = 8
    /// A grant names an organization that does not exist.
    case organizationNotFound = 9
    /// The node is a member already.
    case nodeExists = 10
    case nodeNotFound = 11
    /// The node was removed; its id is never used again.
    case nodeRemoved = 12
    /// The join token is unknown, used, expired, or another node's.
    case joinTokenInvalid = 13
    /// The key is kept for the cluster's own ledger.
    case reservedKey = 14
    /// A member of the cluster does not know the feature level, or the level is below the present one.
    case featureUnsupported = 15
    /// A newer membership of the group is known.
    case staleChange = 16
    /// The node cannot go from its state to the wanted one.
    case stateNotAllowed = 17
    /// The group does not exist.
    case groupNotFound = 18
    /// A group has 1, 3, 5 or 7 replicas, on nodes that take replicas.
    case targetNotAllowed = 19
    /// Another node of the cluster has the address.
    case addressUsed = 21
    /// Too few nodes would be left to take the replicas of every group.
    case notEnoughNodes = 22
    /// The cluster has as many nodes, tokens to join, or groups as it may have.
    case tooMany = 20
    /// The key belongs to another node, or was retired.
    case keyExists = 23
    case keyNotFound = 24
    /// The organization has no personal value of the data subject.
    case subjectUnknown = 25
    /// A legal hold keeps the data subject's values.
    case legalHold = 26
    /// The erasure was asked for before.
    case alreadyErased = 27
    /// Personal values of a data subject that was erased are not taken any more.
    case subjectErased = 28
}

/// The answer to an append: where the records stand.
package struct AppendReceipt: Sendable, Equatable {
    package let firstSequence: SequenceNumber
    /// The records' checksums, in order of their sequences.
    package let checksums: [Digest]
    package let recordedAt: Timestamp
    /// True when the request had been done before and nothing was appended now.
    package let isReplay: Bool

    package init(firstSequence: SequenceNumber, checksums: [Digest], recordedAt: Timestamp, isReplay: Bool) {
        self.firstSequence = firstSequence
        self.checksums = checksums
        self.recordedAt = recordedAt
        self.isReplay = isReplay
    }

    package var lastSequence: SequenceNumber {
        SequenceNumber(self.firstSequence.rawValue + UInt64(self.checksums.count) - 1)
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.firstSequence.rawValue)
        writer.write(self.recordedAt.rawValue)
        writer.write(UInt8(self.isReplay ? 1 : 0))
        writer.write(UInt32(self.checksums.count))
        for checksum in self.checksums { writer.write(checksum) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.firstSequence = SequenceNumber(try reader.read())
        self.recordedAt = Timestamp(microseconds: try reader.read())
        self.isReplay = try reader.read(UInt8.self) == 1
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1, count * Digest.byteCount <= reader.remaining else {
            throw MalformedBytes(what: "count of checksums", offset: reader.offset)
        }
        var checksums: [Digest] = []
        checksums.reserveCapacity(count)
        for _ in 0..<count { checksums.append(try reader.readDigest()) }
        self.checksums = checksums
    }
}

extension OrganizationEntry {
    func encode(into writer: inout ByteWriter) {
        writer.write(self.id.rawValue)
        writer.write(prefixed: self.key.rawValue)
        writer.write(prefixed: self.name)
        writer.write(self.group.rawValue)
        writer.write(self.createdAt.rawValue)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        let id = OrganizationID(try reader.read())
        guard let key = OrganizationKey(try reader.readPrefixedText()) else {
            throw MalformedBytes(what: "organization key", offset: reader.offset)
        }
        self.init(
            id: id,
            key: key,
            name: try reader.readPrefixedText(),
            group: GroupID(try reader.read()),
            createdAt: Timestamp(microseconds: try reader.read())
        )
    }
}
