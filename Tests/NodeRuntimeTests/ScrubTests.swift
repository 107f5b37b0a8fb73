import AuditLedger
import Laboratory
import Logging
import Primitives
import Shards
import Storage
import Synchronization
import Testing

@testable import NodeRuntime

/// Re-reading in the background: what is due is read, damage is told once, a restart goes on.
struct ScrubTests {
    static let entry = OrganizationEntry(
        id: OrganizationID(7),
        key: OrganizationKey("lab-a")!,
        name: "Lab A",
        group: GroupID(1),
        createdAt: Timestamp(microseconds: 0)
    )

    /// A ledger in memory, and what the scrubber told of it.
    final class Fixture: Sendable {
        struct Told {
            var found: [LedgerFinding] = []
            var sound: [DamageReporter.Attestation] = []
            var bytesRead = 0
            var now = Timestamp(microseconds: 1_000_000)
            var isSettled = true
            /// What is judged in the next round.
            var late: [(LedgerFinding, OrganizationEntry)] = []
        }

        let store = InMemoryStore()
        let told = Mutex(Told())
        let threads: StoreThreads
        private let appender = Mutex(LedgerAppender(head: LedgerHead(empty: ScrubTests.entry.id)))

        init() throws { self.threads = try StoreThreads(name: "scrub-test", count: 1, queuedMax: 8) }

        /// Another history of this size, sound in itself.
        func rewrite(_ size: Int) throws {
            var batch = WriteBatch()
            let prefix = LedgerKeys.head(ScrubTests.entry.id)
            for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
                batch.deleteRange(family, lower: prefix, upper: try #require(keyAfter(prefix: prefix)))
            }
            try self.store.write(batch)
            self.appender.withLock { $0 = LedgerAppender(head: LedgerHead(empty: ScrubTests.entry.id)) }
            try self.append(size, text: "other")
        }

        func append(_ count: Int, text: String = "b") throws {
            let context = EventContext(
                organization: ScrubTests.entry.key,
                request: RequestInfo(id: "r", channel: .api),
                defaultActor: Actor(kind: .apiKey, id: "k")
            )
            let draft = try EventDraft.parse(
                Array(#"{"action":"update","entity_type":"batch","entity_id":"\#(text)"}"#.utf8),
                defaults: context
            )
            try self.appender.withLock { appender in
                var batch = WriteBatch()
                for _ in 0..<count {
                    _ = appender.append(draft, stampedAt: Timestamp(microseconds: 10), into: &batch)
                }
                appender.finish(into: &batch)
                try self.store.write(batch)
            }
        }

        func damage(_ sequence: UInt64) throws {
            let key = LedgerKeys.record(ScrubTests.entry.id, SequenceNumber(sequence))
            var bytes = try #require(try self.store.get(key, in: .records))
            bytes[12] ^= 1
            var batch = WriteBatch()
            batch.put(.records, key: key, value: bytes)
            try self.store.write(batch)
        }

        func scrubber(_ register: DamageRegister) -> Scrubber {
            Scrubber(
                store: self.store,
                threads: self.threads,
                ports: Scrubber.Ports(
                    organizations: { [ScrubTests.entry] },
                    late: {
                        self.told.withLock { told in
                            defer { told.late = [] }
                            return told.late
                        }
                    },
                    isSettled: { _ in self.told.withLock { $0.isSettled } },
                    isDamaged: { register.contains($0) },
                    found: { finding, _, _ in
                        self.told.withLock { $0.found.append(finding) }
                        _ = try? register.mark(ScrubTests.entry.id, finding)
                    },
                    announce: { finding, _ in self.told.withLock { $0.found.append(finding) } },
                    sound: { _, attestation in self.told.withLock { $0.sound.append(attestation) } },
                    read: { bytes in self.told.withLock { $0.bytesRead += bytes } },
                    now: { self.told.withLock { $0.now } }
                ),
                rate: TokenBucket(bytesPerSecond: 1e12, now: NodeClock.monotonic.now),
                interval: .seconds(100),
                clock: NodeClock.monotonic,
                startFindings: [],
                logger: Logger(label: "test")
            )
        }

        /// One round, then what was told of it.
        func round(_ register: DamageRegister) async throws -> Told {
            self.told.withLock {
                $0.found = []
                $0.sound = []
                $0.bytesRead = 0
            }
            await self.scrubber(register).round()
            return self.told.withLock { $0 }
        }
    }

    @Test(.timeLimit(.minutes(10))) func readsWhatIsNewAndEverythingOnceAnInterval() async throws {
        let fixture = try Fixture()
        defer { fixture.threads.shutdown() }
        let register = try DamageRegister(store: fixture.store)
        #expect(try await fixture.round(register).bytesRead == 0, "an empty ledger")
        try fixture.append(300)
        let first = try await fixture.round(register)
        #expect(first.bytesRead > 300 * 300)
        #expect(first.sound.map(\.size) == [300])
        #expect(first.found.isEmpty)
        let idle = try await fixture.round(register)
        #expect(idle.bytesRead == 0 && idle.sound.isEmpty, "nothing has changed")
        try fixture.append(30)
        let more = try await fixture.round(register)
        #expect(more.bytesRead * 9 < first.bytesRead && more.bytesRead > 0, "only what is new")
        #expect(more.sound.isEmpty, "not from end to end")
        fixture.told.withLock { $0.now = Timestamp(microseconds: 102_000_000) }
        let again = try await fixture.round(register)
        #expect(again.bytesRead > first.bytesRead)
        #expect(again.sound.map(\.size) == [330])
        fixture.told.withLock { $0.now = Timestamp(microseconds: 203_000_000) }
        let unchanged = try await fixture.round(register)
        #expect(unchanged.bytesRead == again.bytesRead, "everything is read again")
        #expect(unchanged.sound.isEmpty, "and nobody is told the same twice")
    }

