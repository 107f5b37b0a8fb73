internal import Consensus
internal import Foundation
internal import Primitives
internal import Storage
internal import Testing

/// What the segment log does with disks that fail and lose power.
@Suite(.timeLimit(.minutes(10))) struct SegmentLogTests {
    private let group = GroupID(3)

    private func write(_ index: UInt64, bytes: Int = 200, group: GroupID? = nil) -> LogWrite {
        let payload = (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(index)) }
        let entry = LogEntry(index: LogIndex(index), term: Term(1), kind: .commands, payload: payload)
        return LogWrite(
            group: group ?? self.group,
            hardState: HardState(term: Term(1), vote: nil),
            commit: LogIndex(index - 1),
            entries: [entry],
            last: LogIndex(index),
            lastTerm: Term(1)
        )
    }

    private func compaction(_ through: UInt64, last: UInt64) -> LogWrite {
        LogWrite(
            group: self.group,
            hardState: HardState(term: Term(1), vote: nil),
            commit: LogIndex(last),
            compactThrough: LogMark(index: LogIndex(through), term: Term(1)),
            last: LogIndex(last),
            lastTerm: Term(1)
        )
    }

    private func open(_ files: SimulatedLogFiles) throws -> SegmentLog {
        try SegmentLog.open(files: files, configuration: LogDisk.smallSegments())
    }

    private func error(_ body: () throws -> Void) -> ConsensusError? {
        do {
            try body()
            return nil
        } catch {
            return error as? ConsensusError
        }
    }

    /// Whatever sectors of an unsynced batch reach the disk, a restart finds the batch as a whole or not at all.
    @Test(arguments: 1...60 as ClosedRange<UInt64>) func aTornBatchIsThereAsAWholeOrNotAtAll(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var files = SimulatedLogFiles()
        var model = LogModel()
        for step in 0..<25 {
            let log = try self.open(files)
            for _ in 0..<generator.next() % 4 {
                try log.write([model.draw(GroupID(UInt32(generator.next() % 3)), using: &generator)])
            }
            var after = model
            let torn = (0...generator.next() % 3).map { _ in
                after.draw(GroupID(UInt32(generator.next() % 3)), using: &generator)
            }
            files.arm(StoreFault(.sync, hasEffect: generator.next() % 4 == 0))
            #expect(throws: ConsensusError.self) { try log.write(torn) }
            #expect(throws: ConsensusError.self) { try log.write([]) }
            files = files.crash { _, _ in generator.next() % 2 == 0 }
            let reopened = try self.open(files)
            let isThere = try reopened.isEqual(to: after)
            let isAbsent = try reopened.isEqual(to: model)
            #expect(isThere || isAbsent, "seed \(seed) step \(step)")
            if isThere { model = after }
            files = files.restart()
        }
    }

    @Test func aTornTailIsCutAndWrittenOver() throws {
        var files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...3 { try log.write([self.write(index)]) }
        files.arm(StoreFault(.sync))
        #expect(throws: ConsensusError.self) { try log.write([self.write(4, bytes: 1_500)]) }
        files = files.crash { _, sector in sector % 2 == 0 }
        let second = try self.open(files)
        #expect(try second.load(self.group).terms.last == LogIndex(3))
        try second.write([self.write(4)])
        files = files.crash()
        #expect(try self.open(files).verify(self.group) == 4)
    }

    /// A sync that failed leaves what it should have written in the system's memory, and no later one writes it.
    @Test func whatIsReadAfterAFailedSyncIsMadeDurable() throws {
        var files = SimulatedLogFiles()
        let log = try self.open(files)
        try log.write([self.write(1)])
        files.arm(StoreFault(.sync))
        #expect(throws: ConsensusError.self) { try log.write([self.write(2)]) }
        files = files.restart()
        let second = try self.open(files)
        #expect(try second.load(self.group).terms.last == LogIndex(2))
        try second.write([self.write(3)])
        files = files.crash()
        #expect(try self.open(files).verify(self.group) == 3)
    }

    /// Every bit of every batch but the last: found at opening or by the first read, never another entry.
    @Test func aFlippedBitIsReported() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...6 { try log.write([self.write(index, bytes: 40)]) }
        let name = try #require(try files.names().first)
        let whole = try #require(files.contents(of: name))
        let batchBytes = 208
        #expect(whole[(6 * batchBytes)...].allSatisfy { $0 == 0 })
        for byte in 0..<5 * batchBytes where byte % batchBytes < 194 {
            let copy = files.restart()
            copy.flipBit(byte * 8 + byte % 8, of: name)
            let failure = self.error { _ = try self.open(copy).verify(self.group) }
            #expect(failure?.code == .corruption, "byte \(byte)")
        }
    }

    @Test func damageInAnEntryNamesIt() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...5 { try log.write([self.write(index), self.write(index, group: GroupID(9))]) }
        let name = try #require(try files.names().first)
        let payloads = 48 + 2 * (89 + 17)
        files.flipBit((2 * 672 + payloads + 10) * 8, of: name)
        let reading = self.error {
            _ = try log.reader(of: self.group).entries(from: LogIndex(1), through: LogIndex(5), bytesMax: .max)
        }
        #expect(reading?.code == .corruption)
        #expect(reading?.group == self.group && reading?.index == LogIndex(3))
        let reopened = try self.open(files.restart())
        #expect(self.error { _ = try reopened.verify(self.group) }?.index == LogIndex(3))
        #expect(try reopened.verify(GroupID(9)) == 5)
    }

    @Test func aLostSegmentIsReported() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...60 { try log.write([self.write(index)]) }
        let names = try files.names().filter { $0 != "spare.log" }
        #expect(names.count > 3)
        for name in names.dropLast() {
            let copy = files.restart()
            copy.lose(name)
            #expect(self.error { _ = try self.open(copy) }?.code == .logLost, "\(name)")
        }
    }

    @Test func aDamagedEndOfASealedSegmentIsReported() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...30 { try log.write([self.write(index)]) }
        let name = try #require(try files.names().first)
        // The last batch of the segment and its seal.
        let contents = try #require(files.contents(of: name))
        let used = try #require(contents.lastIndex { $0 != 0 })
        for byte in stride(from: used - 400, through: used, by: 7) {
            let copy = files.restart()
            if contents[byte] == 0 { continue }
            copy.flipBit(byte * 8, of: name)
            let failure = self.error { _ = try self.open(copy).verify(self.group) }
            #expect(failure?.code == .corruption, "byte \(byte)")
        }
    }

    @Test func segmentsAreRecycledOnceTheyAreNotNeeded() throws {
        var files = SimulatedLogFiles()
        let log = try self.open(files)
        try log.write([self.write(1, group: GroupID(8))])
        for index in UInt64(1)...400 {
            try log.write([self.write(index)])
            if index % 10 == 0 { try log.write([self.compaction(index - 5, last: index)]) }
        }
        #expect(try files.names().count <= 6)
        files = files.crash()
        let reopened = try self.open(files)
        #expect(try reopened.verify(self.group) == 5)
        #expect(try reopened.verify(GroupID(8)) == 1)
        try reopened.write([self.write(401)])
        #expect(try reopened.verify(self.group) == 6)
    }

    @Test func anIdleGroupDoesNotHoldTheLogBack() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        for index in UInt64(1)...20 { try log.write([self.write(index, group: GroupID(8))]) }
        let reader = log.reader(of: GroupID(8))
        for index in UInt64(1)...600 {
            try log.write([self.write(index)])
            if index % 20 == 0 { try log.write([self.compaction(index - 2, last: index)]) }
        }
        // The idle group's entries take two segments, and twice that plus the slack may be used.
        let names = try files.names()
        #expect(names.count <= 8)
        #expect(try reader.entries(from: LogIndex(1), through: LogIndex(20), bytesMax: .max).count == 20)
        #expect(try self.open(files.crash()).verify(GroupID(8)) == 20)
    }

    @Test func aBatchLargerThanASegmentHasOneOfItsOwn() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        try log.write([self.write(1)])
        try log.write([self.write(2, bytes: 40_000)])
        try log.write([self.write(3)])
        #expect(try self.open(files.crash()).verify(self.group) == 3)
    }

    @Test func aFullDiskIsTold() throws {
        let files = SimulatedLogFiles()
        files.limit(capacityBytes: 4 * (4 << 10))
        let log = try self.open(files)
        var written = UInt64(0)
        var failure: ConsensusError?
        while failure == nil, written < 100 {
            failure = self.error { try log.write([self.write(written + 1)]) }
            if failure == nil { written += 1 }
        }
        #expect((failure?.cause as? StorageError)?.code == .full)
        #expect(self.error { try log.write([self.write(written + 1)]) }?.code == .store)
        #expect(try self.open(files.crash()).verify(self.group) == Int(written))
    }

    @Test func aFailedReadIsNoDamage() throws {
        let files = SimulatedLogFiles()
        let log = try self.open(files)
        try log.write([self.write(1)])
        files.arm(StoreFault(.read))
        #expect(self.error { _ = try log.verify(self.group) }?.code == .store)
        #expect(try log.verify(self.group) == 1)
    }

    @Test func aClosedLogRefusesWrites() throws {
        let log = try self.open(SimulatedLogFiles())
        try log.write([self.write(1)])
        try log.close()
        try log.close()
        #expect(self.error { try log.write([self.write(2)]) }?.code == .store)
        #expect(self.error { _ = try log.verify(self.group) }?.code == .store)
    }

    @Test func keepsItsPromisesOnARealDisk() throws {
        let path =
            FileManager.default.temporaryDirectory.path
            + "/flask-track-log-\(ProcessInfo.processInfo.processIdentifier)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        var model = LogModel()
        var generator = SeededGenerator(seed: 5)
        for life in 0..<4 {
            let log = try SegmentLog.open(
                files: try DiskLogFiles(path: path),
                configuration: LogDisk.smallSegments()
            )
            #expect(throws: StorageError.self) { try DiskLogFiles(path: path) }
            try model.check(log, "life \(life)")
            for _ in 0..<60 { try log.write([model.draw(GroupID(UInt32(generator.next() % 4)), using: &generator)]) }
            try model.check(log, "life \(life), before its end")
            try log.close()
        }
    }
}

extension RaftLogStorage {
    /// Whether everything is as the model says.
    fileprivate func isEqual(to model: LogModel) throws -> Bool {
        let wanted = model.groups.keys.sorted()
        guard try (self.groups() + self.tombstones().map(\.group)).sorted() == wanted else { return false }
        for id in wanted {
            guard let group = model.groups[id] else { return false }
            let restored = try self.load(id)
            guard restored.hardState == group.hardState, restored.commit == group.commit,
                restored.terms.base == group.base.index, restored.terms.last == group.last,
                restored.isRemoved == group.isRemoved, restored.removedAt == group.removedAt
            else { return false }
            guard let first = group.entries.first else { continue }
            let found = try self.reader(of: id).entries(from: first.index, through: group.last, bytesMax: .max)
            guard found == group.entries else { return false }
        }
        return true
    }
}
