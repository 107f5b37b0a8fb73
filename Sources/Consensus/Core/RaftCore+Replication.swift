internal import Primitives

// Messages and log replication.
extension RaftCore {
    /// Takes a message of a peer; messages of unknown replicas and for others are ignored.
    package mutating func step(_ message: RaftMessage) {
        guard self.failure == nil, message.to == self.id, message.from != self.id,
            let place = self.place(of: message.from)
        else { return }
        if message.term > self.term {
            guard self.admitsLater(message) else { return }
        } else if message.term < self.term, !self.takesEarlier(message) {
            return
        }
        self.handle(message, place: place)
        self.assertInvariants()
    }

    /// Moves to the later term of a message where that is due.
    /// - Returns: Whether the message is to be handled.
    private mutating func admitsLater(_ message: RaftMessage) -> Bool {
        switch message.body {
        case .preVoteRequest, .preVoteResponse(granted: true):
            // Their term is one that may never come.
            return true
        case .voteRequest:
            if self.ignoresLaterVotes { return false }
            self.becomeFollower(message.term, leader: nil)
        case .append, .heartbeat:
            self.becomeFollower(message.term, leader: message.from)
        case .preVoteResponse(granted: false), .voteResponse, .appendAccepted, .appendRejected, .heartbeatResponse:
            self.becomeFollower(message.term, leader: nil)
        }
        return true
    }

    /// Tells the sender of an earlier term about the own.
    /// - Returns: Whether the message is to be handled all the same, which only a deliberate fault makes true.
    private mutating func takesEarlier(_ message: RaftMessage) -> Bool {
        switch message.body {
        case .append(let append):
            if self.faults.contains(.olderTermsTaken) { return true }
            let rejection = RaftMessage.AppendRejection(
                previousIndex: append.previousIndex,
                hintIndex: .zero,
                hintTerm: .zero
            )
            self.promise(to: message.from, term: self.term, .appendRejected(rejection))
        case .heartbeat:
            let rejection = RaftMessage.AppendRejection(previousIndex: .zero, hintIndex: .zero, hintTerm: .zero)
            self.promise(to: message.from, term: self.term, .appendRejected(rejection))
        case .preVoteRequest:
            self.promise(to: message.from, term: self.term, .preVoteResponse(granted: false))
        case .voteRequest:
            self.promise(to: message.from, term: self.term, .voteResponse(granted: false))
        case .appendAccepted, .appendRejected, .voteResponse:
            return self.faults.contains(.olderTermsTaken)
        case .preVoteResponse, .heartbeatResponse:
            break
        }
        return false
    }

    private mutating func handle(_ message: RaftMessage, place: Int) {
        switch message.body {
        case .preVoteRequest(let request):
            self.handlePreVote(request, from: message.from, term: message.term)
        case .preVoteResponse(let isGranted):
            let expected = isGranted ? self.term.next : self.term
            if self.role == .preCandidate, message.term == expected { self.record(vote: isGranted, of: place) }
        case .voteRequest(let request):
            self.handleVote(request, from: message.from)
        case .voteResponse(let isGranted):
            if self.role == .candidate { self.record(vote: isGranted, of: place) }
        case .append(let append):
            if self.follows(message) { self.handleAppend(append, from: message.from) }
        case .heartbeat(let commit):
            if self.follows(message) { self.handleHeartbeat(commit: commit, from: message.from) }
        case .appendAccepted(let match):
            if self.role == .leader { self.handleAccepted(match, place: place) }
        case .appendRejected(let rejection):
            if self.role == .leader { self.handleRejected(rejection, place: place) }
        case .heartbeatResponse:
            if self.role == .leader { self.handleHeartbeatResponse(place: place) }
        }
    }

    // MARK: - Following

