internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

@Suite("Snapshots of a group")
struct SnapshotTests {
    private let one = OrganizationID(1)
    private let two = OrganizationID(2)

    /// A leader with two organizations, answers to keys, and a membership.
    private func leader(records: Int = 40, faults: ApplierFaults = []) throws -> Machine {
        var leader = try Machine(faults: faults)
        try leader.join([1, 2, 3])
        for number in 1...records {
            try leader.apply([
                try Fixture.append(number...number + 1, to: self.one, key: "a\(number)"),
                try Fixture.append(number...number, to: self.two),
            ])
        }
        return leader
    }

    @Test func anEmptyReplicaBecomesEqual() throws {
        let leader = try self.leader()
        var follower = try Machine()
        let mark = try follower.install(from: leader)
        #expect(mark.index == leader.next.advancedBack)
        #expect(mark.membership.voters == [NodeID(1), NodeID(2), NodeID(3)])
        #expect(try follower.shared() == (try leader.shared()))
        let state = try follower.applier.appliedState(of: GroupID(1))
        #expect(state.isInstalled && state.index == mark.index && state.membership == mark.membership)
        #expect(follower.applier.durableApplied(of: GroupID(1)) == mark.index)
        for organization in [self.one, self.two] {
            #expect(try follower.verify(organization).isSound)
            #expect(try follower.applier.head(of: organization) == (try leader.applier.head(of: organization)))
        }
        #expect(try !follower.applier.isInstalling(GroupID(1)))
    }

    @Test func aReplicaThatHasAPartGetsOnlyTheRest() throws {
        var leader = try self.leader(records: 5)
        var follower = try Machine()
        try follower.install(from: leader)
        let whole = try leader.chunks(for: SnapshotRequest(group: GroupID(1), holdings: [])).reduce(0) { $0 + $1.count }
        try leader.apply([try Fixture.append(100...101, to: self.one, key: "late")])
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        #expect(installer.request.holdings.map(\.size) == [10, 5])
        let rest = try leader.chunks(for: installer.request)
        #expect(rest.reduce(0) { $0 + $1.count } < whole / 2)
        for chunk in rest { try installer.accept(chunk) }
        #expect(installer.progress.records == 2)
        #expect(installer.progress.recordsTotal == 2)
        _ = try installer.seal()
        try installer.switchState()
        #expect(try follower.shared() == (try leader.shared()))
    }

    @Test func aRepeatedKeyGetsTheFirstReceiptFromAReplicaThatTookASnapshot() throws {
        var leader = try self.leader()
        var follower = try Machine()
        try follower.install(from: leader)
        let again = try Fixture.append(7...8, to: self.one, key: "a7")
        let atLeader = try #require(try leader.apply([again]).first?.receipt)
        let atFollower = try #require(try follower.apply([again]).first?.receipt)
        #expect(atFollower.isReplay)
        #expect(atFollower == atLeader)
        let fresh = try Fixture.append(500...501, to: self.one, key: "new")
        #expect(try leader.apply([fresh]) == (try follower.apply([fresh])))
        #expect(try follower.shared() == (try leader.shared()))
    }

    @Test func theStateOfTheSystemGroupComesToo() throws {
        var leader = try Machine(group: .system)
        try leader.join([1])
        let origin = CommandOrigin(actor: "admin", kind: .apiKey, requestID: "r-1")
        let node = RegisterNodeCommand(node: NodeID(1), api: "a:1", peer: "p:1", region: "north", priority: 1)
        let begin = BootstrapCommand(
            clusterID: "c",
            dataGroups: 2,
            operatorToken: Digest(words: (1, 2, 3, 4)),
            nodes: [node]
        )
        let key = try #require(OrganizationKey("lab-1"))
        let results = try leader.apply(
            [.bootstrap(begin), .createOrganization(CreateOrganizationCommand(key: key, name: "Lab"))],
            origin: origin
        )
        #expect(results.allSatisfy { if case .refused = $0 { false } else { true } })
        var follower = try Machine(group: .system)
        try follower.install(from: leader)
        #expect(try follower.shared() == (try leader.shared()))
        #expect(follower.applier.directory.current == leader.applier.directory.current)
        #expect(follower.applier.directory.organization(key)?.name == "Lab")
        #expect(follower.applier.featureLevel(of: .system) == .current)
        #expect(try follower.applier.head(of: SystemState.ledgerID).size == 2)
    }

    @Test func aCutOffInstallationGoesOnWhereItEnded() throws {
        // Records of about a megabyte, so that there are several chunks.
        var leader = try self.leader(records: 3)
        for first in stride(from: 1_000, to: 7_000, by: 1_000) {
            try leader.apply([try Fixture.append(first...first + 999, to: self.one)])
        }
        let disk = InMemoryStore()
        let store = try FaultInjectingStore(disk)
        let follower = try Machine(store)
        let first = try follower.applier.snapshotInstaller(of: GroupID(1))
        let chunks = try leader.chunks(for: first.request)
        #expect(chunks.count >= 6)
        let cut = chunks.count / 2
        for chunk in chunks[..<cut] { try first.accept(chunk) }
        try follower.applier.flush()
        #expect(try follower.applier.isInstalling(GroupID(1)))
        #expect(try follower.applier.head(of: self.one).size == 0)
        let staged = first.progress.records
        // Power is lost: what was flushed is there.
        try store.crash(CrashOutcome())
        var restarted = try Machine(try store.reopened())
        #expect(try restarted.applier.appliedState(of: GroupID(1)).index == .zero)
        let second = try restarted.applier.snapshotInstaller(of: GroupID(1))
        #expect(second.request.holdings.reduce(0) { $0 + $1.size } == staged)
        // The leader has gone on meanwhile.
        try leader.apply([try Fixture.append(9_000...9_001, to: self.two, key: "z")])
        for chunk in try leader.chunks(for: second.request) { try second.accept(chunk) }
        _ = try second.seal()
        try second.switchState()
        restarted.next = leader.next
        #expect(try restarted.shared() == (try leader.shared()))
        #expect(try restarted.verify(self.one).isSound)
    }

