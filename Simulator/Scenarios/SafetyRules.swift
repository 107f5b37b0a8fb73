internal import Consensus
internal import Primitives

/// What must hold after every command of every scenario, with memory of all that was seen before.
struct SafetyRules: Sendable {
    /// Which rule broke.
    enum Rule: String, Sendable, Hashable, CaseIterable {
        /// At most one leader a term.
        case electionSafety = "one leader a term"
        /// A replica gives one vote a term.
        case oneVote = "one vote a term"
        /// What was committed once, anywhere, never changes.
        case committedForEver = "committed entries never change"
        /// Logs that agree on an entry agree on all before it.
        case logMatching = "log matching"
        /// Equal applied index, equal state.
        case stateMachine = "equal state machines"
        /// The term never goes back, but to the disk's at a restart.
        case termMonotone = "term never goes back"
        case commitMonotone = "commit never goes back"
        case appliedMonotone = "applied never goes back"
        /// No promise leaves before what it promises is on disk.
        case promiseOnDisk = "promises are on disk"
        /// A read gives at least what was committed when it began.
        case freshRead = "reads see what was committed before"
        /// The core itself refuses to go on.
        case coreFailure = "the core stopped"
    }

    /// One broken rule.
    struct Breach: Sendable, Hashable, CustomStringConvertible {
        let rule: Rule
        let details: String

        var description: String { "safety: \(self.rule.rawValue): \(self.details)" }
    }

    private struct Committed: Sendable, Hashable {
        let term: Term
        let kind: LogEntry.Kind
        let payload: [UInt8]

        init(_ entry: LogEntry) {
            self.term = entry.term
            self.kind = entry.kind
            self.payload = entry.payload
        }
    }

    private struct Ballot: Hashable {
        let voter: NodeID
        let term: Term
    }

    private struct Seen {
        var life: UInt64
        var term: Term
        var commit: LogIndex
        var applied: LogIndex
    }

    private var leaders: [Term: NodeID] = [:]
    private var votes: [Ballot: NodeID] = [:]
    private var committed: [LogIndex: Committed] = [:]
    private var states: [LogIndex: String] = [:]
    private var seen: [NodeID: Seen] = [:]
    /// The largest index that any node ever committed.
    private(set) var commitMax = LogIndex.zero

    init() {}

    /// Looks at all nodes and remembers what must not change.
    mutating func check(_ nodes: [VirtualNode]) -> [Breach] {
        var breaches: [Breach] = []
        for node in nodes {
            self.checkLeader(node, &breaches)
            self.checkProgress(node, &breaches)
            self.checkCommitted(node, &breaches)
            self.checkState(node, &breaches)
        }
        for place in nodes.indices {
            for other in nodes.indices where other > place {
                self.checkLogs(nodes[place], nodes[other], &breaches)
            }
        }
        return breaches
    }

    /// Looks at a message that its sender just sent.
    mutating func check(_ flight: Flight, of sender: VirtualNode) -> Breach? {
        guard case .message(let message, _) = flight.cargo, message.from == sender.id else { return nil }
        let disk = sender.disk.contents
        switch message.body {
        case .voteResponse(let answer) where answer.isGranted:
            let ballot = Ballot(voter: sender.id, term: message.term)
            if let earlier = self.votes[ballot], earlier != message.to {
                let details = "\(sender.id) voted for \(earlier) and \(message.to) in term \(message.term)"
                return Breach(rule: .oneVote, details: details)
            }
            self.votes[ballot] = message.to
            let isOnDisk =
                disk.hardState.term > message.term
                || (disk.hardState.term == message.term && disk.hardState.vote == message.to)
            if isOnDisk { return nil }
            return Breach(rule: .promiseOnDisk, details: "the vote of \(sender.id) in term \(message.term)")
        case .appendAccepted(let acceptance):
            if acceptance.match <= disk.last || acceptance.match <= sender.machine.applied { return nil }
            let details = "\(sender.id) acknowledged \(acceptance.match), its disk ends at \(disk.last)"
            return Breach(rule: .promiseOnDisk, details: details)
        default: return nil
        }
    }

