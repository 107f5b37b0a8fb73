internal import Consensus
internal import Primitives

/// Watches all replicas of all groups from outside and says which rule was broken.
///
/// It sees the cores after every step, every message when it leaves, every write when it is durable and every entry
/// when it is applied; it knows nothing of how they came about. The rules are the same for every run.
struct Invariants {
    struct ReplicaKey: Hashable {
        let node: NodeID
        let group: GroupID
    }

    private(set) var violations: [String] = []
    var coverage = Coverage()
    var histories: [GroupID: GroupHistory] = [:]
    var memories: [ReplicaKey: ReplicaMemory] = [:]
    let electionTicks: Int
    /// Leaders may serve reads on the strength of what voters promised them.
    let hasLeases: Bool

    /// Nodes that hand on all that they lead before they stop: they try again when a transfer has come to nothing.
    private var stopping: Set<NodeID> = []

    private static let violationsMax = 10

    init(groups: [(id: GroupID, membership: Membership)], electionTicks: Int, hasLeases: Bool) {
        self.electionTicks = electionTicks
        self.hasLeases = hasLeases
        for group in groups { self.histories[group.id] = GroupHistory(group: group.id, membership: group.membership) }
    }

    mutating func violate(_ text: String) {
        if self.violations.count < Self.violationsMax { self.violations.append(text) }
    }

    mutating func expect(_ problem: String?, _ group: GroupID) {
        if let problem { self.violate("group \(group): \(problem)") }
    }

    /// What no event may contradict; a group that nobody planned has a history without replicas.
    func history(_ group: GroupID) -> GroupHistory {
        self.histories[group] ?? GroupHistory(group: group, membership: Membership(voters: []))
    }

    private func memory(_ key: ReplicaKey) -> ReplicaMemory {
        self.memories[key] ?? ReplicaMemory(membership: Membership(voters: []))
    }

    // MARK: - Life

    /// A replica was restored from its disk or made new.
    ///
    /// - Parameter isNew: It was made just now, and nothing of it is durable yet.
    mutating func started(_ core: RaftCore, group: GroupID, tick: Int, isNew: Bool = false) {
        let key = ReplicaKey(node: core.id, group: group)
        var memory = self.memory(key)
        let durable = memory.removedAt == nil ? memory.durable : DurableLog(hardState: memory.durable.hardState)
        if core.term < durable.hardState.term {
            self.violate(
                "group \(group): node \(core.id) restarts in term \(core.term), \(durable.hardState.term) was durable"
            )
        } else if core.term == durable.hardState.term, let vote = durable.hardState.vote, core.hardState.vote != vote {
            self.violate("group \(group): node \(core.id) forgot its vote for \(vote) in term \(core.term)")
        }
        var rebuilt = DurableLog()
        rebuilt.set(core.hardState)
        rebuilt.reset(to: core.baseIndex, term: core.baseTerm)
        var index = core.baseIndex.next
        while index <= core.lastIndex {
            rebuilt.append(core.term(at: index) ?? .zero)
            index = index.next
        }
        self.compare(durable, rebuilt, handed: memory.handed, core, group)
        memory.removedAt = nil
        memory.durable = isNew ? durable : rebuilt
        memory.handed = isNew ? durable : rebuilt
        if memory.applied > core.appliedIndex, !isNew { self.coverage[.appliedLost] += 1 }
        memory.isAlive = true
        memory.term = core.term
        memory.vote = core.hardState.vote
        memory.role = .follower
        memory.commit = core.commit
        memory.applied = core.appliedIndex
        memory.applyNext = core.appliedIndex.next
        memory.last = core.lastIndex
        memory.membership = core.membership
        memory.membershipEntries.removeAll { $0 > core.lastIndex }
        memory.leadingSince = tick
        self.memories[key] = memory
        self.checkCommitted(core, group: group, after: .zero)
    }

    /// What was durable is there after a restart; more may have survived.
    private mutating func compare(
        _ before: DurableLog,
        _ after: DurableLog,
        handed: DurableLog,
        _ core: RaftCore,
        _ group: GroupID
    ) {
        var index = before.base.index.next
        while index <= before.last {
            defer { index = index.next }
            guard let term = before.term(at: index), !after.holds(index, term) else { continue }
            // Its removal was on its way to the disk.
            if !handed.holds(index, term) { continue }
            self.violate("group \(group): node \(core.id) lost the durable entry \(index) of term \(term)")
            return
        }
    }

    /// A node begins to hand on all that it leads.
    mutating func handsOnAll(_ node: NodeID) { self.stopping.insert(node) }

    /// Ticks that a transfer may take on `node`, one tries after the other.
    func transferTicksMax(_ node: NodeID) -> Int {
        self.electionTicks * (self.stopping.contains(node) ? Self.triesOfStopMax : 1) + 1
    }

    /// A stop is given up after three election timeouts, and the last try takes one more.
    private static let triesOfStopMax = 4

    mutating func crashed(_ node: NodeID, groups: [GroupID]) {
        self.stopping.remove(node)
        for group in groups { self.memories[ReplicaKey(node: node, group: group)]?.crash() }
    }

    /// The replica has left its group and keeps only its hard state, durably.
    ///
    /// Its entries count as held by those who counted them before: nobody who leads later can do so without the others.
    mutating func removed(_ node: NodeID, by write: LogWrite) {
        let key = ReplicaKey(node: node, group: write.group)
        guard var memory = self.memories[key] else { return }
        memory.crash()
        memory.durable.set(write.hardState)
        memory.removedAt = write.removedAt
        memory.membership = Membership(voters: [])
        memory.membershipEntries = []
        memory.commit = .zero
        memory.applied = .zero
        self.memories[key] = memory
    }

    // MARK: - Disk

