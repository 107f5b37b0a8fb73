internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Shards

@Suite("The cluster's nodes, groups and ledger")
struct ClusterStateTests {
    private let origin = CommandOrigin(actor: "admin", kind: .apiKey, requestID: "r-9")

    private func node(
        _ number: UInt64,
        features: FeatureRange = .supported,
        token: Digest? = nil
    ) -> RegisterNodeCommand {
        RegisterNodeCommand(
            node: NodeID(number),
            api: "host-\(number):7000",
            peer: "host-\(number):7001",
            region: "north",
            features: features,
            joinToken: token
        )
    }

    /// A system group of three nodes.
    private func machine(_ store: any KeyValueStore = InMemoryStore(), level: FeatureLevel = .current) throws -> Machine
    {
        var machine = try Machine(store, group: .system)
        let begin = BootstrapCommand(
            clusterID: "c-1",
            dataGroups: 2,
            operatorToken: Digest(words: (1, 1, 1, 1)),
            featureLevel: level,
            nodes: (1...3).map { self.node($0) },
            placements: (0...2).map { .init(group: GroupID($0), replicas: [1, 2, 3].map { NodeID($0) }) }
        )
        #expect(try machine.apply([.bootstrap(begin)], origin: self.origin) == [.done])
        return machine
    }

    private func apply(_ command: Command, _ machine: inout Machine) throws -> CommandResult {
        try #require(try machine.apply([command], origin: self.origin).first)
    }

    private func actions(_ machine: Machine) throws -> [String] {
        try LedgerReader(store: machine.store, organization: SystemState.ledgerID)
            .records(from: SequenceNumber(1), limit: 100)
            .map { try LedgerRecord($0.bytes).action }
    }

