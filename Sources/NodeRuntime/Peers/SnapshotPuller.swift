internal import Consensus
internal import CoreMetrics
internal import Foundation
internal import Logging
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// What a snapshot is installed with, on the side that lacks it; calls may block and come one at a time.
///
/// One for each attempt: after an error it is of no more use.
protocol SnapshotInstalling: Sendable {
    /// What this node has already, also of earlier attempts: what is asked for follows it.
    func requestBytes() throws -> [UInt8]
    func accept(_ chunk: [UInt8]) throws
    /// After the last chunk: everything is there and right.
    func seal() throws -> SnapshotMark
    /// Makes what was installed the group's state; on the group's lane.
    func switchState() throws
    var received: (records: UInt64, recordsTotal: UInt64) { get }
}

/// Fetches the snapshots that leaders offer, installs them, and tells the host.
///
/// One pull a group, at most ``pullsMax`` at once; the others wait for their turn (a newer offer replaces theirs). A pull that is cut goes on where it
/// was, after a pause, up to ``attemptsMax`` times; then the host is told that it failed, and the leader's next offer
/// begins anew with what is there. Each pull has a connection of its own, so that bulk holds up nothing else.
///
/// The disk is looked at before and while a snapshot comes: a store that meets a full disk stops the whole node, so a
/// snapshot that would fill it is given up before, and the node's other groups go on.
final class SnapshotPuller: Sendable {
    /// How the puller reaches what is around it.
    struct Surroundings: Sendable {
        /// Makes what installs a group's snapshot; blocking.
        var installer: @Sendable (GroupID) throws -> any SnapshotInstalling
        /// Asks a peer for a snapshot and hands each part of its answer on, to the end.
        var fetch: @Sendable (NodeID, WireSnapshotRequest, (ByteBuffer) async throws -> Void) async throws -> Void
        /// Switches the group's state on its lane; the group goes on from the mark.
        var install: @Sendable (GroupID, SnapshotMark, @escaping @Sendable () throws -> Void) async throws -> Void
        var installFailed: @Sendable (GroupID) -> Void
        /// Whether the group still has a replica here.
        var isHosted: @Sendable (GroupID) -> Bool
        /// Bytes that are free where the store is, nil when unknown; blocking.
        var freeBytes: @Sendable () -> UInt64?
        /// The store failed while a snapshot was written: the node must stop serving.
        var storeFailed: @Sendable (ConsensusError) -> Void
    }

    /// Why a pull was given up.
    struct PullError: CausedError, CustomStringConvertible {
        enum Code: String, Sendable, CaseIterable {
            /// The peer or the way to it: tried again.
            case cut
            /// The bytes are not what was sent: tried again.
            case damaged
            /// Too little room is left on the disk: free some, the leader offers again.
            case diskFull = "disk_full"
            /// Another history than this replica's: never overwritten; compare the replicas.
            case fork
            /// The chunks are whole but not the state that was announced: tried again from the start by a new offer.
            case mismatch
            /// The store failed: the node stops.
            case storage
            /// What this replica holds is damaged: verify it.
            case damagedLedger = "damaged_ledger"
            /// The host took no snapshot: the group is gone, or something newer was there.
            case notTaken = "not_taken"
        }

        let code: Code
        let group: GroupID
        let message: String
        let cause: (any Error)?

        var description: String { "snapshot of group \(self.group) \(self.code.rawValue): \(self.message)" }
        /// Whether trying again at once can help.
        var isRetriable: Bool { self.code == .cut || self.code == .damaged }
    }

    /// A pull that goes on or waits.
    struct Pull: Sendable, Equatable {
        let group: GroupID
        var from: NodeID
        var mark: SnapshotMark
        /// Zero while it waits for its turn.
        var attempt = 0
        var bytes: UInt64 = 0
        var records: UInt64 = 0
        var recordsTotal: UInt64 = 0
    }

    private struct State {
        var waiting: [GroupID] = []
        var pulls: [GroupID: Pull] = [:]
        /// Offers that came while their group's pull went on: the host is done with that one already.
        var next: [GroupID: Pull] = [:]
        var active = 0
    }

    /// Pulls at once: one fewer than the threads for blocking calls, so that reads go on.
    static let pullsMax = 3
    /// Groups that may wait; further offers are answered as failed and come again.
    static let waitingMax = 8192
    /// Attempts of one pull.
    static let attemptsMax = 5
    /// Before an attempt that follows a failed one, times its number.
    static let retryPause = Duration.milliseconds(500)
    /// Before the host is told that a pull failed, which lets the leader offer again.
    static let failurePause = Duration.seconds(5)
    /// The same when trying again helps nothing until somebody acts.
    static let hopelessPause = Duration.seconds(60)
    /// Largest chunk that is taken, in bytes: a chunk holds one record at least, whatever its size.
    static let chunkBytesMax = 32 << 20
    /// Bytes that must stay free on the disk for the log and for compactions.
    static let reserveBytes: UInt64 = 256 << 20
    /// Bytes of a snapshot after which the disk is looked at again.
    static let lookBytes: UInt64 = 64 << 20

