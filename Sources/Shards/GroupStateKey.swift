internal import Consensus
internal import Primitives
internal import Storage

/// Keys of the family `group_state`: group u32 · kind u8 · rest. Kinds 1 to 7, 11 and 13 are the system group's
/// (``SystemState``).
enum GroupStateKey {
    private static let appliedKind: UInt8 = 0
    private static let featureLevelKind: UInt8 = 8
    private static let organizationKind: UInt8 = 9
    private static let membershipKind: UInt8 = 10
    private static let stagedKind: UInt8 = 12
    private static let subjectKind: UInt8 = 14
    private static let pendingErasureKind: UInt8 = 15
    private static let subjectCountKind: UInt8 = 16

    /// Of every group: the index and term of the last applied entry, and whether a snapshot brought it.
    static func applied(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.appliedKind, []) }

    /// Of every group: the membership as of the applied index; absent while the first one holds.
    static func membership(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.membershipKind, []) }

    /// Of every group: its feature level; absent at level one.
    static func featureLevel(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.featureLevelKind, []) }

    /// Of a data group: an organization that has records in it.
    static func organization(_ group: GroupID, _ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return self.make(group, kind: self.organizationKind, writer.bytes)
    }

    static func organizations(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.organizationKind, []) }

    /// Of a group that is being installed: the head up to which an organization's records are staged.
    static func staged(_ group: GroupID, _ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return self.make(group, kind: self.stagedKind, writer.bytes)
    }

    static func staged(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.stagedKind, []) }

    /// Of a data group: what is known of an organization's data subject.
    static func subject(_ group: GroupID, _ organization: OrganizationID, _ subject: Digest) -> [UInt8] {
        self.make(group, kind: self.subjectKind, self.rest(organization, subject))
    }

    /// All data subjects of an organization, or of all organizations.
    static func subjects(_ group: GroupID, _ organization: OrganizationID? = nil) -> [UInt8] {
        self.make(group, kind: self.subjectKind, organization.map { self.rest($0) } ?? [])
    }

    /// Of a data group: a data subject that is erased, while replicas may still hold its keys.
    static func pendingErasure(_ group: GroupID, _ organization: OrganizationID, _ subject: Digest) -> [UInt8] {
        self.make(group, kind: self.pendingErasureKind, self.rest(organization, subject))
    }

    static func pendingErasures(_ group: GroupID) -> [UInt8] { self.make(group, kind: self.pendingErasureKind, []) }

    /// Of a data group: how many data subjects an organization has; absent: none.
    static func subjectCount(_ group: GroupID, _ organization: OrganizationID) -> [UInt8] {
        self.make(group, kind: self.subjectCountKind, self.rest(organization))
    }

    /// The organization and the data subject in a key that names both.
    static func organizationAndSubject(
        _ key: [UInt8]
    ) throws(MalformedBytes) -> (organization: OrganizationID, subject: Digest) {
        var reader = ByteReader(key[min(5, key.count)...])
        let organization = OrganizationID(try reader.read())
        let subject = try reader.readDigest()
        try reader.finish("key of a data subject")
        return (organization, subject)
    }

    /// The organization that a key is about; nil when it is about the group.
    static func organization(of key: [UInt8]) -> OrganizationID? {
        let kinds = [
            self.organizationKind, self.stagedKind, self.subjectKind, self.pendingErasureKind, self.subjectCountKind,
        ]
        guard key.count >= 9, kinds.contains(key[4]) else { return nil }
        return OrganizationID(key[5..<9].reduce(0) { $0 << 8 | UInt32($1) })
    }

    private static func rest(_ organization: OrganizationID, _ subject: Digest? = nil) -> [UInt8] {
        var writer = ByteWriter(capacity: 36)
        writer.write(organization.rawValue)
        if let subject { writer.write(subject) }
        return writer.bytes
    }

    /// Whether a key is that of a data subject's row.
    static func isSubject(_ key: [UInt8]) -> Bool { key.count > 4 && key[4] == self.subjectKind }

    /// Everything of a group.
    static func all(_ group: GroupID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(group.rawValue)
        return writer.bytes
    }

    /// Whether a row is part of the group's state, equal on every replica at equal applied indexes; the others are a
    /// replica's own, or go with the mark.
    static func isShared(_ key: [UInt8]) -> Bool {
        guard key.count > 4 else { return false }
        return ![self.appliedKind, self.membershipKind, self.stagedKind].contains(key[4])
    }

    static func make(_ group: GroupID, kind: UInt8, _ rest: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: 5 + rest.count)
        writer.write(group.rawValue)
        writer.write(kind)
        writer.write(raw: rest)
        return writer.bytes
    }

    /// The stored level of a group.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    static func featureLevel(of group: GroupID, in store: any KeyValueReader) throws -> FeatureLevel {
        guard let value = try store.get(self.featureLevel(group), in: .groupState) else { return .one }
        var reader = ByteReader(value)
        let level = FeatureLevel(rawValue: try reader.read())
        try reader.finish("feature level")
        return level
    }
}
