internal import Columnar
internal import Foundation

/// A checkpoint of a Delta log: what all commits up to one come to, in one Parquet file, so that readers need not read each commit.
///
/// Nothing here reads checkpoints: our own progress is in the commits, which stay.
/// - Source: the Delta transaction log protocol, sections "Checkpoints" and "Last Checkpoint File"; the classic form in one part.
package enum DeltaCheckpoint {
    /// Commits from one checkpoint to the next, unless told otherwise.
    package static let intervalDefault: Int64 = 100
    /// Most actions of a checkpoint; a larger table has none.
    static let actionsMax = 2_000_000
    private static let memoryBytes = 512 << 20

    /// The file name of a checkpoint.
    static func fileName(_ version: Int64) -> String {
        DeltaCommit.fileName(version).replacing(".json", with: ".checkpoint.parquet")
    }

    /// What a reader of all commits would have kept, each action as JSON; nil when there is no saying it here.
    ///
    /// Files that another program took out of the table would need their tombstones: then there is no checkpoint.
    static func actions(upTo version: Int64, in storage: any LakeStorage) async throws -> [[UInt8]]? {
        var (needed, metadata) = ([UInt8](), [UInt8]())
        var transactions: [String: [UInt8]] = [:]
        var adds: [[UInt8]] = []
        for number in 0...version {
            guard let bytes = try await storage.commit(number) else { return nil }
            for action in try DeltaCommit.decode(bytes, version: number) {
                if action.remove != nil { return nil }
                if action.protocol != nil { needed = try DeltaCommit.json(action) }
                if action.metaData != nil { metadata = try DeltaCommit.json(action) }
                if let transaction = action.txn { transactions[transaction.appId] = try DeltaCommit.json(action) }
                if action.add != nil { adds.append(try DeltaCommit.json(action)) }
            }
            guard adds.count <= self.actionsMax else { return nil }
            try Task.checkCancellation()
        }
        guard !needed.isEmpty, !metadata.isEmpty else { return nil }
        return [needed, metadata] + transactions.sorted { $0.key < $1.key }.map(\.value) + adds
    }

    /// Writes the checkpoint of a commit, and then the file that names it.
    /// - Returns: False when there is none to write; see ``actions(upTo:in:)``.
    /// - Throws: ``ClientError`` `.localFile`; the table is as it was.
    @discardableResult
    static func write(_ version: Int64, to storage: any LakeStorage) async throws -> Bool {
        guard let actions = try await self.actions(upTo: version, in: storage) else { return false }
        let parquet = try await storage.stage()
        do {
            try await self.writeParquet(actions, to: parquet.path)
        } catch let error as ColumnarError {
            throw ClientError(.localFile, "cannot write the checkpoint of commit \(version)", cause: error)
        }
        try await storage.place(parquet, at: "_delta_log/" + self.fileName(version))
        let last = try await storage.stage()
        try Array("{\"version\":\(version),\"size\":\(actions.count)}".utf8).withUnsafeBytes { try last.write($0) }
        try await storage.place(last, at: "_delta_log/_last_checkpoint")
        return true
    }

    private static func writeParquet(_ actions: [[UInt8]], to path: String) async throws {
        let threads = ColumnarThreads()
        let result: Result<Void, any Error>
        do {
            result = .success(try await self.writeParquet(actions, to: path, threads))
        } catch {
            result = .failure(error)
        }
        await threads.shutdown()
        try result.get()
    }

    private static func writeParquet(_ actions: [[UInt8]], to path: String, _ threads: ColumnarThreads) async throws {
        let log = TableSchema(
            name: "log",
            columns: [ColumnDefinition("place", .uint64), ColumnDefinition("line", .json)]
        )
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(access: .trusted, memoryLimitBytes: self.memoryBytes),
            threads: threads
        )
        do {
            try await store.createTable(log)
            let batchRows = 20_000
            var place = 0
            while place < actions.count {
                let end = min(place + batchRows, actions.count)
                var columns = log.columns.map { ColumnBuilder($0.type, capacity: end - place) }
                for row in place..<end {
                    columns[0].append(UInt64(row))
                    try columns[1].append(utf8: actions[row])
                }
                try await store.ingest(
                    table: log.name,
                    batch: try ColumnBatch(columns: columns),
                    position: UInt64(end)
                )
                place = end
            }
            // Into the file that is there, which is locked while it is staged.
            try await store.execute(
                "COPY (\(self.selection)) TO \(quoteLiteral(path)) (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
            )
        } catch {
            await store.close()
            throw error
        }
        await store.close()
    }

    /// One column a kind of action, of which each row has one; what an action does not say is null.
    private static let selection: String = {
        let texts = #""MAP(VARCHAR, VARCHAR)""#
        let columns = [
            ("txn", #"{"appId":"VARCHAR","version":"BIGINT","lastUpdated":"BIGINT"}"#),
            (
                "add",
                """
                {"path":"VARCHAR","partitionValues":\(texts),"size":"BIGINT","modificationTime":"BIGINT",\
                "dataChange":"BOOLEAN","stats":"VARCHAR","tags":\(texts)}
                """
            ), ("remove", #"{"path":"VARCHAR","deletionTimestamp":"BIGINT","dataChange":"BOOLEAN"}"#),
            (
                "metaData",
                """
                {"id":"VARCHAR","name":"VARCHAR","description":"VARCHAR",\
                "format":{"provider":"VARCHAR","options":\(texts)},"schemaString":"VARCHAR",\
                "partitionColumns":["VARCHAR"],"configuration":\(texts),"createdTime":"BIGINT"}
                """
            ), ("protocol", #"{"minReaderVersion":"INTEGER","minWriterVersion":"INTEGER"}"#),
        ].map { "json_transform(line->'\($0.0)', '\($0.1)') AS \"\($0.0)\"" }
        return "SELECT \(columns.joined(separator: ", ")) FROM log ORDER BY place"
    }()
}
