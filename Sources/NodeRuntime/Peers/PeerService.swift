internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// Answers what peers ask; every connection has shown a certificate of a node of this cluster, and every request says
/// who sends it (``PeerDoor``).
struct PeerService: RequestRouter {
    /// Largest body of a short request, in bytes: one command.
    static let requestBytesMax = 16 << 20
    /// Bytes of an error's text that a refused query carries; escaped, they take three times as many.
    static let messageBytesMax = 1024

    let door: PeerDoor
    let host: RaftHost
    let proposer: CommandProposer
    let store: any KeyValueStore
    let storeThreads: StoreThreads
    let directory: ShardDirectory
    /// Asked before an answer about an organization.
    let news: OrganizationNews
    let placement: Placement
    let applier: ShardApplier
    let projector: Projector
    let queries: ShardQueries
    let records: RecordReader
    let snapshots: SnapshotSender
    let puller: SnapshotPuller
    let status: NodeStatus
    let checkpoints: CheckpointReader
    let publisher: KeyPublisher
    let packages: PackageMaker
    let inspector: ReplicaInspector
    /// Told what a verification has found.
    let reporter: DamageReporter
    let trusted: TrustedHeads
    /// nil before the node serves.
    let repairs: @Sendable () -> RepairService?
    let subjects: SubjectKeeper
    let running: RunningQueries
    /// Lets a node in that is not known yet; the node is that of its certificate.
    let join: @Sendable (NodeID, WireJoinRequest) async -> WireJoinResponse

    var node: NodeID { self.door.node }

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        let peer: NodeID
        do throws(PeerRefusal) {
            peer = try self.door.admit(head, connection)
        } catch {
            return .immediate(self.door.refuse(error, connection))
        }
        switch head.path {
        case PeerPath.control, PeerPath.appends:
            return self.door.raftStream(from: peer) { self.host.receive($0, from: peer) }
        case PeerPath.propose: return self.answer { await self.propose($0) }
        case PeerPath.readIndex: return self.answer { await self.readIndex($0) }
        case PeerPath.membership: return self.answer { await self.changeMembership($0) }
        case PeerPath.transfer: return self.answer { await self.transfer($0) }
        case PeerPath.join: return self.answer { await self.join(peer, $0) }
        case PeerPath.status: return self.answer { self.describe($0, to: peer) }
        case PeerPath.ledger: return self.answer { await self.ledger($0) }
        case PeerPath.verify: return self.answer { await self.verify($0) }
        case PeerPath.rebuild: return self.answer { await self.rebuild($0) }
        case PeerPath.descent: return self.answer { await self.descent($0) }
        case PeerPath.repair: return self.answer { await self.repair($0) }
        case PeerPath.row: return self.answer { await self.row($0) }
        case PeerPath.clearSignedHead: return self.answer { await self.clearSignedHead($0) }
        case PeerPath.records: return self.answer { await self.records.answer($0) }
        case PeerPath.checkpoints:
            return self.answer { await self.checkpoints.service.answer($0, from: peer) }
        case PeerPath.freshCheckpoint:
            return self.answer { (request: WireFreshCheckpointRequest) in await self.checkpoints.answer(request) }
        case PeerPath.proof:
            return self.answer { (request: WireProofRequest) in await self.checkpoints.answer(request) }
        case PeerPath.rotateKey: return self.answer { await self.publisher.answer($0, from: peer) }
        case PeerPath.export:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.door.introduced(await self.packages.answer(body))
            }
        case PeerPath.makeSubjectKeys:
            return self.answer { (request: WireMakeSubjectKeysRequest) in await self.subjects.answer(request) }
        case PeerPath.findSubjectKeys:
            return self.answer { (request: WireFindSubjectKeysRequest) in await self.subjects.answer(request) }
        case PeerPath.keepSubjectKeys:
            return self.answer { (request: WireKeepSubjectKeysRequest) in await self.subjects.answer(request) }
        case PeerPath.destroySubjectKeys:
            return self.answer { (request: WireDestroySubjectKeysRequest) in await self.subjects.answer(request) }
        case PeerPath.reveal:
            return self.answer { (request: WireRevealRequest) in await self.subjects.answer(request) }
        case PeerPath.listSubjects:
            return self.answer { (request: WireListSubjectsRequest) in await self.subjects.answer(request) }
        case PeerPath.query:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.door.introduced(await self.query(body, self.queries))
            }
        case PeerPath.queryWithoutReserved:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.door.introduced(await self.query(body, self.queries.withoutReserved))
            }
        case PeerPath.queryAsOf:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.door.introduced(await self.query(body, self.queries))
            }
        case PeerPath.tables: return self.answer { await self.tables($0) }
        case PeerPath.listQueries:
            return self.answer { (request: WireListQueriesRequest) in self.running.answer(request) }
        case PeerPath.endQuery:
            return self.answer { (request: WireEndQueryRequest) in self.running.answer(request) }
        case PeerPath.snapshot:
            return .collected(bodyBytesMax: Self.requestBytesMax) { _, body in
                self.door.introduced(await self.snapshots.answer(body, to: peer))
            }
        default: return .immediate(self.door.introduced(ServerResponse(status: .notFound)))
        }
    }

    private func reply<Request: SwiftProtobuf.Message, Answer: SwiftProtobuf.Message>(
        _ body: @escaping @Sendable (Request) async -> Answer
    ) -> RoutePlan {
        .collected(bodyBytesMax: Self.requestBytesMax) { _, bytes in
            do {
                let request = try Request(serializedBytes: Data(buffer: bytes))
                let data: Data = try await body(request).serializedBytes()
                return self.door.introduced(ServerResponse(status: .ok, body: .bytes(ByteBuffer(data: data))))
            } catch {
                return self.door.introduced(ServerResponse(status: .badRequest))
            }
        }
    }

    /// Answers a question about an organization that this node may not have heard of yet.
    private func answer<Request: SwiftProtobuf.Message & OrganizationQuestion, Answer: SwiftProtobuf.Message>(
        _ body: @escaping @Sendable (Request) async -> Answer
    ) -> RoutePlan {
        let news = self.news
        let heard: @Sendable (Request) async -> Answer = { request in
            await news.hear(request)
            return await body(request)
        }
        return self.reply(heard)
    }

    private func answer<Request: SwiftProtobuf.Message, Answer: SwiftProtobuf.Message>(
        _ body: @escaping @Sendable (Request) async -> Answer
    ) -> RoutePlan {
        self.reply(body)
    }

    // MARK: Requests to a group

    private func propose(_ request: WireProposeRequest) async -> WireProposeResponse {
        var response = WireProposeResponse()
        do throws(ProposalError) {
            let result = try await self.proposer.propose([UInt8](request.command), to: GroupID(request.group))
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

    private func describe(_ request: WireStatusRequest, to peer: NodeID) -> WireStatusResponse {
        let receivedAt = SystemTime.now().rawValue
        let isBrief = request.withoutGroups
        var response = self.status.wire(
            isBrief ? [] : self.host.status(),
            pulls: isBrief ? [] : self.puller.pulls
        )
        response.askerMet = self.door.met.contains(peer)
        response.isFresh = !self.directory.isBootstrapped && self.host.status(of: .system)?.last == .zero
        response.receivedAt = receivedAt
        response.answeredAt = SystemTime.now().rawValue
        return response
    }
}
