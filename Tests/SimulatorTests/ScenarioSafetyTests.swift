internal import Consensus
internal import Primitives
internal import Testing

@testable internal import simulator

/// Each safety rule of the runner is shown a state that breaks it, and one that does not.
struct ScenarioSafetyTests {
    /// A node with that log after index 10, hard state, commit index and state.
    private func node(
        _ id: UInt64,
        terms: [UInt64] = [],
        data: [String] = [],
        term: UInt64 = 1,
        vote: UInt64? = nil,
        commit: UInt64 = 10,
        text: String = "s",
        applied: UInt64 = 10
    ) -> VirtualNode {
        let mark = SnapshotMark(
            index: LogIndex(applied),
            term: Term(1),
            membership: Membership(voters: [NodeID(1), NodeID(2), NodeID(3)])
        )
        let start = Appender.Version(mark: mark, text: text)
        var node = VirtualNode(id: NodeID(id), settings: VirtualNode.Settings(), faults: [], start: start)
        node.disk.with { disk in
            disk.append(
                terms.enumerated().map { offset, term in
                    LogEntry(
                        index: LogIndex(applied + 1 + UInt64(offset)),
                        term: Term(term),
                        kind: .commands,
                        payload: ScenarioData.payload(offset < data.count ? data[offset] : "")
                    )
                }
            )
            disk.hardState = HardState(term: Term(term), vote: vote.map { NodeID($0) })
            disk.commit = LogIndex(commit)
        }
        let isRestarted = node.restart(applied: nil)
        precondition(isRestarted, "the state fits")
        return node
    }

    /// A leader of term 1 in a group of its own.
    private func leader(_ id: UInt64) -> VirtualNode {
        let mark = SnapshotMark(index: LogIndex(10), term: Term(1), membership: Membership(voters: [NodeID(id)]))
        var node = VirtualNode(
            id: NodeID(id),
            settings: VirtualNode.Settings(),
            faults: [],
            start: Appender.Version(mark: mark, text: "s")
        )
        node.core.campaign()
        while node.processReady() != nil {}
        return node
    }

    private func rules(_ nodes: [VirtualNode]...) -> Set<SafetyRules.Rule> {
        var rules = SafetyRules()
        var found: Set<SafetyRules.Rule> = []
        for step in nodes { found.formUnion(rules.check(step).map(\.rule)) }
        return found
    }

    @Test func seesTwoLeadersOfOneTerm() {
        #expect(self.rules([self.leader(1)], [self.leader(1)]).isEmpty)
        #expect(self.rules([self.leader(1), self.leader(2)]).contains(.electionSafety))
        #expect(self.rules([self.leader(1)], [self.leader(2)]) == [.electionSafety], "one after the other as well")
    }

    @Test func seesACommittedEntryChange() {
        let first = self.node(1, terms: [1, 1], data: ["a", "b"], commit: 12)
        #expect(self.rules([first], [self.node(2, terms: [1, 1], data: ["a", "b"], commit: 12)]).isEmpty)
        let other = self.node(2, terms: [1, 2], data: ["a", "c"], term: 2, commit: 12)
        #expect(self.rules([first], [other]) == [.committedForEver])
        let uncommitted = self.node(2, terms: [1, 2], data: ["a", "c"], term: 2, commit: 11)
        #expect(self.rules([first], [uncommitted]).isEmpty)
    }

    @Test func seesLogsThatAgreeAfterTheyDiffered() {
        let one = self.node(1, terms: [1, 2], data: ["a", "b"], term: 2)
        #expect(self.rules([one, self.node(2, terms: [1, 1], data: ["a", "c"])]).isEmpty)
        #expect(self.rules([one, self.node(2, terms: [2, 2], data: ["x", "b"], term: 2)]) == [.logMatching])
        #expect(self.rules([one, self.node(2, terms: [1, 2], data: ["a", "x"], term: 2)]) == [.logMatching])
    }

    @Test func seesStatesThatDiffer() {
        #expect(self.rules([self.node(1, text: "s"), self.node(2, text: "s")]).isEmpty)
        #expect(self.rules([self.node(1, text: "s"), self.node(2, text: "x")]) == [.stateMachine])
        #expect(self.rules([self.node(1, text: "s"), self.node(2, text: "x", applied: 11)]).isEmpty)
    }

