package import AuditLedger
package import Primitives
package import Storage

/// Checks the answers to idempotency keys against the records that they speak of.
package enum IdempotencyAudit {
    package struct Outcome: Sendable {
        /// Rows that were read.
        package var rows: UInt64 = 0
        package var finding: LedgerFinding?
    }

    /// Reads every row of an organization; blocks.
    ///
    /// Of a row that speaks of records the ledger has: they exist, are of one time, and no two rows claim one record.
    /// That the key and the request are those of the client only other replicas can say.
    /// - Parameters:
    ///   - store: A snapshot.
    ///   - size: The size of the ledger in it.
    /// - Throws: ``StorageError`` or ``LedgerError``.
    package static func run(
        store: any KeyValueReader,
        organization: OrganizationID,
        size: UInt64
    ) throws -> Outcome {
        var outcome = Outcome()
        var claims: [(first: UInt64, last: UInt64, place: String)] = []
        let reader = LedgerReader(store: store, organization: organization)
        let prefix = LedgerKeys.head(organization)
        try store.scan(.idempotency, prefix: prefix) { key, value in
            let place = "idempotency/" + Hex.encode(Array(key.dropFirst(prefix.count)))
            outcome.rows += 1
            guard key.count == prefix.count + Digest.byteCount, let row = try? IdempotencyRow(value), row.count >= 1,
                row.firstSequence.rawValue >= 1, row.lastSequence >= row.firstSequence
            else {
                outcome.finding = Self.finding(.zero, "the answer to a key has another form", place)
                return false
            }
            // A row beyond the head is of a snapshot that was not finished.
            guard row.lastSequence.rawValue <= size else { return true }
            claims.append((row.firstSequence.rawValue, row.lastSequence.rawValue, place))
            for sequence in Set([row.firstSequence, row.lastSequence]) {
                guard let bytes = try reader.record(at: sequence),
                    try RecordFields(scanning: bytes).recordedAt == row.recordedAt
                else {
                    outcome.finding = Self.finding(sequence, "the answer to a key is not that of its records", place)
                    return false
                }
            }
            return true
        }
        guard outcome.finding == nil else { return outcome }
        claims.sort { $0.first < $1.first }
        for (one, next) in zip(claims, claims.dropFirst()) where next.first <= one.last {
            let sequence = SequenceNumber(next.first)
            outcome.finding = Self.finding(sequence, "two keys have the same records as their answer", next.place)
            break
        }
        return outcome
    }

    private static func finding(_ sequence: SequenceNumber, _ detail: String, _ place: String) -> LedgerFinding {
        LedgerFinding(sequence: sequence, kind: .staleProjection, detail: detail, place: place)
    }
}
