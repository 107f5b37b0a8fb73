internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards

/// Begins the cluster, makes its organizations, and changes tokens and feature levels now and then: everything that
/// goes through the system group.
final class SimOperator {
    unowned let world: World
    private var dice: Dice
    private var steps: [(command: Command, group: GroupID)] = []
    private var believed: NodeID?
    private var tokens = 0
    private var isStopped = false

    // Of wishes.
    /// Nodes that leave for good.
    var leaving: Set<NodeID> = []
    /// Nodes that came or went by wish.
    var guests = 0
    /// Groups that have, or once had, the wish for one replica.
    var alone: [GroupID: NodeID] = [:]

    private static let timeout: VirtualTime = 300_000

    init(world: World, dice: Dice) {
        self.world = world
        self.dice = dice
        let groups = world.plan.groups
        let nodes = world.plan.nodes.map { node in
            RegisterNodeCommand(node: node, api: "n\(node):1", peer: "n\(node):2", features: world.features(of: node))
        }
        let placements = groups.map {
            BootstrapCommand.Placement(group: $0.id, replicas: $0.voters + $0.learners)
        }
        let bootstrap = BootstrapCommand(
            clusterID: "simulated",
            dataGroups: groups.count - 1,
            operatorToken: nil,
            featureLevel: world.plan.featureLevel,
            replicas: world.plan.planning?.replicas ?? 3,
            nodes: nodes,
            placements: placements
        )
        self.steps.append((.bootstrap(bootstrap), .system))
        for number in 1...world.plan.organizationCount {
            guard let key = OrganizationKey("lab-\(number)") else { continue }
            let command = CreateOrganizationCommand(key: key, name: "Laboratory \(number)")
            self.steps.append((.createOrganization(command), .system))
        }
    }

    func start() { self.planNext() }

    /// Begins nothing any more, once the organizations are there.
    func stop() { self.isStopped = true }

    /// Lets the whole cluster use the next feature level, as an operator does once every node is upgraded.
    func raise(_ level: FeatureLevel) {
        for node in self.world.nodes where !node.isLost {
            let command = RegisterNodeCommand(
                node: node.id,
                api: "n\(node.id):1",
                peer: "n\(node.id):2",
                features: node.features
            )
            self.steps.append((.registerNode(command), .system))
        }
        self.steps.append((.raiseFeatureLevel(level), .system))
        for group in self.world.plan.groups where group.id != .system {
            self.steps.append((.setFeatureLevel(level), group.id))
        }
    }

    func add(_ command: Command) { self.steps.append((command, .system)) }

    var stepCount: Int { self.steps.count }

    /// Everything that was begun is done.
    var isIdle: Bool { self.steps.isEmpty }

    private func planNext() {
        self.world.after(self.dice.draw(1_000...40_000)) { [self] in
            if self.steps.isEmpty, !self.isStopped, self.dice.chance(30) { self.addToken() }
            if let step = self.steps.first { self.ask(step.command, step.group) } else { self.planNext() }
        }
    }

    private func addToken() {
        self.tokens += 1
        let id = "token-\(self.tokens)"
        let hash = Digest(words: (UInt64(self.tokens), 1, 2, 3))
        let grant = Grant(role: .operator)
        self.steps.append((.createToken(CreateTokenCommand(id: id, hash: hash, name: id, grant: grant)), .system))
        if self.dice.chance(50) { self.steps.append((.revokeToken(RevokeTokenCommand(id: id)), .system)) }
    }

    private func ask(_ command: Command, _ group: GroupID) {
        let node = self.believed ?? self.dice.pick(self.world.nodes).id
        var isOver = false
        let finish: (CommandResult?, NodeID?) -> Void = { [self] result, leader in
            guard !isOver else { return }
            isOver = true
            self.believed = leader
            if let result { self.take(result, from: node) }
            self.planNext()
        }
        self.world.after(Self.timeout) { finish(nil, nil) }
        guard let target = self.world.node(node), target.isRunning else { return finish(nil, nil) }
        let origin = CommandOrigin(actor: "operator", kind: .user)
        // A cluster of the first version has no placements that could be planned.
        let isPlain = self.world.plan.featureLevel == .one && self.world.plan.planning == nil && self.dice.chance(50)
        var bytes = isPlain ? command.encoded() : command.encoded(origin: origin)
        do { try Command.stamp(&bytes, at: target.wallClock) } catch {
            self.world.violate("a command cannot be stamped: \(error)")
        }
        target.whenRunning { process in
            process.propose(group, bytes) { result in
                switch result {
                case .success(let bytes): finish(try? CommandResult.decode(bytes), node)
                case .failure(let error):
                    if case .notLeader(let leader) = error.code { finish(nil, leader) } else { finish(nil, nil) }
                }
            }
        }
    }

    /// The first step is done, or refused for good.
    private func take(_ result: CommandResult, from node: NodeID) {
        let step = self.steps.removeFirst()
        self.world.note(.answer, node, "the operator gets \(result)")
        guard case .createOrganization(let command) = step.command else { return }
        switch result {
        case .organization(let entry): self.world.add(entry)
        case .refused(.organizationExists):
            // An earlier attempt was done after all.
            guard let entry = self.world.node(node)?.process?.applier.directory.organization(command.key) else {
                self.world.violate("organization \(command.key) exists, but node \(node) does not know it")
                return
            }
            self.world.add(entry)
        default: self.world.violate("the operator cannot make organization \(command.key): \(result)")
        }
    }
}
