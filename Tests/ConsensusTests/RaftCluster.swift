internal import Consensus
internal import Primitives
internal import Synchronization

/// The durable part of a virtual node: survives a crash, and is what its core reads older entries from.
final class VirtualDisk: LogReader {
    struct State {
        var hardState = HardState()
        var entries: [LogEntry] = []
        var commit = LogIndex.zero
        /// The state machine: applied entries in order, written with their index.
        var applied: [LogEntry] = []
        var reads = 0
    }

    let state = Mutex(State())

    func entries(
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        let found: [LogEntry] = self.state.withLock { state in
            state.reads += 1
            var bytes = 0
            var found: [LogEntry] = []
            for entry in state.entries where entry.index >= first && entry.index <= last {
                bytes += entry.payload.count
                if !found.isEmpty, bytes > bytesMax { break }
                found.append(entry)
            }
            return found
        }
        for (offset, entry) in found.enumerated() where entry.index.rawValue != first.rawValue + UInt64(offset) {
            throw ConsensusError(code: .hole, message: "the virtual disk lacks an entry", index: first)
        }
        if found.isEmpty { throw ConsensusError(code: .hole, message: "the virtual disk lacks an entry", index: first) }
        return found
    }

    func write(_ ready: Ready) {
        self.state.withLock { state in
            if let hardState = ready.hardState { state.hardState = hardState }
            if let from = ready.truncateFrom { state.entries.removeAll { $0.index >= from } }
            state.entries.append(contentsOf: ready.entries)
            state.commit = ready.commit
        }
    }

    func holds(_ index: LogIndex, _ term: Term) -> Bool {
        self.state.withLock { state in
            if index == .zero { return true }
            guard index.rawValue <= state.entries.count else { return false }
            return state.entries[Int(index.rawValue) - 1].term == term
        }
    }

    var terms: TermRuns {
        self.state.withLock { state in
            var terms = TermRuns()
            for entry in state.entries { terms.append(entry.term) }
            return terms
        }
    }
}

/// One node: its core while it runs, its disk, and work that is under way.
final class VirtualNode {
    let id: NodeID
    let disk = VirtualDisk()
    var core: RaftCore?
    /// Writes that have begun and are not durable.
    var writes: [Ready] = []
    /// Committed entries that are not applied.
    var toApply: [[LogEntry]] = []
    /// Proposals accepted by the running core and not yet answered.
    var openTokens: Set<UInt64> = []
    var lastTerm = Term.zero
    var lastCommit = LogIndex.zero

    init(id: NodeID) { self.id = id }

    var applied: [LogEntry] { self.disk.state.withLock { $0.applied } }
    /// What was applied, as text.
    var text: String {
        String(decoding: self.applied.filter { $0.kind == .commands }.flatMap(\.payload), as: UTF8.self)
    }
}

/// A few cores, a network that does what the test says, and the invariants of Raft, checked after every step.
final class RaftCluster {
    let ids: [NodeID]
    var nodes: [NodeID: VirtualNode] = [:]
    var configuration: RaftConfiguration
    let faults: CoreFaults
    /// In sending order.
    var inFlight: [RaftMessage] = []
    /// Directed links that lose everything.
    var cut: Set<[NodeID]> = []
    var checker: RaftChecker
    var generator: SeededGenerator
    var nextToken: UInt64 = 1
    /// Tokens by answer.
    var committedTokens: Set<UInt64> = []
    var droppedTokens: Set<UInt64> = []
    /// A deliberate mistake of the harness: the vote is not restored after a crash.
    var isForgettingVotes = false
    /// Applied only when the test says so.
    var isApplyingByHand = false
    var log: [String] = []

    init(
        _ count: Int,
        seed: UInt64 = 1,
        faults: CoreFaults = [],
        configure: (inout RaftConfiguration) -> Void = { _ in }
    ) {
        self.ids = (1...UInt64(count)).map { NodeID($0) }
        self.faults = faults
        self.generator = SeededGenerator(seed: seed)
        self.configuration = RaftConfiguration()
        self.configuration.electionTicks = 10
        self.configuration.heartbeatTicks = 2
        configure(&self.configuration)
        self.checker = RaftChecker(quorum: count / 2 + 1)
        for id in self.ids { self.nodes[id] = VirtualNode(id: id) }
        for id in self.ids { self.start(id) }
    }

    subscript(_ id: UInt64) -> VirtualNode { self.nodes[NodeID(id)]! }
    func core(_ id: UInt64) -> RaftCore { self[id].core! }
    var violations: [String] { self.checker.violations }
    var leaders: [NodeID] { self.ids.filter { self.nodes[$0]!.core?.role == .leader } }

    // MARK: - Life

