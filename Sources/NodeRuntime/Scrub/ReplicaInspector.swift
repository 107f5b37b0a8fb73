internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// How much of a replica is re-read; each level includes those before it.
enum VerificationLevel: String, Sendable, CaseIterable, Comparable {
    /// The head against the newest tree nodes and the last record.
    case heads
    /// Every record and tree node.
    case tree
    /// Every row that is derived from records, both ways: none is absent, none surplus, none different.
    case projections
    /// Every stored checkpoint: its root against the tree, its signatures against the published keys.
    case signatures

    private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }

    static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }
}

/// What re-reading this node's replica of an organization came to.
struct ReplicaInspection: Sendable {
    var size: UInt64 = 0
    var root = LedgerHash.emptyRoot
    var lastChecksum = Digest.zero
    var finding: LedgerFinding?
    /// Rows of projections that were compared.
    var rows: UInt64 = 0
    /// Checkpoints whose signatures were checked.
    var checkpoints: UInt64 = 0
}

/// Re-reads this node's replicas, as deeply as it is asked to.
struct ReplicaInspector: Sendable {
    let store: any KeyValueStore
    let threads: StoreThreads
    let applier: ShardApplier
    let columnar: ColumnarAudit
    let checkpoints: CheckpointAudit

    /// All cores, for whoever waits for the answer.
    static let lanes = VerificationLanes { count, body in
        DispatchQueue.concurrentPerform(iterations: count) { body($0) }
    }

    /// Records of a snapshot that is being installed lie beyond the head: they would look like damage.
    struct Installing: Error, CustomStringConvertible {
        var description: String { "the replica is taking a snapshot: verify it later" }
    }

    /// - Throws: ``Installing``, ``LedgerError``, ``StorageError`` and what reading projections throws.
    func inspect(_ entry: OrganizationEntry, _ level: VerificationLevel) async throws -> ReplicaInspection {
        let applier = self.applier
        guard try await !self.threads.run({ try applier.hasStaged(entry.id, in: entry.group) }) else {
            throw Installing()
        }
        var inspection = try await self.ledger(entry, level)
        guard inspection.finding == nil else { return inspection }
        if level >= .projections {
            let store = self.store
            let size = inspection.size
            let rows = try await self.threads.run { try RowAudit(store: store.snapshot()).run(entry) }
            inspection.rows += rows.rows
            inspection.finding = rows.finding
            guard inspection.finding == nil else { return inspection }
            let answers = try await self.threads.run {
                try IdempotencyAudit.run(store: store.snapshot(), organization: entry.id, size: size)
            }
            inspection.rows += answers.rows
            inspection.finding = answers.finding
            guard inspection.finding == nil else { return inspection }
            let columnar = try await self.columnar.run(entry.id)
            inspection.rows += columnar.rows
            inspection.finding = columnar.finding
            guard inspection.finding == nil else { return inspection }
        }
        if level >= .signatures {
            let audit = self.checkpoints
            let signed = try await self.threads.run { try audit.run(entry) }
            inspection.checkpoints = signed.checked
            inspection.finding = signed.finding
        }
        return inspection
    }

    private func ledger(_ entry: OrganizationEntry, _ level: VerificationLevel) async throws -> ReplicaInspection {
        let store = self.store
        return try await self.threads.run {
            let snapshot = try store.snapshot()
            var inspection = ReplicaInspection()
            guard level >= .tree else {
                let reader = LedgerReader(store: snapshot, organization: entry.id)
                inspection.finding = try reader.quickFinding()
                if let head = try? reader.head() {
                    inspection.size = head.size
                    inspection.root = head.root
                    inspection.lastChecksum = head.lastChecksum
                }
                return inspection
            }
            let outcome = try LedgerVerifier.verify(
                store: snapshot,
                organization: entry.id,
                key: entry.key,
                lanes: Self.lanes
            )
            inspection.size = outcome.size
            inspection.root = outcome.root
            inspection.lastChecksum = outcome.lastChecksum
            inspection.finding = outcome.finding
            return inspection
        }
    }
}
