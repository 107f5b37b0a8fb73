internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

/// A log of entries as clients, their retries and broken nodes would fill it.
private struct RandomLog {
    static let organizations = [OrganizationID(1), OrganizationID(2), OrganizationID(3)]
    private var generator: SeededGenerator
    private var number = 0
    private var stamp: Int64 = 1_000
    private var earlier: [Command] = []

    init(seed: UInt64) { self.generator = SeededGenerator(seed: seed) }

    mutating func entries(_ count: Int) throws -> [CommittedEntry] {
        try (1...UInt64(count)).map { index in
            let commands = try (0..<Int.random(in: 0...4, using: &self.generator)).map { _ in try self.command() }
            return Fixture.entry(index, commands)
        }
    }

    /// Cuts `entries` into batches of random size.
    mutating func batches(_ entries: [CommittedEntry], sizeMax: Int) -> [[CommittedEntry]] {
        var batches: [[CommittedEntry]] = []
        var rest = entries[...]
        while !rest.isEmpty {
            let size = min(rest.count, Int.random(in: 1...sizeMax, using: &self.generator))
            batches.append(Array(rest.prefix(size)))
            rest = rest.dropFirst(size)
        }
        return batches
    }

    private mutating func command() throws -> ArraySlice<UInt8> {
        // The leader's clock mostly goes on, and sometimes back.
        self.stamp += Int64.random(in: -40...100, using: &self.generator)
        let command: Command
        switch Int.random(in: 0..<10, using: &self.generator) {
        case 0:
            // A known version and kind with a body that has no meaning.
            let body = (0..<Int.random(in: 0...40, using: &self.generator)).map { _ in self.byte() }
            return ArraySlice([1, UInt8.random(in: 1...5, using: &self.generator)] + body)
        case 1: command = .revokeToken(RevokeTokenCommand(id: "t"))
        case 2, 3:
            command = self.earlier.randomElement(using: &self.generator) ?? .revokeToken(RevokeTokenCommand(id: "u"))
        default: command = try self.fresh()
        }
        return try Fixture.bytes(command, at: self.stamp)
    }

    private mutating func byte() -> UInt8 { UInt8.random(in: 0...255, using: &self.generator) }

    private mutating func fresh() throws -> Command {
        let organization = Self.organizations.randomElement(using: &self.generator) ?? OrganizationID(1)
        let first = self.number
        self.number += Int.random(in: 1...5, using: &self.generator)
        // Few keys, so that some are used again for something else.
        let key = Bool.random(using: &self.generator) ? "k\(Int.random(in: 0..<12, using: &self.generator))" : nil
        let command = try Fixture.append(first...self.number - 1, to: organization, key: key)
        if key != nil { self.earlier.append(command) }
        return command
    }
}

@Suite("Replicas fed the same log", .timeLimit(.minutes(10)))
struct ReplicaConvergenceTests {
    private func run(_ batches: [[CommittedEntry]], on replica: Replica) async throws -> [CommandResult] {
        var results: [CommandResult] = []
        for batch in batches { results += try await replica.apply(batch) }
        return results
    }

    private func requireSound(_ replica: Replica, _ seed: UInt64) throws {
        for organization in RandomLog.organizations {
            let verification = try replica.verify(organization)
            #expect(verification.isSound, "seed \(seed): \(String(describing: verification.finding))")
            let head = try replica.applier.head(of: organization)
            #expect(verification.size == head.size, "seed \(seed)")
            #expect(verification.root == head.root, "seed \(seed)")
        }
    }

    @Test(arguments: Array(UInt64(1)...12))
    func endWithTheSameBytesHoweverTheLogIsCut(seed: UInt64) async throws {
        try await withLane { lane in
            var log = RandomLog(seed: seed)
            let entries = try log.entries(40)
            let one = try Replica(InMemoryStore(), lane: lane)
            let other = try Replica(InMemoryStore(), lane: lane)
            let first = try await self.run(entries.map { [$0] }, on: one)
            let second = try await self.run(log.batches(entries, sizeMax: 15), on: other)
            #expect(first == second, "seed \(seed)")
            #expect(first.count == entries.reduce(0) { $0 + $1.commands.count }, "seed \(seed)")
            #expect(try contents(of: one.store) == contents(of: other.store), "seed \(seed)")
            try self.requireSound(one, seed)
            // The log was worth the run: it has replays, refusals and records.
            #expect(first.contains { $0.receipt?.isReplay == true }, "seed \(seed)")
            #expect(first.contains(.refused(.malformed)) || first.contains(.refused(.wrongGroup)), "seed \(seed)")
        }
    }

