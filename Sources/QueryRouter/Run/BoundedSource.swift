internal import Columnar
internal import Primitives

/// Hands on batches within the request's limits, and frees the query's scratch store after the last one or an error.
struct BoundedSource: BatchSource {
    var iterator: RecordBatchStream.AsyncIterator?
    let deadline: QueryDeadline
    let scratch: (any QueryScratch)?
    /// Whose shard produces the batches, when it is one.
    let organization: OrganizationKey?
    var bytesLeft: Int
    var rowsLeft: Int

    mutating func next() async throws -> ArrowRecordBatch? {
        guard var iterator = self.iterator else { return nil }
        do {
            _ = try self.deadline.remaining()
            let batch = try await iterator.next()
            self.iterator = iterator
            if let batch {
                self.bytesLeft -= batch.byteCount
                self.rowsLeft -= batch.rowCount
                guard self.bytesLeft >= 0, self.rowsLeft >= 0 else {
                    throw QueryError(.tooLarge, "the result is larger than the request's limit")
                }
                return batch
            }
        } catch {
            self.iterator = nil
            await self.scratch?.close()
            let wrapped = QueryError.wrapping(error, doing: "reading the result")
            throw self.organization.map(wrapped.naming) ?? wrapped
        }
        self.iterator = nil
        await self.scratch?.close()
        return nil
    }
}

/// Counts the batches of one shard's answer.
struct LoggedSource: BatchSource {
    var iterator: RecordBatchStream.AsyncIterator
    let log: ShardLog
    let number: Int
    /// Time since the shard was asked.
    let elapsed: @Sendable () -> Duration

    mutating func next() async throws -> ArrowRecordBatch? {
        let batch = try await self.iterator.next()
        let elapsed = self.elapsed()
        self.log.update(self.number) { entry in
            entry.rows += batch?.rowCount ?? 0
            entry.bytes += batch?.byteCount ?? 0
            entry.duration = elapsed
        }
        return batch
    }
}
