internal import Primitives

/// Which peers were heard lately, by their node beats and messages; time is ticks.
struct PeerLiveness: Sendable {
    private struct Peer: Sendable {
        let node: NodeID
        var epoch: UInt64?
        var silentTicks = 0
        var isAlive = false
    }

    /// Ascending by node.
    private var peers: [Peer] = []

    /// Keeps what is known of the peers that stay.
    mutating func setPeers(_ nodes: [NodeID]) {
        let before = self.peers
        self.peers = nodes.map { node in before.first { $0.node == node } ?? Peer(node: node, epoch: nil) }
    }

    /// A message of `node` has come.
    /// - Parameter epoch: Of a beat.
    /// - Returns: Whether the peer is back: it was silent before, or this is another life of it.
    mutating func heard(_ node: NodeID, epoch: UInt64? = nil) -> Bool {
        guard let place = self.peers.firstIndex(where: { $0.node == node }) else { return false }
        var isBack = !self.peers[place].isAlive
        if let epoch {
            if let known = self.peers[place].epoch, known != epoch { isBack = true }
            self.peers[place].epoch = epoch
        }
        self.peers[place].isAlive = true
        self.peers[place].silentTicks = 0
        return isBack
    }

    /// - Returns: The peers that have now been silent for `silentTicksMax` ticks.
    mutating func tick(silentTicksMax: Int) -> [NodeID] {
        var lost: [NodeID] = []
        for place in self.peers.indices where self.peers[place].isAlive {
            self.peers[place].silentTicks += 1
            if self.peers[place].silentTicks >= silentTicksMax {
                self.peers[place].isAlive = false
                lost.append(self.peers[place].node)
            }
        }
        return lost
    }

    /// The peers that are heard, ascending.
    var alive: [NodeID] {
        var nodes: [NodeID] = []
        for peer in self.peers where peer.isAlive { nodes.append(peer.node) }
        return nodes
    }

    func isAlive(_ node: NodeID) -> Bool { self.peers.contains { $0.node == node && $0.isAlive } }
}
