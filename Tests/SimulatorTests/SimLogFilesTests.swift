internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

@testable internal import simulator

@Suite struct SimLogFilesTests {
    private static func small() -> SegmentLog.Configuration {
        var configuration = SegmentLog.Configuration()
        configuration.segmentBytes = 2 << 10
        configuration.sparesMax = 1
        configuration.slackSegments = 1
        return configuration
    }

    private func write(_ index: UInt64) -> LogWrite {
        let entry = LogEntry(
            index: LogIndex(index),
            term: Term(1),
            kind: .commands,
            payload: [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: 300)
        )
        return LogWrite(
            group: GroupID(1),
            hardState: HardState(term: Term(1)),
            commit: LogIndex(index - 1),
            entries: [entry],
            last: LogIndex(index),
            lastTerm: Term(1)
        )
    }

    /// Writes until a call fails.
    /// - Returns: The last entry of which a write returned.
    private func fill(_ log: SegmentLog, from first: UInt64 = 1) -> UInt64 {
        for index in first...20 {
            do { try log.write([self.write(index)]) } catch { return index - 1 }
        }
        return 20
    }

    /// One call after the other is the last one; whatever the disk then has, what was acknowledged is there.
    @Test(arguments: SimLogFiles.Call.allCases, [false, true])
    func endsALogAtEveryCall(_ call: SimLogFiles.Call, hasEffect: Bool) throws {
        for number in 0..<30 {
            var dice = Dice(seed: UInt64(number))
            let files = SimLogFiles()
            files.set(SimLogFiles.Trap(calls: [call], callsBefore: number, hasEffect: hasEffect))
            let log = try? SegmentLog.open(files: files, configuration: Self.small())
            let kept = log.map { self.fill($0) } ?? 0
            if number == 0, ![.rename, .remove, .read, .open].contains(call) { #expect(files.failed == call) }
            #expect(files.failed == nil || kept < 20)
            _ = files.losePower(&dice)
            #expect(files.failed == nil && !files.mayFail, "a new life begins without failures")
            let again = try SegmentLog.open(files: files, configuration: Self.small())
            #expect(try again.verify(GroupID(1)) >= Int(kept), "\(call) \(number)")
        }
    }

    @Test func makesNoFileWhileItIsFull() throws {
        let files = SimLogFiles()
        let log = try SegmentLog.open(files: files, configuration: Self.small())
        files.isFull = true
        let kept = self.fill(log)
        #expect(kept < 20 && files.failed == .create)
        files.endProcess()
        files.isFull = false
        let again = try SegmentLog.open(files: files, configuration: Self.small())
        #expect(try again.load(GroupID(1)).terms.last >= LogIndex(kept))
        #expect(self.fill(again, from: try again.load(GroupID(1)).terms.last.rawValue + 1) == 20)
    }

    /// The last batch that was synced stays whole: nobody could tell its damage from a torn write.
    @Test func flipsBitsOfWhatIsSyncedButNotOfTheLastBatch() throws {
        var dice = Dice(seed: 5)
        var flipped = 0
        var noticed = 0
        for _ in 0..<200 {
            let files = SimLogFiles()
            let log = try SegmentLog.open(files: files, configuration: Self.small())
            #expect(self.fill(log) == 20)
            if files.flipBit(&dice) == nil { continue }
            flipped += 1
            files.endProcess()
            do {
                let again = try SegmentLog.open(files: files, configuration: Self.small())
                #expect(try again.verify(GroupID(1)) == 20)
            } catch {
                noticed += 1
            }
        }
        #expect(flipped > 100 && noticed > 50, "\(flipped) flipped, \(noticed) noticed")
    }

    @Test func losesOrKeepsSectorsAtAPowerFailureAndNoneAtTheEndOfAProcess() throws {
        var kept = 0
        var lost = 0
        for seed in UInt64(0)..<40 {
            var dice = Dice(seed: seed)
            let files = SimLogFiles()
            let file = try files.create("1.log", sizeBytes: 4_096, isFilled: true)
            try file.sync()
            try file.write([UInt8](repeating: 7, count: 2_048), at: 0)
            files.endProcess()
            #expect(files.files.contents(of: "1.log")?.prefix(2_048).allSatisfy { $0 == 7 } == true)
            let outcome = files.losePower(&dice)
            #expect(outcome.kept + outcome.lost == 4)
            kept += outcome.kept
            lost += outcome.lost
            #expect(files.files.contents(of: "1.log")?.count { $0 == 7 } == outcome.kept * 512)
        }
        #expect(kept > 20 && lost > 20)
    }
}