    func start(_ id: NodeID) {
        let node = self.nodes[id]!
        let (hardState, commit, applied) = node.disk.state.withLock { state in
            (state.hardState, state.commit, state.applied.last?.index ?? .zero)
        }
        let restored = self.isForgettingVotes ? HardState(term: hardState.term, vote: nil) : hardState
        node.core = RaftCore(
            id: id,
            voters: self.ids,
            configuration: self.configuration,
            hardState: restored,
            terms: node.disk.terms,
            commit: min(commit, node.disk.terms.last),
            applied: applied,
            reader: node.disk,
            generator: SeededGenerator(seed: self.generator.next()),
            faults: self.faults
        )
        node.lastTerm = hardState.term
        node.lastCommit = .zero
    }

    /// Loses memory and every write that was not durable.
    func crash(_ id: NodeID) {
        let node = self.nodes[id]!
        node.core = nil
        node.writes = []
        node.toApply = []
        node.openTokens = []
    }

    func restart(_ id: UInt64) {
        self.crash(NodeID(id))
        self.start(NodeID(id))
    }

    // MARK: - Inputs

    func change(_ id: NodeID, _ body: (inout RaftCore) -> Void) {
        let node = self.nodes[id]!
        guard node.core != nil else { return }
        body(&node.core!)
        self.check(node)
    }

    func tick(_ id: UInt64, count: Int = 1) {
        for _ in 0..<count { self.change(NodeID(id)) { $0.tick() } }
        self.ready(NodeID(id))
    }

    func campaign(_ id: UInt64) {
        self.change(NodeID(id)) { $0.campaign() }
        self.ready(NodeID(id))
    }

    @discardableResult
    func propose(_ id: UInt64, _ text: String) -> ProposeResult {
        let node = self[id]
        let token = self.nextToken
        self.nextToken += 1
        var result = ProposeResult.overloaded
        self.change(node.id) { result = $0.propose(kind: .commands, payload: Array(text.utf8), token: token) }
        if case .accepted = result { node.openTokens.insert(token) }
        self.ready(node.id)
        return result
    }

    // MARK: - Ready

    func ready(_ id: NodeID) {
        let node = self.nodes[id]!
        while let ready = node.core?.takeReady() {
            if let failure = ready.failure { self.checker.violate("node \(id) failed: \(failure)") }
            self.checker.appended(ready.entries, by: node)
            for message in ready.sendNow { self.send(message) }
            if ready.ticket != nil { node.writes.append(ready) }
            if !ready.committed.isEmpty { node.toApply.append(ready.committed) }
            for proposal in ready.committedProposals { self.answered(proposal.token, node, &self.committedTokens) }
            for proposal in ready.dropped { self.answered(proposal.token, node, &self.droppedTokens) }
            self.check(node)
            if !self.isApplyingByHand { self.apply(id) }
        }
    }

    private func answered(_ token: UInt64, _ node: VirtualNode, _ answers: inout Set<UInt64>) {
        if node.openTokens.remove(token) == nil { self.checker.violate("proposal \(token) was answered twice") }
        answers.insert(token)
    }

    /// The oldest write of a node becomes durable.
    func persist(_ id: NodeID) {
        let node = self.nodes[id]!
        guard !node.writes.isEmpty else { return }
        let ready = node.writes.removeFirst()
        node.disk.write(ready)
        if let hardState = ready.hardState, let vote = hardState.vote {
            self.checker.voted(vote, voter: id, term: hardState.term)
        }
        for message in ready.sendWhenPersisted { self.send(message) }
        self.change(id) { $0.persisted(ready.ticket!) }
        self.ready(id)
    }

    /// The oldest committed work of a node is applied.
    func apply(_ id: NodeID) {
        let node = self.nodes[id]!
        guard !node.toApply.isEmpty else { return }
        let entries = node.toApply.removeFirst()
        self.checker.applied(entries, by: node)
        node.disk.state.withLock { $0.applied.append(contentsOf: entries) }
        self.change(id) { $0.applied(entries.last!.index) }
        self.ready(id)
    }

    // MARK: - Network

    private func send(_ message: RaftMessage) {
        self.checker.sent(message, by: self.nodes[message.from]!)
        if !self.cut.contains([message.from, message.to]) { self.inFlight.append(message) }
    }

    func deliver(_ message: RaftMessage) {
        if self.cut.contains([message.from, message.to]) { return }
        self.change(message.to) { $0.step(message) }
        self.ready(message.to)
    }

    /// Delivers what is in flight now and `matches`, in order.
    func deliver(where matches: (RaftMessage) -> Bool = { _ in true }) {
        let chosen = self.inFlight.filter(matches)
        self.inFlight.removeAll(where: matches)
        for message in chosen { self.deliver(message) }
    }

    func drop(where matches: (RaftMessage) -> Bool) { self.inFlight.removeAll(where: matches) }

