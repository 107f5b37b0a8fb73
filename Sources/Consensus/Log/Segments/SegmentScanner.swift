internal import Primitives
internal import Storage

/// Walks over the batches of one segment.
struct SegmentScanner {
    /// A batch whose header and meta part are whole.
    struct Batch {
        let header: SegmentCoding.Header
        let writes: [SegmentCoding.Write]
        /// Where it lies.
        let offset: Int

        /// Visits its writes, each with the place of its first payload in the file.
        func forEachWrite(_ body: (SegmentCoding.Write, _ offset: Int) -> Void) {
            var next = self.offset + SegmentCoding.headerBytes + self.header.metaBytes
            for write in self.writes {
                body(write, next)
                for entry in write.entries { next += Int(entry.payloadBytes) }
            }
        }
    }

    let number: UInt64
    let file: any LogFile
    private static let windowBytes = 1 << 20

    init(number: UInt64, file: any LogFile) {
        self.number = number
        self.file = file
    }

    /// Visits the batches in order.
    ///
    /// In the newest segment a batch that is not whole ends the log, unless a later one is whole: batches are synced
    /// one by one, so only the last can be torn.
    /// - Parameters:
    ///   - isNewest: Whether the segment is still written; any other ends with a seal.
    ///   - sequence: Of the batch before the first, zero or nil when it is not known.
    /// - Returns: Where the next batch goes, unless the segment is sealed.
    func scan(
        isNewest: Bool,
        after sequence: UInt64?,
        _ body: (Batch) throws -> Void
    ) throws -> (end: Int, isSealed: Bool) {
        var window = Window(file: self.file)
        var offset = 0
        var before = sequence.flatMap { $0 == 0 ? nil : $0 }
        var waiting: Batch?
        while let batch = try self.batch(at: offset, &window) {
            if let before, batch.header.sequence != before + 1 {
                throw self.damaged("batch \(before + 1) is missing")
            }
            before = batch.header.sequence
            // A later batch shows that this one was synced.
            if let waiting { try body(waiting) }
            waiting = batch
            offset += batch.header.sizeBytes
            if batch.header.kind == .seal { break }
        }
        guard isNewest else {
            guard let waiting, waiting.header.kind == .seal else { throw self.damaged("its end is damaged") }
            try body(waiting)
            return (offset, true)
        }
        if let waiting {
            if try self.hasWholePayloads(waiting) {
                try body(waiting)
            } else {
                offset = waiting.offset
                before = waiting.header.sequence - 1
            }
        }
        let isSealed = waiting?.header.kind == .seal
        if !isSealed, try self.hasBatch(after: offset, sequence: (before ?? 0) + 1, &window) {
            throw self.damaged("a batch before the last is damaged")
        }
        return (offset, isSealed)
    }

    private func damaged(_ what: String) -> ConsensusError {
        ConsensusError(code: .corruption, message: "segment \(self.number) of the log: \(what)")
    }

    private func batch(at offset: Int, _ window: inout Window) throws -> Batch? {
        let headerBytes = try window.bytes(at: offset, count: SegmentCoding.headerBytes)
        guard let header = SegmentCoding.decodeHeader(headerBytes, segment: self.number),
            offset + header.sizeBytes <= self.file.sizeBytes
        else { return nil }
        let meta = try window.bytes(at: offset + SegmentCoding.headerBytes, count: header.metaBytes)
        guard meta.count == header.metaBytes, SegmentCoding.isWhole(header, headerBytes: headerBytes, meta: meta) else {
            return nil
        }
        let writes = try SegmentCoding.decodeWrites(meta, count: header.writes)
        let payloadBytes = writes.reduce(0) { $0 + $1.entries.reduce(0) { $0 + Int($1.payloadBytes) } }
        guard payloadBytes == header.payloadBytes else { throw self.damaged("a batch contradicts itself") }
        return Batch(header: header, writes: writes, offset: offset)
    }

    private func hasWholePayloads(_ batch: Batch) throws -> Bool {
        var offset = batch.offset + SegmentCoding.headerBytes + batch.header.metaBytes
        for write in batch.writes {
            var index = write.first
            for entry in write.entries {
                let payload = try self.file.read(at: offset, count: Int(entry.payloadBytes))
                offset += payload.count
                let sum = SegmentCoding.checksum(write.group, index, entry.term, entry.kind, payload)
                guard payload.count == Int(entry.payloadBytes), sum == entry.checksum else { return false }
                index = index.next
            }
        }
        return true
    }

    /// Whether a whole batch that was written after the batch `sequence` lies anywhere behind `offset`.
    private func hasBatch(after offset: Int, sequence: UInt64, _ window: inout Window) throws -> Bool {
        var place = offset + SegmentCoding.alignment
        while place + SegmentCoding.headerBytes <= self.file.sizeBytes {
            if try window.isMagic(at: place) {
                let bytes = try window.bytes(at: place, count: SegmentCoding.headerBytes)
                if let header = SegmentCoding.decodeHeader(bytes, segment: self.number), header.sequence > sequence,
                    try self.batch(at: place, &window) != nil
                {
                    return true
                }
            }
            place += SegmentCoding.alignment
        }
        return false
    }

    /// A part of the file in memory.
    private struct Window {
        let file: any LogFile
        private var start = 0
        private var held: [UInt8] = []

        init(file: any LogFile) { self.file = file }

        private mutating func hold(_ offset: Int, _ count: Int) throws(StorageError) {
            if offset >= self.start, offset + count <= self.start + self.held.count { return }
            self.held = try self.file.read(at: offset, count: max(count, SegmentScanner.windowBytes))
            self.start = offset
        }

        mutating func bytes(at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
            try self.hold(offset, count)
            let from = min(offset - self.start, self.held.count)
            return Array(self.held[from..<min(from + count, self.held.count)])
        }

        mutating func isMagic(at offset: Int) throws(StorageError) -> Bool {
            try self.hold(offset, SegmentCoding.headerBytes)
            let from = offset - self.start
            guard from + 4 <= self.held.count else { return false }
            let magic = SegmentCoding.magic
            return self.held[from] == UInt8(magic >> 24) && self.held[from + 1] == UInt8(magic >> 16 & 0xFF)
                && self.held[from + 2] == UInt8(magic >> 8 & 0xFF) && self.held[from + 3] == UInt8(magic & 0xFF)
        }
    }
}
