package import Primitives

/// What can go wrong in a store.
package struct StorageError: CausedError, Sendable, CustomStringConvertible {
    /// What the caller should do about it.
    package enum Code: String, Sendable {
        /// Bytes on disk are not what was written: stop serving what they hold, repair from a peer.
        case corruption
        /// The device failed: the store is poisoned, stop the node.
        case io
        /// The device has no room left: the store is poisoned; make room, then start the node again.
        case full
        /// An earlier write or sync failed; nothing can be written until the node is restarted.
        case poisoned
        /// The store is held by another process, or a limit was reached: retry or choose another directory.
        case busy
        /// The caller asked for something that cannot be.
        case invalidArgument
        /// The store was closed.
        case closed
        /// The store belongs to a newer format or has families this version does not know.
        case incompatible
        /// The closure given to a scan threw; see `cause`.
        case visitor
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

    package var description: String { "storage \(self.code.rawValue): \(self.message)" }
}
