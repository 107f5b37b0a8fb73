internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

/// A cluster's state, built by applying commands as the system group does.
struct ClusterBench {
    private(set) var state = SystemState()
    private var batch = WriteBatch()

    init(nodes: [UInt64] = [1, 2, 3], dataGroups: Int = 1, level: FeatureLevel = .current) {
        let voters = nodes.map { NodeID($0) }
        self.apply(
            .bootstrap(
                BootstrapCommand(
                    clusterID: "lab",
                    dataGroups: dataGroups,
                    operatorToken: nil,
                    featureLevel: level,
                    replicas: min(3, nodes.count),
                    nodes: voters.map { RegisterNodeCommand(node: $0, api: "n\($0):1", peer: "n\($0):2") },
                    placements: (0...UInt32(dataGroups)).map {
                        BootstrapCommand.Placement(group: GroupID($0), replicas: Array(voters.prefix(3)))
                    }
                )
            )
        )
    }

    @discardableResult
    mutating func apply(_ command: Command) -> CommandResult {
        var bytes = command.encoded(origin: .node(NodeID(1)))
        var records: [EventDraft] = []
        guard (try? Command.stamp(&bytes, at: Timestamp(microseconds: 1_000_000))) != nil,
            let decoded = try? Command.decode(bytes[...])
        else { return .refused(.malformed) }
        return self.state.apply(decoded, into: &self.batch, records: &records)
    }

    mutating func set(_ node: UInt64, _ state: NodeState, replacement: UInt64? = nil) {
        self.apply(
            .setNodeState(
                SetNodeStateCommand(node: NodeID(node), state: state, replacement: replacement.map { NodeID($0) })
            )
        )
    }

    /// What a node says of itself: its feature levels, and the groups that it leads.
    static func status(
        levels: ClosedRange<UInt32> = 1...FeatureLevel.current.rawValue,
        leads: [GroupID: Membership] = [:],
        applied: UInt64 = 10,
        term: UInt64 = 1,
        lags: [UInt64: UInt64] = [:],
        follows: [GroupID: (applied: UInt64, isInstalling: Bool)] = [:]
    ) -> WireStatusResponse {
        var status = WireStatusResponse()
        status.featureMin = levels.lowerBound
        status.featureMax = levels.upperBound
        for (group, membership) in leads {
            var wire = WireGroupStatus()
            wire.group = group.rawValue
            wire.role = RaftRole.leader.rawValue
            wire.term = term
            wire.applied = applied
            wire.commit = applied
            wire.membership = Data(membership.encoded())
            wire.replicas = membership.replicas.map { node in
                var replica = WireReplicaStatus()
                replica.node = node.rawValue
                replica.active = true
                replica.lag = lags[node.rawValue] ?? 0
                replica.match = applied - min(applied, replica.lag)
                return replica
            }
            status.groups.append(wire)
        }
        for (group, own) in follows {
            var wire = WireGroupStatus()
            wire.group = group.rawValue
            wire.role = RaftRole.follower.rawValue
            wire.applied = own.applied
            wire.installing = own.isInstalling
            status.groups.append(wire)
        }
        return status
    }
}

@Suite("What the system group is told of the cluster")
struct ClusterUpkeepTests {
    private let group = GroupID(1)
    private let voters = [1, 2, 3].map { NodeID($0) }

    private func sight(_ statuses: [UInt64: WireStatusResponse]) -> ClusterSight {
        var sight = ClusterSight()
        for (node, status) in statuses.sorted(by: { $0.key < $1.key }) {
            sight.take(status, of: NodeID(node), clock: nil)
        }
        return sight
    }

    @Test func aClusterThatIsAsItIsKnownNeedsNothing() {
        let bench = ClusterBench()
        let membership = Membership(voters: self.voters)
        let seen = self.sight([
            1: ClusterBench.status(leads: [self.group: membership]), 2: ClusterBench.status(),
            3: ClusterBench.status(),
        ])
        #expect(ClusterUpkeep.commands(state: bench.state, survey: seen.survey).isEmpty)
    }