    /// What the comparison is for: a node whose applied index is not that of its effects after a restart.
    @Test(arguments: [UInt64(1), 2, 3])
    func differWhenEntriesAreAppliedTwice(seed: UInt64) async throws {
        try await withLane { lane in
            var log = RandomLog(seed: seed)
            let entries = try log.entries(21)
            let good = try Replica(InMemoryStore(), lane: lane)
            _ = try await self.run([entries], on: good)
            let store = InMemoryStore()
            let broken = try Replica(store, lane: lane, faults: .appliedIndexLost)
            _ = try await self.run([Array(entries.prefix(10)), Array(entries.suffix(11))], on: broken)
            let restarted = try Replica(store, lane: lane)
            #expect(try restarted.applier.appliedState(of: GroupID(1)).index == LogIndex(10))
            _ = try await self.run([Array(entries.suffix(11))], on: restarted)
            #expect(try contents(of: store) != contents(of: good.store), "seed \(seed)")
        }
    }

    @Test func differWhenOneByteOfOneValueDiffers() async throws {
        try await withLane { lane in
            var log = RandomLog(seed: 5)
            let entries = try log.entries(10)
            let replica = try Replica(InMemoryStore(), lane: lane)
            _ = try await self.run([entries], on: replica)
            let good = try contents(of: replica.store)
            let row = try #require(good.last { $0.family == .records })
            var value = row.value
            value[value.count / 2] ^= 1
            var batch = WriteBatch()
            batch.put(row.family, key: row.key, value: value)
            try replica.store.write(batch)
            #expect(try contents(of: replica.store) != good)
            let findings = try RandomLog.organizations.compactMap { try replica.verify($0).finding }
            #expect(findings.map(\.kind) == [.modified])
        }
    }

    /// Fails the n-th write for n = 1, 2, … and restarts the node each time, until a run meets no failure.
    @Test(arguments: [0, 1, Int.max], [false, true])
    func endWithTheSameBytesWhateverWriteFails(survivors: Int, hasEffect: Bool) async throws {
        try await withLane { lane in
            var log = RandomLog(seed: 77)
            let entries = try log.entries(24)
            let reference = try Replica(InMemoryStore(), lane: lane)
            let batches = log.batches(entries, sizeMax: 4)
            _ = try await self.run(batches, on: reference)
            let expected = try contents(of: reference.store)
            var number = 1
            while true {
                let store = try FaultInjectingStore(InMemoryStore())
                store.arm(StoreFault(.write, number: number, hasEffect: hasEffect))
                let end = try await self.restartUntilDone(entries, batches, store, lane, survivors: survivors)
                #expect(try contents(of: end.store) == expected, "write \(number) failed")
                try self.requireSound(end, UInt64(number))
                if end.store as? FaultInjectingStore === store { break }
                number += 1
                try #require(number <= batches.count + 1, "the sweep ends with the first run that meets no failure")
            }
            #expect(number == batches.count + 1, "every write was made to fail once")
        }
    }

    /// Applies all entries as a node does: from the applied index on, restarted after each failure.
    private func restartUntilDone(
        _ entries: [CommittedEntry],
        _ batches: [[CommittedEntry]],
        _ first: FaultInjectingStore,
        _ lane: SerialThread,
        survivors: Int
    ) async throws -> Replica {
        var store = first
        while true {
            let replica = try Replica(store, lane: lane)
            let applied = try replica.applier.appliedState(of: GroupID(1)).index
            do {
                for batch in batches {
                    let rest = batch.filter { $0.index > applied }
                    if !rest.isEmpty { try await replica.apply(rest) }
                }
                return replica
            } catch is StorageError {
                store = try store.crashedAndReopened(keepingUnsynced: survivors)
            }
        }
    }

    @Test func systemGroupsConvergeToo() async throws {
        try await withLane { lane in
            var entries: [CommittedEntry] = []
            func add(_ command: Command, at stamp: Int64) throws {
                entries.append(Fixture.entry(UInt64(entries.count) + 1, [try Fixture.bytes(command, at: stamp)]))
            }
            try add(.bootstrap(BootstrapCommand(clusterID: "c", dataGroups: 3, operatorToken: .zero)), at: 10)
            for number in 0..<9 {
                let key = try #require(OrganizationKey("lab-\(number % 6)"))
                try add(.createOrganization(CreateOrganizationCommand(key: key, name: "n")), at: Int64(20 - number))
                let grant = Grant(role: .reader, organizations: [key])
                let hash = Digest(words: (9, 9, 9, UInt64(number % 4)))
                try add(.createToken(CreateTokenCommand(id: "t\(number)", hash: hash, name: "", grant: grant)), at: 30)
                try add(.revokeToken(RevokeTokenCommand(id: "t\(number / 2)")), at: 31)
            }
            let one = try Replica(InMemoryStore(), lane: lane)
            let other = try Replica(InMemoryStore(), lane: lane)
            var results: [CommandResult] = []
            for entry in entries { results += try await one.apply([entry], group: .system) }
            #expect(try await other.apply(entries, group: .system) == results)
            #expect(try contents(of: one.store) == contents(of: other.store))
            #expect(try SystemState(reading: one.store) == one.applier.directory.current)
            #expect(results.contains(.refused(.organizationExists)) && results.contains(.refused(.tokenExists)))
        }
    }
}
