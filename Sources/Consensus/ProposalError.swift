package import Primitives

/// Why a proposal, a read, a change or a wait did not succeed, and what that says about its outcome.
package struct ProposalError: CausedError, Sendable, CustomStringConvertible {
    /// What happened; every code says whether the command may have taken effect.
    package enum Code: Sendable, Hashable {
        /// Surely not applied: this node does not lead the group; `leader` does, as far as this node knows.
        case notLeader(leader: NodeID?)
        /// Surely not applied: too many bytes or requests wait already. Retry later.
        case overloaded
        /// The command may or may not take effect: leadership was lost, the node stopped, or the caller was cancelled
        /// after the command was handed over. Retry only with an idempotency key.
        case outcomeUnknown
        /// Surely not applied: this node has no replica of the group.
        case groupNotHosted
        /// Surely not applied: the command is larger than `commandBytesMax`.
        case tooLarge
        /// Surely not applied: the host has stopped or is stopping.
        case stopped
        /// The host failed and stopped (see `cause`); the command may or may not take effect.
        case failed
        /// Surely not applied: another membership change of the group is under way. Retry later.
        case changePending
        /// Surely not applied: the membership change does not fit the membership (see `cause`).
        case refusedChange
        /// Leadership did not pass to the node that was asked for; it may still, or to another.
        case notTransferred
        /// The replica is further than the snapshot: there is nothing to install.
        case staleSnapshot
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

    package var description: String { "proposal \(self.code): \(self.message)" }

    /// Whether it is certain that the command has not taken and will not take effect.
    package var isSurelyNotApplied: Bool {
        switch self.code {
        case .notLeader, .overloaded, .groupNotHosted, .tooLarge, .stopped: true
        case .changePending, .refusedChange, .staleSnapshot: true
        case .outcomeUnknown, .failed, .notTransferred: false
        }
    }
}
