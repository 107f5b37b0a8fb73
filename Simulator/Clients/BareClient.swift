internal import Consensus
internal import Primitives

/// What a node answers a client.
enum CallAnswer {
    /// The command stands in the log at this index for good.
    case committed(LogIndex, Term)
    /// Everything up to this index was committed when the question was asked, or later.
    case readable(LogIndex)
    case notLeader(NodeID?)
    case overloaded
    /// The command may be done later, or never.
    case unknown
}

/// One client: calls the cluster again and again, one call at a time, and holds it to its answers.
final class BareClient {
    private let number: Int
    private unowned let world: World
    private var dice: Dice
    private var nextCall = 0
    private var believed: [GroupID: NodeID] = [:]
    private(set) var acknowledged = 0
    private(set) var readsDone = 0
    private var isStopped = false

    private static let timeout: VirtualTime = 400_000

    init(number: Int, world: World, dice: Dice) {
        self.number = number
        self.world = world
        self.dice = dice
    }

    func start() { self.planNext() }

    /// Begins no call any more.
    func stop() { self.isStopped = true }

    private func planNext() {
        if self.isStopped { return }
        let wait = self.dice.draw(0...(self.world.plan.thinkTime * 2))
        self.world.after(wait) { [self] in self.call() }
    }

    private func call() {
        let group = self.dice.pick(self.world.plan.groups).id
        let node = self.target(group)
        if self.dice.chance(self.world.plan.readPercent) {
            self.read(group, at: node)
        } else {
            self.write(group, at: node)
        }
    }

    private func target(_ group: GroupID) -> NodeID {
        if let known = self.believed[group], self.dice.chance(85) { return known }
        return self.dice.pick(self.world.nodes).id
    }

    // MARK: - One call at a time

    /// Sends a request to `node`, and takes the first of: its answer, or the end of patience.
    private func ask(
        _ node: NodeID,
        _ request: @escaping (SimProcess, @escaping (CallAnswer) -> Void) -> Void,
        _ done: @escaping (CallAnswer) -> Void
    ) {
        let call = self.nextCall
        self.nextCall += 1
        var isOver = false
        let finish: (CallAnswer) -> Void = { [self] answer in
            guard !isOver, self.nextCall == call + 1 else { return }
            isOver = true
            done(answer)
        }
        self.world.after(Self.timeout) { finish(.unknown) }
        guard !self.world.network.losesNow() else { return }
        self.world.after(self.world.network.drawLatency()) { [self] in
            guard let target = self.world.node(node), target.process != nil else { return finish(.notLeader(nil)) }
            target.whenRunning { process in
                request(process) { [self] answer in
                    guard !self.world.network.losesNow() else { return }
                    self.world.after(self.world.network.drawLatency()) { finish(answer) }
                }
            }
        }
    }

    private func write(_ group: GroupID, at node: NodeID) {
        var writer = ByteWriter()
        writer.write(UInt64(self.number))
        writer.write(UInt64(self.nextCall))
        writer.write(raw: Array(repeating: 7, count: self.dice.roll(60)))
        let command = writer.bytes
        self.ask(node) { process, answer in
            process.propose(group, command, answer: answer)
        } _: { [self] answer in
            self.world.note(.answer, nil, UInt64(self.number), "client \(self.number): write gets \(answer)")
            switch answer {
            case .committed(let index, _):
                self.acknowledged += 1
                self.world.coverage[.writesDone] += 1
                self.believed[group] = node
                if index > self.world.invariants.history(group).commit {
                    self.world.violate("group \(group): entry \(index) was acknowledged and is not committed")
                }
            case .notLeader(let leader): self.believed[group] = leader
            case .overloaded: self.world.coverage[.overloads] += 1
            case .unknown, .readable: self.believed[group] = nil
            }
            self.planNext()
        }
    }

    private func read(_ group: GroupID, at node: NodeID) {
        let floor = self.world.invariants.history(group).commit
        self.ask(node) { process, answer in
            process.read(group, answer: answer)
        } _: { [self] answer in
            self.world.note(.answer, nil, UInt64(self.number), "client \(self.number): read gets \(answer)")
            if case .readable(let index) = answer {
                self.readsDone += 1
                if let core = self.world.node(node)?.process?.core(of: group) {
                    self.world.coverage[core.role == .leader ? .readsByIndex : .readsFromFollowers] += 1
                }
                if index < floor {
                    self.world.violate("group \(group): node \(node) reads at \(index), \(floor) was committed before")
                }
            }
            self.planNext()
        }
    }
}
