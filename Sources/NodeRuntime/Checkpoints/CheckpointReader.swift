internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Answers questions about checkpoints and proofs on any node: from its own replica, or from a peer that has one.
struct CheckpointReader: Sendable {
    let node: NodeID
    let host: RaftHost
    let placement: Placement
    let directory: ShardDirectory
    let links: PeerLinks
    let threads: StoreThreads
    let proofs: LedgerProofs
    let service: CheckpointService
    let reads: ReadGate
    /// Whether this node has a key that is published and valid.
    let canSign: @Sendable () -> Bool
    /// How long a short question may take.
    let timeout: Duration
    /// How long a checkpoint on demand may take.
    let freshTimeout: Duration

    // MARK: Proofs

    /// - Throws: ``Problem`` and what reading throws.
    func answer(_ question: ProofQuestion, about entry: OrganizationEntry) async throws -> ProofAnswer {
        var failure: (any Error)?
        if self.placement.servesHere(entry) {
            do {
                return try await self.answerHere(question, entry)
            } catch let problem as Problem where Self.mayBeElsewhere(problem) {
                // A replica that came later has no old checkpoints; one that is behind not the newest.
                failure = problem
            }
        }
        var request = WireProofRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.target = question.text
        for peer in self.placement.others(of: entry.group) where self.links.isConnected(to: peer) {
            do {
                let response: WireProofResponse = try await self.links.call(
                    PeerPath.proof,
                    of: peer,
                    request,
                    timeout: self.timeout
                )
                guard response.problem.isEmpty else {
                    let problem = Problem(
                        Problem.Code(rawValue: response.problem) ?? .shardUnavailable,
                        response.detail
                    )
                    if failure == nil || problem.code != .shardUnavailable { failure = problem }
                    continue
                }
                return ProofAnswer(response.contentType, [UInt8](response.body))
            } catch {
                failure = failure ?? error
            }
        }
        throw failure as? Problem
            ?? Problem(.shardUnavailable, "no replica of \(entry.key) answers", cause: failure)
    }

    private static func mayBeElsewhere(_ problem: Problem) -> Bool {
        switch problem.code {
        case .checkpointNotFound, .recordNotFound, .tileNotFound, .shardUnavailable: true
        case .invalidParameter: true
        default: false
        }
    }

    private func answerHere(_ question: ProofQuestion, _ entry: OrganizationEntry) async throws -> ProofAnswer {
        let proofs = self.proofs
        let answer = try await self.threads.run { try proofs.answer(question, about: entry) }
        // A replica that goes elsewhere meanwhile leaves an empty ledger behind.
        guard self.placement.servesHere(entry) else {
            throw Problem(.shardUnavailable, "this node has no replica of the organization to read now")
        }
        return answer
    }

    /// Answers a peer from this node's replica.
    func answer(_ request: WireProofRequest) async -> WireProofResponse {
        var response = WireProofResponse()
        do {
            guard let question = ProofQuestion(text: request.target) else {
                throw Problem(.invalidParameter, "the question is not understood")
            }
            let entry = try self.entry(request.organization, request.key)
            let answer = try await self.answerHere(question, entry)
            response.contentType = answer.contentType
            response.body = Data(answer.body)
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }

    private func entry(_ organization: UInt32, _ key: String) throws(Problem) -> OrganizationEntry {
        guard let entry = OrganizationKey(key).flatMap({ self.directory.organization($0) }),
            entry.id.rawValue == organization, self.placement.servesHere(entry)
        else { throw Problem(.shardUnavailable, "node \(self.node) has no replica of \(key) to read now") }
        return entry
    }

    // MARK: Checkpoints on demand

    /// A checkpoint of everything acknowledged before the call, from the leader of the organization's group.
    /// - Throws: ``Problem``.
    func fresh(_ entry: OrganizationEntry) async throws -> StoredCheckpoint {
        let deadline = NodeClock.monotonic.now.advanced(by: self.freshTimeout)
        var failure = Problem(.noLeader, "no leader was found in time; nothing was signed")
        repeat {
            for candidate in self.candidates(entry) {
                do {
                    return try await self.fresh(entry, by: candidate)
                } catch let problem as Problem where problem.code == .noLeader || problem.code == .shardUnavailable {
                    failure = problem
                }
            }
            try await Task.sleep(for: CommandGateway.pause)
        } while NodeClock.monotonic.now < deadline
        throw failure
    }

    /// Who may lead the group, the likeliest first.
    private func candidates(_ entry: OrganizationEntry) -> [NodeID] {
        if let leader = self.host.leader(of: entry.group) { return [leader] }
        return self.placement.others(of: entry.group).filter { self.links.isConnected(to: $0) }
    }

    private func fresh(_ entry: OrganizationEntry, by leader: NodeID) async throws -> StoredCheckpoint {
        if leader == self.node { return try await self.freshHere(entry) }
        var request = WireFreshCheckpointRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        let response: WireFreshCheckpointResponse
        do {
            response = try await self.links.call(
                PeerPath.freshCheckpoint,
                of: leader,
                request,
                timeout: self.freshTimeout + .seconds(1)
            )
        } catch let error as PeerError {
            throw Problem(.noLeader, "the leader, node \(leader), does not answer", cause: error)
        }
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .checkpointUnavailable, response.detail)
        }
        return StoredCheckpoint(size: response.size, isWitnessed: response.witnessed, note: [UInt8](response.note))
    }

    private func freshHere(_ entry: OrganizationEntry) async throws -> StoredCheckpoint {
        guard self.canSign() else {
            throw Problem(.notSigning, "the leader, node \(self.node), has no key that is published and valid")
        }
        do {
            try await self.reads.linearize(entry.group)
            return try await self.service.fresh(entry, timeout: self.freshTimeout)
        } catch let error as NotPublished {
            throw Problem(Self.code(of: error.outcome), Self.detail(of: error.outcome, entry))
        } catch {
            throw Problem.wrapping(error)
        }
    }

    private static func code(of outcome: CheckpointRounds.Outcome) -> Problem.Code {
        switch outcome {
        case .published, .noQuorum: .checkpointUnavailable
        case .notLeader: .noLeader
        case .refused: .notSigning
        case .overloaded: .overloaded
        }
    }

    private static func detail(of outcome: CheckpointRounds.Outcome, _ entry: OrganizationEntry) -> String {
        switch outcome {
        case .published, .noQuorum: "no majority of the replicas of \(entry.key) signed in time"
        case .notLeader: "the leader of the group has changed"
        case .refused: "the leader does not sign \(entry.key): see the node's log"
        case .overloaded: "too many wait for a checkpoint of \(entry.key)"
        }
    }

    /// Answers a peer when this node leads the group.
    func answer(_ request: WireFreshCheckpointRequest) async -> WireFreshCheckpointResponse {
        var response = WireFreshCheckpointResponse()
        do {
            let entry = try self.entry(request.organization, request.key)
            guard self.host.leader(of: entry.group) == self.node else {
                throw Problem(.noLeader, "node \(self.node) does not lead the group of \(entry.key)")
            }
            let stored = try await self.freshHere(entry)
            response.size = stored.size
            response.note = Data(stored.note)
            response.witnessed = stored.isWitnessed
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }
}
