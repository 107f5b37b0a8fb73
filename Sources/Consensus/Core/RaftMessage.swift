package import Primitives

/// A message of one group, as it travels among the messages of many groups to the same peer.
package struct GroupMessage: Sendable, Hashable {
    package var group: GroupID
    package var message: RaftMessage

    package init(group: GroupID, message: RaftMessage) {
        self.group = group
        self.message = message
    }
}

/// One message from one replica of a group to another.
///
/// Safe to lose, delay, double and reorder.
package struct RaftMessage: Sendable, Hashable {
    package var from: NodeID
    package var to: NodeID
    /// The sender's term; of a pre-vote and its granted answer, the term that the candidate would have.
    package var term: Term
    package var body: Body

    package init(from: NodeID, to: NodeID, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.term = term
        self.body = body
    }

    /// What the message says.
    package enum Body: Sendable, Hashable {
        /// Would you vote for me? Changes nothing at the receiver (Ongaro's thesis, section 9.6).
        case preVoteRequest(VoteRequest)
        case preVoteResponse(granted: Bool)
        case voteRequest(VoteRequest)
        case voteResponse(granted: Bool)
        case append(Append)
        /// The receiver holds durably what the leader's log says up to `match` (previous + sent).
        case appendAccepted(match: LogIndex)
        case appendRejected(AppendRejection)
        /// `commit` never passes what the leader knows the receiver to hold.
        case heartbeat(commit: LogIndex)
        case heartbeatResponse
    }

    /// The end of the candidate's log.
    package struct VoteRequest: Sendable, Hashable {
        package var lastIndex: LogIndex
        package var lastTerm: Term

        package init(lastIndex: LogIndex, lastTerm: Term) {
            self.lastIndex = lastIndex
            self.lastTerm = lastTerm
        }
    }

    /// Entries that follow one that the receiver must have (Raft section 5.3).
    package struct Append: Sendable, Hashable {
        package var previousIndex: LogIndex
        package var previousTerm: Term
        /// Consecutive, the first at `previousIndex` + 1.
        package var entries: [LogEntry]
        /// The leader's commit index.
        package var commit: LogIndex
        /// False when the message only brings a new commit index, so that acceptance needs no answer.
        package var wantsAnswer: Bool

        package init(
            previousIndex: LogIndex,
            previousTerm: Term,
            entries: [LogEntry],
            commit: LogIndex,
            wantsAnswer: Bool = true
        ) {
            self.previousIndex = previousIndex
            self.previousTerm = previousTerm
            self.entries = entries
            self.commit = commit
            self.wantsAnswer = wantsAnswer
        }
    }

    /// The receiver's log differs at `previousIndex`.
    package struct AppendRejection: Sendable, Hashable {
        /// The `previousIndex` that was refused.
        package var previousIndex: LogIndex
        /// The largest index where the logs may still agree, by what the receiver knows.
        package var hintIndex: LogIndex
        /// The receiver's term at `hintIndex`.
        package var hintTerm: Term

        package init(previousIndex: LogIndex, hintIndex: LogIndex, hintTerm: Term) {
            self.previousIndex = previousIndex
            self.hintIndex = hintIndex
            self.hintTerm = hintTerm
        }
    }
}