    /// Recognises the leader of the own term.
    private mutating func follows(_ message: RaftMessage) -> Bool {
        if self.role == .leader || (self.leader != nil && self.leader != message.from) {
            if self.faults.contains(.olderTermsTaken) { return self.role != .leader }
            self.fail(.safety, "term \(self.term) has two leaders", at: self.log.last)
            return false
        }
        if self.role == .follower {
            self.leader = message.from
            self.electionElapsed = 0
        } else {
            self.becomeFollower(self.term, leader: message.from)
        }
        return true
    }

    private mutating func handleHeartbeat(commit: LogIndex, from peer: NodeID) {
        guard commit <= self.log.last else {
            self.fail(.logLost, "the leader knows of entries here that are gone", at: commit)
            return
        }
        self.commitTo(commit)
        self.send(to: peer, term: self.term, .heartbeatResponse)
    }

    private mutating func handleAppend(_ append: RaftMessage.Append, from peer: NodeID) {
        guard self.isWellFormed(append) else { return }
        let previous = append.previousIndex
        guard self.log.term(at: previous) == append.previousTerm else {
            if previous <= self.commit {
                self.fail(.safety, "the leader's log differs before the commit index", at: previous)
                return
            }
            let hint = self.log.terms.lastIndex(
                atOrBefore: min(previous, self.log.last),
                termAtMost: append.previousTerm
            )
            let rejection = RaftMessage.AppendRejection(
                previousIndex: previous,
                hintIndex: hint,
                hintTerm: self.log.term(at: hint) ?? .zero
            )
            self.promise(to: peer, term: self.term, .appendRejected(rejection))
            return
        }
        let last = LogIndex(previous.rawValue + UInt64(append.entries.count))
        guard self.merge(append.entries) else { return }
        if self.faults.contains(.staleAppendCutsTail), last < self.log.last, last >= self.commit {
            self.log.truncate(from: last.next, commit: self.commit)
        }
        self.commitTo(min(append.commit, last))
        if append.wantsAnswer { self.accept(self.faults.contains(.ackOfOwnLastIndex) ? self.log.last : last, to: peer) }
    }

    /// Appends what is new; cuts the own tail only at an entry that really differs (Raft section 5.3).
    private mutating func merge(_ entries: [LogEntry]) -> Bool {
        for entry in entries {
            if entry.index <= self.log.last {
                if self.log.term(at: entry.index) == entry.term { continue }
                if entry.index <= self.commit {
                    self.fail(.safety, "the leader's log differs before the commit index", at: entry.index)
                    return false
                }
                self.log.truncate(from: entry.index, commit: self.commit)
            }
            self.log.append(entry)
        }
        return true
    }

    private func isWellFormed(_ append: RaftMessage.Append) -> Bool {
        var index = append.previousIndex
        var term = append.previousTerm
        for entry in append.entries {
            guard entry.index == index.next, entry.term >= term, entry.term <= self.term else { return false }
            index = entry.index
            term = entry.term
        }
        return true
    }

    /// Promises that what the leader sent up to `match` is durable.
    ///
    /// One promise replaces an earlier one of the same turn.
    private mutating func accept(_ match: LogIndex, to peer: NodeID) {
        if let waiting = self.sendWhenPersisted.last, waiting.to == peer, waiting.term == self.term,
            case .appendAccepted(let earlier) = waiting.body
        {
            self.sendWhenPersisted[self.sendWhenPersisted.count - 1].body = .appendAccepted(match: max(earlier, match))
            return
        }
        self.promise(to: peer, term: self.term, .appendAccepted(match: match))
    }

    // MARK: - Leading

    private mutating func handleAccepted(_ match: LogIndex, place: Int) {
        // An index that this leader's log does not have was never sent by it.
        guard match <= self.log.last else { return }
        self.progress[place].isRecentlyActive = true
        self.progress[place].mustVerify = false
        if self.progress[place].accept(match) { self.advanceCommit() }
    }

