package import AuditLedger
package import Primitives
internal import Storage
internal import Synchronization

/// Owns one organization on one node: the head of its ledger and the answers to its repeated requests.
///
/// Runs on the lane of its group, one thread that applies all of the group's commands in order; so applying needs no
/// suspension, and all shards of a group share one atomic batch. What others may read at any time is published after
/// the batch is written.
package actor OrganizationShard {
    package nonisolated let organization: OrganizationID
    nonisolated let group: GroupID
    private nonisolated let lane: any ApplyLane
    private nonisolated let published: Mutex<LedgerHead>
    let store: any KeyValueStore
    private var appender: LedgerAppender
    /// Answers given in the batch that is being built, by idempotency key.
    private var unwritten: [Digest: (request: Digest, receipt: AppendReceipt)] = [:]
    /// Data subjects as of the batch that is being built.
    var subjects = SubjectChanges()
    /// Whether the batch that is being built holds writes of this shard.
    private var isInTurn = false

    package nonisolated var unownedExecutor: UnownedSerialExecutor { self.lane.asUnownedSerialExecutor() }

    /// Reads the stored head.
    /// - Throws: ``LedgerError``.
    init(
        organization: OrganizationID,
        group: GroupID,
        lane: any ApplyLane,
        store: any KeyValueStore,
        faults: ApplierFaults = []
    ) throws(LedgerError) {
        self.organization = organization
        self.group = group
        self.lane = lane
        self.store = store
        let head = faults.restored(try LedgerReader(store: store, organization: organization).head())
        self.appender = LedgerAppender(head: head, isBare: faults.contains(.chainAndTreeLeftOut))
        self.published = Mutex(head)
    }

    /// The head as of the last written batch; from any thread.
    package nonisolated var head: LedgerHead { self.published.withLock { $0 } }

    /// Records of the ledger, those of the batch that is being built included.
    var size: UInt64 { self.appender.head.size }

    /// Marks the shard as part of the batch that is being built.
    /// - Returns: What the caller must do for it: nothing when it was a part already.
    func enterTurn() -> (isFirst: Bool, isEmpty: Bool) {
        defer { self.isInTurn = true }
        return (!self.isInTurn, self.appender.head.size == 0)
    }

    /// Adds the command's records to the batch that is being built, or finds the answer that its idempotency key got
    /// before.
    /// - Throws: ``LedgerError``, ``StorageError`` or ``MalformedBytes`` when the store cannot be read: the node must
    ///   stop.
    func append(
        _ command: AppendCommand,
        stampedAt stamp: Timestamp,
        into batch: inout WriteBatch
    ) throws -> CommandResult {
        if let idempotency = command.idempotency, let answer = try self.earlierAnswer(to: idempotency) { return answer }
        var entries: [Digest: SubjectEntry] = [:]
        if !command.sealed.isEmpty {
            switch try self.admit(command.sealed) {
            case .success(let admitted): entries = admitted
            case .failure(let refused): return .refused(refused.refusal)
            }
        }
        let receipt = self.append(command.drafts, stampedAt: stamp, into: &batch)
        if !command.sealed.isEmpty { try self.put(command.sealed, entries, from: receipt.firstSequence, into: &batch) }
        if let idempotency = command.idempotency {
            self.unwritten[idempotency.key] = (idempotency.request, receipt)
            batch.put(
                .idempotency,
                key: IdempotencyRow.key(self.organization, idempotency.key),
                value: IdempotencyRow(request: idempotency.request, receipt: receipt).encoded()
            )
        }
        return .appended(receipt)
    }

    /// Adds records that no client asked for by a key of its own.
    @discardableResult
    func append(_ drafts: [EventDraft], stampedAt stamp: Timestamp, into batch: inout WriteBatch) -> AppendReceipt {
        let first = self.appender.nextSequence
        let (checksums, recordedAt) = self.appender.append(drafts, stampedAt: stamp, into: &batch)
        return AppendReceipt(firstSequence: first, checksums: checksums, recordedAt: recordedAt, isReplay: false)
    }

    private func earlierAnswer(to idempotency: Idempotency) throws -> CommandResult? {
        if let (request, receipt) = self.unwritten[idempotency.key] {
            return self.replay(receipt, of: request, for: idempotency)
        }
        let key = IdempotencyRow.key(self.organization, idempotency.key)
        guard let value = try self.store.get(key, in: .idempotency) else { return nil }
        let row = try IdempotencyRow(value)
        // A row beyond the head was staged by a snapshot that was never finished; the append that comes now writes it
        // again.
        guard row.lastSequence <= self.appender.head.lastSequence else { return nil }
        guard row.request == idempotency.request else { return .refused(.idempotencyKeyReused) }
        let checksums = try LedgerReader(store: self.store, organization: self.organization)
            .checksums(from: row.firstSequence, count: Int(row.count))
        let receipt = AppendReceipt(
            firstSequence: row.firstSequence,
            checksums: checksums,
            recordedAt: row.recordedAt,
            isReplay: true
        )
        return .appended(receipt)
    }

    private func replay(_ receipt: AppendReceipt, of request: Digest, for idempotency: Idempotency) -> CommandResult {
        guard request == idempotency.request else { return .refused(.idempotencyKeyReused) }
        return .appended(
            AppendReceipt(
                firstSequence: receipt.firstSequence,
                checksums: receipt.checksums,
                recordedAt: receipt.recordedAt,
                isReplay: true
            )
        )
    }

    /// Adds the tree nodes and the ledger's new head.
    func finish(into batch: inout WriteBatch) { self.appender.finish(into: &batch) }

    /// Shows what the written batch made.
    /// - Returns: The data subjects of which a node must look at its keys, and how many records are new.
    func publish() -> (subjects: [Digest], records: Int) {
        self.isInTurn = false
        if !self.unwritten.isEmpty { self.unwritten.removeAll(keepingCapacity: true) }
        let head = self.appender.head
        let records = self.published.withLock { published in
            defer { published = head }
            return Int(clamping: head.size) - Int(clamping: published.size)
        }
        return (self.subjects.end(), max(0, records))
    }
}

/// A row of the family `idempotency`: organization u32 · SHA-256 of the key → what it was used for and what it got.
struct IdempotencyRow {
    let request: Digest
    let firstSequence: SequenceNumber
    let count: UInt32
    let recordedAt: Timestamp

    var lastSequence: SequenceNumber { SequenceNumber(self.firstSequence.rawValue &+ UInt64(self.count) &- 1) }

    static func key(_ organization: OrganizationID, _ key: Digest) -> [UInt8] {
        var writer = ByteWriter(capacity: 36)
        writer.write(organization.rawValue)
        writer.write(key)
        return writer.bytes
    }

    init(request: Digest, receipt: AppendReceipt) {
        self.request = request
        self.firstSequence = receipt.firstSequence
        self.count = UInt32(receipt.checksums.count)
        self.recordedAt = receipt.recordedAt
    }

    init(_ value: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(value)
        self.request = try reader.readDigest()
        self.firstSequence = SequenceNumber(try reader.read())
        self.count = try reader.read()
        self.recordedAt = Timestamp(microseconds: try reader.read())
        try reader.finish("idempotency row")
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 52)
        writer.write(self.request)
        writer.write(self.firstSequence.rawValue)
        writer.write(self.count)
        writer.write(self.recordedAt.rawValue)
        return writer.bytes
    }
}
