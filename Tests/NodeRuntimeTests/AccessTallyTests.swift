internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("Refusals and readings, counted")
struct AccessTallyTests {
    /// A tally, and a clock of its own.
    private final class Bench {
        var tally = AccessTally(system: SystemState.ledgerKey)
        var seconds = 0

        var uptime: Duration { .seconds(self.seconds) }
        var time: Timestamp { Timestamp(microseconds: Int64(self.seconds) * 1_000_000) }

        func note(_ act: AccessAct, times: Int = 1) -> Bool {
            (0..<times).map { _ in
                self.tally.note(act, at: self.time, by: RequestInfo(id: "r-\(self.seconds)"), uptime: self.uptime)
            }.contains(true)
        }

        func takeAll() -> [AccessEntry] { self.tally.takeAll() }

        func take(limit: Int = 10_000) -> [AccessEntry] { self.tally.take(limit: limit, uptime: self.uptime) }
    }

    @Test func whatIsPendingComesBackFromDiskAsItWas() throws {
        let bench = Bench()
        let journal = AccessJournal(store: CheckedStore(InMemoryStore()))
        #expect(journal.load().isEmpty)
        let long = String(repeating: "é", count: 400)
        let request = RequestInfo(id: "r", ip: "127.0.0.1", userAgent: long, authentication: "bearer")
        let acts = [
            try self.act(), try self.act(.reading, "tiles"), try self.act(.restricted, of: "lab-b", "read_records"),
            AccessAct(
                kind: .unknownCaller,
                actor: Actor(kind: .system, id: "unknown"),
                ledger: SystemState.ledgerKey,
                entity: .cluster,
                subject: "bearer"
            ),
            AccessAct(
                kind: .denied,
                actor: Actor(kind: .apiKey, id: "t", name: "n", role: "writer", onBehalfOf: "o"),
                ledger: SystemState.ledgerKey,
                entity: .unknownOrganization,
                subject: AccessAct.various
            ),
        ]
        for (place, act) in acts.enumerated() {
            bench.seconds = place
            _ = bench.tally.note(act, at: bench.time, by: request, uptime: bench.uptime)
            bench.seconds += 1
            _ = bench.note(act)
        }
        let pending = bench.tally.pending
        #expect(pending.count == acts.count)
        try journal.save(pending)
        let loaded = journal.load()
        #expect(loaded == pending, "nothing that identifies an act is cut")
        var next = Bench().tally
        for entry in loaded { next.putBack(entry, uptime: .zero) }
        #expect(next.pending == loaded)
        #expect(next.take(limit: 10, uptime: AccessTally.windowMin) == loaded)
        try journal.save([])
        #expect(journal.load().isEmpty)
        var bytes = AccessJournal.encode(pending)
        for count in 0..<bytes.count where (try? AccessJournal.decode(Array(bytes.prefix(count)))) != nil {
            Issue.record("\(count) of \(bytes.count) bytes are taken as whole")
        }
        bytes[0] = 9
        #expect(throws: MalformedBytes.self) { try AccessJournal.decode(bytes) }
    }

    private func act(
        _ kind: AccessAct.Kind = .denied,
        actor: String = "t-1",
        of key: String = "lab-a",
        _ subject: String = "append_records"
    ) throws -> AccessAct {
        AccessAct(
            kind: kind,
            actor: Actor(kind: .apiKey, id: actor),
            ledger: try Fixture.key(key),
            entity: .organization(try Fixture.key(key)),
            subject: subject
        )
    }

    @Test func theFirstIsDueAtOnceAndTheFollowingAreOneEntryWhenTheWindowCloses() throws {
        let bench = Bench()
        let act = try self.act()
        #expect(bench.note(act))
        #expect(bench.take().map(\.count) == [1])
        bench.seconds = 10
        #expect(!bench.note(act, times: 400))
        bench.seconds = 59
        #expect(!bench.note(act, times: 100))
        #expect(bench.take().isEmpty, "the window is still open")
        #expect(bench.tally.nextDue == .seconds(60))
        bench.seconds = 60
        let entry = try #require(bench.take().first)
        #expect(entry.count == 500)
        #expect(entry.firstAt == Timestamp(microseconds: 10_000_000))
        #expect(entry.lastAt == Timestamp(microseconds: 59_000_000))
        #expect(entry.request.id == "r-59")
        #expect(bench.tally.counts == .init(noted: 501, folded: 499, overflowed: 0))
    }

