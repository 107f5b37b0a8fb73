internal import AuditLedger
internal import CoreMetrics
internal import Foundation
internal import Laboratory
internal import Logging
internal import Primitives
internal import Storage
internal import Synchronization

/// What replicas ask of each other.
extension CheckpointService {
    // MARK: Asking

    /// Asks a replica for signatures and gives it finished checkpoints.
    func ask(_ node: NodeID, _ proposals: [CheckpointRounds.Proposal], _ notes: [CheckpointRounds.NoteName]) async {
        do {
            let asked = try proposals.compactMap { proposal in
                try self.ports.entry(proposal.organization).map { (entry: $0, note: try self.note(proposal, $0)) }
            }
            var request = WireCheckpointRequest()
            request.proposals = asked.map { entry, note in
                var wire = WireCheckpointProposal()
                wire.organization = entry.id.rawValue
                wire.key = entry.key.rawValue
                wire.note = Data(note.encoded)
                return wire
            }
            request.notes = try await self.read(notes)
            let response = try await self.ports.ask(node, request)
            let answers = try await self.threads.run { self.check(response, asked, of: node) }
            let now = self.ports.now()
            self.state.withLock { $0.rounds.answered(node, answers, at: now) }
        } catch {
            self.logger.debug(
                "a replica does not answer about checkpoints",
                metadata: ["peer.id": "\(node)", "error.chain": "\(errorChain(error))"]
            )
            let now = self.ports.now()
            self.state.withLock { $0.rounds.failed(node, at: now) }
        }
        self.wake()
    }

    private func note(
        _ proposal: CheckpointRounds.Proposal,
        _ entry: OrganizationEntry
    ) throws(NoteError) -> SignedCheckpoint {
        try self.note(entry, proposal.head.size, proposal.head.root, proposal.head.signatures)
    }

    private func note(
        _ entry: OrganizationEntry,
        _ size: UInt64,
        _ root: Digest,
        _ signatures: [NoteSignature]
    ) throws(NoteError) -> SignedCheckpoint {
        let origin = try LogOrigin(cluster: self.signer.cluster, organization: entry.key)
        var note = try SignedCheckpoint(Checkpoint(origin: origin, size: size, root: root))
        try note.add(signatures)
        return note
    }

    private func read(_ names: [CheckpointRounds.NoteName]) async throws -> [WireCheckpointNote] {
        guard !names.isEmpty else { return [] }
        let (rows, entry) = (self.rows, self.ports.entry)
        return try await self.threads.run {
            try names.compactMap { name in
                guard let entry = entry(name.organization),
                    let stored = try rows.checkpoint(of: name.organization, size: name.size)
                else { return nil }
                var wire = WireCheckpointNote()
                wire.organization = entry.id.rawValue
                wire.key = entry.key.rawValue
                wire.note = Data(stored.note)
                wire.witnessed = stored.isWitnessed
                return wire
            }
        }
    }

    /// Checks a replica's answers; blocks when a fork has to be stored.
    private func check(
        _ response: WireCheckpointResponse,
        _ asked: [(entry: OrganizationEntry, note: SignedCheckpoint)],
        of node: NodeID
    ) -> [(name: CheckpointRounds.NoteName, answer: CheckpointRounds.Answer)] {
        var answers: [(name: CheckpointRounds.NoteName, answer: CheckpointRounds.Answer)] = []
        for ((entry, note), answer) in zip(asked, response.answers) {
            let name = CheckpointRounds.NoteName(organization: entry.id, size: note.checkpoint.size)
            answers.append((name, self.check(answer, of: node, entry, note)))
        }
        return answers
    }

