internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

@Suite("Applying commands", .timeLimit(.minutes(10)))
struct ShardApplierTests {
    private let organization = OrganizationID(7)

    @Test func recordsGetGaplessSequencesAndTheirOwnReceipts() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let first = try await replica.apply(1, try Fixture.append(1...3, to: self.organization), at: 10)
            let second = try await replica.apply(2, try Fixture.append(4...4, to: self.organization), at: 11)
            let other = try await replica.apply(3, try Fixture.append(5...5, to: OrganizationID(8)), at: 12)
            #expect(first.receipt?.firstSequence == SequenceNumber(1))
            #expect(first.receipt?.checksums.count == 3)
            #expect(second.receipt?.firstSequence == SequenceNumber(4))
            #expect(other.receipt?.firstSequence == SequenceNumber(1))
            let reader = LedgerReader(store: replica.store, organization: self.organization)
            let records = try reader.records(from: SequenceNumber(1), limit: 10)
            #expect(records.map(\.sequence.rawValue) == [1, 2, 3, 4])
            let expected = (first.receipt?.checksums ?? []) + (second.receipt?.checksums ?? [])
            #expect(records.map { LedgerHash.leaf($0.bytes) } == expected)
            #expect(try replica.verify(self.organization).isSound)
            #expect(try replica.verify(self.organization).size == 4)
        }
    }

    @Test func aRepeatedKeyGetsTheFirstReceiptInTheSameBatch() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let command = try Fixture.append(1...2, to: self.organization, key: "k")
            let entry = Fixture.entry(1, [try Fixture.bytes(command, at: 10), try Fixture.bytes(command, at: 20)])
            let results = try await replica.apply([entry])
            let first = try #require(results[0].receipt)
            let second = try #require(results[1].receipt)
            #expect(!first.isReplay)
            #expect(second.isReplay)
            #expect(second.checksums == first.checksums)
            #expect(second.firstSequence == first.firstSequence)
            #expect(second.recordedAt == first.recordedAt)
            #expect(replica.applier.knownHead(of: self.organization)?.size == 2)
        }
    }

    @Test func aRepeatedKeyGetsTheFirstReceiptInALaterBatchAndAfterARestart() async throws {
        try await withLane { lane in
            let store = InMemoryStore()
            let replica = try Replica(store, lane: lane)
            let command = try Fixture.append(1...3, to: self.organization, key: "k")
            _ = try await replica.apply(1, try Fixture.append(9...9, to: self.organization), at: 5)
            let first = try #require(try await replica.apply(2, command, at: 10).receipt)
            let later = try #require(try await replica.apply(3, command, at: 20).receipt)
            let restarted = try Replica(store, lane: lane)
            let after = try #require(try await restarted.apply(4, command, at: 30).receipt)
            for replay in [later, after] {
                #expect(replay.isReplay)
                #expect(replay.firstSequence == first.firstSequence)
                #expect(replay.checksums == first.checksums)
                #expect(replay.recordedAt == first.recordedAt)
            }
            #expect(restarted.applier.knownHead(of: self.organization)?.size == 4)
        }
    }

    @Test func aKeyReusedForAnotherRequestIsRefused() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let one = try Fixture.bytes(try Fixture.append(1...1, to: self.organization, key: "k"), at: 10)
            let two = try Fixture.bytes(try Fixture.append(2...2, to: self.organization, key: "k"), at: 11)
            let sameBatch = try await replica.apply([Fixture.entry(1, [one, two])])
            #expect(sameBatch[1] == .refused(.idempotencyKeyReused))
            #expect(try await replica.apply([Fixture.entry(2, [two])]) == [.refused(.idempotencyKeyReused)])
            #expect(replica.applier.knownHead(of: self.organization)?.size == 1)
            // The same key in another organization is another key.
            let other = try await replica.apply(3, try Fixture.append(2...2, to: OrganizationID(8), key: "k"), at: 12)
            #expect(other.receipt?.isReplay == false)
        }
    }

    @Test func aRefusalChangesNothingButTheAppliedIndex() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            _ = try await replica.apply(1, try Fixture.append(1...2, to: self.organization, key: "k"), at: 10)
            let applied = GroupStateKey.applied(GroupID(1))
            let before = try contents(of: replica.store).filter { $0.key != applied }
            let reused = try Fixture.bytes(try Fixture.append(3...4, to: self.organization, key: "k"), at: 50)
            let wrong = try Fixture.bytes(.revokeToken(RevokeTokenCommand(id: "t")), at: 50)
            let results = try await replica.apply([Fixture.entry(2, [reused, [], [1, 2, 3], wrong])])
            let refusals: [Refusal] = [.idempotencyKeyReused, .malformed, .malformed, .wrongGroup]
            #expect(results == refusals.map { .refused($0) })
            #expect(try contents(of: replica.store).filter { $0.key != applied } == before)
            #expect(try replica.applier.appliedState(of: GroupID(1)).index == LogIndex(2))
        }
    }

    @Test func theSystemGroupRefusesAppends() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let append = try Fixture.append(1...1, to: self.organization)
            #expect(try await replica.apply(1, append, at: 10, group: .system) == .refused(.wrongGroup))
            #expect(try contents(of: replica.store).contains { $0.family == .records } == false)
        }
    }

    @Test func recordedAtNeverDecreasesWhenTheLeadersClockGoesBack() async throws {
        try await withLane { lane in
            let store = InMemoryStore()
            var times: [Timestamp] = []
            var replica = try Replica(store, lane: lane)
            for (index, stamp) in [Int64(100), 40, 90, 300, 200].enumerated() {
                if index == 4 { replica = try Replica(store, lane: lane) }
                let command = try Fixture.append(index...index, to: self.organization)
                let receipt = try #require(try await replica.apply(UInt64(index) + 1, command, at: stamp).receipt)
                times.append(receipt.recordedAt)
            }
            #expect(times.map(\.rawValue) == [100, 100, 100, 300, 300])
            let stored = try LedgerReader(store: store, organization: self.organization)
                .records(from: SequenceNumber(1), limit: 10)
                .map { try RecordFields(scanning: $0.bytes).recordedAt }
            #expect(stored == times)
        }
    }

    @Test func headsAndNewsComeOnlyAfterTheWrite() async throws {
        try await withLane { lane in
            let store = try FaultInjectingStore(InMemoryStore())
            let replica = try Replica(store, lane: lane)
            _ = try await replica.apply(1, try Fixture.append(1...2, to: self.organization), at: 10)
            #expect(replica.news.list == [self.organization])
            store.arm(StoreFault(.write))
            await #expect(throws: StorageError.self) {
                try await replica.apply(2, try Fixture.append(3...3, to: self.organization), at: 11)
            }
            #expect(replica.applier.knownHead(of: self.organization)?.size == 2)
            #expect(replica.news.list.count == 1)
            #expect(try replica.applier.appliedState(of: GroupID(1)).index == LogIndex(1))
        }
    }

    @Test func theDirectoryChangesOnlyAfterTheWrite() async throws {
        try await withLane { lane in
            let store = try FaultInjectingStore(InMemoryStore())
            let replica = try Replica(store, lane: lane)
            let begin = Command.bootstrap(BootstrapCommand(clusterID: "c", dataGroups: 2, operatorToken: nil))
            store.arm(StoreFault(.write))
            await #expect(throws: StorageError.self) { try await replica.apply(1, begin, at: 10, group: .system) }
            #expect(!replica.applier.directory.isBootstrapped)
            let reopened = try Replica(try store.crashedAndReopened(), lane: lane)
            #expect(try await reopened.apply(1, begin, at: 10, group: .system) == .done)
            #expect(reopened.applier.directory.isBootstrapped)
        }
    }

    @Test func aFailedReadStopsTheNodeInsteadOfForgettingAnAnswer() async throws {
        try await withLane { lane in
            let store = try FaultInjectingStore(InMemoryStore())
            let replica = try Replica(store, lane: lane)
            let command = try Fixture.append(1...2, to: self.organization, key: "k")
            _ = try await replica.apply(1, command, at: 10)
            let before = try contents(of: store)
            store.arm(StoreFault(.read, code: .corruption))
            await #expect(throws: StorageError.self) { try await replica.apply(2, command, at: 11) }
            #expect(try contents(of: store) == before)
        }
    }

    @Test func entriesWithoutCommandsMoveTheAppliedIndex() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            #expect(try await replica.apply([]) == [])
            #expect(try replica.applier.appliedState(of: GroupID(1)).index == .zero)
            #expect(try await replica.apply([Fixture.entry(1, []), Fixture.entry(2, [])]) == [])
            #expect(try replica.applier.appliedState(of: GroupID(1)).index == LogIndex(2))
            #expect(try replica.applier.appliedState(of: GroupID(2)).index == .zero)
        }
    }

    @Test func aHeadIsReadFromTheStoreBeforeItsShardWasUsed() async throws {
        try await withLane { lane in
            let store = InMemoryStore()
            _ = try await Replica(store, lane: lane).apply(1, try Fixture.append(1...5, to: self.organization), at: 1)
            let restarted = try Replica(store, lane: lane)
            #expect(restarted.applier.knownHead(of: self.organization) == nil)
            #expect(try restarted.applier.head(of: self.organization).size == 5)
            #expect(try restarted.applier.head(of: OrganizationID(99)).size == 0)
        }
    }

    @Test func aBootstrapWithoutDataGroupsIsRefused() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let begin = Command.bootstrap(BootstrapCommand(clusterID: "c", dataGroups: 0, operatorToken: nil))
            #expect(try await replica.apply(1, begin, at: 1, group: .system) == .refused(.malformed))
            let create = CreateOrganizationCommand(key: try #require(OrganizationKey("a")), name: "a")
            let result = try await replica.apply(2, .createOrganization(create), at: 2, group: .system)
            #expect(result == .refused(.notBootstrapped))
        }
    }

    @Test func theDirectoryAnswersWhatWasApplied() async throws {
        try await withLane { lane in
            let replica = try Replica(InMemoryStore(), lane: lane)
            let hash = Digest(words: (1, 1, 1, 1))
            let begin = Command.bootstrap(BootstrapCommand(clusterID: "c", dataGroups: 2, operatorToken: hash))
            _ = try await replica.apply(1, begin, at: 1, group: .system)
            for (index, name) in ["b", "a"].enumerated() {
                let create = CreateOrganizationCommand(key: try #require(OrganizationKey(name)), name: name)
                _ = try await replica.apply(UInt64(index) + 2, .createOrganization(create), at: 2, group: .system)
            }
            let directory = replica.applier.directory
            #expect(directory.organizations.map(\.key.rawValue) == ["a", "b"])
            #expect(directory.organization(try #require(OrganizationKey("b")))?.id == OrganizationID(1))
            #expect(directory.organization(try #require(OrganizationKey("c"))) == nil)
            #expect(directory.token(hash: hash)?.grant.role == .operator)
            #expect(directory.token(hash: .zero) == nil)
            #expect(directory.tokens.map(\.id) == [SystemState.bootstrapTokenID])
            #expect(directory.current.dataGroups == 2)
        }
    }
}

extension FaultInjectingStore {
    /// What the node finds when it starts again after losing power with `count` unsynced batches on the disk.
    func crashedAndReopened(keepingUnsynced count: Int = 0) throws -> FaultInjectingStore {
        try self.crash(keepingUnsynced: count)
        return try self.reopened()
    }
}