    @Test func aFloodThatGoesOnGivesEverFewerEntriesAndNoneIsLost() throws {
        let bench = Bench()
        let act = try self.act()
        var written: [(second: Int, count: UInt64)] = []
        for second in 0..<86_400 {
            bench.seconds = second
            _ = bench.note(act, times: 2)
            for entry in bench.take() { written.append((second, entry.count)) }
        }
        #expect(written.count < 32, "\(written)")
        let left = bench.takeAll().reduce(0) { $0 + $1.count }
        #expect(written.reduce(0) { $0 + $1.count } + left == 2 * 86_400)
    }

    @Test func afterAQuietWindowTheNextIsDueAtOnceAgain() throws {
        let bench = Bench()
        let act = try self.act()
        _ = bench.note(act)
        _ = bench.take()
        bench.seconds = 61
        #expect(bench.take().isEmpty)
        #expect(bench.tally.rowCount == 0)
        #expect(bench.note(act))
        #expect(bench.take().map(\.count) == [1])
    }

    @Test func readingsWaitForTheirWindow() throws {
        let bench = Bench()
        let act = try self.act(.reading, "records")
        #expect(!bench.note(act, times: 3))
        #expect(bench.take().isEmpty)
        bench.seconds = 60
        #expect(bench.take().map(\.count) == [3])
    }

    @Test func callersOrganizationsAndOperationsAreToldApart() throws {
        let bench = Bench()
        let acts = [
            try self.act(), try self.act(actor: "t-2"), try self.act(of: "lab-b"),
            try self.act(.denied, "verify_ledger"),
            try self.act(.restricted),
        ]
        for (place, act) in acts.enumerated() {
            bench.seconds = place
            #expect(bench.note(act))
        }
        #expect(bench.take(limit: 2).map(\.act) == Array(acts[..<2]), "oldest first, as many as are wanted")
        #expect(bench.take().map(\.act) == Array(acts[2...]))
    }

    @Test func oneCallerWhoTriesEverythingTakesOnlyItsShareOfTheRows() throws {
        let bench = Bench()
        for number in 0..<100_000 { _ = bench.note(try self.act(of: "lab-\(number % 5000)")) }
        #expect(bench.tally.rowCount == AccessTally.rowsPerActorMax + 1)
        #expect(bench.note(try self.act(actor: "t-2")), "another caller still has rows of its own")
        let entries = bench.take()
        let rest = try #require(entries.first { $0.act.subject == AccessAct.various })
        #expect(rest.act.actor.id == "t-1" && rest.act.ledger == SystemState.ledgerKey)
        #expect(entries.reduce(0) { $0 + $1.count } == 100_001)
        #expect(bench.tally.counts.overflowed == rest.count)
    }

    @Test func countlessCallersShareTheLastRow() throws {
        let bench = Bench()
        let callers = AccessTally.rowsMax * 3
        for caller in 0..<callers {
            for kind in AccessAct.Kind.allCases { _ = bench.note(try self.act(kind, actor: "t-\(caller)")) }
        }
        #expect(bench.tally.rowCount <= AccessTally.rowsMax + AccessAct.Kind.allCases.count)
        bench.seconds = 60
        let entries = bench.take()
        #expect(entries.reduce(0) { $0 + $1.count } == UInt64(callers * AccessAct.Kind.allCases.count))
        #expect(entries.contains { $0.act.actor.id == AccessAct.various && $0.act.kind == .denied })
        bench.seconds = 10_000
        #expect(bench.take().isEmpty && bench.tally.rowCount == 0, "all rows are given back")
    }

    @Test func whatCouldNotBeWrittenComesAgainWithWhatHasComeSince() throws {
        let bench = Bench()
        let act = try self.act()
        _ = bench.note(act)
        let first = try #require(bench.take().first)
        bench.seconds = 5
        _ = bench.note(act, times: 4)
        bench.tally.putBack(first, uptime: bench.uptime)
        #expect(bench.take().isEmpty, "not at once: the cluster has no leader perhaps")
        bench.seconds = 60
        let again = try #require(bench.take().first)
        #expect(again.count == 5 && again.firstAt == first.firstAt && again.lastAt.rawValue == 5_000_000)
        #expect(bench.tally.counts.noted == 5, "what comes back is not counted twice")
    }

