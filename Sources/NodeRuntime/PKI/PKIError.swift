internal import Primitives

/// What can go wrong with certificates and keys; the message names the file, never a key's content.
package struct PKIError: CausedError, CustomStringConvertible {
    /// The kinds of failure; all ask the operator to act.
    package enum Code: String, Sendable, CaseIterable {
        /// A file cannot be read or written.
        case unreadableFile
        /// A file exists and must not be replaced.
        case exists
        /// A file is not what it should be: not PEM, not a CA, a key of another certificate.
        case malformed
        /// A name, host or number of days that cannot stand in a certificate.
        case invalidArgument
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String { self.message }
}
