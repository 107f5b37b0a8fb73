internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("When which organization gets a checkpoint")
struct CheckpointRoundsTests {
    private static let one = OrganizationID(1)
    private static let group = GroupID(1)
    private static let two = NodeID(2)
    private static let three = NodeID(3)
    private static let quorum = SigningQuorum(voters: [NodeID(1), Self.two, Self.three])
    private static let alone = SigningQuorum(voters: [NodeID(1)])

    private static func signature(_ node: UInt64) throws -> NoteSignature {
        NoteSignature(name: try NoteKeyName("c/node-\(node)"), id: NoteKeyID(rawValue: UInt32(node)), signature: [1])
    }

    private static func root(_ size: UInt64) -> Digest { Digest(words: (size, 0, 0, 0)) }

    /// The rules with the time in milliseconds and a leader that may go.
    private struct Bench {
        var rounds = CheckpointRounds(node: NodeID(1))
        var isLeader = true
        var quorum = CheckpointRoundsTests.quorum
        var again: Duration?

        mutating func next(_ now: Int) -> [CheckpointRounds.Action] {
            let (isLeader, quorum) = (self.isLeader, self.quorum)
            let (actions, again) = self.rounds.next(at: .milliseconds(now)) { _ in isLeader ? quorum : nil }
            self.again = again
            return actions
        }

        mutating func change(_ size: UInt64, _ now: Int, _ organization: OrganizationID = one) {
            _ = self.rounds.changed(organization, group: group, size: size, at: .milliseconds(now))
        }

        mutating func demand(_ demand: UInt64, _ now: Int) {
            self.rounds.demanded(one, group: group, by: demand, at: .milliseconds(now))
        }

        mutating func sign(_ size: UInt64, _ now: Int, _ organization: OrganizationID = one) throws {
            let head = CheckpointRounds.OwnHead(size: size, root: root(size), signatures: [try signature(1)])
            let quorum = self.isLeader ? self.quorum : nil
            self.rounds.didSign([(organization, .signed(head), quorum)], at: .milliseconds(now))
        }

        mutating func answer(
            _ node: NodeID,
            _ size: UInt64,
            _ now: Int,
            _ answer: CheckpointRounds.Answer? = nil
        ) throws {
            let answer = try answer ?? .signed([signature(node.rawValue)])
            self.rounds.answered(node, [(.init(organization: one, size: size), answer)], at: .milliseconds(now))
        }
    }

    private static func asked(_ actions: [CheckpointRounds.Action]) -> [NodeID] {
        actions.compactMap { action in
            if case .ask(let node, let proposals, _) = action, !proposals.isEmpty { node } else { nil }
        }
    }

    private static func published(_ actions: [CheckpointRounds.Action]) -> [(size: UInt64, nodes: [UInt64])] {
        actions.compactMap { action in
            guard case .publish(let published) = action else { return nil }
            return (published.size, published.signatures.map(\.node.rawValue))
        }
    }

    @Test func aChangeIsSignedAskedAndPublishedByAll() throws {
        var bench = Bench()
        bench.change(5, 0)
        #expect(bench.next(0).isEmpty, "what comes at once goes together")
        #expect(bench.again == .milliseconds(20))
        #expect(bench.next(20) == [.sign([Self.one])])
        try bench.sign(5, 21)
        #expect(Self.asked(bench.next(21)) == [Self.two, Self.three])
        try bench.answer(Self.two, 5, 25)
        #expect(Self.published(bench.next(25)).isEmpty, "a majority waits a moment for the third")
        try bench.answer(Self.three, 5, 26)
        let done = Self.published(bench.next(26))
        #expect(done.count == 1)
        #expect(done.first?.size == 5)
        #expect(done.first?.nodes == [1, 2, 3])
        #expect(bench.rounds.dirtyCount == 0)
    }

