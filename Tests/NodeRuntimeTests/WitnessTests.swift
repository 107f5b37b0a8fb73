internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

/// A log with a key and a tree that grows, and another history from some record on.
private struct TestLog {
    let key: NoteSignerKey
    let origin: LogOrigin
    private(set) var nodes = MerkleNodes()

    init(_ origin: String = "lab/lab-a", seed: UInt8 = 1) throws {
        self.origin = try LogOrigin(origin)
        self.key = try NoteSignerKey(
            name: try self.origin.keyName,
            type: .ed25519,
            seed: [UInt8](repeating: seed, count: 32)
        )
    }

    mutating func grow(_ count: Int, text: String = "a") {
        for number in 0..<count { self.nodes.append(LedgerHash.leaf(Array("\(text)\(number)".utf8))) }
    }

    func note(_ size: UInt64) throws -> SignedCheckpoint {
        let root = try self.nodes.treeRoot(size: size)
        var note = try SignedCheckpoint(Checkpoint(origin: self.origin, size: size, root: root))
        try note.sign(self.key)
        return note
    }

    func request(from oldSize: UInt64, to size: UInt64) throws -> WitnessRequest {
        let proof = try ConsistencyProof.build(from: oldSize, to: size, nodes: self.nodes)
        return WitnessRequest(oldSize: oldSize, path: proof.path, checkpoint: try self.note(size))
    }
}

@Suite("The rules of a witness")
struct WitnessRulesTests {
    private static func decide(
        _ request: WitnessRequest,
        _ log: TestLog,
        last: UInt64?
    ) throws -> WitnessRules.Decision {
        WitnessRules.decide(
            request,
            trust: try WitnessTrust(keys: [log.key.verifierKey]),
            last: try last.map { try log.note($0).checkpoint }
        )
    }

    @Test func whatContinuesIsCosigned() throws {
        var log = try TestLog()
        log.grow(40)
        #expect(try Self.decide(log.request(from: 0, to: 7), log, last: nil) == .cosign)
        #expect(try Self.decide(log.request(from: 7, to: 40), log, last: 7) == .cosign)
        #expect(try Self.decide(log.request(from: 40, to: 40), log, last: 40) == .cosignAgain)
        #expect(try Self.decide(log.request(from: 0, to: 0), log, last: nil) == .cosign)
    }

    @Test func anotherOldSizeIsAnsweredWithTheRightOne() throws {
        var log = try TestLog()
        log.grow(40)
        #expect(try Self.decide(log.request(from: 0, to: 40), log, last: 7) == .conflict(size: 7))
        #expect(try Self.decide(log.request(from: 8, to: 40), log, last: 7) == .conflict(size: 7))
        #expect(try Self.decide(log.request(from: 5, to: 6), log, last: 7) == .conflict(size: 7), "never back")
        #expect(try Self.decide(log.request(from: 3, to: 9), log, last: nil) == .conflict(size: 0))
    }

