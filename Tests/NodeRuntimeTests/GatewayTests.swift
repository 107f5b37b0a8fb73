internal import AuditLedger
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import NIOPosix
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization
internal import Testing
internal import Transport

@testable internal import NodeRuntime

/// A clock on which sleeping exactly `passing` takes no time and moves it; longer sleeps end when they are cancelled.
private final class PauseClock: Clock, Sendable {
    struct Instant: InstantProtocol, Hashable {
        var offset: Duration
        func advanced(by duration: Duration) -> Self { Self(offset: self.offset + duration) }
        func duration(to other: Self) -> Duration { other.offset - self.offset }
        static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
    }

    private let passing: Duration
    private let time = Mutex(Instant(offset: .zero))

    init(passing: Duration = CommandGateway.pause) { self.passing = passing }

    var now: Instant { self.time.withLock { $0 } }
    var minimumResolution: Duration { .nanoseconds(1) }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let passes = self.time.withLock { now in
            guard now.duration(to: deadline) == self.passing else { return false }
            now = deadline
            return true
        }
        if passes { return }
        // A stream that nobody feeds ends when its task is cancelled.
        let (never, end) = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .bufferingNewest(1))
        for await _ in never {}
        withExtendedLifetime(end) {}
        try Task.checkCancellation()
    }
}

/// One node without peers, or with peers that never answer.
private struct Bench {
    let host: RaftHost
    let applier: ShardApplier
    let links: PeerLinks

    /// Returns when a number of groups have found their leader.
    final class Leaders: Sendable {
        private let state = Mutex((groups: Set<GroupID>(), waiting: [(count: Int, CheckedContinuation<Void, Never>)]()))

        func add(_ change: LeadershipChange) {
            guard change.leader != nil else { return }
            let due = self.state.withLock { state in
                state.groups.insert(change.group)
                let count = state.groups.count
                defer { state.waiting.removeAll { $0.count <= count } }
                return state.waiting.filter { $0.count <= count }
            }
            for (_, continuation) in due { continuation.resume() }
        }

        func wait(for count: Int) async {
            await withCheckedContinuation { continuation in
                let isDue = self.state.withLock { state in
                    if state.groups.count >= count { return true }
                    state.waiting.append((count, continuation))
                    return false
                }
                if isDue { continuation.resume() }
            }
        }
    }

    func gateway(_ clock: PauseClock = PauseClock()) -> CommandGateway {
        CommandGateway(
            node: NodeID(1),
            proposer: self.proposer,
            links: self.links,
            replicas: { _ in [] },
            timeout: .milliseconds(300),
            attemptMax: .milliseconds(100),
            clock: clock
        )
    }

    func reads(_ clock: PauseClock = PauseClock()) -> ReadGate {
        ReadGate(host: self.host, timeout: .milliseconds(110), clock: clock)
    }

    var proposer: CommandProposer {
        let applier = self.applier
        return CommandProposer(host: self.host, stamps: StampClock()) { applier.admits($0, to: $1) }
    }

    /// Runs `body` on a started node: with a leader in every group when it is alone, never with one otherwise.
    static func run(
        nodes: UInt64 = 1,
        configure: (inout RaftConfiguration) -> Void = { _ in },
        _ body: (Bench) async throws -> Void
    ) async throws {
        try await Fixture.withDirectory { directory in
            let lane = try SerialThread(name: "test-lane")
            let stopper = try SerialThread(name: "test-stop")
            defer {
                lane.shutdown()
                stopper.shutdown()
            }
            let store = InMemoryStore()
            let applier = try ShardApplier(store: store, lanes: [lane])
            let leaders = Leaders()
            let links = try Self.links(directory)
            var configuration = RaftConfiguration()
            configure(&configuration)
            let voters = (1...nodes).map { NodeID($0) }
            let host = try RaftHost(
                node: NodeID(1),
                groups: [GroupID.system: Membership(voters: voters), GroupID(1): Membership(voters: voters)],
                log: try Self.log(),
                configuration: configuration,
                transport: links,
                applier: applier,
                lanes: [lane],
                seed: 1,
                epoch: 1,
                ticks: .manual,
                events: HostEvents(onLeadershipChange: { leaders.add($0) })
            )
            try host.start()
            do {
                if nodes == 1 { await leaders.wait(for: 2) }
                try await body(Bench(host: host, applier: applier, links: links))
            } catch {
                try await stopper.run { host.stop() }
                throw error
            }
            try await stopper.run { host.stop() }
        }
    }

