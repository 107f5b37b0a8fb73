internal import Primitives

// What comes in.
extension RaftCore {
    /// Takes a message of a peer; anybody may ask for a vote or lead, answers count from replicas only.
    package mutating func step(_ message: RaftMessage) {
        guard self.failure == nil, message.to == self.id, message.from != self.id else { return }
        if self.isSuperseded(by: message) || self.isForFormerLife(message) { return }
        if self.isAsleep, !self.wakes(for: message) { return }
        if message.term > self.term {
            guard self.admitsLater(message) else { return }
        } else if message.term < self.term, !self.takesEarlier(message) {
            return
        }
        self.handle(message)
        self.settle()
    }

    /// Whether a leader speaks to a later life of this replica than this one.
    ///
    /// What this life holds must not count for the next: its host removes it as soon as it learns of the removal.
    private mutating func isSuperseded(by message: RaftMessage) -> Bool {
        let session: LogIndex
        switch message.body {
        case .append(let append): session = append.session
        case .heartbeat(let heartbeat): session = heartbeat.session
        case .snapshot(let offer): session = offer.session
        default: return false
        }
        guard self.configuration.replacesSuperseded, !self.membership.isBlank else { return false }
        // One that has applied its removal and is not buried yet is of no session any more.
        let own = self.isMember ? self.members.progress[self.members.ownPlace].session : .zero
        guard session > own else { return false }
        if self.supersededBy == nil { self.supersededBy = session }
        return true
    }

    /// Whether a candidate asks a former life of this replica for its vote.
    ///
    /// What that life knew is gone: a vote in its stead could elect a leader that lacks what it helped to commit. The
    /// candidate counts by a membership that is over, and is told what was committed since.
    private mutating func isForFormerLife(_ message: RaftMessage) -> Bool {
        let request: RaftMessage.VoteRequest
        switch message.body {
        case .preVoteRequest(let asked), .voteRequest(let asked): request = asked
        default: return false
        }
        guard self.configuration.replacesSuperseded, message.term > .zero else { return false }
        var session = self.formerLife.map(\.removedAt.next) ?? .zero
        if self.isMember { session = max(session, self.members.progress[self.members.ownPlace].session) }
        guard request.session < session, !self.faults.contains(.votesForFormerLife) else { return false }
        var mark = self.commitMark
        if let life = self.formerLife, life.committed > mark.index { mark = (life.committed, life.committedTerm) }
        if let answer = RaftMessage.answerOfRemoved(to: message, index: mark.index, term: mark.term) {
            self.sendNow.append(answer)
        }
        return true
    }

    /// Moves to the later term of a message where that is due.
    /// - Returns: Whether the message is to be handled.
    private mutating func admitsLater(_ message: RaftMessage) -> Bool {
        switch message.body {
        case .preVoteRequest(let request):
            // Its term is one that may never come.
            return !self.ignoresLaterVote(request)
        case .preVoteResponse(granted: true):
            return true
        case .voteRequest(let request):
            if self.ignoresLaterVote(request) { return false }
            self.becomeFollower(message.term, leader: nil)
        case .append, .heartbeat, .snapshot:
            self.becomeFollower(message.term, leader: message.from)
        case .readRequest, .readResponse(token: _, index: nil):
            // Whoever asks, or knows nothing, says nothing of who leads: a read moves no term.
            return true
        case .preVoteResponse(granted: false), .voteResponse, .appendAccepted, .appendRejected, .heartbeatResponse,
            .timeoutNow, .readResponse:
            self.becomeFollower(message.term, leader: nil)
        }
        return true
    }

    /// Tells the sender of an earlier term about the own.
    /// - Returns: Whether the message is to be handled all the same, which only a deliberate fault makes true.
    private mutating func takesEarlier(_ message: RaftMessage) -> Bool {
        switch message.body {
        case .append(let append):
            if self.faults.contains(.olderAppendsTaken) { return true }
            self.tellTerm(to: message.from, session: append.session, beat: append.beat)
        case .heartbeat(let heartbeat):
            self.tellTerm(to: message.from, session: heartbeat.session, beat: heartbeat.beat)
        case .preVoteRequest(let request):
            // What is committed is so whatever the term.
            self.learnCommit(of: request)
            if message.term == .zero { break }
            self.promise(to: message.from, term: self.term, .preVoteResponse(granted: false))
        case .readRequest:
            return true
        case .appendAccepted, .appendRejected, .voteResponse:
            return self.faults.contains(.olderAcksTaken)
        case .voteRequest, .preVoteResponse, .heartbeatResponse, .snapshot, .timeoutNow, .readResponse:
            break
        }
        return false
    }

