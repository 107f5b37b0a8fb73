internal import Consensus
internal import Primitives

/// What is remembered of one replica from step to step, over crashes too.
struct ReplicaMemory {
    var term = Term.zero
    var vote: NodeID?
    var durable = DurableLog()
    /// What was handed out to be written, durable or not yet.
    var handed = DurableLog()

    /// The replica was removed by the entry at this index and is not back.
    var removedAt: LogIndex?

    // Of the running life.
    var isAlive = false
    var role = RaftRole.follower
    var commit = LogIndex.zero
    var applied = LogIndex.zero
    var last = LogIndex.zero
    var membership: Membership
    var isAsleep = false
    /// The next entry that the state machine gets.
    var applyNext = LogIndex(1)
    /// Indices of the membership entries in its log that were handed out to be written.
    var membershipEntries: [LogIndex] = []

    /// The node's tick at which it last heard its leader, and that leader's term.
    var heard: (tick: Int, term: Term)?
    /// While leading: the node's tick at which each peer was last heard.
    var peersHeard: [NodeID: Int] = [:]
    /// The tick since which the leadership, its membership and its being awake are unchanged.
    var leadingSince = 0
    /// The transfer under way: since which tick, in which term.
    var transfer: (target: NodeID, tick: Int, term: Term)?

    init(membership: Membership) { self.membership = membership }

    mutating func crash() {
        self.isAlive = false
        self.role = .follower
        self.isAsleep = false
        self.heard = nil
        self.peersHeard = [:]
        self.transfer = nil
    }
}

extension RaftCore {
    /// The last index that the log no longer has.
    var baseIndex: LogIndex { LogIndex(self.firstIndex.rawValue - 1) }
    var baseTerm: Term { self.term(at: self.baseIndex) ?? .zero }
}