    private static func log() throws -> SegmentLog {
        var configuration = SegmentLog.Configuration()
        configuration.segmentBytes = 64 << 10
        return try SegmentLog.open(files: SimulatedLogFiles(), configuration: configuration)
    }

    /// Links to nobody.
    private static func links(_ directory: String) throws -> PeerLinks {
        let now = Timestamp(microseconds: 1_770_000_000_000_000)
        let authority = try CertificateAuthority.make(cluster: "lab", days: 30, now: now)
        let file = directory + "/ca.pem"
        try Data(try authority.exported().certificatePEM.utf8).write(to: URL(filePath: file))
        let tls = try ReloadableTLSContext(client: TLSClientConfiguration(caFile: file))
        return PeerLinks(
            handshake: PeerHandshake(cluster: "lab", node: NodeID(1), epoch: 0),
            seeds: [],
            client: HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, tls: tls),
            metrics: PeerMetrics(registry: PrometheusRegistry()),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
    }
}

@Suite("Commands on their way to the leader", .timeLimit(.minutes(10)))
struct GatewayTests {
    private static let begin = Command.bootstrap(
        BootstrapCommand(clusterID: "lab", dataGroups: 1, operatorToken: nil)
    )

    private static func create(_ key: String) throws -> Command {
        .createOrganization(CreateOrganizationCommand(key: try Fixture.key(key), name: key))
    }

    private static func append(_ key: String?) throws -> Command {
        .append(
            AppendCommand(
                organization: OrganizationID(1),
                idempotency: key.map { Idempotency(key: $0, request: [1]) },
                drafts: [try Fixture.draft(Fixture.events(1)[0])]
            )
        )
    }

    private static func failure(_ body: () async throws -> Void) async -> CommandGateway.Failure? {
        do {
            try await body()
            return nil
        } catch {
            return error as? CommandGateway.Failure
        }
    }

    @Test func aCommandIsStampedAppliedAndAnswered() async throws {
        try await Bench.run { bench in
            let gateway = bench.gateway()
            #expect(try await gateway.submit(Self.begin, to: .system, mayRepeat: true) == .done)
            let created = try await gateway.submit(try Self.create("lab-a"), to: .system, mayRepeat: false)
            guard case .organization(let entry) = created else {
                Issue.record("not created: \(created)")
                return
            }
            #expect(entry.createdAt.rawValue > 1_700_000_000_000_000, "the leader stamps its time")
            #expect(bench.applier.directory.organization(entry.key) == entry)
            let first = try await gateway.submit(try Self.append("k"), to: GroupID(1), mayRepeat: true)
            let again = try await gateway.submit(try Self.append("k"), to: GroupID(1), mayRepeat: true)
            guard case .appended(let receipt) = first, case .appended(let replay) = again else {
                Issue.record("not appended: \(first), \(again)")
                return
            }
            #expect(receipt.firstSequence == SequenceNumber(1))
            #expect(!receipt.isReplay && replay.isReplay)
            #expect(replay.checksums == receipt.checksums)
        }
    }

    @Test func aRefusalIsAnAnswer() async throws {
        try await Bench.run { bench in
            let gateway = bench.gateway()
            let early = try await gateway.submit(try Self.create("lab-a"), to: .system, mayRepeat: false)
            #expect(early == .refused(.notBootstrapped))
            #expect(try await gateway.submit(Self.begin, to: GroupID(1), mayRepeat: false) == .refused(.wrongGroup))
        }
    }

    @Test func withoutALeaderItGivesUpAtTheLastMomentAtWhichAnAttemptMayBegin() async throws {
        try await Bench.run(nodes: 3) { bench in
            let clock = PauseClock()
            let failure = await Self.failure {
                _ = try await bench.gateway(clock).submit(Self.begin, to: .system, mayRepeat: true)
            }
            #expect(failure == .noLeader)
            #expect(clock.now.offset == .milliseconds(200))
        }
    }

    @Test func aGroupThatNobodyKnowsHasNoLeader() async throws {
        try await Bench.run { bench in
            let failure = await Self.failure {
                _ = try await bench.gateway().submit(Self.begin, to: GroupID(9), mayRepeat: true)
            }
            #expect(failure == .noLeader)
        }
    }

