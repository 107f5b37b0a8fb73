internal import Primitives

/// The reads of a core that wait for their index, and its lease.
struct Reading: Sendable {
    /// A read that waits; `from` is nil for one of this node.
    struct Question: Sendable {
        let token: UInt64
        let from: NodeID?
    }

    /// Reads that the answers to one beat confirm.
    struct Round: Sendable {
        let beat: UInt64
        let index: LogIndex
        let questions: [Question]
    }

    /// Reads that were sent to the leader under one token, and the tick at which they are given up.
    struct Forwarded: Sendable {
        let token: UInt64
        let tokens: [UInt64]
        let deadline: UInt64
    }

    /// Not yet in a round, or not yet forwarded.
    var waiting: [Question] = []
    var rounds = Fifo<Round>()
    var forwarded: [Forwarded] = []
    /// Reads in rounds and forwarded.
    var underWayCount = 0
    var granted: [ReadGrant] = []
    var dropped: [UInt64] = []
    /// Of the next forwarded read: never the same again, so that a late answer is not taken for that to another.
    private var nextToken: UInt64
    /// When each beat began that is not confirmed; one for a tick.
    private var beats = Fifo<(beat: UInt64, time: UInt64)>()
    /// When the last confirmed beat began.
    private(set) var leaseStart: UInt64?
    /// Another replica may have been told to stand for election although voters hear this leader.
    var isLeaseForfeited = false

    init(nonce: UInt64) { self.nextToken = nonce }

    var count: Int { self.waiting.count + self.underWayCount }

    mutating func makeToken() -> UInt64 {
        defer { self.nextToken &+= 1 }
        return self.nextToken
    }

    mutating func beginLeading(_ beat: UInt64, now: UInt64) {
        self.endLease()
        self.isLeaseForfeited = false
        self.beats.append((beat, now))
    }

    mutating func endLease() {
        self.leaseStart = nil
        self.beats.removeAll()
    }

    mutating func began(_ beat: UInt64, now: UInt64, max: Int) {
        if self.beats.last?.time == now { return }
        self.beats.append((beat, now))
        if self.beats.count > max { self.beats.removeFirst() }
    }

    mutating func confirmed(_ beat: UInt64) {
        while let oldest = self.beats.first, oldest.beat <= beat {
            precondition(oldest.time >= self.leaseStart ?? 0, "a lease never goes back")
            self.leaseStart = oldest.time
            self.beats.removeFirst()
        }
    }
}

// Linearizable reads: the commit index, confirmed by a round of heartbeats (thesis section 6.4) or by a lease (6.4.1).
extension RaftCore {
    /// Asks for an index at which a linearizable read may be served, of the leader if this replica is not it.
    ///
    /// - Parameter token: Comes back exactly once, in `reads` or in `droppedReads`: at the latest when leadership is
    ///   lost, or when the leader did not answer within the election timeout.
    package mutating func readIndex(token: UInt64) {
        let isAnswerable = self.role == .leader || (self.role == .follower && self.leader != nil)
        guard self.failure == nil, isAnswerable, self.reading.count < self.configuration.readsWaitingMax else {
            self.reading.dropped.append(token)
            return
        }
        self.wake()
        self.ask(Reading.Question(token: token, from: nil))
        self.settle()
    }

    mutating func handleReadRequest(_ token: UInt64, from peer: NodeID) {
        guard self.role == .leader, self.reading.count < self.configuration.readsWaitingMax else {
            self.send(to: peer, term: self.term, .readResponse(token: token, index: nil))
            return
        }
        self.ask(Reading.Question(token: token, from: peer))
    }

    private mutating func ask(_ question: Reading.Question) {
        if self.isLeaseHeld {
            self.answer(question, index: self.commit)
        } else {
            self.reading.waiting.append(question)
        }
    }

    private mutating func answer(_ question: Reading.Question, index: LogIndex?) {
        if let peer = question.from {
            self.send(to: peer, term: self.term, .readResponse(token: question.token, index: index))
        } else if let index {
            self.reading.granted.append(ReadGrant(token: question.token, index: index))
        } else if !self.faults.contains(.droppedReadsForgotten) {
            self.reading.dropped.append(question.token)
        }
    }

    // MARK: - Leading

    /// Whether an entry of the own term is committed: before it, entries of earlier leaders may be committed that this
    /// one does not know to be so (thesis section 6.4).
    private var isReadable: Bool {
        self.commit >= self.firstOwnIndex || self.faults.contains(.readBeforeOwnTermCommit)
    }

    /// Whether no other leader can have been elected since the last confirmed beat began.
    ///
    /// Voters are true to this leader for `electionTicks` of their ticks after a beat reached them.
    package var isLeaseHeld: Bool {
        guard self.configuration.leaseReads, self.role == .leader, self.isReadable, self.transferee == nil,
            !self.reading.isLeaseForfeited, let start = self.reading.leaseStart
        else { return false }
        return start + UInt64(self.configuration.electionTicks - self.configuration.leaseDriftTicks) > self.now
    }