    private func check(
        _ answer: WireCheckpointAnswer,
        of node: NodeID,
        _ entry: OrganizationEntry,
        _ own: SignedCheckpoint
    ) -> CheckpointRounds.Answer {
        guard answer.organization == entry.id.rawValue else { return .refused }
        switch answer.kind {
        case .behind: return .behind
        case .signed, .diverged:
            do {
                let note = try SignedCheckpoint(parsing: answer.note)
                guard note.checkpoint.origin == own.checkpoint.origin, note.checkpoint.size == own.checkpoint.size
                else {
                    return .refused
                }
                let signatures = try self.signer.book.cosignatures(
                    note.note.signatures,
                    of: note.checkpoint,
                    by: node
                )
                guard !signatures.isEmpty else { return .refused }
                if note.checkpoint == own.checkpoint { return .signed(signatures) }
                self.raise(try ForkProof(own, note), of: entry, between: [self.node, node])
            } catch {
                self.metrics.raised(.forgery)
                self.logger.error(
                    "a replica's signature of a checkpoint is wrong",
                    metadata: [
                        "peer.id": "\(node)", "organization.key": "\(entry.key)", "error.chain": "\(errorChain(error))",
                    ]
                )
            }
            return .refused
        case .refused, .contradiction, .UNRECOGNIZED: return .refused
        }
    }

    // MARK: Answering

    /// Signs what a leader asks for, if this node's own store says the same, and keeps finished checkpoints.
    func answer(_ request: WireCheckpointRequest, from peer: NodeID) async -> WireCheckpointResponse {
        await self.keep(request.notes)
        var response = WireCheckpointResponse()
        var wanted: [CheckpointSigner.Wanted] = []
        var proposals: [Int: SignedCheckpoint] = [:]
        var seen: Set<UInt32> = []
        for (place, proposal) in request.proposals.enumerated() {
            var answer = WireCheckpointAnswer()
            answer.organization = proposal.organization
            response.answers.append(answer)
            guard let entry = self.entry(proposal.organization, proposal.key), self.ports.serves(entry),
                let note = try? SignedCheckpoint(parsing: proposal.note), self.isOwn(note, entry),
                seen.insert(proposal.organization).inserted
            else { continue }
            proposals[place] = note
            wanted.append(CheckpointSigner.Wanted(organization: entry, size: note.checkpoint.size, asLog: false))
        }
        let outcomes = await self.sign(wanted)
        for (place, (wanted, outcome)) in zip(proposals.keys.sorted(), zip(wanted, outcomes)) {
            guard let proposal = proposals[place] else { continue }
            self.write(outcome, to: &response.answers[place], wanted.organization)
            guard case .signed(let own) = outcome else { continue }
            if own.checkpoint == proposal.checkpoint {
                self.isConsistent(wanted.organization)
                continue
            }
            response.answers[place].kind = .diverged
            await self.diverged(wanted.organization, own, proposal, peer)
        }
        return response
    }

    private func write(
        _ outcome: CheckpointSigner.Outcome,
        to answer: inout WireCheckpointAnswer,
        _ entry: OrganizationEntry
    ) {
        switch outcome {
        case .signed(let own):
            answer.kind = .signed
            answer.note = Data(own.encoded)
        case .behind: answer.kind = .behind
        case .contradiction(let last):
            self.raiseContradiction(entry, last)
            answer.kind = .contradiction
        case .stale, .noKey: answer.kind = .refused
        case .failed(let error):
            answer.kind = .refused
            self.logger.error(
                "the head of a ledger cannot be signed",
                metadata: ["organization.key": "\(entry.key)", "error.chain": "\(errorChain(error))"]
            )
        }
    }

    /// Keeps the proof, when the other head is signed by whom it says.
    private func diverged(
        _ entry: OrganizationEntry,
        _ own: SignedCheckpoint,
        _ other: SignedCheckpoint,
        _ peer: NodeID
    ) async {
        do {
            let signatures = try self.signer.book.cosignatures(other.note.signatures, of: other.checkpoint, by: peer)
            guard !signatures.isEmpty else { return }
            let proof = try ForkProof(own, other)
            let node = self.node
            try await self.threads.run { self.raise(proof, of: entry, between: [node, peer]) }
        } catch {
            self.metrics.raised(.forgery)
            self.logger.error(
                "a leader's signature of a checkpoint is wrong",
                metadata: ["peer.id": "\(peer)", "error.chain": "\(errorChain(error))"]
            )
        }
    }

