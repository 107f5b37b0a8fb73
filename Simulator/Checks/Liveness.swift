internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// The phase without troubles: the cluster must come together and serve within a bound.
struct Liveness {
    let world: World

    /// Election timeouts that a healed cluster may take for each of the steps.
    private static let boundTimeouts = 80
    /// How often the state is looked at in that time.
    private static let rounds = 160

    private var bound: VirtualTime {
        VirtualTime(self.world.plan.configuration.electionTicks * Self.boundTimeouts) * SimulationPlan.tickInterval
    }

    func run() {
        // Some time under load, as before.
        self.world.runEvents(until: self.world.now + self.bound / 8)
        for client in self.world.clients { client.stop() }
        self.world.operatorClient.stop()
        self.wait("the operator's commands are not done") { self.world.operatorClient.isIdle ? nil : "" }
        self.wait("not together") { self.firstProblem }
        self.serve()
        self.wait("not together at the end") { self.firstProblem }
        if self.world.plan.planning != nil {
            self.wait("not as wished") { self.wishProblem }
            if self.world.isSound { self.world.coverage[.plansFulfilled] += 1 }
        }
        if self.world.isSound { self.compareReplicas() }
    }

    /// Lets time pass until `problem` is nil, or reports the last one.
    private func wait(_ what: String, _ problem: () -> String?) {
        let start = self.world.now
        var last: String?
        for round in 1...Self.rounds {
            guard self.world.isSound else { return }
            last = problem()
            if last == nil { return }
            self.world.runEvents(until: start + self.bound * VirtualTime(round) / VirtualTime(Self.rounds))
        }
        if self.world.isSound, let last { self.world.violate("liveness: \(what): \(last)") }
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

    /// An append and a read of each organization, asked by a client as any other.
    private func serve() {
        for organization in self.world.organizations {
            guard self.world.isSound else { return }
            let before = self.world.oracle.floor(of: organization.id)
            let client = SimClient(
                number: 1_000 + Int(organization.id.rawValue),
                world: self.world,
                dice: self.world.dice.split()
            )
            client.serve(organization)
            self.wait("organization \(organization.key) takes no append and no read") {
                client.isServed && self.world.oracle.floor(of: organization.id) > before
                    ? nil : "last answer \(client.lastAnswer)"
            }
        }
    }

    /// What the planner still has to do, or what is not as the operator wishes although it has nothing to do.
    private var wishProblem: String? {
        guard let leader = self.world.leader(of: .system)?.process else { return "nobody leads the system group" }
        let state = leader.applier.directory.current
        var survey = ClusterSurvey(lagMax: self.world.plan.planning?.lagMax ?? 0)
        for node in self.world.nodes {
            if node.isRunning, let process = node.process { survey.take(process.report, of: node.id) }
        }
        let view = ClusterUpkeep.view(state: state, survey: survey)
        do {
            let actions = try ClusterPlanner.plan(view)
            if let action = actions.first { return "\(actions.count) steps are left: \(action) (\(view.traceText))" }
        } catch {
            return "nothing can be planned: \(error)"
        }
        if let problem = PlannerRules.wishProblem(state, view) { return "\(problem) (\(view.traceText))" }
        return self.firstProblem
    }

    // MARK: - At the end

    /// At the same applied index all replicas hold the same rows, and every ledger verifies.
    private func compareReplicas() {
        for group in self.world.plan.groups {
            var first: (node: NodeID, rows: [StateRow])?
            for node in self.world.nodes {
                guard let process = node.process, process.core(of: group.id) != nil, !node.isDamaged,
                    self.world.leader(of: group.id)?.process?.core(of: group.id)?.membership.contains(node.id) == true
                else { continue }
                do {
                    let organizations = try process.applier.organizations(of: group.id)
                    let rows = try StateRow.all(of: group.id, organizations, in: node.store)
                    if let first {
                        self.compare(first.rows, rows, "group \(group.id), nodes \(first.node) and \(node.id)")
                    } else {
                        first = (node.id, rows)
                    }
                    try self.verify(organizations, on: node)
                } catch {
                    self.world.violate("node \(node.id) cannot be read at the end: \(error)")
                }
            }
        }
    }

    private func compare(_ left: [StateRow], _ right: [StateRow], _ what: String) {
        if left == right { return }
        let leftOnly = left.first { !right.contains($0) }
        let rightOnly = right.first { !left.contains($0) }
        let place = leftOnly ?? rightOnly
        self.world.violate("\(what): other rows in \(place?.family.rawValue ?? "no family"), key \(place?.key ?? [])")
    }

    private func verify(_ organizations: [OrganizationID], on node: SimNode) throws {
        for organization in organizations {
            let known = self.world.organizations.first { $0.id == organization }
            guard let key = known?.key ?? OrganizationKey("system") else { continue }
            let found = try LedgerVerifier.verify(store: node.store, organization: organization, key: key)
            if let finding = found.finding { self.world.violate("node \(node.id), organization \(key): \(finding)") }
        }
    }
}

/// One row of the state that all replicas of a group share.
struct StateRow: Equatable {
    let family: ColumnFamily
    let key: [UInt8]
    let value: [UInt8]

    // How tree nodes lie in rows is a replica's own too: the verification of each ledger reads them all.

    /// Kinds of rows of `group_state` that are a replica's own: applied mark, membership, staged records.
    private static let ownKinds: [UInt8] = [0, 10, 12]

    static func all(
        of group: GroupID,
        _ organizations: [OrganizationID],
        in store: any KeyValueReader
    ) throws -> [StateRow] {
        var rows: [StateRow] = []
        var writer = ByteWriter()
        writer.write(group.rawValue)
        try store.scan(.groupState, prefix: writer.bytes) { key, value in
            if key.count > 4, !Self.ownKinds.contains(key[4]) {
                rows.append(StateRow(family: .groupState, key: key, value: value))
            }
            return true
        }
        for organization in organizations {
            var prefix = ByteWriter()
            prefix.write(organization.rawValue)
            for family in [ColumnFamily.records, .ledgerHeads, .idempotency] {
                try store.scan(family, prefix: prefix.bytes) { key, value in
                    rows.append(StateRow(family: family, key: key, value: value))
                    return true
                }
            }
        }
        return rows
    }
}
