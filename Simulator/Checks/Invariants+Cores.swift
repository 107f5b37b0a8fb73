internal import Consensus
internal import Primitives

// What is checked of a core after every step.
extension Invariants {
    /// Looks at a replica after an input.
    /// - Parameter tick: How many ticks its node has given to its cores.
    mutating func observe(_ core: RaftCore, group: GroupID, tick: Int) {
        let key = ReplicaKey(node: core.id, group: group)
        guard var memory = self.memories[key], memory.isAlive else {
            self.started(core, group: group, tick: tick, isNew: true)
            return
        }
        if core.term < memory.term { self.violate("group \(group): the term of node \(core.id) went back") }
        if core.term == memory.term, let vote = memory.vote, core.hardState.vote != vote {
            self.violate("group \(group): node \(core.id) dropped its vote for \(vote) in term \(core.term)")
        }
        if core.commit < memory.commit { self.violate("group \(group): the commit index of node \(core.id) went back") }
        if core.appliedIndex < memory.applied {
            self.violate("group \(group): the applied index of node \(core.id) went back")
        }
        let isOrdered =
            core.baseIndex <= core.appliedIndex && core.appliedIndex <= core.commit && core.commit <= core.lastIndex
        if !isOrdered {
            self.violate(
                "group \(group): node \(core.id) has base \(core.baseIndex), applied \(core.appliedIndex), commit \(core.commit), last \(core.lastIndex)"
            )
        }
        self.checkRole(core, memory, group: group)
        if core.commit > memory.commit { self.commitMoved(core, memory, group: group) }
        if core.membership != memory.membership || core.appliedIndex != memory.applied {
            self.checkMembership(core, memory, group: group)
        }
        self.checkSleep(core, memory, group: group)
        self.checkTransfer(core, &memory, group: group, tick: tick)
        if core.role == .leader {
            let isNew =
                memory.role != .leader || memory.term != core.term || core.membership != memory.membership
                || memory.isAsleep
            if isNew { memory.leadingSince = tick }
            if memory.role != .leader || memory.term != core.term { memory.peersHeard = [:] }
            self.checkLeader(core, memory, group: group, tick: tick)
        }
        memory.term = core.term
        memory.vote = core.hardState.vote
        memory.role = core.role
        memory.commit = core.commit
        memory.applied = core.appliedIndex
        memory.last = core.lastIndex
        memory.membership = core.membership
        memory.isAsleep = core.isAsleep
        self.memories[key] = memory
    }

    // MARK: - Roles

    private mutating func checkRole(_ core: RaftCore, _ memory: ReplicaMemory, group: GroupID) {
        let isNewRole = core.role != memory.role || core.term != memory.term
        if core.role == .leader, memory.role == .leader, core.term == memory.term, core.lastIndex < memory.last {
            self.violate("group \(group): leader \(core.id) of term \(core.term) shortened its log")
        }
        guard isNewRole else { return }
        if core.role != .follower,
            let open = memory.membershipEntries.first(where: { $0 > core.appliedIndex && $0 <= core.commit })
        {
            self.violate("group \(group): node \(core.id) campaigns with the committed change \(open) not applied")
        }
        if core.role == .leader {
            self.elected(core, group: group)
        } else if memory.role == .leader {
            self.coverage[.stepDowns] += 1
            if core.term == memory.term { self.coverage[.quorumsLost] += 1 }
        } else if memory.role == .candidate, core.role == .follower {
            self.coverage[.electionsLost] += 1
        }
    }

    private mutating func elected(_ core: RaftCore, group: GroupID) {
        self.coverage[.electionsWon] += 1
        let ballot = GroupHistory.Ballot(voter: core.id, term: core.term)
        if self.history(group).transferBallots.contains(ballot) { self.coverage[.transfersDone] += 1 }
        self.expect(self.histories[group]?.leads(core.id, core.term), group)
        let history = self.history(group)
        for (offset, fact) in history.committed.enumerated() where fact.committerTerm < core.term {
            let index = LogIndex(UInt64(offset) + 1)
            if index >= core.baseIndex, core.term(at: index) != fact.term {
                self.violate(
                    "group \(group): leader completeness: leader \(core.id) of term \(core.term) lacks entry \(index)"
                )
                break
            }
        }
        let isChosen = core.membership.isQuorum { voter in
            history.votes[GroupHistory.Ballot(voter: voter, term: core.term)] == core.id
        }
        if !isChosen {
            self.violate("group \(group): node \(core.id) leads term \(core.term) without a quorum's votes")
        }
    }

    // MARK: - Commit

    /// What `core` holds as committed after `index` agrees with what was ever committed.
    mutating func checkCommitted(_ core: RaftCore, group: GroupID, after index: LogIndex) {
        let history = self.history(group)
        var next = max(index, core.baseIndex).next
        while next <= core.commit {
            if let known = history.committedTerm(next), let term = core.term(at: next), known != term {
                self.violate("group \(group): the committed entry \(next) is another one on node \(core.id)")
                return
            }
            next = next.next
        }
    }

