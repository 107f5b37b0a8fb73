internal import Primitives

// Log replication.
extension RaftCore {
    // MARK: - Following

    mutating func handleHeartbeat(_ heartbeat: RaftMessage.Heartbeat, from peer: NodeID) {
        guard heartbeat.commit <= self.log.last else {
            // An earlier life of this replica may have held them, before it was removed and added again.
            if heartbeat.session == self.membership.session(of: self.id) {
                self.fail(.logLost, "the leader knows of entries here that are gone", at: heartbeat.commit)
            }
            return
        }
        self.commitTo(heartbeat.commit)
        if let end = heartbeat.sleepAt, self.fallAsleep(at: end) { return }
        self.isAsleep = false
        let response = RaftMessage.HeartbeatResponse(session: heartbeat.session, beat: heartbeat.beat)
        self.send(to: peer, term: self.term, .heartbeatResponse(response))
    }

    mutating func handleAppend(_ append: RaftMessage.Append, from peer: NodeID) {
        guard self.isWellFormed(append) else { return }
        if self.membership.isBlank {
            // The first membership is not in the log: only a snapshot brings it.
            self.reject(append, hint: .zero, to: peer)
            return
        }
        guard let entries = self.entriesAfterBase(append, to: peer) else { return }
        let previous = append.previousIndex
        if previous >= self.log.base, self.log.term(at: previous) != append.previousTerm {
            if previous <= self.commit {
                self.fail(.safety, "the leader's log differs before the commit index", at: previous)
                return
            }
            let hint = self.log.terms.lastIndex(
                atOrBefore: min(previous, self.log.last),
                termAtMost: append.previousTerm
            )
            self.reject(append, hint: hint, to: peer)
            return
        }
        let last = LogIndex(previous.rawValue + UInt64(append.entries.count))
        guard self.merge(entries) else { return }
        if self.faults.contains(.staleAppendCutsTail), last < self.log.last, last >= self.commit {
            self.log.truncate(from: last.next, commit: self.commit)
        }
        self.commitTo(min(append.commit, last))
        guard append.wantsAnswer else { return }
        // What is committed is in the leader's log too, and spares it to ask again.
        let match = previous < self.commit ? max(last, self.commit) : last
        self.accept(append, match: self.faults.contains(.ackOfOwnLastIndex) ? self.log.last : match, to: peer)
    }

    /// - Returns: The entries after the base, nil when the message is answered: all of it was compacted away.
    private mutating func entriesAfterBase(_ append: RaftMessage.Append, to peer: NodeID) -> ArraySlice<LogEntry>? {
        let base = self.log.base
        guard append.previousIndex < base else { return append.entries[...] }
        let gone = Int(base.rawValue - append.previousIndex.rawValue)
        guard append.entries.count >= gone else {
            if append.wantsAnswer { self.accept(append, match: self.commit, to: peer) }
            return nil
        }
        guard append.entries[gone - 1].term == self.log.terms.baseTerm else {
            self.fail(.safety, "the leader's log differs at the base", at: base)
            return nil
        }
        return append.entries[gone...]
    }

