internal import Consensus
internal import Primitives

/// The phase without troubles: the cluster must come together and serve within a bound.
struct Liveness {
    let world: World

    /// Election timeouts that a healed cluster may take until everything is as it should be.
    private static let boundTimeouts = 60
    /// How often the state is looked at.
    private static let rounds = 120

    func run() {
        let bound = VirtualTime(self.world.plan.configuration.electionTicks * Self.boundTimeouts)
            * SimulationPlan.tickInterval
        let start = self.world.now
        var problem: String?
        for round in 1...Self.rounds {
            self.world.runEvents(until: start + bound * VirtualTime(round) / VirtualTime(Self.rounds))
            if !self.world.isSound { return }
            problem = self.firstProblem
            if problem == nil { break }
        }
        if let problem {
            self.world.violate("liveness: \(problem)")
            return
        }
        self.serve(bound: bound)
    }

    /// What is not yet as it should be, or nil.
    private var firstProblem: String? {
        for group in self.world.plan.groups {
            if let problem = self.problem(of: group.id) { return "group \(group.id): \(problem)" }
        }
        return nil
    }

    private func problem(of group: GroupID) -> String? {
        let cores = self.world.nodes.compactMap { node in node.process?.core(of: group) }
        let leaders = cores.filter { $0.role == .leader }
        guard leaders.count == 1, let leader = leaders.first else { return "\(leaders.count) leaders" }
        if leader.membership.isJoint, leader.membership.autoLeave { return "stuck in a joint configuration" }
        for member in leader.membership.replicas {
            guard let node = self.world.node(member), !node.isLost else { continue }
            guard let core = node.process?.core(of: group) else { return "node \(member) has no replica" }
            if core.appliedIndex != leader.lastIndex {
                return "node \(member) has applied \(core.appliedIndex) of \(leader.lastIndex)"
            }
            if core.membership != leader.membership { return "node \(member) has another membership" }
        }
        return nil
    }

    /// A write and a read of each group, by whoever leads.
    private func serve(bound: VirtualTime) {
        for client in self.world.clients { client.stop() }
        for group in self.world.plan.groups {
            var isWritten = false
            var isRead = false
            let end = self.world.now + bound
            while self.world.isSound, self.world.now < end, !isWritten || !isRead {
                if let leader = self.world.leader(of: group.id) {
                    leader.whenRunning { process in
                        if !isWritten {
                            process.propose(group.id, [1]) { if case .committed = $0 { isWritten = true } }
                        }
                        if !isRead { process.read(group.id) { if case .readable = $0 { isRead = true } } }
                    }
                }
                let tick = SimulationPlan.tickInterval
                let pause = VirtualTime(self.world.plan.configuration.electionTicks) * tick
                self.world.runEvents(until: self.world.now + pause)
            }
            if !self.world.isSound { return }
            if !isWritten { self.world.violate("liveness: group \(group.id) accepts no write") }
            if !isRead { self.world.violate("liveness: group \(group.id) answers no read") }
        }
    }
}
