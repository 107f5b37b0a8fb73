internal import Columnar
internal import CoreMetrics
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// Answers that are kept for the next one who asks the same of the same records.
///
/// An answer is good as long as each organization in its scope is where it was: its ledger only grows, so the same
/// sequence means the same records. What may vary by itself (`now()`, `random()`, samples) is never kept. Bounded in bytes; the answer that was not
/// asked for longest goes first. Safe to call from any task.
final class QueryCache: Sendable {
    /// The largest share of the cache that one answer may take.
    static let shareMax = 8

    /// What makes two questions the same.
    struct Key: Hashable, Sendable {
        let sql: String
        let parameters: [ArrowValue]
        let organizations: [OrganizationKey]
        let plan: QueryRequest.PlanChoice
        let seesReserved: Bool
    }

    /// One kept answer.
    struct Entry: Sendable {
        let outcome: QueryOutcome
        let batches: [ArrowRecordBatch]
        /// Where each organization of the scope stood.
        let sequences: [OrganizationKey: SequenceNumber]
        let bytes: Int
    }

    private struct State {
        var entries: [Key: (entry: Entry, lastUse: UInt64)] = [:]
        var bytes = 0
        var uses: UInt64 = 0
    }

    private let bytesMax: Int
    private let state = Mutex(State())
    private let hits: Counter?
    private let misses: Counter?

    /// - Parameters:
    ///   - bytesMax: Arrow bytes of all answers; 0 keeps none.
    ///   - registry: Counts hits and misses; nil counts nothing.
    init(bytesMax: Int, registry: PrometheusRegistry? = nil) {
        self.bytesMax = bytesMax
        registry?.describe(
            "ft_query_cache_total",
            "Statements whose answer was looked for among the kept ones, by result."
        )
        func counter(_ result: String) -> Counter? {
            registry.map { Counter(label: "ft_query_cache_total", dimensions: [("result", result)], factory: $0) }
        }
        self.hits = counter("hit")
        self.misses = counter("miss")
    }

    /// The largest answer that is kept.
    var entryBytesMax: Int { self.bytesMax / Self.shareMax }

    /// Whether answers to `request` may be kept at all.
    func keeps(_ request: QueryRequest) -> Bool {
        // Zeros of both signs are equal values, so one key would stand for both.
        self.bytesMax > 0 && request.asOf == nil && !request.parameters.contains(.double(0))
            && !QueryRouter.mayVary(request.sql)
    }

    /// The answer, when every organization is where it was.
    func find(
        _ key: Key,
        at sequences: [OrganizationKey: SequenceNumber],
        within request: QueryRequest
    ) -> QueryOutcome? {
        let found = self.state.withLock { state -> Entry? in
            guard let entry = state.entries[key]?.entry, entry.sequences == sequences,
                entry.bytes <= request.resultBytesMax,
                entry.batches.reduce(0, { $0 + $1.rowCount }) <= request.resultRowsMax
            else { return nil }
            state.uses += 1
            state.entries[key]?.lastUse = state.uses
            return entry
        }
        (found == nil ? self.misses : self.hits)?.increment()
        return found.map { $0.outcome.replacing(batches: RecordBatchStream(batches: $0.batches)) }
    }

    /// Keeps an answer, and lets go of others that have no room beside it.
    func keep(_ entry: Entry, as key: Key) {
        guard entry.bytes <= self.entryBytesMax else { return }
        self.state.withLock { state in
            if let old = state.entries.removeValue(forKey: key) { state.bytes -= old.entry.bytes }
            while state.bytes + entry.bytes > self.bytesMax,
                let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse })
            {
                state.entries[oldest.key] = nil
                state.bytes -= oldest.value.entry.bytes
            }
            state.uses += 1
            state.entries[key] = (entry, state.uses)
            state.bytes += entry.bytes
        }
    }

    /// Arrow bytes of all kept answers, and how many there are.
    var size: (bytes: Int, answers: Int) { self.state.withLock { ($0.bytes, $0.entries.count) } }
}

/// Hands batches on and keeps them; once all were read, they become an entry of the cache.
struct KeptBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    let outcome: QueryOutcome
    let cache: QueryCache
    let key: QueryCache.Key
    let sequences: [OrganizationKey: SequenceNumber]

    struct AsyncIterator: AsyncIteratorProtocol {
        let all: KeptBatches
        var source: RecordBatchStream.AsyncIterator
        /// nil once they are too many to keep.
        var kept: [ArrowRecordBatch]? = []
        var bytes = QueryCache.entryOverheadBytes

        mutating func next() async throws -> ArrowRecordBatch? {
            guard let batch = try await self.source.next() else {
                if let kept = self.kept {
                    let entry = QueryCache.Entry(
                        outcome: self.all.outcome.replacing(batches: RecordBatchStream(batches: [])),
                        batches: kept,
                        sequences: self.all.sequences,
                        bytes: self.bytes
                    )
                    self.all.cache.keep(entry, as: self.all.key)
                }
                self.kept = nil
                return nil
            }
            self.bytes += batch.byteCount
            if self.bytes <= self.all.cache.entryBytesMax { self.kept?.append(batch) } else { self.kept = nil }
            return batch
        }
    }

    func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(all: self, source: self.outcome.batches.makeAsyncIterator())
    }
}

extension QueryCache {
    /// What an answer without rows counts for: names, provenance, bookkeeping.
    static let entryOverheadBytes = 1_024
}