    @Test func whatIsReadBackEqualsWhatWasApplied() throws {
        let store = InMemoryStore()
        var machine = try self.machine(store)
        let hash = Digest(words: (2, 2, 2, 2))
        let expiry = Timestamp(microseconds: 1_000_000)
        let membership = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)], learners: [NodeID(4)])
        let commands: [Command] = [
            .createJoinToken(CreateJoinTokenCommand(hash: hash, expiresAt: expiry)),
            .registerNode(self.node(4, token: hash)),
            .setNodeState(SetNodeStateCommand(node: NodeID(4), state: .active)),
            .setNodeState(SetNodeStateCommand(node: NodeID(1), state: .leaving, replacement: NodeID(4))),
            .confirmPlacement(ConfirmPlacementCommand(group: GroupID(1), membership: membership, index: LogIndex(7))),
            .setTarget(SetTargetCommand(group: GroupID(2), replicas: [NodeID(2), NodeID(3), NodeID(4)])),
            .setRebalancing(true),
            .createJoinToken(CreateJoinTokenCommand(hash: Digest(words: (3, 3, 3, 3)), expiresAt: expiry)),
        ]
        let results = try machine.apply(commands, origin: self.origin)
        #expect(results == [.node(NodeID(4)), .done, .done, .done, .done, .done, .done, .node(NodeID(5))])
        let state = machine.applier.directory.current
        #expect(try SystemState(reading: store) == state)
        #expect(state.node(NodeID(1))?.replacement == NodeID(4))
        #expect(state.placement(of: GroupID(1))?.membership == membership)
        #expect(state.placement(of: GroupID(2))?.target == [NodeID(2), NodeID(3), NodeID(4)])
        #expect(state.joinTokens.map(\.node) == [NodeID(5)])
        #expect(state.isRebalancing && state.featureLevel == .current)
    }

    @Test func everyOperationLeavesARecordWithItsActor() throws {
        var machine = try self.machine()
        let key = try #require(OrganizationKey("lab-a"))
        let event = ClusterEventCommand(
            action: "cluster.clock_drift",
            entityType: "node",
            entityID: "2",
            details: Array(#"{"milliseconds":812}"#.utf8),
            severity: .warning
        )
        try machine.apply(
            [
                .createOrganization(CreateOrganizationCommand(key: key, name: "Lab A")),
                .setNodeState(SetNodeStateCommand(node: NodeID(2), state: .cordoned)),
                .recordClusterEvent(event),
            ],
            origin: self.origin
        )
        #expect(
            try self.actions(machine) == [
                "cluster.created", "cluster.organization_created", "cluster.node_state_changed", "cluster.clock_drift",
            ]
        )
        let last = try LedgerRecord(
            try #require(
                try LedgerReader(store: machine.store, organization: SystemState.ledgerID).record(at: SequenceNumber(4))
            )
        )
        #expect(last.actor.id == "admin" && last.request.id == "r-9" && last.severity == .warning)
        #expect(last.after["milliseconds"] != nil)
        #expect(last.organization == SystemState.ledgerKey)
        let verified = try LedgerVerifier.verify(
            store: try machine.store.snapshot(),
            organization: SystemState.ledgerID,
            key: SystemState.ledgerKey
        )
        #expect(verified.isSound && verified.size == 4)
        #expect(machine.applier.directory.organization(SystemState.ledgerKey)?.group == .system)
        #expect(machine.applier.directory.organizations.map(\.key) == [key])
    }

    @Test func theKeyOfTheClustersLedgerIsReserved() throws {
        var machine = try self.machine()
        let create = CreateOrganizationCommand(key: SystemState.ledgerKey, name: "mine")
        #expect(try self.apply(.createOrganization(create), &machine) == .refused(.reservedKey))
    }

    @Test func aRefusalLeavesNothing() throws {
        var machine = try self.machine()
        let before = try machine.shared().filter { $0.key != SystemState.key(.lastStamp, []) }
        let wrong: [(Command, Refusal)] = [
            (.setNodeState(SetNodeStateCommand(node: NodeID(9), state: .cordoned)), .nodeNotFound),
            (.setNodeState(SetNodeStateCommand(node: NodeID(1), state: .joining)), .stateNotAllowed),
            (.setNodeState(SetNodeStateCommand(node: NodeID(1), state: .removed)), .stateNotAllowed),
            (.setNodeState(SetNodeStateCommand(node: NodeID(1), state: .leaving)), .notEnoughNodes),
            (.setTarget(SetTargetCommand(group: GroupID(1), replicas: [NodeID(1), NodeID(2)])), .targetNotAllowed),
            (.setTarget(SetTargetCommand(group: GroupID(9), replicas: [])), .groupNotFound),
            (.setTarget(SetTargetCommand(group: GroupID(1), replicas: [NodeID(9)])), .nodeNotFound),
            (.registerNode(self.node(7, token: Digest(words: (9, 9, 9, 9)))), .joinTokenInvalid),
            (
                .createJoinToken(
                    CreateJoinTokenCommand(hash: .zero, node: NodeID(2), expiresAt: .init(microseconds: 9))
                ), .nodeExists
            ),
            (.raiseFeatureLevel(FeatureLevel(rawValue: 9)), .featureUnsupported),
            (.raiseFeatureLevel(.one), .featureUnsupported),
            (.setFeatureLevel(.two), .wrongGroup),
            (.recordClusterEvent(.init(action: "", entityType: "a", entityID: "b", severity: .info)), .malformed),
            (
                .recordClusterEvent(.init(action: "a", entityType: "a", entityID: "b", details: [1], severity: .info)),
                .malformed
            ),
        ]
        for (command, refusal) in wrong {
            #expect(try self.apply(command, &machine) == .refused(refusal), "\(command)")
        }
        #expect(try machine.shared().filter { $0.key != SystemState.key(.lastStamp, []) } == before)
    }

    @Test func aTokenLetsOneNodeInOnceAndNotAfterItsTime() throws {
        var machine = try self.machine()
        let hash = Digest(words: (4, 4, 4, 4))
        let late = Digest(words: (5, 5, 5, 5))
        let soon = Timestamp(microseconds: Int64(machine.next.rawValue) * 1_000 + 1_500)
        #expect(
            try self.apply(
                .createJoinToken(CreateJoinTokenCommand(hash: late, node: NodeID(8), expiresAt: soon)),
                &machine
            ) == .node(NodeID(8))
        )
        let far = Timestamp(microseconds: 10_000_000)
        #expect(
            try self.apply(.createJoinToken(CreateJoinTokenCommand(hash: hash, expiresAt: far)), &machine)
                == .node(NodeID(9))
        )
        #expect(try self.apply(.registerNode(self.node(7, token: hash)), &machine) == .refused(.joinTokenInvalid))
        #expect(try self.apply(.registerNode(self.node(8, token: late)), &machine) == .refused(.joinTokenInvalid))
        #expect(try self.apply(.registerNode(self.node(9, token: hash)), &machine) == .done)
        #expect(machine.applier.directory.current.node(NodeID(9))?.state == .joining)
        // The answer was lost: the same node asks again. Another machine with the token does not get in.
        #expect(try self.apply(.registerNode(self.node(9, token: hash)), &machine) == .done)
        let other = RegisterNodeCommand(node: NodeID(9), api: "x:1", peer: "x:2", joinToken: hash)
        #expect(try self.apply(.registerNode(other), &machine) == .refused(.nodeExists))
    }

    @Test func aRemovedNodeNeverComesBack() throws {
        var machine = try self.machine()
        let leave = SetNodeStateCommand(node: NodeID(3), state: .removed, isForced: true)
        #expect(try self.apply(.setNodeState(leave), &machine) == .done)
        #expect(try self.apply(.registerNode(self.node(3)), &machine) == .refused(.nodeRemoved))
        let again = CreateJoinTokenCommand(hash: .zero, node: NodeID(3), expiresAt: Timestamp(microseconds: 9_000_000))
        #expect(try self.apply(.createJoinToken(again), &machine) == .refused(.nodeRemoved))
        let active = SetNodeStateCommand(node: NodeID(3), state: .active)
        #expect(try self.apply(.setNodeState(active), &machine) == .refused(.nodeRemoved))
        // Its addresses are free for a new node.
        let heir = RegisterNodeCommand(node: NodeID(4), api: "host-3:7000", peer: "host-3:7001")
        #expect(try self.apply(.registerNode(heir), &machine) == .done)
        let taken = RegisterNodeCommand(node: NodeID(5), api: "host-1:7000", peer: "other:1")
        #expect(try self.apply(.registerNode(taken), &machine) == .refused(.addressUsed))
    }

    @Test func anOlderConfirmationIsRefused() throws {
        var machine = try self.machine()
        func confirm(_ voters: [UInt64], at index: UInt64) throws -> CommandResult {
            let command = ConfirmPlacementCommand(
                group: GroupID(1),
                membership: Membership(voters: voters.map { NodeID($0) }),
                index: LogIndex(index)
            )
            return try self.apply(.confirmPlacement(command), &machine)
        }
        #expect(try confirm([1, 2, 3], at: 50) == .done)
        #expect(try confirm([1, 2], at: 40) == .refused(.staleChange))
        #expect(try confirm([2, 3], at: 60) == .done)
        #expect(
            machine.applier.directory.current.placement(of: GroupID(1))?.membership.voters == [NodeID(2), NodeID(3)]
        )
    }

    @Test func theLevelRisesOnlyWhenEveryNodeKnowsIt() throws {
        var machine = try self.machine(level: .one)
        let old = FeatureRange(min: .one, max: .one)
        #expect(try self.apply(.registerNode(self.node(3, features: old)), &machine) == .done)
        #expect(try self.apply(.raiseFeatureLevel(.two), &machine) == .refused(.featureUnsupported))
        // At level one the directory's changes leave no records: an older program would leave none.
        let key = try #require(OrganizationKey("lab-a"))
        let create = CreateOrganizationCommand(key: key, name: "Lab A")
        let before = try self.actions(machine)
        #expect(try self.apply(.createOrganization(create), &machine) != .done)
        #expect(try self.actions(machine) == before)
        #expect(try self.apply(.registerNode(self.node(3)), &machine) == .done)
        #expect(try self.apply(.raiseFeatureLevel(.two), &machine) == .done)
        #expect(machine.applier.featureLevel(of: .system) == .two)
        let token = CreateTokenCommand(id: "t", hash: .zero, name: "n", grant: Grant(role: .operator))
        #expect(try self.apply(.createToken(token), &machine) == .done)
        #expect(try self.actions(machine).last == "cluster.token_created")
        #expect(try self.apply(.registerNode(self.node(4, features: old)), &machine) == .refused(.featureUnsupported))
    }

    @Test func aNodesRecordIsTakenFromLevelFourOnAndTheAnswerSaysWhereItStands() throws {
        let command = Command.appendToSystem(try Fixture.draft(5, of: SystemState.ledgerID))
        #expect(Command.level(of: command.encoded()[...]) == .four)
        let old = try self.machine(level: .three)
        #expect(!old.applier.admits(command.encoded(), to: .system))
        var machine = try self.machine(level: .four)
        #expect(machine.applier.admits(command.encoded(), to: .system))
        let result = try self.apply(command, &machine)
        guard case .appended(let receipt) = result else {
            Issue.record("\(result)")
            return
        }
        let reader = LedgerReader(store: machine.store, organization: SystemState.ledgerID)
        let stored = try #require(try reader.record(at: receipt.firstSequence))
        #expect(receipt.checksums == [LedgerHash.leaf(stored)])
    }

    @Test func aRevokedTokenIsRememberedFromLevelFiveOnAndTheOldestIsForgotten() throws {
        func hash(_ number: UInt64) -> Digest { Digest(words: (7, 7, 7, number)) }
        func create(_ number: UInt64) -> Command {
            let grant = Grant(role: .operator)
            return .createToken(CreateTokenCommand(id: "t\(number)", hash: hash(number), name: "n", grant: grant))
        }
        func revoke(_ number: UInt64) -> Command { .revokeToken(RevokeTokenCommand(id: "t\(number)")) }
        var old = try self.machine(level: .four)
        #expect(try old.apply([create(1), revoke(1)], origin: self.origin) == [.done, .done])
        #expect(old.applier.directory.revokedToken(hash: hash(1)) == nil, "an older program would not keep it")
        var machine = try self.machine()
        #expect(try machine.apply([create(1), revoke(1)], origin: self.origin) == [.done, .done])
        let first = try #require(machine.applier.directory.revokedToken(hash: hash(1)))
        #expect(first.id == "t1" && first.name == "n" && first.role == .operator)
        #expect(machine.applier.directory.token(hash: hash(1)) == nil)
        #expect(machine.applier.directory.revokedToken(hash: hash(2)) == nil, "one that never was")
        for number in 2...UInt64(SystemState.revokedTokensMax) + 1 {
            _ = try machine.apply([create(number), revoke(number)], origin: self.origin)
        }
        #expect(machine.applier.directory.revokedToken(hash: hash(1)) == nil)
        #expect(machine.applier.directory.revokedToken(hash: hash(2)) != nil)
        let state = machine.applier.directory.current
        #expect(state.revokedTokens.count == SystemState.revokedTokensMax)
        #expect(try SystemState(reading: machine.store) == state)
    }

    @Test func aProgramStopsAtALevelThatItDoesNotKnow() throws {
        let store = InMemoryStore()
        var machine = try self.machine(store, level: .one)
        let old = FeatureRange(min: .one, max: .one)
        var behind = try Machine(InMemoryStore(), group: .system, features: old)
        #expect(throws: ShardError.self) {
            try behind.apply(
                [.bootstrap(BootstrapCommand(clusterID: "c", dataGroups: 1, operatorToken: nil, featureLevel: .two))],
                origin: self.origin
            )
        }
        #expect(try behind.applier.appliedState(of: .system).index == .zero, "nothing of it is written")
        #expect(try self.apply(.raiseFeatureLevel(.two), &machine) == .done)
        #expect(throws: ShardError.self) { try Machine(store, group: .system, features: old) }
    }

    @Test func formsThatAreNotKnownStopTheNodeAndAreNotAdmitted() throws {
        var machine = try Machine()
        var unknownKind = Command.setFeatureLevel(.one).encoded()
        unknownKind[1] = 200
        var unknownVersion = Command.setFeatureLevel(.one).encoded()
        unknownVersion[0] = 3
        for bytes in [unknownKind, unknownVersion] {
            #expect(!machine.applier.admits(bytes, to: GroupID(1)))
            let next = machine.next.rawValue
            let error = #expect(throws: ShardError.self) {
                try machine.apply(entry: Fixture.entry(next, [bytes[...]]))
            }
            #expect(error?.code == .unsupported)
            machine.next = LogIndex(next)
        }
        let good = try Fixture.append(1...1, to: OrganizationID(1)).encoded()
        #expect(machine.applier.admits(good, to: GroupID(1)))
        #expect(!machine.applier.admits([1, 2], to: GroupID(1)))
        // A group does not go ahead of the cluster.
        #expect(!machine.applier.admits(Command.setFeatureLevel(.two).encoded(), to: GroupID(1)))
        #expect(try machine.apply([.setFeatureLevel(.two)]) == [.done])
        #expect(machine.applier.featureLevel(of: GroupID(1)) == .two)
        #expect(try machine.apply([.setFeatureLevel(.one)]) == [.refused(.featureUnsupported)])
    }

    @Test func everyCommandComesBackAsItWent() throws {
        let commands: [Command] = [
            .registerNode(self.node(3, token: .zero)),
            .createJoinToken(
                CreateJoinTokenCommand(hash: .zero, node: NodeID(4), expiresAt: Timestamp(microseconds: 5))
            ),
            .setNodeState(
                SetNodeStateCommand(node: NodeID(1), state: .leaving, replacement: NodeID(2), isForced: true)
            ),
            .confirmPlacement(
                ConfirmPlacementCommand(
                    group: GroupID(3),
                    membership: Membership(voters: [NodeID(1)], learners: [NodeID(2)]),
                    index: LogIndex(8)
                )
            ),
            .setTarget(SetTargetCommand(group: GroupID(3), replicas: [NodeID(3), NodeID(1)])),
            .setRebalancing(true), .raiseFeatureLevel(.two), .setFeatureLevel(.two),
            .appendToSystem(try Fixture.draft(5, of: SystemState.ledgerID)),
            .recordClusterEvent(
                ClusterEventCommand(action: "a", entityType: "b", entityID: "c", details: [1], severity: .critical)
            ),
            .bootstrap(
                BootstrapCommand(
                    clusterID: "c",
                    dataGroups: 3,
                    operatorToken: nil,
                    replicas: 5,
                    nodes: [self.node(1)],
                    placements: [.init(group: GroupID(1), replicas: [NodeID(1)])]
                )
            ),
            .revokeToken(RevokeTokenCommand(id: "t")),
        ]
        for command in commands {
            let bytes = command.encoded(origin: self.origin)
            let decoded = try Command.decode(bytes[...])
            #expect(decoded.origin == self.origin)
            #expect(decoded.command.encoded(origin: self.origin) == bytes)
            for count in 0..<bytes.count {
                #expect(throws: MalformedBytes.self, "\(command)") { try Command.decode(bytes[..<count]) }
            }
            #expect(throws: MalformedBytes.self) { try Command.decode((bytes + [0])[...]) }
        }
    }
}