    @Test func anotherMembershipIsConfirmedOnce() throws {
        var bench = ClusterBench()
        let membership = try Membership(voters: self.voters)
            .applying(MembershipChange([.addLearner(NodeID(3))]), at: LogIndex(5))
        let seen = self.sight([1: ClusterBench.status(leads: [self.group: membership], applied: 7)])
        let commands = ClusterUpkeep.commands(state: bench.state, survey: seen.survey)
        guard case .confirmPlacement(let confirmation)? = commands.first, commands.count == 1 else {
            Issue.record("\(commands)")
            return
        }
        #expect(confirmation.membership == membership && confirmation.index == LogIndex(7))
        #expect(bench.apply(commands[0]) == .done)
        #expect(ClusterUpkeep.commands(state: bench.state, survey: seen.survey).isEmpty)
        // A leader that has applied less knows less.
        let old = self.sight([
            1: ClusterBench.status(leads: [self.group: Membership(voters: self.voters)], applied: 6)
        ])
        #expect(ClusterUpkeep.commands(state: bench.state, survey: old.survey).isEmpty)
    }

    @Test func theLevelRisesOnlyWhenEveryNodeSaysSo() {
        var bench = ClusterBench(nodes: [1, 2, 3, 4], level: .one)
        let new = ClusterBench.status()
        let old = ClusterBench.status(levels: 1...1)
        let levels = { (seen: ClusterSight) in
            ClusterUpkeep.commands(state: bench.state, survey: seen.survey).compactMap { command -> FeatureLevel? in
                if case .raiseFeatureLevel(let level) = command { return level }
                return nil
            }
        }
        #expect(levels(self.sight([1: new, 2: new, 3: new, 4: new])) == [.current])
        #expect(levels(self.sight([1: new, 2: new, 3: new, 4: old])).isEmpty, "one does not know it")
        #expect(levels(self.sight([1: new, 2: new, 3: new])).isEmpty, "one may come back with an older program")
        bench.set(4, .leaving)
        bench.set(4, .removed)
        #expect(bench.state.node(NodeID(4))?.state == .removed)
        #expect(levels(self.sight([1: new, 2: new, 3: new])) == [.current], "a removed one does not count")
    }

    @Test func everyDataGroupIsToldTheLevelOnceAndAFewAtATime() {
        let state = ClusterBench(dataGroups: 40).state
        var agenda = ClusterAgenda()
        let first = agenda.untold(state: state)
        #expect(first == (1...UInt32(ClusterAgenda.bookkeepingMax)).map { GroupID($0) })
        #expect(agenda.untold(state: state) == first, "whoever did not hear of it is told again")
        for group in first { agenda.didTell(group, level: state.featureLevel) }
        let rest = agenda.untold(state: state)
        #expect(rest.count == 40 - first.count && Set(rest).isDisjoint(with: first))
        for group in rest { agenda.didTell(group, level: .one) }
        #expect(agenda.untold(state: state) == rest, "another level is none of it")
        for group in rest { agenda.didTell(group, level: state.featureLevel) }
        #expect(agenda.untold(state: state).isEmpty)
        var old = ClusterAgenda()
        #expect(old.untold(state: ClusterBench(level: .one).state).isEmpty)
    }

    @Test func ofTwoThatSayTheyLeadTheLaterTermCounts() {
        let membership = Membership(voters: self.voters)
        let seen = self.sight([
            1: ClusterBench.status(leads: [self.group: membership], term: 4),
            2: ClusterBench.status(leads: [self.group: membership], term: 5),
            3: ClusterBench.status(leads: [self.group: membership], term: 3),
        ])
        #expect(seen.leader(of: self.group) == NodeID(2))
    }

    @Test func thePlannerIsToldWhoLivesAndWhoHasCaughtUp() throws {
        let bench = ClusterBench()
        let membership = Membership(voters: self.voters)
        let status = ClusterBench.status(leads: [self.group: membership], lags: [2: 5, 3: ClusterUpkeep.lagMax + 1])
        let view = ClusterUpkeep.view(
            state: bench.state,
            survey: self.sight([1: status, 2: ClusterBench.status()]).survey
        )
        #expect(view.nodes.map(\.isLive) == [true, true, false])
        let group = try #require(view.groups.first { $0.id == self.group })
        #expect(group.leader == NodeID(1))
        #expect(group.caughtUp == [NodeID(1), NodeID(2)])
        let system = try #require(view.groups.first { $0.id == .system })
        #expect(system.leader == nil && system.caughtUp.isEmpty)
    }

