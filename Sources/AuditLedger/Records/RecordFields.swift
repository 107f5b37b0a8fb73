package import Primitives

/// The leaves of a record, in the order of its canonical text.
package enum RecordField: Int, Sendable, CaseIterable {
    case action
    case actorID
    case actorKind
    case actorName
    case actorOnBehalfOf
    case actorRole
    case after
    case before
    case causation
    case changed
    case compliance
    case correlation
    case entityID
    case entityType
    case occurredAt
    case organization
    case outcome
    case personal
    case previous
    case reason
    case recordedAt
    case requestAuthentication
    case requestChannel
    case requestID
    case requestIP
    case requestUserAgent
    case sequence
    case session
    case severity

    /// JSON Pointer to the member.
    package var path: String {
        switch self {
        case .action: "/action"
        case .actorID: "/actor/id"
        case .actorKind: "/actor/kind"
        case .actorName: "/actor/name"
        case .actorOnBehalfOf: "/actor/on_behalf_of"
        case .actorRole: "/actor/role"
        case .after: "/after"
        case .before: "/before"
        case .causation: "/causation"
        case .changed: "/changed"
        case .compliance: "/compliance"
        case .correlation: "/correlation"
        case .entityID: "/entity_id"
        case .entityType: "/entity_type"
        case .occurredAt: "/occurred_at"
        case .organization: "/organization"
        case .outcome: "/outcome"
        case .personal: "/personal"
        case .previous: "/previous"
        case .reason: "/reason"
        case .recordedAt: "/recorded_at"
        case .requestAuthentication: "/request/authentication"
        case .requestChannel: "/request/channel"
        case .requestID: "/request/id"
        case .requestIP: "/request/ip"
        case .requestUserAgent: "/request/user_agent"
        case .sequence: "/sequence"
        case .session: "/session"
        case .severity: "/severity"
        }
    }

    fileprivate var isOptional: Bool {
        switch self {
        case .actorName, .actorOnBehalfOf, .actorRole, .causation, .changed, .compliance, .correlation, .occurredAt,
            .personal, .reason, .requestAuthentication, .requestIP, .requestUserAgent, .session:
            true
        default: false
        }
    }

    /// The last part of ``path`` as `"name":`.
    fileprivate var name: [UInt8] {
        let last = self.path.utf8.lastIndex(of: UInt8(ascii: "/")).map { self.path.utf8[$0...].dropFirst() }
        return [JSONText.quote] + Array(last ?? self.path.utf8[...]) + [JSONText.quote, UInt8(ascii: ":")]
    }
}