    @Test func aCrashBeforeTheSwitchLeavesTheOldState() throws {
        let leader = try self.leader(records: 10)
        let store = try FaultInjectingStore(InMemoryStore())
        var follower = try Machine(store)
        try follower.apply([try Fixture.append(1...2, to: self.one, key: "a1")])
        try follower.applier.flush()
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        // The follower's first record carries another time than the leader's, so this is no part of the same history.
        #expect(
            SnapshotError.Code.thrown {
                for chunk in try leader.chunks(for: installer.request) {
                    try installer.accept(chunk)
                }
            } == .fork
        )
        try store.crash(CrashOutcome())
        let restarted = try Machine(try store.reopened())
        #expect(try restarted.applier.head(of: self.one).size == 2)
        #expect(try restarted.verify(self.one).isSound)
    }

    @Test(arguments: 0..<40)
    func aFailedWriteOrFlushLeavesTheOldStateOrTheNew(number: Int) throws {
        let leader = try self.leader(records: 10)
        let store = try FaultInjectingStore(InMemoryStore())
        let follower = try Machine(store)
        store.arm(StoreFault(number % 2 == 0 ? .write : .flush, number: number / 2 + 1))
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        var isDone = false
        do {
            for chunk in try leader.chunks(for: installer.request) { try installer.accept(chunk) }
            _ = try installer.seal()
            try installer.switchState()
            isDone = true
        } catch {
            #expect((error as? SnapshotError)?.code == .storage)
        }
        try store.crash(CrashOutcome())
        var restarted = try Machine(try store.reopened())
        let applied = try restarted.applier.appliedState(of: GroupID(1))
        #expect(applied.index == (isDone ? leader.next.advancedBack : .zero), "whole or not at all")
        if !isDone { try restarted.install(from: leader) }
        #expect(try restarted.shared() == (try leader.shared()))
    }

    @Test func stagedRecordsDoNotDisturbAReplicaThatCatchesUpByTheLog() throws {
        var log: [CommittedEntry] = []
        for index in UInt64(1)...20 {
            let command = try Fixture.append(Int(index)...Int(index) + 1, to: self.one, key: "k\(index)")
            log.append(Fixture.entry(index, [try Fixture.bytes(command, at: Int64(index))]))
        }
        var leader = try Machine()
        for entry in log.prefix(15) { _ = try leader.apply(entry: entry) }
        try leader.join([1])
        var follower = try Machine()
        for entry in log.prefix(5) { _ = try follower.apply(entry: entry) }
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        for chunk in try leader.chunks(for: installer.request).dropLast() { try installer.accept(chunk) }
        #expect(try follower.applier.isInstalling(GroupID(1)))
        // The installation is given up; the log brings the same.
        var other = try Machine()
        for entry in log {
            let expected = try other.apply(entry: entry)
            let found = try #require(expected.first?.receipt)
            #expect(!found.isReplay)
            if entry.index > LogIndex(5) { #expect(try follower.apply(entry: entry) == expected) }
        }
        #expect(try !follower.applier.isInstalling(GroupID(1)))
        #expect(try follower.shared() == (try other.shared()))
        #expect(try follower.verify(self.one).isSound)
    }

    @Test func entriesThatASnapshotBroughtAreSkipped() throws {
        let leader = try self.leader(records: 5)
        var follower = try Machine()
        try follower.install(from: leader)
        let before = try follower.shared()
        let command = try Fixture.append(1...2, to: self.one)
        let late = Fixture.entry(3, [try Fixture.bytes(command, at: 5)])
        #expect(try follower.apply(entry: late) == [.unknown])
        #expect(try follower.shared() == before)
        #expect(throws: ShardError.self) {
            try follower.apply(entry: Fixture.entry(follower.next.rawValue + 5, []))
        }
    }

    @Test func aDiscardedGroupLeavesNothing() throws {
        var leader = try self.leader(records: 5)
        try leader.applier.discard(GroupID(1))
        #expect(try contents(of: leader.store).isEmpty)
        #expect(try leader.applier.appliedState(of: GroupID(1)) == AppliedState())
        leader.next = LogIndex(1)
        #expect(try leader.apply([try Fixture.append(1...1, to: self.one)]).first?.receipt?.firstSequence.rawValue == 1)
    }

    @Test func discardingOneGroupLeavesTheOthers() throws {
        let store = InMemoryStore()
        var one = try Machine(store)
        try one.apply([try Fixture.append(1...3, to: self.one)])
        var two = try Machine(store, group: GroupID(2))
        try two.apply([try Fixture.append(1...3, to: self.two)])
        try two.applier.discard(GroupID(1))
        #expect(try two.verify(self.two).size == 3)
        #expect(try two.applier.head(of: self.two).size == 3)
        #expect(try two.applier.organizations(of: GroupID(1)).isEmpty)
    }
}

extension LogIndex {
    /// The index before.
    var advancedBack: LogIndex { LogIndex(self.rawValue - 1) }
}
