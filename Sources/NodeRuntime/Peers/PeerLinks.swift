internal import Consensus
internal import CoreMetrics
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import Primitives
internal import Synchronization
internal import Transport

/// The links of this node to all others: one connection each, with long streams for consensus messages and short
/// requests beside them.
///
/// The set of peers changes at run time: it begins with the configured ones and follows the cluster's table of nodes
/// (``update(nodes:removed:)``). ``run()`` keeps the connections up, one task a peer, with a pause that doubles up to
/// ``pauseMax`` after each failure. A link counts as up once the peer has accepted its streams and both sides have
/// checked each other's handshake.
///
/// Consensus messages of one turn cost one buffer a stream, one lock, and at most one wake-up of the connection's
/// event loop, which sends all streams' frames in one TLS write.
final class PeerLinks: PeerTransport {
    /// One other node.
    struct Peer: Sendable, Hashable {
        let id: NodeID
        let host: String
        let port: Int
        /// The DNS name that its certificate must carry.
        let expectedName: String

        init(id: NodeID, host: String, port: Int, expectedName: String) {
            self.id = id
            self.host = host
            self.port = port
            self.expectedName = expectedName
        }

        /// A peer whose certificate is that of node `id` of `cluster`.
        init(id: NodeID, host: String, port: Int, cluster: String) {
            self.init(
                id: id,
                host: host,
                port: port,
                expectedName: PeerIdentity.dnsName(node: id, cluster: cluster)
            )
        }
    }

    /// The streams of an accepted link.
    struct Streams: Sendable {
        let connection: HTTPClientConnection
        let control: OutboundStream
        let appends: [OutboundStream]
    }

    final class Link: Sendable {
        struct State {
            var connection: HTTPClientConnection?
            /// Present once the peer has accepted them.
            var streams: Streams?
            /// No longer wanted: its task ends.
            var isRetired = false
        }

        let peer: Peer
        let state = Mutex(State())

        init(peer: Peer) { self.peer = peer }

        var isRetired: Bool { self.state.withLock { $0.isRetired } }

        func retire() {
            let connection = self.state.withLock { state in
                state.isRetired = true
                state.streams = nil
                defer { state.connection = nil }
                return state.connection
            }
            connection?.close()
        }
    }

    private struct State {
        var links: [NodeID: Link]
        /// Links that no task keeps up yet.
        var fresh: [Link]
        var removed: Set<NodeID> = []
    }

    /// What may wait for one peer, in bytes.
    struct Bounds: Sendable {
        /// Entries, over all streams; beyond, they are dropped and reported.
        var appendBytesMax = 64 << 20
        /// Other messages; they are never dropped, beyond this the link is cut.
        var controlBytesMax = 16 << 20
    }

    /// The first pause after a failed connection.
    static let pauseMin = Duration.milliseconds(100)
    /// The longest pause between two attempts.
    static let pauseMax = Duration.seconds(2)
    /// Streams for entries; the groups are spread over them, so that one group's large entries do not hold up all.
    static let appendStreams = 2
    /// How long a peer may take to accept a stream.
    static let acceptTimeout = Duration.seconds(5)

    let handshake: PeerHandshake
    let client: HTTPClient
    let metrics: PeerMetrics
    let logger: Logger
    private let bounds: Bounds
    private let seeds: [NodeID: Peer]
    private let clock: any Clock<Duration>
    private let state: Mutex<State>
    private let changes: AsyncStream<Void>
    private let changed: AsyncStream<Void>.Continuation
    /// Told when messages for a peer had to be dropped.
    private let onUnreachable = Relay<NodeID>()

    /// - Parameter seeds: The configured members besides this node; they stay known until they are removed.
    init(
        handshake: PeerHandshake,
        seeds: [Peer],
        client: HTTPClient,
        metrics: PeerMetrics,
        logger: Logger,
        bounds: Bounds = Bounds(),
        clock: any Clock<Duration> = NodeClock.monotonic
    ) {
        self.bounds = bounds
        self.handshake = handshake
        self.client = client
        self.metrics = metrics
        self.logger = logger
        self.clock = clock
        let others = seeds.filter { $0.id != handshake.node }
        self.seeds = Dictionary(others.map { ($0.id, $0) }) { first, _ in first }
        let links = self.seeds.mapValues { Link(peer: $0) }
        self.state = Mutex(State(links: links, fresh: Array(links.values)))
        (self.changes, self.changed) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        metrics.observe(self)
    }