    @Test func ofManyOrganizationsEachGetsItsCheckpointInTurnAndWhoWaitsAtOnce() throws {
        var rounds = CheckpointRounds(node: NodeID(1))
        var pace = rounds.pace
        pace.batchMax = 1_000
        rounds = CheckpointRounds(node: NodeID(1), pace: pace)
        for number in 1...1_000 as ClosedRange<UInt32> {
            _ = rounds.changed(OrganizationID(number), group: Self.group, size: 1, at: .seconds(100))
        }
        var begun: [OrganizationID] = []
        /// Signs what is asked for, and lets every ledger grow again.
        func run(_ rounds: inout CheckpointRounds, _ milliseconds: Range<Int>) {
            begun = []
            for time in milliseconds {
                let now = Duration.milliseconds(100_000 + time)
                for case .sign(let organizations) in rounds.next(at: now, leads: { _ in Self.alone }).actions {
                    begun += organizations
                    let head = CheckpointRounds.OwnHead(size: UInt64(time), root: Self.root(1), signatures: [])
                    rounds.didSign(organizations.map { ($0, .signed(head), Self.alone) }, at: now)
                    for organization in organizations {
                        _ = rounds.changed(organization, group: Self.group, size: UInt64(time) + 1, at: now)
                    }
                }
            }
        }
        run(&rounds, 20..<21)
        #expect((pace.burst...pace.burst + 1).contains(begun.count), "few wait for nobody")
        let first = begun
        run(&rounds, 21..<1_021)
        #expect((39...41).contains(begun.count), "one every 25 ms")
        #expect(Set(begun).count == begun.count)
        #expect(first.allSatisfy { !begun.contains($0) }, "each in turn")
        let last = try #require(Set((1...1_000).map { OrganizationID($0) }).subtracting(begun).max())
        rounds.demanded(last, group: Self.group, by: 7, at: .milliseconds(101_021))
        run(&rounds, 1_021..<1_022)
        #expect(begun.contains(last), "nobody who waits takes a turn")
    }

    @Test func keysThatComeAfterOrDuringARefusalEndIt() throws {
        var bench = Bench()
        func refuse(_ bench: inout Bench, _ now: Int) {
            bench.rounds.didSign([(Self.one, .refused, Self.quorum)], at: .milliseconds(now))
        }
        bench.change(5, 0)
        #expect(bench.next(20) == [.sign([Self.one])])
        refuse(&bench, 21)
        #expect(bench.next(1_000).isEmpty, "nothing that time heals: it is not tried again soon")
        bench.rounds.keysChanged(at: .milliseconds(1_001))
        #expect(bench.next(1_001) == [.sign([Self.one])])
        bench.rounds.keysChanged(at: .milliseconds(1_002))
        refuse(&bench, 1_003)
        #expect(bench.next(1_003) == [.sign([Self.one])], "the key came while the ring was read")
        try bench.sign(5, 1_004)
        #expect(Self.asked(bench.next(1_004)) == [Self.two, Self.three])
        bench.rounds.keysChanged(at: .milliseconds(1_005))
        try bench.answer(Self.two, 5, 1_006, .refused)
        try bench.answer(Self.three, 5, 1_006, .refused)
        let actions = bench.next(1_006) + bench.next(1_204)
        #expect(actions.contains(.sign([Self.one])), "the others had their keys a moment later")
    }

