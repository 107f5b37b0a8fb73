internal import Primitives

/// Records with gapless sequences, and what stopped them: what is looked at one by one.
struct RecordChunk: Sendable {
    private(set) var records: [[UInt8]] = []
    /// Bytes of the records.
    private(set) var sizeBytes = 0
    /// The sequence of the first record.
    let first: SequenceNumber
    /// Whether no record follows.
    var isLast = false
    /// What is wrong after the last record.
    var finding: LedgerFinding?

    init(first: SequenceNumber) { self.first = first }

    var count: Int { self.records.count }

    /// The sequence that the next record must have.
    var nextSequence: SequenceNumber { SequenceNumber(self.first.rawValue + UInt64(self.count)) }

    mutating func append(_ record: [UInt8]) {
        self.records.append(record)
        self.sizeBytes += record.count
    }
}
