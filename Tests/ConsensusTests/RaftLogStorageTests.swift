internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

/// A log storage over a disk that can be restarted.
final class LogDisk {
    private(set) var files = SimulatedLogFiles()
    private(set) var storage: any RaftLogStorage

    static func smallSegments() -> SegmentLog.Configuration {
        var configuration = SegmentLog.Configuration()
        configuration.segmentBytes = 4 << 10
        configuration.slackSegments = 2
        configuration.collectBytesMax = 600
        return configuration
    }

    /// A log in `files`, of small segments.
    static func open(_ files: SimulatedLogFiles) throws(ConsensusError) -> SegmentLog {
        try SegmentLog.open(files: files, configuration: Self.smallSegments())
    }

    init() throws { self.storage = try Self.open(self.files) }

    /// Loses power; nothing that was written and not synced survives.
    func restart() throws {
        self.files = self.files.crash()
        self.storage = try Self.open(self.files)
    }
}

/// What a log storage must hold, as plain values.
struct LogModel {
    struct Group: Equatable {
        var hardState = HardState()
        var commit: LogIndex = .zero
        var base = LogMark.zero
        var entries: [LogEntry] = []
        var removedAt: LogIndex = .zero
        var isRemoved = false

        var last: LogIndex { self.entries.last?.index ?? self.base.index }
        var lastTerm: Term { self.entries.last?.term ?? self.base.term }
    }

    var groups: [GroupID: Group] = [:]

    /// Draws a write that a replica could make.
    mutating func draw(_ id: GroupID, using generator: inout SeededGenerator) -> LogWrite {
        var group = self.groups[id] ?? Group()
        defer { self.groups[id] = group }
        func below(_ bound: Int) -> Int { Int(generator.next() % UInt64(bound)) }
        if below(40) == 0 {
            group = Group(hardState: group.hardState, removedAt: LogIndex(UInt64(below(100))), isRemoved: true)
            let committed = LogMark(index: LogIndex(UInt64(below(50))), term: Term(1))
            return LogWrite(
                tombstone: id,
                hardState: group.hardState,
                removedAt: group.removedAt,
                committed: committed
            )
        }
        group.isRemoved = false
        if below(5) == 0 {
            let term = Term(max(group.hardState.term.rawValue, group.lastTerm.rawValue) + 1)
            group.hardState = HardState(term: term, vote: below(2) == 0 ? nil : NodeID(UInt64(below(3))))
        }
        var write = LogWrite(
            group: id,
            hardState: group.hardState,
            commit: .zero,
            last: .zero,
            lastTerm: .zero
        )
        if below(30) == 0 {
            group.base = LogMark(index: LogIndex(group.last.rawValue + 7), term: group.hardState.term)
            group.entries = []
            group.commit = group.base.index
            write.resetTo = group.base
        }
        if below(6) == 0, group.commit > group.base.index {
            let count = 1 + below(Int(group.commit.rawValue - group.base.index.rawValue))
            let cut = group.entries[count - 1]
            group.base = LogMark(index: cut.index, term: cut.term)
            group.entries.removeFirst(count)
            write.compactThrough = group.base
        }
        let uncommitted = Int(group.last.rawValue - group.commit.rawValue)
        if below(8) == 0, uncommitted > 0 {
            let count = 1 + below(uncommitted)
            write.truncateFrom = LogIndex(group.last.rawValue - UInt64(count) + 1)
            group.entries.removeLast(count)
        }
        for _ in 0..<below(4) {
            let payload = (0..<below(300)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            let term = group.hardState.term
            write.entries.append(LogEntry(index: group.last.next, term: term, kind: .commands, payload: payload))
            group.entries.append(write.entries[write.entries.count - 1])
        }
        group.commit = LogIndex(group.commit.rawValue + UInt64(below(uncommitted + 1) / 2))
        group.commit = min(group.commit, group.last)
        write.commit = group.commit
        write.last = group.last
        write.lastTerm = group.lastTerm
        return write
    }

    func check(_ storage: any RaftLogStorage, _ place: String) throws {
        let live = self.groups.filter { !$0.value.isRemoved }.keys.sorted()
        #expect(try storage.groups() == live, "\(place)")
        let tombstones = self.groups.filter { $0.value.isRemoved }.keys.sorted()
        #expect(try storage.tombstones().map(\.group) == tombstones, "\(place)")
        for id in self.groups.keys.sorted() {
            guard let group = self.groups[id] else { continue }
            let restored = try storage.load(id)
            #expect(restored.hardState == group.hardState, "\(place) group \(id)")
            #expect(
                restored.isRemoved == group.isRemoved && restored.removedAt == group.removedAt,
                "\(place) group \(id)"
            )
            #expect(restored.terms.base == group.base.index, "\(place) group \(id)")
            #expect(restored.terms.baseTerm == group.base.term, "\(place) group \(id)")
            #expect(restored.terms.last == group.last, "\(place) group \(id)")
            #expect(restored.commit == group.commit, "\(place) group \(id)")
            for entry in group.entries {
                #expect(restored.terms.term(at: entry.index) == entry.term, "\(place) group \(id) \(entry.index)")
            }
            #expect(try storage.verify(id) == group.entries.count, "\(place) group \(id)")
            guard let first = group.entries.first else { continue }
            let reader = storage.reader(of: id)
            let found = try reader.entries(from: first.index, through: group.last, bytesMax: .max)
            #expect(found == group.entries, "\(place) group \(id)")
        }
    }
}

