package import Primitives

// Membership changes and the transfer of leadership.
extension RaftCore {
    /// Appends an entry that carries `change`, if it can be applied to the membership of now and no other is pending.
    ///
    /// - Parameter token: When the answer is `.accepted` it comes back exactly once, in `committedProposals` or in
    ///   `dropped`.
    package mutating func proposeMembership(_ change: MembershipChange, token: UInt64) -> MembershipProposeResult {
        guard self.role == .leader, self.failure == nil else { return .notLeader(leader: self.leader) }
        guard self.isMember else { return .notLeader(leader: nil) }
        if self.transferee != nil { return .transferring }
        if !self.faults.contains(.overlappingMembershipChanges) {
            if self.pendingMembershipIndex > self.appliedIndex { return .pending }
            do throws(MembershipError) {
                _ = try self.membership.applying(change, at: self.log.last.next)
            } catch {
                return .invalid(error)
            }
        }
        self.wake()
        guard
            let entry = self.appendProposal(kind: .membership, payload: change.encoded(), token: token)
        else { return .overloaded }
        self.pendingMembershipIndex = entry.index
        self.settle()
        return .accepted(index: entry.index, term: entry.term)
    }

    /// Appends the entry that leaves a joint configuration, once the one that entered it is applied.
    mutating func leaveJointIfDue() {
        guard self.role == .leader, self.membership.autoLeave, self.transferee == nil, self.failure == nil,
            self.pendingMembershipIndex <= self.appliedIndex
        else { return }
        let payload = MembershipChange.leave.encoded()
        let entry = LogEntry(index: self.log.last.next, term: self.term, kind: .membership, payload: payload)
        self.log.append(entry)
        self.pendingMembershipIndex = entry.index
    }

    /// Whether a change is committed and not applied: this replica must not stand for election then, as others may
    /// count by the new membership already.
    var hasCommittedUnappliedMembership: Bool {
        mutating get {
            if !self.unappliedMemberships.isEmpty { return true }
            if self.handedToApply >= self.commit { return false }
            do throws(ConsensusError) {
                return try self.log.hasMembership(from: self.handedToApply.next, through: self.commit)
            } catch {
                self.failure = error
                return true
            }
        }
    }

    /// Takes `next` into effect.
    mutating func switchMembership(to next: Membership) {
        if next == self.membership { return }
        if self.role == .leader { self.tellCommitBeforeRemoval(next) }
        self.members = self.members.switched(to: next, own: self.id, last: self.log.last)
        self.membership = next
        self.newMembership = next
        self.reading.endLease()
        let isVoter = self.members.isVoter(self.members.ownPlace)
        switch self.role {
        case .follower: break
        case .preCandidate, .candidate:
            if !isVoter { self.becomeFollower(self.term, leader: nil) }
        case .leader:
            if !isVoter, self.configuration.stepDownOnRemoval {
                self.becomeFollower(self.term, leader: nil)
                return
            }
            self.advanceCommit()
            self.confirmReads()
            if let target = self.transferee, !self.members.isVoter(self.members.place(of: target)) {
                self.endTransfer()
            }
        }
    }

    /// Those who leave, and those who stay behind when the leader itself leaves, learn that the change is committed.
    private mutating func tellCommitBeforeRemoval(_ next: Membership) {
        let isAnyoneLeaving = self.members.nodes.contains { !next.contains($0) }
        guard isAnyoneLeaving || !next.isVoter(self.id) else { return }
        for place in self.members.nodes.indices where place != self.members.ownPlace {
            let progress = self.members.progress[place]
            if progress.state == .replicate, progress.commitSent < self.commit {
                self.sendEmptyAppend(place: place, wantsAnswer: false)
            }
        }
    }

    // MARK: - Transfer

    /// Hands leadership to `target` once it has caught up (thesis section 3.10); meanwhile nothing can be proposed.
    ///
    /// Ends after the election timeout, whatever came of it: ``transferee`` is nil then.
    /// - Returns: False when this replica does not lead or `target` is not a voter.
    package mutating func transferLeadership(to target: NodeID) -> Bool {
        guard self.role == .leader, self.failure == nil else { return false }
        if target == self.id {
            // Staying ends a transfer that is under way.
            if self.transferee != nil { self.endTransfer() }
            self.settle()
            return true
        }
        let place = self.members.place(of: target)
        guard self.members.isVoter(place) else { return false }
        if self.transferee == target { return true }
        self.wake()
        self.transferee = target
        self.transferElapsed = 0
        self.transferTerm = self.term
        self.electionElapsed = 0
        self.members.progress[place].isPaused = false
        self.handOverIfReady(place: place)
        self.settle()
        return true
    }

    /// Tells the target of a transfer to stand for election when its log is complete.
    mutating func handOverIfReady(place: Int) {
        guard let target = self.transferee, self.transferTerm == self.term, self.members.nodes[place] == target,
            self.members.progress[place].match == self.log.last
        else { return }
        // Voters will not be true to this leader then, now or when the message is late.
        self.reading.isLeaseForfeited = true
        self.send(to: target, term: self.term, .timeoutNow)
    }

    mutating func tickTransfer() {
        guard self.transferee != nil, !self.faults.contains(.transferWithoutEnd) else { return }
        if self.faults.contains(.transferKeptOverStepDown), self.transferTerm != self.term { return }
        self.transferElapsed += 1
        if self.transferElapsed >= self.configuration.electionTicks { self.endTransfer() }
    }

    private mutating func endTransfer() {
        self.transferee = nil
        self.leaveJointIfDue()
    }
}
