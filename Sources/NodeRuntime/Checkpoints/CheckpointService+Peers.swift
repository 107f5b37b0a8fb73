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
                    by: node,
                    in: self.times(of: entry)
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
    ///
    /// Notes are read and written on store threads: the caller's is that of consensus.
    func answer(_ request: WireCheckpointRequest, from peer: NodeID) async -> WireCheckpointResponse {
        await self.keep(request.notes)
        guard !request.proposals.isEmpty else { return WireCheckpointResponse() }
        do {
            let asked = try await self.threads.run { self.read(request.proposals) }
            let outcomes = await self.sign(asked.map(\.wanted))
            return try await self.threads.run { self.response(to: request, asked, outcomes, peer) }
        } catch {
            self.logger.debug("a leader is not answered", metadata: ["error.chain": "\(errorChain(error))"])
            return WireCheckpointResponse()
        }
    }

    /// A proposal that may be looked at.
    private struct Asked: Sendable {
        /// Among the proposals.
        let place: Int
        let proposal: SignedCheckpoint
        let wanted: CheckpointSigner.Wanted
    }

    private func read(_ proposals: [WireCheckpointProposal]) -> [Asked] {
        var seen: Set<UInt32> = []
        var asked: [Asked] = []
        for (place, proposal) in proposals.enumerated() {
            guard let entry = self.entry(proposal.organization, proposal.key), self.ports.serves(entry),
                let note = try? SignedCheckpoint(parsing: proposal.note), self.isOwn(note, entry),
                // Two heads of one organization in one turn could be promised in the wrong order.
                seen.insert(proposal.organization).inserted
            else { continue }
            let wanted = CheckpointSigner.Wanted(organization: entry, size: note.checkpoint.size, asLog: false)
            asked.append(Asked(place: place, proposal: note, wanted: wanted))
        }
        return asked
    }

    private func response(
        to request: WireCheckpointRequest,
        _ asked: [Asked],
        _ outcomes: [CheckpointSigner.Outcome],
        _ peer: NodeID
    ) -> WireCheckpointResponse {
        var response = WireCheckpointResponse()
        response.answers = request.proposals.map { proposal in
            var answer = WireCheckpointAnswer()
            answer.organization = proposal.organization
            return answer
        }
        for (asked, outcome) in zip(asked, outcomes) {
            let entry = asked.wanted.organization
            self.write(outcome, to: &response.answers[asked.place], entry)
            guard case .signed(let own) = outcome else { continue }
            if own.checkpoint == asked.proposal.checkpoint {
                self.isConsistent(entry)
                continue
            }
            response.answers[asked.place].kind = .diverged
            self.diverged(entry, own, asked.proposal, peer)
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

    /// Keeps the proof, when the other head is signed by whom it says. Blocks.
    private func diverged(
        _ entry: OrganizationEntry,
        _ own: SignedCheckpoint,
        _ other: SignedCheckpoint,
        _ peer: NodeID
    ) {
        do {
            let signatures = try self.signer.book.cosignatures(
                other.note.signatures,
                of: other.checkpoint,
                by: peer,
                in: nil
            )
            guard !signatures.isEmpty else { return }
            self.raise(try ForkProof(own, other), of: entry, between: [self.node, peer])
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

    private func times(of entry: OrganizationEntry) -> KeyBook.LogTimes {
        KeyBook.LogTimes(reader: LedgerReader(store: self.rows.store, organization: entry.id))
    }

    private func isOwn(_ note: SignedCheckpoint, _ entry: OrganizationEntry) -> Bool {
        let origin = try? LogOrigin(cluster: self.signer.cluster, organization: entry.key)
        return note.checkpoint.origin == origin && note.checkpoint.extensions.isEmpty
    }

    /// Stores finished checkpoints of a leader that a majority has signed and that this node's own store confirms.
    private func keep(_ notes: [WireCheckpointNote]) async {
        guard !notes.isEmpty else { return }
        let kept: [(OrganizationID, UInt64)]
        do {
            kept = try await self.threads.run { try self.keepConfirmed(notes) }
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

    private func keepConfirmed(_ notes: [WireCheckpointNote]) throws -> [(OrganizationID, UInt64)] {
        var kept: [(organization: OrganizationID, note: SignedCheckpoint, isWitnessed: Bool)] = []
        for wire in notes {
            guard let entry = self.entry(wire.organization, wire.key), self.ports.serves(entry),
                let quorum = self.ports.quorum(entry.group),
                let note = try? SignedCheckpoint(parsing: wire.note), self.isOwn(note, entry)
            else { continue }
            guard let signers = try? self.signer.book.signers(of: note, in: self.times(of: entry)) else {
                self.metrics.raised(.forgery)
                continue
            }
            guard quorum.isReached(by: signers) else { continue }
            let reader = LedgerReader(store: self.rows.store, organization: entry.id)
            let size = note.checkpoint.size
            // One that this replica cannot confirm comes again with a larger size.
            guard try reader.head().size >= size, try reader.treeRoot(size: size) == note.checkpoint.root else {
                continue
            }
            kept.append((entry.id, note, wire.witnessed))
        }
        try self.rows.keep(kept, isWitnessed: self.witnesses.isMet(by:))
        return kept.map { ($0.organization, $0.note.checkpoint.size) }
    }

    // MARK: Storing

    /// Stores what a majority has signed.
    /// - Returns: false when it could not be stored.
    func store(_ finished: [CheckpointRounds.Published]) async -> Bool {
        guard !finished.isEmpty else { return true }
        let entries = finished.map { self.ports.entry($0.organization) }
        let rows = self.rows
        do {
            let witnesses = self.witnesses
            let stored = try await self.threads.run {
                var notes: [(organization: OrganizationID, note: SignedCheckpoint, isWitnessed: Bool)] = []
                var known: [OrganizationEntry] = []
                for (published, entry) in zip(finished, entries) {
                    guard let entry else { continue }
                    let signatures = published.signatures.flatMap(\.signatures)
                    notes.append((entry.id, try self.note(entry, published.size, published.root, signatures), false))
                    known.append(entry)
                }
                return Array(zip(known, try rows.keep(notes, isWitnessed: witnesses.isMet(by:))))
            }
            self.metrics.published.increment(by: stored.count)
            for checkpoint in stored { self.published.send(checkpoint) }
            return true
        } catch {
            self.logger.error("checkpoints cannot be stored", metadata: ["error.chain": "\(errorChain(error))"])
            return false
        }
    }

    /// Gives a stored checkpoint, which has got more signatures, to the other replicas.
    func spread(_ entry: OrganizationEntry, size: UInt64, to quorum: SigningQuorum) {
        let now = self.ports.now()
        self.state.withLock { $0.rounds.spread(entry.id, size: size, to: quorum, at: now) }
        self.wake()
    }
}
