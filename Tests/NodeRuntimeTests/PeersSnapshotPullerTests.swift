internal import Consensus
internal import Logging
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

/// A clock on which every sleep ends at once; it remembers them.
final class SkippingClock: Clock, Sendable {
    struct Instant: InstantProtocol, Hashable {
        var offset: Duration
        func advanced(by duration: Duration) -> Self { Self(offset: self.offset + duration) }
        func duration(to other: Self) -> Duration { other.offset - self.offset }
        static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
    }

    private let state = Mutex((now: Instant(offset: .zero), sleeps: [Duration]()))

    var now: Instant { self.state.withLock { $0.now } }
    var minimumResolution: Duration { .nanoseconds(1) }
    var sleeps: [Duration] { self.state.withLock { $0.sleeps } }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        self.state.withLock { state in
            state.sleeps.append(state.now.duration(to: deadline))
            state.now = max(state.now, deadline)
        }
        try Task.checkCancellation()
    }
}

/// The replica of one group that is being filled: what is staged outlives the installers.
private final class FakeReplica: Sendable {
    struct State {
        var staged: [UInt8] = []
        var installed: [UInt8]?
        /// What to throw when so many bytes are staged.
        var failure: (at: Int, error: any Error)?
    }

    let state = Mutex(State())
    let mark: SnapshotMark

    init(index: UInt64 = 100) {
        self.mark = SnapshotMark(
            index: LogIndex(index),
            term: Term(3),
            membership: Membership(voters: [NodeID(1), NodeID(2)])
        )
    }

    struct Installer: SnapshotInstalling {
        let replica: FakeReplica
        /// How many bytes make the snapshot.
        let total: Int

        func requestBytes() -> [UInt8] { [UInt8(self.replica.state.withLock { $0.staged.count })] }

        func accept(_ chunk: [UInt8]) throws {
            try self.replica.state.withLock { state in
                state.staged += chunk
                if let failure = state.failure, state.staged.count >= failure.at { throw failure.error }
            }
        }

        func seal() throws -> SnapshotMark {
            let count = self.replica.state.withLock { $0.staged.count }
            guard count == self.total else { throw SnapshotError(code: .mismatch, message: "\(count) bytes") }
            return self.replica.mark
        }

        func switchState() { self.replica.state.withLock { $0.installed = $0.staged } }

        var received: (records: UInt64, recordsTotal: UInt64) {
            (UInt64(self.replica.state.withLock { $0.staged.count }), UInt64(self.total))
        }
    }
}

/// A puller between fakes, and what it did.
private final class PullerBench: Sendable {
    struct Action: Sendable {
        let body: @Sendable () -> Void
    }

    struct Seen {
        var fetches: [(group: UInt32, have: UInt8)] = []
        var running = 0
        var runningMax = 0
        var installed: [GroupID] = []
        var failed: [GroupID] = []
        var storeFailures: [ConsensusError] = []
    }

    static let bytes = [UInt8](1...60)

    let replicas: [GroupID: FakeReplica]
    let seen = Mutex(Seen())
    /// Called when the first snapshot is installed.
    let offersAgain = Mutex<Action?>(nil)
    /// After so many fetched bytes the replica is removed.
    let removedAt: Int?
    let clock = SkippingClock()
    let registry = PrometheusRegistry()
    /// Byte at which a fetch with this number is cut; none: not cut.
    let cuts: [Int]
    let free: UInt64?
    private let ends: AsyncStream<Void>
    private let ended: AsyncStream<Void>.Continuation

    init(groups: UInt32 = 1, cuts: [Int] = [], free: UInt64? = nil, removedAt: Int? = nil) {
        self.removedAt = removedAt
        self.replicas = Dictionary(uniqueKeysWithValues: (1...groups).map { (GroupID($0), FakeReplica()) })
        self.cuts = cuts
        self.free = free
        (self.ends, self.ended) = AsyncStream.makeStream(bufferingPolicy: .unbounded)
    }

    func replica(_ group: UInt32 = 1) -> FakeReplica { self.replicas[GroupID(group)] ?? FakeReplica() }

    private func isHosted(_ group: GroupID) -> Bool {
        self.replica(group.rawValue).state.withLock { $0.staged.count } < self.removedAt ?? .max
    }

