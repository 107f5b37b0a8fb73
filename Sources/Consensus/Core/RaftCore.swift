package import Primitives

/// Raft for one replica of one group, as pure logic (Ongaro and Ousterhout 2014; Ongaro's thesis 2014).
///
/// No clock (time is ticks), no chance but the given generator, no input or output but the reads of a ``LogReader``.
/// Pre-vote, check-quorum and leader stickiness are always on. Not thread-safe: one serial owner gives all inputs.
///
/// The caller's duties, after any inputs: take ``takeReady()`` until it is nil and, for each in order,
/// 1. write `hardState`, cut at `truncateFrom`, write `entries`, in one atomic step and in the order of tickets;
/// 2. send `sendNow` at any time;
/// 3. when the step is durable send `sendWhenPersisted` and call ``persisted(_:)``;
/// 4. apply `committed` in order and call ``applied(_:)``.
///
/// Membership is fixed; a replica's identity is its node.
package struct RaftCore: Sendable {
    package let id: NodeID
    /// All replicas, ascending.
    package let voters: [NodeID]
    let configuration: RaftConfiguration
    let faults: CoreFaults
    /// The place of `id` in `voters`.
    let selfPlace: Int

    var log: RaftLog
    var generator: SeededGenerator

    package internal(set) var hardState: HardState
    package internal(set) var role = RaftRole.follower
    package internal(set) var leader: NodeID?
    package internal(set) var commit: LogIndex
    package internal(set) var appliedIndex: LogIndex
    /// The last entry given out to be applied.
    var handedToApply: LogIndex
    var applying = Fifo<(last: LogIndex, bytes: Int)>()
    var applyingBytes = 0

    var electionElapsed = 0
    var electionTimeout = 0
    var heartbeatElapsed = 0
    /// By place of the voter: its answer in the running election.
    var votes: [Bool?]
    /// The own vote counts once this ticket is durable.
    var ownVoteTicket: UInt64?
    /// By place of the voter; meaningful while leading.
    var progress: [Progress]
    private var matches: [LogIndex]

    /// Proposals of this leadership that are not given out to be applied.
    var proposals = Fifo<(index: LogIndex, token: UInt64)>()
    /// Bytes of proposals of this leadership that are not applied.
    var unapplied = Fifo<(index: LogIndex, bytes: Int)>()
    var unappliedBytes = 0

    var nextTicket: UInt64 = 1
    var handedHardState: HardState
    var sendNow: [RaftMessage] = []
    var sendWhenPersisted: [RaftMessage] = []
    var dropped: [DroppedProposal] = []
    var reportedChange: RoleChange
    var failure: ConsensusError?
    var isFailureReported = false

    /// Restores a replica.
    /// - Parameters:
    ///   - voters: All replicas of the group with `id` among them; 1 to 7.
    ///   - terms: Of the durable log.
    ///   - commit: A commit index known to be true, zero when none is.
    ///   - applied: The last entry whose effects the state machine has; committed by definition.
    ///   - generator: Draws the election timeouts; seed it differently on each node.
    ///   - faults: For tests.
    package init(
        id: NodeID,
        voters: [NodeID],
        configuration: RaftConfiguration,
        hardState: HardState = HardState(),
        terms: TermRuns = TermRuns(),
        commit: LogIndex = .zero,
        applied: LogIndex = .zero,
        reader: any LogReader,
        generator: SeededGenerator,
        faults: CoreFaults = []
    ) {
        precondition(configuration.validate() == nil, "the configuration is valid")
        let voters = Set(voters).sorted()
        guard let place = voters.firstIndex(of: id) else { preconditionFailure("a replica is one of the voters") }
        precondition(applied <= terms.last && commit <= terms.last, "what is committed is in the log")
        precondition(hardState.term >= terms.lastTerm, "the term is at least that of the last entry")
        self.id = id
        self.voters = voters
        self.selfPlace = place
        self.configuration = configuration
        self.faults = faults
        self.log = RaftLog(terms: terms, reader: reader, recentBytesMax: configuration.recentBytesMax)
        self.generator = generator
        self.hardState = hardState
        self.handedHardState = hardState
        self.commit = max(commit, applied)
        self.appliedIndex = applied
        self.handedToApply = applied
        self.votes = Array(repeating: nil, count: voters.count)
        self.progress = voters.map { _ in Progress(next: LogIndex(1)) }
        self.matches = Array(repeating: .zero, count: voters.count)
        self.reportedChange = RoleChange(role: .follower, term: hardState.term, leader: nil)
        self.drawElectionTimeout()
    }

    package var term: Term { self.hardState.term }
    package var lastIndex: LogIndex { self.log.last }
    package var lastTerm: Term { self.log.lastTerm }
    package var persistedIndex: LogIndex { self.log.persisted }
    /// Whether something given out to be written is not yet durable.
    package var isWriting: Bool { self.log.hasOutstanding }
    /// The number of replicas that make a majority.
    package var quorum: Int { self.voters.count / 2 + 1 }

    /// - Returns: The term of the entry at `index`, zero before the first, nil after the last.
    package func term(at index: LogIndex) -> Term? { self.log.term(at: index) }

    // MARK: - Inputs

    /// One tick has passed.
    package mutating func tick() {
        guard self.failure == nil else { return }
        self.electionElapsed += 1
        if self.role == .leader {
            self.heartbeatElapsed += 1
            if self.electionElapsed >= self.configuration.electionTicks {
                self.electionElapsed = 0
                self.checkQuorum()
            }
            if self.role == .leader, self.heartbeatElapsed >= self.configuration.heartbeatTicks {
                self.heartbeatElapsed = 0
                self.broadcastHeartbeat()
            }
        } else if self.electionElapsed >= self.electionTimeout {
            self.campaign()
        }
        self.assertInvariants()
    }

    /// Starts an election now, with the question whether it could be won (thesis section 9.6); a leader ignores it.
    package mutating func campaign() {
        guard self.role != .leader, self.failure == nil else { return }
        self.becomePreCandidate()
    }

    /// Appends one entry that carries `payload`.
    ///
    /// - Parameter token: When the answer is `.accepted` it comes back exactly once, in `committedProposals` or in
    ///   `dropped`.
    package mutating func propose(kind: LogEntry.Kind, payload: [UInt8], token: UInt64) -> ProposeResult {
        guard self.role == .leader, self.failure == nil else { return .notLeader(leader: self.leader) }
        let entry = LogEntry(index: self.log.last.next, term: self.term, kind: kind, payload: payload)
        let bytes = entry.costBytes
        if self.unappliedBytes > 0, self.unappliedBytes + bytes > self.configuration.uncommittedBytesMax {
            return .overloaded
        }
        self.log.append(entry)
        self.unappliedBytes += bytes
        self.unapplied.append((entry.index, bytes))
        self.proposals.append((entry.index, token))
        return .accepted(index: entry.index, term: entry.term)
    }

    /// Everything given out with `ticket` and before it is durable.
    package mutating func persisted(_ ticket: PersistTicket) {
        precondition(ticket.number < self.nextTicket, "the ticket was given out by this core")
        self.log.persist(ticket)
        if self.role == .candidate, let own = self.ownVoteTicket, own <= ticket.number {
            self.ownVoteTicket = nil
            self.record(vote: true, of: self.selfPlace)
        }
        if self.role == .leader { self.ownLogGrew() }
        self.log.trim(commit: self.commit)
        self.assertInvariants()
    }

    /// The effects of the entries up to `index` are in the state machine.
    package mutating func applied(_ index: LogIndex) {
        precondition(index <= self.handedToApply, "only what was given out is applied")
        guard index > self.appliedIndex else { return }
        self.appliedIndex = index
        while let oldest = self.applying.first, oldest.last <= index {
            self.applyingBytes -= oldest.bytes
            self.applying.removeFirst()
        }
        while let oldest = self.unapplied.first, oldest.index <= index {
            self.unappliedBytes -= oldest.bytes
            self.unapplied.removeFirst()
        }
    }

    /// Messages to `peer` were lost, or its connection was.
    package mutating func unreachable(_ peer: NodeID) {
        guard self.role == .leader, let place = self.place(of: peer), place != self.selfPlace else { return }
        if self.progress[place].state == .replicate {
            self.progress[place].becomeProbe(next: self.progress[place].match.next)
            self.progress[place].isPaused = true
        }
    }

    // MARK: - Output

    /// - Returns: What is to be done now, or nil when nothing is.
    package mutating func takeReady() -> Ready? {
        if self.role == .leader, self.failure == nil { self.sendDueAppends() }
        var ready = Ready()
        if self.failure == nil { self.collectCommitted(into: &ready) }
        self.collectWrites(into: &ready)
        ready.sendNow = self.sendNow
        self.sendNow = []
        ready.dropped = self.dropped
        self.dropped = []
        ready.commit = self.commit
        let change = RoleChange(role: self.role, term: self.term, leader: self.leader)
        if change != self.reportedChange {
            self.reportedChange = change
            ready.roleChange = change
        }
        if !self.isFailureReported, let failure = self.failure {
            self.isFailureReported = true
            ready.failure = failure
        }
        let isEmpty =
            ready.ticket == nil && ready.sendNow.isEmpty && ready.committed.isEmpty && ready.dropped.isEmpty
            && ready.roleChange == nil && ready.failure == nil
        return isEmpty ? nil : ready
    }

    private mutating func collectWrites(into ready: inout Ready) {
        if self.hardState != self.handedHardState {
            precondition(self.hardState.term >= self.handedHardState.term, "the term never goes back")
            self.handedHardState = self.hardState
            ready.hardState = self.hardState
        }
        let mustWrite = ready.hardState != nil || self.log.hasUnhanded
        if !mustWrite && (self.sendWhenPersisted.isEmpty || !self.log.hasOutstanding) {
            // Everything these messages promise is durable already.
            self.sendNow.append(contentsOf: self.sendWhenPersisted)
            self.sendWhenPersisted.removeAll(keepingCapacity: true)
            return
        }
        let number = self.nextTicket
        self.nextTicket += 1
        (ready.truncateFrom, ready.entries) = self.log.hand(ticket: number)
        ready.ticket = PersistTicket(number: number, index: self.log.last, term: self.log.lastTerm)
        if self.faults.contains(.promisesBeforeDisk) {
            self.sendNow.append(contentsOf: self.sendWhenPersisted)
        } else {
            ready.sendWhenPersisted = self.sendWhenPersisted
        }
        self.sendWhenPersisted = []
        if self.faults.contains(.ownAckBeforeDisk), self.role == .leader {
            self.progress[self.selfPlace].match = self.log.last
            self.advanceCommit()
        }
    }

    private mutating func collectCommitted(into ready: inout Ready) {
        let end = min(self.commit, self.log.persisted)
        while self.handedToApply < end, self.applyingBytes < self.configuration.applyBacklogBytesMax {
            do throws(ConsensusError) {
                let found = try self.log.entries(
                    from: self.handedToApply.next,
                    through: end,
                    bytesMax: self.configuration.messageBytesMax
                )
                guard let last = found.last else { return }
                var bytes = 0
                for entry in found { bytes += entry.costBytes }
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
            ready.committedProposals.append(oldest)
            self.proposals.removeFirst()
        }
    }

    // MARK: - Commit

    /// Entries of this leader became durable here.
    private mutating func ownLogGrew() {
        guard self.log.persisted > self.progress[self.selfPlace].match else { return }
        self.progress[self.selfPlace].match = self.log.persisted
        self.advanceCommit()
    }

    /// Commits what a majority holds, if it is of the own term (Raft section 5.4.2).
    mutating func advanceCommit() {
        for place in self.matches.indices {
            // Insertion sort: at most seven voters, and no memory taken.
            let match = self.progress[place].match
            var hole = place
            while hole > 0, self.matches[hole - 1] > match {
                self.matches[hole] = self.matches[hole - 1]
                hole -= 1
            }
            self.matches[hole] = match
        }
        let candidate = self.matches[self.voters.count - self.quorum]
        guard candidate > self.commit else { return }
        guard self.log.term(at: candidate) == self.term || self.faults.contains(.olderTermCommitted) else { return }
        self.commitTo(candidate)
    }

    mutating func commitTo(_ index: LogIndex) {
        guard index > self.commit else { return }
        precondition(index <= self.log.last, "what is committed is in the log")
        self.commit = index
        self.log.trim(commit: index)
    }

    // MARK: - Parts

    func place(of node: NodeID) -> Int? {
        for place in self.voters.indices where self.voters[place] == node { return place }
        return nil
    }

    mutating func drawElectionTimeout() {
        let base = self.configuration.electionTicks
        self.electionTimeout = base + Int(self.generator.next() % UInt64(base))
    }

    mutating func fail(_ code: ConsensusError.Code, _ message: String, at index: LogIndex) {
        if self.failure == nil { self.failure = ConsensusError(code: code, message: message, index: index) }
    }

    func assertInvariants() {
        precondition(self.appliedIndex <= self.handedToApply, "only what was given out is applied")
        precondition(self.handedToApply <= self.commit, "only what is committed is given out")
        precondition(self.commit <= self.log.last, "what is committed is in the log")
        precondition(self.log.persisted <= self.log.last, "what is durable is in the log")
        precondition(self.log.lastTerm <= self.term, "no entry is of a later term")
    }

    /// What a leader knows of every replica, in the order of `voters`; empty when not leading.
    package var replicas: [GroupStatus.Replica] {
        guard self.role == .leader else { return [] }
        return self.voters.indices.map { place in
            let match = self.progress[place].match
            return GroupStatus.Replica(
                node: self.voters[place],
                match: match,
                isRecentlyActive: place == self.selfPlace || self.progress[place].isRecentlyActive,
                lag: self.log.last.rawValue - match.rawValue
            )
        }
    }

    /// The state of the replica as that of `group`.
    package func status(of group: GroupID) -> GroupStatus {
        GroupStatus(
            group: group,
            role: self.role,
            leader: self.leader,
            term: self.term,
            commit: self.commit,
            applied: self.appliedIndex,
            last: self.log.last,
            voters: self.voters,
            replicas: self.replicas
        )
    }
}