    /// Appends what is new; cuts the own tail only at an entry that really differs (Raft section 5.3).
    private mutating func merge(_ entries: ArraySlice<LogEntry>) -> Bool {
        for entry in entries {
            if entry.index <= self.log.last {
                if self.log.term(at: entry.index) == entry.term { continue }
                if entry.index <= self.commit {
                    self.fail(.safety, "the leader's log differs before the commit index", at: entry.index)
                    return false
                }
                self.log.truncate(from: entry.index, commit: self.commit)
            }
            if entry.term < self.log.lastTerm {
                self.fail(.safety, "the leader's log goes back in term", at: entry.index)
                return false
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

    private mutating func reject(_ append: RaftMessage.Append, hint: LogIndex, to peer: NodeID) {
        let rejection = RaftMessage.AppendRejection(
            session: append.session,
            beat: append.beat,
            previousIndex: append.previousIndex,
            hintIndex: hint,
            hintTerm: self.log.term(at: hint) ?? .zero
        )
        self.promise(to: peer, term: self.term, .appendRejected(rejection))
    }

    /// Promises that what the leader sent up to `match` is durable.
    ///
    /// One promise replaces an earlier one of the same turn.
    private mutating func accept(_ append: RaftMessage.Append, match: LogIndex, to peer: NodeID) {
        self.promiseAcceptance(session: append.session, beat: append.beat, match: match, to: peer)
    }

    mutating func promiseAcceptance(session: LogIndex, beat: UInt64, match: LogIndex, to peer: NodeID) {
        let acceptance = RaftMessage.AppendAcceptance(session: session, beat: beat, match: match)
        if !self.configuration.eagerMessages, let waiting = self.sendWhenPersisted.last, waiting.to == peer,
            waiting.term == self.term, case .appendAccepted(let earlier) = waiting.body, earlier.session == session
        {
            let merged = RaftMessage.AppendAcceptance(
                session: session,
                beat: max(earlier.beat, beat),
                match: max(earlier.match, match)
            )
            self.sendWhenPersisted[self.sendWhenPersisted.count - 1].body = .appendAccepted(merged)
            return
        }
        self.promise(to: peer, term: self.term, .appendAccepted(acceptance))
    }

    // MARK: - Leading

    mutating func handleAccepted(_ match: LogIndex, place: Int) {
        // An index that this leader's log does not have was never sent by it.
        guard match <= self.log.last else { return }
        self.members.progress[place].mustVerify = false
        let isNews = self.members.progress[place].accept(match, base: self.log.base)
        if isNews { self.advanceCommit() }
        if self.configuration.eagerMessages {
            guard isNews else { return }
            self.sendDueAppends()
        }
        self.handOverIfReady(place: place)
    }

    mutating func handleRejected(_ rejection: RaftMessage.AppendRejection, place: Int) {
        if self.faults.contains(.rejectionCountsAsAck) {
            let match = min(rejection.previousIndex, self.log.last)
            if self.members.progress[place].accept(match, base: self.log.base) { self.advanceCommit() }
            return
        }
        let progress = self.members.progress[place]
        switch progress.state {
        case .snapshot: return
        case .replicate:
            // An answer that was overtaken: the follower has since accepted more.
            if rejection.previousIndex <= progress.match { return }
            self.members.progress[place].becomeProbe(next: progress.match.next)
        case .probe:
            if rejection.previousIndex.next != progress.next { return }
            if rejection.previousIndex == .zero {
                // Nothing comes before: the replica is blank.
                self.members.progress[place].needsSnapshot = true
            }
            let agreed = self.log.terms.lastIndex(atOrBefore: rejection.hintIndex, termAtMost: rejection.hintTerm)
            let next = min(rejection.previousIndex, agreed.next)
            // Backing up all the way is allowed too, and lets tests meet the mistake sooner.
            let isStartingOver = self.faults.contains(.ackOfOwnLastIndex)
            self.members.progress[place].becomeProbe(next: isStartingOver ? progress.match.next : next)
        }
    }

    mutating func handleHeartbeatResponse(place: Int) {
        self.members.progress[place].isPaused = false
        if self.members.progress[place].state != .replicate || self.members.progress[place].match < self.log.last {
            self.members.progress[place].mustVerify = true
        }
    }

    /// Sends to every follower what it lacks, within its window, and pushes a new commit index when that is due.
    mutating func sendDueAppends() {
        let isPushing = self.mayPushCommit || !self.configuration.lazyCommitPush
        for place in self.members.progress.indices where place != self.members.ownPlace {
            switch self.members.progress[place].state {
            case .snapshot:
                if self.members.progress[place].mustVerify { self.offerSnapshot(place: place) }
            case .probe:
                self.sendProbe(place: place)
            case .replicate:
                self.sendPipelined(place: place, isPushing: isPushing)
            }
            if self.failure != nil { return }
        }
        self.mayPushCommit = false
    }

    private mutating func sendProbe(place: Int) {
        if self.members.progress[place].isPaused { return }
        if self.members.progress[place].match == self.log.last, !self.members.progress[place].mustVerify { return }
        self.members.progress[place].isPaused = true
        self.members.progress[place].mustVerify = false
        _ = self.sendAppend(place: place)
    }

    private mutating func sendPipelined(place: Int, isPushing: Bool) {
        var isSent = false
        while self.members.progress[place].state == .replicate, self.members.progress[place].next <= self.log.last,
            self.members.progress[place].hasRoom(self.configuration), let sent = self.sendAppend(place: place)
        {
            self.members.progress[place].sent(last: sent.last, bytes: sent.bytes)
            isSent = true
        }
        guard self.members.progress[place].state == .replicate, self.failure == nil else { return }
        let isVerifying = self.members.progress[place].mustVerify
        let isBehind =
            isPushing && self.members.progress[place].commitSent < self.commit
            && self.members.progress[place].hasRoom(self.configuration)
        if !isSent, isVerifying || isBehind {
            self.sendEmptyAppend(place: place, wantsAnswer: isVerifying || self.configuration.eagerMessages)
            isSent = true
        }
        if isSent { self.members.progress[place].mustVerify = false }
    }

    /// Sends entries from `next` on, or offers a snapshot when they are gone.
    /// - Returns: The last index sent and the bytes, nil when no entries were sent.
    private mutating func sendAppend(place: Int) -> (last: LogIndex, bytes: Int)? {
        let next = self.members.progress[place].next
        let previous = LogIndex(next.rawValue - 1)
        let isBlank = previous == .zero && self.members.progress[place].session > .zero
        if isBlank || self.members.progress[place].needsSnapshot || self.log.term(at: previous) == nil {
            self.offerSnapshot(place: place)
            return nil
        }
        guard next <= self.log.last else {
            self.sendEmptyAppend(place: place, wantsAnswer: true)
            return nil
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
        return (LogIndex(previous.rawValue + UInt64(entries.count)), bytes)
    }

    mutating func sendEmptyAppend(place: Int, wantsAnswer: Bool) {
        self.sendAppend([], place: place, wantsAnswer: wantsAnswer)
    }

    private mutating func sendAppend(_ entries: [LogEntry], place: Int, wantsAnswer: Bool) {
        let previous = LogIndex(self.members.progress[place].next.rawValue - 1)
        guard let previousTerm = self.log.term(at: previous) else {
            self.offerSnapshot(place: place)
            return
        }
        let append = RaftMessage.Append(
            session: self.members.progress[place].session,
            beat: self.beat,
            previousIndex: previous,
            previousTerm: previousTerm,
            entries: entries,
            commit: self.commit,
            wantsAnswer: wantsAnswer
        )
        self.members.progress[place].commitSent = self.commit
        self.send(to: self.members.nodes[place], term: self.term, .append(append))
    }
}
