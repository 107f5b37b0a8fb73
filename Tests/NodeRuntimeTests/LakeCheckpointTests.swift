internal import Columnar
internal import Foundation
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Checkpoints of a lake's log", .timeLimit(.minutes(10)))
struct LakeCheckpointTests {
    private static func add(_ number: Int) -> DeltaAction {
        .with {
            $0.add = DeltaAction.Add(
                path: "organization=lab-a/month=2026-01/part-\(number).parquet",
                partitionValues: ["organization": "lab-a", "month": "2026-01"],
                size: Int64(100 + number),
                modificationTime: 7,
                dataChange: true,
                stats: "{\"numRecords\":\(number)}",
                tags: ["sha256": "digest \"\(number)\""]
            )
        }
    }

    private static func progress(_ organization: String, _ version: Int64) -> DeltaAction {
        .with {
            $0.txn = DeltaAction.Transaction(appId: "flasktrack:\(organization)", version: version, lastUpdated: 9)
        }
    }

    private static func first() throws -> [DeltaAction] {
        let metadata = DeltaAction.Metadata(
            id: "id",
            name: "audit_log",
            description: nil,
            format: DeltaAction.Format(provider: "parquet", options: [:]),
            schemaString: try LakeColumns.schemaString(LakeColumns.files),
            partitionColumns: LakeColumns.partition,
            configuration: [LakeState.clusterKey: "test"],
            createdTime: 5
        )
        return [.with { $0.protocol = LakeState.versions }, .with { $0.metaData = metadata }]
    }

    /// Makes the commits, writes the checkpoint of the last one, and lends the folder.
    private static func with(
        _ commits: [[DeltaAction]],
        _ body: (_ log: String, _ isWritten: Bool) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/flasktrack-checkpoint-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let storage = try await LakeFolder.open(path)
        for (version, actions) in commits.enumerated() {
            let isMade = try await storage.make(Int64(version), try DeltaCommit.encode(actions))
            #expect(isMade)
        }
        let isWritten = try await DeltaCheckpoint.write(Int64(commits.count - 1), to: storage)
        try await body(path + "/audit_log/_delta_log", isWritten)
    }

    private static func rows(_ file: String, _ columns: String) async throws -> [[ArrowValue]] {
        let threads = ColumnarThreads()
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(access: .trusted),
            threads: threads
        )
        let batches = try await store.query("SELECT \(columns) FROM read_parquet(\(quoteLiteral(file)))").collect()
        await store.close()
        await threads.shutdown()
        return batches.flatMap { batch in
            (0..<batch.rowCount).map { row in
                batch.columns.indices.map { batch.value(row: row, column: $0) }
            }
        }
    }

    @Test func holdsWhatAllCommitsComeTo() async throws {
        let commits = [
            try Self.first() + [Self.progress("lab-a", 5), Self.add(1)],
            [Self.progress("lab-b", 5), Self.add(2)], [Self.progress("lab-a", 10), Self.add(3)],
        ]
        try await Self.with(commits) { log, isWritten in
            #expect(isWritten)
            let file = log + "/00000000000000000002.checkpoint.parquet"
            let added = try await Self.rows(
                file,
                #""add".path, "add"."partitionValues"['month'], "add".size, "add".stats, "add".tags['sha256']"#
            ).filter { $0[0] != .null }
            #expect(added.map { $0[2] } == [.int(101), .int(102), .int(103)])
            #expect(added.allSatisfy { $0[1] == .string("2026-01") })
            #expect(added[2][3] == .string("{\"numRecords\":3}"))
            #expect(added[2][4] == .string("digest \"3\""))
            let others = try await Self.rows(
                file,
                #"txn."appId", txn.version, "metaData".configuration['flasktrack.cluster'], protocol."minWriterVersion""#
            ).filter { $0 != [.null, .null, .null, .null] }
            #expect(
                others == [
                    [.null, .null, .null, .int(2)], [.null, .null, .string("test"), .null],
                    [.string("flasktrack:lab-a"), .int(10), .null, .null],
                    [.string("flasktrack:lab-b"), .int(5), .null, .null],
                ]
            )
            let last = try String(contentsOfFile: log + "/_last_checkpoint", encoding: .utf8)
            #expect(last == "{\"version\":2,\"size\":7}")
        }
    }

    @Test func isLeftOutWhereItWouldNotSayEverything() async throws {
        let removal = DeltaAction.with { $0.remove = DeltaAction.Remove(path: "x") }
        for commits in [[try Self.first(), [removal]], [[Self.add(1)]]] {
            try await Self.with(commits) { log, isWritten in
                #expect(!isWritten)
                let names = try FileManager.default.contentsOfDirectory(atPath: log)
                #expect(names.allSatisfy { $0.hasSuffix(".json") }, "\(names)")
            }
        }
    }
}
