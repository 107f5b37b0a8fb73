internal import Primitives
internal import Storage
internal import Synchronization

/// The quick way over a sound ledger: many records at a time, without asking which of them is wrong if one is.
extension LedgerVerifier {
    /// Records of one part, which one lane examines: few enough that what was hashed is still in the core's cache when its
    /// members are read, and that lanes end together.
    private static let partRecords = 256
    /// Nodes of a level that one lane hashes.
    private static let partNodes = 512

    /// What the lanes have made of a chunk.
    private struct Made: Sendable {
        var parts: [RecordChunk.Examined?]
        /// Stored tree nodes by level; nil where a row is not as it must be.
        var rows: [[UInt8]]?
        var following: Result<RecordChunk, LedgerError>?
    }

    /// A value that several threads fill.
    private final class Shared<Value: Sendable>: Sendable {
        private let value: Mutex<Value>
        init(_ value: Value) { self.value = Mutex(value) }
        func change(_ body: (inout sending Value) -> Void) { self.value.withLock { body(&$0) } }
        var current: Value { self.value.withLock { $0 } }
    }

    /// Verifies a chunk and reads the one after it meanwhile.
    ///
    /// When everything is sound, the verifier stands after the chunk; otherwise it has not moved.
    /// - Returns: The next chunk, or how reading it failed; nil when there is none.
    mutating func checkInBulk(
        _ chunk: RecordChunk,
        head: LedgerHead?,
        memory: ChunkMemory
    ) throws(LedgerError) -> Result<RecordChunk, LedgerError>? {
        let parts = stride(from: 0, to: chunk.count, by: Self.partRecords).map {
            $0..<min($0 + Self.partRecords, chunk.count)
        }
        let made = Shared(Made(parts: Array(repeating: nil, count: parts.count), rows: nil, following: nil))
        let (reader, whole, organization) = (self.reader, chunk, self.organizationText)
        let goesOn = !chunk.isLast && chunk.finding == nil && self.bytesRead < self.bytesMax
        self.lanes.perform(parts.count + 2) { number in
            switch number {
            case 0:
                guard goesOn else { return }
                let following = Result<RecordChunk, LedgerError> { () throws(LedgerError) in
                    try Self.readChunk(
                        first: whole.nextSequence,
                        reader: reader,
                        head: head,
                        memory: memory,
                        capacityBytes: Self.chunkRoomBytes
                    )
                }
                made.change { $0.following = following }
            case 1:
                let rows = Self.storedRows(
                    reader,
                    from: whole.first.rawValue - 1,
                    to: whole.nextSequence.rawValue - 1
                )
                made.change { $0.rows = rows }
            default:
                let examined = whole.examine(parts[number - 2], organization: organization)
                made.change { $0.parts[number - 2] = examined }
            }
        }
        let result = made.current
        let examined = result.parts.compactMap { $0 }
        if examined.count == parts.count, let rows = result.rows { self.advance(over: examined, rows) }
        return result.following
    }

    /// Moves over examined records if they are linked and the stored nodes are those over them.
    private mutating func advance(over parts: [RecordChunk.Examined], _ rows: [[UInt8]]) {
        guard !parts.isEmpty else { return }
        var checksum = self.lastChecksum
        var recordedAt = self.lastRecordedAt
        var row: [UInt8] = []
        row.reserveCapacity(Self.chunkRecordsMax * Digest.byteCount)
        for part in parts {
            guard part.firstPrevious == checksum, recordedAt.map({ $0 <= part.firstRecordedAt }) ?? true else { return }
            checksum = DigestRow.digest(part.leaves, at: part.leaves.count / Digest.byteCount - 1)
            recordedAt = part.lastRecordedAt
            row += part.leaves
        }
        let end = self.tree.size + UInt64(row.count / Digest.byteCount)
        guard let tree = self.tree(over: row, to: end, rows) else { return }
        self.tree = tree
        self.lastChecksum = checksum
        self.lastRecordedAt = recordedAt
    }