    @Test(.timeLimit(.minutes(10))) func damageIsToldOnceAndKept() async throws {
        let fixture = try Fixture()
        defer { fixture.threads.shutdown() }
        try fixture.append(50)
        let register = try DamageRegister(store: fixture.store)
        #expect(try await fixture.round(register).found.isEmpty)
        try fixture.damage(20)
        fixture.told.withLock { $0.now = Timestamp(microseconds: 102_000_000) }
        let found = try await fixture.round(register).found
        #expect(found.map(\.place) == ["records/20"])
        #expect(register.contains(Self.entry.id))
        #expect(try await fixture.round(register).found.isEmpty, "a damaged one rests until it is repaired")
        // After a restart.
        let restarted = try DamageRegister(store: fixture.store)
        #expect(restarted.finding(of: Self.entry.id) == found[0])
        #expect(!restarted.contains(OrganizationID(8)))
        try fixture.damage(20)
        try restarted.clear(Self.entry.id)
        #expect(!restarted.contains(Self.entry.id))
        #expect(try DamageRegister(store: fixture.store).all.isEmpty)
        let after = try await fixture.round(restarted)
        #expect(after.found.isEmpty && after.bytesRead > 0, "it begins with the first record")
    }

    @Test(.timeLimit(.minutes(10))) func aHistoryThatIsNotTheOneReadBeforeIsNoticedAtOnce() async throws {
        for (size, kind) in [(30, LedgerFinding.Kind.truncated), (50, .fork), (60, .fork)] {
            let fixture = try Fixture()
            defer { fixture.threads.shutdown() }
            try fixture.append(50)
            let register = try DamageRegister(store: fixture.store)
            #expect(try await fixture.round(register).sound.map(\.size) == [50])
            try fixture.rewrite(size)
            #expect(try LedgerReader(store: fixture.store, organization: Self.entry.id).quickFinding() == nil)
            #expect(try await fixture.round(register).found.map(\.kind) == [kind], "\(size)")
        }
    }

    @Test(.timeLimit(.minutes(10))) func restsWhileASnapshotIsTaken() async throws {
        let fixture = try Fixture()
        defer { fixture.threads.shutdown() }
        try fixture.append(20)
        fixture.told.withLock { $0.isSettled = false }
        #expect(try await fixture.round(try DamageRegister(store: fixture.store)).bytesRead == 0)
    }

    @Test func restsLongerBetweenRoundsOverMany() {
        #expect(Scrubber.pause(after: 0) == .seconds(30))
        #expect(Scrubber.pause(after: 1_500) == .seconds(30))
        #expect(Scrubber.pause(after: 10_000) == .seconds(200))
    }

    @Test(.timeLimit(.minutes(10))) func tellsOfWhatWasJudgedLate() async throws {
        let fixture = try Fixture()
        defer { fixture.threads.shutdown() }
        try fixture.append(5)
        let register = try DamageRegister(store: fixture.store)
        let finding = LedgerFinding(sequence: SequenceNumber(6), kind: .truncated, detail: "test")
        fixture.told.withLock { $0.late = [(finding, Self.entry)] }
        #expect(try await fixture.round(register).found == [finding])
        #expect(register.contains(Self.entry.id))
        #expect(try await fixture.round(register).found.isEmpty)
    }

    @Test func rowsComeBackAsTheyWere() throws {
        var row = ScrubRow()
        #expect(try ScrubRow(row.encoded(), of: Self.entry.id) == row)
        row.head = LedgerHead(empty: Self.entry.id)
        row.begunAt = Timestamp(microseconds: 5)
        row.throughAt = Timestamp(microseconds: 6)
        row.bytesRead = 77
        row.recordedSize = 3
        row.finding = LedgerFinding(sequence: SequenceNumber(3), kind: .fork, detail: "d", place: "checkpoints/3")
        let bytes = row.encoded()
        #expect(try ScrubRow(bytes, of: Self.entry.id) == row)
        #expect(throws: MalformedBytes.self) { try ScrubRow(bytes, of: OrganizationID(8)) }
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try ScrubRow(Array(bytes.prefix(count)), of: Self.entry.id) }
        }
    }

    @Test func aRowThatCannotBeReadIsForgotten() throws {
        let store = InMemoryStore()
        var batch = WriteBatch()
        batch.put(.scrubState, key: ScrubRow.key(Self.entry.id), value: [9, 9])
        try store.write(batch)
        #expect(try ScrubRow.read(Self.entry.id, from: store) == ScrubRow())
        #expect(try DamageRegister(store: store).all.isEmpty)
    }
}