    @Test func seesTermsAndIndexesGoBack() {
        let later = self.node(1, terms: [1, 1], term: 3, commit: 12)
        #expect(self.rules([later], [self.node(1, terms: [1, 1], term: 2, commit: 12)]) == [.termMonotone])
        #expect(self.rules([later], [self.node(1, terms: [1, 1], term: 3, commit: 11)]) == [.commitMonotone])
        let applied = self.node(1, term: 3, commit: 12, applied: 12)
        #expect(self.rules([applied], [self.node(1, terms: [1, 1], term: 3, commit: 12)]) == [.appliedMonotone])
        var restarted = later
        let isRestarted = restarted.restart(applied: nil)
        #expect(isRestarted)
        #expect(self.rules([later], [restarted]).isEmpty)
    }

    @Test func seesASecondVoteInATerm() {
        let first = self.node(3, term: 2, vote: 1)
        #expect(self.rules([first], [self.node(3, term: 2, vote: 1)]).isEmpty)
        #expect(self.rules([first], [self.node(3, term: 3, vote: 2)]).isEmpty)
        #expect(self.rules([first], [self.node(3, term: 2, vote: 2)]) == [.oneVote])
        var rules = SafetyRules()
        let once = rules.check(self.vote(from: 3, to: 1, term: 2), of: first)
        #expect(once == nil)
        let breach = rules.check(self.vote(from: 3, to: 2, term: 2), of: self.node(3, term: 2, vote: 2))
        #expect(breach?.rule == .oneVote)
    }

    @Test func seesAPromiseThatIsNotOnDisk() {
        var rules = SafetyRules()
        let voter = self.node(3, term: 2, vote: nil)
        let vote = rules.check(self.vote(from: 3, to: 1, term: 2), of: voter)
        #expect(vote?.rule == .promiseOnDisk)
        let follower = self.node(2, terms: [1, 1])
        let good = rules.check(self.acceptance(from: 2, of: 12), of: follower)
        #expect(good == nil)
        let early = rules.check(self.acceptance(from: 2, of: 13), of: follower)
        #expect(early?.rule == .promiseOnDisk)
    }

    @Test func seesAStaleRead() {
        let rules = SafetyRules()
        #expect(rules.check(read: LogIndex(12), began: LogIndex(12), of: NodeID(1)) == nil)
        #expect(rules.check(read: LogIndex(11), began: LogIndex(12), of: NodeID(1))?.rule == .freshRead)
    }

    /// Faults of the core that the scenario does not mention end it with the rule and the line.
    @Test(arguments: [
        ("vote-before-disk", SafetyRules.Rule.promiseOnDisk, 4),
        ("ack-before-disk", .promiseOnDisk, 11),
    ])
    func endsAScenarioAtTheBreach(_ name: String, _ rule: SafetyRules.Rule, _ line: Int) throws {
        let text = """
            add-nodes 3 voters=1,2,3 index=10 async=true
            campaign 1
            process-ready 1
            stabilize 2
            stabilize
            propose 1 a
            process-ready 1
            process-append 1
            deliver to=1 local=true
            deliver to=2
            process-ready 2
            expect node=9 term=1
            """
        let fault = try #require(CoreFaults.all.first { $0.name == name }).fault
        let report = try ScenarioRunner(file: "t", faults: fault).run(text)
        let last = try #require(report.findings.last)
        #expect(last.rule == rule)
        #expect(last.line <= line)
        #expect(!report.isGood)
    }

    /// The core itself refuses to go on, and the scenario fails for it.
    @Test func seesACoreThatStopped() throws {
        let text = """
            add-nodes 3 voters=1,2,3 index=10
            campaign 1
            stabilize
            propose 1 a
            process-ready 1
            drop to=3
            stabilize 1 2
            drop to=3
            tick 1
            stabilize
            """
        let report = try ScenarioRunner(file: "t", faults: .heartbeatCommitNotCapped).run(text)
        #expect(report.findings.map(\.rule) == [.coreFailure])
        #expect(try ScenarioRunner(file: "t").run(text).isGood)
    }

    private func vote(from: UInt64, to: UInt64, term: UInt64) -> Flight {
        let answer = RaftMessage.VoteAnswer(isGranted: true, lastIndex: LogIndex(10), lastTerm: Term(1))
        return Flight(
            RaftMessage(from: NodeID(from), to: NodeID(to), term: Term(term), body: .voteResponse(answer)),
            content: nil
        )
    }

    private func acceptance(from: UInt64, of match: UInt64) -> Flight {
        let body = RaftMessage.Body.appendAccepted(RaftMessage.AppendAcceptance(match: LogIndex(match)))
        return Flight(RaftMessage(from: NodeID(from), to: NodeID(1), term: Term(1), body: body), content: nil)
    }
}
