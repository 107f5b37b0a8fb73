internal import Primitives
internal import Synchronization

/// How far the peers are, as the comparison of clocks measures it; safe to use from any task.
final class PeerDistances: Sendable {
    private let known = Mutex<[NodeID: Int64]>([:])

    /// The shortest way to each peer and back among the last few, in microseconds.
    var roundTrips: [NodeID: Int64] {
        get { self.known.withLock { $0 } }
        set { self.known.withLock { $0 = newValue } }
    }
}
