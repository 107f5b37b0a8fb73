package import Primitives

/// The name of a data subject's key: what ``SubjectKey`` calls its fingerprint. It tells nothing of the key.
package struct SubjectKeyName: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Reads 16 hexadecimal digits.
    package init?(hex: String) {
        guard hex.utf8.count == 16, let value = UInt64(hex, radix: 16) else { return nil }
        self.rawValue = value
    }

    /// 16 lowercase hexadecimal digits.
    package var description: String {
        let digits = String(self.rawValue, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// What an organization knows of a data subject, equal on every replica.
package struct SubjectEntry: Sendable, Equatable {
    /// The pseudonym that the organization gave.
    package let subject: String
    /// Personal values that were sealed, erased ones included.
    package internal(set) var values: UInt64 = 0
    /// The names of the keys under which they were sealed, in the order of their first use.
    package internal(set) var keys: [SubjectKeyName] = []
    package internal(set) var isHeld = false
    /// The record that asked for the erasure.
    package internal(set) var erasedAt: SequenceNumber?
    /// The record that says that it is complete.
    package internal(set) var completedAt: SequenceNumber?

    /// Under so many keys may values of one data subject be sealed: more come only when leaders change in the moment in
    /// which the first key is made.
    static let keysMax = 64
    /// Data subjects of one organization.
    package static let countMax = 100_000

    init(subject: String) { self.subject = subject }

    /// The name under which rows of a data subject are kept.
    package static func digest(of subject: String) -> Digest { sha256(Array(subject.utf8)) }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 40 + self.subject.utf8.count + self.keys.count * 8)
        writer.write(Self.version)
        writer.write(prefixed: self.subject)
        writer.write(self.values)
        writer.write(UInt8(self.isHeld ? 1 : 0))
        writer.write(self.erasedAt?.rawValue ?? 0)
        writer.write(self.completedAt?.rawValue ?? 0)
        writer.write(UInt32(self.keys.count))
        for key in self.keys { writer.write(key.rawValue) }
        return writer.bytes
    }

    private static let version: UInt8 = 1

    init(_ value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "version of a data subject", offset: 0)
        }
        self.subject = try reader.readPrefixedText()
        self.values = try reader.read()
        self.isHeld = try reader.read(UInt8.self) == 1
        let erased = SequenceNumber(try reader.read())
        let completed = SequenceNumber(try reader.read())
        self.erasedAt = erased.rawValue == 0 ? nil : erased
        self.completedAt = completed.rawValue == 0 ? nil : completed
        let count = Int(try reader.read(UInt32.self))
        guard count <= Self.keysMax else { throw MalformedBytes(what: "count of keys", offset: reader.offset) }
        for _ in 0..<count { self.keys.append(SubjectKeyName(rawValue: try reader.read())) }
        try reader.finish("data subject")
    }
}

/// A row of the family `sealed_values`: organization u32 · SHA-256 of the data subject · sequence u64 · number u16 → path,
/// name of the key, sealed bytes.
package struct SealedRow: Sendable, Equatable {
    package let path: String
    package let key: SubjectKeyName
    package let bytes: [UInt8]

    /// Bytes of a key after the organization.
    static let restByteCount = Digest.byteCount + 10

    static func prefix(_ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return writer.bytes
    }

    /// The prefix of all rows of a data subject.
    package static func prefix(_ organization: OrganizationID, _ subject: Digest) -> [UInt8] {
        var writer = ByteWriter(capacity: 36)
        writer.write(organization.rawValue)
        writer.write(subject)
        return writer.bytes
    }

    /// The prefix of the rows of one record.
    static func prefix(_ organization: OrganizationID, _ subject: Digest, _ sequence: SequenceNumber) -> [UInt8] {
        var writer = ByteWriter(capacity: 44)
        writer.write(organization.rawValue)
        writer.write(subject)
        writer.write(sequence.rawValue)
        return writer.bytes
    }

    static func key(
        _ organization: OrganizationID,
        _ subject: Digest,
        _ sequence: SequenceNumber,
        number: UInt16
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: 46)
        writer.write(raw: self.prefix(organization, subject, sequence))
        writer.write(number)
        return writer.bytes
    }

    /// The sequence in a key after the organization.
    static func sequence(ofRest rest: ArraySlice<UInt8>) throws(MalformedBytes) -> SequenceNumber {
        guard rest.count == self.restByteCount else { throw MalformedBytes(what: "key of a sealed value", offset: 0) }
        var reader = ByteReader(rest)
        _ = try reader.readDigest()
        return SequenceNumber(try reader.read())
    }

    init(_ value: SealedValue) {
        self.path = value.path
        self.key = value.key
        self.bytes = value.bytes
    }

    init(_ value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        self.path = try reader.readPrefixedText()
        self.key = SubjectKeyName(rawValue: try reader.read())
        self.bytes = Array(try reader.readPrefixed())
        try reader.finish("sealed value")
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 16 + self.path.utf8.count + self.bytes.count)
        writer.write(prefixed: self.path)
        writer.write(self.key.rawValue)
        writer.write(prefixed: self.bytes)
        return writer.bytes
    }
}
