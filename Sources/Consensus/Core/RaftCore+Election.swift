internal import Primitives

// Roles, elections and the leader's check of its majority.
extension RaftCore {
    /// Starts an election now, with the question whether it could be won (thesis section 9.6) unless that is off.
    ///
    /// Does nothing on a leader, on a replica that does not vote, while a committed membership change is not applied,
    /// while a snapshot is installed, and, with lease reads, while a leader was heard.
    package mutating func campaign() {
        self.wake()
        self.stand(isTransfer: false)
        self.settle()
    }

    /// Forgets the leader, so that this follower may vote for another; does nothing with lease reads.
    package mutating func forgetLeader() {
        guard self.role == .follower, self.leader != nil, !self.configuration.leaseReads else { return }
        self.wake()
        self.leader = nil
        self.dropReads()
    }

    /// Follows `leader` (nil: nobody known) in `term`, which is not older than the own.
    ///
    /// Within a term the vote stays as it is: it belongs to the replica and the term, not to the role.
    mutating func becomeFollower(_ term: Term, leader: NodeID?) {
        precondition(term >= self.term, "the term never goes back")
        if term > self.term {
            self.hardState = HardState(term: term, vote: nil)
            self.dropAcknowledgements()
        } else if self.faults.contains(.voteClearedOnRoleChange), self.role != .follower {
            self.hardState.vote = nil
        }
        self.leaveRole(for: .follower)
        self.drawElectionTimeout()
        self.leader = leader
    }

    /// Takes back the acknowledgements of an earlier term that have not left: the next leader may cut what they name.
    private mutating func dropAcknowledgements() {
        let term = self.term
        self.sendWhenPersisted.removeAll { message in
            if case .appendAccepted = message.body { message.term < term } else { false }
        }
    }

    /// Whether this replica may become a leader by its membership and state.
    private var isPromotable: Bool { self.members.isVoter(self.members.ownPlace) && self.installing == nil }

    /// Stands for election where that is allowed.
    mutating func stand(isTransfer: Bool) {
        guard self.role != .leader, self.failure == nil, self.isPromotable else { return }
        if self.hasCommittedUnappliedMembership, !self.faults.contains(.campaignWithUnappliedMembership) { return }
        if !isTransfer, self.isBoundByLease, !self.faults.contains(.leaseIgnoredByVoters) { return }
        if self.configuration.preVote, !isTransfer {
            self.becomePreCandidate()
        } else {
            self.becomeCandidate(isTransfer: isTransfer)
        }
    }

    private mutating func becomePreCandidate() {
        self.leaveRole(for: .preCandidate)
        self.leader = nil
        self.requestVotes(term: self.term.next, isTransfer: false) { .preVoteRequest($0) }
        self.record(vote: true, of: self.members.ownPlace)
    }

    private mutating func becomeCandidate(isTransfer: Bool) {
        self.leaveRole(for: .candidate)
        self.drawElectionTimeout()
        self.leader = nil
        self.hardState = HardState(term: self.term.next, vote: self.id)
        self.ownVoteTicket = self.nextTicket
        self.requestVotes(term: self.term, isTransfer: isTransfer) { .voteRequest($0) }
    }

    private mutating func requestVotes(
        term: Term,
        isTransfer: Bool,
        _ body: (RaftMessage.VoteRequest) -> RaftMessage.Body
    ) {
        var request = RaftMessage.VoteRequest(
            lastIndex: self.log.last,
            lastTerm: self.log.lastTerm,
            commit: self.commit,
            commitTerm: self.log.term(at: self.commit) ?? .zero,
            isTransfer: isTransfer
        )
        for place in self.members.nodes.indices where place != self.members.ownPlace && self.members.isVoter(place) {
            request.session = self.members.progress[place].session
            self.send(to: self.members.nodes[place], term: term, body(request))
        }
    }

