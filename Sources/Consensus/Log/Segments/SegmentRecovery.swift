internal import Primitives
internal import Storage

/// Reads the segments of a log at start: all headers and meta parts, but of the payloads only those of the last batch.
struct SegmentRecovery {
    private let files: any LogFiles

    /// A group while its writes are gathered.
    private struct Gathered {
        var state = StoredState()
        var stateSegment: UInt64 = 0
        var entries: [UInt64: (place: EntryPlace, term: Term)] = [:]
    }

    init(files: any LogFiles) { self.files = files }

    func run(segmentBytes: Int, sparesMax: Int) throws(ConsensusError) -> SegmentLog.State {
        do {
            return try self.recover(segmentBytes: segmentBytes, sparesMax: sparesMax)
        } catch let error as ConsensusError {
            throw error
        } catch let error as StorageError {
            throw ConsensusError(code: .store, message: "the log could not be read", cause: error)
        } catch {
            throw ConsensusError(code: .corruption, message: "the log is malformed", cause: error)
        }
    }

    private func recover(segmentBytes: Int, sparesMax: Int) throws -> SegmentLog.State {
        var scanners: [UInt64: SegmentScanner] = [:]
        for name in try self.files.names() {
            guard let number = SegmentLog.number(of: name) else { continue }
            scanners[number] = SegmentScanner(number: number, file: try self.files.open(name))
        }
        var state = SegmentLog.State()
        guard let newest = scanners.keys.max() else {
            try self.begin(1, segmentBytes: segmentBytes, &state)
            try self.prepareSpare(segmentBytes: segmentBytes, sparesMax: sparesMax, &state)
            return state
        }
        let first = try self.firstSegment(newest: newest, scanners)
        var gathered: [GroupID: Gathered] = [:]
        state.first = first
        state.current = newest
        var isNewestSealed = false
        var last: SegmentScanner.Batch?
        for number in first...newest {
            guard let scanner = scanners[number] else {
                throw ConsensusError(code: .logLost, message: "segment \(number) of the log is missing")
            }
            let (end, isSealed) = try scanner.scan(isNewest: number == newest, after: state.sequence) { batch in
                state.sequence = batch.header.sequence
                last = batch
                let segment = batch.header.segment
                batch.forEachWrite { Self.gather($0, segment: segment, offset: $1, into: &gathered) }
            }
            var segment = SegmentLog.Segment(name: SegmentLog.name(of: number), file: scanner.file)
            segment.usedBytes = end
            state.segments[number] = segment
            isNewestSealed = isSealed
        }
        if let last, let file = scanners[last.header.segment]?.file { try Self.secure(last, in: file) }
        if isNewestSealed { try self.begin(newest + 1, segmentBytes: segmentBytes, &state) }
        for (group, found) in gathered { state.groups[group] = try Self.log(of: group, found, &state) }
        for number in scanners.keys.sorted() where number < first {
            guard let file = scanners[number]?.file, file.sizeBytes == segmentBytes, state.spares.count < sparesMax
            else {
                try self.files.remove(SegmentLog.name(of: number))
                continue
            }
            state.spares.append((SegmentLog.name(of: number), file))
        }
        try self.prepareSpare(segmentBytes: segmentBytes, sparesMax: sparesMax, &state)
        return state
    }

    /// Makes the last batch durable, which may have been read from the system's memory alone.
    ///
    /// It is written again, because a sync that failed before the process ended may have left it there as if it were on
    /// the disk: no later sync would write it. Batches before it were synced with success.
    private static func secure(_ batch: SegmentScanner.Batch, in file: any LogFile) throws(StorageError) {
        let bytes = try file.read(at: batch.offset, count: batch.header.sizeBytes)
        try file.write(bytes, at: batch.offset)
        try file.sync()
    }

    private func begin(_ number: UInt64, segmentBytes: Int, _ state: inout SegmentLog.State) throws {
        let name = SegmentLog.name(of: number)
        let file = try self.files.create(name, sizeBytes: segmentBytes, isFilled: true)
        state.current = number
        state.segments[number] = SegmentLog.Segment(name: name, file: file)
    }

    /// Makes sure that there is a segment for later, if there is room.
    private func prepareSpare(segmentBytes: Int, sparesMax: Int, _ state: inout SegmentLog.State) throws {
        let name = SegmentLog.spareName
        if try self.files.names().contains(name) {
            let file = try self.files.open(name)
            if file.sizeBytes == segmentBytes {
                state.spares.append((name, file))
            } else {
                try self.files.remove(name)
            }
        }
        guard state.spares.isEmpty, sparesMax > 0 else { return }
        do {
            state.spares.append((name, try self.files.create(name, sizeBytes: segmentBytes, isFilled: true)))
        } catch  where error.code == .full {
            // Without it the next segment is made when it is needed, or is refused then.
        }
    }

    /// The oldest segment that is needed, as the last whole batch says.
    private func firstSegment(newest: UInt64, _ scanners: [UInt64: SegmentScanner]) throws -> UInt64 {
        var last: SegmentCoding.Header?
        for number in [newest, newest - 1] where last == nil {
            guard let scanner = scanners[number] else { continue }
            _ = try scanner.scan(isNewest: number == newest, after: nil) { last = $0.header }
        }
        if let last { return last.firstSegment }
        guard newest == 1 else {
            throw ConsensusError(code: .logLost, message: "segment \(newest - 1) of the log is missing")
        }
        return 1
    }

    private static func gather(
        _ write: SegmentCoding.Write,
        segment: UInt64,
        offset: Int,
        into gathered: inout [GroupID: Gathered]
    ) {
        func update(_ group: inout Gathered) {
            if write.isReset { group.entries = [:] }
            if write.truncateFrom > .zero, !write.isReset {
                var index = write.truncateFrom.rawValue
                while index <= group.state.last.rawValue {
                    group.entries[index] = nil
                    index += 1
                }
            }
            group.state = write.state
            group.stateSegment = segment
            var index = write.first.rawValue
            var next = offset
            for entry in write.entries {
                let place = EntryPlace(
                    segment: segment,
                    offset: UInt32(next),
                    payloadBytes: entry.payloadBytes,
                    checksum: entry.checksum,
                    kind: entry.kind
                )
                group.entries[index] = (place, entry.term)
                next += Int(entry.payloadBytes)
                index += 1
            }
        }
        update(&gathered[write.group, default: Gathered()])
    }

    private static func log(
        of group: GroupID,
        _ found: Gathered,
        _ state: inout SegmentLog.State
    ) throws -> GroupLog {
        var log = GroupLog()
        log.state = found.state
        log.stateSegment = found.stateSegment
        state.segments[found.stateSegment]?.states += 1
        log.reset(to: found.state.isRemoved ? .zero : found.state.base) { _ in }
        while log.terms.last < found.state.last {
            let index = log.terms.last.next
            guard let entry = found.entries[index.rawValue] else {
                throw ConsensusError(code: .hole, message: "entry is missing", group: group, index: index)
            }
            guard entry.term >= log.terms.lastTerm else {
                throw ConsensusError(code: .corruption, message: "terms go back", group: group, index: index)
            }
            log.append(entry.place, term: entry.term)
            state.segments[entry.place.segment]?.liveBytes += entry.place.sizeBytes
        }
        let hardTerm = found.state.hardState.term
        guard log.terms.lastTerm == found.state.lastTerm, found.state.commit <= log.terms.last,
            log.entryCount == 0 || hardTerm >= log.terms.lastTerm
        else { throw ConsensusError(code: .corruption, message: "hard state contradicts the log", group: group) }
        return log
    }
}
