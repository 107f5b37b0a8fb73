package import Primitives

/// What the directory knows of one organization.
package struct OrganizationEntry: Sendable, Equatable {
    package let id: OrganizationID
    package let key: OrganizationKey
    /// What people call it; any text of 1–200 bytes.
    package let name: String
    /// The data group that orders its commands.
    package let group: GroupID
    package let createdAt: Timestamp

    package init(id: OrganizationID, key: OrganizationKey, name: String, group: GroupID, createdAt: Timestamp) {
        self.id = id
        self.key = key
        self.name = name
        self.group = group
        self.createdAt = createdAt
    }
}

/// The rules of an organization's beginning.
package enum OrganizationRules {
    /// The longest name, in UTF-8 bytes.
    package static let nameBytesMax = 200

    /// Whether `name` can be shown: not empty, not too long, no control characters.
    package static func isValid(name: String) -> Bool {
        guard (1...self.nameBytesMax).contains(name.utf8.count) else { return false }
        return !name.unicodeScalars.contains { $0.properties.generalCategory == .control }
    }

    /// The data group of the organization that is created as number `ordinal` (0, 1, …): they take turns.
    /// - Parameter dataGroups: At least 1; data groups are numbered from 1.
    package static func group(ofOrdinal ordinal: Int, dataGroups: Int) -> GroupID {
        precondition(ordinal >= 0 && dataGroups >= 1)
        return GroupID(UInt32(ordinal % dataGroups) + 1)
    }
}
