internal import Foundation
internal import Primitives
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Exporting into a lake")
struct LakeExportTests {
    private static let organization = OrganizationKey("lab-a")!

    /// Records 1 to `size`; those from each of `months` on are of that month. Its files name their sequences, a line
    /// each, and are different bytes each time.
    private final class Ledger: LakeSource {
        let size = Mutex(UInt64(0))
        private let fetched = Mutex(0)
        let cluster: String
        /// A larger piece is refused.
        let recordsMax: Int

        init(size: UInt64, cluster: String = "test", recordsMax: Int = .max) {
            self.cluster = cluster
            self.recordsMax = recordsMax
            self.size.withLock { $0 = size }
        }

        func extent(of organization: OrganizationKey) -> LakeExtent {
            LakeExtent(cluster: self.cluster, size: self.size.withLock { $0 })
        }

        static func month(_ sequence: UInt64) -> String { "2026-0\(min(9, 1 + sequence / 7))" }

        func pieces(of organization: OrganizationKey, _ range: ClosedRange<UInt64>) -> [LakePiece] {
            var pieces: [LakePiece] = []
            for sequence in range {
                let month = Self.month(sequence)
                if let last = pieces.last, last.month == month {
                    pieces[pieces.count - 1] = LakePiece(
                        organization: organization,
                        month: month,
                        range: last.range.lowerBound...sequence
                    )
                } else {
                    pieces.append(LakePiece(organization: organization, month: month, range: sequence...sequence))
                }
            }
            return pieces
        }

        func fetch(_ piece: LakePiece, into file: LakeStagedFile) throws -> LakePlan.File {
            guard piece.range.count <= self.recordsMax else {
                throw ClientError(.refused(problem: "result_too_large"), "too large")
            }
            let number = self.fetched.withLock { count in
                count += 1
                return count
            }
            let text = piece.range.map(String.init).joined(separator: "\n") + "\n#\(number)\n"
            let bytes = Array(text.utf8)
            try bytes.withUnsafeBytes { try file.write($0) }
            return LakePlan.File(
                piece: piece,
                sha256: String(format: "%016x", number) + String(repeating: "0", count: 48),
                sizeBytes: Int64(bytes.count),
                exportRecord: 1,
                completionRecord: 2
            )
        }
    }

    private struct Killed: Error {}

    /// Ends the program, so to say, before or after the n-th step that changes the folder.
    private final class Faulty: LakeStorage {
        private let folder: LakeFolder
        private let left: Mutex<Int>
        private let isAfter: Bool
        /// Called before a commit is made.
        private let beforeCommit: (@Sendable () async throws -> Void)?

        init(
            _ folder: LakeFolder,
            steps: Int = .max,
            isAfter: Bool = false,
            beforeCommit: (@Sendable () async throws -> Void)? = nil
        ) {
            self.folder = folder
            self.left = Mutex(steps)
            self.isAfter = isAfter
            self.beforeCommit = beforeCommit
        }

        private func step<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
            let isLast = self.left.withLock { left in
                left -= 1
                return left == 0
            }
            if isLast, !self.isAfter { throw Killed() }
            let value = try await body()
            if isLast { throw Killed() }
            return value
        }

