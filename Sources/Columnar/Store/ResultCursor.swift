internal import Dispatch
internal import Synchronization

/// Produces the batches of one running query on the query threads, a bounded number ahead of the consumer.
///
/// A pure queue between jobs (which fetch) and one consumer (which waits). At most one job is queued or running; it
/// is started when there is room, so a slow consumer costs no thread. The transaction and connection end with the
/// last batch, with an error, or when the result is dropped.
final class ResultCursor: Sendable {
    private struct State {
        var ready: [ArrowRecordBatch] = []
        var waiter: CheckedContinuation<ArrowRecordBatch?, any Error>?
        var jobActive = false
        var cancelled = false
        var running: Interrupter.Token?
        /// Both nil once the query has ended, so that a result that is kept does not keep the database open.
        var statement: EngineStatement?
        var connection: EngineConnection?
        var ended = false
        var failure: ColumnarError?
        var rows = 0
        var bytes = 0
    }

    /// Batches that may wait for the consumer.
    private static let aheadMax = 2
    /// A batch with so many rows is not joined with more, however few bytes they have: decoders bound rows too.
    private static let batchRowsTarget = 1 << 20

    private let threads: ColumnarThreads
    private let limits: QueryLimits
    private let deadline: DispatchTime
    private let schema: ArrowSchema
    private let state: Mutex<State>

    init(
        connection: EngineConnection,
        statement: EngineStatement,
        schema: ArrowSchema,
        limits: QueryLimits,
        deadline: DispatchTime,
        threads: ColumnarThreads
    ) {
        self.threads = threads
        self.limits = limits
        self.deadline = deadline
        self.schema = schema
        self.state = Mutex(State(statement: statement, connection: connection))
    }

