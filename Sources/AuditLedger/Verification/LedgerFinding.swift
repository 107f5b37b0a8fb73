package import Primitives

/// The first thing that is wrong in one replica of a ledger.
package struct LedgerFinding: Sendable, Hashable, CustomStringConvertible {
    /// What is wrong; the raw value is a stable name.
    package enum Kind: String, Sendable, CaseIterable {
        /// The record's bytes are not those that were hashed when it was appended.
        case modified
        /// A record within the ledger is absent.
        case missing
        /// A record stands at another sequence than its own.
        case reordered
        /// Records at the end are absent, though head or tree say that there were more.
        case truncated
        /// The store cannot read what it holds.
        case unreadable
        /// The bytes are those that were hashed, but they are no record of this organization and sequence.
        case malformed
        /// `previous` is not the checksum of the record before.
        case brokenChain = "broken_chain"
        /// A stored tree node is absent, or is not the hash of what lies under it.
        case treeNodeMismatch = "tree_node_mismatch"
        /// The head is not that of the records that are there.
        case headMismatch = "head_mismatch"
        /// A record that no append made stands after the last one.
        case extraRecord = "extra_record"
        /// A stored checkpoint has a signature that is not by its key, or not enough of them.
        case wrongSignature = "wrong_signature"
        /// A signed root is not that of the records: there are two histories.
        case fork
        /// A row that is derived from the records is not what they give: absent, surplus or different.
        case staleProjection = "stale_projection"
    }

    /// The sequence of the first bad record; of a tree node, the last record under it; of a head, the last record.
    package let sequence: SequenceNumber
    package let kind: Kind
    /// One sentence for people; names no values.
    package let detail: String
    /// The key that is wrong, as family and the part of the key after the organization: `records/7`,
    /// `tree_nodes/2/1` (level and index), `ledger_heads`.
    package let place: String

    /// - Parameter place: nil for the record itself.
    package init(sequence: SequenceNumber, kind: Kind, detail: String, place: String? = nil) {
        self.sequence = sequence
        self.kind = kind
        self.detail = detail
        self.place = place ?? (kind == .headMismatch ? "ledger_heads" : "records/\(sequence)")
    }

    package var description: String { "record \(self.sequence): \(self.kind.rawValue): \(self.detail)" }
}

/// The result of re-reading one replica of an organization's ledger.
package struct ReplicaVerification: Sendable, Hashable {
    package let organization: OrganizationID
    /// Records that were read and found good, from the first one on.
    package let size: UInt64
    /// The Merkle root over them, computed from their bytes.
    package let root: Digest
    /// The checksum of the last of them.
    package let lastChecksum: Digest
    /// Bytes of the records that were read.
    package let bytesRead: UInt64
    /// The first bad place, or nil.
    package let finding: LedgerFinding?

    package var isSound: Bool { self.finding == nil }
}

/// What verifying a part of a ledger came to.
package struct LedgerPart: Sendable, Hashable {
    /// The head of the records that were found good so far, this part included, computed from their bytes.
    package let head: LedgerHead
    /// Bytes of the records of this part.
    package let bytesRead: UInt64
    /// The first bad place, or nil.
    package let finding: LedgerFinding?
    /// Whether the end of the ledger was reached, and its tree and head checked.
    package let isLast: Bool
}
