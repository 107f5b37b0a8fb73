internal import CChecksum
internal import Primitives
internal import Storage

/// Neighbouring records of a ledger that were read and examined by one lane.
struct RecordPart: Sendable {
    /// The keys that a part reads: they may be any, not only those of the records that should be there.
    struct Plan: Sendable {
        /// The sequence of the first record.
        let first: UInt64
        /// Records that the part takes at most; more are left for another.
        let countMax: Int
        let lower: [UInt8]
        /// nil: to the end of the family.
        let upper: [UInt8]?
        /// Bytes of records after which the part takes no more.
        let bytesMax: Int
    }

    /// The 64 digits by which the first record names the one before it.
    let firstPrevious: [UInt8]
    let firstRecordedAt: Timestamp
    let lastRecordedAt: Timestamp
    /// The nodes over the records; their checksums are the lowest row.
    let nodes: SubtreeRows
    let count: Int
    /// Bytes of the records.
    let sizeBytes: Int
    /// Whether there are more records among the keys of the plan.
    let isCut: Bool

    var lastChecksum: Digest { DigestRow.digest(self.nodes.rows[0].digests, at: self.count - 1) }
}

/// What reading a part came to.
enum PartOutcome: Sendable {
    case records(RecordPart)
    /// No key is there.
    case empty
    /// Something is not as it must be, or cannot be read; what it is, is for others to say.
    case unsound
}

/// Reads and examines records: a few are copied, hashed and scanned before the next ones, so that they stay in the core's
/// cache.
struct RecordExaminer: ~Copyable {
    /// Records that are looked at together.
    private static let batchRecordsMax = 64
    /// Bytes of records after which a batch is looked at; one more record has room.
    private static let batchBytesMax = 96 << 10
    private static let batchRoomBytes =
        Self.batchBytesMax + EventLimits.recordBytesMax + Self.batchRecordsMax

    private let plan: RecordPart.Plan
    private var scanner: RecordScanner
    /// Before every record a zero byte, so that prefix and record are one run for the leaf hash.
    private let buffer: UnsafeMutableRawBufferPointer
    /// Where each record of the batch ends in ``buffer``.
    private var ends: InlineArray<64, Int> = InlineArray(repeating: 0)
    private var batchCount = 0

    private var leaves: [UInt8] = []
    private var count = 0
    private var sizeBytes = 0
    private var firstPrevious: [UInt8] = []
    private var firstRecordedAt = Timestamp(microseconds: 0)
    private var lastRecordedAt = Timestamp(microseconds: 0)

    private init(_ plan: RecordPart.Plan, organization: [UInt8]) {
        self.plan = plan
        self.scanner = RecordScanner(organization: organization)
        self.buffer = .allocate(byteCount: Self.batchRoomBytes, alignment: 64)
        self.leaves.reserveCapacity(plan.countMax * Digest.byteCount)
    }

    deinit { self.buffer.deallocate() }

    /// Reads a part and examines it.
    ///
    /// - Parameter organization: The key in quotes.
    static func examine(
        _ plan: RecordPart.Plan,
        store: any KeyValueReader,
        organization: [UInt8],
        readAheadBytes: Int
    ) -> PartOutcome {
        var examiner = RecordExaminer(plan, organization: organization)
        var isSound = true
        var isCut = false
        do {
            try store.sweep(.records, from: plan.lower, to: plan.upper, readAheadBytes: readAheadBytes) { key, value in
                guard LedgerKeys.sequence(ofRecordKey: key)?.rawValue == examiner.nextSequence,
                    value.byteCount <= EventLimits.recordBytesMax
                else {
                    isSound = false
                    return false
                }
                guard !examiner.isFull else {
                    isCut = true
                    return false
                }
                isSound = examiner.take(value)
                return isSound
            }
        } catch {
            return .unsound
        }
        guard isSound, examiner.lookAtBatch() else { return .unsound }
        guard examiner.count > 0 else { return .empty }
        return .records(
            RecordPart(
                firstPrevious: examiner.firstPrevious,
                firstRecordedAt: examiner.firstRecordedAt,
                lastRecordedAt: examiner.lastRecordedAt,
                nodes: SubtreeRows(leaves: examiner.leaves, first: plan.first - 1),
                count: examiner.count,
                sizeBytes: examiner.sizeBytes,
                isCut: isCut
            )
        )
    }

    private var nextSequence: UInt64 { self.plan.first + UInt64(self.count + self.batchCount) }

