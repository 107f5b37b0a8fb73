package import Primitives

/// A member of a record that holds personal data, and whose.
package struct PersonalField: Sendable, Hashable {
    /// JSON Pointer into the record: `/after/…`, `/before/…` or `/compliance/…`.
    package let path: String
    /// The data subject, under the pseudonym that the organization gave; it stays readable for ever.
    package let subject: String

    package init(path: String, subject: String) {
        self.path = path
        self.subject = subject
    }
}

/// Bounds on personal data of one record.
package enum PersonalLimits {
    package static let fieldsMax = 64
    package static let subjectBytesMax = 200
    package static let pathBytesMax = 1024
}

/// A value taken out of an event before it became a draft: what is sealed outside the ledger.
package struct PersonalValue: Sendable, Hashable {
    package let field: PersonalField
    /// Canonical JSON.
    package let value: [UInt8]
    /// 32 bytes that nobody can guess; without them a commitment could be tried out against likely values.
    package let salt: [UInt8]
    package let commitment: Digest
}

/// What stands in a record in the place of a personal value.
///
/// `commitment = SHA-256("flasktrack/personal/1\n" ‖ u16 length ‖ organization key ‖ salt (32) ‖ u32 length ‖ value)`, lengths
/// big-endian, the value as canonical JSON; in the record `{"$commitment":"64 lowercase hexadecimal digits"}`. Its place and its
/// record are bound by the record's own checksum. Equal values of one subject in one event have equal commitments.
package enum PersonalCommitment {
    package static let saltBytes = 32
    /// The member that marks a commitment.
    package static let mark = "$commitment"

    private static let domain = Array("flasktrack/personal/1\n".utf8)

    package static func commit(_ organization: OrganizationKey, salt: [UInt8], value: [UInt8]) -> Digest {
        var hash = TextHash()
        let key = Array(organization.rawValue.utf8)
        hash.update(self.domain)
        hash.update([UInt8(truncatingIfNeeded: key.count >> 8), UInt8(truncatingIfNeeded: key.count)] + key)
        hash.update(salt)
        var length: [UInt8] = []
        for shift in [24, 16, 8, 0] { length.append(UInt8(truncatingIfNeeded: value.count >> shift)) }
        hash.update(length)
        hash.update(value)
        return hash.finalize()
    }

    /// What stands in the record.
    package static func json(_ commitment: Digest) -> JSONValue {
        .object([JSONMember(self.mark, .text(commitment.hex))])
    }

    /// The commitment that a value of a record is; nil when it is none.
    package static func read(_ value: JSONValue) -> Digest? {
        guard case .object(let members) = value, members.count == 1, case .string(let text)? = value[self.mark] else {
            return nil
        }
        return Digest(hex: String(decoding: text, as: UTF8.self))
    }
}

/// Takes personal values out of one event.
struct PersonalExtractor {
    let organization: OrganizationKey
    /// 32 random bytes of this request; salts are derived from it and from the event's number.
    let seed: [UInt8]

    /// The event with commitments in place of personal values, and those values.
    /// - Parameters:
    ///   - event: Canonical JSON of the event, with its member `personal`.
    ///   - number: Of the event in its request.
    func extract(_ event: JSONValue, number: Int) throws(EventError) -> (event: JSONValue, values: [PersonalValue]) {
        let fields = try self.fields(event)
        var result = event
        var values: [PersonalValue] = []
        for field in fields {
            let parts = Self.parts(field.path)
            guard parts.count >= 2, ["after", "before", "compliance"].contains(where: { Array($0.utf8) == parts[0] })
            else {
                throw Self.failure(.valueNotAllowed, "a personal member lies within after, before or compliance")
            }
            guard let found = Self.value(at: parts[...], in: result) else {
                throw Self.failure(.valueNotAllowed, "the event has no member \(field.path)")
            }
            guard !Self.holdsCommitment(found) else {
                throw Self.failure(
                    .valueNotAllowed,
                    "\(field.path) is named twice, or lies within another personal member"
                )
            }
            let value = CanonicalJSON.encode(found)
            let salt = self.salt(number, field.subject, value)
            let commitment = PersonalCommitment.commit(self.organization, salt: salt, value: value)
            result = Self.replacing(result, at: parts[...], by: PersonalCommitment.json(commitment))
            values.append(PersonalValue(field: field, value: value, salt: salt, commitment: commitment))
        }
        return (result, values)
    }

