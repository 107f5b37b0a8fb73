internal import Consensus
internal import Primitives
internal import Shards

/// Makes the simulated cluster what its system group wishes, as the cluster manager of a node does: where somebody
/// believes to lead the system group, all nodes are asked, the planner plans, and its steps are taken.
///
/// A leader that was deposed and does not know it plans too; a turn ends anywhere when its node does.
final class SimManager {
    private unowned let world: World
    private var dice: Dice
    /// Nodes whose turn is under way, each with the life in which it began.
    private var turns: [NodeID: Int] = [:]
    /// What each node remembers while it leads, with the life in which it began.
    private var agendas: [NodeID: (life: Int, agenda: ClusterAgenda)] = [:]

    /// Mean time between two looks at who leads.
    private static let interval: VirtualTime = 60_000
    /// How long answers are waited for.
    private static let patience: VirtualTime = 60_000
    /// How long a step may take.
    private static let stepPatience: VirtualTime = 400_000

    init(world: World, dice: Dice) {
        self.world = world
        self.dice = dice
    }

    func start() { self.planNext() }

    private func planNext() {
        self.world.after(self.dice.draw(Self.interval / 2...Self.interval * 2)) { [self] in
            for node in self.world.nodes where node.isRunning { self.begin(node) }
            self.planNext()
        }
    }

    private func begin(_ node: SimNode) {
        guard let process = node.process, process.core(of: .system)?.role == .leader,
            process.applier.directory.isBootstrapped
        else {
            self.agendas[node.id] = nil
            return
        }
        guard self.turns[node.id] != node.life else { return }
        self.turns[node.id] = node.life
        if self.agendas[node.id]?.life != node.life { self.agendas[node.id] = (node.life, ClusterAgenda()) }
        let state = process.applier.directory.current
        self.look(from: node, at: state) { [self] process, survey in
            let agenda = self.agendas[node.id]?.agenda ?? ClusterAgenda()
            let commands = agenda.bookkeeping(state: state, survey: survey)
            self.submit(commands[...], by: process) { [self] isDone in
                guard isDone, node.process === process else { return self.end(node) }
                self.tellFeatureLevel(state, by: process) { [self] in
                    guard node.process === process else { return self.end(node) }
                    self.plan(state, survey, by: process)
                }
            }
        }
    }

    /// Tells the level to one data group that has not heard of it from this leader.
    private func tellFeatureLevel(_ state: SystemState, by process: SimProcess, _ done: @escaping () -> Void) {
        let node = process.node.id
        let level = state.featureLevel
        guard let group = self.agendas[node]?.agenda.untold(state: state).first,
            let target = self.world.leader(of: group)
        else { return done() }
        let finish = self.once { [self] isDone in
            if isDone { self.agendas[node]?.agenda.didTell(group, level: level) }
            done()
        }
        self.travel(from: node, to: target.id) {
            target.whenRunning { [self] process in
                self.propose(.setFeatureLevel(level), to: group, by: process) { result in
                    finish((try? result.get()) != nil)
                }
            }
        }
    }

    private func end(_ node: SimNode) { self.turns[node.id] = nil }

    // MARK: - Looking

    private final class Answers {
        var survey: ClusterSurvey
        init(_ survey: ClusterSurvey) { self.survey = survey }
    }

    /// Asks all nodes at once, and takes what came back in time.
    private func look(
        from node: SimNode,
        at state: SystemState,
        _ done: @escaping (SimProcess, ClusterSurvey) -> Void
    ) {
        let answers = Answers(ClusterSurvey(lagMax: self.world.plan.planning?.lagMax ?? 0))
        for entry in state.nodes where entry.state != .removed && entry.id != node.id {
            guard let target = self.world.node(entry.id) else { continue }
            self.travel(from: node.id, to: entry.id) {
                target.whenRunning { process in
                    let report = process.report
                    self.travel(from: entry.id, to: node.id) { answers.survey.take(report, of: entry.id) }
                }
            }
        }
        node.after(Self.patience) { process in
            answers.survey.take(process.report, of: node.id)
            done(process, answers.survey)
        }
        // Of a node that ends meanwhile nothing is heard any more; its next life begins anew.
    }

