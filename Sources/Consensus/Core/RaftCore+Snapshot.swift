package import Primitives

/// A snapshot that a replica fetches and installs, and who waits to hear of it.
struct Installing: Sendable {
    var from: NodeID
    var term: Term
    var offer: RaftMessage.SnapshotOffer
}

// Snapshots: the leader offers, the follower's host fetches.
extension RaftCore {
    // MARK: - Leading

    /// Offers the state of now to a replica that lacks entries which the log no longer has.
    mutating func offerSnapshot(place: Int) {
        // Nobody is there to fetch it; a heartbeat answer comes first.
        guard self.members.progress[place].isRecentlyActive else { return }
        guard self.appliedIndex > .zero, let term = self.log.term(at: self.appliedIndex) else { return }
        let mark = SnapshotMark(index: self.appliedIndex, term: term, membership: self.membership)
        self.members.progress[place].becomeSnapshot(mark.index)
        let offer = RaftMessage.SnapshotOffer(
            session: self.members.progress[place].session,
            beat: self.beat,
            mark: mark
        )
        self.send(to: self.members.nodes[place], term: self.term, .snapshot(offer))
    }

    /// The transfer of a snapshot to `peer` has ended.
    ///
    /// Need not be called when the peer's own answer comes; a failure makes the leader offer again.
    package mutating func snapshotReport(to peer: NodeID, succeeded: Bool) {
        let place = self.members.place(of: peer)
        guard self.role == .leader, place >= 0, self.members.progress[place].state == .snapshot else { return }
        let pending = self.members.progress[place].pendingSnapshot
        let match = self.members.progress[place].match
        self.members.progress[place].becomeProbe(next: succeeded ? max(match, pending).next : match.next)
        // Wait for the answer, or for the next heartbeat's.
        self.members.progress[place].isPaused = true
        self.members.progress[place].needsSnapshot = false
        self.settle()
    }

    // MARK: - Following

    mutating func handleOffer(_ offer: RaftMessage.SnapshotOffer, from peer: NodeID) {
        let mark = offer.mark
        guard mark.membership.contains(self.id) else { return }
        if mark.index <= self.commit {
            self.promiseAcceptance(session: offer.session, beat: offer.beat, match: self.commit, to: peer)
            return
        }
        if !self.membership.isBlank, self.log.term(at: mark.index) == mark.term {
            // The entries are here: the offer only tells that they are committed.
            self.commitTo(mark.index)
            self.promiseAcceptance(session: offer.session, beat: offer.beat, match: mark.index, to: peer)
            return
        }
        let isNew = self.installing == nil
        self.installing = Installing(from: peer, term: self.term, offer: offer)
        if isNew { self.offered = OfferedSnapshot(from: peer, offer: offer) }
    }

    /// The state machine holds the state of `mark` durably, with its membership; it may be newer than what was offered.
    ///
    /// A mark that is not news does nothing.
    package mutating func snapshotInstalled(_ mark: SnapshotMark) {
        let answer = self.installing
        self.installing = nil
        self.offered = nil
        guard self.failure == nil, mark.index > self.appliedIndex else { return }
        precondition(self.role != .leader, "a leader has every committed entry")
        if self.log.term(at: mark.index) != mark.term {
            guard mark.index > self.commit else {
                self.fail(.safety, "the snapshot differs from the log before the commit index", at: mark.index)
                return
            }
            self.log.reset(to: mark)
        }
        self.commit = max(self.commit, mark.index)
        self.appliedIndex = mark.index
        self.handedToApply = max(self.handedToApply, mark.index)
        self.forgetApplied()
        self.dropCoveredProposals(mark.index)
        if !self.faults.contains(.snapshotKeepsMembership) { self.takeMembership(of: mark) }
        if let answer, answer.term == self.term, answer.from == self.leader {
            let offer = answer.offer
            self.promiseAcceptance(session: offer.session, beat: offer.beat, match: mark.index, to: answer.from)
        }
        self.settle()
    }

    /// A snapshot replaces the membership entirely.
    private mutating func takeMembership(of mark: SnapshotMark) {
        while let oldest = self.unappliedMemberships.first, oldest.index <= mark.index {
            self.unappliedMemberships.removeFirst()
        }
        if self.unappliedMemberships.isEmpty { self.handedMembership = mark.membership }
        self.lastMembershipIndex = max(self.lastMembershipIndex, mark.index)
        self.switchMembership(to: mark.membership)
    }

    /// Proposals of an earlier leadership that the snapshot covers will not be given out: their outcome is unknown.
    private mutating func dropCoveredProposals(_ index: LogIndex) {
        while let oldest = self.proposals.first, oldest.index <= index {
            self.dropped.append(oldest)
            self.proposals.removeFirst()
        }
    }

    /// The snapshot could not be fetched or installed; a later offer may start another.
    package mutating func snapshotFailed() {
        self.installing = nil
        self.offered = nil
    }
}