    /// This node.
    var node: NodeID { self.handshake.node }

    /// The other nodes, ascending.
    var peers: [NodeID] { self.state.withLock { $0.links.keys.sorted() } }

    /// Where a peer is reached, nil for one that is not known.
    func peer(_ id: NodeID) -> Peer? { self.link(id)?.peer }

    /// Whether a link to the peer stands.
    func isConnected(to peer: NodeID) -> Bool { self.streams(of: peer)?.connection.isOpen ?? false }

    /// Sets who is told of dropped messages; once, before ``run()``.
    func reportUnreachable(to body: @escaping @Sendable (NodeID) -> Void) { self.onUnreachable.receive(body) }

    func link(_ id: NodeID) -> Link? { self.state.withLock { $0.links[id] } }

    private func streams(of peer: NodeID) -> Streams? { self.link(peer)?.state.withLock { $0.streams } }

    // MARK: Who the peers are

    /// Takes the cluster's nodes: links to new ones are made, those of moved ones made anew, those of removed ones cut.
    /// - Parameters:
    ///   - nodes: All nodes that are not removed; this node may be among them.
    ///   - removed: Nodes that were removed for ever, configured or not.
    func update(nodes: [Peer], removed: [NodeID]) {
        let removed = Set(removed)
        var wanted = self.seeds
        for node in nodes where node.id != self.node { wanted[node.id] = node }
        for node in removed { wanted[node] = nil }
        let (retired, isNews): ([Link], Bool) = self.state.withLock { state in
            state.removed = removed
            var retired: [Link] = []
            for (id, link) in state.links where wanted[id] != link.peer {
                state.links[id] = nil
                retired.append(link)
            }
            for (id, peer) in wanted where state.links[id] == nil {
                let link = Link(peer: peer)
                state.links[id] = link
                state.fresh.append(link)
            }
            return (retired, !state.fresh.isEmpty)
        }
        for link in retired { link.retire() }
        if isNews { self.changed.yield() }
    }

    /// Why this node does not talk with `peer`, nil when it does.
    func admission(of peer: NodeID) -> PeerRefusal? {
        let (isRemoved, isKnown) = self.state.withLock { ($0.removed.contains(peer), $0.links[peer] != nil) }
        if isRemoved {
            return PeerRefusal(.removedNode, "node \(peer) was removed from cluster \(self.handshake.cluster)")
        }
        if isKnown { return nil }
        return PeerRefusal(
            .unknownNode,
            "node \(self.node) knows no node \(peer) of cluster \(self.handshake.cluster)"
        )
    }

    // MARK: Sending

    func send(_ messages: [HostMessage], to peer: NodeID) {
        guard let streams = self.streams(of: peer), streams.connection.isOpen else {
            self.onUnreachable.send(peer)
            return
        }
        var control = RaftFrameWriter(from: self.node, to: peer)
        var appends = [RaftFrameWriter](
            repeating: RaftFrameWriter(from: self.node, to: peer),
            count: streams.appends.count
        )
        for message in messages {
            if case .raft(let raft) = message, case .append = raft.message.body {
                appends[Int(raft.group.rawValue) % appends.count].add(message)
            } else {
                control.add(message)
            }
        }
        var isDropped = false
        if !control.isEmpty, !control.finish().allSatisfy({ streams.control.tryWrite($0) }) {
            // Votes and heartbeats are never dropped one by one: a link that does not take them is of no use.
            isDropped = true
            streams.connection.close()
        }
        for (place, stream) in streams.appends.enumerated() where !appends[place].isEmpty {
            guard !appends[place].finish().allSatisfy({ stream.tryWrite($0) }) else { continue }
            isDropped = true
            self.metrics.appendsDropped.increment()
        }
        if isDropped { self.onUnreachable.send(peer) }
    }

    // MARK: Keeping links up

    /// Keeps all links up until cancelled, also when there are none.
    func run() async {
        await withDiscardingTaskGroup { group in
            self.startFresh(in: &group)
            for await _ in self.changes { self.startFresh(in: &group) }
            group.cancelAll()
        }
    }

