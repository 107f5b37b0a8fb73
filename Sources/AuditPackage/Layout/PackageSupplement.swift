package import AuditLedger
internal import Primitives

/// What a package holds beside the records to explain them.
package struct PackageSupplement: Hashable, Sendable {
    /// A personal value that the recipient may see, with what shows that the record commits to it.
    package struct Opening: Hashable, Sendable {
        package let sequence: UInt64
        package let field: PersonalField
        /// Canonical JSON.
        package let value: [UInt8]
        package let salt: [UInt8]

        package init(sequence: UInt64, field: PersonalField, value: [UInt8], salt: [UInt8]) {
            self.sequence = sequence
            self.field = field
            self.value = value
            self.salt = salt
        }
    }

    /// Values that one package opens.
    package static let openingsMax = 10_000
    /// Bytes of all openings together.
    package static let openingsBytesMax = 8 << 20
    /// Records about erasures.
    package static let erasuresMax = 2_000
    package static let scrubsMax = 64
    package static let forksMax = 64
    /// What a record about an erasure says in `action`.
    package static let erasureActions = ["erase_requested", "erase_completed"]

    /// Ascending by sequence.
    package var openings: [Opening] = []
    /// Sequences of records about erasures, ascending.
    package var erasures: [UInt64] = []
    /// Signed notes of nodes on what they have read again.
    package var scrubs: [[UInt8]] = []
    /// Fork proofs.
    package var forks: [[UInt8]] = []

    package init() {}

    package var isEmpty: Bool {
        self.openings.isEmpty && self.erasures.isEmpty && self.scrubs.isEmpty && self.forks.isEmpty
    }
}

extension PackageSupplement.Opening {
    private static let keys = ["path", "salt", "sequence", "subject", "value"]

    /// One line of `personal/openings.ndjson` as canonical JSON, without its newline; nil when the value is no JSON.
    package var line: [UInt8]? {
        guard let value = try? JSONParser.parse(self.value), let sequence = JSONNumber(Int64(clamping: self.sequence))
        else { return nil }
        return CanonicalJSON.encode(
            .object([
                JSONMember("path", .text(self.field.path)), JSONMember("salt", .text(Hex.encode(self.salt))),
                JSONMember("sequence", .number(sequence)), JSONMember("subject", .text(self.field.subject)),
                JSONMember("value", value),
            ])
        )
    }

    /// Reads a line; nil when it is not exactly what ``line`` writes.
    package init?(_ line: [UInt8]) {
        guard let parsed = try? JSONParser.parse(line) else { return nil }
        let place = JSONPlace(parsed)
        guard (try? place.requireOnly(keys: Self.keys)) != nil, let value = parsed["value"],
            let sequence = try? place.integer("sequence"), sequence > 0,
            let salt = (try? place.string("salt")).flatMap({ Digest(hex: $0) }),
            let path = try? place.string("path"), let subject = try? place.string("subject")
        else { return nil }
        self.init(
            sequence: UInt64(sequence),
            field: PersonalField(path: path, subject: subject),
            value: CanonicalJSON.encode(value),
            salt: Array(salt.bytes)
        )
        guard self.line == line else { return nil }
    }
}

/// One line of `personal/erasures.ndjson`: a record about an erasure and its C2SP tlog-proof, whether or not the package
/// shows that record among the others.
struct ErasureLine {
    let record: [UInt8]
    let proof: [UInt8]

    /// Canonical JSON, without a newline.
    var line: [UInt8] {
        CanonicalJSON.encode(
            .object([JSONMember("proof", .string(self.proof)), JSONMember("record", .string(self.record))])
        )
    }

    init(record: [UInt8], proof: [UInt8]) {
        self.record = record
        self.proof = proof
    }

    init?(_ line: [UInt8]) {
        guard let parsed = try? JSONParser.parse(line), case .object(let members) = parsed, members.count == 2,
            case .string(let record)? = parsed["record"], case .string(let proof)? = parsed["proof"]
        else { return nil }
        self.init(record: record, proof: proof)
    }
}
