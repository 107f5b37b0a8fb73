internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards

/// How a new node becomes a member: it shows its one-time token to a member, over mutual TLS.
enum ClusterJoin {
    /// Between two rounds over all members that may be asked.
    static let pause = Duration.seconds(1)
    /// How long one member may take: as long as a write.
    static let timeout = Duration.seconds(15)
    /// Rounds before the node gives up.
    static let roundsMax = 60

    /// Asks members, one after the other and again, until one has let this node in.
    /// - Returns: The cluster's recovery epoch.
    /// - Throws: ``NodeError`` `.join` when a member refuses, or none answers.
    static func run(
        _ configuration: NodeConfiguration,
        token: String,
        links: PeerLinks,
        logger: Logger
    ) async throws -> UInt64 {
        let request = try self.request(configuration, token)
        let members = configuration.members.filter { $0.id != configuration.nodeID }
        var last: (any Error)?
        for round in 0..<self.roundsMax {
            if round > 0 { try await Task.sleep(for: self.pause) }
            for member in members {
                let peer = PeerLinks.Peer(
                    id: member.id,
                    host: member.peerAddress.host,
                    port: member.peerAddress.port,
                    cluster: configuration.clusterID
                )
                do {
                    let answer: WireJoinResponse = try await links.callOnce(
                        PeerPath.join,
                        at: peer,
                        request,
                        timeout: self.timeout
                    )
                    guard answer.hasFailure else { return answer.epoch }
                    if PeerFailureCode(rawValue: answer.failure.code) == .refusedChange {
                        throw NodeError(.join, "node \(member.id) refuses: \(answer.failure.message)")
                    }
                    last = NodeError(.join, "node \(member.id) cannot now: \(answer.failure.message)")
                } catch let error as NodeError {
                    throw error
                } catch let error as PeerError where error.code == .refused {
                    throw NodeError(.join, "node \(member.id) refuses to talk with this node", cause: error)
                } catch {
                    last = error
                    logger.info(
                        "waiting for a member to join",
                        metadata: ["peer.id": "\(member.id)", "error.chain": "\(errorChain(error))"]
                    )
                }
            }
        }
        throw NodeError(.join, "no member has let this node join", cause: last)
    }

    private static func request(
        _ configuration: NodeConfiguration,
        _ token: String
    ) throws(NodeError) -> WireJoinRequest {
        guard let own = configuration.ownEntry else {
            throw NodeError(.configuration, "node \(configuration.nodeID) is not in cluster.nodes")
        }
        var request = WireJoinRequest()
        request.token = token
        request.node = own.id.rawValue
        request.apiAddress = own.apiAddress.description
        request.peerAddress = own.peerAddress.description
        request.region = own.region
        request.priority = UInt32(own.priority)
        request.version = ProductVersion.text
        request.featureMin = FeatureRange.supported.min.rawValue
        request.featureMax = FeatureRange.supported.max.rawValue
        return request
    }

    /// A member's answer to a node whose certificate is that of `peer`.
    static func answer(
        _ request: WireJoinRequest,
        from peer: NodeID,
        administration: ClusterAdministration,
        epoch: UInt64
    ) async -> WireJoinResponse {
        var response = WireJoinResponse()
        do {
            try await administration.join(request, from: peer)
            response.epoch = epoch
        } catch let problem as Problem where problem.code.status.code < 500 {
            response.failure = PeerFailureCode.refusedChange.wire(problem.detail)
        } catch {
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
        }
        return response
    }
}

extension ClusterAdministration {
    /// Lets a node in that shows a token made for it; a node whose answer was lost may ask again until it has shown itself.
    fileprivate func join(_ request: WireJoinRequest, from peer: NodeID) async throws {
        guard request.node == peer.rawValue else {
            throw Problem(.forbidden, "the certificate is that of node \(peer), not of node \(request.node)")
        }
        guard let api = NodeConfiguration.HostPort(request.apiAddress),
            let address = NodeConfiguration.HostPort(request.peerAddress),
            request.priority <= UInt32(NodeConfiguration.priorityMax),
            request.region.isEmpty || ConfigurationRules.isName(request.region),
            request.featureMin >= 1, request.featureMin <= request.featureMax
        else { throw Problem(.invalidField, "the node does not say well where it is reached or what it can do") }
        let features = FeatureRange(
            min: FeatureLevel(rawValue: request.featureMin),
            max: FeatureLevel(rawValue: request.featureMax)
        )
        let state = try await self.state()
        if let known = state.node(peer) {
            if known.state == .removed { throw Problem(refusal: .nodeRemoved) }
            guard known.state == .joining else {
                throw Problem(
                    .nodeExists,
                    "node \(peer) has joined already; if its data directory is lost, replace it by a node with a new id"
                )
            }
            return
        }
        guard features.contains(state.featureLevel) else {
            throw Problem(
                .featureUnsupported,
                "the cluster is at feature level \(state.featureLevel), the node's program knows \(features)"
            )
        }
        try Self.requireFree([api.description, address.description], in: state)
        let command = RegisterNodeCommand(
            node: peer,
            api: api.description,
            peer: address.description,
            region: request.region,
            priority: UInt8(request.priority),
            features: features,
            joinToken: sha256(Array(request.token.utf8))
        )
        try await self.submit(.registerNode(command), by: .node(peer))
    }
}