    private mutating func becomeLeader() {
        precondition(self.role == .candidate, "a leader was a candidate")
        precondition(self.ownVoteTicket == nil, "a leader's own vote and term are durable")
        self.leaveRole(for: .leader)
        self.drawElectionTimeout()
        self.leader = self.id
        let next = self.log.last.next
        for place in self.members.progress.indices {
            self.members.progress[place] = Progress(next: next, session: self.members.progress[place].session)
        }
        let own = self.members.ownPlace
        self.members.progress[own].match = self.log.persisted
        self.heartbeatElapsed = 0
        self.beat = 1
        self.reading.beginLeading(self.beat, now: self.now)
        self.firstOwnIndex = next
        // Any of the entries before may be a change that is not applied.
        self.pendingMembershipIndex = self.log.last
        // Commits what earlier leaders left, as entries of older terms are not counted (Raft section 8).
        self.log.append(LogEntry(index: next, term: self.term, kind: .empty, payload: []))
        self.members.progress[own].next = self.log.last.next
    }

    private mutating func leaveRole(for role: RaftRole) {
        if self.role == .leader {
            self.dropProposals()
            if !self.faults.contains(.transferKeptOverStepDown) { self.transferee = nil }
        }
        self.dropReads()
        self.isAsleep = false
        self.role = role
        self.electionElapsed = 0
        self.ownVoteTicket = nil
        for place in self.members.votes.indices { self.members.votes[place] = nil }
    }

    /// Answers every proposal whose outcome another leader decides.
    private mutating func dropProposals() {
        while let newest = self.proposals.last, newest.index > self.commit {
            if !self.faults.contains(.droppedProposalsForgotten) { self.dropped.append(newest) }
            self.proposals.removeLast()
        }
        self.unapplied.removeAll()
        self.unappliedBytes = 0
    }

    // MARK: - Votes

    /// With lease reads: a leader was heard within the shortest election timeout, or this life is younger than that.
    private var isBoundByLease: Bool {
        self.configuration.leaseReads && self.contactElapsed < self.configuration.electionTicks
    }

    /// Whether a leader was heard within the shortest election timeout: then nobody gets a vote (Raft section 6).
    private var isSticky: Bool {
        guard self.configuration.checkQuorum, !self.faults.contains(.leaseIgnoredByVoters) else { return false }
        return (self.leader != nil && self.electionElapsed < self.configuration.electionTicks) || self.isBoundByLease
    }

    /// Whether a lease may stand that a vote would break, also when another message has brought the request's term before.
    private func isBound(against request: RaftMessage.VoteRequest) -> Bool {
        self.isBoundByLease && !request.isTransfer && !self.faults.contains(.leaseIgnoredByVoters)
    }

    /// Whether a request for a vote in a later term is to be ignored because a leader is alive.
    func ignoresLaterVote(_ request: RaftMessage.VoteRequest) -> Bool { !request.isTransfer && self.isSticky }

    private func isUpToDate(_ request: RaftMessage.VoteRequest) -> Bool {
        if self.faults.contains(.indexComparedBeforeTerm) {
            return request.lastIndex > self.log.last
                || (request.lastIndex == self.log.last && request.lastTerm >= self.log.lastTerm)
        }
        if request.lastTerm != self.log.lastTerm { return request.lastTerm > self.log.lastTerm }
        return request.lastIndex >= self.log.last
    }

    mutating func handlePreVote(_ request: RaftMessage.VoteRequest, from peer: NodeID, term: Term) {
        self.learnCommit(of: request)
        if term == .zero { return }
        let isGranted = term > self.term && self.isUpToDate(request) && !self.isBound(against: request)
        self.promise(to: peer, term: isGranted ? term : self.term, .preVoteResponse(granted: isGranted))
        if !isGranted { self.tellCommit(to: peer, known: request.commit) }
    }

    mutating func handleVote(_ request: RaftMessage.VoteRequest, from peer: NodeID) {
        self.learnCommit(of: request)
        let isFree = self.hardState.vote == nil && self.leader == nil
        let isRepeated = self.hardState.vote == peer
        let isGranted =
            isRepeated || isFree && !self.isBound(against: request) ? self.isUpToDate(request) : false
        if isGranted {
            precondition(self.hardState.vote == nil || self.hardState.vote == peer, "one vote a term")
            self.hardState.vote = peer
            self.electionElapsed = 0
        }
        let answer = RaftMessage.VoteAnswer(
            isGranted: isGranted,
            lastIndex: request.lastIndex,
            lastTerm: request.lastTerm
        )
        self.promise(to: peer, term: self.term, .voteResponse(answer))
        if !isGranted { self.tellCommit(to: peer, known: request.commit) }
    }

