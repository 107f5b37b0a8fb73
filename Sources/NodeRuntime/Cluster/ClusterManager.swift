internal import Consensus
internal import Logging
internal import Primitives
internal import Shards
internal import Synchronization

/// Makes the cluster what the system group's state wishes it to be; works on the leader of the system group, rests elsewhere.
///
/// Every turn looks afresh at the state and at what all nodes say, asks the planner for the next few steps, and takes them;
/// ``ClusterPace`` says when the next one is. A step that fails, or whose answer is lost, is simply planned again; so a turn may be cut short anywhere, also by another
/// leader of the system group, which goes on from what it sees.
final class ClusterManager: Sendable {
    /// Steps taken side by side.
    static let concurrentStepsMax = 8

    private struct State {
        /// Since this node leads.
        var agenda = ClusterAgenda()
        var lastProblem = ""
    }

    private let node: NodeID
    private let host: RaftHost
    private let directory: ShardDirectory
    private let observer: ClusterObserver
    private let gateway: CommandGateway
    private let changes: GroupChanges
    private let logger: Logger
    private let clock: any Clock<Duration>
    private let bell = Bell()
    private let state = Mutex(State())
    private let stepsDone = Atomic<Int>(0)
    private let stepsFailed = Atomic<Int>(0)

    init(
        node: NodeID,
        host: RaftHost,
        directory: ShardDirectory,
        observer: ClusterObserver,
        gateway: CommandGateway,
        changes: GroupChanges,
        logger: Logger,
        clock: any Clock<Duration> = NodeClock.monotonic
    ) {
        self.clock = clock
        self.node = node
        self.host = host
        self.directory = directory
        self.observer = observer
        self.gateway = gateway
        self.changes = changes
        self.logger = logger
    }

    /// Steps that were taken and that failed, since the start.
    var counters: (done: Int, failed: Int) {
        (self.stepsDone.load(ordering: .relaxed), self.stepsFailed.load(ordering: .relaxed))
    }

    /// Something has changed: the next turn comes sooner.
    func wake() { self.bell.ring() }

    /// Works until cancelled.
    func run() async {
        var pace = ClusterPace()
        while !Task.isCancelled {
            let pause: ClusterPace.Pause
            if self.host.leader(of: .system) == self.node, self.directory.isBootstrapped {
                let state = self.directory.current
                let start = NodeClock.monotonic.now
                let sight = await self.observer.look(at: state)
                let look = start.duration(to: NodeClock.monotonic.now)
                pause = pace.pause(after: await self.turn(state, sight), look: look)
            } else {
                self.state.withLock { $0.agenda = ClusterAgenda() }
                pause = pace.pause(after: .following, look: .zero)
            }
            if pause.least > .zero { try? await self.clock.sleep(for: pause.least) }
            if pause.most > pause.least { await self.bell.wait(upTo: pause.most - pause.least, clock: self.clock) }
        }
    }

    /// Takes the next steps.
    private func turn(_ state: SystemState, _ sight: ClusterSight) async -> ClusterPace.Outcome {
        let commands = self.state.withLock { $0.agenda.bookkeeping(state: state, survey: sight.survey) }
        for command in commands where !(await self.submit(command)) { return .underWay }
        let hasLevels = await self.tellFeatureLevels(state)
        let actions: [ClusterAction]
        do {
            actions = try ClusterPlanner.plan(ClusterUpkeep.view(state: state, survey: sight.survey))
            self.note("")
        } catch {
            self.note("\(errorChain(error))")
            return .underWay
        }
        if ClusterAgenda.isBalanced(state, actions) { _ = await self.submit(.setRebalancing(false)) }
        let taken = await self.take(actions, sight)
        if taken > 0 || !commands.isEmpty || hasLevels { return .stepped }
        return !actions.isEmpty || ClusterUpkeep.isUnderWay(state: state, survey: sight.survey) ? .underWay : .atRest
    }

    /// Says once what stands in the way of a plan.
    private func note(_ problem: String) {
        let isNew = self.state.withLock { state in
            defer { state.lastProblem = problem }
            return state.lastProblem != problem
        }
        if isNew, !problem.isEmpty {
            self.logger.warning("the cluster cannot be planned", metadata: ["error.chain": "\(problem)"])
        }
    }

    private func submit(_ command: Command, to group: GroupID = .system) async -> Bool {
        do {
            let result = try await self.gateway.submit(
                command,
                to: group,
                mayRepeat: true,
                origin: group == .system ? .node(self.node) : nil
            )
            guard case .refused(let refusal) = result else { return true }
            self.logger.debug("bookkeeping refused", metadata: ["refusal": "\(refusal)"])
            return true
        } catch {
            self.logger.debug("bookkeeping failed", metadata: ["error.chain": "\(errorChain(error))"])
            return false
        }
    }

    /// Raises the data groups to the cluster's level, in their own logs; a level that a group has already changes nothing.
    /// - Returns: Whether any was told.
    private func tellFeatureLevels(_ state: SystemState) async -> Bool {
        let level = state.featureLevel
        let left = self.state.withLock { $0.agenda.untold(state: state) }
        for group in left where await self.submit(.setFeatureLevel(level), to: group) {
            self.state.withLock { $0.agenda.didTell(group, level: level) }
        }
        return !left.isEmpty
    }

    // MARK: Steps

    /// - Returns: The number of steps that were taken.
    private func take(_ actions: [ClusterAction], _ sight: ClusterSight) async -> Int {
        await withTaskGroup(of: Int.self) { group in
            // At most as many tasks as steps side by side; each takes every n-th step.
            let width = min(Self.concurrentStepsMax, actions.count)
            for lane in 0..<width {
                group.addTask {
                    var taken = 0
                    for place in stride(from: lane, to: actions.count, by: width) where !Task.isCancelled {
                        if await self.take(actions[place], sight) { taken += 1 }
                    }
                    return taken
                }
            }
            return await group.reduce(0, +)
        }
    }

    /// - Returns: Whether the step was taken.
    private func take(_ action: ClusterAction, _ sight: ClusterSight) async -> Bool {
        do {
            switch action {
            case .setNodeState(let node, let state):
                _ = await self.submit(.setNodeState(SetNodeStateCommand(node: node, state: state)))
            case .transferLeader(let group, let from, let to):
                try await self.changes.transfer(group, from: from, to: to)
            default:
                guard let group = action.group, let change = action.change, let leader = sight.leader(of: group) else {
                    return false
                }
                let membership = try await self.changes.change(group, change, at: leader)
                self.logger.info(
                    "membership changed",
                    metadata: ["raft.group": "\(group)", "raft.voters": "\(membership.voters)"]
                )
            }
            self.stepsDone.wrappingAdd(1, ordering: .relaxed)
            return true
        } catch {
            self.stepsFailed.wrappingAdd(1, ordering: .relaxed)
            self.logger.debug(
                "step not taken; it is planned again",
                metadata: ["step": "\(action)", "error.chain": "\(errorChain(error))"]
            )
            return false
        }
    }
}
