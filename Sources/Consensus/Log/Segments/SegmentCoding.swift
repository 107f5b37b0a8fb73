internal import Primitives

/// The bytes of a segment file: batches one after the other, each padded to a multiple of 16 bytes; big-endian.
///
///     batch    magic u32 · checksum u32 · meta bytes u32 · payload bytes u32 · segment u64 · sequence u64
///              · first segment u64 · kind u8 · 3 zero bytes · writes u32 · meta · payloads
///     meta     for each write: group u32 · flags u8 · term u64 · vote u64 · commit u64 · base index u64 · base term u64
///              · last u64 · last term u64 · removed at u64 · truncate from u64 · first index u64 · entries u32,
///              and for each of its entries: kind u8 · term u64 · payload bytes u32 · checksum u32
///
/// The batch's checksum covers everything from «meta bytes» to the end of the meta part, an entry's its group, index,
/// term, kind and payload: every byte is summed once. `segment` tells a batch from what a recycled file held before.
/// `first segment` is the oldest file that was needed when the batch was written. A segment that is full ends with a
/// batch of the kind «seal».
enum SegmentCoding {
    static let magic: UInt32 = 0x4654_4C31
    static let headerBytes = 48
    static let alignment = 16
    static let writeBytes = 89
    static let entryBytes = 17

    enum BatchKind: UInt8, Sendable {
        case writes = 0
        case seal = 1
    }

    struct Header: Sendable {
        var metaBytes: Int
        var payloadBytes: Int
        var segment: UInt64
        var sequence: UInt64
        var firstSegment: UInt64
        var kind: BatchKind
        var writes: Int
        var checksum: UInt32

        /// Bytes of the whole batch.
        var sizeBytes: Int { SegmentCoding.aligned(SegmentCoding.headerBytes + self.metaBytes + self.payloadBytes) }
    }

    private static let votedFlag: UInt8 = 1
    private static let removedFlag: UInt8 = 2
    private static let resetFlag: UInt8 = 4

    static func aligned(_ bytes: Int) -> Int { (bytes + Self.alignment - 1) & ~(Self.alignment - 1) }

    // MARK: Batches

    /// - Returns: A whole batch with its checksum and padding.
    static func encode(_ header: Header, meta: [UInt8], payloads: [[UInt8]]) -> [UInt8] {
        var fields = ByteWriter(capacity: Self.headerBytes - 8)
        fields.write(UInt32(meta.count))
        fields.write(UInt32(header.payloadBytes))
        fields.write(header.segment)
        fields.write(header.sequence)
        fields.write(header.firstSegment)
        fields.write(header.kind.rawValue)
        for _ in 0..<3 { fields.write(UInt8(0)) }
        fields.write(UInt32(header.writes))
        var checksum = CRC32C()
        checksum.update(fields.bytes)
        checksum.update(meta)
        var start = ByteWriter(capacity: 8)
        start.write(Self.magic)
        start.write(checksum.value)
        return [UInt8](unsafeUninitializedCapacity: header.sizeBytes) { buffer, count in
            func put(_ bytes: [UInt8]) {
                if bytes.isEmpty { return }
                let end = count + bytes.count
                _ = UnsafeMutableBufferPointer(rebasing: buffer[count..<end]).initialize(fromContentsOf: bytes)
                count = end
            }
            put(start.bytes)
            put(fields.bytes)
            put(meta)
            for payload in payloads { put(payload) }
            put([UInt8](repeating: 0, count: header.sizeBytes - count))
        }
    }

    /// Reads the header alone; its checksum is not checked, because it covers the meta part too.
    /// - Returns: nil when there is no header of `segment`.
    static func decodeHeader(_ bytes: [UInt8], segment: UInt64) -> Header? {
        var reader = ByteReader(bytes)
        do {
            guard try reader.read(UInt32.self) == Self.magic else { return nil }
            let checksum = try reader.read(UInt32.self)
            let metaBytes = Int(try reader.read(UInt32.self))
            let payloadBytes = Int(try reader.read(UInt32.self))
            guard try reader.read(UInt64.self) == segment else { return nil }
            let sequence = try reader.read(UInt64.self)
            let firstSegment = try reader.read(UInt64.self)
            guard let kind = BatchKind(rawValue: try reader.read(UInt8.self)) else { return nil }
            _ = try reader.read(count: 3)
            let writes = Int(try reader.read(UInt32.self))
            return Header(
                metaBytes: metaBytes,
                payloadBytes: payloadBytes,
                segment: segment,
                sequence: sequence,
                firstSegment: firstSegment,
                kind: kind,
                writes: writes,
                checksum: checksum
            )
        } catch {
            return nil
        }
    }

