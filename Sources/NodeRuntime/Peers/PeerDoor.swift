internal import Consensus
internal import HTTPTypes
internal import Logging
internal import Primitives
internal import Transport

/// Decides which nodes this one talks with, and reads what they say to its groups.
///
/// The TLS handshake has proved that the other side holds a certificate of the cluster's authority. Here the name in it,
/// the handshake fields of each request, and the table of nodes decide: whoever is not known, was removed, or is of
/// another cluster, epoch or protocol is refused with a reason that both sides count and log.
struct PeerDoor: Sendable {
    let handshake: PeerHandshake
    let links: PeerLinks
    /// Who has ever spoken to the groups.
    let met: MetPeers
    let metrics: PeerMetrics
    let logger: Logger

    var node: NodeID { self.handshake.node }

    /// The node that sends a request, when this node talks with it.
    /// - Throws: ``PeerRefusal``.
    func admit(_ head: HTTPRequest, _ connection: ConnectionInfo) throws(PeerRefusal) -> NodeID {
        guard let peer = self.named(connection), peer != self.node else {
            let cluster = self.handshake.cluster
            throw PeerRefusal(.wrongCertificate, "the certificate is of no other node of cluster \(cluster)")
        }
        let isJoin = head.path == PeerPath.join
        try self.handshake.check(head.headerFields, from: peer, anyEpoch: isJoin)
        // A removed node is refused even when it wants to join: ids are never used again.
        if let refusal = self.links.admission(of: peer), !(isJoin && refusal.code == .unknownNode) { throw refusal }
        return peer
    }

    private func named(_ connection: ConnectionInfo) -> NodeID? {
        let cluster = self.handshake.cluster
        return connection.peerNames.lazy.compactMap { PeerIdentity.node(ofDNSName: $0, cluster: cluster) }.first
    }

    /// The answer that refuses a request, counted and logged.
    func refuse(_ refusal: PeerRefusal, _ connection: ConnectionInfo) -> ServerResponse {
        self.note(refusal, self.named(connection))
        return ServerResponse(status: .forbidden, headerFields: self.handshake.fields(refusing: refusal))
    }

    private func note(_ refusal: PeerRefusal, _ peer: NodeID?) {
        self.metrics.refused(refusal, peer: peer, side: .server, logger: self.logger)
    }

    /// An answer that says who gives it.
    func introduced(_ response: ServerResponse) -> ServerResponse {
        var response = response
        for field in self.handshake.fields { response.head.headerFields.append(field) }
        return response
    }

    /// Accepts a stream of consensus messages at once, so that the peer knows where it stands, and reads it to its end.
    func raftStream(from peer: NodeID, _ receive: @escaping @Sendable ([HostMessage]) -> Void) -> RoutePlan {
        .streaming { request in
            ServerResponse(
                status: .ok,
                headerFields: self.handshake.fields,
                body: .stream { _ in
                    let refusal = await self.read(request, from: peer, receive)
                    return refusal.map { self.handshake.fields(refusing: $0) }
                }
            )
        }
    }

    /// - Returns: Why the stream is not read further; nil when it has ended.
    private func read(
        _ request: ServerRequest,
        from peer: NodeID,
        _ receive: @Sendable ([HostMessage]) -> Void
    ) async -> PeerRefusal? {
        var cutter = RaftFrameCutter()
        do {
            try await self.met.note(peer)
            for try await bytes in request.body {
                // The peer may have been removed since it opened the stream.
                if let refusal = self.links.admission(of: peer) {
                    self.note(refusal, peer)
                    return refusal
                }
                for frame in try cutter.feed(bytes) {
                    receive(try RaftFrame.decode(frame, from: peer, to: self.node))
                }
            }
        } catch let error as RaftFrameError {
            self.metrics.malformedFrame(error.code)
            let refusal = PeerRefusal(error.code == .unknownVersion ? .wrongVersion : .malformed, error.description)
            self.note(refusal, peer)
            return refusal
        } catch {
            self.logger.debug(
                "raft stream ended",
                metadata: ["peer.id": "\(peer)", "error.chain": "\(errorChain(error))"]
            )
        }
        return nil
    }
}
