internal import Consensus
internal import Primitives
internal import Synchronization

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
    var checker = RaftChecker()
    var generator: SeededGenerator
    var nextToken: UInt64 = 1
    /// Tokens by answer.
    var committedTokens: Set<UInt64> = []
    var droppedTokens: Set<UInt64> = []
    var grantedReads: [UInt64: LogIndex] = [:]
    var droppedReads: Set<UInt64> = []
    /// Applied only when the test says so.
    var isApplyingByHand = false
    /// Snapshots are installed only when the test says so.
    var isInstallingByHand = false
    var installs = 0

    init(
        _ count: Int,
        voters: Int? = nil,
        learners: [UInt64] = [],
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
        self.configuration.lazyCommitPush = false
        configure(&self.configuration)
        let membership = Membership(
            voters: Array(self.ids.prefix(voters ?? count)),
            learners: learners.map { NodeID($0) }
        )
        for id in self.ids {
            let node = VirtualNode(id: id)
            // The others are blank: they wait to be added.
            if membership.contains(id) { node.disk.state.withLock { $0.membership = membership } }
            self.nodes[id] = node
        }
        for id in self.ids { self.start(id) }
    }

    subscript(_ id: UInt64) -> VirtualNode { self.nodes[NodeID(id)]! }
    func core(_ id: UInt64) -> RaftCore { self[id].core! }
    var violations: [String] { self.checker.violations }
    var leaders: [NodeID] { self.ids.filter { self.nodes[$0]!.core?.role == .leader } }

    // MARK: - Life

    func start(_ id: NodeID) {
        let node = self.nodes[id]!
        var restored = node.disk.restored
        restored.formerLife = node.formerLife
        node.core = RaftCore(
            id: id,
            configuration: self.configuration,
            restored: restored,
            reader: node.disk,
            generator: SeededGenerator(seed: self.generator.next()),
            faults: self.faults
        )
        node.lastTerm = restored.hardState.term
        node.lastCommit = .zero
    }

    /// Loses memory and every write that was not durable.
    func crash(_ id: NodeID) { self.nodes[id]!.loseMemory() }

    func restart(_ id: UInt64) {
        self.crash(NodeID(id))
        self.start(NodeID(id))
    }

    /// What a host does with a replica that was removed: it begins anew for a later session.
    private func remove(_ node: VirtualNode, at index: LogIndex) {
        let mark = node.core!.commitMark
        node.formerLife = FormerLife(removedAt: index, committed: mark.index, committedTerm: mark.term)
        node.loseMemory()
        node.disk.blank()
        node.removedAt = index
        node.lastCommit = .zero
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

    func makeToken() -> UInt64 {
        defer { self.nextToken += 1 }
        return self.nextToken
    }

    @discardableResult
    func propose(_ id: UInt64, _ text: String) -> ProposeResult {
        let node = self[id]
        let token = self.makeToken()
        var result = ProposeResult.overloaded
        self.change(node.id) { result = $0.propose(kind: .commands, payload: Array(text.utf8), token: token) }
        if case .accepted = result { node.openTokens.insert(token) }
        self.ready(node.id)
        return result
    }

    @discardableResult
    func changeMembership(
        _ id: UInt64,
        _ steps: [MembershipChange.Step],
        _ transition: MembershipChange.Transition = .auto
    ) -> MembershipProposeResult {
        let node = self[id]
        let token = self.makeToken()
        var result = MembershipProposeResult.overloaded
        self.change(node.id) {
            result = $0.proposeMembership(MembershipChange(steps, transition: transition), token: token)
        }
        if case .accepted = result { node.openTokens.insert(token) }
        self.ready(node.id)
        return result
    }

    /// - Returns: The token of the read.
    @discardableResult
    func read(_ id: UInt64) -> UInt64 {
        let node = self[id]
        let token = self.makeToken()
        guard node.core != nil else { return token }
        node.openReads[token] = LogIndex(UInt64(self.checker.committed.count))
        self.change(node.id) { $0.readIndex(token: token) }
        self.ready(node.id)
        return token
    }

    @discardableResult
    func transfer(_ id: UInt64, to target: UInt64) -> Bool {
        var isTaken = false
        self.change(NodeID(id)) { isTaken = $0.transferLeadership(to: NodeID(target)) }
        self.ready(NodeID(id))
        return isTaken
    }

    /// Forgets entries of the log that are applied.
    func compact(_ id: NodeID, through index: LogIndex) {
        let node = self.nodes[id]!
        guard let core = node.core, index > .zero, index >= core.firstIndex,
            index <= min(core.appliedIndex, core.persistedIndex), let term = core.term(at: index)
        else { return }
        self.change(id) { $0.compact(through: index) }
        node.disk.compact(through: index, term: term)
    }

    func hibernate(_ id: UInt64, live: [UInt64]) -> Bool {
        var isAsleep = false
        let wasAsleep = self[id].core?.isAsleep ?? false
        self.change(NodeID(id)) { isAsleep = $0.trySleep(live: live.map { NodeID($0) }) }
        if isAsleep, !wasAsleep { self.checker.slept(self[id], live: live.map { self[$0] }) }
        self.ready(NodeID(id))
        return isAsleep
    }

    // MARK: - Ready

    func ready(_ id: NodeID) {
        let node = self.nodes[id]!
        while let ready = node.core?.takeReady() {
            if let failure = ready.failure { self.checker.violate("node \(id) failed: \(failure)") }
            self.checker.appended(ready.entries, by: node)
            for message in ready.sendNow { self.send(message) }
            if ready.ticket != nil { node.writes.append(ready) }
            if !ready.committed.isEmpty {
                node.toApply.append(
                    VirtualNode.Work(entries: ready.committed, memberships: ready.committedMemberships)
                )
            }
            for proposal in ready.committedProposals { self.answered(proposal.token, node, &self.committedTokens) }
            for proposal in ready.dropped { self.answered(proposal.token, node, &self.droppedTokens) }
            self.answerReads(ready, node)
            if let offer = ready.snapshotToInstall { node.install = offer }
            self.check(node)
            if let session = ready.supersededBy {
                self.remove(node, at: LogIndex(session.rawValue - 1))
                return
            }
            if let membership = ready.membershipChange, !membership.contains(id) {
                self.remove(node, at: node.applied.last?.index ?? .zero)
                return
            }
            if !self.isApplyingByHand { self.apply(id) }
        }
    }

    private func answered(_ token: UInt64, _ node: VirtualNode, _ answers: inout Set<UInt64>) {
        if node.openTokens.remove(token) == nil { self.checker.violate("proposal \(token) was answered twice") }
        answers.insert(token)
    }

    private func answerReads(_ ready: Ready, _ node: VirtualNode) {
        for read in ready.reads {
            guard let least = node.openReads.removeValue(forKey: read.token) else {
                self.checker.violate("read \(read.token) was answered twice")
                continue
            }
            if read.index < least {
                self.checker.violate("stale read on node \(node.id): \(read.index) instead of \(least)")
            }
            self.grantedReads[read.token] = read.index
        }
        for token in ready.droppedReads {
            if node.openReads.removeValue(forKey: token) == nil {
                self.checker.violate("read \(token) was answered twice")
            }
            self.droppedReads.insert(token)
        }
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
        let work = node.toApply.removeFirst()
        self.checker.applied(work.entries, by: node)
        for item in work.memberships { self.checker.applied(item, by: node) }
        node.disk.state.withLock { state in
            state.applied.append(contentsOf: work.entries)
            if let last = work.memberships.last { state.membership = last.membership }
        }
        self.change(id) { $0.applied(work.entries.last!.index) }
        self.ready(id)
    }

    /// The snapshot that a node was offered is fetched, in the state of now, and installed.
    func install(_ id: NodeID, crashesBeforeReset: Bool = false) {
        let node = self.nodes[id]!
        guard let offered = node.install else { return }
        while !node.toApply.isEmpty { self.apply(id) }
        guard node.core != nil, node.install != nil else { return }
        node.install = nil
        let source = self.nodes[offered.from]!
        let mark = source.disk.state.withLock { state in
            SnapshotMark(index: state.appliedIndex, term: state.appliedTerm, membership: state.membership)
        }
        let isCut = self.cut.contains([offered.from, id])
        guard source.core != nil, !isCut, mark.index >= offered.offer.mark.index else {
            self.change(id) { $0.snapshotFailed() }
            self.ready(id)
            return
        }
        let applied = source.applied
        node.disk.state.withLock { state in
            state.applied = applied
            state.membership = mark.membership
        }
        self.installs += 1
        if crashesBeforeReset {
            self.restart(id.rawValue)
            return
        }
        self.change(id) { $0.snapshotInstalled(mark) }
        self.ready(id)
    }

    // MARK: - Network

    private func send(_ message: RaftMessage) {
        self.checker.sent(message, by: self.nodes[message.from]!)
        if !self.cut.contains([message.from, message.to]) { self.inFlight.append(message) }
    }

    func deliver(_ message: RaftMessage) {
        if self.cut.contains([message.from, message.to]) { return }
        let node = self.nodes[message.to]!
        if let removedAt = node.removedAt {
            guard let session = message.session, session > removedAt else {
                let life = node.formerLife!
                let answer = RaftMessage.answerOfRemoved(
                    to: message,
                    index: life.committed,
                    term: life.committedTerm
                )
                if let answer { self.send(answer) }
                return
            }
            node.removedAt = nil
            node.session = session
            self.start(node.id)
        }
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
            for id in self.ids where self.nodes[id]!.core != nil {
                let node = self.nodes[id]!
                self.ready(id)
                while !node.writes.isEmpty {
                    self.persist(id)
                    isQuiet = false
                }
                while !node.toApply.isEmpty {
                    self.apply(id)
                    isQuiet = false
                }
                if node.install != nil, !self.isInstallingByHand {
                    self.install(id)
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

extension RaftMessage {
    /// The session that a message of a leader or candidate names.
    var session: LogIndex? {
        switch self.body {
        case .append(let append): append.session
        case .heartbeat(let heartbeat): heartbeat.session
        case .snapshot(let offer): offer.session
        case .preVoteRequest(let request), .voteRequest(let request): request.session
        default: nil
        }
    }
}
