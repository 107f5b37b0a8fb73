internal import Consensus
internal import Primitives
internal import Storage

/// Makes the troubles of a plan happen, at random times and in random order.
final class Nemesis {
    unowned let world: World
    var dice: Dice
    private var isRunning = false
    /// A partition moves after the leaders of a group.
    private var isChasing = false
    private let troubles: [SimulationPlan.Trouble]

    init(world: World, dice: Dice) {
        self.world = world
        self.dice = dice
        self.troubles = SimulationPlan.Trouble.allCases.filter { world.plan.troubles.contains($0) }
    }

    func start() {
        self.isRunning = true
        self.planNext()
        self.planHousekeeping()
    }

    func stop() { self.isRunning = false }

    private func planNext() {
        self.world.after(self.dice.draw(1...(self.world.plan.troubleInterval * 2))) { [self] in
            guard self.isRunning else { return }
            if !self.troubles.isEmpty { self.make(self.dice.pick(self.troubles)) }
            self.planNext()
        }
    }

    /// What the store of a running node does of its own accord now and then.
    private func planHousekeeping() {
        self.world.after(self.dice.draw(1_000...60_000)) { [self] in
            let node = self.dice.pick(self.world.nodes)
            node.whenRunning { process in process.flush() }
            self.planHousekeeping()
        }
    }

    private func make(_ trouble: SimulationPlan.Trouble) {
        self.world.note(.fault, nil, "\(trouble)")
        switch trouble {
        case .loss, .delay, .doubling, .reordering: self.clog()
        case .earlierLife: for _ in 0..<3 { self.world.network.deliverFromAttic() }
        case .wholePartition: self.cutWhole()
        case .oneWayPartition: self.cutOneWay()
        case .partialPartition: self.cutPartial()
        case .movingPartition: self.chaseLeaders()
        case .crash: self.crashOne(after: nil)
        case .longOutage: self.crashOne(after: self.dice.draw(200_000...1_500_000))
        case .crashAll: self.crashAll()
        case .crashAtIO: self.endAtIO()
        case .slowDisk: self.stallDisk()
        case .slowApply: self.stallApply()
        case .diskFailure: self.failIO()
        case .fullDisk: self.fillDisk()
        case .bitFlip: self.flipBit()
        case .pause: self.pauseOne()
        case .clockJump: self.jumpClock()
        case .drift: self.drift()
        case .membership: self.changeMembership()
        case .transfer: self.transfer()
        case .plannedStop: self.stopAsPlanned()
        case .forcedCampaign: self.forceCampaign()
        case .compaction: self.compact()
        case .wipe: self.wipe()
        case .upgrade: self.upgrade()
        }
    }

    var anyNode: SimNode { self.dice.pick(self.world.nodes.filter { !$0.isLost }) }

    // MARK: - Network

    private func healLater() {
        self.world.after(self.dice.draw(20_000...self.dice.pick([100_000, 300_000, 800_000]))) { [self] in
            if self.isRunning { self.world.network.healLinks() }
        }
    }

    private func clog() {
        let from = self.anyNode.id
        let to = self.anyNode.id
        self.world.network.clog(from, to, until: self.world.now + self.dice.draw(10_000...600_000))
    }

    private func cutWhole() {
        self.world.coverage[.partitionsWhole] += 1
        let ids = self.world.nodes.map(\.id)
        var side = self.dice.subset(ids, count: self.dice.roll(ids.count) + 1)
        let group = self.dice.pick(self.world.plan.groups).id
        if self.dice.chance(50), let leader = self.world.leader(of: group) {
            // The leader with too few others to lead on.
            let others = ids.filter { $0 != leader.id }
            side = [leader.id] + self.dice.subset(others, count: self.dice.roll(max(1, ids.count / 2)))
        }
        for one in ids where side.contains(one) {
            for other in ids where !side.contains(other) {
                self.world.network.cut(one, other)
                self.world.network.cut(other, one)
            }
        }
        self.healLater()
    }

    private func cutOneWay() {
        self.world.coverage[.partitionsOneWay] += 1
        let one = self.anyNode.id
        let isDeaf = self.dice.chance(50)
        for node in self.world.nodes where node.id != one {
            if isDeaf { self.world.network.cut(node.id, one) } else { self.world.network.cut(one, node.id) }
        }
        self.healLater()
    }

