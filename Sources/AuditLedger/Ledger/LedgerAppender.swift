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

    package init(head: LedgerHead) { self.head = head }

    /// Adds one record.
    ///
    /// - Parameter stampedAt: The leader's time; what is recorded is never earlier than the record before.
    package mutating func append(
        _ draft: EventDraft,
        stampedAt: Timestamp,
        into batch: inout WriteBatch
    ) -> AppendedRecord {
        let recordedAt = self.head.lastRecordedAt.map { max($0, stampedAt) } ?? stampedAt
        let sequence = self.head.lastSequence.next
        let organization = self.head.organization
        let bytes = draft.record(previous: self.head.lastChecksum, recordedAt: recordedAt, sequence: sequence)
        let checksum = LedgerHash.leaf(bytes)
        batch.put(.records, key: LedgerKeys.record(organization, sequence), value: bytes)
        self.head.tree.push(checksum) { position, digest in
            batch.put(.treeNodes, key: LedgerKeys.node(organization, position), value: digest.bytes)
        }
        self.head.lastChecksum = checksum
        self.head.lastRecordedAt = recordedAt
        self.isChanged = true
        return AppendedRecord(sequence: sequence, checksum: checksum, recordedAt: recordedAt, bytes: bytes)
    }

    /// Writes the head, once per batch, when anything was appended.
    package mutating func finish(into batch: inout WriteBatch) {
        guard self.isChanged else { return }
        batch.put(.ledgerHeads, key: LedgerKeys.head(self.head.organization), value: self.head.encode())
        self.isChanged = false
    }
}