/// Where the members of a record's canonical text lie; reading a member later copies only that.
///
/// Made by one strict pass: the bytes are canonical, and the members are exactly those of a record, in their order
/// and of their types. Values of closed sets are checked by ``LedgerRecord``.
package struct RecordFields: Sendable {
    package let bytes: [UInt8]
    package private(set) var sequence = SequenceNumber.zero
    package private(set) var recordedAt = Timestamp(microseconds: 0)
    private var places: InlineArray<29, Place>
    /// Whether the text at a place holds an escape.
    private var isEscaped: InlineArray<29, Bool>

    /// A range that may be absent.
    private struct Place: Sendable {
        var start: UInt32
        var end: UInt32
    }

    /// - Throws: `.damaged`, naming the first member that is not as it must be.
    package init(scanning bytes: [UInt8]) throws(LedgerError) {
        // One member more must not silently fall off the end of the table.
        assert(RecordField.allCases.count == 29)
        self.bytes = bytes
        self.places = InlineArray(repeating: Place(start: 0, end: 0))
        self.isEscaped = InlineArray(repeating: false)
        guard bytes.count <= EventLimits.recordBytesMax else {
            throw LedgerError(code: .damaged, message: "the record is longer than a record may be")
        }
        var scanner = CanonicalScanner(bytes)
        do {
            try self.scan(&scanner)
        } catch {
            throw LedgerError(
                code: .damaged,
                message: "the record is not as it must be at byte \(scanner.next)",
                cause: error
            )
        }
    }

    private mutating func scan(_ scanner: inout CanonicalScanner) throws(JSONError) {
        try scanner.expect(UInt8(ascii: "{"))
        try self.member(.action, in: &scanner, isFirst: true)
        try self.open(Shape.actor, in: &scanner)
        try self.group([.actorID, .actorKind, .actorName, .actorOnBehalfOf, .actorRole], in: &scanner)
        for field in Shape.middle { try self.member(field, in: &scanner, isFirst: false) }
        try self.open(Shape.request, in: &scanner)
        try self.group(Shape.requestFields, in: &scanner)
        try self.member(.sequence, in: &scanner, isFirst: false)
        try self.member(.session, in: &scanner, isFirst: false)
        try self.member(.severity, in: &scanner, isFirst: false)
        try scanner.expect(UInt8(ascii: "}"))
        guard scanner.isAtEnd else { throw scanner.failure("something follows the record") }
    }

    private func open(_ name: [UInt8], in scanner: inout CanonicalScanner) throws(JSONError) {
        guard scanner.take(name) else { throw scanner.failure("an object of a record is absent") }
    }

    private mutating func group(_ fields: [RecordField], in scanner: inout CanonicalScanner) throws(JSONError) {
        var isFirst = true
        for field in fields where try self.member(field, in: &scanner, isFirst: isFirst) { isFirst = false }
        try scanner.expect(UInt8(ascii: "}"))
    }

    /// Reads a member if it comes next.
    /// - Returns: Whether it did; a member that must be there and is not throws.
    @discardableResult
    private mutating func member(
        _ field: RecordField,
        in scanner: inout CanonicalScanner,
        isFirst: Bool
    ) throws(JSONError) -> Bool {
        let before = scanner.next
        guard isFirst || scanner.take(UInt8(ascii: ",")), scanner.take(Shape.names[field.rawValue]) else {
            scanner.next = before
            guard field.isOptional else { throw scanner.failure("the member \(field.path) is absent") }
            return false
        }
        let start = scanner.next
        let first = scanner.current
        switch field {
        case .after, .before: try scanner.value()
        case .compliance:
            guard first == UInt8(ascii: "{") else { throw scanner.failure("\(field.path) is not an object") }
            try scanner.value()
        case .changed, .personal:
            guard first == UInt8(ascii: "[") else { throw scanner.failure("\(field.path) is not an array") }
            try scanner.value()
        case .sequence:
            try scanner.number()
            self.sequence = try Self.sequence(in: scanner, from: start)
        case .recordedAt:
            _ = try scanner.string()
            self.recordedAt = try Self.time(in: scanner, from: start)
        case .occurredAt:
            _ = try scanner.string()
            _ = try Self.time(in: scanner, from: start)
        default: self.isEscaped[field.rawValue] = try scanner.string()
        }
        self.places[field.rawValue] = Place(start: UInt32(start), end: UInt32(scanner.next))
        return true
    }

    private static func sequence(in scanner: CanonicalScanner, from start: Int) throws(JSONError) -> SequenceNumber {
        var value = UInt64(0)
        for byte in scanner.bytes[start..<scanner.next] {
            guard JSONNumberText.isDigit(byte) else { throw scanner.failure("/sequence is not a positive integer") }
            value = value * 10 + UInt64(byte - 0x30)
        }
        guard value > 0 else { throw scanner.failure("/sequence is not a positive integer") }
        return SequenceNumber(value)
    }

    /// A time in exactly the form that ``Timestamp`` writes.
    private static func time(in scanner: CanonicalScanner, from start: Int) throws(JSONError) -> Timestamp {
        let inner = start + 1..<scanner.next - 1
        guard inner.count == Timestamp.textByteCount, let time = RecordTime.parse(scanner.bytes, inner) else {
            throw scanner.failure("a time is not in the form of a record")
        }
        return time
    }

    // MARK: Reading

    /// Where the JSON value of a member lies in ``bytes``, quotes included; nil when it is absent.
    package func range(_ field: RecordField) -> Range<Int>? {
        let place = self.places[field.rawValue]
        return place.end == 0 ? nil : Int(place.start)..<Int(place.end)
    }

    /// The JSON text of a member (`null` for null); nil when it is absent.
    package func json(_ field: RecordField) -> ArraySlice<UInt8>? { self.range(field).map { self.bytes[$0] } }

    /// A text member, unescaped, as UTF-8; nil when it is absent or no text.
    package func textBytes(_ field: RecordField) -> [UInt8]? {
        guard let range = self.range(field), self.bytes[range.lowerBound] == JSONText.quote else { return nil }
        return JSONText.unescaped(self.bytes, range)
    }

    /// Where a text member without escapes lies in ``bytes``, without its quotes; nil when it is absent, no text, or
    /// has an escape.
    package func textPlace(_ field: RecordField) -> Range<Int>? {
        let place = self.places[field.rawValue]
        guard place.end != 0, !self.isEscaped[field.rawValue], self.bytes[Int(place.start)] == JSONText.quote else {
            return nil
        }
        return Int(place.start) + 1..<Int(place.end) - 1
    }

    /// A text member, unescaped; nil when it is absent or no text.
    package func text(_ field: RecordField) -> String? {
        guard let range = self.range(field), self.bytes[range.lowerBound] == JSONText.quote else { return nil }
        if self.isEscaped[field.rawValue] {
            return String(decoding: JSONText.unescaped(self.bytes, range), as: UTF8.self)
        }
        return String(decoding: self.bytes[range.lowerBound + 1..<range.upperBound - 1], as: UTF8.self)
    }

    /// When the act took place, if the event said so.
    package var occurredAt: Timestamp? {
        self.range(.occurredAt).flatMap { RecordTime.parse(self.bytes, $0.lowerBound + 1..<$0.upperBound - 1) }
    }

    /// The checksum of the record before; nil when the member is not 64 lowercase digits.
    package var previous: Digest? {
        guard let range = self.range(.previous), range.count == Digest.byteCount * 2 + 2 else { return nil }
        return Digest(lowercaseHex: self.bytes, from: range.lowerBound + 1)
    }
}

extension Digest {
    /// Reads 64 lowercase hexadecimal digits of `bytes` from `start`; the caller checked that they are there.
    fileprivate init?(lowercaseHex bytes: [UInt8], from start: Int) {
        var words: InlineArray<4, UInt64> = InlineArray(repeating: 0)
        for word in 0..<4 {
            var value = UInt64(0)
            for offset in 0..<16 {
                let digit = bytes[start + word * 16 + offset]
                switch digit {
                case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
                case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
                default: return nil
                }
            }
            words[word] = value
        }
        self.init(words: (words[0], words[1], words[2], words[3]))
    }
}

/// The fixed parts of a record's text.
private enum Shape {
    static let names = RecordField.allCases.map(\.name)
    static let actor = Array(",\"actor\":{".utf8)
    static let request = Array(",\"request\":{".utf8)
    static let middle: [RecordField] = [
        .after, .before, .causation, .changed, .compliance, .correlation, .entityID, .entityType, .occurredAt,
        .organization, .outcome, .personal, .previous, .reason, .recordedAt,
    ]
    static let requestFields: [RecordField] = [
        .requestAuthentication, .requestChannel, .requestID, .requestIP, .requestUserAgent,
    ]
}
