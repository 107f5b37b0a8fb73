internal import AuditLedger
internal import Columnar
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// Answers what peers ask; every connection has shown a certificate of a member of this cluster.
struct PeerService: RequestRouter {
    /// Largest body of a short request, in bytes: one command.
    static let requestBytesMax = 16 << 20
    /// Bytes of an error's text that a refused query carries; escaped, they take three times as many.
    static let messageBytesMax = 1024

    let node: NodeID
    let host: RaftHost
    let store: any KeyValueStore
    let storeThreads: StoreThreads
    let directory: ShardDirectory
    let applier: ShardApplier
    let projector: Projector
    let queries: ShardQueries
    let records: RecordReader
    let status: NodeStatus
    let logger: Logger
    /// Which member a certificate names, by the DNS names in it.
    let memberByName: [String: NodeID]

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        guard let peer = connection.peerNames.lazy.compactMap({ self.memberByName[$0] }).first, peer != self.node else {
            return .immediate(ServerResponse(status: .forbidden))
        }
        switch head.path {
        case PeerPath.raft:
            return .streaming { request in await self.takeFrames(request, from: peer) }
        case PeerPath.propose: return self.answer { await self.propose($0) }
        case PeerPath.barrier: return self.answer { await self.barrier($0) }
        case PeerPath.status: return self.answer { (_: WireStatusResponse) in self.status.wire(self.host.status()) }
        case PeerPath.ledger: return self.answer { await self.ledger($0) }
        case PeerPath.verify: return self.answer { await self.verify($0) }
        case PeerPath.records: return self.answer { await self.records.answer($0) }
        case PeerPath.query:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in await self.query(body) }
        default: return .immediate(ServerResponse(status: .notFound))
        }
    }

    private func answer<Request: SwiftProtobuf.Message, Answer: SwiftProtobuf.Message>(
        _ body: @escaping @Sendable (Request) async -> Answer
    ) -> RoutePlan {
        .collected(bodyBytesMax: Self.requestBytesMax) { _, bytes in
            do {
                let request = try Request(serializedBytes: Data(buffer: bytes))
                let data: Data = try await body(request).serializedBytes()
                return ServerResponse(status: .ok, body: .bytes(ByteBuffer(data: data)))
            } catch {
                return ServerResponse(status: .badRequest)
            }
        }
    }

    private func takeFrames(_ request: ServerRequest, from peer: NodeID) async -> ServerResponse {
        var reader = RaftFrameReader()
        do {
            for try await bytes in request.body {
                for frame in try reader.feed(bytes) {
                    self.host.receive(try RaftWire.messages(in: frame, from: peer, to: self.node), from: peer)
                }
            }
            return ServerResponse(status: .ok)
        } catch {
            self.logger.debug(
                "raft stream ended",
                metadata: ["peer.id": "\(peer)", "error.chain": "\(errorChain(error))"]
            )
            return ServerResponse(status: .badRequest)
        }
    }

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
            response.failure = PeerFailureCode(error.code).wire(error.message, leader: Self.leader(in: error))
        }
        return response
    }

    private static func leader(in error: ProposalError) -> NodeID? {
        if case .notLeader(let leader) = error.code { return leader }
        return nil
    }

    private func barrier(_ request: WireBarrierRequest) async -> WireBarrierResponse {
        var response = WireBarrierResponse()
        do {
            response.index = try await self.host.barrier(GroupID(request.group)).rawValue
        } catch {
            response.failure = PeerFailureCode(error.code).wire(error.message, leader: Self.leader(in: error))
        }
        return response
    }

    // MARK: Ledgers

    func ledger(_ request: WireLedgerRequest) async -> WireLedgerResponse {
        let organization = OrganizationID(request.organization)
        let store = self.store
        do {
            var response = try await self.storeThreads.run {
                let reader = LedgerReader(store: try store.snapshot(), organization: organization)
                let head = try reader.head()
                var response = WireLedgerResponse()
                response.size = head.size
                response.root = Data(head.root.bytes)
                response.lastChecksum = Data(head.lastChecksum.bytes)
                response.roots = try reader.roots(at: request.rootSizes).map { Data($0.bytes) }
                response.checksums = try request.checksumSequences.map {
                    Data(try reader.checksum(at: SequenceNumber($0)).bytes)
                }
                return response
            }
            if let group = self.directory.organizations.first(where: { $0.id == organization })?.group {
                response.appliedIndex = self.host.status(of: group)?.applied.rawValue ?? 0
            }
            response.projectedSequence = self.projector.knownPosition(of: organization)?.rawValue ?? 0
            return response
        } catch {
            var response = WireLedgerResponse()
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
            return response
        }
    }

    func verify(_ request: WireVerifyRequest) async -> WireVerifyResponse {
        var response = WireVerifyResponse()
        guard let key = OrganizationKey(request.key) else {
            response.failure = PeerFailureCode.malformed.wire("organization key")
            return response
        }
        let store = self.store
        do {
            let outcome = try await self.storeThreads.run {
                try LedgerVerifier.verify(
                    store: try store.snapshot(),
                    organization: OrganizationID(request.organization),
                    key: key
                )
            }
            response.size = outcome.size
            response.root = Data(outcome.root.bytes)
            response.lastChecksum = Data(outcome.lastChecksum.bytes)
            response.records = outcome.size
            if let finding = outcome.finding {
                response.finding.sequence = finding.sequence.rawValue
                response.finding.kind = finding.kind.rawValue
                response.finding.detail = finding.detail
            }
        } catch {
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
        }
        return response
    }

    // MARK: Queries

    private func query(_ body: ByteBuffer) async -> ServerResponse {
        guard let request = try? WireQueryRequest(serializedBytes: Data(buffer: body)),
            let key = OrganizationKey(request.key)
        else { return ServerResponse(status: .badRequest) }
        guard let entry = self.directory.organization(key), entry.id.rawValue == request.organization else {
            return self.refusal(QueryError(.unavailable, "organization \(key) is not known on node \(self.node)"))
        }
        var requirement = ReadRequirement.eventual
        if request.latest {
            requirement = .latest
        } else if request.atLeast > 0 {
            requirement = .atLeast(SequenceNumber(request.atLeast))
        }
        do {
            let result = try await self.queries.queryHere(
                entry,
                sql: request.sql,
                requirement: requirement,
                limits: ShardQueryLimits(
                    timeLimit: .milliseconds(Int64(request.timeLimitMs)),
                    resultBytesMax: Int(clamping: request.resultBytesMax),
                    resultRowsMax: Int(clamping: request.resultRowsMax)
                )
            )
            return self.stream(result)
        } catch {
            return self.refusal(QueryError.wrapping(error, doing: "a query on node \(self.node)"))
        }
    }

    private func stream(_ result: ShardResult) -> ServerResponse {
        let fields: HTTPFields = [
            RemoteShardResult.sequenceHeader: String(result.provenance.sequence.rawValue),
            RemoteShardResult.rootHeader: result.provenance.root.hex,
        ]
        return ServerResponse(
            status: .ok,
            headerFields: fields,
            body: .stream { writer in
                let encoder = ArrowStreamEncoder(schema: result.schema)
                try await writer.write(ByteBuffer(bytes: encoder.schemaMessage()))
                for try await batch in result.batches {
                    try await writer.write(ByteBuffer(bytes: try encoder.message(for: batch)))
                }
                try await writer.write(ByteBuffer(bytes: encoder.endOfStream()))
                return nil
            }
        )
    }

    private func refusal(_ error: QueryError) -> ServerResponse {
        // Cut before it is encoded, so that no escape is cut in two.
        let text = String(decoding: error.message.utf8.prefix(Self.messageBytesMax), as: UTF8.self)
        let message = text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        return ServerResponse(
            status: .ok,
            headerFields: [
                RemoteShardResult.errorHeader: error.code.rawValue,
                RemoteShardResult.messageHeader: message,
            ]
        )
    }
}
