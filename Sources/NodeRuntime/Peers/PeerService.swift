internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// Answers what peers ask; every connection has shown a certificate of a node of this cluster, and every request says
/// who sends it (``PeerHandshake``). Who is not known or was removed is refused.
struct PeerService: RequestRouter {
    /// Largest body of a short request, in bytes: one command.
    static let requestBytesMax = 16 << 20
    /// Bytes of an error's text that a refused query carries; escaped, they take three times as many.
    static let messageBytesMax = 1024

    let handshake: PeerHandshake
    let links: PeerLinks
    let host: RaftHost
    let store: any KeyValueStore
    let storeThreads: StoreThreads
    let directory: ShardDirectory
    let placement: Placement
    let applier: ShardApplier
    let projector: Projector
    let queries: ShardQueries
    let records: RecordReader
    let snapshots: SnapshotSender
    let puller: SnapshotPuller
    let status: NodeStatus
    let metrics: PeerMetrics
    let logger: Logger
    /// Lets a node in that is not known yet; the node is that of its certificate.
    let join: @Sendable (NodeID, WireJoinRequest) async -> WireJoinResponse

    var node: NodeID { self.handshake.node }

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        let isJoin = head.path == PeerPath.join
        let peer: NodeID
        do throws(PeerRefusal) {
            peer = try self.peer(connection, head, isJoin: isJoin)
        } catch {
            return .immediate(self.refuse(error, connection))
        }
        switch head.path {
        case PeerPath.control, PeerPath.appends: return self.raft(from: peer)
        case PeerPath.propose: return self.answer { await self.propose($0) }
        case PeerPath.readIndex: return self.answer { await self.readIndex($0) }
        case PeerPath.membership: return self.answer { await self.changeMembership($0) }
        case PeerPath.transfer: return self.answer { await self.transfer($0) }
        case PeerPath.join: return self.answer { await self.join(peer, $0) }
        case PeerPath.status: return self.answer { self.status($0) }
        case PeerPath.ledger: return self.answer { await self.ledger($0) }
        case PeerPath.verify: return self.answer { await self.verify($0) }
        case PeerPath.records: return self.answer { await self.records.answer($0) }
        case PeerPath.query:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.introduced(await self.query(body))
            }
        case PeerPath.snapshot:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.introduced(await self.snapshots.answer(body, to: peer))
            }
        default: return .immediate(self.introduced(ServerResponse(status: .notFound)))
        }
    }

    // MARK: Who asks

    private func peer(
        _ connection: ConnectionInfo,
        _ head: HTTPRequest,
        isJoin: Bool
    ) throws(PeerRefusal) -> NodeID {
        let cluster = self.handshake.cluster
        let named = connection.peerNames.lazy.compactMap { PeerIdentity.node(ofDNSName: $0, cluster: cluster) }
        guard let peer = named.first(where: { $0 != self.node }) else {
            throw PeerRefusal(.wrongCertificate, "the certificate is of no other node of cluster \(cluster)")
        }
        try self.handshake.check(head.headerFields, from: peer, anyEpoch: isJoin)
        // A removed node is refused even when it wants to join: ids are never used again.
        if let refusal = self.links.admission(of: peer), !(isJoin && refusal.code == .unknownNode) { throw refusal }
        return peer
    }

    private func refuse(_ refusal: PeerRefusal, _ connection: ConnectionInfo) -> ServerResponse {
        let cluster = self.handshake.cluster
        let named = connection.peerNames.lazy.compactMap { PeerIdentity.node(ofDNSName: $0, cluster: cluster) }
        self.metrics.refused(refusal, peer: named.first ?? NodeID(0), side: .server, logger: self.logger)
        return ServerResponse(status: .forbidden, headerFields: self.handshake.fields(refusing: refusal))
    }

    /// An answer that says who gives it.
    private func introduced(_ response: ServerResponse) -> ServerResponse {
        var response = response
        for field in self.handshake.fields { response.head.headerFields.append(field) }
        return response
    }

    private func answer<Request: SwiftProtobuf.Message, Answer: SwiftProtobuf.Message>(
        _ body: @escaping @Sendable (Request) async -> Answer
    ) -> RoutePlan {
        .collected(bodyBytesMax: Self.requestBytesMax) { _, bytes in
            do {
                let request = try Request(serializedBytes: Data(buffer: bytes))
                let data: Data = try await body(request).serializedBytes()
                return self.introduced(ServerResponse(status: .ok, body: .bytes(ByteBuffer(data: data))))
            } catch {
                return self.introduced(ServerResponse(status: .badRequest))
            }
        }
    }

    // MARK: Consensus messages

    /// Accepts a stream at once, so that the peer knows where it stands, and reads it to its end.
    private func raft(from peer: NodeID) -> RoutePlan {
        .streaming { request in
            ServerResponse(
                status: .ok,
                headerFields: self.handshake.fields,
                body: .stream { _ in
                    guard let refusal = await self.takeFrames(request, from: peer) else { return nil }
                    return self.handshake.fields(refusing: refusal)
                }
            )
        }
    }

    /// - Returns: Why the stream is not read further; nil when it has ended.
    private func takeFrames(_ request: ServerRequest, from peer: NodeID) async -> PeerRefusal? {
        var cutter = RaftFrameCutter()
        do {
            for try await bytes in request.body {
                // The peer may have been removed since it opened the stream.
                if let refusal = self.links.admission(of: peer) {
                    self.metrics.refused(refusal, peer: peer, side: .server, logger: self.logger)
                    return refusal
                }
                for frame in try cutter.feed(bytes) {
                    self.host.receive(try RaftFrame.decode(frame, from: peer, to: self.node), from: peer)
                }
            }
        } catch let error as RaftFrameError {
            self.metrics.malformedFrame(error.code)
            let refusal = PeerRefusal(error.code == .unknownVersion ? .wrongVersion : .malformed, error.description)
            self.metrics.refused(refusal, peer: peer, side: .server, logger: self.logger)
            return refusal
        } catch {
            self.logger.debug(
                "raft stream ended",
                metadata: ["peer.id": "\(peer)", "error.chain": "\(errorChain(error))"]
            )
        }
        return nil
    }

    // MARK: Requests to a group

    private func propose(_ request: WireProposeRequest) async -> WireProposeResponse {
        var response = WireProposeResponse()
        do {
            let result = try await CommandGateway.propose(
                [UInt8](request.command),
                to: GroupID(request.group),
                on: self.host
            )
            response.result = Data(result)
        } catch {
            response.failure = WirePeerFailure(error)
        }
        return response
    }

    private func readIndex(_ request: WireReadIndexRequest) async -> WireReadIndexResponse {
        var response = WireReadIndexResponse()
        do throws(ProposalError) {
            response.index = try await self.host.readIndex(GroupID(request.group)).rawValue
        } catch {
            response.failure = WirePeerFailure(error)
        }
        return response
    }

    private func changeMembership(_ request: WireMembershipRequest) async -> WireMembershipResponse {
        var response = WireMembershipResponse()
        let change: MembershipChange
        do {
            change = try MembershipChange(bytes: [UInt8](request.change))
        } catch {
            response.failure = PeerFailureCode.malformed.wire(error.description)
            return response
        }
        do throws(ProposalError) {
            let membership = try await self.host.changeMembership(GroupID(request.group), change)
            response.membership = Data(membership.encoded())
        } catch {
            response.failure = WirePeerFailure(error)
        }
        return response
    }

    private func transfer(_ request: WireTransferRequest) async -> WireTransferResponse {
        var response = WireTransferResponse()
        do throws(ProposalError) {
            try await self.host.transferLeadership(GroupID(request.group), to: NodeID(request.to))
        } catch {
            response.failure = WirePeerFailure(error)
        }
        return response
    }

    private func status(_ request: WireStatusRequest) -> WireStatusResponse {
        let receivedAt = SystemTime.now().rawValue
        var response = self.status.wire(self.host.status(), pulls: self.puller.pulls)
        response.receivedAt = receivedAt
        response.answeredAt = SystemTime.now().rawValue
        return response
    }
}