    /// Looks at an answered read.
    func check(read index: LogIndex, began least: LogIndex, of node: NodeID) -> Breach? {
        if index >= least { return nil }
        return Breach(rule: .freshRead, details: "\(node) read at \(index), \(least) was committed when the read began")
    }

    private mutating func checkLeader(_ node: VirtualNode, _ breaches: inout [Breach]) {
        guard node.core.role == .leader else { return }
        if let earlier = self.leaders[node.core.term], earlier != node.id {
            let details = "\(earlier) and \(node.id) lead in term \(node.core.term)"
            breaches.append(Breach(rule: .electionSafety, details: details))
        } else {
            self.leaders[node.core.term] = node.id
        }
    }

    private mutating func checkProgress(_ node: VirtualNode, _ breaches: inout [Breach]) {
        let core = node.core
        func breach(_ rule: Rule, _ before: String, _ after: String) {
            breaches.append(Breach(rule: rule, details: "\(node.id) went from \(before) to \(after)"))
        }
        if let before = self.seen[node.id], before.life == node.life {
            if core.term < before.term { breach(.termMonotone, "\(before.term)", "\(core.term)") }
            if core.commit < before.commit { breach(.commitMonotone, "\(before.commit)", "\(core.commit)") }
            if node.machine.applied < before.applied {
                breach(.appliedMonotone, "\(before.applied)", "\(node.machine.applied)")
            }
        }
        self.seen[node.id] = Seen(
            life: node.life,
            term: core.term,
            commit: core.commit,
            applied: node.machine.applied
        )
        if let vote = core.hardState.vote {
            let ballot = Ballot(voter: node.id, term: core.term)
            // A vote in memory binds only once it is sent, or on disk.
            if let earlier = self.votes[ballot], earlier != vote {
                let details = "\(node.id) turned from \(earlier) to \(vote) in term \(core.term)"
                breaches.append(Breach(rule: .oneVote, details: details))
            }
            let disk = node.disk.contents.hardState
            if disk.term == core.term, disk.vote == vote { self.votes[ballot] = vote }
        }
    }

    private mutating func checkCommitted(_ node: VirtualNode, _ breaches: inout [Breach]) {
        var index = node.core.firstIndex
        while index <= node.core.commit {
            defer { index = index.next }
            guard let entry = node.entry(at: index) else { continue }
            let found = Committed(entry)
            guard let before = self.committed[index] else {
                self.committed[index] = found
                continue
            }
            if before != found {
                let details = "\(node.id) has another entry at \(index): term \(found.term), was \(before.term)"
                breaches.append(Breach(rule: .committedForEver, details: details))
                break
            }
        }
        self.commitMax = max(self.commitMax, node.core.commit)
    }

    private mutating func checkState(_ node: VirtualNode, _ breaches: inout [Breach]) {
        for version in node.machine.versions {
            if let before = self.states[version.mark.index], before != version.text {
                let details = "\(node.id) at \(version.mark.index): \"\(version.text)\", elsewhere \"\(before)\""
                breaches.append(Breach(rule: .stateMachine, details: details))
                return
            }
            if version.mark.index > .zero { self.states[version.mark.index] = version.text }
        }
    }

    private func checkLogs(_ left: VirtualNode, _ right: VirtualNode, _ breaches: inout [Breach]) {
        let first = max(left.core.firstIndex, right.core.firstIndex)
        var index = min(left.core.lastIndex, right.core.lastIndex)
        var isSame = false
        while index >= first, index > .zero {
            defer { index = LogIndex(index.rawValue - 1) }
            guard let one = left.entry(at: index), let other = right.entry(at: index) else { return }
            if one.term == other.term { isSame = true }
            if isSame, one != other {
                let details = "\(left.id) and \(right.id) differ at \(index) and agree later"
                breaches.append(Breach(rule: .logMatching, details: details))
                return
            }
        }
    }
}
