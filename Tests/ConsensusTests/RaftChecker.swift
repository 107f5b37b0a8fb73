internal import Consensus
internal import Primitives
internal import Synchronization

/// Remembers everything that must never change, and says what was broken.
struct RaftChecker {
    struct Place: Hashable {
        let index: LogIndex
        let term: Term
    }

    struct Grant: Hashable {
        let voter: NodeID
        let term: Term
    }

    private(set) var violations: [String] = []
    private var leaders: [Term: NodeID] = [:]
    /// Log matching: index and term fix the payload and the term before.
    private var entries: [Place: (payload: [UInt8], before: Term)] = [:]
    /// By index, from 1.
    private(set) var committed: [Term] = []
    /// The highest term in which each of them was known to be committed.
    private var committedIn: [Term] = []
    private var votes: [Grant: NodeID] = [:]
    private var memberships: [LogIndex: Membership] = [:]

    mutating func violate(_ text: String) {
        if self.violations.count < 20, !self.violations.contains(text) { self.violations.append(text) }
    }

    mutating func appended(_ appended: [LogEntry], by node: VirtualNode) {
        for entry in appended {
            let place = Place(index: entry.index, term: entry.term)
            // The entry before may be compacted away already.
            guard let before = node.core?.term(at: LogIndex(entry.index.rawValue - 1)) else { continue }
            if let known = self.entries[place] {
                if known.payload != entry.payload || known.before != before {
                    self.violate("log matching: node \(node.id) has another entry \(entry.index) of term \(entry.term)")
                }
            } else {
                self.entries[place] = (entry.payload, before)
            }
        }
    }

    mutating func check(
        _ node: VirtualNode,
        _ core: RaftCore,
        commitBefore: LogIndex,
        nodes: [NodeID: VirtualNode]
    ) {
        if core.role == .leader { self.checkLeader(node, core, nodes) }
        if core.commit > commitBefore { self.commitMoved(node, core, from: commitBefore, nodes) }
        if core.isLeaseHeld {
            for other in nodes.values where other.id != node.id && other.core?.isLeaseHeld == true {
                self.violate("leases of \(node.id) and \(other.id) overlap")
            }
        }
    }

    private mutating func checkLeader(_ node: VirtualNode, _ core: RaftCore, _ nodes: [NodeID: VirtualNode]) {
        if let known = self.leaders[core.term] {
            if known != node.id {
                self.violate("election safety: term \(core.term) has leaders \(known) and \(node.id)")
            }
        } else {
            self.leaders[core.term] = node.id
            for (offset, term) in self.committed.enumerated() {
                let index = LogIndex(UInt64(offset) + 1)
                if index < core.firstIndex || self.committedIn[offset] >= core.term { continue }
                if core.term(at: index) == term { continue }
                self.violate("leader completeness: leader \(node.id) of term \(core.term) lacks entry \(index)")
                break
            }
        }
        var unapplied = 0
        var index = max(core.appliedIndex.next, core.firstIndex)
        while index <= core.lastIndex {
            if core.entry(at: index)?.kind == .membership { unapplied += 1 }
            index = index.next
        }
        if unapplied > 1 { self.violate("leader \(node.id) has \(unapplied) unapplied membership changes") }
        for replica in core.replicas { self.checkMatch(replica, node, core, nodes) }
    }

    private mutating func checkMatch(
        _ replica: ReplicaProgress,
        _ node: VirtualNode,
        _ core: RaftCore,
        _ nodes: [NodeID: VirtualNode]
    ) {
        guard let term = core.term(at: replica.match), let other = nodes[replica.node] else { return }
        // A later leader may have cut what this one has not heard of.
        if other.lastTerm > core.term { return }
        // The replica was removed, which this leader does not know, or is of another life.
        if other.removedAt != nil { return }
        if replica.session < max(other.session, other.membership.session(of: other.id) ?? .zero) { return }
        if !other.disk.holds(replica.match, term) {
            self.violate("leader \(node.id) counts entry \(replica.match), which \(replica.node) does not hold")
        }
    }

