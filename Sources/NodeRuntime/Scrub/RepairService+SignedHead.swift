internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// What an operator learns of a signed head that contradicts the repaired history, before and after its memory is
/// replaced.
struct SignedHeadOutcome: Sendable {
    /// What the node had signed; nil when its memory cannot be read.
    var signed: TreeHead?
    /// The head that takes its place.
    var trusted: TreeHead
    /// A note of the node over both: C2SP signed-note; without a key the text alone.
    var evidence: String
    /// Whether the memory was replaced; otherwise it would be.
    var isCleared: Bool
}

extension RepairService {
    /// Replaces the memory of the largest head that this node has signed for an organization.
    ///
    /// The replica must be sound, and a checkpoint that a majority has signed must speak for it. The contradictory head is
    /// in the cluster's ledger before its memory goes; forks that were found stay where they are.
    /// - Parameters:
    ///   - expected: The head that the operator has evidence of; only that one is replaced. nil shows what would be done.
    ///   - reason: Why, for the record.
    /// - Throws: ``Failure``, and what reading, writing and the gateway throw; then the memory is as it was.
    func clearSignedHead(
        _ entry: OrganizationEntry,
        expected: TreeHead?,
        reason: String,
        origin: CommandOrigin
    ) async throws -> SignedHeadOutcome {
        guard self.placement.servesHere(entry.group) else {
            throw Failure(.notHosted, "node \(self.node) has no replica of \(entry.key) now")
        }
        let inspection = try await self.inspector.inspect(entry, .tree)
        if let finding = inspection.finding {
            throw Failure(
                .notMended,
                "record \(finding.sequence) is \(finding.kind.rawValue): repair the replica first"
            )
        }
        let facts = try await self.facts(entry)
        let trusted: TreeHead
        switch SignedHeadRule.decide(facts) {
        case .replace(let head): trusted = head
        case .nothingWrong:
            throw Failure(.notMended, "the records of node \(self.node) lead to what it has signed: nothing is wrong")
        case .behind:
            throw Failure(
                .notMended,
                "node \(self.node) has \(facts.size) records and has signed more: wait until it has caught up"
            )
        case .notTrusted:
            throw Failure(.notTrusted, "no quorum-signed checkpoint speaks for the records of node \(self.node)")
        }
        var outcome = SignedHeadOutcome(
            signed: facts.last,
            trusted: trusted,
            evidence: self.evidence(entry, facts, trusted),
            isCleared: false
        )
        guard let expected else { return outcome }
        guard facts.last ?? TreeHead(size: 0, root: .zero) == expected else {
            throw Failure(.notMended, "node \(self.node) has signed another head than the one that is to be cleared")
        }
        try await self.recordCleared(entry, outcome, reason, origin)
        try await self.checkpoints.replaceSignedHead(of: entry, facts.last, by: trusted)
        let register = self.reporter.register
        try await self.threads.run { if register.contains(entry.id) { try register.clear(entry.id) } }
        outcome.isCleared = true
        return outcome
    }

    private func facts(_ entry: OrganizationEntry) async throws -> SignedHeadRule.Facts {
        let trusted = await self.trusted.checkpoints(of: entry).last
        let holdings = await self.replicas.holdings(of: entry)
        let (store, rows) = (self.store, self.checkpoints.rows)
        return try await self.threads.run {
            let reader = LedgerReader(store: try store.snapshot(), organization: entry.id)
            let size = try reader.head().size
            func root(_ at: UInt64) throws -> Digest? { at <= size ? try reader.treeRoot(size: at) : nil }
            let last: TreeHead?
            do {
                guard let known = try rows.signedHead(of: entry.id) else {
                    throw Failure(.notMended, "this node has signed no head of \(entry.key)")
                }
                last = known
            } catch is MalformedBytes {
                last = nil
            } catch let error as StorageError where error.code == .corruption {
                last = nil
            }
            let answers = holdings.compactMap(\.holding)
            return SignedHeadRule.Facts(
                last: last,
                size: size,
                rootAtLast: try last.flatMap { try root($0.size) },
                trusted: try trusted.map { known in
                    let head = TreeHead(size: known.size, root: known.root)
                    return (head: head, isOwn: try root(known.size) == known.root)
                },
                isLongest: answers.count * 2 > holdings.count && answers.allSatisfy { $0.size <= size }
            )
        }
    }

    private func evidence(_ entry: OrganizationEntry, _ facts: SignedHeadRule.Facts, _ trusted: TreeHead) -> String {
        let text = SignedHeadRule.evidence(
            origin: "\(self.reporter.cluster)/\(entry.key)",
            node: self.node,
            signed: facts.last,
            held: TreeHead(size: facts.last?.size ?? facts.size, root: facts.rootAtLast ?? trusted.root),
            trusted: trusted,
            at: SystemTime.now()
        )
        return self.reporter.signed(text) ?? text
    }

    /// What the node had signed stands in the cluster's ledger before the node forgets it.
    private func recordCleared(
        _ entry: OrganizationEntry,
        _ outcome: SignedHeadOutcome,
        _ reason: String,
        _ origin: CommandOrigin
    ) async throws {
        var members = [
            JSONMember("node", .text(self.node.description)),
            JSONMember("note", .text(outcome.evidence)),
            JSONMember("reason", .text(reason)),
            JSONMember("trusted_root", .text(outcome.trusted.root.hex)),
            JSONMember("trusted_size", .text(String(outcome.trusted.size))),
        ]
        if let signed = outcome.signed {
            members.append(JSONMember("signed_root", .text(signed.root.hex)))
            members.append(JSONMember("signed_size", .text(String(signed.size))))
        }
        let command = ClusterEventCommand(
            action: "ledger.signed_head_cleared",
            entityType: "ledger",
            entityID: entry.key.rawValue,
            details: CanonicalJSON.encode(.object(members)),
            severity: .critical
        )
        let result = try await self.reporter.gateway.submit(
            .recordClusterEvent(command),
            to: .system,
            mayRepeat: false,
            origin: origin
        )
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
    }
}
