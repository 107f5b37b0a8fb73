internal import AuditLedger
package import Primitives

/// A personal value of a record, sealed under the key of its data subject.
///
/// Whoever has the key opens it; nobody else, and nobody at all when the key is gone.
package struct SealedValue: Sendable, Equatable {
    /// The place of the record's draft in its command.
    package let draft: UInt32
    /// JSON Pointer into the record.
    package let path: String
    package let subject: String
    package let key: SubjectKeyName
    /// What ``SubjectKey/seal(_:)`` gave.
    package let bytes: [UInt8]

    /// The longest sealed value: that of an event that is personal as a whole.
    static let bytesMax = EventLimits.eventBytesMax + 256

    package init(draft: UInt32, path: String, subject: String, key: SubjectKeyName, bytes: [UInt8]) {
        self.draft = draft
        self.path = path
        self.subject = subject
        self.key = key
        self.bytes = bytes
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.draft)
        writer.write(prefixed: self.path)
        writer.write(prefixed: self.subject)
        writer.write(self.key.rawValue)
        writer.write(prefixed: self.bytes)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.draft = try reader.read()
        self.path = try reader.readPrefixedText()
        self.subject = try reader.readPrefixedText()
        self.key = SubjectKeyName(rawValue: try reader.read())
        self.bytes = Array(try reader.readPrefixed())
        guard (1...PersonalLimits.subjectBytesMax).contains(self.subject.utf8.count),
            self.path.utf8.count <= PersonalLimits.pathBytesMax, self.bytes.count <= Self.bytesMax
        else { throw MalformedBytes(what: "sealed value", offset: reader.offset) }
    }

    /// The values of a command with `drafts` drafts, ascending by draft.
    static func decodeAll(from reader: inout ByteReader, drafts: Int) throws(MalformedBytes) -> [SealedValue] {
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1, count <= reader.remaining, count <= drafts * PersonalLimits.fieldsMax else {
            throw MalformedBytes(what: "count of sealed values", offset: reader.offset)
        }
        var values: [SealedValue] = []
        values.reserveCapacity(count)
        var ofDraft = 0
        for _ in 0..<count {
            let value = try SealedValue(from: &reader)
            ofDraft = values.last?.draft == value.draft ? ofDraft + 1 : 1
            guard value.draft < drafts, values.last.map({ $0.draft <= value.draft }) ?? true,
                ofDraft <= PersonalLimits.fieldsMax
            else { throw MalformedBytes(what: "draft of a sealed value", offset: reader.offset) }
            values.append(value)
        }
        return values
    }
}

/// Ends what is kept of a data subject's personal values: they are deleted, and nodes destroy its keys.
package struct EraseSubjectCommand: Sendable, Equatable {
    package let organization: OrganizationID
    /// In whose ledger the record goes.
    package let organizationKey: OrganizationKey
    package let subject: String
    /// On what right the erasure stands.
    package let basis: String
    package let reason: String?

    package init(
        organization: OrganizationID,
        organizationKey: OrganizationKey,
        subject: String,
        basis: String,
        reason: String? = nil
    ) {
        self.organization = organization
        self.organizationKey = organizationKey
        self.subject = subject
        self.basis = basis
        self.reason = reason
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.organization.rawValue)
        writer.write(prefixed: self.organizationKey.rawValue)
        writer.write(prefixed: self.subject)
        writer.write(prefixed: self.basis)
        writer.write(reason: self.reason)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.organization = OrganizationID(try reader.read())
        self.organizationKey = try reader.readOrganizationKey()
        self.subject = try reader.readPrefixedText()
        self.basis = try reader.readPrefixedText()
        self.reason = try reader.readReason()
    }
}

/// Sets or lifts a legal hold on a data subject's personal values.
package struct HoldSubjectCommand: Sendable, Equatable {
    package let organization: OrganizationID
    /// In whose ledger the record goes.
    package let organizationKey: OrganizationKey
    package let subject: String
    package let isOn: Bool
    package let reason: String?

    package init(
        organization: OrganizationID,
        organizationKey: OrganizationKey,
        subject: String,
        isOn: Bool,
        reason: String? = nil
    ) {
        self.organization = organization
        self.organizationKey = organizationKey
        self.subject = subject
        self.isOn = isOn
        self.reason = reason
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.organization.rawValue)
        writer.write(prefixed: self.organizationKey.rawValue)
        writer.write(prefixed: self.subject)
        writer.write(UInt8(self.isOn ? 1 : 0))
        writer.write(reason: self.reason)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.organization = OrganizationID(try reader.read())
        self.organizationKey = try reader.readOrganizationKey()
        self.subject = try reader.readPrefixedText()
        self.isOn = try reader.read(UInt8.self) == 1
        self.reason = try reader.readReason()
    }
}

/// Records that every replica has destroyed the keys of an erased data subject.
package struct CompleteErasureCommand: Sendable, Equatable {
    package let organization: OrganizationID
    /// In whose ledger the record goes.
    package let organizationKey: OrganizationKey
    /// SHA-256 of the data subject.
    package let subject: Digest
    /// The nodes that confirmed, ascending.
    package let nodes: [NodeID]

    /// More nodes than a group ever has replicas.
    static let nodesMax = 64

    package init(
        organization: OrganizationID,
        organizationKey: OrganizationKey,
        subject: Digest,
        nodes: [NodeID]
    ) {
        self.organization = organization
        self.organizationKey = organizationKey
        self.subject = subject
        self.nodes = nodes
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.organization.rawValue)
        writer.write(prefixed: self.organizationKey.rawValue)
        writer.write(self.subject)
        writer.write(UInt32(self.nodes.count))
        for node in self.nodes { writer.write(node.rawValue) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.organization = OrganizationID(try reader.read())
        self.organizationKey = try reader.readOrganizationKey()
        self.subject = try reader.readDigest()
        let count = Int(try reader.read(UInt32.self))
        guard (1...Self.nodesMax).contains(count) else {
            throw MalformedBytes(what: "count of nodes", offset: reader.offset)
        }
        var nodes: [NodeID] = []
        for _ in 0..<count { nodes.append(NodeID(try reader.read())) }
        self.nodes = nodes
    }
}

extension ByteWriter {
    fileprivate mutating func write(reason: String?) {
        self.write(UInt8(reason == nil ? 0 : 1))
        if let reason { self.write(prefixed: reason) }
    }
}

extension ByteReader {
    fileprivate mutating func readReason() throws(MalformedBytes) -> String? {
        try self.read(UInt8.self) == 0 ? nil : try self.readPrefixedText()
    }

    fileprivate mutating func readOrganizationKey() throws(MalformedBytes) -> OrganizationKey {
        guard let key = OrganizationKey(try self.readPrefixedText()) else {
            throw MalformedBytes(what: "organization key", offset: self.offset)
        }
        return key
    }
}