    @Test func stoppingTakesEverythingDueOrNot() throws {
        let bench = Bench()
        _ = bench.note(try self.act())
        _ = bench.take()
        _ = bench.note(try self.act(), times: 3)
        _ = bench.note(try self.act(.reading, "records"), times: 2)
        #expect(bench.takeAll().map(\.count).sorted() == [2, 3])
        #expect(bench.takeAll().isEmpty && bench.tally.rowCount == 0)
    }

    // MARK: What a refusal counts as

    private func token(_ role: Role) throws -> TokenEntry {
        TokenEntry(
            id: "t-9",
            hash: .zero,
            name: "scanner of lab-a",
            grant: Grant(role: role, organizations: [try Fixture.key("lab-a")]),
            createdAt: Timestamp(microseconds: 0)
        )
    }

    private func refusal(_ role: Role, _ operation: AccessOperation, _ key: String?) throws -> AccessRefusal {
        let call = Fixture.call(token: try self.token(role))
        do {
            try call.allow(operation, in: key.map { try Fixture.key($0) })
        } catch let problem as Problem {
            return try #require(problem.refusal)
        }
        Issue.record("not refused")
        throw CancellationError()
    }

    @Test func aRefusalIsOfTheLedgerThatItConcerns() throws {
        func act(_ operation: AccessOperation, _ key: String?) throws -> AccessAct {
            AccessRecorder.act(try self.refusal(.reader, operation, key), by: try self.token(.reader)) {
                $0.rawValue != "nowhere"
            }
        }
        let denied = try act(.appendRecords, "lab-a")
        #expect(denied.kind == .denied && denied.ledger.rawValue == "lab-a" && denied.subject == "append_records")
        #expect(denied.actor.name == "scanner of lab-a" && denied.actor.role == "reader")
        let hidden = try act(.readRecords, "lab-b")
        #expect(hidden.kind == .restricted && hidden.ledger.rawValue == "lab-b")
        #expect(hidden.actor.id == "t-9" && hidden.actor.name == nil, "another laboratory's names are its own")
        let nowhere = try act(.readRecords, "nowhere")
        #expect(nowhere.ledger == SystemState.ledgerKey && nowhere.entity == .unknownOrganization)
        let cluster = try act(.manageCluster, nil)
        #expect(cluster.kind == .denied && cluster.ledger == SystemState.ledgerKey && cluster.entity == .cluster)
    }

    /// Keys are people's choice: one may read as what this node calls its own things.
    @Test(arguments: ["cluster", "unknown", "various"]) func anOrganizationIsItselfWhateverItsKey(key: String) throws {
        let refusal = try self.refusal(.reader, .readRecords, key)
        let act = AccessRecorder.act(refusal, by: try self.token(.reader)) { _ in true }
        let entry = AccessEntry(act, at: Timestamp(microseconds: 1), by: RequestInfo(id: "r-1"))
        let event = AccessRecord.event(entry, node: NodeID(3), cluster: "c")
        let text = String(decoding: event, as: UTF8.self)
        #expect(text.contains("\"entity_id\":\"\(key)\",\"entity_type\":\"organization\""), "\(text)")
    }

    @Test func everyEntryIsARecordThatTheLedgerTakes() throws {
        for kind in AccessAct.Kind.allCases {
            var entry = AccessEntry(
                try self.act(kind),
                at: Timestamp(microseconds: 1_000_000),
                by: RequestInfo(id: "r-1")
            )
            for count in 1...2 {
                let event = AccessRecord.event(entry, node: NodeID(3), cluster: "c")
                let draft = try Fixture.draft(String(decoding: event, as: UTF8.self))
                var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(1)))
                var batch = WriteBatch()
                let stored = appender.append(draft, stampedAt: Timestamp(microseconds: 5), into: &batch)
                let record = try LedgerRecord(stored.bytes)
                #expect(record.action == kind.rawValue && ActionVocabulary.term(record.action) != nil)
                #expect(record.outcome == (kind == .reading ? .success : .denied))
                let text = String(decoding: stored.bytes, as: UTF8.self)
                #expect(text.contains("\"count\":2") == (count == 2), "\(text)")
                entry.add(AccessEntry(entry.act, at: Timestamp(microseconds: 9_000_000), by: RequestInfo(id: "r-2")))
            }
        }
    }
}