    /// A leader of an earlier term must learn of the own: else a replica whose term is ahead could never follow again.
    private mutating func tellTerm(to peer: NodeID, session: LogIndex, beat: UInt64) {
        guard self.configuration.checkQuorum || self.configuration.preVote else { return }
        let rejection = RaftMessage.AppendRejection(
            session: session,
            beat: beat,
            previousIndex: .zero,
            hintIndex: .zero,
            hintTerm: .zero
        )
        self.promise(to: peer, term: self.term, .appendRejected(rejection))
    }

    private mutating func handle(_ message: RaftMessage) {
        switch message.body {
        case .preVoteRequest(let request):
            self.handlePreVote(request, from: message.from, term: message.term)
        case .preVoteResponse(let isGranted):
            let expected = isGranted ? self.term.next : self.term
            guard self.role == .preCandidate, message.term == expected else { return }
            self.record(vote: isGranted, of: self.members.place(of: message.from))
        case .voteRequest(let request):
            self.handleVote(request, from: message.from)
        case .voteResponse(let answer):
            self.handleVoteAnswer(answer, place: self.members.place(of: message.from))
        case .append(let append):
            if self.follows(message) { self.handleAppend(append, from: message.from) }
        case .heartbeat(let heartbeat):
            if self.follows(message) { self.handleHeartbeat(heartbeat, from: message.from) }
        case .snapshot(let offer):
            if self.follows(message) { self.handleOffer(offer, from: message.from) }
        case .appendAccepted(let acceptance):
            let place = self.heard(message.from, session: acceptance.session, beat: acceptance.beat)
            if place >= 0 { self.handleAccepted(acceptance.match, place: place) }
        case .appendRejected(let rejection):
            let place = self.heard(message.from, session: rejection.session, beat: rejection.beat)
            if place >= 0 { self.handleRejected(rejection, place: place) }
        case .heartbeatResponse(let response):
            let place = self.heard(message.from, session: response.session, beat: response.beat)
            if place >= 0 { self.handleHeartbeatResponse(place: place) }
        case .timeoutNow:
            if self.role == .follower { self.stand(isTransfer: true) }
        case .readRequest(let token):
            self.handleReadRequest(token, from: message.from)
        case .readResponse(let token, let index):
            self.handleReadResponse(token, index: index, from: message.from)
        }
    }

    /// Recognises the leader of the own term.
    private mutating func follows(_ message: RaftMessage) -> Bool {
        if self.role == .leader || (self.leader != nil && self.leader != message.from) {
            if !self.faults.isDisjoint(with: [.olderAppendsTaken, .olderAcksTaken]) { return self.role != .leader }
            self.fail(.safety, "term \(self.term) has two leaders", at: self.log.last)
            return false
        }
        if self.role == .follower {
            self.leader = message.from
            self.electionElapsed = 0
        } else {
            self.becomeFollower(self.term, leader: message.from)
        }
        self.contactElapsed = 0
        return true
    }

    /// Takes note of an answer to this leader.
    /// - Returns: The place of the replica, -1 when the answer is not for this leadership or this life of the replica.
    private mutating func heard(_ peer: NodeID, session: LogIndex, beat: UInt64) -> Int {
        guard self.role == .leader else { return -1 }
        let place = self.members.place(of: peer)
        guard place >= 0, place != self.members.ownPlace else { return -1 }
        if self.members.progress[place].session != session, !self.faults.contains(.earlierSessionsTaken) { return -1 }
        // A beat that has not begun was never sent by this leader.
        guard beat <= self.beat || self.faults.contains(.olderAcksTaken) else { return -1 }
        self.members.progress[place].isRecentlyActive = true
        if beat > self.members.progress[place].ackedBeat {
            self.members.progress[place].ackedBeat = beat
            self.confirmReads()
        }
        return place
    }
}