    /// Entries of `write` left the core to be written.
    mutating func handedOut(_ write: LogWrite, by core: RaftCore) {
        let key = ReplicaKey(node: core.id, group: write.group)
        var memory = self.memory(key)
        if let from = write.truncateFrom {
            if memory.role == .leader, core.role == .leader, memory.term == core.term {
                self.violate("group \(write.group): leader \(core.id) of term \(core.term) cuts its own log at \(from)")
            }
            memory.membershipEntries.removeAll { $0 >= from }
        }
        if let base = write.resetTo {
            memory.membershipEntries = []
            memory.handed.reset(to: base.index, term: base.term)
        }
        if let from = write.truncateFrom { memory.handed.truncate(from: from) }
        for entry in write.entries {
            let termBefore = memory.handed.term(at: memory.handed.last) ?? .zero
            self.expect(self.histories[write.group]?.writes(entry, termBefore: termBefore, node: core.id), write.group)
            memory.handed.append(entry.term)
            guard entry.kind == .membership else { continue }
            if core.role == .leader, entry.term == core.term,
                let open = memory.membershipEntries.first(where: { $0 > core.appliedIndex })
            {
                self.violate(
                    "group \(write.group): leader \(core.id) changes the membership at \(entry.index) while \(open) is not applied"
                )
            }
            memory.membershipEntries.append(entry.index)
        }
        self.memories[key] = memory
    }

    /// The end of a replica left its core to be written.
    mutating func buries(_ write: LogWrite, by node: NodeID) {
        self.memories[ReplicaKey(node: node, group: write.group)]?.handed = DurableLog()
    }

    /// `write` is durable on `node`.
    mutating func persisted(_ write: LogWrite, by node: NodeID) {
        let group = write.group
        let key = ReplicaKey(node: node, group: group)
        var memory = self.memory(key)
        let before = memory.durable.hardState
        if write.hardState.term < before.term {
            self.violate("group \(group): node \(node) writes term \(write.hardState.term) after \(before.term)")
        } else if write.hardState.term == before.term, let vote = before.vote, write.hardState.vote != vote {
            self.violate("group \(group): node \(node) changes its vote in term \(before.term)")
        }
        memory.durable.set(write.hardState)
        if let vote = write.hardState.vote {
            self.expect(self.histories[group]?.votes(node, for: vote, write.hardState.term), group)
        }
        if let base = write.resetTo { memory.durable.reset(to: base.index, term: base.term) }
        if let mark = write.compactThrough {
            if mark.index > memory.durable.base.index { self.coverage[.compactions] += 1 }
            memory.durable.compact(through: mark.index)
        }
        if let from = write.truncateFrom {
            if from <= memory.durable.last { self.coverage[.conflictsTruncated] += 1 }
            self.checkTruncation(from: from, memory.durable, node: node, group: group)
            memory.durable.truncate(from: from)
        }
        for entry in write.entries {
            guard entry.index == memory.durable.last.next else {
                self.violate("group \(group): node \(node) writes \(entry.index) after \(memory.durable.last)")
                break
            }
            memory.durable.append(entry.term)
        }
        self.memories[key] = memory
    }

    private mutating func checkTruncation(from: LogIndex, _ log: DurableLog, node: NodeID, group: GroupID) {
        let history = self.history(group)
        guard from <= log.last, let term = history.committedTerm(from), from > log.base.index else { return }
        if log.term(at: from) == term { self.violate("group \(group): node \(node) cuts the committed entry \(from)") }
    }

    // MARK: - Apply

    /// Entries of `group` were applied on `node`.
    mutating func applies(_ entries: [CommittedEntry], group: GroupID, node: NodeID) {
        let key = ReplicaKey(node: node, group: group)
        var memory = self.memory(key)
        let history = self.history(group)
        for entry in entries {
            if entry.index != memory.applyNext {
                self.violate("group \(group): node \(node) applies \(entry.index) instead of \(memory.applyNext)")
            }
            memory.applyNext = entry.index.next
            if history.committedTerm(entry.index) != entry.term {
                self.violate("group \(group): node \(node) applies entry \(entry.index), which is not committed")
            } else if let fact = history.fact(entry.index, entry.term), !Self.isSame(entry, fact) {
                self.violate("group \(group): node \(node) applies another entry \(entry.index)")
            }
            if entry.membership != nil, entry.membership != history.membership(at: entry.index) {
                self.violate("group \(group): node \(node) applies another membership at \(entry.index)")
            }
            if !memory.durable.holds(entry.index, entry.term) {
                self.violate("group \(group): node \(node) applies entry \(entry.index) before it is durable")
            }
        }
        self.memories[key] = memory
    }

    private static func isSame(_ entry: CommittedEntry, _ fact: GroupHistory.EntryFact) -> Bool {
        guard fact.kind == .commands else { return entry.commands.isEmpty }
        guard let commands = try? CommandBatch.decode(fact.payload), commands.count == entry.commands.count else {
            return false
        }
        return zip(commands, entry.commands).allSatisfy { $0.elementsEqual($1) }
    }

    /// `node` took over a snapshot.
    mutating func installs(_ mark: SnapshotMark, group: GroupID, node: NodeID) {
        let key = ReplicaKey(node: node, group: group)
        var memory = self.memory(key)
        let history = self.history(group)
        if history.committedTerm(mark.index) != mark.term {
            self.violate(
                "group \(group): the snapshot at \(mark.index) of term \(mark.term) is not of the committed log"
            )
        } else if history.membership(at: mark.index) != mark.membership {
            self.violate("group \(group): the snapshot at \(mark.index) brings another membership")
        }
        memory.applyNext = mark.index.next
        memory.commit = max(memory.commit, mark.index)
        self.memories[key] = memory
        self.coverage[.snapshotsInstalled] += 1
    }
}