    @Test func anotherHistoryIsNeverCosigned() throws {
        var log = try TestLog()
        log.grow(7)
        var other = log
        log.grow(5)
        other.grow(5, text: "forged")
        let sameSize = WitnessRequest(oldSize: 12, path: [], checkpoint: try other.note(12))
        #expect(try Self.decide(sameSize, log, last: 12) == .fork(size: 12))
        #expect(try Self.decide(other.request(from: 10, to: 12), log, last: 10) == .notProven)
        let withoutProof = WitnessRequest(oldSize: 7, path: [], checkpoint: try log.note(12))
        #expect(try Self.decide(withoutProof, log, last: 7) == .notProven)
        let surplus = WitnessRequest(oldSize: 0, path: [.zero], checkpoint: try log.note(12))
        #expect(try Self.decide(surplus, log, last: nil) == .notProven, "from nothing the proof is empty")
        let wrongEmpty = Checkpoint(origin: log.origin, size: 0, root: .zero)
        var note = try SignedCheckpoint(wrongEmpty)
        try note.sign(log.key)
        #expect(
            try Self.decide(WitnessRequest(oldSize: 0, path: [], checkpoint: note), log, last: nil) == .fork(size: 0)
        )
    }

    @Test func whoIsNotTheLogIsRefused() throws {
        var log = try TestLog()
        log.grow(7)
        let stranger = try TestLog("lab/lab-b")
        #expect(try Self.decide(log.request(from: 0, to: 7), stranger, last: nil) == .unknownLog)
        let thief = try TestLog(seed: 9)
        #expect(try Self.decide(log.request(from: 0, to: 7), thief, last: nil) == .notSigned)
        var unsigned = try SignedCheckpoint(try log.note(7).checkpoint)
        try unsigned.sign(thief.key)
        let request = WitnessRequest(oldSize: 0, path: [], checkpoint: unsigned)
        #expect(try Self.decide(request, log, last: nil) == .notSigned)
        let backwards = WitnessRequest(oldSize: 8, path: [], checkpoint: try log.note(7))
        guard case .malformed = try Self.decide(backwards, log, last: nil) else {
            Issue.record("an old size beyond the new one")
            return
        }
    }

    @Test func aNodesKeyIsTrustedForAllLogsOfItsCluster() throws {
        let seed = [UInt8](repeating: 1, count: 32)
        let node = try NoteSignerKey(name: NoteKeyName("lab/node-1"), type: .cosignature, seed: seed)
        let trust = try WitnessTrust(keys: [node.verifierKey])
        var log = try TestLog("lab/lab-z")
        log.grow(3)
        #expect(WitnessRules.decide(try log.request(from: 0, to: 3), trust: trust, last: nil) == .cosign)
        var other = try TestLog("lab2/lab-z")
        other.grow(3)
        #expect(WitnessRules.decide(try other.request(from: 0, to: 3), trust: trust, last: nil) == .unknownLog)
        let unnamed = try NoteSignerKey(name: NoteKeyName("witness.example"), type: .cosignature, seed: seed)
        #expect(throws: NoteError.self) { try WitnessTrust(keys: [unnamed.verifierKey]) }
    }

    @Test func requestsReadBackAsTheyWereWritten() throws {
        var log = try TestLog()
        log.grow(40)
        for (old, new) in [(0, 0), (0, 7), (7, 40), (40, 40), (13, 29)] as [(UInt64, UInt64)] {
            let request = try log.request(from: old, to: new)
            #expect(try WitnessRequest(parsing: request.encoded) == request)
            for count in 0..<request.encoded.count {
                #expect(throws: NoteError.self) { try WitnessRequest(parsing: Array(request.encoded[..<count])) }
            }
        }
        let body = String(decoding: try log.request(from: 7, to: 40).encoded, as: UTF8.self)
        let wrong = [
            body.replacing("old 7", with: "old 07"), body.replacing("old 7", with: "old +7"),
            body.replacing("old 7", with: "old 9223372036854775808"), body.replacing("old 7", with: "Old 7"),
            body.replacing("old 7\n", with: "old 7\nAAAA\n"), body.replacing("old 7\n", with: "old 7\n\n"),
            body.replacing(
                "old 7\n",
                with: "old 7\n" + String(repeating: "\(String(repeating: "A", count: 43))=\n", count: 64)
            ),
            String(repeating: "x", count: WitnessRequest.bytesMax + 1),
        ]
        for text in wrong { #expect(throws: NoteError.self) { try WitnessRequest(parsing: Array(text.utf8)) } }
    }
}

