internal import Primitives

/// Why a client command could not do its work.
package struct ClientError: CausedError, CustomStringConvertible {
    /// The kinds of failure, each with the answer it asks for.
    package enum Code: Sendable, Equatable {
        /// `client.yaml` is absent or wrong: correct it.
        case badContext
        /// No address answered within the time: look at the nodes.
        case unreachable
        /// The cluster refused; the problem says why.
        case refused(problem: String)
        /// The cluster asked to try again until the time was over.
        case unavailable(problem: String)
        /// An answer that the API does not have: another version, or not a node.
        case unexpectedAnswer
        /// The input is wrong; the message names file and line.
        case badInput
        /// A local file cannot be read or written.
        case localFile
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?
    /// The line of the request's body that the cluster complains about, from 1.
    package let line: Int?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil, line: Int? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
        self.line = line
    }

    package var description: String { self.message }
}
