internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Synchronization
internal import Testing
internal import Transport

@testable internal import NodeRuntime

/// What was logged, and waiting for it.
private final class LogWatch: Sendable {
    private struct State {
        var lines: [String] = []
        var waiting: [(text: String, count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    struct Handler: LogHandler {
        let watch: LogWatch
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let details = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            self.watch.add(([event.message.description] + details).joined(separator: " "))
        }
    }

    var logger: Logger { Logger(label: "test") { _ in Handler(watch: self) } }

    private func add(_ line: String) {
        let due = self.state.withLock { state in
            state.lines.append(line)
            let lines = state.lines
            let due = state.waiting.filter { Self.count($0.text, lines) >= $0.count }
            state.waiting.removeAll { Self.count($0.text, lines) >= $0.count }
            return due
        }
        for waiter in due { waiter.continuation.resume() }
    }

    /// Waits for the `count`-th line, logged already or to come, that contains `text`.
    func wait(for text: String, count: Int = 1) async {
        await withCheckedContinuation { continuation in
            let isThere = self.state.withLock { state in
                if Self.count(text, state.lines) >= count { return true }
                state.waiting.append((text, count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    func count(_ text: String) -> Int { self.state.withLock { Self.count(text, $0.lines) } }

    private static func count(_ text: String, _ lines: [String]) -> Int { lines.count { $0.contains(text) } }
}

/// Answers raft streams through a door; other requests by saying so.
private struct DoorRouter: RequestRouter {
    let door: PeerDoor
    let received: AsyncStream<[HostMessage]>.Continuation
    let snapshots: SnapshotSender?
    /// Leaves entries unread.
    let isStuck: Bool

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        let peer: NodeID
        do throws(PeerRefusal) {
            peer = try self.door.admit(head, connection)
        } catch {
            return .immediate(self.door.refuse(error, connection))
        }
        switch head.path {
        case PeerPath.appends where self.isStuck:
            return .streaming { request in
                let body = ServerResponse.Body.stream { _ in
                    let (never, end) = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .bufferingNewest(1))
                    for await _ in never {}
                    withExtendedLifetime((end, request)) {}
                    return nil
                }
                return ServerResponse(status: .ok, headerFields: self.door.handshake.fields, body: body)
            }
        case PeerPath.control, PeerPath.appends:
            return self.door.raftStream(from: peer) { self.received.yield($0) }
        case PeerPath.snapshot:
            guard let snapshots = self.snapshots else { return .immediate(ServerResponse(status: .notFound)) }
            return .collected(bodyBytesMax: 1000) { _, body in
                self.door.introduced(await snapshots.answer(body, to: peer))
            }
        default:
            return .collected(bodyBytesMax: 1000) { _, _ in
                var answer = WireJoinResponse()
                answer.epoch = 9
                let bytes = (try? [UInt8](answer.serializedBytes() as Data)) ?? []
                return self.door.introduced(ServerResponse(status: .ok, body: .bytes(ByteBuffer(bytes: bytes))))
            }
        }
    }
}

/// One node's links and, for a server, its port.
private struct PeerNode {
    let links: PeerLinks
    let door: PeerDoor
    let log = LogWatch()
    let registry = PrometheusRegistry()
    let messages: AsyncStream<[HostMessage]>
    private let received: AsyncStream<[HostMessage]>.Continuation
    private let tls: ReloadableTLSContext

    init(
        _ node: UInt64,
        in folder: PKIFolder,
        cluster: String = "lab",
        epoch: UInt64 = 0,
        peers: [PeerLinks.Peer] = [],
        bounds: PeerLinks.Bounds = PeerLinks.Bounds()
    ) throws {
        let name = PKIFolder.name(of: NodeID(node))
        let client = try ReloadableTLSContext(
            client: TLSClientConfiguration(
                caFile: folder.certificateFile("ca"),
                identity: TLSClientConfiguration.Identity(
                    certificateChainFile: folder.certificateFile(name),
                    privateKeyFile: folder.keyFile(name)
                )
            )
        )
        self.tls = try ReloadableTLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: folder.certificateFile(name),
                privateKeyFile: folder.keyFile(name),
                clients: .peers(caFile: folder.certificateFile("ca")),
                acceptsPeer: { _ in true }
            )
        )
        let handshake = PeerHandshake(cluster: cluster, node: NodeID(node), epoch: epoch)
        let metrics = PeerMetrics(registry: self.registry)
        self.links = PeerLinks(
            handshake: handshake,
            seeds: peers,
            client: HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, tls: client, limits: .peers),
            metrics: metrics,
            logger: self.log.logger,
            bounds: bounds
        )
        self.door = PeerDoor(
            handshake: handshake,
            links: self.links,
            met: MetPeers(known: []) { _ in },
            metrics: metrics,
            logger: self.log.logger
        )
        (self.messages, self.received) = AsyncStream.makeStream(bufferingPolicy: .unbounded)
    }

    func withServer(
        snapshots: SnapshotSender? = nil,
        isStuck: Bool = false,
        _ body: (Int) async throws -> Void
    ) async throws {
        let server = HTTPServer(
            host: "127.0.0.1",
            port: 0,
            tls: self.tls,
            limits: .peers,
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            router: DoorRouter(
                door: self.door,
                received: self.received,
                snapshots: snapshots,
                isStuck: isStuck
            )
        )
        let port = try await server.start()
        do {
            try await body(port)
        } catch {
            await server.shutdown(graceful: false)
            throw error
        }
        await server.shutdown(graceful: false)
    }

    func withRunning(_ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.links.run() }
            try await body()
            group.cancelAll()
        }
    }

