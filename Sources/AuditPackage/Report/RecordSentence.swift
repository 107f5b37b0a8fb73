internal import AuditLedger
internal import Primitives

/// A record in one line for people: what happened to which entity, field by field.
struct RecordSentence {
    /// Characters of one value, and fields of one record, that are shown.
    static let valueMax = 80
    static let fieldsMax = 12

    let sequence: UInt64
    let time: String
    let actor: String
    let text: String
    /// Outcome and severity, when they are not the usual ones.
    let note: String

    /// - Returns: nil when the bytes are no record.
    init?(_ bytes: [UInt8]) {
        guard let fields = try? RecordFields(scanning: bytes) else { return nil }
        self.sequence = fields.sequence.rawValue
        self.time = fields.recordedAt.description
        let id = fields.text(.actorID) ?? ""
        var actor = fields.text(.actorName).map { "\($0) (\(id))" } ?? id
        if let role = fields.text(.actorRole) { actor += ", \(role)" }
        if let other = fields.text(.actorOnBehalfOf) { actor += ", for \(other)" }
        self.actor = actor
        var text = "\(fields.text(.action) ?? "") \(fields.text(.entityType) ?? "") \(fields.text(.entityID) ?? "")"
        let changes = Self.changes(fields)
        if !changes.isEmpty { text += ": " + changes.joined(separator: "; ") }
        if let reason = fields.text(.reason) { text += ". Reason: \(Self.short(reason))" }
        self.text = text
        let outcome = fields.text(.outcome) ?? ""
        let severity = fields.text(.severity) ?? ""
        self.note = [outcome == "success" ? nil : outcome, severity == "info" ? nil : severity]
            .compactMap { $0 }.joined(separator: ", ")
    }

    private static func changes(_ fields: RecordFields) -> [String] {
        let before = self.members(fields.json(.before))
        let after = self.members(fields.json(.after))
        var changes: [String] = []
        let names = Set((before ?? []).map(\.key) + (after ?? []).map(\.key))
        for name in names.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            let old = before?.first { $0.key == name }?.value
            let new = after?.first { $0.key == name }?.value
            guard old != new else { continue }
            let label = self.short(String(decoding: name, as: UTF8.self))
            switch (old, new) {
            case (nil, let new?): changes.append("\(label) \(self.text(new))")
            case (let old?, nil): changes.append("\(label) \(self.text(old)) → nothing")
            case (let old?, let new?): changes.append("\(label) \(self.text(old)) → \(self.text(new))")
            case (nil, nil): break
            }
        }
        guard changes.count > self.fieldsMax else { return changes }
        return changes.prefix(self.fieldsMax) + ["and \(changes.count - self.fieldsMax) more fields"]
    }

    /// The members of an object; any other value counts as one member without a name.
    private static func members(_ json: ArraySlice<UInt8>?) -> [JSONMember]? {
        guard let json, let value = try? JSONParser.parse(Array(json)), !value.isNull else { return nil }
        guard case .object(let members) = value else { return [JSONMember("value", value)] }
        return members
    }

    private static func text(_ value: JSONValue) -> String {
        if case .string(let bytes) = value { return "«\(self.short(String(decoding: bytes, as: UTF8.self)))»" }
        return self.short(String(decoding: CanonicalJSON.encode(value), as: UTF8.self))
    }

    private static func short(_ text: String) -> String {
        let line = String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 ? " " : $0 }))
        return line.count > self.valueMax ? line.prefix(self.valueMax - 1) + "…" : line
    }
}