    private mutating func commitMoved(
        _ node: VirtualNode,
        _ core: RaftCore,
        from: LogIndex,
        _ nodes: [NodeID: VirtualNode]
    ) {
        if core.role == .leader, core.commit.rawValue > UInt64(self.committed.count),
            core.term(at: core.commit) != core.term
        {
            self.violate(
                "commit rule: leader \(node.id) of term \(core.term) committed entry \(core.commit) by counting"
            )
        }
        for raw in from.next.rawValue...core.commit.rawValue {
            guard let term = core.term(at: LogIndex(raw)) else { continue }
            if raw <= UInt64(self.committed.count) {
                if self.committed[Int(raw) - 1] != term {
                    self.violate("a committed entry changed: \(raw) on node \(node.id)")
                    return
                }
            } else {
                self.committed.append(term)
                self.committedIn.append(core.term)
                self.checkHolders(raw, term, core.membership, nodes)
            }
        }
    }

    private mutating func checkHolders(
        _ raw: UInt64,
        _ term: Term,
        _ membership: Membership,
        _ nodes: [NodeID: VirtualNode]
    ) {
        for half in [membership.voters, membership.outgoing] where !half.isEmpty {
            // Who was removed held it before, and is gone for good like one that crashed for ever.
            let holders = half.filter { id in
                nodes[id]?.removedAt != nil || nodes[id]?.disk.holds(LogIndex(raw), term) == true
            }.count
            if holders <= half.count / 2 {
                self.violate("entry \(raw) is committed but durable on \(holders) of \(half.count) only")
            }
        }
    }

    mutating func applied(_ entries: [LogEntry], by node: VirtualNode) {
        var next = (node.applied.last?.index ?? .zero).next
        for entry in entries {
            if entry.index != next { self.violate("node \(node.id) applies \(entry.index) instead of \(next)") }
            next = next.next
            let place = Int(entry.index.rawValue) - 1
            if place >= self.committed.count || self.committed[place] != entry.term {
                self.violate("node \(node.id) applies entry \(entry.index), which is not committed")
            }
            if let known = self.entries[Place(index: entry.index, term: entry.term)], known.payload != entry.payload {
                self.violate("node \(node.id) applies another entry \(entry.index)")
            }
            if !node.disk.holds(entry.index, entry.term) {
                self.violate("node \(node.id) applies entry \(entry.index) before it is durable")
            }
        }
    }

    /// A group that sleeps has no work, and equal logs on all live members.
    mutating func slept(_ node: VirtualNode, live: [VirtualNode]) {
        guard let core = node.core else { return }
        if core.appliedIndex != core.lastIndex { self.violate("leader \(node.id) sleeps with work") }
        for other in live where core.membership.contains(other.id) {
            if let last = other.core?.lastIndex, last < core.lastIndex {
                self.violate("leader \(node.id) sleeps, and node \(other.id) lacks entries")
            }
        }
    }

    mutating func applied(_ item: CommittedMembership, by node: VirtualNode) {
        if let known = self.memberships[item.index], known != item.membership {
            self.violate("membership \(item.index) differs on node \(node.id)")
        }
        self.memberships[item.index] = item.membership
    }

    mutating func sent(_ message: RaftMessage, by node: VirtualNode) {
        switch message.body {
        case .voteResponse(let answer) where answer.isGranted:
            self.voted(message.to, voter: message.from, term: message.term)
            let durable = node.disk.state.withLock { $0.hardState }
            if durable.term < message.term || (durable.term == message.term && durable.vote != message.to) {
                self.violate("node \(node.id) sent a vote before it was durable")
            }
        case .appendAccepted(let acceptance):
            let durable = node.disk.state.withLock { max($0.last, $0.appliedIndex) }
            if durable < acceptance.match {
                self.violate("node \(node.id) acknowledged \(acceptance.match) with \(durable) durable")
            }
        default: break
        }
    }

    mutating func voted(_ candidate: NodeID, voter: NodeID, term: Term) {
        let grant = Grant(voter: voter, term: term)
        if let known = self.votes[grant], known != candidate {
            self.violate("node \(voter) voted for \(known) and \(candidate) in term \(term)")
        }
        self.votes[grant] = candidate
    }
}
