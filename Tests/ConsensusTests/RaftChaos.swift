internal import Consensus
internal import Primitives
internal import Synchronization

/// Random runs of a small cluster: everything that a network, crashes and an operator can do, then a time without
/// faults in which the cluster must come together again, then drills of what needs a certain course of events.
struct RaftChaos {
    let seed: UInt64
    let cluster: RaftCluster
    private var dice: SeededGenerator
    private var proposed = 0
    /// Copies of messages that arrive much later.
    private var attic: [RaftMessage] = []
    /// How many of 100 steps are ticks: with many there are many elections.
    private let tickShare: Int
    private let changesMembership: Bool
    private(set) var crashes = 0
    private(set) var changes = 0
    private(set) var sleeps = 0

    init(seed: UInt64, faults: CoreFaults = [], isLarge: Bool = false) {
        self.seed = seed
        var dice = SeededGenerator(seed: seed)
        let bytesMax = [1, 80, 800, 1 << 20][Int(dice.next() % 4)]
        let inflightMax = 1 + Int(dice.next() % 4)
        let recentMax = [1, 200, 1 << 20][Int(dice.next() % 3)]
        let isLazy = dice.next() % 2 == 0
        let hasLeases = dice.next() % 4 == 0
        self.changesMembership = dice.next() % 3 > 0 || isLarge
        let voters = isLarge ? 5 : [1, 2, 3, 3, 3, 5, 5, 4][Int(dice.next() % 8)]
        let count = self.changesMembership ? max(voters, 3) + 2 : voters
        self.cluster = RaftCluster(count, voters: voters, seed: seed, faults: faults) { configuration in
            configuration.messageBytesMax = bytesMax
            configuration.inflightMessagesMax = inflightMax
            configuration.recentBytesMax = recentMax
            configuration.lazyCommitPush = isLazy
            configuration.leaseReads = hasLeases
            configuration.leaseDriftTicks = 1
            configuration.electionTicks = 5
            configuration.heartbeatTicks = 1
        }
        self.tickShare = [6, 12, 25, 40][Int(dice.next() % 4)]
        self.cluster.isApplyingByHand = true
        self.cluster.isInstallingByHand = true
        self.dice = dice
    }

    private mutating func roll(_ sides: Int) -> Int { Int(self.dice.next() % UInt64(sides)) }
    private mutating func anyID() -> NodeID { self.cluster.ids[self.roll(self.cluster.ids.count)] }

    /// - Returns: Whether a rule was broken.
    mutating func run(steps: Int) -> Bool {
        for _ in 0..<steps {
            self.step()
            if !self.cluster.violations.isEmpty { return true }
        }
        return false
    }

    private mutating func step() {
        let node = self.cluster.nodes[self.anyID()]!
        if self.roll(100) < self.tickShare {
            // With leases the clocks of all nodes keep step, as the configuration promises.
            if self.cluster.configuration.leaseReads {
                for id in self.cluster.ids { self.cluster.tick(id.rawValue) }
            } else {
                self.cluster.tick(node.id.rawValue)
            }
            return
        }
        switch self.roll(120) {
        case 0..<24: self.cluster.persist(node.id)
        case 24..<36: self.cluster.apply(node.id)
        case 36..<45: self.propose()
        case 45..<47: self.repartition()
        case 47: self.crashOrRestart(node)
        case 48: self.cluster.change(node.id) { $0.unreachable(self.cluster.ids[0]) }
        case 49: self.cluster.campaign(node.id.rawValue)
        case 50..<52: self.deliverFromAttic()
        case 52..<56: self.cluster.install(node.id, crashesBeforeReset: self.roll(8) == 0)
        case 56..<58: self.compact(node)
        case 58..<61: self.cluster.read(node.id.rawValue)
        case 61..<65: if self.changesMembership { self.changeMembership() }
        case 68: self.transfer()
        case 65: if self.roll(4) == 0 { self.calm() } else { self.sleepOrWake(node) }
        case 66: self.reportSnapshot()
        case 67: self.cluster.change(node.id) { $0.forgetLeader() }
        default: for _ in 0...self.roll(4) { self.deliverOne() }
        }
    }

    private mutating func deliverFromAttic() {
        guard !self.attic.isEmpty else { return }
        self.cluster.deliver(self.attic.remove(at: self.roll(self.attic.count)))
    }

    /// Any message, also twice, or never.
    private mutating func deliverOne() {
        guard !self.cluster.inFlight.isEmpty else { return }
        let isInOrder = self.roll(3) > 0
        let place = isInOrder ? 0 : self.roll(self.cluster.inFlight.count)
        let message = self.cluster.inFlight[place]
        let isKept = self.roll(20) == 0 && self.cluster.inFlight.count < 200
        let isRequest = if case .voteRequest = message.body { true } else { false }
        if self.roll(10) == 0 || isRequest, self.attic.count < 100 { self.attic.append(message) }
        if !isKept { self.cluster.inFlight.remove(at: place) }
        if self.roll(15) > 0 { self.cluster.deliver(message) }
    }