    private func startFresh(in group: inout DiscardingTaskGroup) {
        let fresh = self.state.withLock { state in
            defer { state.fresh = [] }
            return state.fresh
        }
        for link in fresh { group.addTask { await self.keepUp(link) } }
    }

    private func keepUp(_ link: Link) async {
        var pause = Self.pauseMin
        while !Task.isCancelled, !link.isRetired {
            do {
                let connection = try await self.connect(to: link.peer)
                defer { connection.close() }
                try await self.serve(connection, of: link) { pause = Self.pauseMin }
            } catch {
                self.report(error, of: link.peer)
            }
            link.state.withLock { state in
                state.connection = nil
                state.streams = nil
            }
            try? await self.clock.sleep(for: pause)
            pause = min(pause * 2, Self.pauseMax)
        }
    }

    private func report(_ error: any Error, of peer: Peer) {
        if let refusal = error as? PeerRefusal {
            self.metrics.refused(refusal, peer: peer.id, side: .client, logger: self.logger)
        } else {
            self.logger.debug(
                "peer link down",
                metadata: ["peer.id": "\(peer.id)", "error.chain": "\(errorChain(error))"]
            )
        }
    }

    /// Opens a connection of one's own to a peer, to be closed by the caller.
    func connect(to peer: Peer) async throws -> HTTPClientConnection {
        try await self.client.connect(host: peer.host, port: peer.port, expectedName: peer.expectedName)
    }

    /// Returns or throws when the connection is over.
    private func serve(
        _ connection: HTTPClientConnection,
        of link: Link,
        whenUp: () -> Void
    ) async throws {
        try await withTaskCancellationHandler {
            let isWanted = link.state.withLock { state in
                if !state.isRetired { state.connection = connection }
                return !state.isRetired
            }
            guard isWanted else { return }
            let control = try await self.open(
                PeerPath.control,
                self.bounds.controlBytesMax,
                on: connection,
                of: link.peer
            )
            var appends: [(stream: OutboundStream, answer: ClientResponse)] = []
            for _ in 0..<Self.appendStreams {
                let bytesMax = self.bounds.appendBytesMax / Self.appendStreams
                appends.append(try await self.open(PeerPath.appends, bytesMax, on: connection, of: link.peer))
            }
            let streams = Streams(connection: connection, control: control.stream, appends: appends.map(\.stream))
            link.state.withLock { state in
                if !state.isRetired { state.streams = streams }
            }
            whenUp()
            self.logger.info("peer link up", metadata: ["peer.id": "\(link.peer.id)"])
            try await Self.waitForFirstEnd(of: [control.answer] + appends.map(\.answer))
        } onCancel: {
            connection.close()
        }
    }

    private func open(
        _ path: String,
        _ bytesMax: Int,
        on connection: HTTPClientConnection,
        of peer: Peer
    ) async throws -> (stream: OutboundStream, answer: ClientResponse) {
        let stream = try connection.openStream(self.head(path, to: peer), bufferBytesMax: bytesMax)
        let answer = try await withTimeLimit(Self.acceptTimeout, "node \(peer.id) accepting \(path)") {
            try await stream.response()
        }
        try self.check(answer.head, of: peer)
        return (stream, answer)
    }

    /// Checks what a peer's answer says of it.
    /// - Throws: ``PeerRefusal`` of either side.
    func check(_ head: HTTPResponse, of peer: Peer, anyEpoch: Bool = false) throws {
        if let refusal = PeerHandshake.refusal(in: head.headerFields) { throw refusal }
        try self.handshake.check(head.headerFields, from: peer.id, anyEpoch: anyEpoch)
    }

    /// Waits until one of the answers ends, which ends the link.
    /// - Throws: ``PeerRefusal`` when the peer says why.
    private static func waitForFirstEnd(of answers: [ClientResponse]) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for answer in answers {
                group.addTask {
                    for try await _ in answer.body {}
                    if let refusal = answer.trailers.flatMap({ PeerHandshake.refusal(in: $0) }) { throw refusal }
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// The head of a request, with everything that the handshake says.
    func head(_ path: String, to peer: Peer) -> HTTPRequest {
        HTTPRequest(
            method: .post,
            scheme: "https",
            authority: "\(peer.host):\(peer.port)",
            path: path,
            headerFields: self.handshake.fields
        )
    }
}