    private var isFull: Bool {
        self.count + self.batchCount >= self.plan.countMax || self.sizeBytes >= self.plan.bytesMax
    }

    /// - Returns: false when a record of the batch that is full now is not as it must be.
    private mutating func take(_ record: RawSpan) -> Bool {
        let start = self.batchCount == 0 ? 0 : self.ends[self.batchCount - 1]
        let end = start + 1 + record.byteCount
        self.buffer[start] = 0
        let place = UnsafeMutableRawBufferPointer(rebasing: self.buffer[start + 1..<end])
        record.withUnsafeBytes { place.copyMemory(from: $0) }
        self.ends[self.batchCount] = end
        self.batchCount += 1
        self.sizeBytes += record.byteCount
        guard self.batchCount == Self.batchRecordsMax || end >= Self.batchBytesMax else { return true }
        return self.lookAtBatch()
    }

    // MARK: Examining

    /// The records of the batch, each with its zero byte.
    private struct Texts {
        let buffer: UnsafeMutableRawBufferPointer
        let ends: InlineArray<64, Int>

        subscript(place: Int) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: self.buffer[(place == 0 ? 0 : self.ends[place - 1])..<self.ends[place]])
        }
    }

    private var texts: Texts { Texts(buffer: self.buffer, ends: self.ends) }

    /// Hashes the records of the batch and reads their members.
    /// - Returns: false when any of them is not as it must be.
    private mutating func lookAtBatch() -> Bool {
        let first = self.count
        let texts = self.texts
        self.hashBatch(texts)
        for place in 0..<self.batchCount {
            let text = UnsafeRawBufferPointer(rebasing: texts[place][1...])
            guard let scan = self.scanner.read(text.assumingMemoryBound(to: UInt8.self)), scan.isOurs,
                scan.sequence == self.plan.first + UInt64(first + place)
            else { return false }
            if first + place == 0 {
                self.firstPrevious = Array(text[scan.previousPlace..<scan.previousPlace + 2 * Digest.byteCount])
                self.firstRecordedAt = scan.recordedAt
            } else if scan.recordedAt < self.lastRecordedAt || !self.isLeaf(first + place - 1, text, scan) {
                return false
            }
            self.lastRecordedAt = scan.recordedAt
        }
        self.count += self.batchCount
        self.batchCount = 0
        return true
    }

    /// Whether a record names the checksum at a place as that of the record before.
    private func isLeaf(_ place: Int, _ text: UnsafeRawBufferPointer, _ scan: RecordScan) -> Bool {
        self.leaves.withUnsafeBytes { leaves in
            let leaf = UnsafeRawBufferPointer(rebasing: leaves[(place * Digest.byteCount)...])
            return DigestText.isText(UnsafeRawBufferPointer(rebasing: text[scan.previousPlace...]), of: leaf)
        }
    }

    /// The leaf hashes of the batch, two at a time.
    private mutating func hashBatch(_ texts: Texts) {
        let start = self.leaves.count
        let batchCount = self.batchCount
        self.leaves.append(contentsOf: repeatElement(0, count: batchCount * Digest.byteCount))
        self.leaves.withUnsafeMutableBytes { leaves in
            func leaf(_ place: Int) -> UnsafeMutableRawBufferPointer {
                let offset = start + place * Digest.byteCount
                return UnsafeMutableRawBufferPointer(rebasing: leaves[offset..<offset + Digest.byteCount])
            }
            var place = 0
            while place + 1 < batchCount {
                LedgerHash.hash(
                    texts[place],
                    into: leaf(place),
                    and: texts[place + 1],
                    into: leaf(place + 1)
                )
                place += 2
            }
            if place < batchCount { LedgerHash.hash(texts[place], into: leaf(place)) }
        }
    }
}

/// Digests as text.
enum DigestText {
    /// Whether `text` begins with the 64 lowercase hexadecimal digits of the 32 bytes at the beginning of `digest`.
    static func isText(_ text: UnsafeRawBufferPointer, of digest: UnsafeRawBufferPointer) -> Bool {
        precondition(text.count >= 2 * Digest.byteCount && digest.count >= Digest.byteCount, "a digest has 32 bytes")
        guard let text = text.baseAddress, let digest = digest.baseAddress else { return false }
        return ft_is_hex(
            text.assumingMemoryBound(to: UInt8.self),
            digest.assumingMemoryBound(to: UInt8.self)
        ) != 0
    }
}
