internal import Consensus
internal import Primitives

/// Random runs of a small cluster: everything that a network and crashes can do, then a time without faults in which
/// the cluster must come together again.
struct RaftChaos {
    let seed: UInt64
    let cluster: RaftCluster
    private var dice: SeededGenerator
    private var proposed = 0
    /// Copies of messages that arrive much later.
    private var attic: [RaftMessage] = []
    /// How many of 100 steps are ticks: with many there are many elections.
    private let tickShare: Int
    private(set) var crashes = 0
    private(set) var elections = 0

    init(seed: UInt64, faults: CoreFaults = [], isForgettingVotes: Bool = false) {
        self.seed = seed
        var dice = SeededGenerator(seed: seed)
        let count = [1, 2, 3, 3, 3, 5, 5, 7][Int(dice.next() % 8)]
        let bytesMax = [1, 40, 400, 1 << 20][Int(dice.next() % 4)]
        let inflightMax = 1 + Int(dice.next() % 4)
        let recentMax = [1, 200, 1 << 20][Int(dice.next() % 3)]
        let isSound = faults.isEmpty && !isForgettingVotes
        self.cluster = RaftCluster(isSound ? count : [3, 5][Int(dice.next() % 2)], seed: seed, faults: faults) {
            configuration in
            configuration.messageBytesMax = bytesMax
            configuration.inflightMessagesMax = inflightMax
            configuration.recentBytesMax = recentMax
            configuration.electionTicks = 5
            configuration.heartbeatTicks = 1
        }
        self.tickShare = [6, 12, 25, 40][Int(dice.next() % 4)]
        self.cluster.isForgettingVotes = isForgettingVotes
        self.cluster.isApplyingByHand = true
        self.dice = dice
    }

    private mutating func roll(_ sides: Int) -> Int { Int(self.dice.next() % UInt64(sides)) }
    private mutating func anyNode() -> VirtualNode {
        self.cluster.nodes[self.cluster.ids[self.roll(self.cluster.ids.count)]]!
    }

    /// - Returns: Whether a rule was broken.
    mutating func run(steps: Int) -> Bool {
        for _ in 0..<steps {
            self.step()
            if !self.cluster.violations.isEmpty { return true }
        }
        return false
    }

    private mutating func step() {
        let node = self.anyNode()
        if self.roll(100) < self.tickShare {
            self.cluster.tick(node.id.rawValue)
            return
        }
        switch self.roll(100) {
        case 0..<24: self.cluster.persist(node.id)
        case 24..<36: self.cluster.apply(node.id)
        case 36..<45: self.propose()
        case 45..<47: self.repartition()
        case 47: self.crashOrRestart(node)
        case 48: self.cluster.change(node.id) { $0.unreachable(self.cluster.ids[0]) }
        case 49: self.cluster.campaign(node.id.rawValue)
        case 50..<52: self.deliverFromAttic()
        default: self.deliverOne()
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
            self.cluster.start(node.id)
        } else {
            self.crashes += 1
            self.cluster.crash(node.id)
            if self.roll(2) == 0 { self.cluster.start(node.id) }
        }
    }

    /// Without faults: one leader, equal nodes, every question answered, new commands served.
    mutating func heal() {
        self.cluster.heal()
        for id in self.cluster.ids where self.cluster.nodes[id]!.core == nil { self.cluster.start(id) }
        self.cluster.isApplyingByHand = false
        self.cluster.run(ticks: 60)
        guard let leader = self.cluster.leaders.last, self.cluster.leaders.count == 1 else {
            self.cluster.checker.violate("no single leader after healing: \(self.cluster.leaders)")
            return
        }
        self.cluster.propose(leader.rawValue, "end")
        self.cluster.run(ticks: 6)
        let texts = Set(self.cluster.ids.map { self.cluster.nodes[$0]!.text })
        if texts.count != 1 { self.cluster.checker.violate("the nodes differ after healing") }
        if texts.first?.hasSuffix("end") != true { self.cluster.checker.violate("nothing is served after healing") }
        for id in self.cluster.ids where !self.cluster.nodes[id]!.openTokens.isEmpty {
            self.cluster.checker.violate("proposals of node \(id) were never answered")
        }
    }
}