    /// Single links, or all links but those of one node, or a chain.
    private func cutPartial() {
        self.world.coverage[.partitionsPartial] += 1
        let ids = self.world.nodes.map(\.id)
        switch self.dice.roll(3) {
        case 0:
            for one in ids {
                for other in ids where one != other && self.dice.chance(30) { self.world.network.cut(one, other) }
            }
        case 1:
            let hub = self.dice.pick(ids)
            for one in ids { for other in ids where one != hub && other != hub { self.world.network.cut(one, other) } }
        default:
            for (left, one) in ids.enumerated() {
                for (right, other) in ids.enumerated() where abs(left - right) > 1 {
                    self.world.network.cut(one, other)
                }
            }
        }
        self.healLater()
    }

    /// Cuts off whoever leads a group, and soon after another leads that one instead, several times.
    ///
    /// Who was cut off before comes back to voters without the leader who could teach it: tails of different terms stand
    /// against each other, and leaders that do not know of one another.
    private func chaseLeaders() {
        guard !self.isChasing else { return }
        self.isChasing = true
        self.world.coverage[.partitionsMoving] += 1
        let groups = self.world.plan.groups
        let group = self.dice.chance(20) ? groups[0] : self.dice.pick(Array(groups.dropFirst()))
        // Soon: before a new leader has taught anybody; late: while it works, the old one may still believe to lead.
        let patience = self.dice.pick(Self.lookMicros)
        self.chase(Chase(group: group.id, patience: patience, movesLeft: self.dice.draw(2...4)))
    }

    /// A partition that follows the leaders of a group.
    private struct Chase {
        let group: GroupID
        /// Microseconds between two looks at who leads, at most.
        let patience: VirtualTime
        /// Who was cut off last.
        var cutOff: NodeID?
        var movesLeft: Int
        var looksLeft = Nemesis.looksMax
    }

    /// Looks at who leads, until the partition has moved often enough or nobody else comes to lead.
    private func chase(_ chase: Chase) {
        guard self.isRunning else { return }
        guard chase.movesLeft > 0, chase.looksLeft > 0 else {
            self.isChasing = false
            return self.world.network.healLinks()
        }
        var next = chase
        next.looksLeft -= 1
        if let leader = self.world.leader(of: chase.group), leader.id != chase.cutOff {
            self.world.network.healLinks()
            self.cutOff(leader, chase.group)
            next.cutOff = leader.id
            next.movesLeft -= 1
            next.looksLeft = Self.looksMax
        }
        self.world.after(self.dice.draw(chase.patience / 5...chase.patience)) { [self] in self.chase(next) }
    }

    private static let lookMicros: [VirtualTime] = [10_000, 30_000, 200_000]
    /// Looks at who leads that find nobody new, at most.
    private static let looksMax = 20

    /// Leaves a leader alone, or with fewer followers than it needs.
    private func cutOff(_ leader: SimNode, _ group: GroupID) {
        let ids = self.world.nodes.map(\.id)
        let voters = leader.process?.core(of: group)?.membership.voters ?? []
        var side = [leader.id]
        if self.dice.chance(70), voters.count > 3 {
            let others = voters.filter { $0 != leader.id }
            side += self.dice.subset(others, count: self.dice.draw(1...(voters.count / 2 - 1)))
        }
        for one in ids where side.contains(one) {
            for other in ids where !side.contains(other) {
                self.world.network.cut(one, other)
                self.world.network.cut(other, one)
            }
        }
        // When it goes on it still leads, as far as it knows.
        if leader.isRunning, self.dice.chance(50) { self.pause(leader, for: self.dice.draw(50_000...300_000)) }
    }

    // MARK: - Processes

    private func crashOne(after delay: VirtualTime?) {
        let node = self.anyNode
        guard node.process != nil else { return }
        self.world.coverage[.crashes] += 1
        node.crash()
        node.planRestart(after: delay)
    }

    private func crashAll() {
        self.world.coverage[.crashesOfAll] += 1
        for node in self.world.nodes where node.process != nil {
            node.crash()
            node.planRestart()
        }
    }

