package import Primitives

/// Raft for one replica of one group, as pure logic (Ongaro and Ousterhout 2014; Ongaro's thesis 2014).
///
/// No clock (time is ticks), no chance but the given generator, no input or output but the reads of a ``LogReader``.
/// Not thread-safe: one serial owner gives all inputs.
///
/// The caller's duties, after any inputs: take ``takeReady()`` until it is nil and, for each in order,
/// 1. write `hardState`, put `resetLog` in the place of the log, cut at `truncateFrom`, write `entries` and with them
///    `commit`, in one atomic step and in the order of tickets;
/// 2. send `sendNow` at any time;
/// 3. when the step is durable send `sendWhenPersisted` and call ``persisted(_:)``;
/// 4. apply `committed` in order and call ``applied(_:)``.
///
/// Membership takes effect when its entry is applied. That is safe because a change is proposed only when the one
/// before it is applied, no replica campaigns that knows of a committed change it has not applied, and `commit` is
/// durable with the entries that came with it: whoever holds a change's entry knows the change before it committed.
package struct RaftCore: Sendable {
    package let id: NodeID
    let configuration: RaftConfiguration
    let faults: CoreFaults

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

    // MARK: Membership

    /// As applied.
    package internal(set) var membership: Membership
    /// As of the last entry given out to be applied.
    var handedMembership: Membership
    /// Given out and not applied.
    var unappliedMemberships = Fifo<(index: LogIndex, membership: Membership)>()
    /// The last change that was given out to be applied, or what covers it.
    var lastMembershipIndex: LogIndex
    /// No change is accepted before this entry is applied.
    var pendingMembershipIndex = LogIndex.zero
    /// The replicas of `membership`, and by the same place their role, votes and progress.
    var members: Members
    var newMembership: Membership?

    // MARK: Elections

    /// Ticks that really passed; leases are counted in them.
    var now: UInt64 = 0
    var tickCount: UInt64 = 0
    var electionElapsed = 0
    /// Ticks without a leader after which this replica stands for election; drawn at each change of role.
    package internal(set) var electionTimeout = 0
    var heartbeatElapsed = 0
    /// Ticks since a leader was heard, whatever the role; only for leases.
    var contactElapsed = 0
    /// The own vote counts once this ticket is durable.
    var ownVoteTicket: UInt64?

    // MARK: Leading

    /// The first entry of this leadership.
    var firstOwnIndex = LogIndex.zero
    var beat: UInt64 = 0
    package internal(set) var transferee: NodeID?
    var transferElapsed = 0
    /// The term in which the transfer began; only a deliberate fault lets it outlive that.
    var transferTerm = Term.zero
    var mayPushCommit = false
    var reading: Reading
    /// Proposals of this leadership that are not given out to be applied.
    var proposals = Fifo<DroppedProposal>()
    /// Bytes of proposals of this leadership that are not applied.
    var unapplied = Fifo<(index: LogIndex, bytes: Int)>()
    var unappliedBytes = 0

    // MARK: Snapshots and sleep

    /// A snapshot that the caller fetches and installs.
    var installing: Installing?
    var offered: OfferedSnapshot?
    package internal(set) var isAsleep = false
    /// The life of this replica before it was removed and added again.
    let formerLife: FormerLife?
    /// The session of a later life of this replica, which makes this one obsolete.
    var supersededBy: LogIndex?
    var isSupersededReported = false
    /// Answers to earlier beats do not wake a sleeping leader.
    var sleepBeat: UInt64 = 0

    // MARK: Output

    var nextTicket: UInt64 = 1
    var handedHardState: HardState
    var sendNow: [RaftMessage] = []
    var sendWhenPersisted: [RaftMessage] = []
    var dropped: [DroppedProposal] = []
    var reportedChange: RoleChange
    var reportedAsleep = false
    package internal(set) var failure: ConsensusError?
    var isFailureReported = false

    /// Restores a replica.
    /// - Parameters:
    ///   - restored: What its disk and state machine hold; a blank membership waits for a snapshot.
    ///   - generator: Draws election timeouts and read tokens; seed it differently on each node and in each life.
    ///   - faults: For tests.
    package init(
        id: NodeID,
        configuration: RaftConfiguration,
        restored: RestoredReplica,
        reader: any LogReader,
        generator: SeededGenerator,
        faults: CoreFaults = []
    ) {
        precondition(configuration.validate() == nil, "the configuration is valid")
        let terms = restored.terms
        precondition(restored.applied >= terms.base, "the state machine has what was compacted")
        var log = RaftLog(terms: terms, reader: reader, recentBytesMax: configuration.recentBytesMax)
        let isInLog = terms.term(at: restored.applied) == restored.appliedTerm
        if !isInLog {
            // A snapshot was installed, and the crash came before the log was reset.
            let mark = SnapshotMark(
                index: restored.applied,
                term: restored.appliedTerm,
                membership: restored.membership
            )
            log.reset(to: mark)
        }
        precondition(restored.commit <= log.last || !isInLog, "what is committed is in the log")
        precondition(
            restored.hardState.term >= log.lastTerm || log.last == log.base,
            "the term is at least that of the last entry"
        )
        var generator = generator
        self.id = id
        self.configuration = configuration
        self.faults = faults
        self.formerLife = restored.formerLife
        self.log = log
        self.reading = Reading(nonce: generator.next())
        self.generator = generator
        self.hardState = restored.hardState
        if faults.contains(.voteForgottenAtRestart) { self.hardState.vote = nil }
        self.handedHardState = self.hardState
        self.commit = min(max(restored.commit, restored.applied), log.last)
        self.appliedIndex = restored.applied
        self.handedToApply = restored.applied
        self.membership = restored.membership
        self.handedMembership = restored.membership
        self.lastMembershipIndex = restored.applied
        self.members = Members(restored.membership, own: id, next: log.last.next)
        self.reportedChange = RoleChange(role: .follower, term: restored.hardState.term, leader: nil)
        // Who never had a term has not followed anybody that it could owe a lease.
        if restored.hardState.term == .zero { self.contactElapsed = configuration.electionTicks }
        self.drawElectionTimeout()
    }

    package var term: Term { self.hardState.term }
    /// The first entry that the log still has; one after the last when it is empty.
    package var firstIndex: LogIndex { self.log.base.next }
    package var lastIndex: LogIndex { self.log.last }
    package var lastTerm: Term { self.log.lastTerm }
    package var persistedIndex: LogIndex { self.log.persisted }
    /// Whether something given out to be written is not yet durable.
    package var isWriting: Bool { self.log.hasOutstanding }
    /// Whether a snapshot is being fetched or installed.
    package var isInstalling: Bool { self.installing != nil }
    /// The last entry that is known here to be committed, with its term.
    package var commitMark: (index: LogIndex, term: Term) { (self.commit, self.log.term(at: self.commit) ?? .zero) }
    package var isMember: Bool { self.members.ownPlace >= 0 }

    /// - Returns: The term of the entry at `index` or of the base, nil before and after the log.
    package func term(at index: LogIndex) -> Term? { self.log.term(at: index) }

    /// - Returns: The entry at `index`, durable or not; nil when the log does not have it or it cannot be read.
    package func entry(at index: LogIndex) -> LogEntry? {
        guard index > self.log.base, index <= self.log.last else { return nil }
        return (try? self.log.entries(from: index, through: index, bytesMax: 1))?.first
    }

    // MARK: - Inputs

    /// One tick has passed.
    ///
    /// - Parameter elapsed: The intervals that really passed since the last call, at least 1: an election waits for
    ///   ticks that were counted one by one, a lease ends by the time that passed.
    package mutating func tick(elapsed: Int = 1) {
        guard self.failure == nil else { return }
        self.now += UInt64(max(elapsed, 1))
        if self.isAsleep { return }
        self.tickCount += 1
        self.electionElapsed += 1
        if self.contactElapsed < self.configuration.electionTicks { self.contactElapsed += 1 }
        self.mayPushCommit = true
        if self.role == .leader {
            self.tickLeader()
        } else {
            self.expireForwardedReads()
            if self.electionElapsed >= self.electionTimeout { self.stand(isTransfer: false) }
        }
        self.settle()
    }

    /// Appends one entry that carries `payload`.
    ///
    /// - Parameters:
    ///   - kind: `.empty` or `.commands`.
    ///   - token: When the answer is `.accepted` it comes back exactly once, in `committedProposals` or in `dropped`.
    package mutating func propose(kind: LogEntry.Kind, payload: [UInt8], token: UInt64) -> ProposeResult {
        precondition(kind != .membership, "membership changes have an input of their own")
        guard self.role == .leader, self.failure == nil else { return .notLeader(leader: self.leader) }
        guard self.isMember else { return .notLeader(leader: nil) }
        if self.transferee != nil { return .transferring }
        self.wake()
        guard let entry = self.appendProposal(kind: kind, payload: payload, token: token) else { return .overloaded }
        self.settle()
        return .accepted(index: entry.index, term: entry.term)
    }

    /// - Returns: nil when too many bytes wait already.
    mutating func appendProposal(kind: LogEntry.Kind, payload: [UInt8], token: UInt64) -> LogEntry? {
        let entry = LogEntry(index: self.log.last.next, term: self.term, kind: kind, payload: payload)
        let bytes = entry.costBytes
        if self.unappliedBytes > 0, self.unappliedBytes + bytes > self.configuration.uncommittedBytesMax { return nil }
        self.log.append(entry)
        self.unappliedBytes += bytes
        self.unapplied.append((entry.index, bytes))
        self.proposals.append(DroppedProposal(token: token, index: entry.index, term: entry.term))
        return entry
    }

    /// Everything given out with `ticket` and before it is durable.
    package mutating func persisted(_ ticket: PersistTicket) {
        precondition(ticket.number < self.nextTicket, "the ticket was given out by this core")
        self.log.persist(ticket)
        if self.role == .candidate, let own = self.ownVoteTicket, own <= ticket.number {
            self.ownVoteTicket = nil
            self.record(vote: true, of: self.members.ownPlace)
        }
        if self.role == .leader { self.ownLogGrew() }
        self.log.trim(commit: self.commit)
        self.settle()
    }

    /// The effects of the entries up to `index` are in the state machine.
    package mutating func applied(_ index: LogIndex) {
        precondition(index <= self.handedToApply, "only what was given out is applied")
        guard index > self.appliedIndex else { return }
        self.appliedIndex = index
        self.forgetApplied()
        var latest: Membership?
        while let oldest = self.unappliedMemberships.first, oldest.index <= index {
            latest = oldest.membership
            self.unappliedMemberships.removeFirst()
        }
        if let latest { self.switchMembership(to: latest) }
        if self.role == .leader { self.leaveJointIfDue() }
        self.settle()
    }

    mutating func forgetApplied() {
        while let oldest = self.applying.first, oldest.last <= self.appliedIndex {
            self.applyingBytes -= oldest.bytes
            self.applying.removeFirst()
        }
        while let oldest = self.unapplied.first, oldest.index <= self.appliedIndex {
            self.unappliedBytes -= oldest.bytes
            self.unapplied.removeFirst()
        }
    }

    /// Messages to `peer` were lost, or its connection was.
    package mutating func unreachable(_ peer: NodeID) {
        let place = self.members.place(of: peer)
        guard self.role == .leader, place >= 0, place != self.members.ownPlace else { return }
        if self.members.progress[place].state == .replicate {
            let match = self.members.progress[place].match
            self.members.progress[place].becomeProbe(next: match.next)
            self.members.progress[place].isPaused = !self.configuration.eagerMessages
        }
    }

    /// Forgets the entries up to `index`, which must be applied; followers that lack them are offered a snapshot.
    ///
    /// The store's own copy is the caller's to remove.
    package mutating func compact(through index: LogIndex) {
        precondition(index <= self.appliedIndex, "only what is applied is compacted")
        // With `appliesUnpersisted` what is applied may not be durable yet.
        self.log.compact(through: min(index, self.log.persisted))
    }

    /// Draws no more: the wait before an election is `ticks` until the role changes.
    package mutating func setElectionTimeout(_ ticks: Int) {
        precondition(ticks > 0, "a timeout is at least one tick")
        self.electionTimeout = ticks
    }

    // MARK: - Commit

    /// Entries of this leader became durable here.
    private mutating func ownLogGrew() {
        let place = self.members.ownPlace
        guard place >= 0, self.log.persisted > self.members.progress[place].match else { return }
        self.members.progress[place].match = self.log.persisted
        self.members.progress[place].next = self.log.last.next
        self.advanceCommit()
    }

    /// Commits what a majority of each half holds, if it is of the own term (Raft section 5.4.2).
    mutating func advanceCommit() {
        let byOneHalf = self.faults.contains(.jointCommitByOneHalf)
        guard let raw = self.members.quorumValue(byOneHalf: byOneHalf, { $0.match.rawValue }) else { return }
        let candidate = LogIndex(raw)
        guard candidate > self.commit else { return }
        guard self.log.term(at: candidate) == self.term || self.faults.contains(.olderTermCommitted) else { return }
        self.commitTo(candidate)
        self.startReadsAfterOwnCommit()
    }

    mutating func commitTo(_ index: LogIndex) {
        guard index > self.commit else { return }
        precondition(index <= self.log.last, "what is committed is in the log")
        self.commit = index
        self.log.trim(commit: index)
    }

    // MARK: - Parts

    /// Draws the next wait, from the election timeout to just below twice that, later for a lower priority.
    mutating func drawElectionTimeout() {
        let base = self.configuration.electionTicks
        let later = self.configuration.electionPriority * base / 2
        self.electionTimeout = base + later + Int(self.generator.next() % UInt64(base))
    }

    mutating func fail(_ code: ConsensusError.Code, _ message: String, at index: LogIndex) {
        if self.failure == nil { self.failure = ConsensusError(code: code, message: message, index: index) }
    }

    /// Ends every input.
    mutating func settle() {
        if self.configuration.eagerMessages, self.failure == nil {
            if self.role == .leader {
                self.startReadRound()
                self.sendDueAppends()
            } else {
                self.forwardReads()
            }
        }
        self.assertInvariants()
    }

    private func assertInvariants() {
        precondition(self.log.base <= self.appliedIndex, "only what is applied is compacted")
        precondition(self.appliedIndex <= self.handedToApply, "only what was given out is applied")
        precondition(self.handedToApply <= self.commit, "only what is committed is given out")
        precondition(self.commit <= self.log.last, "what is committed is in the log")
        precondition(self.log.persisted <= self.log.last, "what is durable is in the log")
        precondition(self.log.lastTerm <= self.term || self.log.last == self.log.base, "no entry is of a later term")
        precondition(self.hardState.term >= self.handedHardState.term, "the term never goes back")
        precondition(
            self.hardState.term > self.handedHardState.term || self.handedHardState.vote == nil
                || self.hardState.vote == self.handedHardState.vote || !self.faults.isEmpty,
            "a vote is for good"
        )
        precondition(self.transferee == nil || self.role == .leader || !self.faults.isEmpty, "only a leader hands over")
        precondition(!self.isAsleep || self.role == .leader || self.role == .follower, "a candidate is awake")
    }

    /// What a leader knows of every replica, ascending by node; empty when not leading.
    package var replicas: [ReplicaProgress] {
        guard self.role == .leader else { return [] }
        return self.members.nodes.indices.map { place in
            let progress = self.members.progress[place]
            let state: ReplicaProgress.State =
                switch progress.state {
                case .probe: .probe
                case .replicate: .replicate
                case .snapshot: .snapshot
                }
            let isOwn = place == self.members.ownPlace
            return ReplicaProgress(
                node: self.members.nodes[place],
                match: progress.match,
                next: progress.next,
                state: isOwn ? .replicate : state,
                isPaused: progress.isPaused,
                pendingSnapshot: progress.pendingSnapshot == .zero ? nil : progress.pendingSnapshot,
                isRecentlyActive: isOwn || progress.isRecentlyActive || progress.wasActive,
                session: progress.session,
                isLearner: self.members.halves[place] == 0
            )
        }
    }
}
