internal import Columnar
internal import CoreMetrics
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// Answers that are kept for the next one who asks the same of the same records.
///
/// An answer is good as long as each organization in its scope is where it was: its ledger only grows, so the same
/// sequence means the same records. What may vary by itself (`now()`, `random()`, samples) is never kept. Bounded in
/// bytes, those of answers that are still being read included; the answer that was not asked for longest goes first.
/// The rows stay in the memory in which they came from a worker, and are sent from there. Safe to call from any task.
final class QueryCache: Sendable {
    /// One answer may take the cache's bytes divided by this.
    static let shareMax = 2

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
        /// Memory that it takes, until nobody has it any more.
        let memory: KeptMemory
    }

    private struct State {
        var entries: [Key: (entry: Entry, lastUse: UInt64)] = [:]
        var uses: UInt64 = 0
    }

    private let bytesMax: Int
    /// Bytes of all answers: kept, growing, or no longer kept and still being read.
    private let bytes = KeptMemory.Total()
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
                entry.memory.rowBytes <= request.resultBytesMax,
                entry.batches.reduce(0, { $0 + $1.rowCount }) <= request.resultRowsMax
            else { return nil }
            state.uses += 1
            state.entries[key]?.lastUse = state.uses
            return entry
        }
        (found == nil ? self.misses : self.hits)?.increment()
        return found.map { $0.outcome.replacing(batches: RecordBatchStream(LentBatches(entry: $0))) }
    }

    /// Memory for an answer that begins to grow; nil when there is none.
    func beginAnswer() -> KeptMemory? {
        let memory = KeptMemory(of: self.bytes)
        return self.grow(memory, by: Self.entryOverheadBytes, rows: 0) ? memory : nil
    }

    /// Counts memory as an answer's, and lets go of others that have no room beside it.
    /// - Returns: False when the answer is too large to be kept.
    func grow(_ memory: KeptMemory, by count: Int, rows rowBytes: Int) -> Bool {
        guard memory.bytes + count <= self.entryBytesMax else { return false }
        return self.state.withLock { state in
            while self.bytes.value + count > self.bytesMax,
                let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse })
            {
                state.entries[oldest.key] = nil
            }
            // What is still being read is not free yet.
            guard self.bytes.value + count <= self.bytesMax else { return false }
            memory.add(count, rows: rowBytes)
            return true
        }
    }

    /// Keeps an answer, whose memory has been counted while it grew.
    func keep(_ entry: Entry, as key: Key) {
        self.state.withLock { state in
            state.uses += 1
            state.entries[key] = (entry, state.uses)
        }
    }

    /// Bytes of all answers, and how many are kept.
    var size: (bytes: Int, answers: Int) { (self.bytes.value, self.state.withLock { $0.entries.count }) }
}

/// The memory of one answer, counted until the last who has the answer lets go of it.
final class KeptMemory: Sendable {
    /// That of all answers.
    final class Total: Sendable {
        private let bytes = Atomic<Int>(0)

        var value: Int { self.bytes.load(ordering: .relaxed) }

        fileprivate func add(_ count: Int) { self.bytes.add(count, ordering: .relaxed) }
    }

    private let total: Total
    private let own = Atomic<Int>(0)
    private let rows = Atomic<Int>(0)

    fileprivate init(of total: Total) { self.total = total }

    deinit { self.total.add(-self.bytes) }

    /// What it takes.
    var bytes: Int { self.own.load(ordering: .relaxed) }

    /// Arrow bytes of its rows.
    var rowBytes: Int { self.rows.load(ordering: .relaxed) }

    fileprivate func add(_ count: Int, rows rowBytes: Int) {
        self.own.add(count, ordering: .relaxed)
        self.rows.add(rowBytes, ordering: .relaxed)
        self.total.add(count)
    }
}

/// The batches of a kept answer; it counts as memory until they are read, whether it is still kept or not.
private struct LentBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    let entry: QueryCache.Entry

    struct AsyncIterator: AsyncIteratorProtocol {
        let entry: QueryCache.Entry
        var next = 0

        mutating func next() async throws -> ArrowRecordBatch? {
            try Task.checkCancellation()
            guard self.next < self.entry.batches.count else { return nil }
            self.next += 1
            return self.entry.batches[self.next - 1]
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(entry: self.entry) }
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
        var memory: KeptMemory?
        var kept: [ArrowRecordBatch] = []

        mutating func next() async throws -> ArrowRecordBatch? {
            guard let batch = try await self.source.next() else {
                if let memory = self.memory {
                    let entry = QueryCache.Entry(
                        outcome: self.all.outcome.replacing(batches: RecordBatchStream(batches: [])),
                        batches: self.kept,
                        sequences: self.all.sequences,
                        memory: memory
                    )
                    self.all.cache.keep(entry, as: self.all.key)
                }
                (self.memory, self.kept) = (nil, [])
                return nil
            }
            self.keep(batch)
            return batch
        }

        private mutating func keep(_ batch: ArrowRecordBatch) {
            guard let memory = self.memory else { return }
            // A frame from a worker has the room of the next power of two.
            let held = batch.heldBytes { ($0 as? ByteBuffer)?.storageCapacity }
            if self.all.cache.grow(memory, by: held, rows: batch.byteCount) {
                self.kept.append(batch)
            } else {
                (self.memory, self.kept) = (nil, [])
            }
        }
    }

    func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(all: self, source: self.outcome.batches.makeAsyncIterator(), memory: self.cache.beginAnswer())
    }
}

extension QueryCache {
    /// What an answer without rows counts for: names, provenance, bookkeeping.
    static let entryOverheadBytes = 1_024
}
