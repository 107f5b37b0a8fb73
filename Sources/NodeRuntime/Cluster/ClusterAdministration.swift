internal import Consensus
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards

/// What operators change in the cluster: judged against the system group's state, then written there for ``ClusterManager`` to carry out.
///
/// Everything but a leader's transfer is a wish in the system group's log, recorded in the cluster ledger with who wanted
/// it; so it survives the node that took it. Wishing twice changes nothing.
struct ClusterAdministration: Sendable {
    /// How long a join token lets a node join.
    static let tokenLifetimeMicroseconds: Int64 = 24 * 3_600_000_000
    /// What ``add(_:api:peer:by:)`` gives.
    struct Added: Sendable {
        let node: NodeID
        /// Shown this once; only its SHA-256 is kept.
        let token: String
        let expiresAt: Timestamp
    }

    let node: NodeID
    let directory: ShardDirectory
    let gateway: CommandGateway
    let reads: ReadGate
    let observer: ClusterObserver
    let changes: GroupChanges
    let stamps: StampClock

    /// The system group's state with everything that was acknowledged before.
    func state() async throws -> SystemState {
        try await self.reads.linearize(.system)
        return self.directory.current
    }

    func submit(_ command: Command, by origin: CommandOrigin, mayRepeat: Bool = true) async throws {
        let result = try await self.gateway.submit(command, to: .system, mayRepeat: mayRepeat, origin: origin)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
        try await self.reads.linearize(.system)
    }

    // MARK: Nodes

    /// Lets a new node join once.
    /// - Throws: ``Problem`` when the id or an address is taken.
    func add(
        _ id: NodeID,
        api: NodeConfiguration.HostPort,
        peer: NodeConfiguration.HostPort,
        by origin: CommandOrigin
    ) async throws -> Added {
        let state = try await self.state()
        try Self.requireNew(id, in: state)
        try Self.requireFree([api.description, peer.description], in: state)
        let token = "ftj_" + RandomText.hex(bytes: 32)
        let expiresAt = Timestamp(microseconds: self.stamps.now().rawValue + Self.tokenLifetimeMicroseconds)
        let command = CreateJoinTokenCommand(hash: sha256(Array(token.utf8)), node: id, expiresAt: expiresAt)
        try await self.submit(.createJoinToken(command), by: origin, mayRepeat: false)
        return Added(node: id, token: token, expiresAt: expiresAt)
    }

    static func requireNew(_ id: NodeID, in state: SystemState) throws(Problem) {
        guard let entry = state.node(id) else { return }
        if entry.state == .removed { throw Problem(refusal: .nodeRemoved) }
        throw Problem(refusal: .nodeExists)
    }

    static func requireFree(_ addresses: [String], in state: SystemState) throws(Problem) {
        if let first = addresses.first, addresses.dropFirst().contains(first) {
            throw Problem(.addressTaken, "the API and the peer address are the same")
        }
        for entry in state.nodes where entry.state != .removed {
            if let taken = addresses.first(where: { $0 == entry.api || $0 == entry.peer }) {
                throw Problem(.addressTaken, "\(taken) is an address of node \(entry.id)")
            }
        }
    }

    /// Cordons, drains, or puts a node to use again.
    func set(_ id: NodeID, _ wish: NodeState, by origin: CommandOrigin) async throws {
        let state = try await self.state()
        let entry = try Self.member(id, in: state)
        guard entry.state != .leaving else {
            throw Problem(.stateNotAllowed, "node \(id) is being removed")
        }
        if entry.state == wish { return }
        if wish == .draining { try Self.requireEnough(without: id, in: state) }
        try await self.submit(.setNodeState(SetNodeStateCommand(node: id, state: wish)), by: origin)
    }

    /// Begins the removal of a node.
    func remove(_ id: NodeID, by origin: CommandOrigin) async throws {
        let state = try await self.state()
        guard let entry = state.node(id) else { throw Problem(refusal: .nodeNotFound) }
        if entry.state == .removed || entry.state == .leaving { return }
        try Self.requireEnough(without: id, in: state)
        try await self.submit(.setNodeState(SetNodeStateCommand(node: id, state: .leaving)), by: origin)
    }