    /// Offers all groups, runs the puller until all have ended, and looks.
    func run(_ meanwhile: (SnapshotPuller) -> Void = { _ in }) async throws -> Seen {
        let threads = try StoreThreads(name: "test", count: 2, queuedMax: 100)
        let puller = SnapshotPuller(
            surroundings: self.surroundings,
            threads: threads,
            metrics: PeerMetrics(registry: self.registry),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            clock: self.clock
        )
        for (group, replica) in self.replicas.sorted(by: { $0.key < $1.key }) {
            let offer = RaftMessage.SnapshotOffer(session: LogIndex(1), beat: 1, mark: replica.mark)
            puller.offered(group, by: NodeID(3), offer)
            // A newer offer replaces one that waits: the leader has changed.
            puller.offered(group, by: NodeID(2), offer)
        }
        meanwhile(puller)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await puller.run() }
            var left = self.replicas.count
            for await _ in self.ends {
                left -= 1
                if left == 0 { break }
            }
            group.cancelAll()
        }
        let stopper = try SerialThread(name: "test-stop")
        defer { stopper.shutdown() }
        try await stopper.run { threads.shutdown() }
        return self.seen.withLock { $0 }
    }

    private var surroundings: SnapshotPuller.Surroundings {
        SnapshotPuller.Surroundings(
            installer: { FakeReplica.Installer(replica: self.replica($0.rawValue), total: Self.bytes.count) },
            fetch: { try await self.fetch($0, $1, $2) },
            install: { group, mark, switchState in
                #expect(mark == self.replica(group.rawValue).mark)
                try switchState()
                let isFirst = self.seen.withLock { seen in
                    seen.installed.append(group)
                    return seen.installed.count == 1
                }
                if isFirst, let offersAgain = self.offersAgain.withLock({ $0 }) {
                    offersAgain.body()
                } else {
                    self.ended.yield()
                }
            },
            installFailed: { group in
                self.seen.withLock { $0.failed.append(group) }
                self.ended.yield()
            },
            isHosted: { group in self.isHosted(group) },
            freeBytes: { self.free },
            storeFailed: { error in self.seen.withLock { $0.storeFailures.append(error) } }
        )
    }

    /// Sends what follows the staged bytes, in chunks of seven, torn into parts of five.
    private func fetch(
        _ peer: NodeID,
        _ request: WireSnapshotRequest,
        _ take: (ByteBuffer) async throws -> Void
    ) async throws {
        #expect(peer == NodeID(2))
        let have = request.have.first ?? 0
        let number = self.seen.withLock { seen in
            seen.fetches.append((request.group, have))
            seen.running += 1
            seen.runningMax = max(seen.runningMax, seen.running)
            return seen.fetches.count - 1
        }
        defer { self.seen.withLock { $0.running -= 1 } }
        await Task.yield()
        let end = number < self.cuts.count ? self.cuts[number] : Self.bytes.count
        var stream: [UInt8] = []
        var rest = Self.bytes[Int(have)..<end]
        while !rest.isEmpty {
            let chunk = rest.prefix(7)
            stream += [0, 0, 0, UInt8(chunk.count)] + chunk
            rest = rest.dropFirst(7)
        }
        for start in Swift.stride(from: 0, to: stream.count, by: 5) {
            try await take(ByteBuffer(bytes: stream[start..<min(start + 5, stream.count)]))
        }
        if end < Self.bytes.count {
            throw PeerError(code: .interrupted, peer: peer, message: "cut", cause: nil)
        }
    }

    func outcome(_ name: String) -> Bool {
        self.registry.render().contains(#"ft_snapshot_installs_total{outcome="\#(name)"} 1"#)
    }
}

@Suite("Fetching snapshots", .timeLimit(.minutes(10)))
struct PeersSnapshotPullerTests {
    @Test func whatIsOfferedIsFetchedAndInstalled() async throws {
        let bench = PullerBench()
        let seen = try await bench.run { puller in
            #expect(puller.pulls.map(\.group) == [GroupID(1)])
            #expect(puller.pulls.map(\.attempt) == [0])
        }
        #expect(seen.installed == [GroupID(1)])
        #expect(bench.replica().state.withLock { $0.installed } == PullerBench.bytes)
        #expect(bench.outcome("installed"))
        #expect(bench.registry.render().contains("ft_snapshot_received_bytes_total 60"))
        #expect(bench.clock.sleeps.isEmpty)
    }

