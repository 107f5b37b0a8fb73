package import Primitives

/// Why a snapshot is not made or not taken.
package struct SnapshotError: CausedError, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable {
        /// A chunk's bytes are not what was sent: ask anew, what was staged stays.
        case damagedChunk
        /// A chunk of another snapshot, place or group: ask anew.
        case outOfOrder
        /// What was sent is not what the source's manifest promised: nothing was changed; ask anew, and if it happens
        /// again look at the source.
        case mismatch
        /// This replica's ledger and the source's differ at a size that both have. Never overwritten: an operator must
        /// find out which is true.
        case fork
        /// The source is behind this replica: ask later, or another.
        case behind
        /// This replica has meanwhile applied as much by itself: nothing to do.
        case superseded
        /// The snapshot is of a newer program: upgrade this node.
        case unsupported
        /// The store failed: stop the node.
        case storage
        /// What the source or this replica has stored is damaged (see `cause`): verify it.
        case damaged
    }

    package let code: Code
    package let message: String
    /// The organization that it is about, when it is about one.
    package let organization: OrganizationID?
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(
        code: Code,
        message: String,
        organization: OrganizationID? = nil,
        cause: (any Error)? = nil,
        location: ErrorLocation = .here()
    ) {
        self.code = code
        self.message = message
        self.organization = organization
        self.cause = cause
        self.location = location
    }

    package var description: String { "snapshot \(self.code.rawValue): \(self.message)" }

    /// Says of any other error what it means for a snapshot.
    static func wrapping(_ error: any Error, _ message: String) -> SnapshotError {
        switch error {
        case let error as SnapshotError: error
        case is MalformedBytes: SnapshotError(code: .damaged, message: message, cause: error)
        default: SnapshotError(code: .storage, message: message, cause: error)
        }
    }
}
