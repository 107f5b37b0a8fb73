internal import Primitives

/// One thing wrong with a configuration: what, where it was written, and what would be allowed.
package struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// The kinds of problem; all of them ask the operator to change the configuration.
    package enum Code: String, Sendable, CaseIterable {
        /// The file cannot be read.
        case unreadableFile
        /// The file is not YAML, or not one mapping of mappings.
        case malformedFile
        /// A key that does not exist, or stands twice.
        case unknownKey
        /// A value of another type than the key's.
        case wrongType
        /// A value outside of what the key allows.
        case outOfRange
        /// A key without a default is not given.
        case missing
        /// Values that do not fit each other.
        case inconsistent
        /// A certificate, key or CA that is absent, unreadable, expired or for another name.
        case unusableCertificate
    }

    package let code: Code
    /// The dotted key, where the problem belongs to one.
    package let key: String?
    /// Where the value stands: `FILE:LINE`, `environment NAME` or `--set KEY`; nil when it stands nowhere.
    package let place: String?
    /// What is wrong and what is allowed; never a secret.
    package let message: String

    package init(_ code: Code, key: String? = nil, place: String? = nil, _ message: String) {
        self.code = code
        self.key = key
        self.place = place
        self.message = message
    }

    /// `place: key: message`, without the parts that are absent.
    package var description: String {
        [self.place, self.key, self.message].compactMap { $0 }.joined(separator: ": ")
    }
}

/// A configuration that a node cannot start with; lists every problem found, not only the first.
package struct ConfigurationError: CausedError, CustomStringConvertible {
    /// Never empty.
    package let problems: [ConfigurationProblem]
    package let cause: (any Error)?

    package init(_ problems: [ConfigurationProblem], cause: (any Error)? = nil) {
        self.problems = problems
        self.cause = cause
    }

    /// All problems in one line.
    package var description: String { self.problems.map(\.description).joined(separator: "; ") }
}