    mutating func handleVoteAnswer(_ answer: RaftMessage.VoteAnswer, place: Int) {
        guard self.role == .candidate else { return }
        // A vote that was given to a log which this life of the candidate does not have.
        if answer.isGranted, answer.lastIndex != self.log.last || answer.lastTerm != self.log.lastTerm { return }
        self.record(vote: answer.isGranted, of: place)
    }

    /// A candidate that gets no vote here may count by a membership that is over: it must learn of the change.
    private mutating func tellCommit(to peer: NodeID, known: LogIndex) {
        guard known < self.lastMembershipIndex, let term = self.log.term(at: self.commit) else { return }
        self.sendNow.append(.commitNotice(from: self.id, to: peer, index: self.commit, term: term))
    }

    /// Learns from a candidate what is committed, so that a change which only it knows to be passed can be applied.
    mutating func learnCommit(of request: RaftMessage.VoteRequest) {
        guard self.role != .leader, request.commit > self.commit,
            self.log.term(at: request.commit) == request.commitTerm
        else { return }
        self.commitTo(request.commit)
        if self.role != .follower, self.hasCommittedUnappliedMembership {
            self.becomeFollower(self.term, leader: nil)
        }
    }

    mutating func record(vote isGranted: Bool, of place: Int) {
        guard self.role == .preCandidate || self.role == .candidate, place >= 0 else { return }
        if self.members.votes[place] == nil { self.members.votes[place] = isGranted }
        switch self.members.outcome(byOneHalf: self.faults.contains(.jointVoteByOneHalf)) {
        case .open: break
        case .lost: self.becomeFollower(self.term, leader: nil)
        case .won:
            if self.role == .preCandidate {
                self.becomeCandidate(isTransfer: false)
            } else if self.ownVoteTicket == nil {
                // Not before the own term is durable: another life could else lead the same term once more.
                self.becomeLeader()
            }
        }
    }

    // MARK: - Leading

    mutating func tickLeader() {
        self.heartbeatElapsed += 1
        if self.electionElapsed >= self.configuration.electionTicks {
            self.electionElapsed = 0
            if self.configuration.checkQuorum { self.checkQuorum() }
        }
        guard self.role == .leader else { return }
        self.tickTransfer()
        if self.heartbeatElapsed >= self.configuration.heartbeatTicks {
            self.heartbeatElapsed = 0
            self.beginBeat()
            self.broadcastHeartbeat()
        }
    }

    /// Steps down when no majority was heard since the last check (thesis section 6.2).
    private mutating func checkQuorum() {
        let own = self.members.ownPlace
        let isHeard = self.members.isQuorum { $0 == own || self.members.progress[$0].isRecentlyActive }
        for place in self.members.progress.indices {
            self.members.progress[place].wasActive = self.members.progress[place].isRecentlyActive
            self.members.progress[place].isRecentlyActive = false
        }
        if !isHeard, !self.faults.contains(.lostQuorumIgnored) { self.becomeFollower(self.term, leader: nil) }
    }

    mutating func broadcastHeartbeat() {
        for place in self.members.progress.indices where place != self.members.ownPlace {
            self.sendHeartbeat(place: place, sleepAt: nil)
        }
    }

    mutating func sendHeartbeat(place: Int, sleepAt: LogIndex?) {
        // Never more than the follower is known to hold: its log may end there, or differ after it.
        let known = min(self.members.progress[place].match, self.commit)
        let commit = self.faults.contains(.heartbeatCommitNotCapped) ? self.commit : known
        self.members.progress[place].commitSent = max(self.members.progress[place].commitSent, commit)
        let heartbeat = RaftMessage.Heartbeat(
            session: self.members.progress[place].session,
            beat: self.beat,
            commit: commit,
            sleepAt: sleepAt
        )
        self.send(to: self.members.nodes[place], term: self.term, .heartbeat(heartbeat))
    }

    // MARK: - Sending

    mutating func send(to peer: NodeID, term: Term, _ body: RaftMessage.Body) {
        self.sendNow.append(RaftMessage(from: self.id, to: peer, term: term, body: body))
    }

    /// Sends once everything that the message promises is durable.
    mutating func promise(to peer: NodeID, term: Term, _ body: RaftMessage.Body) {
        self.sendWhenPersisted.append(RaftMessage(from: self.id, to: peer, term: term, body: body))
    }
}
