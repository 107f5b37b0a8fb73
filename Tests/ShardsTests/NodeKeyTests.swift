internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

@Suite("Keys that sign checkpoints")
struct NodeKeyTests {
    private let origin = CommandOrigin(actor: "node-1", kind: .serviceAccount, channel: .system)

    private func machine(
        _ store: any KeyValueStore = InMemoryStore(),
        level: FeatureLevel = .current
    ) throws -> Machine {
        var machine = try Machine(store, group: .system)
        let nodes = (1...3).map { RegisterNodeCommand(node: NodeID($0), api: "a-\($0):1", peer: "p-\($0):2") }
        let begin = BootstrapCommand(
            clusterID: "c-1",
            dataGroups: 2,
            operatorToken: nil,
            featureLevel: level,
            nodes: nodes
        )
        #expect(try machine.apply([.bootstrap(begin)], origin: self.origin) == [.done])
        return machine
    }

    private func publish(_ key: String, of node: UInt64 = 1) -> Command {
        .publishKey(PublishKeyCommand(node: NodeID(node), key: key))
    }

    private func retire(_ key: String, of node: UInt64 = 1, at: Int64? = nil) -> Command {
        .retireKey(RetireKeyCommand(node: NodeID(node), key: key, at: at.map { Timestamp(microseconds: $0) }))
    }

    @Test func arePublishedOnceWithARecord() throws {
        let store = InMemoryStore()
        var machine = try self.machine(store)
        let results = try machine.apply([self.publish("k+1"), self.publish("k+1")], origin: self.origin)
        #expect(results == [.done, .done])
        let keys = machine.applier.directory.current.keys
        #expect(keys.map(\.key) == ["k+1"])
        #expect(keys.first?.validTo == nil)
        let actions = try LedgerReader(store: store, organization: SystemState.ledgerID)
            .records(from: SequenceNumber(1), limit: 100).map { try LedgerRecord($0.bytes) }
        #expect(actions.map(\.action) == ["cluster.created", "cluster.key_published"])
        #expect(try SystemState(reading: store).keys == keys, "what is read back equals what was applied")
    }

    @Test func aRetiredKeyIsNeverValidAgain() throws {
        let store = InMemoryStore()
        var machine = try self.machine(store)
        _ = try machine.apply([self.publish("k+1"), self.retire("k+1")], origin: self.origin)
        #expect(try machine.apply([self.publish("k+1")], origin: self.origin) == [.refused(.keyExists)])
        #expect(try SystemState(reading: store).keys == machine.applier.directory.current.keys)
    }

    @Test func theEndOfAKeyMovesOnlyToEarlierTimes() throws {
        var machine = try self.machine()
        _ = try machine.apply([self.publish("k+1")], origin: self.origin)
        let from = try #require(machine.applier.directory.current.keys.first).validFrom.rawValue
        _ = try machine.apply([self.retire("k+1", at: from + 1000)], origin: self.origin)
        _ = try machine.apply([self.retire("k+1", at: from + 5000)], origin: self.origin)
        #expect(machine.applier.directory.current.keys.first?.validTo?.rawValue == from + 1000)
        _ = try machine.apply([self.retire("k+1", at: from + 10)], origin: self.origin)
        let entry = try #require(machine.applier.directory.current.keys.first)
        #expect(entry.validTo?.rawValue == from + 10)
        #expect(entry.isValid(at: Timestamp(microseconds: from)))
        #expect(entry.isValid(at: Timestamp(microseconds: from + 10)), "both ends belong to it")
        #expect(!entry.isValid(at: Timestamp(microseconds: from + 11)))
        #expect(!entry.isValid(at: Timestamp(microseconds: from - 1)))
        _ = try machine.apply([self.retire("k+1", at: from - 99)], origin: self.origin)
        #expect(machine.applier.directory.current.keys.first?.validTo?.rawValue == from, "never before its beginning")
    }

    @Test func wrongOnesAreRefusedAndChangeNothing() throws {
        var machine = try self.machine()
        _ = try machine.apply([self.publish("k+1")], origin: self.origin)
        let before = machine.applier.directory.current.keys
        let wrong: [(Command, Refusal)] = [
            (self.publish("k+2", of: 9), .nodeNotFound),
            (self.publish("k+1", of: 2), .keyExists),
            (self.publish(""), .malformed),
            (self.publish("k 2"), .malformed),
            (self.publish("k\u{7F}"), .malformed),
            (self.publish(String(repeating: "k", count: 256)), .malformed),
            (self.retire("k+9"), .keyNotFound),
            (self.retire("k+1", of: 2), .keyNotFound),
        ]
        for (command, refusal) in wrong {
            #expect(try machine.apply([command], origin: self.origin) == [.refused(refusal)])
        }
        #expect(machine.applier.directory.current.keys == before)
    }

    @Test func aRemovedNodesKeysEnd() throws {
        var machine = try self.machine()
        let remove = Command.setNodeState(SetNodeStateCommand(node: NodeID(1), state: .removed, isForced: true))
        _ = try machine.apply([self.publish("k+1"), self.publish("k+2", of: 2), remove], origin: self.origin)
        let keys = machine.applier.directory.current.keys
        #expect(keys.first { $0.key == "k+1" }?.validTo != nil)
        #expect(keys.first { $0.key == "k+2" }?.validTo == nil)
        #expect(try machine.apply([self.publish("k+3")], origin: self.origin) == [.refused(.nodeRemoved)])
    }

    @Test func anOlderClusterDoesNotTakeThem() throws {
        let machine = try self.machine(level: .two)
        #expect(!machine.applier.admits(self.publish("k+1").encoded(origin: self.origin), to: .system))
        #expect(!machine.applier.admits(self.retire("k+1").encoded(origin: self.origin), to: .system))
    }

    @Test func commandsReadBackAsTheyWereWritten() throws {
        for command in [self.publish("k+1"), self.retire("k+1"), self.retire("k+1", at: 77)] {
            let bytes = command.encoded(origin: self.origin)
            let decoded = try Command.decode(bytes[...])
            #expect(decoded.command.encoded(origin: decoded.origin) == bytes)
            for count in 10..<bytes.count {
                #expect(throws: MalformedBytes.self) { try Command.decode(bytes[..<count]) }
            }
        }
    }

    @Test func organizationsAreFoundByNumber() throws {
        let store = InMemoryStore()
        var machine = try self.machine(store)
        let directory = machine.applier.directory
        #expect(directory.organization(OrganizationID(1)) == nil)
        for key in ["lab-a", "lab-b"] {
            let create = CreateOrganizationCommand(key: try #require(OrganizationKey(key)), name: key)
            _ = try machine.apply([.createOrganization(create)], origin: self.origin)
            #expect(directory.organization(OrganizationID(1))?.key.rawValue == "lab-a")
        }
        #expect(directory.organization(OrganizationID(2))?.key.rawValue == "lab-b")
        #expect(directory.organization(OrganizationID(3)) == nil)
        #expect(directory.organization(OrganizationID(0))?.key.rawValue == "system")
    }
}
