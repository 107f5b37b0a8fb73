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

    /// Tells a candidate that the entry at `index` with `term` is committed, in the form of a pre-vote request of
    /// term zero, which nobody grants.
    static func commitNotice(from: NodeID, to: NodeID, index: LogIndex, term: Term) -> RaftMessage {
        let request = VoteRequest(lastIndex: .zero, lastTerm: .zero, commit: index, commitTerm: term)
        return RaftMessage(from: from, to: to, term: .zero, body: .preVoteRequest(request))
    }

    /// What a replica that was removed answers; it no longer votes, yet those that stay may still count its vote, so
    /// it tells candidates what it knew to be committed when it was removed: the removal itself, as a rule.
    ///
    /// - Parameters:
    ///   - index: ``RaftCore/commitMark`` at the removal.
    ///   - term: Of the entry there.
    /// - Returns: nil when `message` needs no answer.
    package static func answerOfRemoved(to message: RaftMessage, index: LogIndex, term: Term) -> RaftMessage? {
        switch message.body {
        case .preVoteRequest, .voteRequest:
            // Not to another one's notice.
            if message.term == .zero || index == .zero { return nil }
            return .commitNotice(from: message.to, to: message.from, index: index, term: term)
        default: return nil
        }
    }

    /// What the message says.
    ///
    /// `session` is that of the receiver in the leader's membership (``Membership/session(of:)``) and comes back in
    /// the answer; a leader ignores answers of another session. `beat` counts up within a leadership; an answer returns
    /// the beat of the message it answers and so shows that the receiver followed this leader after the beat began.
    package enum Body: Sendable, Hashable {
        /// Would you vote for me? Changes nothing at the receiver (Ongaro's thesis, section 9.6).
        case preVoteRequest(VoteRequest)
        case preVoteResponse(granted: Bool)
        case voteRequest(VoteRequest)
        case voteResponse(VoteAnswer)
        case append(Append)
        case appendAccepted(AppendAcceptance)
        case appendRejected(AppendRejection)
        case heartbeat(Heartbeat)
        case heartbeatResponse(HeartbeatResponse)
        /// The receiver lacks entries that the leader no longer has: it should fetch a snapshot.
        case snapshot(SnapshotOffer)
        /// Stand for election at once (thesis section 3.10).
        case timeoutNow
        /// What is the commit index, confirmed (thesis section 6.4)? `token` is the asking replica's.
        case readRequest(token: UInt64)
        /// `index` is nil when the asked replica does not lead or lost its leadership.
        case readResponse(token: UInt64, index: LogIndex?)
    }

    /// The end of the candidate's log, and what it knows to be committed.
    ///
    /// In term zero it asks for nothing and only tells what is committed, see ``answerOfRemoved(to:index:term:)``.
    package struct VoteRequest: Sendable, Hashable {
        /// That of the receiver in the candidate's membership: what was removed before may not vote, but its later
        /// life may, which the candidate can need before it can lead.
        package var session: LogIndex
        package var lastIndex: LogIndex
        package var lastTerm: Term
        /// The candidate's commit index; tells the receiver, which may lack it, that a membership change has passed.
        package var commit: LogIndex
        package var commitTerm: Term
        /// The leader itself asked for this election: the receiver votes although it heard a leader.
        package var isTransfer: Bool

        package init(
            session: LogIndex = .zero,
            lastIndex: LogIndex,
            lastTerm: Term,
            commit: LogIndex = .zero,
            commitTerm: Term = .zero,
            isTransfer: Bool = false
        ) {
            self.session = session
            self.lastIndex = lastIndex
            self.lastTerm = lastTerm
            self.commit = commit
            self.commitTerm = commitTerm
            self.isTransfer = isTransfer
        }
    }

    /// The answer to a vote request, for a log that ends at `lastIndex` with `lastTerm`.
    ///
    /// A candidate that lost the unwritten end of its log in a crash must not count a vote given to the longer log.
    package struct VoteAnswer: Sendable, Hashable {
        package var isGranted: Bool
        package var lastIndex: LogIndex
        package var lastTerm: Term

        package init(isGranted: Bool, lastIndex: LogIndex, lastTerm: Term) {
            self.isGranted = isGranted
            self.lastIndex = lastIndex
            self.lastTerm = lastTerm
        }
    }

    /// Entries that follow one that the receiver must have (Raft section 5.3).
    package struct Append: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64
        package var previousIndex: LogIndex
        package var previousTerm: Term
        /// Consecutive, the first at `previousIndex` + 1.
        package var entries: [LogEntry]
        /// The leader's commit index.
        package var commit: LogIndex
        /// False when the message only brings a new commit index, so that acceptance needs no answer.
        package var wantsAnswer: Bool

        package init(
            session: LogIndex = .zero,
            beat: UInt64 = 0,
            previousIndex: LogIndex,
            previousTerm: Term,
            entries: [LogEntry],
            commit: LogIndex,
            wantsAnswer: Bool = true
        ) {
            self.session = session
            self.beat = beat
            self.previousIndex = previousIndex
            self.previousTerm = previousTerm
            self.entries = entries
            self.commit = commit
            self.wantsAnswer = wantsAnswer
        }
    }

    /// The receiver holds durably what the leader's log says up to `match` (previous + sent, or what is committed).
    package struct AppendAcceptance: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64
        package var match: LogIndex

        package init(session: LogIndex = .zero, beat: UInt64 = 0, match: LogIndex) {
            self.session = session
            self.beat = beat
            self.match = match
        }
    }

    /// The receiver's log differs at `previousIndex`.
    package struct AppendRejection: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64
        /// The `previousIndex` that was refused.
        package var previousIndex: LogIndex
        /// The largest index where the logs may still agree, by what the receiver knows.
        package var hintIndex: LogIndex
        /// The receiver's term at `hintIndex`.
        package var hintTerm: Term

        package init(
            session: LogIndex = .zero,
            beat: UInt64 = 0,
            previousIndex: LogIndex,
            hintIndex: LogIndex,
            hintTerm: Term
        ) {
            self.session = session
            self.beat = beat
            self.previousIndex = previousIndex
            self.hintIndex = hintIndex
            self.hintTerm = hintTerm
        }
    }

    /// The leader is alive.
    package struct Heartbeat: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64
        /// Never passes what the leader knows the receiver to hold.
        package var commit: LogIndex
        /// Present when the leader goes to sleep: the last index of its log, at which a receiver that has and knows
        /// the same sleeps too and does not answer.
        package var sleepAt: LogIndex?

        package init(session: LogIndex = .zero, beat: UInt64 = 0, commit: LogIndex, sleepAt: LogIndex? = nil) {
            self.session = session
            self.beat = beat
            self.commit = commit
            self.sleepAt = sleepAt
        }
    }

    package struct HeartbeatResponse: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64

        package init(session: LogIndex = .zero, beat: UInt64 = 0) {
            self.session = session
            self.beat = beat
        }
    }

    /// Small: the receiver fetches the data by other means, of this state or of a later one.
    package struct SnapshotOffer: Sendable, Hashable {
        package var session: LogIndex
        package var beat: UInt64
        package var mark: SnapshotMark

        package init(session: LogIndex = .zero, beat: UInt64 = 0, mark: SnapshotMark) {
            self.session = session
            self.beat = beat
            self.mark = mark
        }
    }
}

/// A state of the state machine: after the entry at `index`, with the membership that was in effect then.
package struct SnapshotMark: Sendable, Hashable {
    package var index: LogIndex
    package var term: Term
    package var membership: Membership

    package init(index: LogIndex, term: Term, membership: Membership) {
        self.index = index
        self.term = term
        self.membership = membership
    }
}
