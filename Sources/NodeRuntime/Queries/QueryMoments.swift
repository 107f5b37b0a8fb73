internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import QueryRouter

/// Reads `as_of` of a query: a time, a record's sequence when there is one organization, or sequences by organization.
enum QueryMoments {
    /// - Parameter organizations: Those that the statement reads.
    /// - Returns: Nil when everything is read as it is now.
    /// - Throws: ``Problem`` `.invalidField`, ``JSONError``.
    static func read(_ object: JSONPlace, of organizations: [OrganizationKey]) throws -> QueryAsOf? {
        guard let place = try object.optional("as_of"), !place.value.isNull else { return nil }
        switch place.value {
        case .string:
            switch HistoryMoment(try place.string()) {
            case .time(let time): return .time(time)
            case .sequence(let sequence): return try self.only(sequence, organizations)
            case nil: throw self.problem("as_of is a time (RFC 3339), a sequence, or {ORGANIZATION:SEQUENCE}")
            }
        case .number: return try self.only(try self.sequence(try place.integer()), organizations)
        default:
            var sequences: [OrganizationKey: SequenceNumber] = [:]
            for member in try place.object() {
                let name = String(decoding: member.key, as: UTF8.self)
                guard let key = OrganizationKey(name), organizations.contains(key) else {
                    throw self.problem("as_of names an organization that the statement does not read")
                }
                sequences[key] = try self.sequence(try place.integer(name))
            }
            return .sequences(sequences)
        }
    }

    private static func only(_ sequence: SequenceNumber, _ organizations: [OrganizationKey]) throws -> QueryAsOf {
        guard organizations.count == 1, let key = organizations.first else {
            throw self.problem("a sequence is of one organization: give a time, or {ORGANIZATION:SEQUENCE}")
        }
        return .sequences([key: sequence])
    }

    private static func sequence(_ number: Int64) throws -> SequenceNumber {
        guard number >= 0 else { throw self.problem("a sequence is not negative") }
        return SequenceNumber(UInt64(number))
    }

    private static func problem(_ text: String) -> Problem {
        Problem(.invalidField, text, members: [.text("pointer", "/as_of")])
    }
}
