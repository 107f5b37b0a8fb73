internal import Primitives

// Roles, elections and the leader's check of its majority.
extension RaftCore {
    /// Follows `leader` (nil: nobody known) in `term`, which is not older than the own.
    ///
    /// Within a term the vote stays as it is: it belongs to the replica and the term, not to the role.
    mutating func becomeFollower(_ term: Term, leader: NodeID?) {
        precondition(term >= self.term, "the term never goes back")
        if term > self.term {
            self.hardState = HardState(term: term, vote: nil)
        } else if self.faults.contains(.voteClearedOnRoleChange), self.role != .follower {
            self.hardState.vote = nil
        }
        self.leaveRole(for: .follower)
        self.leader = leader
    }

    mutating func becomePreCandidate() {
        self.leaveRole(for: .preCandidate)
        self.leader = nil
        let request = RaftMessage.VoteRequest(lastIndex: self.log.last, lastTerm: self.log.lastTerm)
        self.broadcast(term: self.term.next, .preVoteRequest(request))
        self.record(vote: true, of: self.selfPlace)
    }

    private mutating func becomeCandidate() {
        self.leaveRole(for: .candidate)
        self.leader = nil
        self.hardState = HardState(term: self.term.next, vote: self.id)
        self.ownVoteTicket = self.nextTicket
        let request = RaftMessage.VoteRequest(lastIndex: self.log.last, lastTerm: self.log.lastTerm)
        self.broadcast(term: self.term, .voteRequest(request))
    }

    private mutating func becomeLeader() {
        precondition(self.role == .candidate, "a leader was a candidate")
        self.leaveRole(for: .leader)
        self.leader = self.id
        let next = self.log.last.next
        for place in self.progress.indices { self.progress[place] = Progress(next: next) }
        self.progress[self.selfPlace].match = self.log.persisted
        self.heartbeatElapsed = 0
        // Commits what earlier leaders left, as entries of older terms are not counted (Raft section 8).
        self.log.append(LogEntry(index: next, term: self.term, kind: .empty, payload: []))
    }

    private mutating func leaveRole(for role: RaftRole) {
        if self.role == .leader { self.dropProposals() }
        self.role = role
        self.electionElapsed = 0
        self.ownVoteTicket = nil
        for place in self.votes.indices { self.votes[place] = nil }
        self.drawElectionTimeout()
    }

    /// Answers every proposal whose outcome another leader decides.
    private mutating func dropProposals() {
        while let newest = self.proposals.last, newest.index > self.commit {
            if !self.faults.contains(.droppedProposalsForgotten) {
                self.dropped.append(DroppedProposal(token: newest.token, index: newest.index))
            }
            self.proposals.removeLast()
        }
        self.unapplied.removeAll()
        self.unappliedBytes = 0
    }

    // MARK: - Votes

    /// Whether a leader was heard within the shortest election timeout: then nobody gets a vote (Raft section 6).
    private var isSticky: Bool {
        self.leader != nil && self.electionElapsed < self.configuration.electionTicks
            && !self.faults.contains(.leaseIgnoredByVoters)
    }

    private func isUpToDate(_ request: RaftMessage.VoteRequest) -> Bool {
        if self.faults.contains(.indexComparedBeforeTerm) {
            return request.lastIndex > self.log.last
                || (request.lastIndex == self.log.last && request.lastTerm >= self.log.lastTerm)
        }
        if request.lastTerm != self.log.lastTerm { return request.lastTerm > self.log.lastTerm }
        return request.lastIndex >= self.log.last
    }

    mutating func handlePreVote(_ request: RaftMessage.VoteRequest, from peer: NodeID, term: Term) {
        if self.isSticky { return }
        let isGranted = term > self.term && self.isUpToDate(request)
        self.promise(to: peer, term: isGranted ? term : self.term, .preVoteResponse(granted: isGranted))
    }

    mutating func handleVote(_ request: RaftMessage.VoteRequest, from peer: NodeID) {
        let isFree = self.hardState.vote == nil && self.leader == nil
        let isGranted = (isFree || self.hardState.vote == peer) && self.isUpToDate(request)
        if isGranted {
            precondition(self.hardState.vote == nil || self.hardState.vote == peer, "one vote a term")
            self.hardState.vote = peer
            self.electionElapsed = 0
        }
        self.promise(to: peer, term: self.term, .voteResponse(granted: isGranted))
    }

    /// Whether a request for a vote in a later term is to be ignored because a leader is alive.
    var ignoresLaterVotes: Bool { self.isSticky }

    mutating func record(vote isGranted: Bool, of place: Int) {
        guard self.role == .preCandidate || self.role == .candidate else { return }
        if self.votes[place] == nil { self.votes[place] = isGranted }
        var grants = 0
        var refusals = 0
        for vote in self.votes {
            if vote == true { grants += 1 } else if vote == false { refusals += 1 }
        }
        if grants >= self.quorum {
            if self.role == .preCandidate { self.becomeCandidate() } else { self.becomeLeader() }
        } else if refusals >= self.quorum {
            self.becomeFollower(self.term, leader: nil)
        }
    }

    // MARK: - Leading

    /// Steps down when no majority was heard since the last check (thesis section 6.2).
    mutating func checkQuorum() {
        var active = 1
        for place in self.progress.indices where place != self.selfPlace {
            if self.progress[place].isRecentlyActive { active += 1 }
            self.progress[place].isRecentlyActive = false
        }
        if active < self.quorum, !self.faults.contains(.lostQuorumIgnored) {
            self.becomeFollower(self.term, leader: nil)
        }
    }

    mutating func broadcastHeartbeat() {
        for place in self.progress.indices where place != self.selfPlace {
            // Never more than the follower is known to hold: its log may end there, or differ after it.
            let known = min(self.progress[place].match, self.commit)
            let commit = self.faults.contains(.heartbeatCommitNotCapped) ? self.commit : known
            self.send(to: self.voters[place], term: self.term, .heartbeat(commit: commit))
        }
    }

    // MARK: - Sending

    func message(to peer: NodeID, term: Term, _ body: RaftMessage.Body) -> RaftMessage {
        RaftMessage(from: self.id, to: peer, term: term, body: body)
    }

    mutating func send(to peer: NodeID, term: Term, _ body: RaftMessage.Body) {
        self.sendNow.append(self.message(to: peer, term: term, body))
    }

    /// Sends once everything that the message promises is durable.
    mutating func promise(to peer: NodeID, term: Term, _ body: RaftMessage.Body) {
        self.sendWhenPersisted.append(self.message(to: peer, term: term, body))
    }

    private mutating func broadcast(term: Term, _ body: RaftMessage.Body) {
        for peer in self.voters where peer != self.id { self.send(to: peer, term: term, body) }
    }
}