    @Test func aMajorityIsPublishedWhenTheThirdIsSilent() throws {
        var bench = Bench()
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 5, 25)
        _ = bench.next(25)
        #expect(Self.published(bench.next(174)).isEmpty)
        let done = Self.published(bench.next(175))
        #expect(done.first?.nodes == [1, 2])
        try bench.answer(Self.three, 5, 300)
        #expect(Self.published(bench.next(300)).first?.nodes == [1, 2, 3], "a late signature is added")
    }

    @Test func oneOfThreeIsNeverPublished() throws {
        var bench = Bench()
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 5, 30, .refused)
        bench.rounds.failed(Self.three, at: .milliseconds(30))
        for now in stride(from: 30, through: 500, by: 10) {
            #expect(Self.published(bench.next(now)).isEmpty)
        }
        #expect(bench.rounds.dirtyCount == 1, "it is tried again")
        #expect(bench.next(530) == [.sign([Self.one])], "after a pause")
    }

    @Test func aJointGroupNeedsBothMajorities() {
        let joint = SigningQuorum(
            voters: [NodeID(1), NodeID(4), NodeID(5)],
            outgoing: [NodeID(1), NodeID(2), NodeID(3)]
        )
        #expect(!joint.isReached(by: [NodeID(1), NodeID(4), NodeID(5)]))
        #expect(!joint.isReached(by: [NodeID(1), NodeID(2), NodeID(3)]))
        #expect(joint.isReached(by: [NodeID(1), NodeID(4), NodeID(2)]))
        #expect(!SigningQuorum(voters: [1, 2, 3, 4].map { NodeID($0) }).isReached(by: [NodeID(1), NodeID(2)]))
    }

    @Test func roundsOfOneOrganizationKeepTheirDistance() throws {
        var bench = Bench()
        bench.change(1, 0)
        var signed: [Int] = []
        var size: UInt64 = 1
        for now in 0..<8000 {
            size += 1
            bench.change(size, now)
            for action in bench.next(now) {
                if case .sign = action {
                    signed.append(now)
                    try bench.sign(size, now)
                }
                guard case .ask(let node, let proposals, _) = action else { continue }
                if let proposal = proposals.first {
                    try bench.answer(node, proposal.head.size, now)
                } else {
                    bench.rounds.answered(node, [], at: .milliseconds(now))
                }
            }
        }
        #expect(signed.prefix(5) == [20, 220, 420, 620, 820], "\(signed)")
        #expect(zip(signed, signed.dropFirst()).allSatisfy { $1 - $0 >= 200 }, "\(signed)")
        let last = try #require(zip(signed, signed.dropFirst()).map { $1 - $0 }.last)
        #expect(last == 2000, "one that never rests gets them more seldom: \(signed)")
    }

    @Test func aDemandDoesNotWaitForTheDistance() throws {
        var bench = Bench()
        bench.change(1, 0)
        _ = bench.next(20)
        try bench.sign(1, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 1, 21)
        try bench.answer(Self.three, 1, 21)
        _ = bench.next(21)
        bench.demand(7, 30)
        #expect(bench.next(30) == [.sign([Self.one])])
        try bench.sign(1, 31)
        _ = bench.next(31)
        try bench.answer(Self.two, 1, 32)
        try bench.answer(Self.three, 1, 32)
        #expect(bench.next(32).contains(.end([7], .published(size: 1))))
    }

    @Test func aDemandIsNotAnsweredByARoundThatBeganBefore() throws {
        var bench = Bench()
        bench.change(1, 0)
        _ = bench.next(20)
        try bench.sign(1, 20)
        _ = bench.next(20)
        bench.demand(7, 21)
        try bench.answer(Self.two, 1, 22)
        try bench.answer(Self.three, 1, 22)
        let actions = bench.next(22)
        #expect(!actions.contains { if case .end = $0 { true } else { false } })
        #expect(actions.contains(.sign([Self.one])), "a round of its own")
    }

    @Test func aReplicaThatIsBehindIsAskedAgain() throws {
        var bench = Bench()
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 5, 21, .behind)
        #expect(Self.asked(bench.next(21)).isEmpty)
        #expect(Self.asked(bench.next(26)) == [Self.two])
        try bench.answer(Self.two, 5, 27, .behind)
        #expect(Self.asked(bench.next(36)).isEmpty, "the pause doubles")
        #expect(Self.asked(bench.next(37)) == [Self.two])
    }

    @Test func anAnswerForAnotherSizeIsIgnored() throws {
        var bench = Bench()
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 4, 21)
        try bench.answer(Self.three, 6, 21)
        #expect(Self.published(bench.next(400)).isEmpty)
    }

    @Test func onlyTheLeaderSigns() throws {
        var bench = Bench()
        bench.isLeader = false
        bench.change(5, 0)
        #expect(bench.next(100).isEmpty)
        #expect(bench.again == nil, "nothing runs for an organization that another node leads")
        bench.demand(3, 100)
        #expect(bench.next(100) == [.end([3], .notLeader)])
        bench.isLeader = true
        bench.rounds.leadershipChanged(of: Self.group, at: .milliseconds(200))
        #expect(bench.next(200) == [.sign([Self.one])], "a new leader goes on")
    }

    @Test func aLeaderThatIsDeposedWhileItSignsDoesNotAsk() throws {
        var bench = Bench()
        bench.change(5, 0)
        bench.demand(3, 0)
        #expect(bench.next(0) == [.sign([Self.one])])
        bench.isLeader = false
        try bench.sign(5, 1)
        let actions = bench.next(1)
        #expect(Self.asked(actions).isEmpty)
        #expect(actions.contains(.end([3], .notLeader)))
    }

    @Test func aCheckpointOfAnotherLeaderMakesAFollowerClean() {
        var bench = Bench()
        bench.isLeader = false
        bench.change(5, 0)
        bench.rounds.stored(Self.one, size: 4, at: .milliseconds(10))
        #expect(bench.rounds.dirtyCount == 1)
        bench.rounds.stored(Self.one, size: 5, at: .milliseconds(20))
        #expect(bench.rounds.dirtyCount == 0)
        _ = bench.next(5000)
        #expect(bench.rounds.workCount == 0, "nothing is kept for an organization at rest")
    }

    @Test func finishedCheckpointsGoToAllReplicasAlsoWithoutFurtherChanges() throws {
        var bench = Bench()
        bench.quorum = SigningQuorum(
            voters: [NodeID(1), Self.two, Self.three],
            replicas: [1, 2, 3, 4].map { NodeID($0) }
        )
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 5, 21)
        try bench.answer(Self.three, 5, 21)
        _ = bench.next(21)
        let notes = bench.next(500).compactMap { action -> NodeID? in
            guard case .ask(let node, let proposals, let notes) = action, proposals.isEmpty else { return nil }
            #expect(notes == [.init(organization: Self.one, size: 5)])
            return node
        }
        #expect(notes == [2, 3, 4].map { NodeID($0) }, "a learner too")
        for node in notes { bench.rounds.answered(node, [], at: .milliseconds(501)) }
        #expect(bench.next(5000).isEmpty, "once is enough")
    }

    @Test func whatAReplicaDidNotGetIsKeptForIt() throws {
        var bench = Bench()
        bench.change(5, 0)
        _ = bench.next(20)
        try bench.sign(5, 20)
        _ = bench.next(20)
        try bench.answer(Self.two, 5, 21)
        bench.rounds.failed(Self.three, at: .milliseconds(21))
        _ = bench.next(21)
        let first = bench.next(1000)
        #expect(first.count == 2)
        bench.rounds.answered(Self.two, [], at: .milliseconds(1001))
        bench.rounds.failed(Self.three, at: .milliseconds(1001))
        #expect(bench.next(60_000) == [.ask(Self.three, [], [.init(organization: Self.one, size: 5)])])
    }

    @Test func signaturesThatComeWhileANoteIsOnItsWayAreSentAfterIt() throws {
        var bench = Bench()
        bench.rounds.spread(Self.one, size: 5, to: Self.quorum, at: .zero)
        let note = CheckpointRounds.NoteName(organization: Self.one, size: 5)
        #expect(bench.next(200) == [.ask(Self.two, [], [note]), .ask(Self.three, [], [note])])
        bench.rounds.spread(Self.one, size: 5, to: Self.quorum, at: .milliseconds(201))
        for node in [Self.two, Self.three] { bench.rounds.answered(node, [], at: .milliseconds(202)) }
        #expect(bench.next(500) == [.ask(Self.two, [], [note]), .ask(Self.three, [], [note])])
        for node in [Self.two, Self.three] { bench.rounds.answered(node, [], at: .milliseconds(501)) }
        #expect(bench.next(5000).isEmpty)
    }

    @Test func aNodeThatContradictsItselfLeavesTheRoundAndRests() throws {
        var bench = Bench()
        bench.change(5, 0)
        bench.demand(9, 0)
        _ = bench.next(0)
        bench.rounds.didSign([(Self.one, .refused, Self.quorum)], at: .milliseconds(1))
        #expect(bench.next(1) == [.end([9], .refused)])
        #expect(bench.next(9000).isEmpty, "time does not heal it, so it is tried rarely")
        #expect(bench.next(10_001) == [.sign([Self.one])])
    }

    @Test func aStoreThatIsBehindItsOwnSignatureWaits() throws {
        var bench = Bench()
        bench.change(5, 0)
        bench.demand(9, 0)
        _ = bench.next(0)
        bench.rounds.didSign([(Self.one, .later, Self.quorum)], at: .milliseconds(1))
        #expect(bench.next(50).isEmpty)
        #expect(bench.next(101) == [.sign([Self.one])], "the demand is still waiting")
    }

    @Test func tenThousandIdleOrganizationsHoldNothing() throws {
        var bench = Bench()
        for number in 1...10_000 { bench.change(1, 0, OrganizationID(UInt32(number))) }
        var now = 20
        // 400 in the first ten seconds, then 400 a second.
        while bench.rounds.dirtyCount > 0, now < 40_000 {
            for action in bench.next(now) {
                switch action {
                case .sign(let organizations):
                    #expect(organizations.count <= CheckpointRounds.Pace().batchMax)
                    let signature = try Self.signature(1)
                    let results = organizations.map { organization in
                        let head = CheckpointRounds.OwnHead(size: 1, root: Self.root(1), signatures: [signature])
                        return (organization, CheckpointRounds.Signing.signed(head), Optional(Self.quorum))
                    }
                    bench.rounds.didSign(results, at: .milliseconds(now))
                case .ask(let node, let proposals, _):
                    let signature = try Self.signature(node.rawValue)
                    bench.rounds.answered(
                        node,
                        proposals.map { (.init(organization: $0.organization, size: 1), .signed([signature])) },
                        at: .milliseconds(now)
                    )
                case .publish, .end: break
                }
            }
            now += 25
        }
        #expect(bench.rounds.dirtyCount == 0)
        #expect(now > 30_000, "not all at once")
        // The notes go out, then nothing is left to do and nothing is held.
        for step in 0..<400 {
            for case .ask(let node, _, _) in bench.next(now + step * 10) {
                bench.rounds.answered(node, [], at: .milliseconds(now + step * 10))
            }
        }
        #expect(bench.rounds.workCount == 0)
        #expect(bench.next(60_000).isEmpty)
        #expect(bench.again == nil)
    }

    @Test func whoWithdrawsIsNotAnswered() {
        var bench = Bench()
        bench.isLeader = false
        bench.demand(1, 0)
        bench.rounds.withdrew(1, of: Self.one)
        #expect(bench.next(0).isEmpty)
    }

    @Test func tooManyDemandsAreRefused() {
        var bench = Bench()
        for demand in 0...1024 { bench.demand(UInt64(demand), 0) }
        #expect(bench.next(0).contains(.end([1024], .overloaded)))
    }
}

@Suite("Keys by time")
struct DueQueueTests {
    @Test(arguments: [1, 7, 42]) func comeOutInOrderAndNeverEarly(_ seed: UInt64) {
        var random = seed
        var queue = DueQueue<Int>()
        var expected: [(Duration, Int)] = []
        for number in 0..<500 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let time = Duration.milliseconds(Int(random >> 33) % 100)
            queue.push(number, at: time)
            expected.append((time, number))
        }
        expected.sort { ($0.0, $0.1) < ($1.0, $1.1) }
        #expect(queue.pop(at: .milliseconds(-1)) == nil)
        var found: [Int] = []
        while let number = queue.pop(at: .milliseconds(1000)) { found.append(number) }
        #expect(found == expected.map(\.1), "seed \(seed)")
        #expect(queue.first == nil)
    }
}
