internal import Consensus
internal import Primitives

/// Whose signatures make a checkpoint of a group's organization quorum-signed.
struct SigningQuorum: Sendable, Equatable {
    /// The voters; while the membership changes, those of the new one.
    let voters: [NodeID]
    /// While the membership changes: the voters of the old one.
    let outgoing: [NodeID]
    /// All replicas; those that do not vote get finished checkpoints but are not waited for.
    let replicas: [NodeID]

    init(voters: [NodeID], outgoing: [NodeID] = [], replicas: [NodeID]? = nil) {
        self.voters = voters
        self.outgoing = outgoing
        self.replicas = replicas ?? Set(voters + outgoing).sorted()
    }

    init(_ membership: Membership) {
        self.init(voters: membership.voters, outgoing: membership.outgoing, replicas: membership.replicas)
    }

    /// Everyone whose signature counts, ascending.
    var signers: [NodeID] { Set(self.voters + self.outgoing).sorted() }

    /// Whether `nodes` are a majority, of both halves while the membership changes.
    func isReached(by nodes: some Sequence<NodeID>) -> Bool {
        let nodes = Set(nodes)
        func hasMajority(_ voters: [NodeID]) -> Bool { voters.count(where: nodes.contains) * 2 > voters.count }
        return hasMajority(self.voters) && (self.outgoing.isEmpty || hasMajority(self.outgoing))
    }
}
