package import Columnar

/// The batches of a result, in order; single pass, one consumer.
///
/// Dropping the iterator, or cancelling the task that consumes it, stops what produces them.
package struct RecordBatchStream: AsyncSequence, Sendable {
    package typealias Element = ArrowRecordBatch
    package typealias Failure = any Error

    /// Iterates over the batches.
    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var source: any BatchSource

        /// The next batch; nil at the end. After an error the iteration is over.
        package mutating func next() async throws -> ArrowRecordBatch? { try await self.source.next() }
    }

    private let start: @Sendable () -> any BatchSource

    init(start: @escaping @Sendable () -> any BatchSource) { self.start = start }

    /// Hands out the batches of another sequence.
    package init<Source: AsyncSequence & Sendable>(_ sequence: Source) where Source.Element == ArrowRecordBatch {
        self.start = { SequenceSource(iterator: sequence.makeAsyncIterator()) }
    }

    /// Hands out batches that are there already.
    package init(batches: [ArrowRecordBatch]) {
        self.start = { ArraySource(batches: batches[...]) }
    }

    /// Starts the one iteration.
    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(source: self.start()) }

    /// Waits for all batches.
    /// - Throws: What the source throws; then there are no rows at all.
    package func collect() async throws -> [ArrowRecordBatch] {
        var all: [ArrowRecordBatch] = []
        for try await batch in self { all.append(batch) }
        return all
    }
}

/// One running iteration.
protocol BatchSource {
    mutating func next() async throws -> ArrowRecordBatch?
}

private struct SequenceSource<Iterator: AsyncIteratorProtocol>: BatchSource where Iterator.Element == ArrowRecordBatch {
    var iterator: Iterator

    mutating func next() async throws -> ArrowRecordBatch? { try await self.iterator.next(isolation: #isolation) }
}

private struct ArraySource: BatchSource {
    var batches: ArraySlice<ArrowRecordBatch>

    mutating func next() async throws -> ArrowRecordBatch? {
        try Task.checkCancellation()
        return self.batches.popFirst()
    }
}
