internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@Suite(.timeLimit(.minutes(1))) struct RaftHostTests {
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
        cluster.appliers[NodeID(1)]!.state.withLock { $0.applied[self.group] = AppliedState(index: LogIndex(5), term: Term(1)) }
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
        let store = try FaultInjectingStore(InMemoryStore())
        cluster.stores[NodeID(1)] = store
        let reported = Mutex<[ConsensusError.Code]>([])
        try cluster.start(NodeID(1)) { error in reported.withLock { $0.append(error.code) } }
        let host = try await cluster.leader()
        _ = try await host.propose([1], to: self.group)
        store.arm(StoreFault(operation))
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
            let store = try FaultInjectingStore(InMemoryStore())
            cluster.stores[NodeID(1)] = store
            store.arm(StoreFault(operation, number: number, hasEffect: hasEffect))
            try cluster.start(NodeID(1))
            var acknowledged: [String] = []
            if let host = try? await cluster.leader() {
                for count in 0..<8
                where await self.code({
                    _ = try await host.propose(Array("\(count)".utf8), to: self.group)
                }) == nil {
                    acknowledged.append("\(count)")
                }
            }
            cluster.stop(NodeID(1))
            store.disarm()
            try store.crash()
            cluster.stores[NodeID(1)] = try store.reopened()
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
}
