internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@Suite(.timeLimit(.minutes(10))) struct RaftHostTests {
    private let group = GroupID(0)

    private func code(_ body: () async throws -> Void) async -> ProposalError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? ProposalError)?.code
        }
    }

    private func propose(_ texts: [String], to host: RaftHost, _ group: GroupID) async throws -> [String] {
        try await withThrowingTaskGroup(of: (Int, String).self) { tasks in
            for (place, text) in texts.enumerated() {
                tasks.addTask {
                    (place, String(decoding: try await host.propose(Array(text.utf8), to: group), as: UTF8.self))
                }
            }
            var answers = texts
            for try await (place, answer) in tasks { answers[place] = answer }
            return answers
        }
    }

    @Test func threeHostsElectReplicateAndSurviveTheLossOfTheLeader() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        let texts = (0..<100).map { "\($0)" }
        #expect(try await self.propose(texts, to: leader, self.group) == texts.map { "done \($0)" })
        let index = try await leader.readIndex(self.group)
        for id in cluster.ids {
            try await cluster.hosts[id]!.waitUntilApplied(self.group, index)
            #expect(Set(cluster.appliers[id]!.commands(of: self.group)) == Set(texts))
        }
        let stopped = leader.node
        cluster.stop(stopped)
        let next = try await cluster.leader()
        #expect(next.node != stopped)
        #expect(try await self.propose(["after"], to: next, self.group) == ["done after"])
        try cluster.start(stopped)
        let last = try await next.readIndex(self.group)
        // The leader's heartbeats find the node that is back.
        let back = cluster.hosts[stopped]!
        for _ in 0..<HostCluster.roundsMax where back.status(of: self.group)!.applied < last {
            next.tick()
            _ = try await next.readIndex(self.group)
        }
        try await back.waitUntilApplied(self.group, last)
        let histories = Set(cluster.ids.map { cluster.appliers[$0]!.commands(of: self.group) })
        #expect(histories.count == 1)
        #expect(histories.first?.count == 101)
        for applier in cluster.appliers.values { #expect(applier.state.withLock { $0.violations }.isEmpty) }
    }

    @Test func servesManyGroupsOnOneNode() async throws {
        let cluster = try HostCluster(1, groups: 8)
        try cluster.startAll()
        for group in cluster.groups {
            let leader = try await cluster.leader(of: group)
            #expect(try await self.propose(["\(group)"], to: leader, group) == ["done \(group)"])
        }
        let status = cluster.hosts[NodeID(1)]!.status()
        #expect(status.map(\.group) == cluster.groups)
        #expect(status.allSatisfy { $0.role == .leader && $0.leader == NodeID(1) && $0.replicas.count == 1 })
    }

    @Test func replaysItsLogFromTheAppliedIndexAfterARestart() async throws {
        let cluster = try HostCluster(1)
        try cluster.startAll()
        var leader = try await cluster.leader()
        _ = try await self.propose(["a"], to: leader, self.group)
        _ = try await self.propose(["b"], to: leader, self.group)
        cluster.stop(NodeID(1))
        // The unsynced batch of the last command is lost, as after a power failure.
        cluster.appliers[NodeID(1)]!.state.withLock { state in
            state.commands[self.group]!.removeLast()
            state.applied[self.group]!.index = LogIndex(state.applied[self.group]!.index.rawValue - 1)
        }
        try cluster.start(NodeID(1))
        leader = try await cluster.leader()
        let index = try await leader.readIndex(self.group)
        try await leader.waitUntilApplied(self.group, index)
        #expect(cluster.appliers[NodeID(1)]!.commands(of: self.group) == ["a", "b"])
    }

    @Test func refusesToStartWithLessLogThanState() async throws {
        let cluster = try HostCluster(1)
        cluster.appliers[NodeID(1)]!.state.withLock {
            $0.applied[self.group] = AppliedState(index: LogIndex(5), term: Term(1))
        }
        do {
            try cluster.start(NodeID(1))
            Issue.record("the log is shorter than what was applied")
        } catch {
            #expect((error as? ConsensusError)?.code == .logLost)
        }
    }

    @Test func refusesWhatItCannotTake() async throws {
        let cluster = try HostCluster(3) { $0.commandBytesMax = 10 }
        try cluster.startAll()
        let leader = try await cluster.leader()
        let index = try await leader.readIndex(self.group)
        let follower = cluster.hosts.values.first { $0.node != leader.node }!
        try await follower.waitUntilApplied(self.group, index)
        let notLeader = await self.code { _ = try await follower.propose([1], to: self.group) }
        #expect(notLeader == .notLeader(leader: leader.node))
        // A follower asks the leader.
        #expect(try await follower.readIndex(self.group) >= index)
        #expect(follower.leader(of: self.group) == leader.node)
        let tooLarge = await self.code { _ = try await leader.propose(Array(repeating: 1, count: 11), to: self.group) }
        #expect(tooLarge == .tooLarge)
        #expect(await self.code { _ = try await leader.propose([1], to: GroupID(9)) } == .groupNotHosted)
        #expect(await self.code { try await leader.waitUntilApplied(GroupID(9), .zero) } == .groupNotHosted)
        cluster.stop(leader.node)
        #expect(await self.code { _ = try await leader.propose([1], to: self.group) } == .stopped)
        #expect(await self.code { try await leader.waitUntilApplied(self.group, LogIndex(999)) } == .stopped)
        #expect(leader.leader(of: self.group) == nil)
    }

    @Test func answersWaitersWhenItStops() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        cluster.network.state.withLock { $0.isolated = [leader.node] }
        let before = cluster.network.commandAppends
        async let proposal = self.code { _ = try await leader.propose([1], to: self.group) }
        async let wait = self.code { try await leader.waitUntilApplied(self.group, LogIndex(999)) }
        await cluster.network.commandAppend(after: before)
        cluster.stop(leader.node)
        #expect(await proposal == .outcomeUnknown)
        #expect(await wait == .stopped)
    }

    @Test func answersWaitersWhenLeadershipIsLost() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        cluster.network.state.withLock { $0.isolated = [leader.node] }
        let before = cluster.network.commandAppends
        async let proposal = self.code { _ = try await leader.propose([1], to: self.group) }
        await cluster.network.commandAppend(after: before)
        // It steps down, and then waits an election timeout for what the next leader commits.
        for _ in 0..<5 {
            leader.tick(count: cluster.configuration.electionTicks)
            _ = await cluster.isLeading(leader, self.group)
        }
        #expect(await proposal == .outcomeUnknown)
    }

    @Test func refusesWhenTooMuchWaits() async throws {
        let cluster = try HostCluster(3) { $0.uncommittedBytesMax = 100 }
        try cluster.startAll()
        let leader = try await cluster.leader()
        cluster.network.state.withLock { $0.isolated = [leader.node] }
        let before = cluster.network.commandAppends
        let big = [UInt8](repeating: 1, count: 200)
        async let first = self.code { _ = try await leader.propose(big, to: self.group) }
        await cluster.network.commandAppend(after: before)
        #expect(await self.code { _ = try await leader.propose(big, to: self.group) } == .overloaded)
        cluster.stop(leader.node)
        #expect(await first == .outcomeUnknown)
    }

    @Test func resumesACancelledCaller() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        cluster.network.state.withLock { $0.isolated = [leader.node] }
        let answer = await withTaskGroup(of: ProposalError.Code?.self) { tasks in
            tasks.addTask { await self.code { _ = try await leader.propose([1], to: self.group) } }
            tasks.cancelAll()
            return await tasks.next()!
        }
        #expect(answer == .outcomeUnknown)
    }

    @Test(arguments: [StoreOperation.write, .sync]) func stopsForGoodWhenTheStoreFails(
        at operation: StoreOperation
    ) async throws {
        let cluster = try HostCluster(1)
        let disk = SimulatedLogFiles()
        cluster.disks[NodeID(1)] = disk
        let reported = Mutex<[ConsensusError.Code]>([])
        try cluster.start(NodeID(1)) { error in reported.withLock { $0.append(error.code) } }
        let host = try await cluster.leader()
        _ = try await host.propose([1], to: self.group)
        disk.arm(StoreFault(operation))
        #expect(await self.code { _ = try await host.propose([2], to: self.group) } == .failed)
        #expect(host.failure?.code == .store)
        #expect(reported.withLock { $0 } == [.store])
        #expect(await self.code { _ = try await host.propose([3], to: self.group) } == .stopped)
        #expect(host.leader(of: self.group) == nil)
    }

    @Test(arguments: [true, false]) func stopsForGoodWhenTheApplierFails(byThrowing isThrowing: Bool) async throws {
        let cluster = try HostCluster(1)
        try cluster.startAll()
        let host = try await cluster.leader()
        cluster.appliers[NodeID(1)]!.state.withLock { state in
            state.isFailing = isThrowing
            state.isShortOfResults = !isThrowing
        }
        #expect(await self.code { _ = try await host.propose([1], to: self.group) } == .failed)
        #expect(host.failure?.code == .applier)
    }

    /// Every n-th call of the store fails once; what was acknowledged before is there after a crash and a restart.
    @Test(arguments: [StoreOperation.write, .sync], [false, true])
    func keepsWhatItAcknowledgedOverAnyStoreFailure(operation: StoreOperation, hasEffect: Bool) async throws {
        for number in 1...12 {
            let cluster = try HostCluster(1)
            let disk = SimulatedLogFiles()
            cluster.disks[NodeID(1)] = disk
            disk.arm(StoreFault(operation, number: number, hasEffect: hasEffect))
            // The first calls are those that begin the log.
            let isStarted = (try? cluster.start(NodeID(1))) != nil
            var acknowledged: [String] = []
            if isStarted, let host = try? await cluster.leader() {
                for count in 0..<8
                where await self.code({
                    _ = try await host.propose(Array("\(count)".utf8), to: self.group)
                }) == nil {
                    acknowledged.append("\(count)")
                }
            }
            cluster.stop(NodeID(1))
            cluster.disks[NodeID(1)] = cluster.disks[NodeID(1)]?.crash()
            cluster.appliers[NodeID(1)] = ListApplier()
            try cluster.start(NodeID(1))
            let host = try await cluster.leader()
            let index = try await host.readIndex(self.group)
            try await host.waitUntilApplied(self.group, index)
            let found = cluster.appliers[NodeID(1)]!.commands(of: self.group)
            #expect(found.starts(with: acknowledged), "call \(number): \(acknowledged) became \(found)")
            #expect(found.count <= acknowledged.count + 1, "call \(number)")
        }
    }

    @Test func ignoresMessagesThatNameAnotherSender() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        let term = leader.status(of: self.group)!.term
        let body = RaftMessage.Body.heartbeatResponse(RaftMessage.HeartbeatResponse())
        let forged = RaftMessage(from: NodeID(3), to: leader.node, term: Term(99), body: body)
        leader.receive(
            [.raft(GroupMessage(group: self.group, message: forged))],
            from: NodeID(leader.node.rawValue == 2 ? 1 : 2)
        )
        leader.receive([.raft(GroupMessage(group: GroupID(77), message: forged))], from: NodeID(3))
        _ = try await leader.readIndex(self.group)
        #expect(leader.status(of: self.group)!.term == term)
    }

    // MARK: - Many groups, replicas that come and go

    @Test(arguments: [1, 3]) func servesManyGroupsOnSeveralRaftThreads(loops: Int) async throws {
        let cluster = try HostCluster(3, groups: 9) { $0.loopCount = loops }
        try cluster.startAll()
        for group in cluster.groups {
            let leader = try await cluster.leader(of: group)
            #expect(try await self.propose(["a", "b"], to: leader, group).count == 2)
        }
        for id in cluster.ids {
            for group in cluster.groups {
                let host = cluster.hosts[id]!
                try await cluster.ticks(until: { cluster.appliers[id]!.commands(of: group).count == 2 }, "applied")
                #expect(host.status(of: group)!.membership.voters == cluster.ids)
            }
            #expect(cluster.hosts[id]!.status().map(\.group) == cluster.groups)
            #expect(cluster.appliers[id]!.state.withLock { $0.violations }.isEmpty)
        }
    }

    @Test func answersByClosureExactlyOnce() async throws {
        let cluster = try HostCluster(1)
        try cluster.startAll()
        let leader = try await cluster.leader()
        let count = Mutex(0)
        let answer = await withCheckedContinuation { continuation in
            leader.propose(Array("x".utf8), to: self.group) { answer in
                count.withLock { $0 += 1 }
                continuation.resume(returning: answer)
            }
        }
        #expect(try answer.get() == Array("done x".utf8))
        cluster.stop()
        #expect(count.withLock { $0 } == 1)
    }

    @Test func bringsUpAndRemovesAReplicaWhileCommandsFlow() async throws {
        let cluster = try HostCluster(4, members: 3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        _ = try await self.propose((0..<20).map { "a\($0)" }, to: leader, self.group)
        let change = MembershipChange([.addLearner(NodeID(4))])
        #expect(try await leader.changeMembership(self.group, change).learners == [NodeID(4)])
        async let flow = self.propose((0..<50).map { "b\($0)" }, to: leader, self.group)
        try await cluster.ticks(
            until: {
                try? await cluster.installOffers()
                return cluster.appliers[NodeID(4)]!.commands(of: self.group).count >= 20
            },
            "the new replica has a snapshot"
        )
        #expect(try await flow.count == 50)
        try await cluster.ticks(
            until: {
                try? await cluster.installOffers()
                return cluster.appliers[NodeID(4)]!.commands(of: self.group).count == 70
            },
            "the new replica follows"
        )
        // One step: node 4 votes, node 3 (or 2) goes.
        let gone = cluster.ids.prefix(3).last { $0 != leader.node }!
        let swap = MembershipChange([.addVoter(NodeID(4)), .remove(gone)])
        _ = try await leader.changeMembership(self.group, swap)
        try await cluster.ticks(until: { !cluster.removals.isEmpty }, "the replica is removed")
        #expect(cluster.removals.take().map(\.node) == [gone])
        #expect(cluster.hosts[gone]!.status().isEmpty)
        #expect(cluster.appliers[gone]!.commands(of: self.group).isEmpty)
        #expect(await self.code { _ = try await cluster.hosts[gone]!.propose([1], to: self.group) } == .groupNotHosted)
        #expect(!leader.status(of: self.group)!.membership.isJoint)
        for applier in cluster.appliers.values { #expect(applier.state.withLock { $0.violations }.isEmpty) }
    }

    @Test func refusesASecondMembershipChangeAndOneThatDoesNotFit() async throws {
        let cluster = try HostCluster(3)
        try cluster.startAll()
        let leader = try await cluster.leader()
        let unfit = MembershipChange([.remove(NodeID(9)), .remove(NodeID(1)), .remove(NodeID(2)), .remove(NodeID(3))])
        #expect(await self.code { _ = try await leader.changeMembership(self.group, unfit) } == .refusedChange)
        let follower = cluster.hosts.values.first { $0.node != leader.node }!
        let fit = MembershipChange([.addLearner(NodeID(4))])
        #expect(
            await self.code { _ = try await follower.changeMembership(self.group, fit) }
                == .notLeader(leader: leader.node)
        )
        let others = cluster.ids.filter { $0 != leader.node }
        cluster.network.state.withLock { $0.isolated = Set(others) }
        async let first = self.code { _ = try await leader.changeMembership(self.group, fit) }
        // The first is in the log and cannot be committed.
        var second: ProposalError.Code?
        for _ in 0..<HostCluster.roundsMax where second != .changePending {
            if leader.status(of: self.group)!.last <= leader.status(of: self.group)!.commit {
                await Task.yield()
                continue
            }
            second = await self.code { _ = try await leader.changeMembership(self.group, fit) }
        }
        #expect(second == .changePending)
        cluster.stop(leader.node)
        #expect(await first == .outcomeUnknown)
    }

    private final class Flag: Sendable {
        let isSet = Atomic(false)
    }

    private static func handOn(_ host: RaftHost, _ isAnswered: Flag) async -> Int {
        defer { isAnswered.isSet.store(true, ordering: .relaxed) }
        return await host.transferAllLeaderships()
    }

    /// One client that tries again what was surely not applied, as a gateway does.
    /// - Returns: What was answered.
    private static func flow(
        _ name: String,
        to group: GroupID,
        on hosts: [RaftHost],
        until isDone: Flag
    ) async throws -> [String] {
        var sent: [String] = []
        while !isDone.isSet.load(ordering: .relaxed) || sent.count < 5 {
            guard let leader = hosts.first(where: { $0.leader(of: group) == $0.node }) else {
                await Task.yield()
                continue
            }
            let text = "\(name).\(sent.count)"
            do throws(ProposalError) {
                _ = try await leader.propose(Array(text.utf8), to: group)
                sent.append(text)
            } catch {
                guard error.isSurelyNotApplied else { throw error }
                await Task.yield()
            }
        }
        return sent
    }

    private static func tick(_ hosts: [RaftHost], until isOver: Flag) async {
        while !isOver.isSet.load(ordering: .relaxed), !Task.isCancelled {
            for host in hosts {
                host.tick()
                // Answered by a turn, so that ticks do not pass faster than turns.
                _ = try? await host.transferLeadership(GroupID(0), to: host.node)
            }
        }
    }

    @Test func losesNoCommandWhenLeadershipIsHandedOnUnderLoad() async throws {
        let cluster = try HostCluster(3, groups: 4)
        try cluster.startAll()
        for group in cluster.groups { _ = try await cluster.leader(of: group) }
        let hosts = cluster.ids.map { cluster.hosts[$0]! }
        let isDone = Flag()
        let answers = try await withThrowingTaskGroup(of: [String].self) { tasks in
            for number in 0..<8 {
                let group = cluster.groups[number % cluster.groups.count]
                tasks.addTask { try await Self.flow("\(number)", to: group, on: hosts, until: isDone) }
            }
            var handedOn = 0
            for round in 0..<6 {
                let host = hosts[round % 3]
                let isAnswered = Flag()
                async let left = Self.handOn(host, isAnswered)
                while !isAnswered.isSet.load(ordering: .relaxed) {
                    for host in hosts {
                        host.tick()
                        _ = await cluster.isLeading(host, self.group)
                    }
                }
                if await left == 0 { handedOn += 1 }
            }
            // On a busy machine ticks may pass faster than messages, and a transfer end without effect.
            #expect(handedOn > 0)
            isDone.isSet.store(true, ordering: .relaxed)
            // The last transfer may have left a group without a leader: time goes on for its election.
            let isOver = Flag()
            async let ticks: Void = Self.tick(hosts, until: isOver)
            var all: [String] = []
            for try await sent in tasks { all += sent }
            isOver.isSet.store(true, ordering: .relaxed)
            await ticks
            return all
        }
        let applied = cluster.groups.flatMap { group in
            cluster.ids.map { cluster.appliers[$0]!.commands(of: group) }.max { $0.count < $1.count } ?? []
        }
        #expect(applied.sorted() == answers.sorted(), "each once, and none without an answer")
        for applier in cluster.appliers.values { #expect(applier.state.withLock { $0.violations }.isEmpty) }
    }

    @Test func answersEverybodyWhenItFails() async throws {
        let cluster = try HostCluster(1, groups: 6) { $0.loopCount = 2 }
        let disk = SimulatedLogFiles()
        cluster.disks[NodeID(1)] = disk
        try cluster.start(NodeID(1))
        for group in cluster.groups { _ = try await cluster.leader(of: group) }
        let host = cluster.hosts[NodeID(1)]!
        disk.arm(StoreFault(.sync))
        let codes = await withTaskGroup(of: ProposalError.Code?.self) { tasks in
            for number in 0..<60 {
                let group = cluster.groups[number % cluster.groups.count]
                tasks.addTask { await self.code { _ = try await host.propose([1], to: group) } }
                tasks.addTask { await self.code { _ = try await host.linearize(group) } }
                tasks.addTask { await self.code { try await host.waitUntilApplied(group, LogIndex(9_999)) } }
            }
            var codes: [ProposalError.Code?] = []
            for await code in tasks { codes.append(code) }
            return codes
        }
        #expect(codes.count == 180)
        #expect(host.failure?.code == .store)
        #expect(await host.transferAllLeaderships() == 0)
    }
}
