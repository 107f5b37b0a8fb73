internal import Consensus
internal import CoreMetrics
internal import Foundation
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Synchronization
internal import Transport

/// What a snapshot is read from; calls may block.
protocol SnapshotSource: Sendable {
    /// - Returns: The next chunk, nil after the last.
    func next() throws -> [UInt8]?
}

/// Sends snapshots of this node's groups to replicas that lack entries which are no longer in the log.
///
/// The answer to a request is a stream of chunks, each after its length as a UInt32; where it ends well it is whole.
/// All streams together stay below one rate, so that appends and reads go on; a receiver that is slow holds up its own
/// stream only. Chunks are read on the store's threads.
struct SnapshotSender: Sendable {
    /// Snapshots that are sent at once, to two nodes that are being filled; more are refused and asked for again.
    static let streamsMax = 2 * SnapshotPuller.pullsMax

    /// How many streams there are.
    private final class Streams: Sendable {
        private let count = Mutex(0)

        func begin() -> Bool {
            self.count.withLock { count in
                guard count < SnapshotSender.streamsMax else { return false }
                count += 1
                return true
            }
        }

        func end() { self.count.withLock { $0 -= 1 } }
    }

    private let open: @Sendable (WireSnapshotRequest) async throws -> any SnapshotSource
    private let onFailure: @Sendable (GroupID, NodeID) -> Void
    private let onUnreadable: @Sendable (GroupID, OrganizationID?) async -> Void
    private let threads: StoreThreads
    private let rate: TokenBucket
    private let metrics: PeerMetrics
    private let logger: Logger
    private let clock: any Clock<Duration>
    private let streams = Streams()

    /// - Parameters:
    ///   - open: Begins a snapshot for what a request says that the other side has.
    ///   - onFailure: Told when a stream ended before its end.
    ///   - onUnreadable: Told when this node cannot read its own state, and of which organization, when it is of one:
    ///     others should lead, or the replica that asks is never filled.
    init(
        open: @escaping @Sendable (WireSnapshotRequest) async throws -> any SnapshotSource,
        onFailure: @escaping @Sendable (GroupID, NodeID) -> Void,
        onUnreadable: @escaping @Sendable (GroupID, OrganizationID?) async -> Void,
        threads: StoreThreads,
        rate: TokenBucket,
        metrics: PeerMetrics,
        logger: Logger,
        clock: any Clock<Duration> = NodeClock.monotonic
    ) {
        self.open = open
        self.onFailure = onFailure
        self.onUnreadable = onUnreadable
        self.threads = threads
        self.rate = rate
        self.metrics = metrics
        self.logger = logger
        self.clock = clock
    }

    /// Answers a peer's request for a snapshot.
    func answer(_ body: ByteBuffer, to peer: NodeID) async -> ServerResponse {
        guard let request = try? WireSnapshotRequest(serializedBytes: Data(buffer: body)) else {
            return ServerResponse(status: .badRequest)
        }
        let group = GroupID(request.group)
        guard self.streams.begin() else {
            return ServerResponse(
                status: .serviceUnavailable,
                headerFields: PeerHandshake.fields(reason: "\(Self.streamsMax) snapshots are being sent already")
            )
        }
        let source: any SnapshotSource
        do {
            source = try await self.open(request)
        } catch {
            self.streams.end()
            await self.note("snapshot not given", error, group, peer)
            return ServerResponse(
                status: error is MalformedBytes ? .badRequest : .serviceUnavailable,
                headerFields: PeerHandshake.fields(reason: String(describing: error))
            )
        }
        return ServerResponse(
            status: .ok,
            body: .stream { writer in
                defer { self.streams.end() }
                do {
                    try await self.send(source, to: writer)
                    return nil
                } catch {
                    self.onFailure(group, peer)
                    if error is SnapshotError { await self.note("snapshot cut short", error, group, peer) }
                    throw error
                }
            }
        )
    }

    /// A state that cannot be read is for an operator, and for another leader: while this node leads, replicas that need
    /// it cannot be filled.
    private func note(_ what: Logger.Message, _ error: any Error, _ group: GroupID, _ peer: NodeID) async {
        let isOwnFault = (error as? SnapshotError).map { [.storage, .damaged].contains($0.code) } ?? false
        self.logger.log(
            level: isOwnFault ? .error : .info,
            what,
            metadata: ["raft.group": "\(group)", "peer.id": "\(peer)", "error.chain": "\(errorChain(error))"]
        )
        if isOwnFault { await self.onUnreadable(group, (error as? SnapshotError)?.organization) }
    }

    private func send(_ source: any SnapshotSource, to writer: ResponseBodyWriter) async throws {
        while let chunk = try await self.threads.run({ try source.next() }) {
            try await self.clock.sleep(for: self.rate.take(chunk.count, at: NodeClock.monotonic.now))
            var frame = ByteBufferAllocator().buffer(capacity: RaftFrame.lengthByteCount + chunk.count)
            frame.writeInteger(UInt32(chunk.count))
            frame.writeBytes(chunk)
            try await writer.write(frame)
            self.metrics.snapshotBytesSent.increment(by: chunk.count)
        }
    }
}
