package import AuditLedger
package import Primitives

/// A node's public key and when its signatures count.
package struct PackageKey: Hashable, Sendable {
    package let key: NoteVerifierKey
    /// The first moment; nil when there is no such bound.
    package let validFrom: Timestamp?
    /// The last moment, inclusive; nil while the key is in use.
    package let validTo: Timestamp?
    /// The sizes of the checkpoints that it may sign, and of which log; nil when nothing is known of them.
    ///
    /// A log's signature carries no time, and whoever has a stolen key writes any time into a cosignature; a tree that was
    /// larger than when the key ended is none that it could sign.
    package let bounds: SizeBounds?

    /// Sizes of one log, both ends inclusive.
    package struct SizeBounds: Hashable, Sendable {
        package let origin: LogOrigin
        package let sizes: ClosedRange<UInt64>

        package init(origin: LogOrigin, sizes: ClosedRange<UInt64>) {
            self.origin = origin
            self.sizes = sizes
        }
    }

    /// How far the clocks of the node that stamps records and of the one that ends a key may be apart: records of so much
    /// later still count as before the end.
    package static let clockTolerance = Int64(5_000_000)

    /// The most keys that a list may have.
    static let keysMax = 4096

    package init(
        key: NoteVerifierKey,
        validFrom: Timestamp? = nil,
        validTo: Timestamp? = nil,
        bounds: SizeBounds? = nil
    ) {
        self.key = key
        self.validFrom = validFrom
        self.validTo = validTo
        self.bounds = bounds
    }

    /// The same key with the sizes that follow from its validity in time: from the records that were there when it began
    /// to those that were there when it ended.
    ///
    /// - Parameters:
    ///   - reader: The ledger of `origin`.
    ///   - size: Records of it that are looked at; a key that ends behind the last of them has no upper bound.
    /// - Throws: ``LedgerError``.
    package func bounded(
        by reader: LedgerReader,
        origin: LogOrigin,
        size: UInt64
    ) throws(LedgerError) -> PackageKey {
        func records(upTo time: Timestamp) throws(LedgerError) -> UInt64 {
            try reader.size(recordedUpTo: time, of: size)
        }
        var first = UInt64(0)
        if let from = self.validFrom {
            first = try records(upTo: Timestamp(microseconds: from.rawValue &- Self.clockTolerance))
        }
        var last = MerkleTree.sizeMax
        if let to = self.validTo {
            let bound = try records(upTo: Timestamp(microseconds: to.rawValue &+ Self.clockTolerance))
            if bound < size { last = max(first, bound) }
        }
        let bounds = SizeBounds(origin: origin, sizes: first...last)
        return PackageKey(key: self.key, validFrom: self.validFrom, validTo: self.validTo, bounds: bounds)
    }

    /// The name of the file that holds the key's text, for people; keys that were rotated share a name.
    var fileName: String {
        let plain = self.key.name.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        let safe = plain.prefix(64).map { byte -> UInt8 in
            ZipFormat.isSafe([UInt8(ascii: "a"), byte]) ? byte : UInt8(ascii: "_")
        }
        return "\(PackageLayout.keyFolder)key-\(String(decoding: safe, as: UTF8.self))-\(self.key.id).vkey"
    }

    /// As the key's validity is counted when checkpoints of a log are judged, by what it signs as: cosignatures carry whole
    /// seconds, signatures of a log no time. Sizes of another log say nothing.
    package func validity(for origin: LogOrigin) throws(NoteError) -> [KeyValidity] {
        let whole = UInt64(0)...MerkleTree.sizeMax
        let sizes = self.bounds.flatMap { $0.origin == origin ? $0.sizes : nil } ?? whole
        let cosigner = try NoteVerifierKey(name: self.key.name, type: .cosignature, publicKey: self.key.publicKey)
        let log = try NoteVerifierKey(name: origin.keyName, type: .ed25519, publicKey: self.key.publicKey)
        return [
            KeyValidity(key: cosigner, sizes: sizes, timesSeconds: self.seconds), KeyValidity(key: log, sizes: sizes),
        ]
    }

    private var seconds: ClosedRange<UInt64> {
        let from = self.validFrom.map { UInt64(max(0, $0.rawValue / 1_000_000)) } ?? 0
        let to = self.validTo.map { UInt64(max(0, $0.rawValue / 1_000_000)) } ?? Cosignature.timeSecondsMax
        return from...max(from, to)
    }

    // MARK: Text

    /// The list as canonical JSON: `{"keys":[{"first_size"?,"key","last_size"?,"valid_from"?,"valid_to"?}],"origin"?}`;
    /// `origin` is the log that the sizes are of.
    ///
    /// All keys with sizes are of one log.
    package static func encode(_ keys: [PackageKey]) -> [UInt8] {
        let origin = keys.compactMap(\.bounds?.origin).first
        let rows = keys.map { key in
            var members = [JSONMember("key", .string(key.key.text))]
            if let time = key.validFrom { members.append(JSONMember("valid_from", .text(time.description))) }
            if let time = key.validTo { members.append(JSONMember("valid_to", .text(time.description))) }
            if let sizes = key.bounds?.sizes {
                members.append(JSONMember("first_size", Self.number(sizes.lowerBound)))
                if sizes.upperBound < MerkleTree.sizeMax {
                    members.append(JSONMember("last_size", Self.number(sizes.upperBound)))
                }
            }
            return JSONValue.object(members)
        }
        var list = [JSONMember("keys", .array(rows))]
        if let origin { list.append(JSONMember("origin", .string(origin.bytes))) }
        return CanonicalJSON.encode(.object(list))
    }

    private static func number(_ size: UInt64) -> JSONValue {
        JSONNumber(Int64(clamping: size)).map { .number($0) } ?? .null
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
        let list = JSONPlace(try JSONParser.parse(text))
        let origin = try list.optionalString("origin").map { try LogOrigin($0) }
        return try list.array("keys").map { place in
            PackageKey(
                key: try NoteVerifierKey(parsing: try place.string("key")),
                validFrom: try self.time(place, "valid_from"),
                validTo: try self.time(place, "valid_to"),
                bounds: try self.bounds(place, origin)
            )
        }
    }

    private static func bounds(_ place: JSONPlace, _ origin: LogOrigin?) throws -> SizeBounds? {
        let first = try place.optional("first_size")?.integer()
        let last = try place.optional("last_size")?.integer()
        guard first != nil || last != nil else { return nil }
        guard let origin else { throw PackageError(.malformed, "sizes of a key without the log that they are of") }
        let sizes = (UInt64(clamping: first ?? 0), last.map { UInt64(clamping: $0) } ?? MerkleTree.sizeMax)
        guard first ?? 0 >= 0, last ?? 0 >= 0, sizes.0 <= sizes.1 else {
            throw PackageError(.malformed, "the sizes of a key are no range")
        }
        return SizeBounds(origin: origin, sizes: sizes.0...sizes.1)
    }

    private static func time(_ place: JSONPlace, _ key: String) throws -> Timestamp? {
        guard let text = try place.optionalString(key) else { return nil }
        guard let time = Timestamp(text) else {
            throw PackageError(.malformed, "the member \(key) of a key is no time")
        }
        return time
    }
}
