internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Who is asked for a group that is not here")
struct GatewayLeaderHintsTests {
    private let group = GroupID(4)
    private let replicas = [NodeID(1), NodeID(2), NodeID(3)]

    @Test func replicasAreAskedInTurnUntilOneNamesTheLeader() {
        let hints = LeaderHints()
        let asked = (0..<3).compactMap { _ in hints.candidate(for: self.group, among: self.replicas) }
        #expect(Set(asked) == Set(self.replicas))
        hints.learn(self.group, leader: NodeID(2))
        #expect(hints.candidate(for: self.group, among: self.replicas) == NodeID(2))
        #expect(hints.candidate(for: self.group, among: self.replicas) == NodeID(2))
        #expect(hints.candidate(for: GroupID(5), among: []) == nil)
    }

    @Test func aHintThatWasWrongIsForgotten() {
        let hints = LeaderHints()
        hints.learn(self.group, leader: NodeID(9))
        hints.learn(self.group, leader: nil)
        #expect(self.replicas.contains(hints.candidate(for: self.group, among: self.replicas) ?? NodeID(0)))
    }
}