/// The promises of every log storage.
@Suite(.timeLimit(.minutes(10))) struct RaftLogStorageTests {
    private let group = GroupID(7)

    private func entry(_ index: UInt64, _ term: UInt64, bytes: Int = 10) -> LogEntry {
        LogEntry(
            index: LogIndex(index),
            term: Term(term),
            kind: .commands,
            payload: Array(repeating: UInt8(truncatingIfNeeded: index), count: bytes)
        )
    }

    private func write(_ entries: [LogEntry], commit: UInt64 = 0, last: LogMark? = nil) -> LogWrite {
        LogWrite(
            group: self.group,
            hardState: HardState(term: Term(9), vote: NodeID(2)),
            commit: LogIndex(commit),
            entries: entries,
            last: entries.last?.index ?? last?.index ?? .zero,
            lastTerm: entries.last?.term ?? last?.term ?? .zero
        )
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func holdsWhatAModelHoldsOverRestarts(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let disk = try LogDisk()
        var model = LogModel()
        for step in 0..<120 {
            var writes: [LogWrite] = []
            for _ in 0...generator.next() % 4 {
                writes.append(model.draw(GroupID(UInt32(generator.next() % 5)), using: &generator))
            }
            try disk.storage.write(writes)
            if generator.next() % 10 == 0 {
                try disk.restart()
                try model.check(disk.storage, "seed \(seed) step \(step)")
            }
        }
        try model.check(disk.storage, "seed \(seed) at the end")
    }

    @Test func beginsAfterWhatWasCompacted() throws {
        let disk = try LogDisk()
        try disk.storage.write([self.write((1...9).map { self.entry($0, $0 < 5 ? 1 : 3) }, commit: 9)])
        var compaction = self.write([], commit: 9, last: LogMark(index: LogIndex(9), term: Term(3)))
        compaction.compactThrough = LogMark(index: LogIndex(6), term: Term(3))
        try disk.storage.write([compaction])
        try disk.restart()
        let restored = try disk.storage.load(self.group)
        #expect(restored.terms.base == LogIndex(6) && restored.terms.baseTerm == Term(3))
        #expect(restored.terms.last == LogIndex(9))
        let reader = disk.storage.reader(of: self.group)
        #expect(throws: ConsensusError.self) {
            try reader.entries(from: LogIndex(6), through: LogIndex(9), bytesMax: 999)
        }
        #expect(try reader.entries(from: LogIndex(7), through: LogIndex(9), bytesMax: 999).count == 3)
    }

    @Test func isEmptyAfterASnapshotsPlace() throws {
        let disk = try LogDisk()
        try disk.storage.write([self.write([self.entry(1, 1), self.entry(2, 1)], commit: 1)])
        let mark = LogMark(index: LogIndex(50), term: Term(4))
        var reset = self.write([], commit: 50, last: mark)
        reset.resetTo = mark
        try disk.storage.write([reset])
        try disk.restart()
        #expect(try disk.storage.load(self.group).terms == TermRuns(base: mark.index, term: mark.term))
        try disk.storage.write([self.write([self.entry(51, 4), self.entry(52, 9)], commit: 50)])
        try disk.restart()
        let terms = try disk.storage.load(self.group).terms
        #expect((50...53).map { terms.term(at: LogIndex($0))?.rawValue } == [4, 4, 9, nil])
    }

    @Test func aTombstoneKeepsTheVoteAndNothingElse() throws {
        let disk = try LogDisk()
        try disk.storage.write([self.write((1...5).map { self.entry($0, 1) }, commit: 5)])
        let hardState = HardState(term: Term(9), vote: NodeID(2))
        let committed = LogMark(index: LogIndex(5), term: Term(1))
        let tombstone = LogWrite(
            tombstone: self.group,
            hardState: hardState,
            removedAt: LogIndex(5),
            committed: committed
        )
        try disk.storage.write([tombstone])
        try disk.restart()
        #expect(try disk.storage.groups() == [])
        #expect(
            try disk.storage.tombstones()
                == [
                    LogTombstone(
                        group: self.group,
                        hardState: hardState,
                        removedAt: LogIndex(5),
                        committed: committed
                    )
                ]
        )
        let restored = try disk.storage.load(self.group)
        #expect(restored.isRemoved && restored.terms == TermRuns() && restored.hardState == hardState)
        try disk.storage.write([self.write([self.entry(1, 9)])])
        try disk.restart()
        #expect(try disk.storage.groups() == [self.group])
        #expect(try disk.storage.load(self.group).removedAt == LogIndex(5))
    }

    @Test func readsAtLeastOneEntryThenWhatFits() throws {
        let disk = try LogDisk()
        try disk.storage.write([self.write((1...6).map { self.entry($0, 1, bytes: 100) })])
        let reader = disk.storage.reader(of: self.group)
        let first = LogIndex(2)
        let last = LogIndex(6)
        #expect(try reader.entries(from: first, through: last, bytesMax: 1).map(\.index) == [first])
        #expect(try reader.entries(from: first, through: last, bytesMax: 299).count == 2)
        #expect(try reader.entries(from: first, through: last, bytesMax: 300).count == 3)
        #expect(try reader.entries(from: first, through: LogIndex(3), bytesMax: 9_999).count == 2)
    }
}
