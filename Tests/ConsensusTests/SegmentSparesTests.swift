internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

/// Segments that are made before they are wanted.
@Suite(.timeLimit(.minutes(10))) struct SegmentSparesTests {
    private static let spare = "spare.log"
    private let group = GroupID(3)

    private func configuration() -> SegmentLog.Configuration {
        var configuration = SegmentLog.Configuration()
        configuration.segmentBytes = 32 << 10
        return configuration
    }

    private func write(_ index: UInt64, bytes: Int) -> LogWrite {
        let entry = LogEntry(
            index: LogIndex(index),
            term: Term(1),
            kind: .commands,
            payload: [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: bytes)
        )
        return LogWrite(
            group: self.group,
            hardState: HardState(term: Term(1), vote: nil),
            commit: LogIndex(index - 1),
            entries: [entry],
            last: LogIndex(index),
            lastTerm: Term(1)
        )
    }

    private func segments(_ files: SimulatedLogFiles) throws -> Int {
        try files.names().count { $0 != Self.spare && $0.hasSuffix(".log") }
    }

    /// Writes until the log has gone on to its segment `number`.
    private func fill(_ log: SegmentLog, _ files: SimulatedLogFiles, to number: Int, bytes: Int) throws -> UInt64 {
        var index = try log.load(self.group).terms.last.rawValue
        while try self.segments(files) < number {
            index += 1
            try log.write([self.write(index, bytes: bytes)])
        }
        return index
    }

    @Test func makesTheNextSegmentBesideTheLog() async throws {
        let files = SimulatedLogFiles()
        let thread = try SerialThread(name: "test-spare")
        let log = try SegmentLog.open(files: files, configuration: self.configuration(), preparer: thread)
        #expect(try files.names().contains(Self.spare))
        // The second takes the one that was made at the start.
        _ = try self.fill(log, files, to: 2, bytes: 100)
        try await thread.run {}
        #expect(try files.names().contains(Self.spare))
        let last = try self.fill(log, files, to: 6, bytes: 100)
        try log.close()
        let again = try SegmentLog.open(files: files.restart(), configuration: self.configuration())
        #expect(try again.verify(self.group) == Int(last))
    }

    @Test func withoutAThreadNoneIsMadeAhead() throws {
        let files = SimulatedLogFiles()
        let log = try SegmentLog.open(files: files, configuration: self.configuration())
        _ = try self.fill(log, files, to: 2, bytes: 100)
        #expect(try !files.names().contains(Self.spare))
    }

    @Test func whatWasMadeAheadSurvivesAPowerFailure() async throws {
        let files = SimulatedLogFiles()
        let thread = try SerialThread(name: "test-spare")
        let log = try SegmentLog.open(files: files, configuration: self.configuration(), preparer: thread)
        let last = try self.fill(log, files, to: 3, bytes: 100)
        try await thread.run {}
        try log.close()
        let after = files.crash()
        let again = try SegmentLog.open(files: after, configuration: self.configuration())
        #expect(try again.verify(self.group) == Int(last))
        #expect(try after.names().count { $0 == Self.spare } == 1)
    }

    @Test func fewLargeBatchesHaveNoneMadeAhead() async throws {
        let files = SimulatedLogFiles()
        let thread = try SerialThread(name: "test-spare")
        let log = try SegmentLog.open(files: files, configuration: self.configuration(), preparer: thread)
        _ = try self.fill(log, files, to: 4, bytes: 3_000)
        try await thread.run {}
        #expect(try !files.names().contains(Self.spare))
        try log.close()
    }

    @Test func aFullDiskHindersOnlyTheNextSegment() async throws {
        let files = SimulatedLogFiles()
        let thread = try SerialThread(name: "test-spare")
        let log = try SegmentLog.open(files: files, configuration: self.configuration(), preparer: thread)
        files.limit(capacityBytes: 2 * (32 << 10))
        let last = try self.fill(log, files, to: 2, bytes: 100)
        try await thread.run {}
        #expect(try !files.names().contains(Self.spare))
        try log.write([self.write(last + 1, bytes: 100)])
        files.limit(capacityBytes: .max)
        _ = try self.fill(log, files, to: 3, bytes: 100)
        try await thread.run {}
        #expect(try files.names().contains(Self.spare))
        try log.close()
    }
}