    private static func failure(_ code: EventError.Code, _ message: String) -> EventError {
        EventError(code, message, member: "/personal")
    }

    private func fields(_ event: JSONValue) throws(EventError) -> [PersonalField] {
        guard case .array(let elements)? = event["personal"] else {
            throw Self.failure(.wrongType, "an array of {path, subject} is wanted here")
        }
        guard !elements.isEmpty, elements.count <= PersonalLimits.fieldsMax else {
            throw Self.failure(
                .valueNotAllowed,
                "1 to \(PersonalLimits.fieldsMax) members are personal, or none is named"
            )
        }
        var fields: [PersonalField] = []
        for element in elements {
            guard case .object(let members) = element, members.count == 2, case .string(let path)? = element["path"],
                case .string(let subject)? = element["subject"]
            else { throw Self.failure(.wrongType, "each element is {\"path\": text, \"subject\": text}") }
            guard (1...PersonalLimits.subjectBytesMax).contains(subject.count),
                path.count <= PersonalLimits.pathBytesMax
            else { throw Self.failure(.textTooLong, "a subject has 1 to \(PersonalLimits.subjectBytesMax) bytes") }
            fields.append(
                PersonalField(
                    path: String(decoding: path, as: UTF8.self),
                    subject: String(decoding: subject, as: UTF8.self)
                )
            )
        }
        return fields
    }

    private func salt(_ number: Int, _ subject: String, _ value: [UInt8]) -> [UInt8] {
        var hash = TextHash()
        hash.update(Array("flasktrack/salt/1\n".utf8))
        hash.update(self.seed)
        hash.update(Array("\(number)\n\(subject.utf8.count)\n\(subject)".utf8))
        hash.update(value)
        return Array(hash.finalize().bytes)
    }

    /// The tokens of a JSON Pointer, unescaped.
    static func parts(_ path: String) -> [[UInt8]] {
        guard path.hasPrefix("/") else { return [] }
        return path.dropFirst().utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { part in
            var token: [UInt8] = []
            var rest = part[...]
            while let byte = rest.popFirst() {
                if byte == UInt8(ascii: "~"), let next = rest.first {
                    rest.removeFirst()
                    token.append(next == UInt8(ascii: "1") ? UInt8(ascii: "/") : UInt8(ascii: "~"))
                } else {
                    token.append(byte)
                }
            }
            return token
        }
    }

    static func value(at parts: ArraySlice<[UInt8]>, in value: JSONValue) -> JSONValue? {
        guard let part = parts.first else { return value }
        switch value {
        case .object(let members):
            return members.first { $0.key == part }.flatMap { self.value(at: parts.dropFirst(), in: $0.value) }
        case .array(let elements):
            guard let index = Int(String(decoding: part, as: UTF8.self)), elements.indices.contains(index) else {
                return nil
            }
            return self.value(at: parts.dropFirst(), in: elements[index])
        default: return nil
        }
    }

    private static func replacing(
        _ value: JSONValue,
        at parts: ArraySlice<[UInt8]>,
        by replacement: JSONValue
    ) -> JSONValue {
        guard let part = parts.first else { return replacement }
        switch value {
        case .object(let members):
            return .object(
                members.map { member in
                    guard member.key == part else { return member }
                    return JSONMember(
                        key: member.key,
                        value: self.replacing(member.value, at: parts.dropFirst(), by: replacement)
                    )
                }
            )
        case .array(var elements):
            guard let index = Int(String(decoding: part, as: UTF8.self)), elements.indices.contains(index) else {
                return value
            }
            elements[index] = self.replacing(elements[index], at: parts.dropFirst(), by: replacement)
            return .array(elements)
        default: return value
        }
    }

    private static func holdsCommitment(_ value: JSONValue) -> Bool {
        if PersonalCommitment.read(value) != nil { return true }
        switch value {
        case .object(let members): return members.contains { self.holdsCommitment($0.value) }
        case .array(let elements): return elements.contains { self.holdsCommitment($0) }
        default: return false
        }
    }
}