    /// Whether header and meta part are what was written.
    static func isWhole(_ header: Header, headerBytes: [UInt8], meta: [UInt8]) -> Bool {
        var checksum = CRC32C()
        checksum.update(headerBytes[8..<Self.headerBytes])
        checksum.update(meta)
        return checksum.value == header.checksum
    }

    // MARK: Writes

    /// One group's part of a batch.
    struct Write: Sendable {
        var group: GroupID
        var state: StoredState
        /// Every entry of the group before this write is gone.
        var isReset: Bool
        var truncateFrom: LogIndex
        var first: LogIndex
        var entries: [Entry]
    }

    /// What the meta part says of an entry.
    struct Entry: Sendable {
        var kind: UInt8
        var term: Term
        var payloadBytes: UInt32
        var checksum: UInt32
    }

    static func checksum(_ group: GroupID, _ index: LogIndex, _ term: Term, _ kind: UInt8, _ payload: [UInt8]) -> UInt32
    {
        var checksum = CRC32C()
        checksum.update(payload)
        checksum.update(UInt64(group.rawValue) << 8 | UInt64(kind))
        checksum.update(index.rawValue)
        checksum.update(term.rawValue)
        return checksum.value
    }

    static func append(_ write: Write, to meta: inout ByteWriter) {
        let state = write.state
        meta.write(write.group.rawValue)
        var flags = write.isReset ? Self.resetFlag : 0
        if state.hardState.vote != nil { flags |= Self.votedFlag }
        if state.isRemoved { flags |= Self.removedFlag }
        meta.write(flags)
        meta.write(state.hardState.term.rawValue)
        meta.write(state.hardState.vote?.rawValue ?? 0)
        meta.write(state.commit.rawValue)
        meta.write(state.base.index.rawValue)
        meta.write(state.base.term.rawValue)
        meta.write(state.last.rawValue)
        meta.write(state.lastTerm.rawValue)
        meta.write(state.removedAt.rawValue)
        meta.write(write.truncateFrom.rawValue)
        meta.write(write.first.rawValue)
        meta.write(UInt32(write.entries.count))
        for entry in write.entries {
            meta.write(entry.kind)
            meta.write(entry.term.rawValue)
            meta.write(entry.payloadBytes)
            meta.write(entry.checksum)
        }
    }

    static func decodeWrites(_ meta: [UInt8], count: Int) throws(MalformedBytes) -> [Write] {
        var reader = ByteReader(meta)
        guard count <= meta.count / Self.writeBytes else { throw MalformedBytes(what: "count of writes", offset: 0) }
        var writes: [Write] = []
        writes.reserveCapacity(count)
        for _ in 0..<count { writes.append(try Self.decodeWrite(&reader)) }
        try reader.finish("batch")
        return writes
    }

    private static func decodeWrite(_ reader: inout ByteReader) throws(MalformedBytes) -> Write {
        let group = GroupID(try reader.read(UInt32.self))
        let flags = try reader.read(UInt8.self)
        var state = StoredState()
        let term = Term(try reader.read(UInt64.self))
        let vote = NodeID(try reader.read(UInt64.self))
        state.hardState = HardState(term: term, vote: flags & Self.votedFlag == 0 ? nil : vote)
        state.isRemoved = flags & Self.removedFlag != 0
        state.commit = LogIndex(try reader.read(UInt64.self))
        let base = LogIndex(try reader.read(UInt64.self))
        state.base = LogMark(index: base, term: Term(try reader.read(UInt64.self)))
        state.last = LogIndex(try reader.read(UInt64.self))
        state.lastTerm = Term(try reader.read(UInt64.self))
        state.removedAt = LogIndex(try reader.read(UInt64.self))
        let truncateFrom = LogIndex(try reader.read(UInt64.self))
        let first = LogIndex(try reader.read(UInt64.self))
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / Self.entryBytes else {
            throw MalformedBytes(what: "count of entries", offset: reader.offset)
        }
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        for _ in 0..<count {
            let kind = try reader.read(UInt8.self)
            let term = Term(try reader.read(UInt64.self))
            let payloadBytes = try reader.read(UInt32.self)
            let checksum = try reader.read(UInt32.self)
            entries.append(Entry(kind: kind, term: term, payloadBytes: payloadBytes, checksum: checksum))
        }
        return Write(
            group: group,
            state: state,
            isReset: flags & Self.resetFlag != 0,
            truncateFrom: truncateFrom,
            first: first,
            entries: entries
        )
    }
}