    /// Begins a beat; all reads that wait share its confirmation.
    mutating func beginBeat() {
        self.beat += 1
        if self.configuration.leaseReads {
            self.reading.began(self.beat, now: self.now, max: self.configuration.electionTicks)
        }
        if self.reading.waiting.isEmpty || !self.isReadable { return }
        let questions = self.reading.waiting
        self.reading.waiting = []
        self.reading.underWayCount += questions.count
        self.reading.rounds.append(Reading.Round(beat: self.beat, index: self.commit, questions: questions))
        // A majority of one needs no answers.
        self.confirmReads()
    }

    /// Begins a round of heartbeats for the reads that wait, unless enough rounds are under way.
    mutating func startReadRound() {
        guard !self.reading.waiting.isEmpty, self.isReadable,
            self.reading.rounds.count < self.configuration.readRoundsMax
        else { return }
        self.beginBeat()
        if !self.reading.rounds.isEmpty { self.broadcastHeartbeat() }
    }

    /// Reads that came before the first commit of the term can go on now.
    mutating func startReadsAfterOwnCommit() {
        if self.role == .leader, !self.reading.waiting.isEmpty, self.configuration.eagerMessages {
            self.startReadRound()
        }
    }

    /// Answers the reads whose beat a majority of each half has answered.
    mutating func confirmReads() {
        guard self.role == .leader, !self.reading.rounds.isEmpty || self.configuration.leaseReads else { return }
        if self.isMember { self.members.progress[self.members.ownPlace].ackedBeat = self.beat }
        guard let confirmed = self.confirmedBeat() else { return }
        if self.configuration.leaseReads { self.reading.confirmed(confirmed) }
        while let round = self.reading.rounds.first, round.beat <= confirmed {
            self.reading.rounds.removeFirst()
            self.reading.underWayCount -= round.questions.count
            for question in round.questions { self.answer(question, index: round.index) }
        }
    }

    private mutating func confirmedBeat() -> UInt64? {
        if self.faults.contains(.readConfirmedByOneAck), self.members.nodes.count > 1 {
            var best: UInt64 = 0
            for place in self.members.nodes.indices where place != self.members.ownPlace {
                best = max(best, self.members.progress[place].ackedBeat)
            }
            return best
        }
        return self.members.quorumValue(byOneHalf: false) { $0.ackedBeat }
    }

    // MARK: - Following

    /// Sends the reads that wait to the leader, under one token.
    mutating func forwardReads() {
        if self.reading.waiting.isEmpty { return }
        guard self.role == .follower, let leader = self.leader else {
            self.dropReads()
            return
        }
        let token = self.reading.makeToken()
        let tokens = self.reading.waiting.map(\.token)
        self.reading.waiting.removeAll(keepingCapacity: true)
        self.reading.underWayCount += tokens.count
        let deadline = self.tickCount + UInt64(self.configuration.electionTicks)
        self.reading.forwarded.append(Reading.Forwarded(token: token, tokens: tokens, deadline: deadline))
        self.send(to: leader, term: self.term, .readRequest(token: token))
    }

    mutating func handleReadResponse(_ token: UInt64, index: LogIndex?, from peer: NodeID) {
        guard self.role == .follower, self.leader == peer,
            let place = self.reading.forwarded.firstIndex(where: { $0.token == token })
        else { return }
        let forwarded = self.reading.forwarded.remove(at: place)
        self.reading.underWayCount -= forwarded.tokens.count
        for token in forwarded.tokens { self.answer(Reading.Question(token: token, from: nil), index: index) }
    }

    /// Gives up what the leader did not answer within the election timeout.
    mutating func expireForwardedReads() {
        while let oldest = self.reading.forwarded.first, oldest.deadline <= self.tickCount {
            self.reading.forwarded.removeFirst()
            self.reading.underWayCount -= oldest.tokens.count
            for token in oldest.tokens { self.answer(Reading.Question(token: token, from: nil), index: nil) }
        }
    }

    /// Answers every read at once that this replica can no longer get an index for.
    mutating func dropReads() {
        self.reading.endLease()
        if self.reading.count == 0 { return }
        let waiting = self.reading.waiting
        self.reading.waiting = []
        while let round = self.reading.rounds.first {
            self.reading.rounds.removeFirst()
            for question in round.questions { self.answer(question, index: nil) }
        }
        for forwarded in self.reading.forwarded {
            for token in forwarded.tokens { self.answer(Reading.Question(token: token, from: nil), index: nil) }
        }
        self.reading.forwarded = []
        self.reading.underWayCount = 0
        for question in waiting { self.answer(question, index: nil) }
    }
}
