package import Primitives

extension LedgerReader {
    /// How many of the first `size` records were recorded at or before a moment.
    ///
    /// - Parameter size: Not beyond the ledger's head.
    /// - Throws: ``LedgerError`` `.damaged` when a record that is asked for is absent or is none.
    /// - Complexity: O(log size) reads; `recorded_at` never decreases.
    package func size(recordedUpTo time: Timestamp, of size: UInt64) throws(LedgerError) -> UInt64 {
        var (low, high) = (UInt64(0), size)
        while low < high {
            let middle = low + (high - low) / 2
            guard let bytes = try self.record(at: SequenceNumber(middle + 1)),
                let recordedAt = (try? RecordFields(scanning: bytes))?.recordedAt
            else {
                throw LedgerError(
                    code: .damaged,
                    message: "organization \(self.organization): record \(middle + 1) is missing or no record"
                )
            }
            if recordedAt <= time { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