@Suite("A witness", .timeLimit(.minutes(10)))
struct WitnessServiceTests {
    private static func service(
        _ store: any KeyValueStore,
        _ log: TestLog,
        _ thread: SerialThread
    ) throws -> WitnessService {
        let seed = [UInt8](repeating: 77, count: 32)
        return WitnessService(
            keys: [try NoteSignerKey(name: NoteKeyName("w.example/1"), type: .cosignature, seed: seed)],
            trust: try WitnessTrust(keys: [log.key.verifierKey]),
            memory: WitnessMemory(store: store),
            thread: thread,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
    }

    @Test func cosignsAndNeverGoesBackAlsoAfterAPowerFailure() async throws {
        let thread = try SerialThread(name: "test-witness")
        defer { thread.shutdown() }
        var log = try TestLog()
        log.grow(40)
        let store = try FaultInjectingStore(InMemoryStore())
        let witness = try Self.service(store, log, thread)
        let first = await witness.answer(try log.request(from: 0, to: 20).encoded, timeSeconds: 1000)
        #expect(first.status == 200)
        let note = try SignedCheckpoint(
            parsing: try log.note(20).checkpoint.text + [UInt8(ascii: "\n")] + first.body
        )
        let verified = try note.note.verify(keys: witness.keys.map(\.verifierKey))
        #expect(verified.map(\.timeSeconds) == [1000])
        try store.crash()
        let again = try Self.service(try store.reopened(), log, thread)
        let back = await again.answer(try log.request(from: 0, to: 10).encoded, timeSeconds: 1001)
        #expect(back == .init(status: 409, contentType: "text/x.tlog.size", body: Array("20\n".utf8)))
        let on = await again.answer(try log.request(from: 20, to: 40).encoded, timeSeconds: 1002)
        #expect(on.status == 200)
    }

    @Test func signsNothingThatItCannotRemember() async throws {
        let thread = try SerialThread(name: "test-witness")
        defer { thread.shutdown() }
        var log = try TestLog()
        log.grow(40)
        let store = try FaultInjectingStore(InMemoryStore())
        store.arm(StoreFault(.sync))
        let witness = try Self.service(store, log, thread)
        let answer = await witness.answer(try log.request(from: 0, to: 20).encoded, timeSeconds: 1000)
        #expect(answer.status == 500)
        #expect(!String(decoding: answer.body, as: UTF8.self).contains("\u{2014}"))
    }

    @Test func keepsTheProofOfAFork() async throws {
        let thread = try SerialThread(name: "test-witness")
        defer { thread.shutdown() }
        var log = try TestLog()
        log.grow(7)
        var other = log
        log.grow(5)
        other.grow(5, text: "forged")
        let store = InMemoryStore()
        let witness = try Self.service(store, log, thread)
        _ = await witness.answer(try log.request(from: 0, to: 12).encoded, timeSeconds: 1000)
        let forged = WitnessRequest(oldSize: 12, path: [], checkpoint: try other.note(12))
        let answer = await witness.answer(forged.encoded, timeSeconds: 1001)
        #expect(answer.status == 409)
        let proof = try ForkProof(parsing: try #require(try WitnessMemory(store: store).forks().first))
        #expect(try proof.verify(keys: [log.key.verifierKey]).equivocators == [log.key.verifierKey])
    }

    @Test func answersAsTheSpecificationSays() async throws {
        let thread = try SerialThread(name: "test-witness")
        defer { thread.shutdown() }
        var log = try TestLog()
        log.grow(12)
        let witness = try Self.service(InMemoryStore(), log, thread)
        var stranger = try TestLog("lab/lab-b")
        stranger.grow(3)
        var thief = try TestLog(seed: 9)
        thief.grow(3)
        let cases: [([UInt8], Int)] = [
            (Array("old 0\n".utf8), 400), ([], 400),
            (try stranger.request(from: 0, to: 3).encoded, 404), (try thief.request(from: 0, to: 3).encoded, 403),
            (WitnessRequest(oldSize: 4, path: [], checkpoint: try log.note(3)).encoded, 400),
            (try log.request(from: 2, to: 3).encoded, 409), (try log.request(from: 0, to: 3).encoded, 200),
            (WitnessRequest(oldSize: 3, path: [], checkpoint: try log.note(12)).encoded, 422),
        ]
        for (body, status) in cases {
            let answer = await witness.answer(body, timeSeconds: 1000)
            #expect(answer.status == status, "\(String(decoding: body.prefix(60), as: UTF8.self))")
        }
    }
}

@Suite("What a witness is given next")
struct WitnessQueueTests {
    private static let one = OrganizationID(1)
    private static let two = OrganizationID(2)

    private static func seconds(_ number: Int) -> Duration { .seconds(number) }

    @Test func theNewestOnceTheLastIsDone() {
        var queue = WitnessQueue()
        queue.published(Self.one, size: 5, at: .zero)
        #expect(queue.next(at: .zero) == .init(organization: Self.one, oldSize: 0, size: 5))
        queue.published(Self.one, size: 6, at: .zero)
        queue.published(Self.one, size: 9, at: .zero)
        #expect(queue.next(at: .zero) == nil, "one at a time")
        queue.cosigned(at: .zero)
        #expect(queue.next(at: .zero) == nil, "at most one a second of an organization")
        #expect(queue.next(at: Self.seconds(1)) == .init(organization: Self.one, oldSize: 5, size: 9))
        queue.cosigned(at: Self.seconds(1))
        #expect(queue.pendingCount == 0)
        #expect(queue.again == nil)
        queue.published(Self.one, size: 9, at: Self.seconds(2))
        #expect(queue.pendingCount == 0, "what it has cosigned is not given again")
    }

    @Test func aConflictIsAskedAgainFromTheWitnessSize() {
        var queue = WitnessQueue()
        queue.published(Self.one, size: 9, at: .zero)
        _ = queue.next(at: .zero)
        queue.conflict(size: 4, at: .zero)
        #expect(queue.next(at: .zero) == .init(organization: Self.one, oldSize: 4, size: 9))
        queue.cosigned(at: .zero)
        #expect(queue.condition == .ok)
    }

    @Test func aWitnessThatIsAheadNeedsNothing() {
        var queue = WitnessQueue()
        queue.published(Self.one, size: 9, at: .zero)
        _ = queue.next(at: .zero)
        queue.conflict(size: 12, at: .zero)
        #expect(queue.pendingCount == 0)
    }

    @Test func aConflictAboutTheSameSizeIsNotAskedForEver() {
        var queue = WitnessQueue()
        queue.published(Self.one, size: 9, at: .zero)
        _ = queue.next(at: .zero)
        queue.conflict(size: 4, at: .zero)
        _ = queue.next(at: .zero)
        queue.conflict(size: 4, at: .zero)
        #expect(queue.next(at: Self.seconds(59)) == nil)
        #expect(queue.condition == .refused)
        #expect(queue.pendingCount == 1, "it is seen that something is missing")
        #expect(queue.next(at: Self.seconds(60)) != nil)
    }

    @Test func aSilentWitnessIsLeftAloneLongerAndLonger() {
        var queue = WitnessQueue()
        queue.published(Self.one, size: 9, at: .zero)
        queue.published(Self.two, size: 3, at: .zero)
        var now = 0
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            #expect(queue.next(at: Self.seconds(now)) != nil)
            queue.unreachable(at: Self.seconds(now))
            #expect(queue.condition == .unreachable)
            #expect(queue.next(at: Self.seconds(now + pause) - .milliseconds(1)) == nil, "also for the others")
            now += pause
        }
        #expect(queue.next(at: Self.seconds(now)) != nil)
        queue.cosigned(at: Self.seconds(now))
        #expect(queue.condition == .ok)
    }
}

@Suite("Witnesses of three replicas", .timeLimit(.minutes(10)))
struct WitnessCourierTests {
    private static let pace: CheckpointRounds.Pace = {
        var pace = CheckpointRounds.Pace()
        pace.grace = .seconds(60)
        return pace
    }()