    private mutating func handleRejected(_ rejection: RaftMessage.AppendRejection, place: Int) {
        self.progress[place].isRecentlyActive = true
        if self.faults.contains(.rejectionCountsAsAck) {
            _ = self.progress[place].accept(min(rejection.previousIndex, self.log.last))
            self.advanceCommit()
            return
        }
        let progress = self.progress[place]
        switch progress.state {
        case .replicate:
            // An answer that was overtaken: the follower has since accepted more.
            if rejection.previousIndex <= progress.match { return }
            self.progress[place].becomeProbe(next: progress.match.next)
        case .probe:
            if rejection.previousIndex.next != progress.next { return }
            let agreed = self.log.terms.lastIndex(atOrBefore: rejection.hintIndex, termAtMost: rejection.hintTerm)
            let next = min(rejection.previousIndex, agreed.next)
            // Backing up all the way is allowed too, and lets tests meet the mistake sooner.
            let isStartingOver = self.faults.contains(.ackOfOwnLastIndex)
            self.progress[place].becomeProbe(next: isStartingOver ? progress.match.next : next)
        }
    }

    private mutating func handleHeartbeatResponse(place: Int) {
        self.progress[place].isRecentlyActive = true
        self.progress[place].isPaused = false
        if self.progress[place].match < self.log.last { self.progress[place].mustVerify = true }
    }

    /// Sends to every follower what it lacks, within its window, and pushes a new commit index at once.
    mutating func sendDueAppends() {
        for place in self.progress.indices where place != self.selfPlace {
            var isSent = false
            if self.progress[place].state == .probe {
                if self.progress[place].isPaused || self.progress[place].match == self.log.last { continue }
                self.progress[place].isPaused = true
                isSent = self.sendAppend(place: place) != nil
            } else {
                while self.progress[place].next <= self.log.last, self.progress[place].hasRoom(self.configuration),
                    let sent = self.sendAppend(place: place), let last = sent.last
                {
                    self.progress[place].sent(last: last, bytes: sent.bytes)
                    isSent = true
                }
                let isVerifying = self.progress[place].mustVerify
                if !isSent, self.failure == nil, isVerifying || self.progress[place].commitSent < self.commit {
                    self.sendEmptyAppend(place: place, wantsAnswer: isVerifying)
                    isSent = true
                }
            }
            if isSent { self.progress[place].mustVerify = false }
            if self.failure != nil { return }
        }
    }

    /// Sends entries from `next` on.
    /// - Returns: The last index sent and the bytes, or nil when the log could not be read.
    private mutating func sendAppend(place: Int) -> (last: LogIndex?, bytes: Int)? {
        let next = self.progress[place].next
        guard next <= self.log.last else {
            self.sendEmptyAppend(place: place, wantsAnswer: true)
            return (nil, 0)
        }
        let entries: [LogEntry]
        do throws(ConsensusError) {
            entries = try self.log.entries(
                from: next,
                through: self.log.last,
                bytesMax: self.configuration.messageBytesMax
            )
        } catch {
            self.failure = error
            return nil
        }
        var bytes = 0
        for entry in entries { bytes += entry.costBytes }
        self.sendAppend(entries, place: place, wantsAnswer: true)
        return (entries.last?.index, bytes)
    }

    private mutating func sendEmptyAppend(place: Int, wantsAnswer: Bool) {
        self.sendAppend([], place: place, wantsAnswer: wantsAnswer)
    }

    private mutating func sendAppend(_ entries: [LogEntry], place: Int, wantsAnswer: Bool) {
        let previous = LogIndex(self.progress[place].next.rawValue - 1)
        let append = RaftMessage.Append(
            previousIndex: previous,
            previousTerm: self.log.term(at: previous) ?? .zero,
            entries: entries,
            commit: self.commit,
            wantsAnswer: wantsAnswer
        )
        self.progress[place].commitSent = self.commit
        self.send(to: self.voters[place], term: self.term, .append(append))
    }
}