    private func entry(_ organization: UInt32, _ key: String) -> OrganizationEntry? {
        guard let entry = self.ports.entry(OrganizationID(organization)), entry.key.rawValue == key else { return nil }
        return entry
    }

    private func isOwn(_ note: SignedCheckpoint, _ entry: OrganizationEntry) -> Bool {
        let origin = try? LogOrigin(cluster: self.signer.cluster, organization: entry.key)
        return note.checkpoint.origin == origin && note.checkpoint.extensions.isEmpty
    }

    /// Stores finished checkpoints of a leader that a majority has signed and that this node's own store confirms.
    private func keep(_ notes: [WireCheckpointNote]) async {
        var known: [(entry: OrganizationEntry, note: SignedCheckpoint, isWitnessed: Bool, quorum: SigningQuorum)] = []
        for wire in notes {
            guard let entry = self.entry(wire.organization, wire.key), self.ports.serves(entry),
                let quorum = self.ports.quorum(entry.group),
                let note = try? SignedCheckpoint(parsing: wire.note), self.isOwn(note, entry)
            else { continue }
            known.append((entry, note, wire.witnessed, quorum))
        }
        guard !known.isEmpty else { return }
        let (rows, book, metrics) = (self.rows, self.signer.book, self.metrics)
        let kept: [(OrganizationID, UInt64)]
        do {
            kept = try await self.threads.run { [known] in
                var batch = WriteBatch()
                var kept: [(OrganizationID, UInt64)] = []
                for (entry, note, isWitnessed, quorum) in known {
                    guard let signers = try? book.signers(of: note) else {
                        metrics.raised(.forgery)
                        continue
                    }
                    guard quorum.isReached(by: signers) else { continue }
                    let reader = LedgerReader(store: rows.store, organization: entry.id)
                    let size = note.checkpoint.size
                    // One that this replica cannot confirm comes again with a larger size.
                    guard try reader.head().size >= size, try reader.treeRoot(size: size) == note.checkpoint.root else {
                        continue
                    }
                    try rows.merge(note, isWitnessed: isWitnessed, of: entry.id, into: &batch)
                    kept.append((entry.id, size))
                }
                if !batch.isEmpty { try rows.store.write(batch, durability: .logged) }
                return kept
            }
        } catch {
            self.logger.warning("checkpoints not kept", metadata: ["error.chain": "\(errorChain(error))"])
            return
        }
        let now = self.ports.now()
        self.state.withLock { state in
            for (organization, size) in kept { state.rounds.stored(organization, size: size, at: now) }
        }
        self.wake()
    }

    // MARK: Storing

    /// Stores what a majority has signed.
    /// - Returns: false when it could not be stored.
    func store(_ finished: [CheckpointRounds.Published]) async -> Bool {
        guard !finished.isEmpty else { return true }
        let entries = finished.map { self.ports.entry($0.organization) }
        let rows = self.rows
        do {
            let stored = try await self.threads.run {
                var batch = WriteBatch()
                var stored: [(OrganizationEntry, StoredCheckpoint)] = []
                for (published, entry) in zip(finished, entries) {
                    guard let entry else { continue }
                    let note = try self.note(
                        entry,
                        published.size,
                        published.root,
                        published.signatures.flatMap(\.signatures)
                    )
                    stored.append((entry, try rows.merge(note, isWitnessed: false, of: entry.id, into: &batch)))
                }
                try rows.store.write(batch, durability: .logged)
                return stored
            }
            self.metrics.published.increment(by: stored.count)
            for checkpoint in stored { self.published.send(checkpoint) }
            return true
        } catch {
            self.logger.error("checkpoints cannot be stored", metadata: ["error.chain": "\(errorChain(error))"])
            return false
        }
    }
}
