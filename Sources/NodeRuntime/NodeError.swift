package import Primitives

/// Why a node did not start or had to stop.
package struct NodeError: CausedError, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable {
        /// The data directory cannot be used: held by another process, another node's, another cluster's, or of a newer format.
        case dataDirectory
        /// A certificate or key cannot be used.
        case certificate
        /// An address cannot be listened on.
        case listen
        /// The store or the consensus failed while running: what is on disk is safe, the node must be restarted.
        case failed
        /// The cluster does not let this node in, or has removed it.
        case join
        /// Something of the configuration does not fit together.
        case configuration
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(
        _ code: Code,
        _ message: String,
        cause: (any Error)? = nil,
        location: ErrorLocation = .here()
    ) {
        self.code = code
        self.message = message
        self.cause = cause
        self.location = location
    }

    package var description: String { self.message }
}
