internal import Primitives
internal import Synchronization

/// Records with gapless sequences, one after the other in one buffer, and what stopped them.
struct RecordChunk: Sendable {
    /// Before every record a zero byte, so that prefix and record are one run for the leaf hash.
    private var buffer: [UInt8] = []
    /// Where each record ends in ``buffer``.
    private var ends: [Int] = []
    /// The sequence of the first record.
    let first: SequenceNumber
    /// Whether no record follows.
    var isLast = false
    /// What is wrong after the last record.
    var finding: LedgerFinding?

    init(first: SequenceNumber, memory: ChunkMemory, capacityBytes: Int) {
        self.first = first
        (self.buffer, self.ends) = memory.take()
        self.buffer.reserveCapacity(capacityBytes)
    }

    /// Gives the memory back; the chunk is then empty.
    mutating func end(into memory: ChunkMemory) {
        var (buffer, ends): ([UInt8], [Int]) = ([], [])
        swap(&buffer, &self.buffer)
        swap(&ends, &self.ends)
        memory.give(buffer, ends)
    }

    var count: Int { self.ends.count }
    /// Bytes of the records.
    var sizeBytes: Int { (self.ends.last ?? 0) - self.ends.count }

    /// The sequence that the next record must have.
    var nextSequence: SequenceNumber { SequenceNumber(self.first.rawValue + UInt64(self.count)) }

    mutating func append(_ record: RawSpan) {
        self.buffer.append(0)
        record.withUnsafeBytes { self.buffer.append(contentsOf: $0) }
        self.ends.append(self.buffer.count)
    }

    /// Ends the chunk: the records can now be examined.
    mutating func seal() { self.buffer.append(contentsOf: repeatElement(0, count: RecordScan.slackBytes)) }

    /// Where a record lies in ``buffer``, with its zero byte.
    private func prefixedRange(_ place: Int) -> Range<Int> {
        (place == 0 ? 0 : self.ends[place - 1])..<self.ends[place]
    }

    func record(at place: Int) -> [UInt8] { Array(self.buffer[self.prefixedRange(place).dropFirst()]) }

    // MARK: Examining

    /// What was computed from the bytes of some neighbouring records, all of them sound by themselves and linked.
    struct Examined: Sendable {
        /// Their leaf hashes, 32 bytes each.
        var leaves: [UInt8]
        let firstPrevious: Digest
        let firstRecordedAt: Timestamp
        let lastRecordedAt: Timestamp
    }

    /// Hashes records and reads their members; the same for every order and on every thread.
    ///
    /// - Parameter organization: The key in quotes.
    /// - Returns: nil when any of them is not as it must be; what is wrong with it is for others to say.
    func examine(_ places: Range<Int>, organization: [UInt8]) -> Examined? {
        precondition(!places.isEmpty, "there is something to examine")
        var leaves = [UInt8](repeating: 0, count: places.count * Digest.byteCount)
        var firstPrevious = Digest.zero
        var firstRecordedAt = Timestamp(microseconds: 0)
        var last = (checksum: Digest.zero, recordedAt: Timestamp(microseconds: 0))
        let isSound = leaves.withUnsafeMutableBytes { leaves in
            self.buffer.withUnsafeBytes { buffer in
                self.hash(places, of: buffer, into: leaves)
                for place in places {
                    let offset = (place - places.lowerBound) * Digest.byteCount
                    let leaf = UnsafeRawBufferPointer(rebasing: leaves[offset..<offset + Digest.byteCount])
                    let text = UnsafeRawBufferPointer(rebasing: buffer[self.prefixedRange(place).dropFirst()])
                    guard let facts = Self.facts(text.assumingMemoryBound(to: UInt8.self), organization),
                        facts.isOurs, facts.sequence == self.first.rawValue + UInt64(place)
                    else { return false }
                    if place == places.lowerBound {
                        firstPrevious = facts.previous
                        firstRecordedAt = facts.recordedAt
                    } else if facts.previous != last.checksum || facts.recordedAt < last.recordedAt {
                        return false
                    }
                    last = (Digest(stored: leaf), facts.recordedAt)
                }
                return true
            }
        }
        guard isSound else { return nil }
        return Examined(
            leaves: leaves,
            firstPrevious: firstPrevious,
            firstRecordedAt: firstRecordedAt,
            lastRecordedAt: last.recordedAt
        )
    }

