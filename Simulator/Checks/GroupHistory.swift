internal import Consensus
internal import Primitives

/// Everything that a group has ever been, which no later event may contradict.
struct GroupHistory {
    struct Place: Hashable {
        let index: LogIndex
        let term: Term
    }

    struct Ballot: Hashable {
        let voter: NodeID
        let term: Term
    }

    /// What index and term of an entry determine.
    struct EntryFact: Equatable {
        let kind: LogEntry.Kind
        let payload: [UInt8]
        let termBefore: Term
    }

    struct CommittedFact {
        let term: Term
        /// The term of the leader that counted it.
        let committerTerm: Term
    }

    let group: GroupID
    private(set) var leaders: [Term: NodeID] = [:]
    private(set) var votes: [Ballot: NodeID] = [:]
    private var entries: [Place: EntryFact] = [:]
    /// By index, from 1.
    private(set) var committed: [CommittedFact] = []
    /// After each committed change; the first one holds from the beginning.
    private(set) var memberships: [(index: LogIndex, membership: Membership)]
    /// Requests for votes whose sender was told to take over.
    private(set) var transferBallots: Set<Ballot> = []

    init(group: GroupID, membership: Membership) {
        self.group = group
        self.memberships = [(.zero, membership)]
    }

    var commit: LogIndex { LogIndex(UInt64(self.committed.count)) }

    func fact(_ index: LogIndex, _ term: Term) -> EntryFact? { self.entries[Place(index: index, term: term)] }

    func committedTerm(_ index: LogIndex) -> Term? {
        if index == .zero { return .zero }
        return index <= self.commit ? self.committed[Int(index.rawValue) - 1].term : nil
    }

    /// The membership once everything up to `index` is applied.
    func membership(at index: LogIndex) -> Membership {
        self.memberships.last { $0.index <= index }?.membership ?? self.memberships[0].membership
    }

    // MARK: - Learning; each returns what is wrong, or nil

    mutating func leads(_ node: NodeID, _ term: Term) -> String? {
        if let known = self.leaders[term] {
            return known == node ? nil : "election safety: term \(term) has leaders \(known) and \(node)"
        }
        self.leaders[term] = node
        return nil
    }

    mutating func votes(_ voter: NodeID, for candidate: NodeID, _ term: Term) -> String? {
        let ballot = Ballot(voter: voter, term: term)
        if let known = self.votes[ballot] {
            return known == candidate ? nil : "node \(voter) voted for \(known) and \(candidate) in term \(term)"
        }
        self.votes[ballot] = candidate
        return nil
    }

    mutating func transfers(to candidate: NodeID, _ term: Term) {
        self.transferBallots.insert(Ballot(voter: candidate, term: term))
    }

    mutating func writes(_ entry: LogEntry, termBefore: Term, node: NodeID) -> String? {
        let place = Place(index: entry.index, term: entry.term)
        let fact = EntryFact(kind: entry.kind, payload: entry.payload, termBefore: termBefore)
        if let known = self.entries[place] {
            return known == fact
                ? nil : "log matching: node \(node) has another entry \(entry.index) of term \(entry.term)"
        }
        self.entries[place] = fact
        return nil
    }

    /// The next entry is committed.
    mutating func commits(_ term: Term, committerTerm: Term) -> String? {
        self.committed.append(CommittedFact(term: term, committerTerm: committerTerm))
        guard let fact = self.fact(self.commit, term) else {
            return "entry \(self.commit) of term \(term) is committed but was never written"
        }
        guard fact.kind == .membership else { return nil }
        let before = self.memberships[self.memberships.count - 1].membership
        do {
            let change = try MembershipChange(bytes: fact.payload)
            let after = try before.applying(change, at: self.commit)
            self.memberships.append((self.commit, after))
            return Self.intersects(before, after)
                ? nil : "membership \(self.commit) has a quorum without the one before"
        } catch is MembershipError {
            // Refused, the same on every replica: nothing changes.
            return nil
        } catch {
            return "the committed membership change \(self.commit) cannot be read"
        }
    }

    /// Whether every quorum of one configuration shares a node with every quorum of the next.
    static func intersects(_ before: Membership, _ after: Membership) -> Bool {
        if before.isJoint { return !after.isJoint && after.voters == before.voters || after == before }
        if after.isJoint { return after.outgoing == before.voters }
        let left = Set(before.voters)
        let right = Set(after.voters)
        return left.symmetricDifference(right).count <= 1
    }
}

extension Membership {
    /// Whether the replicas for which `holds` is true are a quorum of each half.
    func isQuorum(_ holds: (NodeID) -> Bool) -> Bool {
        Self.isMajority(of: self.voters, holds) && Self.isMajority(of: self.outgoing, holds)
    }

    /// An empty half asks nothing of anybody.
    private static func isMajority(of voters: [NodeID], _ holds: (NodeID) -> Bool) -> Bool {
        voters.isEmpty || voters.count(where: holds) * 2 > voters.count
    }
}