    private func pauseOne() {
        let node = self.anyNode
        guard node.isRunning else { return }
        self.pause(node, for: self.dice.draw(20_000...900_000))
    }

    private func pause(_ node: SimNode, for delay: VirtualTime) {
        self.world.coverage[.pauses] += 1
        node.pause()
        let life = node.life
        self.world.after(delay) { if node.life == life { node.resume() } }
    }

    private func jumpClock() {
        self.world.coverage[.clockJumps] += 1
        self.anyNode.clockOffset += self.dice.draw(-7_200_000_000...7_200_000_000)
    }

    /// As far as leases allow, when they are on.
    private func drift() {
        let most: VirtualTime = self.world.plan.configuration.leaseReads ? 80 : 300
        self.anyNode.driftPerMille = self.dice.draw(-most...most)
    }

    // MARK: - Disks

    private func stallDisk() {
        self.world.coverage[.diskSlow] += 1
        self.anyNode.stalledUntil = self.world.now + self.dice.draw(50_000...500_000)
    }

    /// Commands are taken and committed, but not applied for a while.
    private func stallApply() {
        self.world.coverage[.appliesSlow] += 1
        self.anyNode.appliesStalledUntil = self.world.now + self.dice.draw(50_000...600_000)
    }

    // MARK: - Operators

    private func changeMembership() {
        if self.world.plan.planning != nil { return self.wish() }
        let group = self.dice.pick(self.world.plan.groups).id
        guard let leader = self.world.leader(of: group), let core = leader.process?.core(of: group) else { return }
        // While a disk is damaged or lost the group does without that replica: it must not come to depend on it.
        let isWhole = self.world.nodes.allSatisfy { node in
            node.isLost ? !core.membership.contains(node.id) : !node.isDamaged
        }
        guard isWhole, let change = self.drawChange(core.membership) else { return }
        leader.whenRunning { process in process.change(group, change) { _ in } }
    }

    private func drawChange(_ membership: Membership) -> MembershipChange? {
        if membership.isJoint, self.dice.chance(60) { return MembershipChange([], transition: .auto) }
        let ids = self.world.nodes.filter { !$0.isLost }.map(\.id)
        var steps: [MembershipChange.Step] = []
        let wanted = self.dice.draw(1...3)
        for id in self.dice.subset(ids, count: wanted) {
            if membership.isVoter(id) {
                let kept = membership.voters.count
                if kept > 1 { steps.append(self.dice.chance(70) ? .remove(id) : .addLearner(id)) }
            } else {
                steps.append(
                    self.dice.chance(70) ? .addVoter(id) : (self.dice.chance(50) ? .addLearner(id) : .remove(id))
                )
            }
        }
        if steps.isEmpty { return nil }
        return MembershipChange(steps, transition: self.dice.pick([.auto, .auto, .implicit, .explicit]))
    }

    private func transfer() {
        let group = self.dice.pick(self.world.plan.groups).id
        guard let leader = self.world.leader(of: group), let core = leader.process?.core(of: group) else { return }
        let target = self.dice.pick(core.membership.replicas)
        leader.whenRunning { process in process.transfer(group, to: target) { _ in } }
    }

    /// A node, or now and then every node at once, hands on what it leads, ends and comes back.
    private func stopAsPlanned() {
        let nodes = self.dice.chance(30) ? self.world.nodes.filter { !$0.isLost } : [self.anyNode]
        for node in nodes where node.isRunning {
            let life = node.life
            node.whenRunning { process in
                process.handOnAll { [self] in
                    // Not from within the turn that answered.
                    self.world.after(0) { [self] in
                        guard node.life == life, self.isRunning else { return }
                        self.world.coverage[.plannedStops] += 1
                        node.crash()
                        node.planRestart()
                    }
                }
            }
        }
    }

    private func forceCampaign() {
        if self.world.plan.configuration.leaseReads { return }
        let group = self.dice.pick(self.world.plan.groups).id
        self.world.coverage[.leadersByForce] += 1
        self.anyNode.whenRunning { process in process.campaign(group) }
    }

    private func compact() {
        for node in self.world.nodes { node.whenRunning { process in process.flush() } }
    }
}
