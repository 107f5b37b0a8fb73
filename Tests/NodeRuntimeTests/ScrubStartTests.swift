import AuditLedger
import Consensus
import Laboratory
import Primitives
import Shards
import Storage
import Testing

@testable import NodeRuntime

/// What a node makes of its ledgers at start: damage is found, what its log will bring again is not damage.
struct ScrubStartTests {
    /// A node's store with one organization, whose records come by entries of its group.
    struct Node {
        static let organization = OrganizationKey("lab-a")!
        let store = InMemoryStore()
        let applier: ShardApplier

        init() throws {
            self.applier = try ShardApplier(store: self.store, lanes: [InlineLane()])
            let place = BootstrapCommand.Placement(group: GroupID(1), replicas: [NodeID(1)])
            let begin = BootstrapCommand(
                clusterID: "c",
                dataGroups: 1,
                operatorToken: nil,
                nodes: [RegisterNodeCommand(node: NodeID(1), api: "a:1", peer: "p:1")],
                placements: [.init(group: .system, replicas: [NodeID(1)]), place]
            )
            let create = CreateOrganizationCommand(key: Self.organization, name: "A")
            try self.apply([.bootstrap(begin), .createOrganization(create)], at: 1, in: .system)
        }

        private func apply(_ commands: [Command], at index: UInt64, in group: GroupID) throws {
            let bytes = try commands.map { command in
                var bytes = command.encoded(origin: .node(NodeID(1)))
                try Command.stamp(&bytes, at: Timestamp(microseconds: Int64(index) * 1_000_000))
                return bytes[...]
            }
            let entry = CommittedEntry(index: LogIndex(index), term: Term(1), commands: bytes)
            _ = try self.applier.apply([GroupEntries(group: group, entries: [entry])])
        }

        var entry: OrganizationEntry {
            get throws { try #require(self.applier.directory.organization(Self.organization)) }
        }

        /// Ten records by one entry.
        func append(at index: UInt64, text: String = "b") throws {
            let context = EventContext(
                organization: Self.organization,
                request: RequestInfo(id: "r", channel: .api),
                defaultActor: Actor(kind: .apiKey, id: "k")
            )
            let draft = try EventDraft.parse(
                Array(#"{"action":"update","entity_type":"batch","entity_id":"\#(text)"}"#.utf8),
                defaults: context
            )
            let drafts = [EventDraft](repeating: draft, count: 10)
            let command = AppendCommand(organization: try self.entry.id, idempotency: nil, drafts: drafts)
            try self.apply([.append(command)], at: index, in: GroupID(1))
        }

        func head() throws -> TreeHead {
            let head = try LedgerReader(store: self.store, organization: try self.entry.id).head()
            return TreeHead(size: head.size, root: head.root)
        }

        func remember(signed head: TreeHead) throws {
            var batch = WriteBatch()
            CheckpointStore.put(signed: head, of: try self.entry.id, into: &batch)
            try self.store.write(batch)
        }

        func check(logEnd: UInt64) throws -> StartCheck.Outcome {
            let register = try DamageRegister(store: self.store)
            return try StartCheck(store: self.store, applier: self.applier, register: register) { _ in
                LogIndex(logEnd)
            }.run()
        }
    }

    /// A node that signed 20 records and crashed when 10 were flushed.
    static func crashed() throws -> Node {
        let before = try Node()
        try before.append(at: 1)
        try before.append(at: 2)
        let node = try Node()
        try node.append(at: 1)
        try node.remember(signed: try before.head())
        #expect(try node.head().size == 10 && before.head().size == 20)
        return node
    }

    @Test func waitsForWhatTheLogBringsAgain() throws {
        let node = try Self.crashed()
        let outcome = try node.check(logEnd: 2)
        #expect(outcome.findings.isEmpty)
        #expect(outcome.owed.map(\.through) == [LogIndex(2)])
        #expect(try DamageRegister(store: node.store).all.isEmpty)
        let owed = OwedLedgers(outcome.owed, store: node.store)
        #expect(try owed.judge { _ in LogIndex(1) }.isEmpty)
        try node.append(at: 2)
        #expect(try owed.judge { _ in LogIndex(2) }.isEmpty)
        #expect(try node.check(logEnd: 2).findings.isEmpty)
    }

    @Test func namesWhatTheLogCannotBring() throws {
        let node = try Self.crashed()
        let outcome = try node.check(logEnd: 1)
        #expect(outcome.findings.map(\.0.kind) == [.truncated])
        #expect(outcome.owed.isEmpty)
        #expect(try DamageRegister(store: node.store).all.count == 1)
    }

    @Test func namesWhatTheLogHasNotBrought() throws {
        let node = try Self.crashed()
        let owed = OwedLedgers(try node.check(logEnd: 2).owed, store: node.store)
        let found = try owed.judge { _ in LogIndex(2) }
        #expect(found.map(\.0.kind) == [.truncated])
        #expect(found.map(\.1.key) == [Node.organization])
        #expect(try owed.judge { _ in LogIndex(3) }.isEmpty)
    }

    @Test func namesAnotherHistoryAfterReplay() throws {
        let node = try Self.crashed()
        let owed = OwedLedgers(try node.check(logEnd: 2).owed, store: node.store)
        try node.append(at: 2, text: "other")
        #expect(try owed.judge { _ in LogIndex(2) }.map(\.0.kind) == [.fork])
    }
}
