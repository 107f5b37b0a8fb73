internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import SwiftProtobuf
internal import Synchronization
internal import Transport

/// What can go wrong with a request to a peer.
struct PeerError: CausedError, CustomStringConvertible {
    enum Code: String, Sendable {
        /// No connection: surely nothing was done.
        case unreachable
        /// The connection broke or the time ran out: unknown whether it was done.
        case interrupted
        /// The peer answered something that is no answer.
        case malformedAnswer
    }

    let code: Code
    let peer: NodeID
    let message: String
    let cause: (any Error)?

    var description: String { "peer \(self.peer) \(self.code.rawValue): \(self.message)" }
}

/// Names of what peers ask of each other.
enum PeerPath {
    static let raft = "/peer/v1/raft"
    static let propose = "/peer/v1/propose"
    static let barrier = "/peer/v1/barrier"
    static let status = "/peer/v1/status"
    static let ledger = "/peer/v1/ledger"
    static let verify = "/peer/v1/verify"
    static let query = "/peer/v1/query"
    static let records = "/peer/v1/records"
}

/// The links of this node to all others: one connection each, with one long stream for consensus messages and short requests beside it.
///
/// ``run()`` keeps the connections up, one task a peer, with a pause that doubles up to ``pauseMax`` after each failure.
final class PeerLinks: PeerTransport {
    /// One other node.
    struct Peer: Sendable {
        let id: NodeID
        let host: String
        let port: Int
        /// The DNS name that its certificate must carry.
        let expectedName: String
    }

    private final class Link: Sendable {
        struct State {
            var connection: HTTPClientConnection?
            var stream: OutboundStream?
        }

        let peer: Peer
        let state = Mutex(State())

        init(peer: Peer) { self.peer = peer }
    }

    /// The first pause after a failed connection.
    static let pauseMin = Duration.milliseconds(100)
    /// The longest pause between two attempts.
    static let pauseMax = Duration.seconds(2)

    let node: NodeID
    private let client: HTTPClient
    private let links: [NodeID: Link]
    private let logger: Logger
    /// Told when messages for a peer had to be dropped.
    private let onUnreachable = Relay<NodeID>()

    init(node: NodeID, peers: [Peer], client: HTTPClient, logger: Logger) {
        self.node = node
        self.client = client
        self.logger = logger
        self.links = Dictionary(uniqueKeysWithValues: peers.map { ($0.id, Link(peer: $0)) })
    }

    /// The other nodes, ascending.
    var peers: [NodeID] { self.links.keys.sorted() }

    /// Sets who is told of dropped messages; once, before ``run()``.
    func reportUnreachable(to body: @escaping @Sendable (NodeID) -> Void) { self.onUnreachable.receive(body) }

    func send(_ messages: [GroupMessage], to peer: NodeID) {
        guard let link = self.links[peer], let stream = link.state.withLock({ $0.stream }), stream.isOpen,
            let frames = try? RaftWire.frames(messages, from: self.node, to: peer),
            frames.allSatisfy({ stream.tryWrite($0) })
        else {
            self.onUnreachable.send(peer)
            return
        }
    }

    /// Whether a connection to the peer stands.
    func isConnected(to peer: NodeID) -> Bool {
        self.links[peer]?.state.withLock { $0.connection?.isOpen ?? false } ?? false
    }

    /// Keeps all links up until cancelled, also when there are none.
    func run() async {
        guard !self.links.isEmpty else {
            // The only node of its cluster: nothing to keep up, but a service that ends by itself ends the node.
            let (never, end) = AsyncStream.makeStream(of: Never.self)
            for await _ in never {}
            return end.finish()
        }
        await withDiscardingTaskGroup { group in
            for link in self.links.values { group.addTask { await self.keepUp(link) } }
        }
    }

    private func keepUp(_ link: Link) async {
        var pause = Self.pauseMin
        while !Task.isCancelled {
            do {
                let connection = try await self.client.connect(
                    host: link.peer.host,
                    port: link.peer.port,
                    expectedName: link.peer.expectedName
                )
                pause = Self.pauseMin
                try await self.serve(connection, of: link)
            } catch {
                self.logger.debug(
                    "peer link down",
                    metadata: ["peer.id": "\(link.peer.id)", "error.chain": "\(errorChain(error))"]
                )
            }
            link.state.withLock { $0 = Link.State() }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.pauseMax)
        }
    }

    /// Returns or throws when the connection is over.
    private func serve(_ connection: HTTPClientConnection, of link: Link) async throws {
        defer { connection.close() }
        let stream = try connection.openStream(self.head(PeerPath.raft, to: link.peer))
        link.state.withLock { $0 = Link.State(connection: connection, stream: stream) }
        self.logger.info("peer link up", metadata: ["peer.id": "\(link.peer.id)"])
        try await withTaskCancellationHandler {
            let response = try await stream.response()
            for try await _ in response.body {}
        } onCancel: {
            stream.cancel()
            connection.close()
        }
    }

    private func head(_ path: String, to peer: Peer) -> HTTPRequest {
        HTTPRequest(method: .post, scheme: "https", authority: "\(peer.host):\(peer.port)", path: path)
    }

    /// Largest answer to a short request, in bytes.
    static let answerBytesMax = 64 << 20

    /// Sends a short request and reads its whole answer.
    /// - Throws: ``PeerError``.
    func call<Answer: SwiftProtobuf.Message>(
        _ path: String,
        of peer: NodeID,
        _ request: some SwiftProtobuf.Message,
        timeout: Duration,
        as type: Answer.Type = Answer.self
    ) async throws -> Answer {
        let response = try await self.open(path, of: peer, request, timeout: timeout)
        do {
            let body = try await response.collect(upTo: Self.answerBytesMax)
            return try Answer(serializedBytes: Data(buffer: body))
        } catch let error as TransportError {
            throw PeerError(code: .interrupted, peer: peer, message: path, cause: error)
        } catch {
            throw PeerError(code: .malformedAnswer, peer: peer, message: path, cause: error)
        }
    }

    /// Sends a request and returns as soon as the head of a successful answer is there.
    /// - Throws: ``PeerError``.
    func open(
        _ path: String,
        of peer: NodeID,
        _ request: some SwiftProtobuf.Message,
        timeout: Duration
    ) async throws -> ClientResponse {
        guard let link = self.links[peer], let connection = link.state.withLock({ $0.connection }), connection.isOpen
        else { throw PeerError(code: .unreachable, peer: peer, message: "no connection", cause: nil) }
        let response: ClientResponse
        do {
            let data: Data = try request.serializedBytes()
            response = try await connection.execute(
                self.head(path, to: link.peer),
                body: .bytes(ByteBuffer(data: data)),
                timeout: timeout
            )
        } catch let error as TransportError where error.isSafeToRetry {
            throw PeerError(code: .unreachable, peer: peer, message: path, cause: error)
        } catch {
            throw PeerError(code: .interrupted, peer: peer, message: path, cause: error)
        }
        guard response.head.status == .ok else {
            throw PeerError(
                code: .malformedAnswer,
                peer: peer,
                message: "\(path) answered \(response.head.status.code)",
                cause: nil
            )
        }
        return response
    }
}
