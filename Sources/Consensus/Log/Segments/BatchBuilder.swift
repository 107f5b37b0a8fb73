internal import Primitives
internal import Storage

/// Builds one batch and brings the index up to it.
struct BatchBuilder {
    private let segment: UInt64
    private let offset: Int
    private let metaBytes: Int
    private let payloadBytes: Int
    private var meta: ByteWriter
    private var payloads: [[UInt8]] = []
    /// Where the next payload lies in the file.
    private var nextPayload: Int
    private var writes = 0

    /// - Parameters: The sizes of all that will be added.
    init(state: SegmentLog.State, metaBytes: Int, payloadBytes: Int) {
        self.segment = state.current
        self.offset = state.segments[state.current]?.usedBytes ?? 0
        self.metaBytes = metaBytes
        self.payloadBytes = payloadBytes
        self.meta = ByteWriter(capacity: metaBytes)
        self.nextPayload = self.offset + SegmentCoding.headerBytes + metaBytes
    }

    private mutating func place(_ kind: UInt8, _ checksum: UInt32, _ payload: [UInt8]) -> EntryPlace {
        defer {
            self.nextPayload += payload.count
            self.payloads.append(payload)
        }
        return EntryPlace(
            segment: self.segment,
            offset: UInt32(self.nextPayload),
            payloadBytes: UInt32(payload.count),
            checksum: checksum,
            kind: kind
        )
    }

    private mutating func add(_ write: SegmentCoding.Write) {
        SegmentCoding.append(write, to: &self.meta)
        self.writes += 1
    }

    /// Adds a group's write.
    mutating func add(_ write: LogWrite, to state: inout SegmentLog.State) {
        let group = write.group
        var isReset = false
        var dropped: [EntryPlace] = []
        func drop(_ place: EntryPlace) { dropped.append(place) }
        func update(_ log: inout GroupLog) -> SegmentCoding.Write {
            log.state.isRemoved = false
            if let removedAt = write.removedAt {
                precondition(write.entries.isEmpty && write.last == .zero, "a removed replica has no log")
                log.reset(to: .zero, drop)
                log.state.isRemoved = true
                log.state.removedAt = removedAt
                isReset = true
            }
            if let base = write.resetTo {
                log.reset(to: base, drop)
                isReset = true
            }
            if let base = write.compactThrough { log.compact(through: base.index, drop) }
            if let from = write.truncateFrom { log.truncate(from: from, drop) }
            precondition(write.entries.first.map { $0.index == log.terms.last.next } ?? true, "entries leave no gap")
            var entries: [SegmentCoding.Entry] = []
            entries.reserveCapacity(write.entries.count)
            for entry in write.entries {
                let kind = entry.kind.rawValue
                let checksum = SegmentCoding.checksum(group, entry.index, entry.term, kind, entry.payload)
                let place = self.place(kind, checksum, entry.payload)
                log.append(place, term: entry.term)
                let bytes = UInt32(entry.payload.count)
                entries.append(.init(kind: kind, term: entry.term, payloadBytes: bytes, checksum: checksum))
            }
            precondition(write.last == log.terms.last, "the log ends where the writer says")
            log.state.hardState = write.hardState
            log.state.commit = write.removedAt == nil ? write.commit : .zero
            log.state.base =
                write.removedAt == nil ? LogMark(index: log.terms.base, term: log.terms.baseTerm) : write.committed
            log.state.last = log.terms.last
            log.state.lastTerm = log.terms.lastTerm
            return SegmentCoding.Write(
                group: group,
                state: log.state,
                isReset: isReset,
                truncateFrom: write.truncateFrom ?? .zero,
                first: write.entries.first?.index ?? .zero,
                entries: entries
            )
        }
        self.add(update(&state.groups[group, default: GroupLog()]))
        for place in dropped { state.segments[place.segment]?.liveBytes -= place.sizeBytes }
        for entry in write.entries {
            state.segments[self.segment]?.liveBytes += entry.payload.count + SegmentCoding.entryBytes
        }
        self.moveState(of: group, in: &state)
    }

    /// Adds entries that are written again.
    mutating func add(_ write: CollectedWrite, to state: inout SegmentLog.State) {
        guard let log = state.groups[write.group] else { return }
        var entries: [SegmentCoding.Entry] = []
        var index = write.first
        for entry in write.entries {
            let old = entry.place
            let place = self.place(old.kind, old.checksum, entry.payload)
            state.groups[write.group]?.replace(index, by: place)
            state.segments[old.segment]?.liveBytes -= old.sizeBytes
            state.segments[self.segment]?.liveBytes += old.sizeBytes
            let bytes = old.payloadBytes
            entries.append(.init(kind: old.kind, term: entry.term, payloadBytes: bytes, checksum: old.checksum))
            index = index.next
        }
        self.add(
            SegmentCoding.Write(
                group: write.group,
                state: log.state,
                isReset: false,
                truncateFrom: .zero,
                first: entries.isEmpty ? .zero : write.first,
                entries: entries
            )
        )
        self.moveState(of: write.group, in: &state)
    }

    private func moveState(of group: GroupID, in state: inout SegmentLog.State) {
        guard let before = state.groups[group]?.stateSegment, before != self.segment else { return }
        state.segments[before]?.states -= 1
        state.segments[self.segment]?.states += 1
        state.groups[group]?.stateSegment = self.segment
    }

    /// Takes the batch's room.
    /// - Returns: The bytes to write, and where.
    func finish(_ state: inout SegmentLog.State) -> (batch: [UInt8], file: any LogFile, offset: Int) {
        guard let file = state.segments[self.segment]?.file else { preconditionFailure("the current segment is open") }
        precondition(self.meta.count == self.metaBytes, "the sizes were computed before")
        state.sequence += 1
        let header = SegmentCoding.Header(
            metaBytes: self.metaBytes,
            payloadBytes: self.payloadBytes,
            segment: self.segment,
            sequence: state.sequence,
            firstSegment: state.first,
            kind: .writes,
            writes: self.writes,
            checksum: 0
        )
        state.segments[self.segment]?.usedBytes += header.sizeBytes
        state.segments[self.segment]?.batches += 1
        return (SegmentCoding.encode(header, meta: self.meta.bytes, payloads: self.payloads), file, self.offset)
    }
}
