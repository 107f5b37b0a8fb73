package import Primitives

/// What the rows of `audit_log` must be that a statement can find, as far as their texts and sequences say.
///
/// The statement says the same, and more: a shard may leave out rows that this rules out, before the statement sees them,
/// and need not. A shard that knows nothing of it answers the same.
package struct TextSearch: Sendable, Hashable {
    /// A column of `audit_log` about which conditions are said.
    package enum Column: UInt8, Sendable, Hashable, CaseIterable {
        case reason = 1
        case compliance = 2
        case before = 3
        case after = 4
        case entityID = 5
        case entityType = 6
        case action = 7
    }

    package indirect enum Condition: Sendable, Hashable {
        /// Says nothing.
        case anything
        /// The column contains the text, without regard to case.
        case contains(Column, String)
        /// The column is exactly the text.
        case equals(Column, String)
        case all([Condition])
        case any([Condition])

        /// Whether it says anything; one part of an alternative that says nothing makes it say nothing.
        package var saysSomething: Bool {
            switch self {
            case .anything: false
            case .contains, .equals: true
            case .all(let parts): parts.contains { $0.saysSomething }
            case .any(let parts): parts.allSatisfy { $0.saysSomething }
            }
        }
    }

    package var condition: Condition
    /// No row before it is found; nil: from the first on.
    package var first: SequenceNumber?
    /// No row after it is found; nil: up to the last.
    package var last: SequenceNumber?

    package init(_ condition: Condition, first: SequenceNumber? = nil, last: SequenceNumber? = nil) {
        self.condition = condition
        self.first = first
        self.last = last
    }
}
