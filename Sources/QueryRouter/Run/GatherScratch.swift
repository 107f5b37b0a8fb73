internal import Columnar
internal import Foundation
internal import Synchronization

/// The columnar store in memory that holds one query's gathered rows, and the directory where it may spill.
///
/// ``close()`` frees both; whoever drops a scratch without closing it, as a client does that goes away in the middle
/// of a result, has it closed in the background.
final class GatherScratch: Sendable {
    let store: ColumnarStore
    private let directory: String?
    private let threads: ColumnarThreads
    private let isClosed = Atomic<Bool>(false)

    private init(store: ColumnarStore, directory: String?, threads: ColumnarThreads) {
        self.store = store
        self.directory = directory
        self.threads = threads
    }

    /// - Parameter number: Distinguishes the queries of one router.
    static func open(
        number: Int,
        configuration: QueryRouterConfiguration,
        memoryBytesMax: Int?,
        timeLimit: Duration,
        threads: ColumnarThreads
    ) async throws -> GatherScratch {
        let directory = configuration.temporaryDirectory.map { "\($0)/gather-\(number)" }
        let memory = min(memoryBytesMax ?? configuration.memoryLimitBytes, configuration.memoryLimitBytes)
        let settings = ColumnarConfiguration(
            memoryLimitBytes: max(memory, ColumnarConfiguration.memoryLimitBytesMin),
            temporaryDirectory: directory,
            temporaryBytesMax: configuration.temporaryBytesMax,
            timeLimit: timeLimit
        )
        let store = try await ColumnarStore.open(.memory, configuration: settings, threads: threads)
        return GatherScratch(store: store, directory: directory, threads: threads)
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
