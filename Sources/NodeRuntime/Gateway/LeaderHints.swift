internal import Primitives
internal import Synchronization

/// Who leads the groups that have no replica on this node, as far as peers have said.
///
/// A hint may be wrong: whoever is asked in vain names another or nobody.
final class LeaderHints: Sendable {
    private struct State {
        var leaders: [GroupID: NodeID] = [:]
        var turn = 0
    }

    private let state = Mutex(State())

    /// The node to ask: the leader that was named last, else the replicas in turn.
    func candidate(for group: GroupID, among replicas: [NodeID]) -> NodeID? {
        self.state.withLock { state in
            if let leader = state.leaders[group] { return leader }
            guard !replicas.isEmpty else { return nil }
            state.turn = (state.turn + 1) % replicas.count
            return replicas[state.turn]
        }
    }

    /// What a peer said: who leads, or nil when it knew of nobody or could not be reached.
    func learn(_ group: GroupID, leader: NodeID?) { self.state.withLock { $0.leaders[group] = leader } }
}