    func metric(_ line: String) -> Bool { self.registry.render().contains(line) }
}

@Suite("Links between nodes", .timeLimit(.minutes(10)))
struct PeersLinksTests {
    private typealias Fixture = FrameFixture

    /// A folder with certificates of nodes 1, 2 and 3 of cluster `lab`.
    private func withPKI(_ body: (PKIFolder) async throws -> Void) async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("links-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let folder = PKIFolder(path: path)
        let now = SystemTime.now()
        try folder.initialize(cluster: "lab", days: 3, now: now, replacing: false)
        for node in 1...3 as ClosedRange<UInt64> {
            try folder.issueNode(NodeID(node), hosts: ["127.0.0.1"], days: 3, now: now, replacing: false)
        }
        try await body(folder)
    }

    private func peer(_ node: UInt64, _ port: Int, name: UInt64? = nil) -> PeerLinks.Peer {
        let expected = PeerIdentity.dnsName(node: NodeID(name ?? node), cluster: "lab")
        return PeerLinks.Peer(id: NodeID(node), host: "127.0.0.1", port: port, expectedName: expected)
    }

    /// Runs node 1 against the server of node 2.
    private func withPair(
        epoch: UInt64 = 0,
        cluster: String = "lab",
        _ body: (_ here: PeerNode, _ there: PeerNode, _ port: Int) async throws -> Void
    ) async throws {
        try await self.withPKI { folder in
            let there = try PeerNode(2, in: folder)
            try await there.withServer { port in
                there.links.update(nodes: [self.peer(1, 1)], removed: [])
                let here = try PeerNode(
                    1,
                    in: folder,
                    cluster: cluster,
                    epoch: epoch,
                    peers: [self.peer(2, port)]
                )
                try await here.withRunning { try await body(here, there, port) }
            }
        }
    }

    @Test func everyKindOfMessageArrives() async throws {
        try await self.withPair { here, there, _ in
            await here.log.wait(for: "peer link up")
            here.links.send(Fixture.everyKind, to: NodeID(2))
            var arrived: [HostMessage] = []
            for await messages in there.messages {
                arrived += messages
                if arrived.count == Fixture.everyKind.count { break }
            }
            #expect(Set(arrived) == Set(Fixture.everyKind))
            #expect(here.links.isConnected(to: NodeID(2)))
        }
    }

    @Test func aMismatchIsRefusedWithItsReasonOnBothSides() async throws {
        try await self.withPair(epoch: 3) { here, there, _ in
            await here.log.wait(for: "refused by peer")
            await there.log.wait(for: "peer refused")
            #expect(here.log.count("peer.refusal=wrong_epoch") == 1)
            #expect(there.log.count("node 1 is of recovery epoch 3, node 2 of 0") == 1)
            #expect(here.metric(#"ft_peer_refusals_total{reason="wrong_epoch",side="client"}"#))
            #expect(there.metric(#"ft_peer_refusals_total{reason="wrong_epoch",side="server"}"#))
            #expect(!here.links.isConnected(to: NodeID(2)))
        }
        try await self.withPair(cluster: "other") { here, there, _ in
            await here.log.wait(for: "peer.refusal=wrong_cluster")
            await there.log.wait(for: "peer.refusal=wrong_cluster")
        }
    }

    /// One authority may have signed for two clusters.
    @Test func aCertificateOfAnotherClusterIsRefused() async throws {
        try await self.withPKI { folder in
            let there = try PeerNode(2, in: folder, cluster: "other", peers: [self.peer(1, 1)])
            try await there.withServer { port in
                let here = try PeerNode(1, in: folder, peers: [self.peer(2, port)])
                try await here.withRunning {
                    await here.log.wait(for: "peer.refusal=wrong_certificate")
                    await there.log.wait(for: "the certificate is of no other node of cluster other")
                    #expect(there.log.count("peer.id=unknown") == 1)
                }
            }
        }
    }

