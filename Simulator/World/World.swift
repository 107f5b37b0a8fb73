internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// A whole cluster in one thread: nodes with their disks and clocks, the network, clients, and the troubles that meet
/// them, all moved by virtual time and one seed.
///
/// Nothing in here waits or looks at a clock: the next event is taken from the queue, what follows from it is planned,
/// and every rule is checked before the one after it.
final class World {
    let plan: SimulationPlan
    let faults: PlantedFaults
    var queue = EventQueue()
    var trace: Trace
    var invariants: Invariants
    private(set) var nodes: [SimNode] = []
    private(set) var network: SimNetwork!
    private(set) var nemesis: Nemesis!
    private(set) var clients: [SimClient] = []
    private(set) var operatorClient: SimOperator!
    private var manager: SimManager?
    var oracle = LedgerOracle()
    /// What the operator has made so far.
    private(set) var organizations: [OrganizationEntry] = []
    var dice: Dice
    /// The phase without troubles has begun.
    private(set) var isCalm = false
    var eventsHandled = 0

    /// A run that makes more events than this goes round in circles.
    private static let eventsMax = 3_000_000

    init(plan: SimulationPlan, faults: PlantedFaults = PlantedFaults(), isTracing: Bool = false) {
        self.plan = plan
        self.faults = faults
        self.trace = Trace(isPrinting: isTracing)
        self.dice = Dice(seed: plan.seed)
        self.invariants = Invariants(
            groups: plan.groups.map { ($0.id, Membership(voters: $0.voters, learners: $0.learners)) },
            electionTicks: plan.configuration.electionTicks,
            hasLeases: plan.configuration.leaseReads
        )
        self.network = SimNetwork(world: self, dice: self.dice.split())
        self.nemesis = Nemesis(world: self, dice: self.dice.split())
    }

    /// - Returns: What was broken; empty when nothing was.
    func run() -> [String] {
        for id in self.plan.nodes { self.addNode(id) }
        for node in self.nodes { node.start() }
        self.operatorClient = SimOperator(world: self, dice: self.dice.split())
        self.operatorClient.start()
        for number in 0..<self.plan.clients {
            let client = SimClient(number: number, world: self, dice: self.dice.split())
            self.clients.append(client)
            client.start()
        }
        if self.plan.planning != nil {
            let manager = SimManager(world: self, dice: self.dice.split())
            manager.start()
            self.manager = manager
        }
        self.nemesis.start()
        let chaosEnd = VirtualTime(self.plan.chaosTicks) * SimulationPlan.tickInterval
        self.runEvents(until: chaosEnd)
        if self.isSound { self.heal() }
        // What is planned holds everything else.
        self.queue.removeAll()
        self.coverage[.segmentsRecycled] += self.nodes.reduce(0) { $0 + $1.logFiles.recycled }
        return self.invariants.violations
    }

    func add(_ organization: OrganizationEntry) {
        if self.organizations.contains(where: { $0.key == organization.key }) { return }
        self.organizations.append(organization)
    }

    /// What a node's program can do in its present life.
    func features(of node: NodeID) -> FeatureRange { self.node(node)?.features ?? self.plan.features }

    /// Damages a chunk on its way now and then.
    func isChunkDamaged(_ bytes: inout [UInt8]) -> Bool {
        guard !self.isCalm, self.dice.chance(2) else { return false }
        bytes[self.dice.roll(bytes.count)] ^= 1 << UInt8(self.dice.roll(8))
        return true
    }

    var isSound: Bool { self.invariants.violations.isEmpty }
    var now: VirtualTime { self.queue.now }
    var coverage: Coverage {
        get { self.invariants.coverage }
        set { self.invariants.coverage = newValue }
    }

    // MARK: - Events

    func at(_ time: VirtualTime, _ action: @escaping () -> Void) { self.queue.add(at: time, action) }
    func after(_ delay: VirtualTime, _ action: @escaping () -> Void) { self.queue.add(at: self.now + delay, action) }

    func runEvents(until end: VirtualTime) {
        while self.isSound, let action = self.queue.next(until: end) {
            action()
            self.eventsHandled += 1
            if self.eventsHandled > Self.eventsMax { self.violate("the simulation does not come to rest") }
        }
    }

    func note(_ kind: Trace.Kind, _ node: NodeID?, _ text: @autoclosure () -> String) {
        self.trace.note(kind, at: self.now, node: node, 0, 0, text())
    }

    func note(_ kind: Trace.Kind, _ node: NodeID?, _ first: UInt64, _ text: @autoclosure () -> String) {
        self.trace.note(kind, at: self.now, node: node, first, 0, text())
    }

    func note(
        _ kind: Trace.Kind,
        _ node: NodeID?,
        _ first: UInt64,
        _ second: UInt64,
        _ text: @autoclosure () -> String
    ) {
        self.trace.note(kind, at: self.now, node: node, first, second, text())
    }

    func violate(_ text: String) {
        self.invariants.violate(text)
        self.note(.violation, nil, text)
    }

    // MARK: - Nodes

    func node(_ id: NodeID) -> SimNode? { self.nodes.first { $0.id == id } }

    @discardableResult
    func addNode(_ id: NodeID) -> SimNode {
        let isFounder = self.plan.nodes.contains(id)
        let node = SimNode(id: id, world: self, dice: self.dice.split(), isFounder: isFounder)
        self.nodes.append(node)
        return node
    }

    /// An id that no node ever had.
    var freshNodeID: NodeID { NodeID((self.nodes.map(\.id.rawValue).max() ?? 0) + 1) }

    func deliver(_ messages: [HostMessage], from: NodeID, to: NodeID) {
        self.node(to)?.whenRunning { process in process.receive(messages, from: from) }
    }

    func unreachable(_ peer: NodeID, by node: NodeID) {
        let life = self.node(node)?.life
        self.after(self.network.drawLatency()) { [self] in
            guard let sender = self.node(node), sender.life == life else { return }
            sender.whenRunning { process in process.unreachable(peer) }
        }
    }

    /// The running node that leads a group in the latest term, as far as anybody knows.
    func leader(of group: GroupID) -> SimNode? {
        var best: (node: SimNode, term: Term)?
        for node in self.nodes {
            guard let core = node.process?.core(of: group), core.role == .leader else { continue }
            if best == nil || core.term > best!.term { best = (node, core.term) }
        }
        return best?.node
    }

    // MARK: - Healing

    /// Ends all troubles; from now on everything must come together and work.
    private func heal() {
        self.isCalm = true
        self.note(.heal, nil, "no troubles any more")
        self.nemesis.stop()
        self.network.calm()
        for node in self.nodes { node.heal() }
        Liveness(world: self).run()
    }
}