    /// Begins to put the replicas of one node on another.
    func replace(_ id: NodeID, by other: NodeID, origin: CommandOrigin) async throws {
        let state = try await self.state()
        guard id != other else { throw Problem(.invalidField, "a node cannot replace itself") }
        let entry = try Self.member(id, in: state)
        let substitute = try Self.member(other, in: state)
        if entry.state == .leaving, entry.replacement == other { return }
        guard substitute.state == .active else {
            throw Problem(.nodeNotAvailable, "node \(other) is \(substitute.state.name), it cannot take replicas")
        }
        try Self.requireEnough(without: id, in: state)
        let command = SetNodeStateCommand(node: id, state: .leaving, replacement: other)
        try await self.submit(.setNodeState(command), by: origin)
    }

    func rebalance(by origin: CommandOrigin) async throws {
        let state = try await self.state()
        if state.isRebalancing { return }
        try await self.submit(.setRebalancing(true), by: origin)
    }

    private static func member(_ id: NodeID, in state: SystemState) throws(Problem) -> NodeEntry {
        guard let entry = state.node(id) else { throw Problem(refusal: .nodeNotFound) }
        if entry.state == .removed { throw Problem(.nodeRemoved, "node \(id) was removed") }
        return entry
    }

    /// The nodes that may hold replicas must be enough for every group without `id`.
    static func requireEnough(without id: NodeID, in state: SystemState) throws(Problem) {
        let left = state.nodes.filter { $0.id != id && ($0.state == .active || $0.state == .cordoned) }
        if left.isEmpty {
            throw Problem(.lastVoter, "node \(id) is the last one that can hold data")
        }
        if left.count < state.replicas {
            throw Problem(
                .notEnoughNodes,
                "\(left.count) nodes would be left for \(state.replicas) replicas of each group: add a node first"
            )
        }
    }

    // MARK: Groups

    /// Wishes the replicas of one group on certain nodes.
    func place(_ group: GroupID, on nodes: [NodeID], by origin: CommandOrigin) async throws {
        let state = try await self.state()
        try Self.requirePlaceable(group, on: nodes, in: state)
        try await self.submit(.setTarget(SetTargetCommand(group: group, replicas: nodes.sorted())), by: origin)
    }

    static func requirePlaceable(_ group: GroupID, on nodes: [NodeID], in state: SystemState) throws(Problem) {
        guard state.placement(of: group) != nil else { throw Problem(.groupNotFound, "there is no group \(group)") }
        guard group != .system else {
            throw Problem(.stateNotAllowed, "the system group is on every node; its voters are chosen by the cluster")
        }
        guard Set(nodes).count == nodes.count else {
            throw Problem(.replicasInvalid, "a node stands twice", members: [.text("pointer", "/nodes")])
        }
        guard [1, 3, 5, 7].contains(nodes.count) else {
            throw Problem(
                .replicasInvalid,
                "\(nodes.count) replicas are not possible: 1, 3, 5 or 7, as an even number survives no more failures",
                members: [.text("pointer", "/nodes")]
            )
        }
        for id in nodes {
            let entry = try self.member(id, in: state)
            guard entry.state == .active || entry.state == .cordoned else {
                throw Problem(.nodeNotAvailable, "node \(id) is \(entry.state.name), it cannot take replicas")
            }
        }
    }

    /// Makes another replica the leader; returns when it is.
    func transfer(_ group: GroupID, to node: NodeID) async throws {
        let state = try await self.state()
        guard state.placement(of: group) != nil else { throw Problem(.groupNotFound, "there is no group \(group)") }
        _ = try Self.member(node, in: state)
        let seen = await self.observer.look(at: state)
        guard let leader = seen.leader(of: group) else {
            throw Problem(.noLeader, "group \(group) has no leader now")
        }
        if leader == node { return }
        do {
            try await self.changes.transfer(group, from: leader, to: node)
        } catch {
            switch error.code {
            case .refused: throw Problem(.notAVoter, error.message, cause: error)
            case .busy: throw Problem(.changePending, error.message, cause: error)
            case .noLeader: throw Problem(.noLeader, error.message, cause: error)
            }
        }
    }
}