    private func travel(from: NodeID, to: NodeID, _ arrive: @escaping () -> Void) {
        guard !self.world.network.isCut(from, to), !self.world.network.losesNow() else { return }
        self.world.after(self.world.network.drawLatency(), arrive)
    }

    // MARK: - Commands

    /// Gives the commands to the system group one after the other; stops at the first that fails.
    private func submit(_ commands: ArraySlice<Command>, by process: SimProcess, _ done: @escaping (Bool) -> Void) {
        guard let command = commands.first else { return done(true) }
        let finish = self.once(done)
        self.propose(command, to: .system, by: process) { [self] result in
            guard case .success(let answer) = result else { return finish(false) }
            if case .confirmPlacement = command, (try? CommandResult.decode(answer)) == .done {
                self.world.coverage[.placementsConfirmed] += 1
            }
            // Not from within the turn that answered.
            self.world.after(0) { self.submit(commands.dropFirst(), by: process, finish) }
        }
    }

    private func propose(
        _ command: Command,
        to group: GroupID,
        by process: SimProcess,
        _ answer: @escaping (Result<[UInt8], ProposalError>) -> Void
    ) {
        var bytes = command.encoded(origin: group == .system ? .node(process.node.id) : nil)
        do { try Command.stamp(&bytes, at: process.node.wallClock) } catch {
            self.world.violate("a command cannot be stamped: \(error)")
        }
        process.propose(group, bytes, answer: answer)
    }

    /// Takes the first of an answer and the end of patience.
    private func once(_ done: @escaping (Bool) -> Void) -> (Bool) -> Void {
        var isOver = false
        let finish: (Bool) -> Void = { isDone in
            guard !isOver else { return }
            isOver = true
            done(isDone)
        }
        self.world.after(Self.stepPatience) { finish(false) }
        return finish
    }

    // MARK: - Steps

    private func plan(_ state: SystemState, _ survey: ClusterSurvey, by process: SimProcess) {
        let node = process.node
        let view = ClusterUpkeep.view(state: state, survey: survey)
        let actions: [ClusterAction]
        do { actions = try ClusterPlanner.plan(view) } catch {
            // A leader of long ago sees nodes that it was never told of.
            self.world.note(.membership, node.id, "nothing can be planned: \(error)")
            return self.end(node)
        }
        if let problem = PlannerRules.problem(of: actions, in: view) { self.world.violate("the plan: \(problem)") }
        if actions.isEmpty {
            guard ClusterAgenda.isBalanced(state, actions) else { return self.end(node) }
            return self.submit([.setRebalancing(false)], by: process) { _ in self.end(node) }
        }
        self.world.coverage[.plansMade] += 1
        var left = actions.count
        for action in actions {
            self.world.note(.membership, node.id, "plans \(action)")
            self.take(action, survey, by: process) { [self] isDone in
                if isDone { self.world.coverage[.planStep(of: action)] += 1 }
                left -= 1
                if left == 0 { self.end(node) }
            }
        }
    }

    private func take(
        _ action: ClusterAction,
        _ survey: ClusterSurvey,
        by process: SimProcess,
        _ done: @escaping (Bool) -> Void
    ) {
        if case .setNodeState(let node, let state) = action {
            let command = Command.setNodeState(SetNodeStateCommand(node: node, state: state))
            return self.submit([command], by: process, done)
        }
        let finish = self.once(done)
        guard let group = action.group, let seen = survey.groups[group], let leader = self.world.node(seen.leader)
        else { return finish(false) }
        self.travel(from: process.node.id, to: leader.id) {
            leader.whenRunning { process in
                if case .transferLeader(_, _, let target) = action {
                    process.transfer(group, to: target) { result in finish((try? result.get()) != nil) }
                } else if let change = action.change {
                    process.change(group, change) { result in finish((try? result.get()) != nil) }
                }
            }
        }
    }
}
