package import Primitives
package import Storage

/// What an append made.
package struct AppendedRecord: Sendable, Hashable {
    package let sequence: SequenceNumber
    package let checksum: Digest
    package let recordedAt: Timestamp
    /// The canonical text, as stored.
    package let bytes: [UInt8]
}

/// Turns drafts into records, chain links and tree nodes, as writes of a batch.
///
/// Deterministic: the same head, drafts and stamps give the same bytes on every replica. The caller writes the batch
/// and keeps ``head`` for the next one only if the write succeeded.
package struct LedgerAppender: Sendable {
    /// The head after the appends so far.
    package private(set) var head: LedgerHead
    private var isChanged = false
    /// The text of the last time, as the records of a batch share it.
    private var timeText: (time: Timestamp, text: [UInt8])?
    /// Neighbouring tree nodes of one level, for one row of the store.
    private struct NodeRun {
        let first: UInt64
        /// The command that made them; a run never holds nodes of two.
        let command: Int
        var bytes: [UInt8]
    }

    /// Tree nodes that the next ``finish(into:)`` writes, by level: in the store's order, neighbours one after the
    /// other, because a memory table takes sequential keys without a search.
    private var unwrittenNodes: [[NodeRun]] = []
    private var command = 0

    /// Records so far when there is neither chain nor tree, else nil.
    private var bareSize: UInt64?

    /// - Parameter isBare: For measuring alone: records get their places, but neither links nor checksums nor tree nodes;
    ///   the head stays as it is.
    package init(head: LedgerHead, isBare: Bool = false) {
        self.head = head
        self.bareSize = isBare ? head.size : nil
    }

    /// The sequence of the record that comes next.
    package var nextSequence: SequenceNumber {
        self.bareSize.map { SequenceNumber($0 + 1) } ?? self.head.lastSequence.next
    }

    /// Adds one record.
    ///
    /// - Parameter stampedAt: The leader's time; what is recorded is never earlier than the record before.
    package mutating func append(
        _ draft: EventDraft,
        stampedAt: Timestamp,
        into batch: inout WriteBatch
    ) -> AppendedRecord {
        self.command += 1
        return self.add(draft, stampedAt: stampedAt, into: &batch)
    }

    /// Adds the records of one command, whose tree nodes then share rows.
    /// - Returns: The checksums of the records, and their time.
    package mutating func append(
        _ drafts: [EventDraft],
        stampedAt: Timestamp,
        into batch: inout WriteBatch
    ) -> (checksums: [Digest], recordedAt: Timestamp) {
        self.command += 1
        var checksums: [Digest] = []
        checksums.reserveCapacity(drafts.count)
        var recordedAt = stampedAt
        for draft in drafts {
            let record = self.add(draft, stampedAt: stampedAt, into: &batch)
            checksums.append(record.checksum)
            recordedAt = record.recordedAt
        }
        return (checksums, recordedAt)
    }

    private mutating func add(
        _ draft: EventDraft,
        stampedAt: Timestamp,
        into batch: inout WriteBatch
    ) -> AppendedRecord {
        let recordedAt = self.head.lastRecordedAt.map { max($0, stampedAt) } ?? stampedAt
        let sequence = self.nextSequence
        let organization = self.head.organization
        let bytes = draft.record(
            previous: self.head.lastChecksum,
            recordedAt: self.text(of: recordedAt),
            sequence: sequence
        )
        batch.put(.records, key: LedgerKeys.record(organization, sequence), value: bytes)
        if let size = self.bareSize {
            self.bareSize = size + 1
            self.isChanged = true
            return AppendedRecord(sequence: sequence, checksum: .zero, recordedAt: recordedAt, bytes: bytes)
        }
        let checksum = LedgerHash.leaf(bytes)
        self.push(checksum, recordedAt: recordedAt)
        return AppendedRecord(sequence: sequence, checksum: checksum, recordedAt: recordedAt, bytes: bytes)
    }

    /// Adds a record that another replica has made, after checking that it is a record and follows the last one.
    /// - Throws: ``LedgerError`` `.damaged`; nothing was changed.
    package mutating func adopt(_ bytes: [UInt8], into batch: inout WriteBatch) throws(LedgerError) {
        let fields = try RecordFields(scanning: bytes)
        let sequence = self.head.lastSequence.next
        guard fields.sequence == sequence, fields.previous == self.head.lastChecksum,
            self.head.lastRecordedAt.map({ $0 <= fields.recordedAt }) ?? true
        else { throw LedgerError(code: .damaged, message: "a record does not follow record \(self.head.lastSequence)") }
        batch.put(.records, key: LedgerKeys.record(self.head.organization, sequence), value: bytes)
        self.push(LedgerHash.leaf(bytes), recordedAt: fields.recordedAt)
    }

    private mutating func push(_ checksum: Digest, recordedAt: Timestamp) {
        var levels = self.unwrittenNodes
        self.unwrittenNodes = []
        let command = self.command
        self.head.tree.push(checksum) { position, digest in
            let level = Int(position.level)
            while levels.count <= level { levels.append([]) }
            if let last = levels[level].last, last.command == command, last.bytes.count < LedgerKeys.nodeRunBytesMax {
                digest.append(to: &levels[level][levels[level].count - 1].bytes)
            } else {
                levels[level].append(NodeRun(first: position.index, command: command, bytes: digest.bytes))
            }
        }
        self.unwrittenNodes = levels
        self.head.lastChecksum = checksum
        self.head.lastRecordedAt = recordedAt
        self.isChanged = true
    }

    private mutating func text(of time: Timestamp) -> [UInt8] {
        if let known = self.timeText, known.time == time { return known.text }
        var text: [UInt8] = []
        text.reserveCapacity(Timestamp.textByteCount)
        time.appendText(to: &text)
        self.timeText = (time, text)
        return text
    }

    /// Writes the tree nodes and the head, once per batch, when anything was appended.
    package mutating func finish(into batch: inout WriteBatch) {
        guard self.isChanged else { return }
        self.finishNodes(into: &batch)
        batch.put(.ledgerHeads, key: LedgerKeys.head(self.head.organization), value: self.head.encode())
        self.isChanged = false
    }

    /// Writes the tree nodes but not the head, which then comes later: what was added is not yet a part of the ledger.
    package mutating func finishNodes(into batch: inout WriteBatch) {
        let organization = self.head.organization
        for (level, runs) in self.unwrittenNodes.enumerated() {
            for run in runs {
                let position = TreePosition(level: UInt8(level), index: run.first)
                batch.put(.treeNodes, key: LedgerKeys.node(organization, position), value: run.bytes)
            }
        }
        self.unwrittenNodes = []
    }
}