    @Test func aPullThatIsCutGoesOnWhereItWas() async throws {
        let bench = PullerBench(cuts: [14, 42])
        let seen = try await bench.run()
        #expect(seen.fetches.map(\.have) == [0, 14, 42])
        #expect(seen.installed == [GroupID(1)])
        #expect(bench.replica().state.withLock { $0.installed } == PullerBench.bytes)
        #expect(bench.clock.sleeps == [SnapshotPuller.retryPause, SnapshotPuller.retryPause * 2])
    }

    @Test func afterTooManyAttemptsTheHostIsToldOnce() async throws {
        let bench = PullerBench(cuts: [Int](repeating: 7, count: 100))
        let seen = try await bench.run()
        #expect(seen.fetches.count == SnapshotPuller.attemptsMax)
        #expect(seen.installed.isEmpty)
        #expect(seen.failed == [GroupID(1)])
        #expect(bench.clock.sleeps.last == SnapshotPuller.failurePause)
        #expect(bench.outcome("cut"))
    }

    /// The host may offer the next snapshot before the puller is quite done with the last.
    @Test func anOfferThatComesWhileAPullEndsIsNotLost() async throws {
        let bench = PullerBench()
        let replica = bench.replica()
        let seen = try await bench.run { puller in
            bench.offersAgain.withLock {
                $0 = PullerBench.Action {
                    replica.state.withLock { $0.staged = [] }
                    let offer = RaftMessage.SnapshotOffer(session: LogIndex(1), beat: 2, mark: replica.mark)
                    puller.offered(GroupID(1), by: NodeID(2), offer)
                }
            }
        }
        #expect(seen.installed == [GroupID(1), GroupID(1)])
        #expect(seen.failed.isEmpty)
        bench.offersAgain.withLock { $0 = nil }
    }

    @Test func aRemovedReplicaIsFilledNoFurther() async throws {
        let bench = PullerBench(removedAt: 14)
        let seen = try await bench.run()
        #expect(bench.replica().state.withLock { $0.staged.count } == 14)
        #expect(seen.failed == [GroupID(1)])
        #expect(bench.outcome("not_taken"))
    }

    @Test func fewAreFetchedAtOnceAndAllInTheEnd() async throws {
        let bench = PullerBench(groups: 9)
        let seen = try await bench.run()
        #expect(Set(seen.installed) == Set((1...9).map { GroupID($0) }))
        #expect(seen.runningMax <= SnapshotPuller.pullsMax)
    }

    @Test func aDiskThatIsAlmostFullIsNotFilled() async throws {
        let bench = PullerBench(free: SnapshotPuller.reserveBytes - 1)
        let seen = try await bench.run()
        #expect(seen.fetches.isEmpty)
        #expect(seen.failed == [GroupID(1)])
        #expect(seen.storeFailures.isEmpty)
        #expect(bench.outcome("disk_full"))
        #expect(bench.clock.sleeps == [SnapshotPuller.hopelessPause])
        let enough = try await PullerBench(free: SnapshotPuller.reserveBytes).run()
        #expect(enough.installed == [GroupID(1)])
    }

    @Test func aStoreThatFailsStopsTheNodeAndSaysWhy() async throws {
        let bench = PullerBench()
        let full = StorageError(code: .full, message: "no space left on device")
        let error = SnapshotError(code: .storage, message: "installing", cause: full)
        bench.replica().state.withLock { $0.failure = (20, error) }
        let seen = try await bench.run()
        #expect(seen.fetches.count == 1)
        #expect(seen.failed == [GroupID(1)])
        let failure = try #require(seen.storeFailures.first)
        #expect(failure.group == GroupID(1))
        #expect(errorChain(failure).contains("the disk is full"))
        #expect(errorChain(failure).contains("no space left on device"))
        #expect(bench.outcome("storage"))
    }

    @Test(arguments: [
        (SnapshotError.Code.damagedChunk, 5, "damaged"), (.outOfOrder, 5, "damaged"), (.mismatch, 1, "mismatch"),
        (.fork, 1, "fork"), (.superseded, 1, "not_taken"), (.damaged, 1, "damaged_ledger"),
    ])
    func onlyWhatAnotherAttemptCanMendIsTriedAgain(
        code: SnapshotError.Code,
        attempts: Int,
        outcome: String
    ) async throws {
        let bench = PullerBench()
        bench.replica().state.withLock { $0.failure = (1, SnapshotError(code: code, message: "x")) }
        let seen = try await bench.run()
        #expect(seen.fetches.count == attempts)
        #expect(seen.failed == [GroupID(1)])
        #expect(bench.outcome(outcome))
        #expect(seen.storeFailures.isEmpty)
    }
}
