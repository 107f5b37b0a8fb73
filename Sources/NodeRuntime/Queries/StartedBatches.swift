internal import Columnar
internal import QueryRouter

/// The batches of a result whose first one has been waited for; whoever waited hands them to one reader.
final class StartedBatches: AsyncSequence, @unchecked Sendable {  // sendable-ok: handed over once, used by one
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    private var first: ArrowRecordBatch?
    private var iterator: RecordBatchStream.AsyncIterator

    /// Returns when the first batch is there, or the end.
    /// - Throws: What the result throws before.
    init(_ batches: RecordBatchStream) async throws {
        var iterator = batches.makeAsyncIterator()
        self.first = try await iterator.next()
        self.iterator = iterator
    }

    /// The next batch; nil at the end.
    func next() async throws -> ArrowRecordBatch? {
        if let first = self.first {
            self.first = nil
            return first
        }
        return try await self.iterator.next()
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        let batches: StartedBatches

        func next() async throws -> ArrowRecordBatch? { try await self.batches.next() }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(batches: self) }
}

extension ShardResult {
    /// The same result once its first rows are there: what fails before them fails here.
    func started() async throws -> ShardResult {
        let batches: StartedBatches
        do {
            batches = try await StartedBatches(self.batches)
        } catch let gone as WorkerGone {
            throw QueryError.workerGone(gone)
        }
        return ShardResult(
            schema: self.schema,
            provenance: self.provenance,
            batches: RecordBatchStream(batches)
        )
    }
}