@Suite("Turns of a lane and flushes")
struct LaneTurnTests {
    private func entry(_ index: UInt64, _ organization: UInt32) throws -> CommittedEntry {
        let command = try Fixture.append(Int(index)...Int(index), to: OrganizationID(organization))
        return Fixture.entry(index, [try Fixture.bytes(command, at: Int64(index))])
    }

    @Test func aTurnOverManyGroupsIsOneUnloggedBatch() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let applier = try ShardApplier(store: store, lanes: [InlineLane()])
        let work = try (UInt32(1)...20).map { number in
            GroupEntries(group: GroupID(number), entries: [try self.entry(1, number), try self.entry(2, number)])
        }
        // The second write would fail, so there is only one.
        store.arm(StoreFault(.write, number: 2))
        let results = try applier.apply(work)
        #expect(results.map(\.count) == Array(repeating: 2, count: 20))
        for number in UInt32(1)...20 {
            #expect(try applier.head(of: OrganizationID(number)).size == 2)
            #expect(try applier.appliedState(of: GroupID(number)).index == LogIndex(2))
            #expect(applier.durableApplied(of: GroupID(number)) == .zero)
        }
        try store.crash(CrashOutcome())
        let restarted = try ShardApplier(store: try store.reopened(), lanes: [InlineLane()])
        #expect(try restarted.appliedState(of: GroupID(7)).index == .zero, "nothing of it was in the write-ahead log")
        #expect(try restarted.head(of: OrganizationID(7)).size == 0)
    }

    @Test func aFlushMakesWhatWasAppliedBeforeItDurable() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let asked = Counter()
        let applier = try ShardApplier(
            store: store,
            lanes: [InlineLane()],
            events: ShardEvents(onFlushDue: { asked.add() }),
            flushBytes: 3_200
        )
        for index in UInt64(1)...10 {
            _ = try applier.apply([GroupEntries(group: GroupID(1), entries: [try self.entry(index, 1)])])
        }
        #expect(asked.count == 1, "it is asked for once until it begins")
        #expect(applier.durableApplied(of: GroupID(1)) == .zero)
        try applier.flush()
        #expect(applier.durableApplied(of: GroupID(1)) == LogIndex(10))
        _ = try applier.apply([GroupEntries(group: GroupID(1), entries: [try self.entry(11, 1)])])
        try store.crash(CrashOutcome())
        let restarted = try ShardApplier(store: try store.reopened(), lanes: [InlineLane()])
        #expect(try restarted.appliedState(of: GroupID(1)).index == LogIndex(10))
        #expect(restarted.durableApplied(of: GroupID(1)) == LogIndex(10))
        #expect(try restarted.head(of: OrganizationID(1)).size == 10)
    }

    /// Nobody flushes although it was asked for: the store must not begin by itself while it is asked.
    @Test func applyingWaitsForAFlushThatIsLongDue() throws {
        let applier = try ShardApplier(store: InMemoryStore(), lanes: [InlineLane()], flushBytes: 1_000)
        var durable: [LogIndex] = []
        for index in UInt64(1)...20 {
            _ = try applier.apply([GroupEntries(group: GroupID(1), entries: [try self.entry(index, 1)])])
            durable.append(applier.durableApplied(of: GroupID(1)))
        }
        #expect(durable[0] == .zero, "a little may wait")
        #expect(Set(durable).count > 3)
        #expect(try #require(durable.last) >= LogIndex(15))
    }

    @Test func aFailedFlushMovesNothing() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let applier = try ShardApplier(store: store, lanes: [InlineLane()])
        _ = try applier.apply([GroupEntries(group: GroupID(1), entries: [try self.entry(1, 1)])])
        store.arm(StoreFault(.flush))
        #expect(throws: StorageError.self) { try applier.flush() }
        #expect(applier.durableApplied(of: GroupID(1)) == .zero)
        #expect(throws: StorageError.self) {
            try applier.apply([GroupEntries(group: GroupID(1), entries: [try self.entry(2, 1)])])
        }
    }

    @Test func theMembershipIsKeptWithTheAppliedIndex() throws {
        let store = InMemoryStore()
        let applier = try ShardApplier(store: store, lanes: [InlineLane()])
        let membership = Membership(voters: [NodeID(1), NodeID(2), NodeID(3)], learners: [NodeID(4)])
        let change = CommittedEntry(index: LogIndex(1), term: Term(2), commands: [], membership: membership)
        _ = try applier.apply([GroupEntries(group: GroupID(1), entries: [change, try self.entry(2, 1)])])
        let expected = AppliedState(index: LogIndex(2), term: Term(1), membership: membership)
        #expect(try applier.appliedState(of: GroupID(1)) == expected)
        let restarted = try ShardApplier(store: store, lanes: [InlineLane()])
        #expect(try restarted.appliedState(of: GroupID(1)) == expected)
    }

    private final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { self.value.withLock { $0 } }
        func add() { self.value.withLock { $0 += 1 } }
    }
}
