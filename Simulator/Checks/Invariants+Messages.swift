internal import Consensus
internal import Primitives

// What is checked of messages when they leave, and learned when they arrive.
extension Invariants {
    /// `message` leaves its sender.
    mutating func sent(_ message: RaftMessage, group: GroupID, tick: Int) {
        let key = ReplicaKey(node: message.from, group: group)
        guard let memory = self.memories[key] else { return }
        switch message.body {
        case .voteResponse(let answer):
            guard answer.isGranted else { return }
            self.expect(self.histories[group]?.votes(message.from, for: message.to, message.term), group)
            let durable = memory.durable.hardState
            if durable.term < message.term || (durable.term == message.term && durable.vote != message.to) {
                self.violate("group \(group): node \(message.from) sends a vote before it is durable")
            }
        case .preVoteResponse(let isGranted):
            if !isGranted { self.coverage[.preVotesRefused] += 1 }
        case .appendAccepted(let acceptance):
            if memory.durable.last < acceptance.match {
                self.violate(
                    "group \(group): node \(message.from) acknowledges \(acceptance.match) with \(memory.durable.last) durable"
                )
            }
        case .appendRejected: self.coverage[.appendsRejected] += 1
        case .voteRequest(let request):
            if request.isTransfer { self.histories[group]?.transfers(to: message.from, message.term) }
        case .snapshot: self.coverage[.snapshotsOffered] += 1
        default: break
        }
    }

    /// A core decided to answer `message`, which may leave later.
    mutating func decided(_ message: RaftMessage, group: GroupID, tick: Int) {
        guard let memory = self.memories[ReplicaKey(node: message.from, group: group)] else { return }
        switch message.body {
        case .voteResponse(let answer):
            if answer.isGranted { self.checkStickiness(message, memory, group: group, tick: tick) }
        case .preVoteResponse(granted: true): self.checkStickiness(message, memory, group: group, tick: tick)
        default: break
        }
    }

    /// A voter that heard a leader within an election timeout helps nobody else to lead (Raft section 6).
    private mutating func checkStickiness(
        _ message: RaftMessage,
        _ memory: ReplicaMemory,
        group: GroupID,
        tick: Int
    ) {
        guard let heard = memory.heard, heard.term < message.term, tick - heard.tick < self.electionTicks else {
            return
        }
        // Without leases a later term, which a majority has let come, frees the voter.
        guard memory.term == heard.term || self.hasLeases else { return }
        let ballot = GroupHistory.Ballot(voter: message.to, term: message.term)
        if self.history(group).transferBallots.contains(ballot) { return }
        self.violate(
            "group \(group): node \(message.from) heard its leader \(tick - heard.tick) ticks ago and votes for \(message.to)"
        )
    }

    /// `message` arrived, and `core` is the receiver after it.
    mutating func delivered(_ message: RaftMessage, to core: RaftCore, group: GroupID, tick: Int) {
        let key = ReplicaKey(node: core.id, group: group)
        guard message.term == core.term, message.from != core.id else { return }
        if core.role == .leader { self.memories[key]?.peersHeard[message.from] = tick }
        switch message.body {
        case .append, .heartbeat, .snapshot:
            if core.leader == message.from { self.memories[key]?.heard = (tick, core.term) }
        default: break
        }
    }

    /// The replica was told to forget its leader or to campaign: it owes that leader nothing any more.
    mutating func released(_ node: NodeID, group: GroupID) {
        self.memories[ReplicaKey(node: node, group: group)]?.heard = nil
    }
}
