internal import Columnar
internal import Foundation
internal import Synchronization

/// A columnar store in memory that holds one query's rows, and the directory where it may spill.
///
/// ``close()`` frees both; whoever drops a scratch without closing it, as a client does that goes away in the middle
/// of a result, has it closed in the background.
final class InProcessScratch: QueryScratch {
    private let store: ColumnarStore
    private let directory: String?
    private let threads: ColumnarThreads
    private let isClosed = Atomic<Bool>(false)

    init(store: ColumnarStore, directory: String?, threads: ColumnarThreads) {
        self.store = store
        self.directory = directory
        self.threads = threads
    }

    func define(_ sql: String) async throws { try await self.store.execute(sql) }

    func append(_ batch: ArrowRecordBatch, to table: String) async throws {
        try await self.store.append(batch, to: table)
    }

    func query(
        _ sql: String,
        parameters: [ArrowValue],
        origin: StatementOrigin,
        limits: QueryLimits
    ) async throws -> ScratchResult {
        let result = try await self.store.query(sql, parameters: parameters, origin: origin, limits: limits)
        return ScratchResult(schema: result.schema, batches: RecordBatchStream(result.batches))
    }

    func describe(_ sql: String, origin: StatementOrigin) async throws -> StatementDescription {
        try await self.store.describe(sql, origin: origin)
    }

    func close() async {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        await Self.close(self.store, self.directory, self.threads)
    }

    private static func close(_ store: ColumnarStore, _ directory: String?, _ threads: ColumnarThreads) async {
        await store.close()
        guard let directory else { return }
        // What cannot be removed now is wiped when the number comes again after a restart.
        try? await threads.run(on: .query) { try FileManager.default.removeItem(atPath: directory) }
    }

    deinit {
        guard !self.isClosed.load(ordering: .acquiring) else { return }
        let (store, directory, threads) = (self.store, self.directory, self.threads)
        Task { await Self.close(store, directory, threads) }  // task-owner: ends by itself: closing is two short jobs
    }
}