        func firstVersion() async throws -> Int64? { try await self.folder.firstVersion() }
        func commit(_ version: Int64) async throws -> [UInt8]? { try await self.folder.commit(version) }
        func make(_ version: Int64, _ bytes: [UInt8]) async throws -> Bool {
            try await self.beforeCommit?()
            return try await self.step { try await self.folder.make(version, bytes) }
        }
        func stage() async throws -> LakeStagedFile { try await self.step { try await self.folder.stage() } }
        func place(_ staged: LakeStagedFile, at path: String) async throws {
            try await self.step { try await self.folder.place(staged, at: path) }
        }
        func files(of organization: String) async throws -> [String] {
            try await self.folder.files(of: organization)
        }
        func remove(_ path: String) async throws { try await self.step { try await self.folder.remove(path) } }
    }

    private func export(
        _ ledger: Ledger,
        _ storage: any LakeStorage,
        rows: UInt64 = 5,
        takesRest: Bool = false
    ) -> LakeExport {
        LakeExport(source: ledger, storage: storage, rows: rows, takesRest: takesRest, tableID: "id", now: { 7 })
    }

    /// The sequences in the files that the log names, in the order of the commits; checks what the log says of each.
    private func sequences(_ path: String) throws -> [UInt64] {
        var found: [UInt64] = []
        var version: Int64 = 0
        while let data = FileManager.default.contents(
            atPath: "\(path)/audit_log/_delta_log/\(DeltaCommit.fileName(version))"
        ) {
            for action in try DeltaCommit.decode([UInt8](data), version: version) {
                guard let add = action.add else { continue }
                let bytes = try #require(FileManager.default.contents(atPath: "\(path)/audit_log/\(add.path)"))
                #expect(bytes.count == Int(add.size))
                let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { UInt64($0) }
                let statistics = try JSONDecoder().decode(
                    DeltaAction.Statistics.self,
                    from: Data((add.stats ?? "").utf8)
                )
                #expect(statistics.numRecords == Int64(lines.count))
                #expect(statistics.minValues["sequence"] == lines.first.map { Int64($0) })
                #expect(statistics.maxValues["sequence"] == lines.last.map { Int64($0) })
                #expect(lines.allSatisfy { Ledger.month($0) == add.partitionValues["month"] })
                found += lines
            }
            version += 1
        }
        return found
    }

    /// Data files, named by the log or not.
    private func dataFiles(_ path: String) async throws -> Int {
        try await LakeFolder.open(path).files(of: "lab-a").count
    }

    private func withLake<R>(_ body: (String) async throws -> R) async throws -> R {
        let path = FileManager.default.temporaryDirectory.path + "/flasktrack-lake-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await body(path)
    }

    @Test(.timeLimit(.minutes(10)))
    func sealsFullRangesAndGoesOnWhereItEnded() async throws {
        try await self.withLake { path in
            let ledger = Ledger(size: 12)
            let first = try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
            #expect(first.records == 10 && first.exported == 10 && first.size == 12)
            #expect(try self.sequences(path) == Array(1...10))
            let idle = try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
            #expect(idle.files == 0 && idle.exported == 10)
            ledger.size.withLock { $0 = 16 }
            let second = try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
            #expect(second.records == 5)
            let rest = try await self.export(ledger, LakeFolder.open(path), takesRest: true).run(Self.organization)
            #expect(rest.records == 1 && rest.exported == 16)
            ledger.size.withLock { $0 = 40 }
            _ = try await self.export(ledger, LakeFolder.open(path), rows: 8).run(Self.organization)
            #expect(try self.sequences(path) == Array(1...40))
        }
    }

    @Test(.timeLimit(.minutes(10)), arguments: [false, true])
    func hasEveryRecordOnceWhereverItWasKilled(isAfter: Bool) async throws {
        var steps = 0
        var hasKilled = true
        while hasKilled {
            steps += 1
            try #require(steps < 200)
            try await self.withLake { path in
                let ledger = Ledger(size: 17, recordsMax: 3)
                do {
                    let storage = Faulty(try await LakeFolder.open(path), steps: steps, isAfter: isAfter)
                    _ = try await self.export(ledger, storage).run(Self.organization)
                    hasKilled = false
                } catch is Killed {}
                let exported = try self.sequences(path)
                #expect(exported == Array(1...17).prefix(exported.count).map { UInt64($0) }, "killed at step \(steps)")
                #expect(exported.count % 5 == 0, "a range is seen whole or not at all, step \(steps)")
                _ = try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
                let all = try self.sequences(path)
                #expect(all == Array(1...15), "killed at step \(steps)")
                let named = try await self.namedFiles(path)
                #expect(try await self.dataFiles(path) == named, "leftovers of step \(steps)")
            }
        }
        // Three ranges, each with two files at least, and a commit.
        #expect(steps > 15)
    }

    private func namedFiles(_ path: String) async throws -> Int {
        var state = LakeState()
        let folder = try await LakeFolder.open(path)
        while let bytes = try await folder.commit(state.version + 1) {
            let version = state.version + 1
            try state.apply(DeltaCommit.decode(bytes, version: version), version: version)
        }
        return state.named.count
    }

    /// What the other tests look with must see a wrong table.
    @Test(.timeLimit(.minutes(10)))
    func aRecordThatIsTwiceOrMissingWouldBeSeen() async throws {
        try await self.withLake { path in
            let folder = try await LakeFolder.open(path)
            _ = try await self.export(Ledger(size: 10), folder).run(Self.organization)
            let log = path + "/audit_log/_delta_log/"
            let second = try #require(try await folder.commit(1))
            #expect(try await folder.make(2, second))
            #expect(try self.sequences(path) == Array(1...10) + Array(6...10))
            try FileManager.default.removeItem(atPath: log + DeltaCommit.fileName(2))
            try FileManager.default.removeItem(atPath: log + DeltaCommit.fileName(1))
            #expect(try self.sequences(path) == Array(1...5))
            let files = try await self.dataFiles(path)
            let named = try await self.namedFiles(path)
            #expect(files > named, "files of a commit that is gone are leftovers")
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func givesWayToAnotherExporterThatCommitsFirst() async throws {
        try await self.withLake { path in
            let ledger = Ledger(size: 15)
            // The other one exports everything, in other ranges, each time before this one commits.
            let other = self.export(ledger, try await LakeFolder.open(path), rows: 3)
            let storage = Faulty(
                try await LakeFolder.open(path),
                beforeCommit: { _ = try await other.run(Self.organization) }
            )
            let summary = try await self.export(ledger, storage).run(Self.organization)
            #expect(summary.files == 0 && summary.exported == 15)
            #expect(try self.sequences(path) == Array(1...15))
            #expect(try await self.dataFiles(path) == self.namedFiles(path))
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func twoOrganizationsShareATableAndItsVersions() async throws {
        try await self.withLake { path in
            let other = try #require(OrganizationKey("lab-b"))
            let ledger = Ledger(size: 5)
            let folder = try await LakeFolder.open(path)
            let storage = Faulty(folder, beforeCommit: { _ = try await self.export(ledger, folder).run(other) })
            let summary = try await self.export(ledger, storage).run(Self.organization)
            #expect(summary.records == 5, "another organization's commit takes the version, not the range")
            #expect(try self.sequences(path) == Array(1...5) + Array(1...5))
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func refusesAnotherClusterAShorterLedgerAndAForeignLog() async throws {
        try await self.withLake { path in
            let ledger = Ledger(size: 10)
            _ = try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
            await #expect(throws: ClientError.self) {
                try await self.export(Ledger(size: 20, cluster: "other"), LakeFolder.open(path)).run(Self.organization)
            }
            await #expect(throws: ClientError.self) {
                try await self.export(Ledger(size: 9), LakeFolder.open(path)).run(Self.organization)
            }
            let log = path + "/audit_log/_delta_log/"
            try FileManager.default.removeItem(atPath: log + DeltaCommit.fileName(0))
            await #expect(throws: ClientError.self) {
                try await self.export(ledger, LakeFolder.open(path)).run(Self.organization)
            }
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func refusesMonthsThatLeaveOutRecords() async throws {
        final class Gap: LakeSource {
            func extent(of organization: OrganizationKey) -> LakeExtent { LakeExtent(cluster: "test", size: 5) }
            func pieces(of organization: OrganizationKey, _ range: ClosedRange<UInt64>) -> [LakePiece] {
                [
                    LakePiece(organization: organization, month: "2026-01", range: 1...2),
                    LakePiece(organization: organization, month: "2026-02", range: 4...5),
                ]
            }
            func fetch(_ piece: LakePiece, into file: LakeStagedFile) throws -> LakePlan.File { throw Killed() }
        }
        try await self.withLake { path in
            let export = LakeExport(
                source: Gap(),
                storage: try await LakeFolder.open(path),
                rows: 5,
                tableID: "id",
                now: { 7 }
            )
            await #expect(throws: ClientError.self) { try await export.run(Self.organization) }
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func removesStagedFilesOfTheDeadOnly() async throws {
        try await self.withLake { path in
            let folder = try await LakeFolder.open(path)
            let alive = try await folder.stage()
            let abandoned = path + "/audit_log/_staging/abandoned"
            try Data("x".utf8).write(to: URL(fileURLWithPath: abandoned))
            _ = try await LakeFolder.open(path)
            #expect(FileManager.default.fileExists(atPath: alive.path))
            #expect(!FileManager.default.fileExists(atPath: abandoned))
        }
    }
}
