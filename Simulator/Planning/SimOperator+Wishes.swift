internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards

// What an operator wishes of a cluster that is placed by its planner.
extension SimOperator {
    /// Wishes that may wait to be done.
    private static let backlogMax = 3
    /// Nodes that may come or go by wish in one run.
    private static let guestsMax = 2

    /// Wishes something by chance.
    func wish(_ dice: inout Dice) {
        guard self.stepCount <= Self.backlogMax else { return }
        let nodes = self.world.nodes.filter { !$0.isLost && !self.leaving.contains($0.id) }.map(\.id)
        if nodes.isEmpty { return }
        self.world.coverage[.wishes] += 1
        let node = dice.pick(nodes)
        switch dice.roll(8) {
        case 0: self.set(node, .cordoned)
        case 1, 2: self.set(node, .draining)
        case 3: for node in nodes where dice.chance(70) { self.set(node, .active) }
        case 4 where self.guests < Self.guestsMax:
            self.guests += 1
            let fresh = self.world.addNode(self.world.freshNodeID)
            fresh.start()
            self.join(fresh.id)
        case 5 where self.guests < Self.guestsMax && !self.hasDamage:
            self.guests += 1
            self.leaving.insert(node)
            self.set(node, .leaving)
        case 6: self.add(.setRebalancing(true))
        default: self.wishTarget(nodes, &dice)
        }
    }

    /// While a disk is damaged and nobody knows, no group may come to depend on it.
    private var hasDamage: Bool { self.world.nodes.contains { $0.isDamaged && !$0.isLost } }

    private func wishTarget(_ nodes: [NodeID], _ dice: inout Dice) {
        let groups = self.world.plan.groups.filter { $0.id != .system }
        let group = dice.pick(groups).id
        var sizes = SimulationPlan.replicaCounts.filter { $0 <= nodes.count }
        if self.hasDamage { sizes.removeAll { $0 == 1 } }
        guard !sizes.isEmpty, dice.chance(70) else {
            self.alone[group] = nil
            return self.add(.setTarget(SetTargetCommand(group: group, replicas: [])))
        }
        let target = dice.subset(nodes, count: dice.pick(sizes))
        if target.count == 1 { self.alone[group] = target[0] }
        self.add(.setTarget(SetTargetCommand(group: group, replicas: target)))
    }

    /// Whether a group is or was to have its one replica there.
    func wantsAlone(_ node: NodeID) -> Bool { self.alone.values.contains(node) }

    private func set(_ node: NodeID, _ state: NodeState) {
        self.add(.setNodeState(SetNodeStateCommand(node: node, state: state)))
    }

    /// Lets a new node join by a token.
    private func join(_ node: NodeID) {
        let hash = Digest(words: (node.rawValue, 9, 9, 9))
        let expiresAt = Timestamp(microseconds: .max)
        self.add(.createJoinToken(CreateJoinTokenCommand(hash: hash, node: node, expiresAt: expiresAt)))
        let register = RegisterNodeCommand(
            node: node,
            api: "n\(node):1",
            peer: "n\(node):2",
            features: self.world.features(of: node),
            joinToken: hash
        )
        self.add(.registerNode(register))
        self.world.coverage[.nodesJoined] += 1
    }

    /// Puts `fresh` in the place of a node that is lost.
    func replace(_ lost: NodeID, by fresh: NodeID) {
        self.join(fresh)
        // Without those that were drained there may be too few.
        for node in self.world.nodes where !node.isLost && !self.leaving.contains(node.id) {
            self.set(node.id, .active)
        }
        self.leaving.insert(lost)
        self.add(.setNodeState(SetNodeStateCommand(node: lost, state: .leaving, replacement: fresh)))
    }
}

extension Nemesis {
    /// An operator wishes something of the planner.
    func wish() { self.world.operatorClient.wish(&self.dice) }
}