    func isolate(_ ids: UInt64...) {
        for one in ids.map({ NodeID($0) }) {
            for other in self.ids where other != one {
                self.cut.insert([one, other])
                self.cut.insert([other, one])
            }
        }
        self.inFlight.removeAll { self.cut.contains([$0.from, $0.to]) }
    }

    func heal() { self.cut = [] }

    /// Disks, appliers and the network work until nothing is left to do; no time passes.
    func stabilize(_ roundsMax: Int = 500) {
        for _ in 0..<roundsMax {
            var isQuiet = true
            for id in self.ids {
                let node = self.nodes[id]!
                guard node.core != nil else { continue }
                self.ready(id)
                while !node.writes.isEmpty {
                    self.persist(id)
                    isQuiet = false
                }
                while !node.toApply.isEmpty {
                    self.apply(id)
                    isQuiet = false
                }
            }
            if !self.inFlight.isEmpty {
                isQuiet = false
                self.deliver()
            }
            if isQuiet { return }
        }
        self.checker.violate("the cluster does not come to rest")
    }

    /// Lets time pass on all nodes.
    func run(ticks: Int) {
        for _ in 0..<ticks {
            for id in self.ids where self.nodes[id]!.core != nil { self.tick(id.rawValue) }
            self.stabilize()
        }
    }

    /// Makes `id` the leader, with everything settled.
    func elect(_ id: UInt64) {
        self.campaign(id)
        self.stabilize()
    }

    private func check(_ node: VirtualNode) {
        guard let core = node.core else { return }
        if core.term < node.lastTerm { self.checker.violate("the term of node \(node.id) went back") }
        if core.commit < node.lastCommit { self.checker.violate("the commit index of node \(node.id) went back") }
        let before = node.lastCommit
        node.lastTerm = core.term
        node.lastCommit = core.commit
        self.checker.check(node, core, commitBefore: before, nodes: self.nodes)
    }
}

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

    let quorum: Int
    private(set) var violations: [String] = []
    private var leaders: [Term: NodeID] = [:]
    /// Log matching: index and term fix the payload and the term before.
    private var entries: [Place: (payload: [UInt8], before: Term)] = [:]
    /// By index, from 1.
    private(set) var committed: [Term] = []
    private var votes: [Grant: NodeID] = [:]

    init(quorum: Int) { self.quorum = quorum }

    mutating func violate(_ text: String) {
        if self.violations.count < 20, !self.violations.contains(text) { self.violations.append(text) }
    }

    mutating func appended(_ appended: [LogEntry], by node: VirtualNode) {
        for entry in appended {
            let before = node.core?.term(at: LogIndex(entry.index.rawValue - 1)) ?? .zero
            let place = Place(index: entry.index, term: entry.term)
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
        if core.role == .leader {
            if let known = self.leaders[core.term] {
                if known != node.id {
                    self.violate("election safety: term \(core.term) has leaders \(known) and \(node.id)")
                }
            } else {
                self.leaders[core.term] = node.id
                for (offset, term) in self.committed.enumerated()
                where core.term(at: LogIndex(UInt64(offset) + 1)) != term {
                    self.violate(
                        "leader completeness: leader \(node.id) of term \(core.term) lacks entry \(offset + 1)"
                    )
                    break
                }
            }
            for replica in core.replicas {
                guard let term = core.term(at: replica.match) else { continue }
                // A later leader may have cut what this one has not heard of.
                if (nodes[replica.node]?.lastTerm ?? .zero) > core.term { continue }
                if nodes[replica.node]?.disk.holds(replica.match, term) != true {
                    self.violate("leader \(node.id) counts entry \(replica.match), which \(replica.node) does not hold")
                }
            }
        }
        if core.commit > commitBefore { self.commitMoved(node, core, from: commitBefore, nodes) }
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
            } else if raw <= core.commit.rawValue {
                self.committed.append(term)
                let holders = nodes.values.filter { $0.disk.holds(LogIndex(raw), term) }.count
                if holders < self.quorum { self.violate("entry \(raw) is committed but durable on \(holders) only") }
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

    mutating func sent(_ message: RaftMessage, by node: VirtualNode) {
        switch message.body {
        case .voteResponse(granted: true):
            self.voted(message.to, voter: message.from, term: message.term)
            let durable = node.disk.state.withLock { $0.hardState }
            if durable.term < message.term || (durable.term == message.term && durable.vote != message.to) {
                self.violate("node \(node.id) sent a vote before it was durable")
            }
        case .appendAccepted(let match):
            let durable = node.disk.state.withLock { LogIndex(UInt64($0.entries.count)) }
            if durable < match { self.violate("node \(node.id) acknowledged \(match) with \(durable) durable") }
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
