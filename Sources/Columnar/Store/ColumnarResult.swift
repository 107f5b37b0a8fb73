/// A running query: its columns, the position that it reflects, and its rows.
///
/// Dropping the result, or cancelling the task that consumes it, stops the query.
package struct ColumnarResult: Sendable {
    /// Names and types of the columns.
    package let schema: ArrowSchema
    /// The store's position in the same snapshot as the rows.
    package let position: UInt64
    /// The rows; can be iterated once.
    package let batches: ColumnarBatches

    /// Stops the query.
    package func cancel() { self.batches.owner.cursor.cancel() }

    /// Waits for all rows.
    /// - Throws: ``ColumnarError``, as the batches.
    package func collect() async throws -> [ArrowRecordBatch] {
        var all: [ArrowRecordBatch] = []
        for try await batch in self.batches { all.append(batch) }
        return all
    }
}

/// The batches of a result, in order; none is empty. Single pass, one consumer.
package struct ColumnarBatches: AsyncSequence, Sendable {
    package typealias Element = ArrowRecordBatch

    /// Stops the query when the last copy of the result and of its iterator is gone.
    final class Owner: Sendable {
        let cursor: ResultCursor
        init(cursor: ResultCursor) { self.cursor = cursor }
        deinit { self.cursor.cancel() }
    }

    let owner: Owner

    /// Iterates over the batches.
    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner

        /// The next batch; nil at the end.
        /// - Throws: ``ColumnarError``: `.timeLimit`, `.memoryLimit`, `.resultLimit`, `.cancelled`, `.execution`.
        package mutating func next() async throws -> ArrowRecordBatch? { try await self.owner.cursor.next() }
    }

    /// Starts the one iteration.
    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(owner: self.owner) }
}