    @Test func whoIsNotKnownIsRefusedUntilItIs() async throws {
        try await self.withPair { here, there, _ in
            await here.log.wait(for: "peer link up")
            there.links.update(nodes: [], removed: [])
            here.links.send([Fixture.message(.timeoutNow)], to: NodeID(2))
            await here.log.wait(for: "peer.refusal=unknown_node")
            await there.log.wait(for: "node 2 knows no node 1 of cluster lab")
            there.links.update(nodes: [self.peer(1, 1)], removed: [])
            await here.log.wait(for: "peer link up", count: 2)
        }
    }

    @Test func aRemovedNodeIsCutOffWhileItTalks() async throws {
        try await self.withPair { here, there, _ in
            await here.log.wait(for: "peer link up")
            there.links.update(nodes: [self.peer(3, 1)], removed: [NodeID(1)])
            here.links.send([Fixture.message(.timeoutNow)], to: NodeID(2))
            await here.log.wait(for: "peer.refusal=removed_node")
            await there.log.wait(for: "node 1 was removed from cluster lab")
            #expect(there.links.admission(of: NodeID(1))?.code == .removedNode)
            #expect(there.links.admission(of: NodeID(3)) == nil)
            #expect(there.links.admission(of: NodeID(7))?.code == .unknownNode)
        }
    }

    @Test func nonsenseEndsTheStreamWithItsReason() async throws {
        try await self.withPair { here, there, port in
            await here.log.wait(for: "peer link up")
            let peer = self.peer(2, port)
            let nonsense: [(UInt32, [UInt8], PeerRefusal.Code)] = [
                (4, [9, 1, 2, 0], .wrongVersion), (4, [1, 3, 2, 0], .malformed), (.max, [], .malformed),
            ]
            for (length, bytes, code) in nonsense {
                try await here.links.withConnection(to: peer) { connection in
                    let stream = try connection.openStream(here.links.head(PeerPath.appends, to: peer))
                    var frame = ByteBuffer()
                    frame.writeInteger(length)
                    frame.writeBytes(bytes)
                    #expect(stream.tryWrite(frame))
                    let answer = try await stream.response()
                    for try await _ in answer.body {}
                    let refusal = answer.trailers.flatMap { PeerHandshake.refusal(in: $0) }
                    #expect(refusal?.code == code)
                }
            }
            #expect(there.metric(#"ft_peer_frames_malformed_total{reason="oversized"} 1"#))
            #expect(here.links.isConnected(to: NodeID(2)))
        }
    }

    @Test func aNewNodeMayAskToJoinAndARemovedOneMayNot() async throws {
        try await self.withPair { here, there, port in
            await here.log.wait(for: "peer link up")
            there.links.update(nodes: [], removed: [])
            func join() async throws -> WireJoinResponse {
                try await here.links.callOnce(
                    PeerPath.join,
                    at: self.peer(2, port),
                    WireJoinRequest(),
                    timeout: .seconds(20)
                )
            }
            let answer = try await join()
            #expect(answer.epoch == 9)
            there.links.update(nodes: [], removed: [NodeID(1)])
            let error = await #expect(throws: PeerError.self) { try await join() }
            #expect(error?.code == .refused)
            #expect((error?.cause as? PeerRefusal)?.code == .removedNode)
        }
    }

    @Test func linksFollowTheTableOfNodes() async throws {
        try await self.withPair { here, _, port in
            await here.log.wait(for: "peer link up")
            #expect(here.links.peers == [NodeID(2)])
            here.links.update(nodes: [self.peer(1, 9), self.peer(3, port, name: 2)], removed: [])
            // The configured peer stays, this node is not its own peer.
            #expect(here.links.peers == [NodeID(2), NodeID(3)])
            here.links.update(nodes: [], removed: [NodeID(2)])
            #expect(here.links.peers.isEmpty)
            #expect(!here.links.isConnected(to: NodeID(2)))
            let lost = Mutex<[NodeID]>([])
            here.links.reportUnreachable { peer in lost.withLock { $0.append(peer) } }
            here.links.send([Fixture.message(.timeoutNow)], to: NodeID(2))
            #expect(lost.withLock { $0 } == [NodeID(2)])
        }
    }

    @Test func aLinkComesUpAgainAfterItsServerWasAway() async throws {
        try await self.withPKI { folder in
            let there = try PeerNode(2, in: folder, peers: [self.peer(1, 1)])
            let here = try PeerNode(1, in: folder)
            try await here.withRunning {
                try await there.withServer { port in
                    here.links.update(nodes: [self.peer(2, port)], removed: [])
                    await here.log.wait(for: "peer link up")
                }
                await here.log.wait(for: "peer link down")
                // Another address: the old link ends, a new one begins.
                try await there.withServer { port in
                    here.links.update(nodes: [self.peer(2, port)], removed: [])
                    await here.log.wait(for: "peer link up", count: 2)
                }
            }
        }
    }