    private static let key: NoteVerifierKey? = try? NoteSignerKey(
        name: NoteKeyName("w.example/1"),
        type: .cosignature,
        seed: [UInt8](repeating: 77, count: 32)
    ).verifierKey

    private typealias Post = @Sendable ([UInt8]) async throws -> WitnessCourier.Reply

    /// Runs the replicas with one witness that answers by `post`, until `body` ends.
    private static func run(
        _ bench: CheckpointBench,
        needed: Int = 1,
        post: @escaping Post,
        _ body: @escaping @Sendable (WitnessCourier) async throws -> Void
    ) async throws {
        let key = try #require(self.key)
        let service = try bench.replica(1).service
        let courier = WitnessCourier(
            witnesses: [.init(url: "https://w.example", key: key, post: post)],
            policy: WitnessPolicy(keys: [key], needed: needed),
            service: service
        )
        service.published.receive { courier.published($0.0, $0.1) }
        try await bench.run {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await courier.run() }
                try await body(courier)
                group.cancelAll()
            }
        }
    }

    @Test func aCosignatureIsAddedHereAndOnTheOthers() async throws {
        let bench = try CheckpointBench(pace: Self.pace)
        defer { bench.close() }
        let thread = try SerialThread(name: "test-witness")
        defer { thread.shutdown() }
        let seed = [UInt8](repeating: 77, count: 32)
        let witness = WitnessService(
            keys: [try NoteSignerKey(name: NoteKeyName("w.example/1"), type: .cosignature, seed: seed)],
            trust: try WitnessTrust(keys: bench.keys.values.map(\.verifierKey)),
            memory: WitnessMemory(store: InMemoryStore()),
            thread: thread,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        try bench.append(7)
        let post: Post = { body in
            let answer = await witness.answer(body, timeSeconds: 200)
            return .init(status: answer.status, body: answer.body)
        }
        try await Self.run(bench, post: post) { _ in
            _ = try await bench.replica(1).service.fresh(bench.entry, timeout: .seconds(30))
            await bench.waitUntilWitnessed([NodeID(2), NodeID(3)])
        }
        let key = try #require(Self.key)
        for node in [1, 2, 3] as [UInt64] {
            let stored = try #require(try bench.replica(node).rows.latest(of: bench.entry.id))
            #expect(stored.isWitnessed, "node \(node)")
            let note = try SignedCheckpoint(parsing: stored.note)
            #expect(try note.note.verify(keys: [key]).first?.timeSeconds == 200)
            #expect(try bench.verifier().verify(note).isTrusted, "the others' signatures are still there")
        }
    }

    @Test func checkpointsArePublishedWithoutAWitnessThatIsDown() async throws {
        let bench = try CheckpointBench(pace: Self.pace)
        defer { bench.close() }
        let (tried, didTry) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        try bench.append(7)
        let post: Post = { _ in
            didTry.yield()
            throw PeerError(code: .unreachable, peer: NodeID(9), message: "test", cause: nil)
        }
        try await Self.run(bench, post: post) { courier in
            let stored = try await bench.replica(1).service.fresh(bench.entry, timeout: .seconds(30))
            #expect(try bench.verifier().verify(stored.note).isTrusted)
            #expect(!stored.isWitnessed)
            for await _ in tried { break }
            #expect(courier.status.first?.pending == 1, "and it is seen that something is missing")
        }
    }

    @Test(arguments: ["stranger", "nothing", "other head"])
    func aCosignatureThatIsNoneIsNotStored(_ kind: String) async throws {
        let bench = try CheckpointBench(pace: Self.pace)
        defer { bench.close() }
        let (tried, didTry) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        try bench.append(7)
        let stranger = try NoteSignerKey(
            name: NoteKeyName("w.example/1"),
            type: .cosignature,
            seed: [UInt8](repeating: kind == "other head" ? 77 : 78, count: 32)
        )
        let post: Post = { body in
            defer { didTry.yield() }
            let asked = try WitnessRequest(parsing: body).checkpoint.checkpoint
            let signed = kind == "other head" ? Checkpoint(origin: asked.origin, size: 7, root: .zero) : asked
            let line = try stranger.cosignature(over: signed, timeSeconds: 200).line
            return .init(status: 200, body: kind == "nothing" ? [] : line)
        }
        try await Self.run(bench, post: post) { _ in
            _ = try await bench.replica(1).service.fresh(bench.entry, timeout: .seconds(30))
            for await _ in tried { break }
        }
        let stored = try #require(try bench.replica(1).rows.latest(of: bench.entry.id))
        #expect(!stored.isWitnessed)
        #expect(
            try SignedCheckpoint(parsing: stored.note).note.signatures.allSatisfy {
                $0.name.description != "w.example/1"
            }
        )
    }

    @Test func addressesAreOfHTTPS() {
        let good = ["https://w.example", "https://w.example:8443/a/b/", "https://[::1]:9443", "https://127.0.0.1/x"]
        for text in good { #expect(WitnessAddress(text) != nil, "\(text)") }
        #expect(WitnessAddress("https://w.example/a/")?.description == "https://w.example:443/a")
        let bad = [
            "http://w.example", "https://", "https://u@w.example", "https://w.example?x", "https://w.example:0", "w",
        ]
        for text in bad { #expect(WitnessAddress(text) == nil, "\(text)") }
    }
}
