package import Primitives

/// A stored record, read back with types.
package struct LedgerRecord: Sendable, Hashable {
    /// The canonical text, as stored.
    package let bytes: [UInt8]
    package let organization: OrganizationKey
    package let sequence: SequenceNumber
    package let recordedAt: Timestamp
    package let occurredAt: Timestamp?
    package let actor: Actor
    package let action: String
    package let entityType: String
    package let entityID: String
    package let before: JSONValue
    package let after: JSONValue
    package let reason: String?
    package let severity: Severity
    package let compliance: JSONValue?
    package let outcome: Outcome
    package let request: RequestInfo
    /// The checksum of the record before; zero for the first.
    package let previous: Digest

    /// SHA-256(0x00 ‖ bytes), computed anew.
    package var checksum: Digest { LedgerHash.leaf(self.bytes) }

    /// Reads a record strictly.
    ///
    /// - Throws: `.damaged`, naming the first member that is not as it must be.
    package init(_ bytes: [UInt8]) throws(LedgerError) {
        let fields = try RecordFields(scanning: bytes)
        self.bytes = bytes
        self.organization = try Self.known(OrganizationKey(Self.text(fields, .organization)), .organization)
        self.sequence = fields.sequence
        self.recordedAt = fields.recordedAt
        self.occurredAt = fields.occurredAt
        self.actor = Actor(
            kind: try Self.known(ActorKind(rawValue: Self.text(fields, .actorKind)), .actorKind),
            id: Self.text(fields, .actorID),
            name: fields.text(.actorName),
            role: fields.text(.actorRole),
            onBehalfOf: fields.text(.actorOnBehalfOf)
        )
        self.action = Self.text(fields, .action)
        self.entityType = Self.text(fields, .entityType)
        self.entityID = Self.text(fields, .entityID)
        self.before = try Self.value(fields, .before) ?? .null
        self.after = try Self.value(fields, .after) ?? .null
        self.reason = fields.text(.reason)
        self.severity = try Self.known(Severity(rawValue: Self.text(fields, .severity)), .severity)
        self.compliance = try Self.value(fields, .compliance)
        self.outcome = try Self.known(Outcome(rawValue: Self.text(fields, .outcome)), .outcome)
        self.request = RequestInfo(
            id: Self.text(fields, .requestID),
            channel: try Self.known(RequestChannel(rawValue: Self.text(fields, .requestChannel)), .requestChannel),
            ip: fields.text(.requestIP),
            userAgent: fields.text(.requestUserAgent),
            authentication: fields.text(.requestAuthentication)
        )
        self.previous = try Self.known(fields.previous, .previous)
    }

    private static func text(_ fields: RecordFields, _ field: RecordField) -> String { fields.text(field) ?? "" }

    private static func known<Value>(_ value: Value?, _ field: RecordField) throws(LedgerError) -> Value {
        guard let value else {
            throw LedgerError(code: .damaged, message: "the record's member \(field.path) has an unknown value")
        }
        return value
    }

    private static func value(_ fields: RecordFields, _ field: RecordField) throws(LedgerError) -> JSONValue? {
        guard let range = fields.range(field) else { return nil }
        do {
            return try JSONParser.parse(canonical: fields.bytes, range: range)
        } catch {
            throw LedgerError(code: .damaged, message: "the record's member \(field.path) cannot be read", cause: error)
        }
    }
}
