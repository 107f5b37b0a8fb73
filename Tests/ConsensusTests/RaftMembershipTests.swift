internal import Consensus
internal import Primitives
internal import Synchronization
internal import Testing

@Suite struct RaftMembershipTests {
    private static func node(_ id: UInt64) -> NodeID { NodeID(id) }

    // MARK: - The pure value

    @Test func changesOneVoterAtOnce() throws {
        let first = Membership(voters: [NodeID(1), NodeID(2)])
        let next = try first.applying(MembershipChange([.addVoter(NodeID(3))]), at: LogIndex(7))
        #expect(next.voters == [NodeID(1), NodeID(2), NodeID(3)])
        #expect(!next.isJoint)
        #expect(next.session(of: NodeID(3)) == LogIndex(7))
        #expect(next.session(of: NodeID(1)) == .zero)
    }

    @Test func goesThroughAJointConfigurationForMore() throws {
        let first = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)], learners: [NodeID(4)])
        let steps: [MembershipChange.Step] = [.addVoter(NodeID(4)), .remove(NodeID(1)), .addLearner(NodeID(2))]
        let joint = try first.applying(MembershipChange(steps), at: LogIndex(9))
        #expect(joint.isJoint && joint.autoLeave)
        #expect(joint.voters == [NodeID(3), NodeID(4)])
        #expect(joint.outgoing == [NodeID(1), NodeID(2), NodeID(3)])
        #expect(joint.learnersNext == [NodeID(2)], "a voter of the outgoing half is no learner yet")
        let last = try joint.applying(.leave, at: LogIndex(10))
        #expect(last.voters == [NodeID(3), NodeID(4)] && last.learners == [NodeID(2)] && !last.isJoint)
        #expect(last.replicas == [NodeID(2), NodeID(3), NodeID(4)])
        #expect(last.session(of: NodeID(4)) == .zero, "promotion keeps the replica")
    }

    @Test func refusesWhatHasNoMeaning() throws {
        let first = Membership(voters: [NodeID(1)])
        #expect(throws: MembershipError.notJoint) { try first.applying(.leave, at: LogIndex(2)) }
        #expect(throws: MembershipError.noVoters) {
            try first.applying(MembershipChange([.remove(NodeID(1))]), at: LogIndex(2))
        }
        let joint = try first.applying(MembershipChange([.addVoter(NodeID(2))], transition: .explicit), at: LogIndex(2))
        #expect(!joint.autoLeave)
        #expect(throws: MembershipError.alreadyJoint) {
            try joint.applying(MembershipChange([.addVoter(NodeID(3))]), at: LogIndex(3))
        }
    }

    /// Every reachable membership keeps its form, and consecutive ones have quorums that meet.
    @Test(arguments: 1...40 as ClosedRange<UInt64>) func keepsItsFormOverRandomChanges(seed: UInt64) throws {
        var dice = SeededGenerator(seed: seed)
        var membership = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)])
        for index in 1...60 as ClosedRange<UInt64> {
            var steps: [MembershipChange.Step] = []
            for _ in 0..<dice.next() % 4 {
                let node = NodeID(1 + dice.next() % 6)
                steps.append([.addVoter(node), .addLearner(node), .remove(node)][Int(dice.next() % 3)])
            }
            let transition = MembershipChange.Transition(rawValue: UInt8(dice.next() % 3))!
            let change = MembershipChange(steps, transition: transition)
            #expect(try MembershipChange(bytes: change.encoded()) == change)
            guard let next = try? membership.applying(change, at: LogIndex(index)) else { continue }
            #expect(try Membership(bytes: next.encoded()) == next, "seed \(seed)")
            #expect(Self.quorumsMeet(membership, next), "seed \(seed): \(membership) and \(next)")
            membership = next
        }
    }

    private static func isQuorum(_ set: Set<NodeID>, of membership: Membership) -> Bool {
        [membership.voters, membership.outgoing].allSatisfy { half in
            half.isEmpty || half.filter { set.contains($0) }.count > half.count / 2
        }
    }

    private static func quorumsMeet(_ left: Membership, _ right: Membership) -> Bool {
        let nodes = Set(left.replicas).union(right.replicas).sorted()
        for mask in 0..<(1 << nodes.count) {
            let set = Set(nodes.indices.filter { mask >> $0 & 1 == 1 }.map { nodes[$0] })
            if isQuorum(set, of: left), isQuorum(Set(nodes).subtracting(set), of: right) { return false }
        }
        return true
    }

    @Test func refusesDamagedBytes() throws {
        let membership = Membership(voters: [NodeID(1), NodeID(2)], learners: [NodeID(3)])
        let bytes = membership.encoded()
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try Membership(bytes: bytes.prefix(count)) }
        }
        for place in [0, 1, 2] {
            var damaged = bytes
            damaged[place] ^= 0x40
            #expect(throws: MalformedBytes.self) { try Membership(bytes: damaged) }
        }
    }

    // MARK: - In a group

    @Test func bringsABlankReplicaInBySnapshot() {
        let cluster = RaftCluster(4, voters: 3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        guard case .accepted = cluster.changeMembership(1, [.addLearner(NodeID(4))]) else {
            Issue.record("a learner can be added")
            return
        }
        cluster.run(ticks: 10)
        #expect(cluster[4].text == "a")
        #expect(cluster.installs == 1, "the first membership is not in the log")
        cluster.changeMembership(1, [.addVoter(NodeID(4)), .remove(NodeID(2))])
        cluster.run(ticks: 10)
        #expect(cluster[1].membership.voters == [NodeID(1), NodeID(3), NodeID(4)])
        #expect(!cluster[1].membership.isJoint, "the leader leaves by itself")
        #expect(cluster[2].removedAt != nil)
        #expect(cluster.violations.isEmpty, "\(cluster.violations)")
    }

    @Test func takesOneChangeAtATime() {
        for (faults, expected) in [(CoreFaults(), true), (.overlappingMembershipChanges, false)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            cluster.isolate(1)
            cluster.changeMembership(1, [.remove(NodeID(3))])
            #expect((cluster.changeMembership(1, [.remove(NodeID(2))]) == .pending) == expected)
            #expect(cluster.violations.isEmpty == expected)
        }
    }

    @Test func refusesChangesThatCannotBe() {
        let cluster = RaftCluster(3)
        #expect(cluster.changeMembership(1, [.remove(NodeID(2))]) == .notLeader(leader: nil))
        cluster.elect(1)
        let last = cluster.core(1).lastIndex
        #expect(cluster.changeMembership(1, []) == .invalid(.notJoint))
        #expect(cluster.core(1).lastIndex == last, "nothing was appended")
    }

    @Test func waitsWithChangesUntilItsLogIsApplied() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.isolate(3)
        cluster.isApplyingByHand = true
        cluster.propose(1, "a")
        for _ in 0..<3 {
            for id in [1, 2] as [UInt64] { while !cluster[id].writes.isEmpty { cluster.persist(NodeID(id)) } }
            cluster.deliver()
        }
        cluster.restart(2)
        cluster.crash(NodeID(1))
        cluster.heal()
        cluster.change(NodeID(3)) { $0.forgetLeader() }
        cluster.campaign(2)
        cluster.drainUntilLeader(2)
        #expect(cluster.core(2).role == .leader)
        #expect(cluster.changeMembership(2, [.remove(NodeID(1))]) == .pending)
    }

    @Test func stepsDownWhenItRemovedItself() {
        for isStepping in [true, false] {
            let cluster = RaftCluster(3) { $0.stepDownOnRemoval = isStepping }
            cluster.elect(1)
            cluster.isApplyingByHand = true
            cluster.changeMembership(1, [.remove(NodeID(1))])
            while !cluster[1].writes.isEmpty { cluster.persist(NodeID(1)) }
            cluster.deliver()
            for id in [2, 3] as [UInt64] { while !cluster[id].writes.isEmpty { cluster.persist(NodeID(id)) } }
            cluster.deliver()
            var core = cluster.core(1)
            while core.takeReady() != nil {}
            core.applied(core.commit)
            #expect((core.role == .leader) == !isStepping)
            #expect(core.propose(kind: .commands, payload: [1], token: 99) == .notLeader(leader: nil))
        }
    }

    @Test func doesNotStandWithAChangeItHasNotApplied() {
        for (faults, isStanding) in [(CoreFaults(), false), (.campaignWithUnappliedMembership, true)] {
            let cluster = RaftCluster(4, voters: 3, faults: faults)
            cluster.elect(1)
            cluster.isApplyingByHand = true
            cluster.changeMembership(1, [.addVoter(NodeID(4))])
            for _ in 0..<6 {
                for id in cluster.ids { while !cluster.nodes[id]!.writes.isEmpty { cluster.persist(id) } }
                cluster.deliver()
            }
            #expect(cluster.core(2).commit == LogIndex(2) && cluster.core(2).appliedIndex < LogIndex(2))
            cluster.campaign(2)
            #expect((cluster.core(2).role == .preCandidate) == isStanding)
            cluster.isApplyingByHand = false
            cluster.apply(NodeID(2))
            cluster.campaign(2)
            #expect(cluster.core(2).role == .preCandidate)
        }
    }

    /// After a restart the change lies in the store only, and is not applied.
    @Test func findsAnUnappliedChangeInTheStore() {
        let cluster = RaftCluster(4, voters: 3) { $0.applyBacklogBytesMax = 1 }
        cluster.elect(1)
        cluster.changeMembership(1, [.addVoter(NodeID(4))])
        cluster.stabilize()
        cluster.propose(1, "a")
        cluster.stabilize()
        let node = cluster[2]
        cluster.crash(node.id)
        node.disk.state.withLock { state in
            state.applied = []
            state.membership = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)])
        }
        cluster.start(node.id)
        #expect(cluster.core(2).commit >= LogIndex(2))
        cluster.isApplyingByHand = true
        cluster.campaign(2)
        #expect(cluster.core(2).role == .follower)
    }

    @Test func decidesByBothHalves() {
        for (faults, isCommitted) in [(CoreFaults(), false), (.jointCommitByOneHalf, true)] {
            let cluster = RaftCluster(5, voters: 3, faults: faults)
            cluster.elect(1)
            for id in [4, 5] as [UInt64] {
                cluster.changeMembership(1, [.addLearner(NodeID(id))])
                cluster.run(ticks: 8)
            }
            let steps: [MembershipChange.Step] = [
                .addVoter(NodeID(4)), .addVoter(NodeID(5)), .remove(NodeID(2)), .remove(NodeID(3)),
            ]
            cluster.changeMembership(1, steps, .explicit)
            cluster.run(ticks: 4)
            #expect(cluster[1].membership.isJoint)
            cluster.isolate(2, 3)
            let commit = cluster.core(1).commit
            cluster.propose(1, "x")
            cluster.stabilize()
            #expect((cluster.core(1).commit > commit) == isCommitted, "the outgoing half has a say")
            #expect(cluster.core(1).isMember)
        }
    }

    /// etcd raft 349: an acknowledgement of the first life must not count for the second.
    @Test func ignoresAnswersOfAnEarlierLife() {
        for (faults, isIgnored) in [(CoreFaults(), true), (.earlierSessionsTaken, false)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(1)
            cluster.propose(1, "a")
            cluster.stabilize()
            cluster.isolate(3)
            cluster.changeMembership(1, [.remove(NodeID(3))])
            cluster.stabilize()
            cluster.changeMembership(1, [.addVoter(NodeID(3))])
            cluster.stabilize()
            let late = RaftMessage.AppendAcceptance(match: LogIndex(2))
            let term = cluster.core(1).term
            cluster.change(NodeID(1)) {
                $0.step(RaftMessage(from: NodeID(3), to: NodeID(1), term: term, body: .appendAccepted(late)))
            }
            let progress = cluster.core(1).replicas.first { $0.node == NodeID(3) }
            #expect((progress?.match == .zero) == isIgnored)
        }
    }

    @Test func beginsAnewWhenItWasRemovedAndAddedWhileAway() {
        let cluster = RaftCluster(3)
        cluster.elect(1)
        cluster.propose(1, "a")
        cluster.stabilize()
        cluster.isolate(3)
        cluster.changeMembership(1, [.remove(NodeID(3))])
        cluster.run(ticks: 2)
        cluster.changeMembership(1, [.addVoter(NodeID(3))])
        cluster.run(ticks: 2)
        cluster.heal()
        cluster.run(ticks: 30)
        #expect(cluster[3].text == "a")
        #expect(cluster.installs == 1)
        #expect(cluster.violations.isEmpty, "\(cluster.violations)")
    }

    /// The removed leader is gone, and only it knew that its removal was committed.
    @Test func learnsOfARemovalFromTheRemoved() {
        let cluster = RaftCluster(2)
        cluster.elect(1)
        cluster.changeMembership(1, [.remove(NodeID(1))])
        while !cluster[1].writes.isEmpty { cluster.persist(NodeID(1)) }
        cluster.deliver()
        while !cluster[2].writes.isEmpty { cluster.persist(NodeID(2)) }
        cluster.deliver { $0.from == NodeID(2) }
        cluster.drop { _ in true }
        #expect(cluster[1].removedAt != nil)
        #expect(cluster.core(2).membership.voters.count == 2)
        cluster.run(ticks: 60)
        #expect(cluster.leaders == [NodeID(2)])
        #expect(cluster.core(2).membership.voters == [NodeID(2)])
    }

    /// Found by chaos: node 1 helped to commit its own removal, came back blank, and must not help to undo it.
    @Test func doesNotVoteInTheSteadOfAFormerLife() {
        for (faults, isGranted) in [(CoreFaults(), false), (.votesForFormerLife, true)] {
            let cluster = RaftCluster(3, faults: faults)
            cluster.elect(3)
            cluster.isolate(2)
            cluster.changeMembership(3, [.remove(NodeID(1)), .remove(NodeID(2))])
            cluster.stabilize()
            #expect(cluster.core(3).membership.voters == [NodeID(3)] && cluster[1].removedAt != nil)
            cluster.changeMembership(3, [.addLearner(NodeID(1))])
            cluster.isInstallingByHand = true
            cluster.stabilize()
            cluster.run(ticks: 2)
            #expect(cluster.core(1).membership.isBlank)
            cluster.heal()
            cluster.change(NodeID(1)) { $0.forgetLeader() }
            cluster.isolate(3)
            cluster.run(ticks: 60)
            #expect((cluster.core(2).role == .leader) == isGranted)
        }
    }
}
