internal import AuditLedger
internal import Primitives
internal import Storage

/// A refusal as an error.
struct RefusedCommand: Error {
    let refusal: Refusal
}

/// Data subjects as of the batch that is being built.
struct SubjectChanges {
    /// What the batch changes.
    private(set) var entries: [Digest: SubjectEntry] = [:]
    /// Those of which a node must look at its keys.
    private var news: Set<Digest> = []
    /// How many the organization has; nil until it was read.
    var count: UInt32?

    mutating func set(_ entry: SubjectEntry, _ subject: Digest, isNews: Bool) {
        self.entries[subject] = entry
        if isNews { self.news.insert(subject) }
    }

    /// Forgets what the written batch holds.
    /// - Returns: The subjects of which a node must look at its keys.
    mutating func end() -> [Digest] {
        if self.entries.isEmpty { return [] }
        defer {
            self.entries.removeAll()
            self.news.removeAll()
        }
        return Array(self.news)
    }
}

/// Personal values outside of the ledger: sealed, held, erased.
extension OrganizationShard {
    /// Whether the organization has no record yet, that of the batch being built included.
    var isEmpty: Bool { self.size == 0 }

    private func entry(of subject: Digest) throws -> SubjectEntry? {
        if let changed = self.subjects.entries[subject] { return changed }
        let key = GroupStateKey.subject(self.group, self.organization, subject)
        return try self.store.get(key, in: .groupState).map { try SubjectEntry($0) }
    }

    private func put(_ entry: SubjectEntry, _ subject: Digest, isNews: Bool, into batch: inout WriteBatch) {
        batch.put(
            .groupState,
            key: GroupStateKey.subject(self.group, self.organization, subject),
            value: entry.encoded()
        )
        self.subjects.set(entry, subject, isNews: isNews)
    }

    private func subjectCount() throws -> UInt32 {
        if let known = self.subjects.count { return known }
        let key = GroupStateKey.subjectCount(self.group, self.organization)
        var count = UInt32(0)
        if let value = try self.store.get(key, in: .groupState) {
            var reader = ByteReader(value)
            count = try reader.read()
        }
        self.subjects.count = count
        return count
    }

    // MARK: Sealing

    /// The entries of the data subjects as they will be with `values`; nothing is changed yet.
    func admit(_ values: [SealedValue]) throws -> Result<[Digest: SubjectEntry], RefusedCommand> {
        var entries: [Digest: SubjectEntry] = [:]
        var added = 0
        for value in values {
            let digest = SubjectEntry.digest(of: value.subject)
            var entry: SubjectEntry
            if let known = try entries[digest] ?? self.entry(of: digest) {
                entry = known
            } else {
                entry = SubjectEntry(subject: value.subject)
                added += 1
            }
            guard entry.erasedAt == nil else { return .failure(RefusedCommand(refusal: .subjectErased)) }
            entry.values += 1
            if !entry.keys.contains(value.key) { entry.keys.append(value.key) }
            guard entry.keys.count <= SubjectEntry.keysMax else {
                return .failure(RefusedCommand(refusal: .tooMany))
            }
            entries[digest] = entry
        }
        if added > 0, try Int(self.subjectCount()) + added > SubjectEntry.countMax {
            return .failure(RefusedCommand(refusal: .tooMany))
        }
        return .success(entries)
    }

    /// Adds sealed values of the records from `first` on, and the entries that ``admit(_:)`` made.
    func put(
        _ values: [SealedValue],
        _ entries: [Digest: SubjectEntry],
        from first: SequenceNumber,
        into batch: inout WriteBatch
    ) throws {
        var number: UInt16 = 0
        var draft: UInt32?
        for value in values {
            number = draft == value.draft ? number + 1 : 0
            draft = value.draft
            let sequence = SequenceNumber(first.rawValue + UInt64(value.draft))
            let subject = SubjectEntry.digest(of: value.subject)
            batch.put(
                .sealedValues,
                key: SealedRow.key(self.organization, subject, sequence, number: number),
                value: SealedRow(value).encoded()
            )
        }
        var added: UInt32 = 0
        // In one order on every replica: a batch may be compared.
        for (subject, entry) in entries.sorted(by: { $0.value.subject < $1.value.subject }) {
            let known = try self.entry(of: subject)
            if known == nil { added += 1 }
            self.put(entry, subject, isNews: known?.keys != entry.keys, into: &batch)
        }
        guard added > 0 else { return }
        let count = try self.subjectCount() + added
        self.subjects.count = count
        var writer = ByteWriter(capacity: 4)
        writer.write(count)
        batch.put(
            .groupState,
            key: GroupStateKey.subjectCount(self.group, self.organization),
            value: writer.bytes
        )
    }