    @Test func entriesOverTheBoundAreDroppedAndReportedButVotesArrive() async throws {
        try await self.withPKI { folder in
            let there = try PeerNode(2, in: folder, peers: [self.peer(1, 1)])
            try await there.withServer(isStuck: true) { port in
                let bounds = PeerLinks.Bounds(appendBytesMax: 2 << 20, controlBytesMax: 1 << 20)
                let here = try PeerNode(1, in: folder, peers: [self.peer(2, port)], bounds: bounds)
                let lost = Mutex(0)
                here.links.reportUnreachable { _ in lost.withLock { $0 += 1 } }
                try await here.withRunning {
                    await here.log.wait(for: "peer link up")
                    let large = Fixture.message(Fixture.append([[UInt8](repeating: 1, count: 1 << 20)]), group: 2)
                    var sent = 0
                    // What the receiver's window and the bound let pass is far less than this.
                    while lost.withLock({ $0 }) == 0, sent < 1000 {
                        here.links.send([large, Fixture.message(.readRequest(token: UInt64(sent)))], to: NodeID(2))
                        sent += 1
                    }
                    #expect(sent > 1 && sent < 1000)
                    #expect(here.metric("ft_peer_appends_dropped_total 1"))
                    #expect(here.links.isConnected(to: NodeID(2)))
                    var tokens: [HostMessage] = []
                    for await messages in there.messages {
                        tokens += messages
                        if tokens.count == sent { break }
                    }
                    #expect(tokens == (0..<sent).map { Fixture.message(.readRequest(token: UInt64($0))) })
                }
            }
        }
    }

    /// Chunks of 100,000 bytes, and where the snapshot was cut.
    private final class ChunkSource: SnapshotSource {
        private let left = Mutex(20)

        func next() throws -> [UInt8]? {
            self.left.withLock { left in
                guard left > 0 else { return nil }
                left -= 1
                return [UInt8](repeating: UInt8(left), count: 100_000)
            }
        }
    }

    @Test func aSnapshotComesWholeAtItsRateOrNotAtAll() async throws {
        try await self.withPKI { folder in
            let there = try PeerNode(2, in: folder, peers: [self.peer(1, 1)])
            let threads = try StoreThreads(name: "test", count: 1, queuedMax: 100)
            defer { threads.shutdown() }
            let clock = SkippingClock()
            let unreadable = Mutex<[GroupID: OrganizationID?]>([:])
            let sender = SnapshotSender(
                open: { request in
                    if request.group == 7 {
                        throw SnapshotError(code: .damaged, message: "test", organization: OrganizationID(3))
                    }
                    guard request.group == 5 else { throw MalformedBytes(what: "request", offset: 0) }
                    return ChunkSource()
                },
                onFailure: { _, _ in },
                onUnreadable: { group, organization in unreadable.withLock { $0[group] = organization } },
                threads: threads,
                rate: TokenBucket(bytesPerSecond: 1, burst: .seconds(100_000), now: NodeClock.monotonic.now),
                metrics: there.door.metrics,
                logger: there.log.logger,
                clock: clock
            )
            try await there.withServer(snapshots: sender) { port in
                let here = try PeerNode(1, in: folder, peers: [self.peer(2, port)])
                var request = WireSnapshotRequest()
                request.group = 5
                var cutter = RaftFrameCutter()
                var chunks: [ByteBuffer] = []
                try await here.links.fetchSnapshot(from: NodeID(2), request) { chunks += try cutter.feed($0) }
                #expect(chunks.count == 20)
                #expect(chunks.map { $0.getInteger(at: 0, as: UInt8.self) } == (0..<20).reversed().map { UInt8($0) })
                #expect(there.metric("ft_snapshot_sent_bytes_total 2000000"))
                // The first chunk is the burst; each later one waits a day and more behind those before it.
                #expect(clock.sleeps.count == 20)
                #expect(clock.sleeps[0] == .zero)
                #expect(clock.sleeps[19] > .seconds(1_800_000))
                request.group = 6
                do {
                    try await here.links.fetchSnapshot(from: NodeID(2), request) { _ in }
                    Issue.record("a group that is not there gave a snapshot")
                } catch let error as PeerError {
                    #expect(error.code == .malformedAnswer)
                }
                var told = unreadable.withLock { $0 }
                #expect(told.isEmpty, "the request was wrong, not this node's state")
                request.group = 7
                await #expect(throws: PeerError.self) {
                    try await here.links.fetchSnapshot(from: NodeID(2), request) { _ in }
                }
                told = unreadable.withLock { $0 }
                #expect(told == [GroupID(7): OrganizationID(3)])
            }
        }
    }
}
