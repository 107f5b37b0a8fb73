/// How much of the program a group may use, so that no replica applies a command differently from another.
///
/// A level is raised by a command in the group's own log, once every node that may hold a replica knows it; it never
/// falls.
package struct FeatureLevel: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The level of a group that was never told another.
    package static let one = FeatureLevel(rawValue: 1)
    /// Organizations and tokens leave records in the cluster's ledger.
    package static let two = FeatureLevel(rawValue: 2)
    /// Keys that sign checkpoints are published, and what else the verifiable ledger needs.
    package static let three = FeatureLevel(rawValue: 3)
    /// Records of who was refused or looked at what go into the cluster's ledger too.
    package static let four = FeatureLevel(rawValue: 4)
    /// Revoked tokens are remembered.
    package static let five = FeatureLevel(rawValue: 5)
    /// The highest level that this program knows.
    package static let current = FeatureLevel.five
    /// The level of what this program does not know.
    package static let unknown = FeatureLevel(rawValue: .max)

    package var description: String { String(self.rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The levels that a program can work at.
package struct FeatureRange: Hashable, Sendable, CustomStringConvertible {
    package let min: FeatureLevel
    package let max: FeatureLevel

    package init(min: FeatureLevel, max: FeatureLevel) {
        precondition(min <= max, "a range of feature levels is not empty")
        self.min = min
        self.max = max
    }

    /// What this program can do.
    package static let supported = FeatureRange(min: .one, max: .current)

    package func contains(_ level: FeatureLevel) -> Bool { self.min <= level && level <= self.max }
    package var description: String { "\(self.min)…\(self.max)" }
}