    private mutating func propose() {
        guard let leader = self.cluster.leaders.last, self.proposed < 10_000 else { return }
        self.proposed += 1
        let isEmpty = self.roll(20) == 0
        self.cluster.propose(leader.rawValue, isEmpty ? "" : "\(self.proposed),")
    }

    private mutating func changeMembership() {
        guard let leader = self.cluster.leaders.last else { return }
        var steps: [MembershipChange.Step] = []
        for _ in 0...self.roll(3) {
            let node = self.anyID()
            switch self.roll(5) {
            case 0, 1: steps.append(.addVoter(node))
            case 2: steps.append(.addLearner(node))
            default: steps.append(.remove(node))
            }
        }
        if self.roll(6) == 0 { steps = [] }
        let transition: MembershipChange.Transition = [.auto, .auto, .auto, .implicit, .explicit][self.roll(5)]
        if case .accepted = self.cluster.changeMembership(leader.rawValue, steps, transition) { self.changes += 1 }
    }

    private mutating func transfer() {
        guard let leader = self.cluster.leaders.last else { return }
        self.cluster.transfer(leader.rawValue, to: self.anyID().rawValue)
    }

    private mutating func sleepOrWake(_ node: VirtualNode) {
        if self.roll(2) == 0 {
            self.cluster.change(node.id) { $0.wake() }
            self.cluster.ready(node.id)
        } else if let leader = self.cluster.leaders.last {
            let live = self.cluster.ids.filter { self.cluster.nodes[$0]!.core != nil }.map(\.rawValue)
            if self.cluster.hibernate(leader.rawValue, live: live) { self.sleeps += 1 }
        }
    }

    /// A short time in which everything works, after which a group may sleep.
    private mutating func calm() {
        self.cluster.heal()
        self.cluster.isApplyingByHand = false
        self.cluster.isInstallingByHand = false
        self.cluster.run(ticks: 4)
        self.cluster.isApplyingByHand = true
        self.cluster.isInstallingByHand = true
        self.sleepOrWake(self.cluster.nodes[self.anyID()]!)
        if self.roll(2) == 0 { self.cluster.stabilize() }
    }

    private mutating func reportSnapshot() {
        guard let leader = self.cluster.leaders.last else { return }
        let peer = self.anyID()
        let isDone = self.roll(2) == 0
        self.cluster.change(leader) { $0.snapshotReport(to: peer, succeeded: isDone) }
    }

    private mutating func compact(_ node: VirtualNode) {
        guard let core = node.core, core.appliedIndex >= core.firstIndex else { return }
        let span = Int(core.appliedIndex.rawValue - core.firstIndex.rawValue) + 1
        self.cluster.compact(node.id, through: LogIndex(core.firstIndex.rawValue + UInt64(self.roll(span))))
    }

    private mutating func repartition() {
        if self.roll(2) == 0 {
            self.cluster.heal()
            return
        }
        for from in self.cluster.ids {
            for to in self.cluster.ids where from != to && self.roll(4) == 0 { self.cluster.cut.insert([from, to]) }
        }
    }

    private mutating func crashOrRestart(_ node: VirtualNode) {
        if node.core == nil {
            if node.removedAt == nil { self.cluster.start(node.id) }
        } else {
            self.crashes += 1
            self.cluster.crash(node.id)
            if self.roll(2) == 0 { self.cluster.start(node.id) }
        }
    }

    // MARK: - Without faults

    /// One leader, equal nodes, every question answered, new commands served.
    mutating func heal() {
        self.cluster.heal()
        for id in self.cluster.ids where self.cluster.nodes[id]!.core == nil {
            if self.cluster.nodes[id]!.removedAt == nil { self.cluster.start(id) }
        }
        self.cluster.isApplyingByHand = false
        self.cluster.isInstallingByHand = false
        for id in self.cluster.ids { self.cluster.change(id) { $0.wake() } }
        self.cluster.run(ticks: 80)
        guard let leader = self.settledLeader else {
            self.cluster.checker.violate("no single leader after healing: \(self.cluster.leaders)")
            return
        }
        if self.cluster.nodes[leader]!.membership.isJoint {
            // Left on request only.
            self.cluster.changeMembership(leader.rawValue, [])
            self.cluster.run(ticks: 40)
        }
        self.serve("end")
        for id in self.cluster.ids {
            let node = self.cluster.nodes[id]!
            if !node.openTokens.isEmpty { self.cluster.checker.violate("proposals of node \(id) were never answered") }
            if !node.openReads.isEmpty { self.cluster.checker.violate("reads of node \(id) were never answered") }
        }
        if self.cluster.violations.isEmpty { self.drill() }
    }

