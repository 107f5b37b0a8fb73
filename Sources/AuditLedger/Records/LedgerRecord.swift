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
    /// What led to this act, and what it belongs to, as the client names them.
    package let causation: String?
    package let correlation: String?
    package let session: String?
    /// JSON Pointers at which `before` and `after` differ; nil when they were not compared.
    package let changed: [String]?
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
        self.causation = fields.text(.causation)
        self.correlation = fields.text(.correlation)
        self.session = fields.text(.session)
        self.changed = try Self.value(fields, .changed).map { (value) throws(LedgerError) in try Self.texts(value) }
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

    private static func texts(_ value: JSONValue) throws(LedgerError) -> [String] {
        guard case .array(let elements) = value else { return [] }
        var texts: [String] = []
        for element in elements {
            guard case .string(let bytes) = element else {
                throw LedgerError(code: .damaged, message: "the record's member /changed does not hold texts")
            }
            texts.append(String(decoding: bytes, as: UTF8.self))
        }
        return texts
    }

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
