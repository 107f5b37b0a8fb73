internal import Primitives
package import Storage
internal import Synchronization

/// The durable logs and hard states of all groups of a node, in segment files of their own.
///
/// A write of any number of groups is one batch at the end of the newest segment and one sync. An index in memory knows
/// where each entry lies. Full segments are recycled once nothing in them is needed; what is still needed of the oldest
/// one is written again when too little of the files is of use.
///
/// Writes come from one thread; reads are safe from any.
package final class SegmentLog: RaftLogStorage {
    /// The sizes of a ``SegmentLog``.
    package struct Configuration: Sendable {
        /// Bytes of a segment; a batch that is larger gets one of its own.
        package var segmentBytes = 16 << 20
        /// Emptied segments that are kept for later, because making one takes long; one is made at the start.
        package var sparesMax = 4
        /// Segments that may hold more than twice what is needed, before the oldest is emptied by force.
        package var slackSegments = 3
        /// Payload bytes of the oldest segment that are written again with one batch.
        package var collectBytesMax = 1 << 20

        package init() {}
    }

    struct Segment: Sendable {
        let name: String
        let file: any LogFile
        /// Where the next batch goes.
        var usedBytes = 0
        /// Bytes of entries that are part of a log.
        var liveBytes = 0
        /// Groups whose last write is here.
        var states = 0
        /// Batches that were written here since the log was opened.
        var batches = 0
    }

    struct State: Sendable {
        var groups: [GroupID: GroupLog] = [:]
        var segments: [UInt64: Segment] = [:]
        /// The oldest segment that is needed, and the one that is written.
        var first: UInt64 = 1
        var current: UInt64 = 1
        /// Of the batch written last.
        var sequence: UInt64 = 0
        var spares: [(name: String, file: any LogFile)] = []
        /// Another one is being made.
        var isPreparing = false
        /// Groups that have something in the oldest segment, which is being emptied.
        var collecting: [GroupID] = []
        var failure: ConsensusError?
    }

    let files: any LogFiles
    let configuration: Configuration
    let state: Mutex<State>
    /// Where segments are made ahead.
    let preparer: SerialThread?

    /// Opens the log in `files`, or begins one when there is none.
    ///
    /// A torn batch at the end, which no sync had returned for, is cut off; anything else that is damaged or missing is
    /// reported.
    /// - Parameter preparer: Where segments are made before they are wanted; ``close()`` ends it. Without it they are made
    ///   when they are.
    /// - Throws: ``ConsensusError`` `.corruption`, `.logLost`, `.incompatible` or `.store`.
    package static func open(
        files: any LogFiles,
        configuration: Configuration = Configuration(),
        preparer: SerialThread? = nil
    ) throws(ConsensusError) -> SegmentLog {
        let recovery = SegmentRecovery(files: files)
        let state = try recovery.run(segmentBytes: configuration.segmentBytes, sparesMax: configuration.sparesMax)
        return SegmentLog(files: files, configuration: configuration, state: state, preparer: preparer)
    }

    private init(files: any LogFiles, configuration: Configuration, state: State, preparer: SerialThread?) {
        self.preparer = preparer
        self.files = files
        self.configuration = configuration
        self.state = Mutex(state)
    }

    static func name(of segment: UInt64) -> String {
        let digits = String(segment)
        return String(repeating: "0", count: max(20 - digits.count, 0)) + digits + ".log"
    }

    /// Of a file that was made ahead and holds nothing yet.
    static let spareName = "spare.log"

    static func number(of name: String) -> UInt64? {
        name.hasSuffix(".log") ? UInt64(name.dropLast(4)) : nil
    }

    package func close() throws(ConsensusError) {
        // Nothing is made any more once others may use the directory.
        self.preparer?.shutdown()
        self.state.withLock { state in
            if state.failure == nil {
                state.failure = ConsensusError(code: .store, message: "the log was closed")
            }
            state.segments = [:]
            state.spares = []
        }
        self.files.close()
    }

    // MARK: Writing

    package func write(_ writes: [LogWrite]) throws(ConsensusError) {
        if let failure = self.state.withLock({ $0.failure }) {
            throw ConsensusError(code: .store, message: "an earlier write of the log failed", cause: failure)
        }
        do throws(StorageError) {
            try self.append(writes)
        } catch {
            let failure = ConsensusError(code: .store, message: "the log could not be made durable", cause: error)
            self.state.withLock { $0.failure = $0.failure ?? failure }
            throw failure
        }
    }

    private func append(_ writes: [LogWrite]) throws(StorageError) {
        let collected = try self.collect()
        var metaBytes = 0
        var payloadBytes = 0
        for write in writes {
            metaBytes += SegmentCoding.writeBytes + write.entries.count * SegmentCoding.entryBytes
            for entry in write.entries { payloadBytes += entry.payload.count }
        }
        for write in collected {
            metaBytes += SegmentCoding.writeBytes + write.entries.count * SegmentCoding.entryBytes
            for entry in write.entries { payloadBytes += entry.payload.count }
        }
        let sizeBytes = SegmentCoding.aligned(SegmentCoding.headerBytes + metaBytes + payloadBytes)
        try self.makeRoom(sizeBytes)
        let (batch, file, offset) = self.state.withLock { state in
            var builder = BatchBuilder(state: state, metaBytes: metaBytes, payloadBytes: payloadBytes)
            for write in collected { builder.add(write, to: &state) }
            for write in writes { builder.add(write, to: &state) }
            return builder.finish(&state)
        }
        try file.write(batch, at: offset)
        try file.sync()
        try self.release()
    }

    /// Goes on to the next segment when the current one cannot take `bytes` and its seal.
    private func makeRoom(_ bytes: Int) throws(StorageError) {
        let (current, segment, sequence, first) = self.state.withLock { state in
            (state.current, state.segments[state.current], state.sequence, state.first)
        }
        guard let segment else { throw StorageError(code: .closed, message: "the log was closed") }
        if segment.usedBytes + bytes + SegmentCoding.headerBytes <= segment.file.sizeBytes { return }
        let seal = SegmentCoding.Header(
            metaBytes: 0,
            payloadBytes: 0,
            segment: current,
            sequence: sequence + 1,
            firstSegment: first,
            kind: .seal,
            writes: 0,
            checksum: 0
        )
        try segment.file.write(SegmentCoding.encode(seal, meta: [], payloads: []), at: segment.usedBytes)
        try segment.file.sync()
        let next = try self.nextSegment(current + 1, bytes: bytes + SegmentCoding.headerBytes)
        self.state.withLock { state in
            state.sequence += 1
            state.segments[current]?.usedBytes += seal.sizeBytes
            state.current += 1
            state.segments[state.current] = next
        }
        self.prepareSpare(afterBatches: segment.batches)
    }

    private func nextSegment(_ number: UInt64, bytes: Int) throws(StorageError) -> Segment {
        let name = Self.name(of: number)
        let spare = self.state.withLock { state in
            state.spares.last.map { $0.file.sizeBytes >= bytes } ?? false ? state.spares.popLast() : nil
        }
        if let spare {
            try self.files.rename(spare.name, to: name)
            return Segment(name: name, file: spare.file)
        }
        // Not filled, because writes wait: it pays once the segment is used again.
        let sizeBytes = max(self.configuration.segmentBytes, bytes)
        let file = try self.files.create(name, sizeBytes: sizeBytes, isFilled: false)
        return Segment(name: name, file: file)
    }

    /// Sets segments free that the batch just made durable says are needed no more.
    private func release() throws(StorageError) {
        let unneeded: [Segment] = self.state.withLock { state in
            state.segments.keys.filter { $0 < state.first }.sorted().compactMap {
                state.segments.removeValue(forKey: $0)
            }
        }
        for segment in unneeded {
            let isKept = self.state.withLock { state in
                let isKept =
                    state.spares.count < self.configuration.sparesMax
                    && segment.file.sizeBytes == self.configuration.segmentBytes
                if isKept { state.spares.append((segment.name, segment.file)) }
                return isKept
            }
            if !isKept { try self.files.remove(segment.name) }
        }
    }

    // MARK: Emptying the oldest segment

    /// Moves the first segment on while nothing is needed of it; begins and continues to empty it when it is time.
    /// - Returns: What is to be written again with the next batch.
    private func collect() throws(StorageError) -> [CollectedWrite] {
        let bytesMax = self.configuration.collectBytesMax
        let chosen: [CollectedWrite] = self.state.withLock { state in
            self.advance(&state)
            var chosen: [CollectedWrite] = []
            var bytes = 0
            while bytes < bytesMax, let group = state.collecting.last {
                guard let log = state.groups[group] else {
                    state.collecting.removeLast()
                    continue
                }
                let run = log.run(in: state.first, bytesMax: bytesMax - bytes)
                if !run.isEmpty || log.stateSegment == state.first {
                    var write = CollectedWrite(group: group, first: run.first?.index ?? .zero)
                    for item in run { write.entries.append(CollectedEntry(term: item.term, place: item.place)) }
                    bytes += SegmentCoding.writeBytes + run.reduce(0) { $0 + $1.place.sizeBytes }
                    chosen.append(write)
                }
                // Whoever has more there is found again when the list has come to its end.
                state.collecting.removeLast()
            }
            return chosen
        }
        var writes = chosen
        for place in writes.indices {
            for entry in writes[place].entries.indices {
                // Not checked: what is damaged stays so, and is reported to whoever reads it.
                writes[place].entries[entry].payload = try self.payload(at: writes[place].entries[entry].place)
            }
        }
        return writes
    }

    private func payload(at place: EntryPlace) throws(StorageError) -> [UInt8] {
        guard let file = self.state.withLock({ $0.segments[place.segment]?.file }) else {
            throw StorageError(code: .closed, message: "a segment of the log is not open")
        }
        let payload = try file.read(at: Int(place.offset), count: Int(place.payloadBytes))
        guard payload.count == Int(place.payloadBytes) else {
            throw StorageError(code: .corruption, message: "a segment of the log is cut short")
        }
        return payload
    }

    private func advance(_ state: inout State) {
        while state.first < state.current, let oldest = state.segments[state.first],
            oldest.liveBytes == 0, oldest.states == 0
        {
            state.first += 1
            state.collecting = []
        }
        guard state.collecting.isEmpty, state.first < state.current, let oldest = state.segments[state.first] else {
            return
        }
        let usedBytes = state.segments.values.reduce(0) { $0 + $1.usedBytes }
        let liveBytes = state.segments.values.reduce(0) { $0 + $1.liveBytes }
        let slackBytes = self.configuration.slackSegments * self.configuration.segmentBytes
        guard oldest.liveBytes == 0 || usedBytes > 2 * liveBytes + slackBytes else { return }
        state.collecting = state.groups.filter { entry in
            entry.value.stateSegment == state.first || entry.value.hasEntries(in: state.first)
        }.keys.sorted(by: >)
    }
}

/// Entries of the oldest segment that are written again.
struct CollectedWrite: Sendable {
    let group: GroupID
    let first: LogIndex
    var entries: [CollectedEntry] = []

    init(group: GroupID, first: LogIndex) {
        self.group = group
        self.first = first
    }
}

struct CollectedEntry: Sendable {
    let term: Term
    let place: EntryPlace
    var payload: [UInt8] = []

    init(term: Term, place: EntryPlace) {
        self.term = term
        self.place = place
    }
}
