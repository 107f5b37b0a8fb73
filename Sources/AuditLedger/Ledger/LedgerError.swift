package import Primitives

/// What can go wrong when a ledger is read or verified.
package struct LedgerError: CausedError, Sendable, CustomStringConvertible {
    /// What the caller should do about it.
    package enum Code: String, Sendable {
        /// The store failed (see `cause`): as its own code says.
        case storage
        /// Stored bytes do not have their form, or are absent where the head says they are: stop serving this
        /// organization on this node, verify, and repair from a peer.
        case damaged
        /// A sequence or size beyond the ledger's head: fail the request.
        case outOfRange
        /// The caller asked to stop: nothing was changed.
        case cancelled
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

    package var description: String { "ledger \(self.code.rawValue): \(self.message)" }
}
