internal import Primitives

// What a core wants done.
extension RaftCore {
    /// - Returns: What is to be done now, or nil when nothing is.
    package mutating func takeReady() -> Ready? {
        guard self.hasReady() else { return nil }
        var ready = Ready()
        if self.failure == nil { self.collectCommitted(into: &ready) }
        self.collectWrites(into: &ready)
        swap(&ready.sendNow, &self.sendNow)
        swap(&ready.dropped, &self.dropped)
        swap(&ready.reads, &self.reading.granted)
        swap(&ready.droppedReads, &self.reading.dropped)
        ready.commit = self.commit
        ready.snapshotToInstall = self.offered
        self.offered = nil
        ready.membershipChange = self.newMembership
        self.newMembership = nil
        if self.isAsleep != self.reportedAsleep {
            self.reportedAsleep = self.isAsleep
            ready.isAsleepChange = self.isAsleep
        }
        if !self.isSupersededReported, let session = self.supersededBy {
            self.isSupersededReported = true
            ready.supersededBy = session
        }
        let change = RoleChange(role: self.role, term: self.term, leader: self.leader)
        if change != self.reportedChange {
            self.reportedChange = change
            ready.roleChange = change
        }
        if !self.isFailureReported, let failure = self.failure {
            self.isFailureReported = true
            ready.failure = failure
        }
        return ready.isEmpty ? nil : ready
    }

    /// Whether ``takeReady()`` has anything to say; cheap, and makes the messages that are due.
    package mutating func hasReady() -> Bool {
        if self.failure == nil {
            if self.configuration.eagerMessages {
                // The inputs have made them.
            } else if self.role == .leader {
                self.startReadRound()
                self.sendDueAppends()
            } else {
                self.forwardReads()
            }
        }
        if !self.sendNow.isEmpty || !self.sendWhenPersisted.isEmpty || self.log.hasUnhanded
            || self.hardState != self.handedHardState
        {
            return true
        }
        if self.failure == nil ? self.canHandToApply : !self.isFailureReported { return true }
        return !self.dropped.isEmpty || !self.reading.granted.isEmpty || !self.reading.dropped.isEmpty
            || self.offered != nil || (self.supersededBy != nil && !self.isSupersededReported)
            || self.newMembership != nil || self.isAsleep != self.reportedAsleep
            || self.role != self.reportedChange.role || self.leader != self.reportedChange.leader
            || self.term != self.reportedChange.term
    }

    private mutating func collectWrites(into ready: inout Ready) {
        if self.hardState != self.handedHardState {
            self.handedHardState = self.hardState
            ready.hardState = self.hardState
        }
        let mustWrite = ready.hardState != nil || self.log.hasUnhanded
        if !mustWrite && (self.sendWhenPersisted.isEmpty || !self.log.hasOutstanding) {
            // Everything these messages promise is durable already.
            if !self.sendWhenPersisted.isEmpty {
                self.sendNow.append(contentsOf: self.sendWhenPersisted)
                self.sendWhenPersisted.removeAll(keepingCapacity: true)
            }
            return
        }
        let number = self.nextTicket
        self.nextTicket += 1
        (ready.resetLog, ready.truncateFrom, ready.entries) = self.log.hand(ticket: number)
        ready.ticket = PersistTicket(number: number, index: self.log.last, term: self.log.lastTerm)
        if self.faults.isEmpty {
            swap(&ready.sendWhenPersisted, &self.sendWhenPersisted)
        } else {
            self.collectPromisesWithFaults(into: &ready)
        }
    }

    private mutating func collectPromisesWithFaults(into ready: inout Ready) {
        for message in self.sendWhenPersisted {
            let isEarly =
                switch message.body {
                case .voteResponse: self.faults.contains(.voteBeforeDisk)
                case .appendAccepted: self.faults.contains(.ackBeforeDisk)
                default: false
                }
            if isEarly { self.sendNow.append(message) } else { ready.sendWhenPersisted.append(message) }
        }
        self.sendWhenPersisted = []
        if self.faults.contains(.ownAckBeforeDisk), self.role == .leader, self.isMember {
            self.members.progress[self.members.ownPlace].next = self.log.last.next
            self.members.progress[self.members.ownPlace].match = self.log.last
            self.advanceCommit()
        }
    }

    /// The last entry that may be given out to be applied.
    private var applyEnd: LogIndex {
        self.configuration.appliesUnpersisted ? self.commit : min(self.commit, self.log.persisted)
    }

    private var canHandToApply: Bool {
        (self.handedToApply < self.applyEnd && self.installing == nil
            && self.applyingBytes < self.configuration.applyBacklogBytesMax)
            || (self.proposals.first.map { $0.index <= self.handedToApply } ?? false)
    }

    private mutating func collectCommitted(into ready: inout Ready) {
        let end = self.applyEnd
        while self.handedToApply < end, self.installing == nil,
            self.applyingBytes < self.configuration.applyBacklogBytesMax
        {
            do throws(ConsensusError) {
                let found = try self.log.entries(
                    from: self.handedToApply.next,
                    through: end,
                    bytesMax: self.configuration.messageBytesMax
                )
                guard let last = found.last else { return }
                var bytes = 0
                for entry in found {
                    bytes += entry.costBytes
                    if entry.kind == .membership { try self.hand(membershipOf: entry, into: &ready) }
                }
                self.applying.append((last.index, bytes))
                self.applyingBytes += bytes
                self.handedToApply = last.index
                if ready.committed.isEmpty {
                    ready.committed = found
                } else {
                    ready.committed.append(contentsOf: found)
                }
            } catch {
                self.failure = error
                return
            }
        }
        while let oldest = self.proposals.first, oldest.index <= self.handedToApply {
            ready.committedProposals.append((oldest.index, oldest.token))
            self.proposals.removeFirst()
        }
    }

    private mutating func hand(membershipOf entry: LogEntry, into ready: inout Ready) throws(ConsensusError) {
        let change: MembershipChange
        do throws(MalformedBytes) {
            change = try MembershipChange(bytes: entry.payload)
        } catch {
            let message = "a committed membership change is malformed"
            throw ConsensusError(code: .corruption, message: message, index: entry.index, cause: error)
        }
        var refusal: MembershipError?
        do throws(MembershipError) {
            self.handedMembership = try self.handedMembership.applying(change, at: entry.index)
        } catch {
            refusal = error
        }
        self.lastMembershipIndex = entry.index
        self.unappliedMemberships.append((entry.index, self.handedMembership))
        ready.committedMemberships.append(
            CommittedMembership(index: entry.index, membership: self.handedMembership, refusal: refusal)
        )
    }
}