    /// The leaf hashes of records, two at a time.
    private func hash(
        _ places: Range<Int>,
        of buffer: UnsafeRawBufferPointer,
        into leaves: UnsafeMutableRawBufferPointer
    ) {
        func text(_ place: Int) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: buffer[self.prefixedRange(place)])
        }
        func leaf(_ place: Int) -> UnsafeMutableRawBufferPointer {
            let offset = (place - places.lowerBound) * Digest.byteCount
            return UnsafeMutableRawBufferPointer(rebasing: leaves[offset..<offset + Digest.byteCount])
        }
        var place = places.lowerBound
        while place + 1 < places.upperBound {
            LedgerHash.hash(text(place), into: leaf(place), and: text(place + 1), into: leaf(place + 1))
            place += 2
        }
        if place < places.upperBound { LedgerHash.hash(text(place), into: leaf(place)) }
    }

    private static func facts(_ text: UnsafeBufferPointer<UInt8>, _ organization: [UInt8]) -> RecordScan? {
        if let scan = RecordScan(text, organization: organization) { return scan }
        guard let fields = try? RecordFields(scanning: Array(text)) else { return nil }
        return RecordScan(fields, organization: organization)
    }
}

/// Memory of a chunk that is done, for the next one: fresh memory costs as much as reading into it.
final class ChunkMemory: Sendable {
    private let spare = Mutex<(buffer: [UInt8], ends: [Int])?>(nil)

    /// Empty arrays, with room if a chunk was done before.
    func take() -> (buffer: [UInt8], ends: [Int]) {
        var taken = self.spare.withLock { spare in
            let taken = spare
            spare = nil
            return taken
        }
        taken?.buffer.removeAll(keepingCapacity: true)
        taken?.ends.removeAll(keepingCapacity: true)
        return taken ?? ([], [])
    }

    func give(_ buffer: [UInt8], _ ends: [Int]) { self.spare.withLock { $0 = (buffer, ends) } }
}

/// Rows of digests as they are stored, 32 bytes each.
enum DigestRow {
    static func digest(_ row: [UInt8], at place: Int) -> Digest {
        row.withUnsafeBytes {
            let start = place * Digest.byteCount
            return Digest(stored: UnsafeRawBufferPointer(rebasing: $0[start..<start + Digest.byteCount]))
        }
    }

    /// The nodes over neighbouring pairs of a row, which has an even number of them.
    static func parents(of row: ArraySlice<UInt8>) -> [UInt8] {
        let pairBytes = 2 * Digest.byteCount
        let count = row.count / pairBytes
        precondition(row.count == count * pairBytes, "a row has pairs of nodes")
        var parents = [UInt8](repeating: 0, count: count * Digest.byteCount)
        row.withUnsafeBytes { row in
            parents.withUnsafeMutableBytes { parents in
                Self.hash(pairs: row, count: count, into: parents)
            }
        }
        return parents
    }

    private static func hash(
        pairs: UnsafeRawBufferPointer,
        count: Int,
        into parents: UnsafeMutableRawBufferPointer
    ) {
        let pairBytes = 2 * Digest.byteCount
        let textBytes = pairBytes + 1
        withUnsafeTemporaryAllocation(byteCount: 2 * textBytes, alignment: 8) { texts in
            texts[0] = 0x01
            texts[textBytes] = 0x01
            func text(_ place: Int) -> UnsafeRawBufferPointer {
                let start = (place & 1) * textBytes
                let nodes = UnsafeMutableRawBufferPointer(rebasing: texts[start + 1..<start + textBytes])
                let from = place * pairBytes
                nodes.copyMemory(from: UnsafeRawBufferPointer(rebasing: pairs[from..<from + pairBytes]))
                return UnsafeRawBufferPointer(rebasing: texts[start..<start + textBytes])
            }
            func parent(_ place: Int) -> UnsafeMutableRawBufferPointer {
                let start = place * Digest.byteCount
                return UnsafeMutableRawBufferPointer(rebasing: parents[start..<start + Digest.byteCount])
            }
            var place = 0
            while place + 1 < count {
                LedgerHash.hash(text(place), into: parent(place), and: text(place + 1), into: parent(place + 1))
                place += 2
            }
            if place < count { LedgerHash.hash(text(place), into: parent(place)) }
        }
    }
}