    private var settledLeader: NodeID? {
        guard self.cluster.leaders.count == 1, let leader = self.cluster.leaders.first else { return nil }
        return leader
    }

    /// A command and a read are served, and all replicas become equal.
    private mutating func serve(_ text: String) {
        guard let leader = self.settledLeader else {
            self.cluster.checker.violate("no single leader to serve \(text): \(self.cluster.leaders)")
            return
        }
        self.cluster.propose(leader.rawValue, text)
        let read = self.cluster.read(leader.rawValue)
        self.cluster.run(ticks: 8)
        let membership = self.cluster.nodes[leader]!.membership
        let texts = Set(membership.replicas.map { self.cluster.nodes[$0]!.text })
        if texts.count != 1 { self.cluster.checker.violate("the nodes differ after healing") }
        if texts.first?.hasSuffix(text) != true { self.cluster.checker.violate("nothing is served after healing") }
        if self.cluster.grantedReads[read] == nil { self.cluster.checker.violate("no read is served after healing") }
    }

    private mutating func drill() {
        guard let leader = self.settledLeader else { return }
        let others = self.cluster.nodes[leader]!.membership.voters.filter { $0 != leader }
        guard let target = others.first else { return }
        // The target of a transfer is gone: the transfer ends, and commands are served again.
        self.cluster.isolate(target.rawValue)
        self.cluster.transfer(leader.rawValue, to: target.rawValue)
        self.cluster.run(ticks: 12)
        if others.count > 1, self.cluster.leaders.contains(leader),
            self.cluster.propose(leader.rawValue, "t") == .transferring
        {
            self.cluster.checker.violate("a transfer has no end")
        }
        self.cluster.heal()
        self.cluster.run(ticks: 40)
        self.drillStaleRead()
        self.drillStepDown()
        self.drillPartialCut()
        self.cluster.run(ticks: 40)
        self.serve("last")
    }

    /// A leader that is left with one follower, while the others have another leader, must not serve a read.
    private mutating func drillStaleRead() {
        guard let leader = self.settledLeader, !self.cluster.configuration.leaseReads else { return }
        let voters = self.cluster.nodes[leader]!.membership.voters.filter { $0 != leader }
        guard voters.count >= 4, let friend = voters.first else { return }
        let others = voters.dropFirst()
        for one in self.cluster.ids {
            for other in self.cluster.ids where [leader, friend].contains(one) != [leader, friend].contains(other) {
                self.cluster.cut.insert([one, other])
            }
        }
        for _ in 0..<40 where !others.contains(where: { self.cluster.nodes[$0]!.core?.role == .leader }) {
            for other in others { self.cluster.tick(other.rawValue) }
            self.cluster.stabilize()
        }
        if let new = others.first(where: { self.cluster.nodes[$0]!.core?.role == .leader }) {
            self.cluster.propose(new.rawValue, "n")
            self.cluster.stabilize()
        }
        self.cluster.read(leader.rawValue)
        self.cluster.stabilize()
        self.cluster.heal()
        self.cluster.run(ticks: 40)
    }

    /// A leader in the middle of a transfer loses its majority and steps down; it must be able to lead again.
    private mutating func drillStepDown() {
        guard let leader = self.settledLeader else { return }
        let others = self.cluster.nodes[leader]!.membership.voters.filter { $0 != leader }
        guard let target = others.first else { return }
        self.cluster.tick(leader.rawValue, count: 3)
        self.cluster.isolate(leader.rawValue)
        self.cluster.transfer(leader.rawValue, to: target.rawValue)
        self.cluster.tick(leader.rawValue, count: 15)
        if self.cluster.leaders.contains(leader) { self.cluster.checker.violate("a leader without majority leads on") }
        self.cluster.heal()
        self.cluster.drop { $0.from != leader && $0.to != leader }
        for other in others { self.cluster.change(other) { $0.forgetLeader() } }
        if self.cluster.configuration.leaseReads { self.cluster.run(ticks: 30) }
        for _ in 0..<4 where self.settledLeader != leader { self.cluster.elect(leader.rawValue) }
        if self.cluster.leaders.contains(leader), self.cluster.propose(leader.rawValue, "s") == .transferring {
            self.cluster.checker.violate("a transfer outlives its leadership")
        }
        self.cluster.run(ticks: 30)
    }

    /// One node does not reach the leader but others: the leader stays.
    private mutating func drillPartialCut() {
        guard let leader = self.settledLeader, let term = self.cluster.nodes[leader]!.core?.term else { return }
        let others = self.cluster.nodes[leader]!.membership.voters.filter { $0 != leader }
        guard others.count > 1, let lonely = others.last else { return }
        self.cluster.cut = [[leader, lonely], [lonely, leader]]
        self.cluster.run(ticks: 40)
        if self.cluster.nodes[leader]!.core?.term != term {
            self.cluster.checker.violate("a node that does not hear the leader disturbs the others")
        }
        self.cluster.heal()
    }
}