    /// A group of few large entries: an empty learner lacks fewer than many groups lack in a busy moment.
    @Test(arguments: [
        (leaderLag: UInt64(105), own: (UInt64(0), false), isCaughtUp: false),
        (leaderLag: 0, own: (105, true), isCaughtUp: false),
        (leaderLag: 0, own: (40, false), isCaughtUp: false),
        (leaderLag: 60, own: (45, false), isCaughtUp: false),
        (leaderLag: 2, own: (103, false), isCaughtUp: true),
    ])
    func aLearnerHasCaughtUpWhenBothSidesSaySo(
        leaderLag: UInt64,
        own: (applied: UInt64, isInstalling: Bool),
        isCaughtUp: Bool
    ) throws {
        var bench = ClusterBench()
        bench.apply(
            .registerNode(RegisterNodeCommand(node: NodeID(4), api: "n4:1", peer: "n4:2"))
        )
        let membership = Membership(voters: self.voters, learners: [NodeID(4)])
        let leader = ClusterBench.status(leads: [self.group: membership], applied: 105, lags: [4: leaderLag])
        func caughtUp(_ learner: WireStatusResponse?) throws -> [NodeID] {
            var statuses: [UInt64: WireStatusResponse] = [1: leader]
            statuses[4] = learner
            let view = ClusterUpkeep.view(state: bench.state, survey: self.sight(statuses).survey)
            return try #require(view.groups.first { $0.id == self.group }).caughtUp
        }
        let learner = ClusterBench.status(follows: [self.group: own])
        #expect(try caughtUp(learner).contains(NodeID(4)) == isCaughtUp)
        #expect(try !caughtUp(nil).contains(NodeID(4)), "who says nothing has not caught up")
        #expect(try !caughtUp(ClusterBench.status()).contains(NodeID(4)), "nor who has no replica")
        #expect(try Set(caughtUp(learner)).isSuperset(of: self.voters))
    }
}

@Suite("What operators may wish")
struct ClusterAdministrationTests {
    private func code(_ body: () throws -> Void) -> Problem.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? Problem)?.code
        }
    }

    @Test func idsAndAddressesAreTakenOnce() {
        var bench = ClusterBench(nodes: [1, 2, 3, 4])
        #expect(self.code { try ClusterAdministration.requireNew(NodeID(5), in: bench.state) } == nil)
        #expect(self.code { try ClusterAdministration.requireNew(NodeID(2), in: bench.state) } == .nodeExists)
        bench.set(4, .leaving)
        bench.set(4, .removed)
        let state = bench.state
        #expect(self.code { try ClusterAdministration.requireNew(NodeID(4), in: state) } == .nodeRemoved)
        #expect(self.code { try ClusterAdministration.requireFree(["n2:1", "x:1"], in: state) } == .addressTaken)
        #expect(self.code { try ClusterAdministration.requireFree(["x:1", "x:1"], in: state) } == .addressTaken)
        #expect(
            self.code { try ClusterAdministration.requireFree(["n4:1", "n4:2"], in: state) } == nil,
            "those of a removed node are free"
        )
    }

    @Test func enoughNodesMustBeLeft() {
        let three = ClusterBench().state
        #expect(self.code { try ClusterAdministration.requireEnough(without: NodeID(1), in: three) } == .notEnoughNodes)
        let one = ClusterBench(nodes: [1]).state
        #expect(self.code { try ClusterAdministration.requireEnough(without: NodeID(1), in: one) } == .lastVoter)
        var four = ClusterBench(nodes: [1, 2, 3, 4])
        let before = four.state
        #expect(self.code { try ClusterAdministration.requireEnough(without: NodeID(1), in: before) } == nil)
        four.set(2, .draining)
        let after = four.state
        #expect(self.code { try ClusterAdministration.requireEnough(without: NodeID(1), in: after) } == .notEnoughNodes)
    }

    @Test(arguments: [
        ([UInt64(1), 2], Problem.Code.replicasInvalid), ([], .replicasInvalid), ([1, 1, 2], .replicasInvalid),
        ([1, 2, 9], .nodeNotFound), ([1, 2, 4], .nodeNotAvailable),
    ])
    func evenOrUnknownSetsAreRefused(nodes: [UInt64], expected: Problem.Code) {
        var bench = ClusterBench(nodes: [1, 2, 3, 4])
        bench.set(4, .draining)
        let state = bench.state
        #expect(
            self.code {
                try ClusterAdministration.requirePlaceable(GroupID(1), on: nodes.map { NodeID($0) }, in: state)
            } == expected
        )
    }

    @Test func onlyDataGroupsThatExistArePlaced() {
        let state = ClusterBench().state
        let nodes = [1, 2, 3].map { NodeID($0) }
        #expect(self.code { try ClusterAdministration.requirePlaceable(GroupID(1), on: nodes, in: state) } == nil)
        #expect(
            self.code { try ClusterAdministration.requirePlaceable(GroupID(9), on: nodes, in: state) } == .groupNotFound
        )
        #expect(
            self.code { try ClusterAdministration.requirePlaceable(.system, on: nodes, in: state) } == .stateNotAllowed
        )
    }
}
