package import Primitives

/// What can go wrong in the log store and the host; the answer to every code is to stop the node.
package struct ConsensusError: CausedError, Sendable, CustomStringConvertible {
    /// What happened.
    package enum Code: String, Sendable {
        /// The log lacks an entry between two that are there: repair the replica from a peer.
        case hole
        /// A stored entry or hard state is not what was written: repair the replica from a peer.
        case corruption
        /// The log ends before an index that this node has promised or applied: its disk lost what was synced.
        case logLost
        /// The data directory was written by a newer version.
        case incompatible
        /// Replicas contradict each other in a way that Raft rules out: a disk lied or a program is wrong.
        case safety
        /// The store refused a read, a write or a sync.
        case store
        /// The applier threw, or broke its contract.
        case applier
        /// The operating system refused a thread.
        case thread
    }

    package let code: Code
    package let message: String
    /// The group concerned, when there is one.
    package let group: GroupID?
    /// The place in the group's log, when there is one.
    package let index: LogIndex?
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(
        code: Code,
        message: String,
        group: GroupID? = nil,
        index: LogIndex? = nil,
        cause: (any Error)? = nil,
        location: ErrorLocation = .here()
    ) {
        self.code = code
        self.message = message
        self.group = group
        self.index = index
        self.cause = cause
        self.location = location
    }

    package var description: String {
        var text = "consensus \(self.code.rawValue): \(self.message)"
        if let group = self.group { text += ", group \(group)" }
        if let index = self.index { text += ", index \(index)" }
        return text
    }
}