    private mutating func commitMoved(_ core: RaftCore, _ memory: ReplicaMemory, group: GroupID) {
        self.checkCommitted(core, group: group, after: memory.commit)
        guard let known = self.histories[group]?.commit, core.commit > known else { return }
        if core.role != .leader, memory.role != .leader {
            self.violate(
                "group \(group): node \(core.id) takes entry \(core.commit) for committed, which no leader committed"
            )
        }
        let term = core.term(at: core.commit) ?? .zero
        let leaderTerm = memory.role == .leader ? memory.term : core.term
        if term != core.term, term != leaderTerm {
            self.violate(
                "group \(group): leader \(core.id) of term \(core.term) commits entry \(core.commit) of term \(term) by counting"
            )
        }
        var index = known.next
        while index <= core.commit {
            self.coverage[.entriesCommitted] += 1
            self.expect(
                self.histories[group]?.commits(core.term(at: index) ?? .zero, committerTerm: leaderTerm),
                group
            )
            index = index.next
        }
        let isDurable = [memory.membership, core.membership].contains { membership in
            membership.isQuorum { node in
                self.memories[ReplicaKey(node: node, group: group)]?.durable.holds(core.commit, term) == true
            }
        }
        if !isDurable { self.violate("group \(group): entry \(core.commit) is committed but not durable on a quorum") }
    }

    // MARK: - Membership

    private mutating func checkMembership(_ core: RaftCore, _ memory: ReplicaMemory, group: GroupID) {
        let history = self.history(group)
        // A replica without a state knows nothing yet.
        if core.membership.isBlank { return }
        let expected = history.membership(at: core.appliedIndex)
        if core.membership != expected {
            self.violate(
                "group \(group): node \(core.id) at \(core.appliedIndex) has \(core.membership.traceText), not \(expected.traceText)"
            )
        }
        if core.role == .leader, core.membership != memory.membership {
            self.coverage[.membershipChanges] += 1
            if core.membership.isJoint { self.coverage[.jointEntered] += 1 }
            if memory.membership.isJoint, !core.membership.isJoint { self.coverage[.jointLeft] += 1 }
        }
    }

    // MARK: - Leaders

    private mutating func checkLeader(_ core: RaftCore, _ memory: ReplicaMemory, group: GroupID, tick: Int) {
        for replica in core.replicas {
            if replica.match >= replica.next {
                self.violate(
                    "group \(group): leader \(core.id) has match \(replica.match) and next \(replica.next) of \(replica.node)"
                )
            }
            guard let follower = self.memories[ReplicaKey(node: replica.node, group: group)],
                let term = core.term(at: replica.match)
            else { continue }
            // A later leader may have cut what this one has not heard of.
            // Of an earlier life of the replica in the group; what was committed before it came back counts no more.
            if replica.session > .zero, replica.match <= replica.session { continue }
            if let session = follower.membership.session(of: replica.node), session != replica.session { continue }
            if follower.durable.hardState.term > core.term || follower.durable.holds(replica.match, term) { continue }
            self.violate(
                "group \(group): leader \(core.id) counts entry \(replica.match) of node \(replica.node), which does not hold it"
            )
        }
        let window = self.electionTicks * 2 + 2
        if core.isAsleep || tick - memory.leadingSince <= window { return }
        let isHeard = core.membership.isQuorum { node in
            node == core.id || tick - (memory.peersHeard[node] ?? memory.leadingSince) <= window
        }
        if !isHeard { self.violate("group \(group): leader \(core.id) leads on without having heard a quorum") }
    }

    /// A transfer dies with its leadership and ends after an election timeout.
    private mutating func checkTransfer(_ core: RaftCore, _ memory: inout ReplicaMemory, group: GroupID, tick: Int) {
        guard let target = core.transferee else {
            if memory.transfer != nil, core.role == .leader { self.coverage[.transfersCut] += 1 }
            memory.transfer = nil
            return
        }
        guard core.role == .leader else {
            self.violate("group \(group): node \(core.id) transfers a leadership that it does not have")
            return
        }
        guard let transfer = memory.transfer, transfer.target == target else {
            self.coverage[.transfersAsked] += 1
            memory.transfer = (target, tick, core.term)
            // Gives the new leader time: the majority is asked for anew.
            memory.leadingSince = tick
            return
        }
        if transfer.term != core.term {
            self.violate(
                "group \(group): node \(core.id) transfers a leadership of term \(transfer.term) in \(core.term)"
            )
        } else if tick - transfer.tick > self.transferTicksMax(core.id) {
            self.violate("group \(group): leader \(core.id) transfers for longer than an election timeout")
        }
    }

    private mutating func checkSleep(_ core: RaftCore, _ memory: ReplicaMemory, group: GroupID) {
        if core.isAsleep == memory.isAsleep { return }
        self.coverage[core.isAsleep ? .sleeps : .wakes] += 1
        if core.isAsleep, core.commit != core.lastIndex {
            self.violate("group \(group): node \(core.id) sleeps with entries that are not committed")
        }
    }
}