    // MARK: Holding and erasing

    func hold(
        _ command: HoldSubjectCommand,
        _ origin: CommandOrigin?,
        stampedAt stamp: Timestamp,
        into batch: inout WriteBatch
    ) throws -> CommandResult {
        let subject = SubjectEntry.digest(of: command.subject)
        guard var entry = try self.entry(of: subject) else { return .refused(.subjectUnknown) }
        guard entry.erasedAt == nil else { return .refused(.alreadyErased) }
        if entry.isHeld == command.isOn { return .done }
        var record = self.record("retention_hold", entry)
        record.reason = command.reason
        record.before = [JSONMember("held", .bool(entry.isHeld))]
        record.after = [JSONMember("held", .bool(command.isOn))]
        guard let draft = record.draft(origin: origin, in: command.organizationKey) else { return .refused(.malformed) }
        entry.isHeld = command.isOn
        self.put(entry, subject, isNews: false, into: &batch)
        return .appended(self.append([draft], stampedAt: stamp, into: &batch))
    }

    func erase(
        _ command: EraseSubjectCommand,
        _ origin: CommandOrigin?,
        stampedAt stamp: Timestamp,
        into batch: inout WriteBatch
    ) throws -> CommandResult {
        let subject = SubjectEntry.digest(of: command.subject)
        guard var entry = try self.entry(of: subject) else { return .refused(.subjectUnknown) }
        guard entry.erasedAt == nil else { return .refused(.alreadyErased) }
        guard !entry.isHeld else { return .refused(.legalHold) }
        var record = self.record("erase_requested", entry)
        record.reason = command.reason
        record.after = [
            JSONMember("basis", .text(command.basis)), JSONMember("keys", .keys(entry.keys)),
            JSONMember("values", .count(entry.values)),
        ]
        guard let draft = record.draft(origin: origin, in: command.organizationKey) else { return .refused(.malformed) }
        let receipt = self.append([draft], stampedAt: stamp, into: &batch)
        entry.erasedAt = receipt.firstSequence
        self.put(entry, subject, isNews: true, into: &batch)
        let rows = SealedRow.prefix(self.organization, subject)
        if let upper = keyAfter(prefix: rows) { batch.deleteRange(.sealedValues, lower: rows, upper: upper) }
        batch.put(
            .groupState,
            key: GroupStateKey.pendingErasure(self.group, self.organization, subject),
            value: Array(command.organizationKey.rawValue.utf8)
        )
        return .appended(receipt)
    }

    func completeErasure(
        _ command: CompleteErasureCommand,
        _ origin: CommandOrigin?,
        stampedAt stamp: Timestamp,
        into batch: inout WriteBatch
    ) throws -> CommandResult {
        guard var entry = try self.entry(of: command.subject), let erasedAt = entry.erasedAt else {
            return .refused(.subjectUnknown)
        }
        if entry.completedAt != nil { return .done }
        var record = self.record("erase_completed", entry)
        record.after = [
            JSONMember("keys", .keys(entry.keys)), JSONMember("nodes", .nodes(command.nodes)),
            JSONMember("request", .count(erasedAt.rawValue)),
        ]
        guard let draft = record.draft(origin: origin, in: command.organizationKey) else { return .refused(.malformed) }
        let receipt = self.append([draft], stampedAt: stamp, into: &batch)
        entry.completedAt = receipt.firstSequence
        self.put(entry, command.subject, isNews: false, into: &batch)
        batch.delete(
            .groupState,
            key: GroupStateKey.pendingErasure(self.group, self.organization, command.subject)
        )
        return .appended(receipt)
    }

    private func record(_ action: String, _ entry: SubjectEntry) -> ClusterRecord {
        ClusterRecord(action: action, entityType: "data_subject", entityID: entry.subject)
    }
}

extension JSONValue {
    fileprivate static func keys(_ keys: [SubjectKeyName]) -> JSONValue { .array(keys.map { .text($0.description) }) }
}
