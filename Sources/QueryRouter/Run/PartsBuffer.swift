internal import Columnar
internal import Synchronization

/// Batches on their way into a scratch store: many small answers become one append.
///
/// Each append is a question to the engine's process and a transaction there, which costs more than a few rows do.
/// Shared by the tasks of one gathering; holds at most ``appendBytes`` of each table and what comes at once.
final class PartsBuffer: Sendable {
    /// So much of a table is appended without waiting for more.
    static let appendBytes = 1 << 20

    private struct Waiting {
        var batches: [ArrowRecordBatch] = []
        var bytes = 0
    }

    private let scratch: @Sendable () async throws -> any QueryScratch
    private let waiting = Mutex<[String: Waiting]>([:])
    private let isLazy: Bool
    private let hasAppended = Atomic<Bool>(false)

    /// - Parameters:
    ///   - isLazy: Whether what is less than ``appendBytes`` in all is never appended, but left to ``take(_:)``.
    ///   - scratch: Returns the store, when it is open.
    init(isLazy: Bool = false, scratch: @escaping @Sendable () async throws -> any QueryScratch) {
        self.isLazy = isLazy
        self.scratch = scratch
    }

    /// All batches of a table, where none had to be appended; nil: they are in the store.
    func take(_ table: String) -> [ArrowRecordBatch]? {
        guard self.isLazy, !self.hasAppended.load(ordering: .acquiring) else { return nil }
        return self.waiting.withLock { $0.removeValue(forKey: table)?.batches ?? [] }
    }

    /// Takes a batch; returns when there is room for the next.
    func add(_ batch: ArrowRecordBatch, to table: String) async throws {
        let full = self.waiting.withLock { waiting -> Waiting? in
            waiting[table, default: Waiting()].batches.append(batch)
            waiting[table, default: Waiting()].bytes += batch.byteCount
            guard let entry = waiting[table], entry.bytes >= Self.appendBytes else { return nil }
            waiting[table] = nil
            return entry
        }
        if let full { try await self.append(full.batches, to: table) }
    }

    /// Appends what waits, unless it is left to ``take(_:)``; after the last ``add(_:to:)``.
    func flush() async throws {
        if self.isLazy, !self.hasAppended.load(ordering: .acquiring) { return }
        let rest = self.waiting.withLock { waiting in
            defer { waiting = [:] }
            return waiting
        }
        for (table, entry) in rest.sorted(by: { $0.key < $1.key }) { try await self.append(entry.batches, to: table) }
    }

    private func append(_ batches: [ArrowRecordBatch], to table: String) async throws {
        self.hasAppended.store(true, ordering: .releasing)
        var rest = batches[...]
        while let first = rest.first {
            let same = rest.prefix { $0.schema == first.schema }
            try Task.checkCancellation()
            try await self.scratch().append(Array(same), to: table)
            rest = rest.dropFirst(same.count)
        }
    }
}
