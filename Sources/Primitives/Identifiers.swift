/// Identifies one node of a cluster; printed as its number, unique for the life of the cluster.
package struct NodeID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// Identifies one replication group; group 0 is the system group.
package struct GroupID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }

    /// The group that keeps the directory of organizations and the tokens.
    package static let system = GroupID(0)

    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A Raft term: never decreases; at most one leader is elected in each (Raft section 5.1).
package struct Term: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package var rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    package static let zero = Term(0)

    package var next: Term { Term(self.rawValue + 1) }
    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A place in a group's Raft log; the first entry has index 1, zero means «before the first».
package struct LogIndex: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package var rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    package static let zero = LogIndex(0)

    package var next: LogIndex { LogIndex(self.rawValue + 1) }
    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A record's number in its organization's ledger: starts at 1, gapless; zero means «no record yet».
///
/// Not named `Sequence`, which would hide the standard library's protocol wherever this module is imported.
package struct SequenceNumber: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package var rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    package static let zero = SequenceNumber(0)

    package var next: SequenceNumber { SequenceNumber(self.rawValue + 1) }
    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The number under which an organization's data are stored; given once by the system group, never reused.
package struct OrganizationID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }

    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The name of an organization in URLs, SQL and the ledger.
///
/// 1 to 63 ASCII bytes: lowercase letters, digits and hyphens, the first and last a letter or digit.
package struct OrganizationKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: String

    /// The longest key, in bytes.
    package static let bytesMax = 63

    /// - Returns: nil when `rawValue` breaks the rule of the type.
    package init?(_ rawValue: String) {
        let bytes = rawValue.utf8
        guard (1...Self.bytesMax).contains(bytes.count) else { return nil }
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                continue
            default: return nil
            }
        }
        guard bytes.first != UInt8(ascii: "-"), bytes.last != UInt8(ascii: "-") else { return nil }
        self.rawValue = rawValue
    }

    package var description: String { self.rawValue }
    package static func < (left: Self, right: Self) -> Bool {
        left.rawValue.utf8.lexicographicallyPrecedes(right.rawValue.utf8)
    }
}