    private let surroundings: Surroundings
    private let threads: StoreThreads
    private let metrics: PeerMetrics
    private let logger: Logger
    private let clock: any Clock<Duration>
    private let state = Mutex(State())
    private let changes: AsyncStream<Void>
    private let changed: AsyncStream<Void>.Continuation

    init(
        surroundings: Surroundings,
        threads: StoreThreads,
        metrics: PeerMetrics,
        logger: Logger,
        clock: any Clock<Duration> = NodeClock.monotonic
    ) {
        self.surroundings = surroundings
        self.threads = threads
        self.metrics = metrics
        self.logger = logger
        self.clock = clock
        (self.changes, self.changed) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        metrics.observe(self)
    }

    /// The pulls that go on or wait, by group.
    var pulls: [Pull] { self.state.withLock { $0.pulls.values.sorted { $0.group < $1.group } } }

    /// Takes an offer of a leader; returns at once.
    func offered(_ group: GroupID, by peer: NodeID, _ offer: RaftMessage.SnapshotOffer) {
        let pull = Pull(group: group, from: peer, mark: offer.mark)
        let isTaken = self.state.withLock { state in
            if let known = state.pulls[group] {
                if known.attempt == 0 { state.pulls[group] = pull } else { state.next[group] = pull }
                return true
            }
            guard state.waiting.count < Self.waitingMax else { return false }
            state.pulls[group] = pull
            state.waiting.append(group)
            return true
        }
        if isTaken { self.changed.yield() } else { self.surroundings.installFailed(group) }
    }

