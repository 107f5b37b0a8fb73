internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import SwiftProtobuf
internal import Synchronization
internal import Transport

extension PeerLinks {
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
        return try await self.read(response, path, peer)
    }

    private func read<Answer: SwiftProtobuf.Message>(
        _ response: ClientResponse,
        _ path: String,
        _ peer: NodeID
    ) async throws -> Answer {
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
        guard let link = self.link(peer), let connection = link.state.withLock({ $0.streams?.connection }),
            connection.isOpen
        else { throw PeerError(code: .unreachable, peer: peer, message: "no connection", cause: nil) }
        let data: Data
        do {
            data = try request.serializedBytes()
        } catch {
            throw PeerError(code: .unreachable, peer: peer, message: "\(path) cannot be asked", cause: error)
        }
        return try await self.execute(path, on: connection, of: link.peer, ByteBuffer(data: data), timeout: timeout)
    }

    /// Sends a short request on a connection of its own, also to a node that does not know this one yet.
    /// - Throws: ``PeerError``.
    func callOnce<Answer: SwiftProtobuf.Message>(
        _ path: String,
        at peer: Peer,
        _ request: some SwiftProtobuf.Message,
        timeout: Duration,
        as type: Answer.Type = Answer.self
    ) async throws -> Answer {
        let data: Data = try request.serializedBytes()
        return try await self.withConnection(to: peer) { connection in
            let response = try await self.execute(
                path,
                on: connection,
                of: peer,
                ByteBuffer(data: data),
                timeout: timeout,
                anyEpoch: true
            )
            return try await self.read(response, path, peer.id)
        }
    }

    /// Lends a connection that nothing else travels on, so that bulk does not hold up what others wait for.
    /// - Throws: ``PeerError`` when there is none, and what `body` throws.
    func withConnection<Value>(
        to peer: Peer,
        _ body: (HTTPClientConnection) async throws -> Value
    ) async throws -> Value {
        let connection: HTTPClientConnection
        do {
            connection = try await self.connect(to: peer)
        } catch {
            throw PeerError(code: .unreachable, peer: peer.id, message: "no connection", cause: error)
        }
        defer { connection.close() }
        return try await body(connection)
    }

    /// Sends a request and checks the head of its answer.
    /// - Throws: ``PeerError``.
    func execute(
        _ path: String,
        on connection: HTTPClientConnection,
        of peer: Peer,
        _ body: ByteBuffer,
        timeout: Duration?,
        anyEpoch: Bool = false
    ) async throws -> ClientResponse {
        let response: ClientResponse
        do {
            response = try await connection.execute(
                self.head(path, to: peer),
                body: .bytes(body),
                timeout: timeout
            )
        } catch let error as TransportError where error.isSafeToRetry {
            throw PeerError(code: .unreachable, peer: peer.id, message: path, cause: error)
        } catch {
            throw PeerError(code: .interrupted, peer: peer.id, message: path, cause: error)
        }
        do {
            try self.check(response.head, of: peer, anyEpoch: anyEpoch)
        } catch let refusal as PeerRefusal {
            self.metrics.refused(refusal, peer: peer.id, side: .client, logger: self.logger)
            throw PeerError(code: .refused, peer: peer.id, message: path, cause: refusal)
        }
        guard response.head.status == .ok else {
            throw PeerError(
                code: response.head.status == .serviceUnavailable ? .unreachable : .malformedAnswer,
                peer: peer.id,
                message: PeerHandshake.reason(in: response.head.headerFields)
                    ?? "\(path) answered \(response.head.status.code)",
                cause: nil
            )
        }
        return response
    }

    /// Asks a peer how it is, and what time it is there.
    /// - Parameter withoutGroups: Whether the answer leaves out the peer's groups, of which there may be thousands.
    /// - Throws: ``PeerError``.
    func probe(
        _ peer: NodeID,
        withoutGroups: Bool = false,
        timeout: Duration
    ) async throws -> (status: WireStatusResponse, clock: ClockSample?) {
        var request = WireStatusRequest()
        request.withoutGroups = withoutGroups
        request.sentAt = SystemTime.now().rawValue
        let answer: WireStatusResponse = try await self.call(PeerPath.status, of: peer, request, timeout: timeout)
        let sample = ClockSample(
            sentAt: request.sentAt,
            peerReceivedAt: answer.receivedAt,
            peerAnsweredAt: answer.answeredAt,
            receivedAt: SystemTime.now().rawValue
        )
        return (answer, sample)
    }
}
