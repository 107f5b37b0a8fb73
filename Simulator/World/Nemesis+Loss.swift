internal import Consensus
internal import Primitives
internal import Shards
internal import Storage

// Disks that are lost or damaged for good, the nodes that take their place, and upgrades.
extension Nemesis {
    /// Whether the cluster bears the loss of `node`: every group keeps a quorum of voters that are all there.
    private func mayLose(_ node: SimNode) -> Bool {
        guard !node.isLost, !node.isDamaged, !self.world.operatorClient.wantsAlone(node.id) else { return false }
        if self.world.nodes.contains(where: { $0.isDamaged && !$0.isLost }) { return false }
        for group in self.world.plan.groups {
            guard let leader = self.world.leader(of: group.id), let core = leader.process?.core(of: group.id) else {
                return false
            }
            let membership = core.membership
            let isQuiet = !membership.isJoint && core.appliedIndex == core.lastIndex
            guard isQuiet, membership.voters.count >= 3 || !membership.contains(node.id) else { return false }
            let isWhole = membership.voters.allSatisfy { voter in self.world.node(voter)?.isLost == false }
            // A voter of an earlier membership may not know yet that it is none any more.
            guard isWhole, self.isSettled(membership, group.id) else { return false }
        }
        return true
    }

    /// Every running replica of the group has the leader's membership.
    private func isSettled(_ membership: Membership, _ group: GroupID) -> Bool {
        self.world.nodes.allSatisfy { node in
            guard !node.isLost else { return true }
            guard let process = node.process else { return false }
            guard let core = process.core(of: group) else { return !membership.contains(node.id) }
            return core.membership == membership
        }
    }

    /// The disk of a node is gone; another node takes its place under an id of its own.
    func wipe() {
        let node = self.anyNode
        guard self.mayLose(node) else { return }
        self.world.coverage[.wipes] += 1
        self.replace(node)
    }

    /// A node whose disk is gone or damaged leaves the cluster for good, and a new one comes.
    func replace(_ node: SimNode) {
        guard !node.isLost else { return }
        node.lose()
        let fresh = self.world.addNode(self.world.freshNodeID)
        self.world.note(.fault, node.id, "is lost; node \(fresh.id) takes its place")
        fresh.start()
        guard self.world.plan.planning == nil else {
            return self.world.operatorClient.replace(node.id, by: fresh.id)
        }
        self.planRepair(of: node.id, by: fresh.id)
    }

    /// Asks for the exchange of a lost node, again and again until no group has it any more.
    private func planRepair(of lost: NodeID, by fresh: NodeID) {
        self.world.after(SimulationPlan.tickInterval * 5) { [self] in
            var isDone = true
            for group in self.world.plan.groups {
                guard let leader = self.world.leader(of: group.id), let core = leader.process?.core(of: group.id) else {
                    isDone = false
                    continue
                }
                guard core.membership.contains(lost) else { continue }
                isDone = false
                let joins: MembershipChange.Step = core.membership.isVoter(lost) ? .addVoter(fresh) : .addLearner(fresh)
                let change = core.membership.isJoint ? MembershipChange([]) : MembershipChange([joins, .remove(lost)])
                leader.whenRunning { process in process.change(group.id, change) { _ in } }
            }
            if !isDone { self.planRepair(of: lost, by: fresh) }
        }
    }

    /// A node crashes, and a bit of what lies on its disk is another when it comes back.
    func flipBit() {
        let node = self.anyNode
        guard self.mayLose(node), node.process != nil else { return }
        if self.dice.chance(50) { return self.flipLogBit(of: node) }
        let family = self.dice.pick([ColumnFamily.groupState, .ledgerHeads, .records])
        var keys: [[UInt8]] = []
        do {
            try node.store.unfaulted.scan(family, from: [], to: nil) { key, _ in
                keys.append(key)
                return keys.count < Self.keysMax
            }
            guard !keys.isEmpty else { return }
            let key = self.dice.pick(keys)
            node.crash()
            // The store's checksums tell it.
            try node.store.damage(.unreadable, of: key, in: family)
        } catch {
            self.world.violate("the simulated disk cannot be damaged: \(error)")
        }
        node.isDamaged = true
        self.world.coverage[.bitFlips] += 1
        self.world.note(.fault, node.id, "a bit of \(family.rawValue) is flipped")
        node.planRestart()
    }

    private func flipLogBit(of node: SimNode) {
        guard let place = node.logFiles.flipBit(&self.dice) else { return }
        node.isDamaged = true
        self.world.coverage[.logBitFlips] += 1
        self.world.note(.fault, node.id, "a bit of the log is flipped, in \(place)")
        guard self.dice.chance(60) else { return }
        node.crash()
        node.planRestart()
    }

    private static let keysMax = 10_000

    /// A node restarts with a newer program; when all have one, the cluster is told.
    func upgrade() {
        let old = self.world.nodes.filter { !$0.isLost && $0.features != .supported }
        guard !old.isEmpty else { return }
        let node = self.dice.pick(old)
        node.features = .supported
        self.world.coverage[.upgrades] += 1
        node.crash()
        node.planRestart()
        if old.count == 1 { self.world.operatorClient.raise(.current) }
    }
}
