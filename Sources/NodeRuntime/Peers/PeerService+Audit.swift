internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

// What peers ask of this node to compare its replicas and to repair them. A replica whose history is damaged answers too:
// that is how the damage is found and mended.
extension PeerService {
    private func entry(_ key: String, _ organization: UInt32) -> OrganizationEntry? {
        guard let entry = OrganizationKey(key).flatMap({ self.directory.organization($0) }),
            entry.id.rawValue == organization, self.placement.servesHere(entry.group)
        else { return nil }
        return entry
    }

    func descent(_ request: WireDescentRequest) async -> WireDescentResponse {
        guard let entry = self.entry(request.key, request.organization) else {
            return WireDescentResponse(.unavailable("node \(self.node) has no replica of \(request.key) to read now"))
        }
        guard let question = request.question else { return WireDescentResponse(.unavailable("no such question")) }
        do {
            if question == .head { return try await self.descentHead(entry) }
            let store = self.store
            return try await self.storeThreads.run {
                let reader = LedgerReader(store: try store.snapshot(), organization: entry.id)
                return WireDescentResponse(try reader.answer(question))
            }
        } catch {
            return WireDescentResponse(.unavailable(errorChain(error)))
        }
    }

    /// On the lane, so that the head and the applied index are of one moment.
    private func descentHead(_ entry: OrganizationEntry) async throws -> WireDescentResponse {
        let (applier, store) = (self.applier, self.store)
        return try await self.host.withLane(entry.group) {
            let reader = LedgerReader(store: store, organization: entry.id)
            var response = WireDescentResponse(try reader.answer(.head))
            response.appliedIndex = try applier.appliedState(of: entry.group).index.rawValue
            return response
        }
    }

    func repair(_ request: WireRepairRequest) async -> WireRepairResponse {
        var response = WireRepairResponse()
        guard let entry = self.entry(request.key, request.organization), let repairs = self.repairs() else {
            response.problem = Problem.Code.shardUnavailable.rawValue
            response.detail = "node \(self.node) has no replica of \(request.key) to repair now"
            return response
        }
        do {
            let outcome = try await repairs.repair(
                entry,
                from: request.from == 0 ? nil : request.from,
                origin: CommandOrigin(
                    actor: request.actor,
                    kind: .user,
                    requestID: request.requestID,
                    channel: .api
                )
            )
            guard let outcome else { return response }
            response.first = outcome.first
            response.size = outcome.size
            response.root = Data(outcome.root.bytes)
            response.records = outcome.records
            response.rows = outcome.rows
            response.nodes = outcome.nodes
            response.head = outcome.head
            response.basis = outcome.basis.rawValue
            response.source = outcome.source.rawValue
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }

    func clearSignedHead(_ request: WireClearSignedHeadRequest) async -> WireClearSignedHeadResponse {
        var response = WireClearSignedHeadResponse()
        guard let entry = self.entry(request.key, request.organization), let repairs = self.repairs() else {
            response.problem = Problem.Code.shardUnavailable.rawValue
            response.detail = "node \(self.node) has no replica of \(request.key) now"
            return response
        }
        do {
            let root = Digest(bytes: [UInt8](request.root))
            let outcome = try await repairs.clearSignedHead(
                entry,
                expected: root.map { TreeHead(size: request.size, root: $0) },
                reason: request.reason,
                origin: CommandOrigin(
                    actor: request.actor,
                    kind: .user,
                    requestID: request.requestID,
                    channel: .api
                )
            )
            response.evidence = outcome.evidence
            response.isReadable = outcome.signed != nil
            response.signedSize = outcome.signed?.size ?? 0
            response.signedRoot = Data((outcome.signed?.root ?? .zero).bytes)
            response.trustedSize = outcome.trusted.size
            response.trustedRoot = Data(outcome.trusted.root.bytes)
            response.cleared = outcome.isCleared
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }
}
