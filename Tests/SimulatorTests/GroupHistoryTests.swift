internal import Consensus
internal import Primitives
internal import Testing

@testable internal import simulator

/// The rules are shown what they must not let pass.
@Suite struct GroupHistoryTests {
    private static func history() -> GroupHistory {
        GroupHistory(group: GroupID(1), membership: Membership(voters: [NodeID(1), NodeID(2), NodeID(3)]))
    }

    private static func entry(_ index: UInt64, _ term: UInt64, _ payload: [UInt8] = []) -> LogEntry {
        LogEntry(index: LogIndex(index), term: Term(term), kind: .commands, payload: payload)
    }

    @Test func refusesASecondLeaderOfATerm() {
        var history = Self.history()
        #expect(history.leads(NodeID(1), Term(4)) == nil)
        #expect(history.leads(NodeID(1), Term(4)) == nil)
        #expect(history.leads(NodeID(2), Term(4)) != nil)
    }

    @Test func refusesASecondVoteInATerm() {
        var history = Self.history()
        #expect(history.votes(NodeID(1), for: NodeID(2), Term(4)) == nil)
        #expect(history.votes(NodeID(1), for: NodeID(3), Term(4)) != nil)
        #expect(history.votes(NodeID(1), for: NodeID(3), Term(5)) == nil)
    }

    @Test func refusesAnotherEntryOfTheSameIndexAndTerm() {
        var history = Self.history()
        #expect(history.writes(Self.entry(1, 2, [1]), termBefore: .zero, node: NodeID(1)) == nil)
        #expect(history.writes(Self.entry(1, 2, [1]), termBefore: .zero, node: NodeID(2)) == nil)
        #expect(history.writes(Self.entry(1, 2, [9]), termBefore: .zero, node: NodeID(2)) != nil)
        #expect(history.writes(Self.entry(1, 2, [1]), termBefore: Term(1), node: NodeID(3)) != nil)
    }

    @Test func refusesACommitOfWhatNobodyWrote() {
        var history = Self.history()
        #expect(history.commits(Term(2), committerTerm: Term(2)) != nil)
    }

    @Test func refusesConfigurationsWithoutACommonQuorum() {
        let three = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)])
        #expect(GroupHistory.intersects(three, Membership(voters: [NodeID(1), NodeID(2)])))
        #expect(!GroupHistory.intersects(three, Membership(voters: [NodeID(1), NodeID(4), NodeID(5)])))
    }

    @Test func countsAQuorumOfEachHalf() throws {
        let change = MembershipChange([
            .addVoter(NodeID(4)), .addVoter(NodeID(5)), .remove(NodeID(1)), .remove(NodeID(2)),
        ])
        let joint = try Membership(voters: [NodeID(1), NodeID(2), NodeID(3)]).applying(change, at: LogIndex(7))
        #expect(joint.isQuorum { [NodeID(2), NodeID(3), NodeID(4)].contains($0) })
        #expect(!joint.isQuorum { [NodeID(3), NodeID(4), NodeID(5)].contains($0) })
        #expect(!joint.isQuorum { [NodeID(1), NodeID(2), NodeID(3)].contains($0) })
    }
}
