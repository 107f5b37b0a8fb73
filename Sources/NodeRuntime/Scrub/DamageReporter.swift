internal import AuditLedger
internal import Consensus
internal import CoreMetrics
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage

/// What happens when a node finds its own history damaged, or sound again: it stops serving, hands leadership on, logs,
/// counts, and has it written into the cluster's ledger.
struct DamageReporter: Sendable {
    /// What came of a whole re-reading, for the cluster's ledger.
    struct Attestation: Sendable {
        let size: UInt64
        let root: Digest
        let bytesRead: UInt64
        let begunAt: Timestamp
        let endedAt: Timestamp
    }

    let node: NodeID
    let cluster: String
    let register: DamageRegister
    let threads: StoreThreads
    let host: RaftHost
    let gateway: CommandGateway
    /// The node's keys that are published and valid now, the one in use first.
    let keys: @Sendable () -> [NoteSignerKey]
    let metrics: ScrubMetrics
    let logger: Logger

    /// A finding of this node about its own replica.
    func found(_ finding: LedgerFinding, in entry: OrganizationEntry, attestation: Attestation? = nil) async {
        guard finding.isOfHistory else {
            self.log(finding, entry, isServed: true)
            return
        }
        let register = self.register
        let isNew: Bool
        do {
            isNew = try await self.threads.run { try register.mark(entry.id, finding) }
        } catch {
            self.logger.error("damage not stored", metadata: ["error.chain": "\(errorChain(error))"])
            isNew = true
        }
        guard isNew else { return }
        await self.announce(finding, in: entry, attestation: attestation)
    }

    /// Tells of a finding that is in the register.
    func announce(_ finding: LedgerFinding, in entry: OrganizationEntry, attestation: Attestation? = nil) async {
        self.metrics.findings.increment()
        self.log(finding, entry, isServed: false)
        await self.handLeadershipOn(of: entry.group)
        await self.record("ledger.damaged", entry, finding: finding, attestation: attestation, severity: .critical)
    }

    private func log(_ finding: LedgerFinding, _ entry: OrganizationEntry, isServed: Bool) {
        self.logger.error(
            isServed ? "a projection is stale" : "history damaged; the organization is no longer served by this node",
            metadata: [
                "organization.key": "\(entry.key)", "finding.kind": "\(finding.kind.rawValue)",
                "finding.sequence": "\(finding.sequence)", "finding.place": "\(finding.place)",
                "finding.detail": "\(finding.detail)",
            ]
        )
    }

    /// A re-reading on demand found nothing: what was repaired by other means is served again.
    func foundNothing(in entry: OrganizationEntry, _ level: VerificationLevel) async {
        guard let finding = self.register.finding(of: entry.id) else { return }
        // Another history, or a shorter one, can be sound in itself: only a repair ends that.
        guard level >= finding.level, finding.kind != .fork, finding.kind != .truncated else { return }
        await self.clear(finding, of: entry)
    }

    /// Serves the organization again, and has that recorded.
    func clear(_ finding: LedgerFinding, of entry: OrganizationEntry, origin: CommandOrigin? = nil) async {
        let register = self.register
        guard (try? await self.threads.run({ try register.clear(entry.id) })) != nil else { return }
        self.logger.notice("history sound again; served", metadata: ["organization.key": "\(entry.key)"])
        await self.record(
            "ledger.found_sound",
            entry,
            finding: finding,
            attestation: nil,
            severity: .warning,
            origin: origin
        )
    }

    /// A whole re-reading found nothing.
    func sound(_ entry: OrganizationEntry, _ attestation: Attestation) async {
        self.metrics.passes.increment()
        await self.record("ledger.scrubbed", entry, finding: nil, attestation: attestation, severity: .info)
    }

    /// Has another replica lead, when this one does.
    func handLeadershipOn(of group: GroupID) async {
        guard let status = self.host.status(of: group), status.role == .leader else { return }
        let others = status.replicas.filter { $0.isRecentlyActive && !$0.isLearner && $0.node != self.node }
        for replica in others.sorted(by: { $0.lag < $1.lag }) {
            if (try? await self.host.transferLeadership(group, to: replica.node)) != nil { return }
        }
    }

    // MARK: The cluster's ledger

    /// Writes into the cluster's ledger; when it cannot be reached now, the log and the register must do.
    func record(
        _ action: String,
        _ entry: OrganizationEntry,
        finding: LedgerFinding?,
        attestation: Attestation?,
        more: [JSONMember] = [],
        severity: Severity,
        origin: CommandOrigin? = nil
    ) async {
        var members = [JSONMember("node", .text(self.node.description))]
        if let attestation {
            members.append(JSONMember("size", .text(String(attestation.size))))
            members.append(JSONMember("root", .text(attestation.root.hex)))
            members.append(JSONMember("bytes_read", .text(String(attestation.bytesRead))))
            members.append(JSONMember("begun_at", .text(attestation.begunAt.description)))
            members.append(JSONMember("ended_at", .text(attestation.endedAt.description)))
            if let note = self.signed(entry, finding, attestation) { members.append(JSONMember("note", .text(note))) }
        }
        if let finding {
            members.append(JSONMember("kind", .text(finding.kind.rawValue)))
            members.append(JSONMember("sequence", .text(String(finding.sequence.rawValue))))
            members.append(JSONMember("place", .text(finding.place)))
        }
        let command = ClusterEventCommand(
            action: action,
            entityType: "ledger",
            entityID: entry.key.rawValue,
            details: CanonicalJSON.encode(.object(members + more)),
            severity: severity
        )
        do {
            _ = try await self.gateway.submit(
                .recordClusterEvent(command),
                to: .system,
                mayRepeat: false,
                origin: origin ?? .node(self.node)
            )
        } catch {
            self.logger.warning(
                "not written into the cluster's ledger",
                metadata: ["event.action": "\(action)", "organization.key": "\(entry.key)", "error": "\(error)"]
            )
        }
    }

    /// «All bytes up to this size were re-read between these times», as a note signed by this node; nil without a key.
    private func signed(_ entry: OrganizationEntry, _ finding: LedgerFinding?, _ attestation: Attestation) -> String? {
        let lines = [
            "flasktrack/scrub/v1", "\(self.cluster)/\(entry.key)", String(attestation.size), attestation.root.hex,
            attestation.begunAt.description, attestation.endedAt.description,
            finding.map { "\($0.kind.rawValue) \($0.place)" } ?? "sound",
        ]
        return self.signed(lines.joined(separator: "\n") + "\n")
    }

    /// A text as a note signed by this node; nil without a key.
    func signed(_ text: String) -> String? {
        let text = Array(text.utf8)
        guard let key = self.keys().first, var note = try? SignedNote(text: text),
            // The key signs checkpoints as a cosigner; under the same name it signs this as plain Ed25519.
            let signer = try? NoteSignerKey(name: key.name, type: .ed25519, seed: key.seed),
            let signature = try? signer.signature(over: text), (try? note.add(signature)) != nil
        else { return nil }
        return String(decoding: note.encoded, as: UTF8.self)
    }
}

extension LedgerFinding {
    /// The least level of a verification that reads what was found damaged.
    var level: VerificationLevel {
        switch self.place.prefix(while: { $0 != "/" }) {
        case ColumnFamily.records.rawValue, ColumnFamily.treeNodes.rawValue, ColumnFamily.ledgerHeads.rawValue: .tree
        case ColumnFamily.checkpoints.rawValue, ColumnFamily.signedHeads.rawValue: .signatures
        default: .projections
        }
    }
}
