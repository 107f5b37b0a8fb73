package import AuditLedger
package import Primitives

/// A node's public key and when its signatures count.
package struct PackageKey: Hashable, Sendable {
    package let key: NoteVerifierKey
    /// The first moment; nil when there is no such bound.
    package let validFrom: Timestamp?
    /// The last moment, inclusive; nil while the key is in use.
    package let validTo: Timestamp?

    /// The most keys that a list may have.
    static let keysMax = 4096

    package init(key: NoteVerifierKey, validFrom: Timestamp? = nil, validTo: Timestamp? = nil) {
        self.key = key
        self.validFrom = validFrom
        self.validTo = validTo
    }

    /// The name of the file that holds the key's text, for people; keys that were rotated share a name.
    var fileName: String {
        let plain = self.key.name.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        let safe = plain.prefix(64).map { byte -> UInt8 in
            ZipFormat.isSafe([UInt8(ascii: "a"), byte]) ? byte : UInt8(ascii: "_")
        }
        return "\(PackageLayout.keyFolder)key-\(String(decoding: safe, as: UTF8.self))-\(self.key.id).vkey"
    }

    /// As the keys' validity is counted when checkpoints are judged: cosignatures carry whole seconds.
    var validity: KeyValidity {
        let from = self.validFrom.map { UInt64(max(0, $0.rawValue / 1_000_000)) } ?? 0
        let to = self.validTo.map { UInt64(max(0, $0.rawValue / 1_000_000)) } ?? Cosignature.timeSecondsMax
        return KeyValidity(key: self.key, timesSeconds: from...max(from, to))
    }

    // MARK: Text

    /// The list as canonical JSON: `{"keys":[{"key","valid_from"?,"valid_to"?}]}`.
    package static func encode(_ keys: [PackageKey]) -> [UInt8] {
        let rows = keys.map { key in
            var members = [JSONMember("key", .string(key.key.text))]
            if let time = key.validFrom { members.append(JSONMember("valid_from", .text(time.description))) }
            if let time = key.validTo { members.append(JSONMember("valid_to", .text(time.description))) }
            return JSONValue.object(members)
        }
        return CanonicalJSON.encode(.object([JSONMember("keys", .array(rows))]))
    }

    /// Reads a list of keys: JSON as ``encode(_:)`` and `GET /v1/keys` write it, or lines that hold one key each
    /// (blank ones and those that begin with `#` are passed over).
    ///
    /// - Throws: `.malformed`.
    package static func parse(_ text: [UInt8]) throws(PackageError) -> [PackageKey] {
        let first = text.first { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 }
        do {
            let keys = try first == UInt8(ascii: "{") ? self.parseJSON(text) : self.parseLines(text)
            guard !keys.isEmpty, keys.count <= self.keysMax else {
                throw PackageError(.malformed, "a list of keys has 1 to \(self.keysMax) of them")
            }
            return keys
        } catch let error as PackageError {
            throw error
        } catch {
            throw PackageError(.malformed, "the list of keys cannot be read", cause: error)
        }
    }

    private static func parseLines(_ text: [UInt8]) throws -> [PackageKey] {
        try text.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D })
            .map { line in line.filter { $0 != 0x20 && $0 != 0x09 } }
            .filter { !$0.isEmpty && $0.first != UInt8(ascii: "#") }
            .map { PackageKey(key: try NoteVerifierKey(parsing: $0)) }
    }

    private static func parseJSON(_ text: [UInt8]) throws -> [PackageKey] {
        try JSONPlace(try JSONParser.parse(text)).array("keys").map { place in
            PackageKey(
                key: try NoteVerifierKey(parsing: try place.string("key")),
                validFrom: try self.time(place, "valid_from"),
                validTo: try self.time(place, "valid_to")
            )
        }
    }

    private static func time(_ place: JSONPlace, _ key: String) throws -> Timestamp? {
        guard let text = try place.optionalString(key) else { return nil }
        guard let time = Timestamp(text) else {
            throw PackageError(.malformed, "the member \(key) of a key is no time")
        }
        return time
    }
}
