internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("A lost majority is recovered from by hand")
struct ClusterRecoveryTests {
    private static let node = NodeID(1)
    private static let voters = [NodeID(1), NodeID(2), NodeID(3)]

    private struct Bench {
        let store = InMemoryStore()
        let logs: SegmentLog
        let identity = NodeIdentity(founding: NodeIdentityTests.configuration(dataGroups: 1))

        init() throws {
            var configuration = SegmentLog.Configuration()
            configuration.segmentBytes = 64 << 10
            self.logs = try SegmentLog.open(files: SimulatedLogFiles(), configuration: configuration)
            try self.identity.claim(self.store)
        }

        var recovery: ClusterRecovery {
            ClusterRecovery(store: self.store, logs: self.logs, identity: self.identity)
        }

        /// A log of `kinds` from index 1, all of term 2.
        func write(_ group: GroupID, _ kinds: [LogEntry.Kind], commit: UInt64) throws {
            let entries = kinds.enumerated().map { place, kind in
                LogEntry(
                    index: LogIndex(UInt64(place + 1)),
                    term: Term(2),
                    kind: kind,
                    payload: kind == .membership ? MembershipChange([.addLearner(NodeID(4))]).encoded() : []
                )
            }
            try self.logs.write([
                LogWrite(
                    group: group,
                    hardState: HardState(term: Term(2), vote: nil),
                    commit: LogIndex(commit),
                    entries: entries,
                    last: LogIndex(UInt64(kinds.count)),
                    lastTerm: Term(2)
                )
            ])
        }

        func kinds(_ group: GroupID) throws -> [LogEntry.Kind] {
            let restored = try self.logs.load(group)
            return try self.logs.reader(of: group)
                .entries(from: LogIndex(1), through: restored.terms.last, bytesMax: 1 << 20).map(\.kind)
        }
    }

    @Test func thePlanSaysWhatIsThereAndWhatMayBeLost() throws {
        let bench = try Bench()
        try bench.write(GroupID(1), [.empty, .commands, .membership, .commands], commit: 2)
        let plan = try bench.recovery.plan(survivors: [Self.node])
        let group = try #require(plan.groups.first)
        #expect(plan.groups.count == 1 && plan.epoch == 1)
        #expect(group.voters == Self.voters)
        #expect(group.survivors == [Self.node])
        #expect(group.commit == LogIndex(2) && group.last == LogIndex(4) && group.applied == .zero)
        #expect(group.changes == [LogIndex(3)])
        #expect(!group.hasMajority)
        #expect(
            group.verdict
                == "2 entries from 3 on may become final; acknowledged entries after 4 that only lost nodes hold are lost"
        )
        let both = try bench.recovery.plan(survivors: [NodeID(2), Self.node])
        #expect(both.groups.first?.hasMajority == true)
        #expect(both.groups.first?.verdict == "nothing is lost")
        #expect(try bench.kinds(GroupID(1)) == [.empty, .commands, .membership, .commands], "a plan changes nothing")
    }

    @Test func afterwardsOnlySurvivorsVoteAndNoEntryBringsALostNodeBack() throws {
        let bench = try Bench()
        try bench.write(GroupID(1), [.empty, .membership, .commands], commit: 1)
        try bench.recovery.apply(try bench.recovery.plan(survivors: [Self.node]))
        let state = try ShardApplier.appliedState(of: GroupID(1), reading: bench.store)
        #expect(state.membership == Membership(voters: [Self.node]))
        #expect(try bench.kinds(GroupID(1)) == [.empty, .empty, .commands])
        let restored = try bench.logs.load(GroupID(1))
        #expect(restored.hardState.term == Term(2) && restored.terms.last == LogIndex(3))
        let identity = try #require(try NodeIdentity.read(bench.store, directory: "/data"))
        #expect(identity == bench.identity.recovered() && identity.recoveryEpoch == 1)
    }

    @Test func whatItFoundIsKeptForTheClusterLedgerUntilItIsThere() throws {
        let bench = try Bench()
        try bench.write(GroupID(1), [.empty], commit: 1)
        #expect(try RecoveryNote.read(bench.store) == nil)
        try bench.recovery.apply(try bench.recovery.plan(survivors: [Self.node]))
        let note = try #require(try RecoveryNote.read(bench.store))
        let json = try JSONParser.parse(note)
        #expect(json["epoch"] == .number(try #require(JSONNumber(1))))
        #expect(note.count <= ClusterEventCommand.detailsBytesMax)
        // A second time before the first was recorded would raise the epoch beyond the other survivors'.
        let error = #expect(throws: NodeError.self) { try bench.recovery.plan(survivors: [Self.node]) }
        #expect(error?.message.contains("recovered already") == true)
        try RecoveryNote.remove(bench.store)
        #expect(try RecoveryNote.read(bench.store) == nil)
    }

    @Test func strangersAndListsWithoutThisNodeAreRefused() throws {
        let bench = try Bench()
        #expect(throws: NodeError.self) { try bench.recovery.plan(survivors: [NodeID(2)]) }
        let error = #expect(throws: NodeError.self) { try bench.recovery.plan(survivors: [Self.node, NodeID(9)]) }
        #expect(error?.message == "node 9 is no member of this cluster")
    }
}