    /// Pulls until cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            for await _ in self.changes {
                while let pull = self.nextTurn() {
                    group.addTask {
                        let isInstalled = await self.pull(pull)
                        self.end(pull.group, isInstalled: isInstalled)
                    }
                }
            }
            group.cancelAll()
        }
    }

    private func nextTurn() -> Pull? {
        self.state.withLock { state in
            guard state.active < Self.pullsMax, !state.waiting.isEmpty else { return nil }
            state.active += 1
            let group = state.waiting.removeFirst()
            state.pulls[group]?.attempt = 1
            return state.pulls[group]
        }
    }

    /// The host is told of a failure only when the group is free for another offer, or it would be lost.
    private func end(_ group: GroupID, isInstalled: Bool) {
        let tellsHost = self.state.withLock { state in
            state.active -= 1
            state.pulls[group] = state.next.removeValue(forKey: group)
            guard state.pulls[group] != nil else { return !isInstalled }
            state.waiting.append(group)
            return false
        }
        if tellsHost { self.surroundings.installFailed(group) }
        self.changed.yield()
    }

    private func note(_ group: GroupID, _ change: (inout Pull) -> Void) {
        self.state.withLock { state in
            guard var pull = state.pulls[group] else { return }
            change(&pull)
            state.pulls[group] = pull
        }
    }

    // MARK: One pull

    /// - Returns: Whether the group goes on from the snapshot.
    private func pull(_ pull: Pull) async -> Bool {
        self.logger.info(
            "snapshot begins",
            metadata: [
                "raft.group": "\(pull.group)", "peer.id": "\(pull.from)", "raft.index": "\(pull.mark.index)",
            ]
        )
        do {
            let mark = try await self.attempts(pull)
            self.metrics.snapshotEnded("installed")
            self.logger.info(
                "snapshot installed",
                metadata: ["raft.group": "\(pull.group)", "peer.id": "\(pull.from)", "raft.index": "\(mark.index)"]
            )
            return true
        } catch {
            await self.giveUp(pull, error)
            return false
        }
    }

    private func giveUp(_ pull: Pull, _ error: PullError) async {
        self.metrics.snapshotEnded(error.code.rawValue)
        let metadata: Logger.Metadata = [
            "raft.group": "\(pull.group)", "peer.id": "\(pull.from)", "error.chain": "\(errorChain(error))",
        ]
        switch error.code {
        case .cut, .notTaken: self.logger.info("snapshot given up", metadata: metadata)
        case .damaged, .mismatch: self.logger.warning("snapshot given up", metadata: metadata)
        case .diskFull: self.logger.error("snapshot given up: the disk is almost full", metadata: metadata)
        case .fork: self.logger.critical("snapshot refused: replicas hold different histories", metadata: metadata)
        case .damagedLedger: self.logger.error("snapshot given up: this replica is damaged", metadata: metadata)
        case .storage:
            self.logger.critical("snapshot failed in the store: this node stops", metadata: metadata)
            let message = "a snapshot could not be stored; this node stops serving"
            self.surroundings.storeFailed(
                ConsensusError(code: .store, message: message, group: pull.group, cause: error)
            )
        }
        let isHopeless = [.fork, .diskFull, .damagedLedger].contains(error.code)
        try? await self.clock.sleep(for: isHopeless ? Self.hopelessPause : Self.failurePause)
    }

    private func attempts(_ pull: Pull) async throws(PullError) -> SnapshotMark {
        for attempt in 1... {
            self.note(pull.group) { $0.attempt = attempt }
            do throws(PullError) {
                return try await self.attempt(pull)
            } catch {
                guard error.isRetriable, attempt < Self.attemptsMax, !Task.isCancelled else { throw error }
                self.logger.debug(
                    "snapshot cut",
                    metadata: ["raft.group": "\(pull.group)", "error.chain": "\(errorChain(error))"]
                )
            }
            try? await self.clock.sleep(for: Self.retryPause * attempt)
        }
        throw self.error(.cut, pull.group, "no attempt was made", nil)
    }

    private func attempt(_ pull: Pull) async throws(PullError) -> SnapshotMark {
        let group = pull.group
        do {
            let make = self.surroundings.installer
            // What an installer has staged stays when it is let go of: the next attempt, or start, goes on with it.
            return try await self.attempt(pull, try await self.threads.run { try make(group) })
        } catch let error as PullError {
            throw error
        } catch {
            throw self.meaning(of: error, group)
        }
    }

    private func attempt(_ pull: Pull, _ installer: any SnapshotInstalling) async throws -> SnapshotMark {
        let group = pull.group
        try await self.requireRoom(group)
        var request = WireSnapshotRequest()
        request.group = group.rawValue
        request.have = Data(try await self.threads.run { try installer.requestBytes() })
        var cutter = RaftFrameCutter(frameBytesMax: Self.chunkBytesMax)
        var sinceLook: UInt64 = 0
        try await self.surroundings.fetch(pull.from, request) { bytes in
            for chunk in try cutter.feed(bytes) {
                guard self.surroundings.isHosted(group) else {
                    throw self.error(.notTaken, group, "the group's replica here was removed", nil)
                }
                let bytes = [UInt8](chunk.readableBytesView)
                try await self.threads.run { try installer.accept(bytes) }
                self.took(bytes.count, of: group, installer)
                sinceLook += UInt64(bytes.count)
                guard sinceLook >= Self.lookBytes else { continue }
                sinceLook = 0
                try await self.requireRoom(group)
            }
        }
        let mark = try await self.threads.run { try installer.seal() }
        try await self.surroundings.install(group, mark) { try installer.switchState() }
        return mark
    }

    private func took(_ count: Int, of group: GroupID, _ installer: any SnapshotInstalling) {
        self.metrics.snapshotBytesReceived.increment(by: count)
        let (records, total) = installer.received
        self.note(group) { pull in
            pull.bytes += UInt64(count)
            pull.records = records
            pull.recordsTotal = total
        }
    }

    private func requireRoom(_ group: GroupID) async throws {
        let look = self.surroundings.freeBytes
        guard let free = try await self.threads.run({ look() }), free < Self.reserveBytes else { return }
        throw self.error(
            .diskFull,
            group,
            "\(free >> 20) MiB are free on the disk of the data directory, \(Self.reserveBytes >> 20) MiB must stay free",
            nil
        )
    }

    // MARK: Errors

    private func error(
        _ code: PullError.Code,
        _ group: GroupID,
        _ message: String,
        _ cause: (any Error)?
    ) -> PullError {
        PullError(code: code, group: group, message: message, cause: cause)
    }

    private func meaning(of error: any Error, _ group: GroupID) -> PullError {
        switch error {
        case let error as SnapshotError: self.meaning(of: error, group)
        case let error as StorageError where error.code == .busy || error.code == .closed:
            self.error(.cut, group, "too many reads wait, or the node stops", error)
        case let error as StorageError: self.storage(error, group, error.code == .full)
        case let error as ProposalError: self.meaning(of: error, group)
        case is RaftFrameError: self.error(.damaged, group, "the stream is no snapshot", error)
        default: self.error(.cut, group, "the stream was cut", error)
        }
    }

    private func meaning(of error: ProposalError, _ group: GroupID) -> PullError {
        // Switching the state failed, for a reason of its own.
        if case .failed = error.code, let cause = error.cause, cause is SnapshotError || cause is StorageError {
            return self.meaning(of: cause, group)
        }
        return self.error(.notTaken, group, "the host took no snapshot", error)
    }

    private func storage(_ error: any Error, _ group: GroupID, _ isFull: Bool) -> PullError {
        let message =
            isFull
            ? "the disk is full; this node stops serving: make room and start it again"
            : "the store failed; this node stops serving: start it again"
        return self.error(.storage, group, message, error)
    }

    private func meaning(of error: SnapshotError, _ group: GroupID) -> PullError {
        switch error.code {
        case .damagedChunk, .outOfOrder: self.error(.damaged, group, "a chunk came damaged", error)
        case .fork: self.error(.fork, group, "the leader's ledger has another history than this replica's", error)
        case .mismatch: self.error(.mismatch, group, "what came is not what was announced", error)
        case .storage: self.storage(error, group, (error.cause as? StorageError)?.code == .full)
        case .damaged: self.error(.damagedLedger, group, "stored bytes are damaged: verify this replica", error)
        case .behind, .superseded: self.error(.notTaken, group, "this replica has as much already", error)
        case .unsupported:
            self.error(.mismatch, group, "the snapshot is of a form that this program does not know", error)
        }
    }
}
