/// The members that an event may have.
enum EventMember {
    case action
    case actor
    case after
    case before
    case causation
    case compliance
    case correlation
    case entityID
    case entityType
    case occurredAt
    case organization
    case outcome
    case personal
    case reason
    case session
    case severity

    /// The first format of records that has it.
    var format: RecordFormat {
        switch self {
        case .causation, .correlation, .personal, .session: .second
        default: .first
        }
    }

    /// The member with the name in `bytes[range]`; the length tells most of them apart.
    init?(_ bytes: [UInt8], _ range: Range<Int>) {
        guard let member = bytes.withUnsafeBufferPointer({ Self(UnsafeBufferPointer(rebasing: $0[range])) }) else {
            return nil
        }
        self = member
    }

    /// The same for a name that is lent.
    init?(_ name: UnsafeBufferPointer<UInt8>) {
        let candidates: InlineArray<3, (StaticString, EventMember)?>
        switch name.count {
        case 5: candidates = [("actor", .actor), ("after", .after), nil]
        case 6: candidates = [("action", .action), ("before", .before), ("reason", .reason)]
        case 7: candidates = [("outcome", .outcome), ("session", .session), nil]
        case 8: candidates = [("severity", .severity), ("personal", .personal), nil]
        case 9: candidates = [("entity_id", .entityID), ("causation", .causation), nil]
        case 10: candidates = [("compliance", .compliance), nil, nil]
        case 11:
            candidates = [("occurred_at", .occurredAt), ("entity_type", .entityType), ("correlation", .correlation)]
        case 12: candidates = [("organization", .organization), nil, nil]
        default: return nil
        }
        for place in candidates.indices {
            guard let candidate = candidates[place] else { continue }
            if name.isText(candidate.0) {
                self = candidate.1
                return
            }
        }
        return nil
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whether the bytes are those of `text`.
    func isText(_ text: StaticString) -> Bool {
        guard self.count == text.utf8CodeUnitCount else { return false }
        let start = text.utf8Start
        var offset = 0
        while offset < self.count, self[offset] == start[offset] { offset += 1 }
        return offset == self.count
    }

    /// Whether the bytes of two ranges are the same.
    func isSame(_ left: Range<Int>, _ right: Range<Int>) -> Bool {
        guard left.count == right.count else { return false }
        var offset = 0
        while offset < left.count, self[left.lowerBound + offset] == self[right.lowerBound + offset] { offset += 1 }
        return offset == left.count
    }
}

/// Names of members as bytes, with the marks that go around them.
enum EventNames {
    static let id = Array("id".utf8)[...]
    static let kind = Array("kind".utf8)[...]
    static let name = Array("name".utf8)[...]
    static let onBehalfOf = Array("on_behalf_of".utf8)[...]
    static let role = Array("role".utf8)[...]

    static let openAction = Array("{\"action\":".utf8)
    static let putActor = Array(",\"actor\":".utf8)
    static let putAfter = Array(",\"after\":".utf8)
    static let putBefore = Array(",\"before\":".utf8)
    static let putCausation = Array(",\"causation\":".utf8)
    static let putChanged = Array(",\"changed\":[".utf8)
    static let putCorrelation = Array(",\"correlation\":".utf8)
    static let putPersonal = Array(",\"personal\":".utf8)
    static let putSession = Array(",\"session\":".utf8)
    static let putCompliance = Array(",\"compliance\":".utf8)
    static let putEntityID = Array(",\"entity_id\":".utf8)
    static let putEntityType = Array(",\"entity_type\":".utf8)
    static let putOccurredAt = Array(",\"occurred_at\":".utf8)
    static let putOrganization = Array(",\"organization\":".utf8)
    static let putOutcome = Array(",\"outcome\":".utf8)
    static let putReason = Array(",\"reason\":".utf8)
    static let putSeverity = Array(",\"severity\":".utf8)
    static let openID = Array("{\"id\":".utf8)
    static let putKind = Array(",\"kind\":".utf8)
    static let putUserKind = Array(",\"kind\":\"user\"}".utf8)
    static let putName = Array(",\"name\":".utf8)
    static let putOnBehalfOf = Array(",\"on_behalf_of\":".utf8)
    static let putRole = Array(",\"role\":".utf8)
    static let null = Array("null".utf8)

    static let kinds = ActorKind.allCases.map { Array("\"\($0.rawValue)\"".utf8) }
    static let severities = Severity.allCases.map { Array("\"\($0.rawValue)\"".utf8) }
    static let outcomes = Outcome.allCases.map { Array("\"\($0.rawValue)\"".utf8) }
    /// The longest text of RFC 3339 that is read: nine fractional digits and a zone offset.
    static let timeBytesMax = 35
}