    /// The next batch; nil at the end. One caller at a time.
    func next() async throws -> ArrowRecordBatch? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                self.wait(continuation)
            }
        } onCancel: {
            self.cancel()
        }
    }

    private func wait(_ continuation: CheckedContinuation<ArrowRecordBatch?, any Error>) {
        enum Answer {
            case batch(ArrowRecordBatch)
            case end
            case failure(ColumnarError)
            case wait
        }
        let (answer, start) = self.state.withLock { state -> (Answer, Bool) in
            precondition(state.waiter == nil, "one consumer at a time")
            let answer: Answer
            if state.cancelled {
                answer = .failure(ColumnarError(.cancelled, "the query was cancelled"))
            } else if !state.ready.isEmpty {
                answer = .batch(state.ready.removeFirst())
            } else if let failure = state.failure {
                answer = .failure(failure)
            } else if state.ended {
                answer = .end
            } else {
                state.waiter = continuation
                answer = .wait
            }
            return (answer, Self.claimJob(&state))
        }
        if start { self.startJob() }
        switch answer {
        case .batch(let batch): continuation.resume(returning: batch)
        case .end: continuation.resume(returning: nil)
        case .failure(let failure): continuation.resume(throwing: failure)
        case .wait: break
        }
    }

    /// Fetches the first batch on the calling thread, which is one for queries, before anyone asks.
    func fetchHere() {
        if self.state.withLock({ Self.claimJob(&$0) }) { self.job() }
    }

    /// Stops the query; the consumer, if it waits, gets `.cancelled`.
    func cancel() {
        let (token, start) = self.state.withLock { state -> (Interrupter.Token?, Bool) in
            guard !state.cancelled else { return (nil, false) }
            state.cancelled = true
            state.ready = []
            return (state.running, Self.claimJob(&state))
        }
        if let token { self.threads.interrupter.cancel(token) }
        // A job that finds the query cancelled only closes it.
        if start { self.startJob() }
    }

    private static func claimJob(_ state: inout State) -> Bool {
        let hasWork = state.cancelled ? state.statement != nil : state.ready.count < aheadMax
        guard !state.ended && state.failure == nil && !state.jobActive && hasWork else { return false }
        state.jobActive = true
        return true
    }

    private func startJob() {
        if let refusal = self.threads.submit(on: .query, { self.job() }) { self.finish(.failure(refusal)) }
    }

    private enum Outcome {
        case batch(ArrowRecordBatch, ended: Bool)
        case failure(ColumnarError)
    }

    private func job() {
        guard let connection = self.state.withLock({ $0.connection }) else { return }
        let token = self.threads.interrupter.begin(connection, deadline: self.deadline)
        let statement = self.state.withLock { state -> EngineStatement? in
            state.running = token
            return state.cancelled ? nil : state.statement
        }
        var outcome = Outcome.failure(ColumnarError(.cancelled, "the query was cancelled"))
        if let statement {
            do { outcome = try self.fetchBatch(statement) } catch let error as ColumnarError {
                outcome = .failure(error)
            } catch {
                outcome = .failure(ColumnarError(.internalFailure, "fetch", cause: error))
            }
        }
        self.state.withLock { $0.running = nil }
        let reason = self.threads.interrupter.end(token)
        if case .failure(let error) = outcome { outcome = .failure(error.explained(by: reason)) }
        self.finish(outcome)
    }

    private func fetchBatch(_ statement: EngineStatement) throws -> Outcome {
        guard DispatchTime.now() < self.deadline else {  // ambient-ok: a time limit is wall time
            throw ColumnarError(.timeLimit, "the query's time limit has passed")
        }
        let columns = self.schema.fields.map { ColumnAssembler(type: $0.type) }
        var rows = 0
        var ended = false
        var (rowsBefore, bytes) = self.state.withLock { ($0.rows, $0.bytes) }
        var batchBytes = 0
        while batchBytes < self.limits.batchBytesTarget && rows < Self.batchRowsTarget {
            let fetched = try statement.fetch(into: columns, schema: self.schema)
            ended = fetched == 0
            if ended { break }
            rows += fetched
            batchBytes = columns.reduce(0) { $0 + $1.byteCount }
            guard rowsBefore + rows <= self.limits.rowsMax else {
                throw ColumnarError(.resultLimit, "the result has more than \(self.limits.rowsMax) rows")
            }
            guard bytes + batchBytes <= self.limits.bytesMax else {
                throw ColumnarError(.resultLimit, "the result has more than \(self.limits.bytesMax) bytes")
            }
        }
        rowsBefore += rows
        bytes += batchBytes
        self.state.withLock { state in
            state.rows = rowsBefore
            state.bytes = bytes
        }
        let batch = ArrowRecordBatch(unchecked: self.schema, rowCount: rows, columns: columns.map { $0.finish() })
        return .batch(batch, ended: ended)
    }

    private func finish(_ outcome: Outcome) {
        typealias Waiter = CheckedContinuation<ArrowRecordBatch?, any Error>
        let (waiter, answer, again, statement) = self.state.withLock {
            state -> (Waiter?, Result<ArrowRecordBatch?, any Error>, Bool, EngineStatement?) in
            state.jobActive = false
            var released: EngineStatement?
            switch outcome {
            case .batch(let batch, let ended):
                if batch.rowCount > 0 && !state.cancelled { state.ready.append(batch) }
                state.ended = ended
            case .failure(let error):
                state.failure = state.cancelled ? ColumnarError(.cancelled, "the query was cancelled") : error
            }
            if state.ended || state.failure != nil {
                released = state.statement
                state.statement = nil
                state.connection = nil
            }
            var answer: Result<ArrowRecordBatch?, any Error>?
            if state.waiter != nil {
                if !state.ready.isEmpty {
                    answer = .success(state.ready.removeFirst())
                } else if let failure = state.failure {
                    answer = .failure(failure)
                } else if state.ended {
                    answer = .success(nil)
                }
            }
            let waiter = answer == nil ? nil : state.waiter
            if answer != nil { state.waiter = nil }
            return (waiter, answer ?? .success(nil), Self.claimJob(&state), released)
        }
        // Frees the result; the snapshot ends with the connection, which nobody holds any more.
        statement?.close()
        waiter?.resume(with: answer)
        if again { self.startJob() }
    }
}

extension ColumnarError {
    /// An interrupted call fails as `.cancelled`; the interrupter knows why.
    func explained(by reason: Interrupter.Reason?) -> ColumnarError {
        switch reason {
        case .timeLimit: ColumnarError(.timeLimit, "the query's time limit has passed", cause: self)
        case .cancelled: ColumnarError(.cancelled, "the query was cancelled", cause: self)
        case nil:
            // The engine's own limit, which stands behind ours.
            self.code == .cancelled ? ColumnarError(.timeLimit, self.message, cause: self) : self
        }
    }
}
