package import Primitives

/// What can go wrong around a shard.
package struct ShardError: CausedError, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable {
        /// What is stored cannot be read as what it should be: stop serving it, repair from a peer.
        case damaged
        /// The store failed: stop the node.
        case storage
        /// The columnar store did not reach the wanted sequence in time: try again.
        case projectionBehind
        /// The columnar store failed; it is rebuilt from the ledger.
        case projection
        /// The organization is not served by this node.
        case notHosted
        /// A group's log or state asks for a feature level, or holds a command, that this program does not know:
        /// upgrade the node.
        case unsupported
        /// The host gave entries that do not follow the applied ones: a fault of the program, stop the node.
        case outOfOrder
        /// The node is stopping.
        case stopped
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(
        code: Code,
        message: String,
        cause: (any Error)? = nil,
        location: ErrorLocation = .here()
    ) {
        self.code = code
        self.message = message
        self.cause = cause
        self.location = location
    }

    package var description: String { "shard \(self.code.rawValue): \(self.message)" }
}
