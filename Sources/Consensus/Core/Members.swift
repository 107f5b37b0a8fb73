internal import Primitives

/// The replicas of a membership as a core counts them: arrays by place, ascending by node.
struct Members: Sendable {
    static let incoming: UInt8 = 1
    static let outgoing: UInt8 = 2

    private(set) var nodes: [NodeID]
    /// In which halves the replica votes; zero for a learner.
    private(set) var halves: [UInt8]
    private(set) var incomingCount: Int
    private(set) var outgoingCount: Int
    /// The place of the own node, -1 when it is no replica.
    private(set) var ownPlace: Int
    /// The answer of each replica in the running election.
    var votes: [Bool?]
    /// Meaningful while leading.
    var progress: [Progress]
    private var scratch: [UInt64]

    init(_ membership: Membership, own: NodeID, next: LogIndex) {
        self.nodes = membership.replicas
        self.incomingCount = membership.voters.count
        self.outgoingCount = membership.outgoing.count
        self.halves = membership.replicas.map { node in
            (membership.voters.contains(node) ? Self.incoming : 0)
                | (membership.outgoing.contains(node) ? Self.outgoing : 0)
        }
        self.ownPlace = -1
        self.votes = Array(repeating: nil, count: self.nodes.count)
        self.progress = membership.sessions.map { Progress(next: next, session: $0.added) }
        self.scratch = Array(repeating: 0, count: max(self.incomingCount, self.outgoingCount))
        self.ownPlace = self.place(of: own)
    }

    /// The members of another membership; what is known of replicas of the same session is kept.
    func switched(to membership: Membership, own: NodeID, last: LogIndex) -> Members {
        var new = Members(membership, own: own, next: max(last, LogIndex(1)))
        for place in new.nodes.indices {
            let old = self.place(of: new.nodes[place])
            if old >= 0, self.progress[old].session == new.progress[place].session {
                new.progress[place] = self.progress[old]
                new.votes[place] = self.votes[old]
            } else {
                // Gives a new replica time until the next check of the majority.
                new.progress[place].isRecentlyActive = true
            }
        }
        return new
    }

    /// - Returns: -1 when `node` is no replica.
    func place(of node: NodeID) -> Int {
        for place in self.nodes.indices where self.nodes[place] == node { return place }
        return -1
    }

    func isVoter(_ place: Int) -> Bool { place >= 0 && self.halves[place] != 0 }

    // MARK: - Majorities

    /// The largest value that a majority of each half reaches; nil without voters.
    /// - Parameter byOneHalf: A deliberate mistake.
    @inline(__always)
    mutating func quorumValue(byOneHalf: Bool, _ value: (Progress) -> UInt64) -> UInt64? {
        if self.incomingCount == 0 { return nil }
        let first = self.majorityValue(Self.incoming, count: self.incomingCount, value)
        if self.outgoingCount == 0 { return first }
        let second = self.majorityValue(Self.outgoing, count: self.outgoingCount, value)
        return byOneHalf ? max(first, second) : min(first, second)
    }

    @inline(__always)
    private mutating func majorityValue(_ half: UInt8, count: Int, _ value: (Progress) -> UInt64) -> UInt64 {
        var filled = 0
        for place in self.progress.indices where self.halves[place] & half != 0 {
            // Insertion sort: a few voters, and no memory taken.
            let next = value(self.progress[place])
            var hole = filled
            while hole > 0, self.scratch[hole - 1] > next {
                self.scratch[hole] = self.scratch[hole - 1]
                hole -= 1
            }
            self.scratch[hole] = next
            filled += 1
        }
        return self.scratch[count - (count / 2 + 1)]
    }

    /// Whether a majority of each half is among those that `isIn` names.
    func isQuorum(_ isIn: (Int) -> Bool) -> Bool {
        if self.incomingCount == 0 { return false }
        var first = 0
        var second = 0
        for place in self.nodes.indices where self.halves[place] != 0 && isIn(place) {
            if self.halves[place] & Self.incoming != 0 { first += 1 }
            if self.halves[place] & Self.outgoing != 0 { second += 1 }
        }
        return first > self.incomingCount / 2 && (self.outgoingCount == 0 || second > self.outgoingCount / 2)
    }

    /// How an election stands.
    enum Outcome {
        case open
        case won
        case lost
    }

    func outcome(byOneHalf: Bool) -> Outcome {
        let first = self.outcome(of: Self.incoming, count: self.incomingCount)
        if self.outgoingCount == 0 { return first }
        let second = self.outcome(of: Self.outgoing, count: self.outgoingCount)
        if byOneHalf, first == .won || second == .won { return .won }
        if first == .lost || second == .lost { return .lost }
        return first == .won && second == .won ? .won : .open
    }

    private func outcome(of half: UInt8, count: Int) -> Outcome {
        var grants = 0
        var refusals = 0
        for place in self.votes.indices where self.halves[place] & half != 0 {
            if self.votes[place] == true { grants += 1 } else if self.votes[place] == false { refusals += 1 }
        }
        if grants > count / 2 { return .won }
        return count - refusals > count / 2 ? .open : .lost
    }
}