    @Test func aCommandOverTheLimitIsTooLargeAtOnce() async throws {
        let configure = { (configuration: inout RaftConfiguration) in configuration.commandBytesMax = 64 }
        try await Bench.run(configure: configure) { bench in
            let clock = PauseClock()
            let failure = await Self.failure {
                _ = try await bench.gateway(clock).submit(try Self.append(nil), to: GroupID(1), mayRepeat: true)
            }
            #expect(failure == .tooLarge)
            #expect(clock.now.offset == .zero)
        }
    }

    @Test func aNodeThatHasStoppedTakesNothing() async throws {
        try await Bench.run { bench in
            let stopper = try SerialThread(name: "test-stop")
            defer { stopper.shutdown() }
            try await stopper.run { bench.host.stop() }
            let failure = await Self.failure {
                _ = try await bench.gateway().submit(Self.begin, to: .system, mayRepeat: true)
            }
            // A host that has stopped knows no leader.
            #expect(failure == .noLeader)
            await #expect(throws: ReadGate.Failure.stopping) { try await bench.reads().linearize(.system) }
        }
    }

    @Test func bytesThatAreNoCommandAreNotProposed() async throws {
        try await Bench.run { bench in
            let error = await #expect(throws: ProposalError.self) {
                try await bench.proposer.propose([1, 2], to: .system)
            }
            #expect(error?.cause is MalformedBytes)
        }
    }

    // MARK: Reads

    @Test func aReadSeesEverythingThatWasAcknowledged() async throws {
        try await Bench.run { bench in
            _ = try await bench.gateway().submit(Self.begin, to: .system, mayRepeat: true)
            let before = bench.host.status(of: .system)?.last
            try await bench.reads().linearize(.system)
            #expect(bench.applier.directory.isBootstrapped)
            #expect(bench.host.status(of: .system)?.last == before, "a read is no entry")
        }
    }

    @Test func aReadWithoutALeaderGivesUp() async throws {
        try await Bench.run(nodes: 3) { bench in
            let clock = PauseClock()
            await #expect(throws: ReadGate.Failure.noLeader) { try await bench.reads(clock).linearize(GroupID(1)) }
            #expect(clock.now.offset == .milliseconds(120))
        }
    }

    @Test func aTimeLimitEndsWhatTakesLongerAndNothingElse() async throws {
        let limit = Duration.milliseconds(5)
        #expect(try await withTimeLimit(limit, "x", clock: PauseClock()) { 7 } == 7)
        let error = await #expect(throws: TimedOut.self) {
            try await withTimeLimit(limit, "the wait", clock: PauseClock(passing: limit)) {
                let clock = PauseClock()
                try await clock.sleep(until: clock.now.advanced(by: .seconds(9)), tolerance: nil)
            }
        }
        #expect(error?.what == "the wait")
        await #expect(throws: CommandGateway.Failure.tooLarge) {
            try await withTimeLimit(limit, "x", clock: PauseClock()) { throw CommandGateway.Failure.tooLarge }
        }
    }

    // MARK: Health

    @Test func aNodeIsReadyOnceItsGroupsHaveLeadersAndTheClusterHasBegun() async throws {
        try await Bench.run { bench in
            let health = HealthReport(host: bench.host, directory: bench.applier.directory)
            #expect(health.reasons() == ["the cluster has not begun"])
            #expect(health.readiness().head.status == .serviceUnavailable)
            _ = try await bench.gateway().submit(Self.begin, to: .system, mayRepeat: true)
            #expect(health.reasons() == [])
            #expect(try Fixture.text(health.readiness()) == #"{"status":"ready","reasons":[]}"#)
            health.stop()
            #expect(try Fixture.text(health.readiness()) == #"{"status":"not_ready","reasons":["stopping"]}"#)
            #expect(try Fixture.text(health.alive) == #"{"status":"ok"}"#)
        }
    }

    @Test func groupsWithoutALeaderAreNamed() async throws {
        try await Bench.run(nodes: 3) { bench in
            let health = HealthReport(host: bench.host, directory: bench.applier.directory)
            #expect(health.reasons() == ["no leader known of groups 0, 1", "the cluster has not begun"])
        }
    }
}