    /// The tree after more leaves; nil when a node over them is not as stored.
    private func tree(over leaves: [UInt8], to end: UInt64, _ rows: [[UInt8]]) -> MerkleTree? {
        var row = leaves
        // The frontier by level, so that a left sibling from before is found.
        var peaks: [UInt8: Digest] = [:]
        for (position, digest) in zip(MerkleTree.peaks(size: self.tree.size), self.tree.frontier) {
            peaks[position.level] = digest
        }
        var frontier: [UInt8: Digest] = [:]
        for level in UInt8(0)..<64 {
            let first = self.tree.size >> UInt64(level)
            let past = end >> UInt64(level)
            guard past > 0 else { break }
            if past > first {
                guard Int(level) < rows.count, rows[Int(level)] == row else { return nil }
            }
            if past & 1 == 1 {
                frontier[level] =
                    past > first ? DigestRow.digest(row, at: Int(past - first) - 1) : peaks[level]
            }
            guard past > first else { continue }
            if first & 1 == 1 {
                guard let left = peaks[level] else { return nil }
                row = left.bytes + row
            }
            row = self.parents(of: row)
        }
        let digests = MerkleTree.peaks(size: end).compactMap { frontier[$0.level] }
        return MerkleTree(size: end, frontier: digests)
    }

    /// The nodes over the pairs of a row, of which one at the end may be without a sibling.
    private func parents(of row: [UInt8]) -> [UInt8] {
        let pairBytes = 2 * Digest.byteCount
        let pairs = row.count / pairBytes
        let parts = (pairs + Self.partNodes - 1) / Self.partNodes
        guard parts > 1 else { return DigestRow.parents(of: row[..<(pairs * pairBytes)]) }
        let made = Shared([[UInt8]](repeating: [], count: parts))
        self.lanes.perform(parts) { part in
            let first = part * Self.partNodes
            let past = min(first + Self.partNodes, pairs)
            let parents = DigestRow.parents(of: row[first * pairBytes..<past * pairBytes])
            made.change { $0[part] = parents }
        }
        return made.current.flatMap { $0 }
    }

    /// The stored nodes that completing the leaves `from..<to` wrote, by level; nil when any row is not as it must be.
    private static func storedRows(_ reader: LedgerReader, from: UInt64, to: UInt64) -> [[UInt8]]? {
        var rows: [[UInt8]] = []
        for level in UInt8(0)..<64 {
            let first = from >> UInt64(level)
            let past = to >> UInt64(level)
            guard past > first else { break }
            guard let row = try? Self.storedRow(reader, level: level, first: first, past: past) else { return nil }
            rows.append(row)
        }
        return rows
    }

    static func storedRow(
        _ reader: LedgerReader,
        level: UInt8,
        first: UInt64,
        past: UInt64
    ) throws -> [UInt8]? {
        // The row that holds the first node may begin before it.
        var start = first
        if first > 0, let run = try reader.run(at: TreePosition(level: level, index: first)) { start = run.first }
        var row: [UInt8] = []
        row.reserveCapacity(Int(past - first) * Digest.byteCount)
        var next = first
        var isWhole = true
        try reader.store.sweep(
            .treeNodes,
            from: LedgerKeys.node(reader.organization, TreePosition(level: level, index: start)),
            to: LedgerKeys.node(reader.organization, TreePosition(level: level, index: past)),
            readAheadBytes: 0
        ) { key, value in
            let (count, rest) = value.byteCount.quotientAndRemainder(dividingBy: Digest.byteCount)
            guard let position = LedgerKeys.position(ofNodeKey: key), rest == 0, count > 0, position.index <= next,
                position.index == next || position.index == start, position.index + UInt64(count) > next
            else {
                isWhole = false
                return false
            }
            let skipped = Int(next - position.index)
            let taken = min(count - skipped, Int(past - next))
            value.withUnsafeBytes { bytes in
                let range = skipped * Digest.byteCount..<(skipped + taken) * Digest.byteCount
                row.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[range]))
            }
            next += UInt64(taken)
            return true
        }
        return isWhole && next == past ? row : nil
    }
}
