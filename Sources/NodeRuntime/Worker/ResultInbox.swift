internal import Columnar
internal import QueryRouter
internal import Synchronization

/// The part of a result's Arrow stream that has come from a worker and that its consumer has not taken yet.
///
/// A worker sends no more than ``windowBytes`` beyond what the consumer has taken.
final class ResultInbox: Sendable {
    /// Bytes of a result that may be on their way or wait here.
    static let windowBytes = 4 << 20

    private struct State {
        var chunks: [[UInt8]] = []
        var next = 0
        var bytes = 0
        var waiter: CheckedContinuation<[UInt8]?, any Error>?
        var ending: Result<Void, any Error>?
    }

    private let state = Mutex(State())

    /// Adds a part of the stream.
    /// - Returns: False when there is more than the worker may have sent.
    func put(_ chunk: [UInt8]) -> Bool {
        let (waiter, isWithin) = self.state.withLock { state -> (CheckedContinuation<[UInt8]?, any Error>?, Bool) in
            guard state.ending == nil else { return (nil, true) }
            if let waiter = state.waiter {
                state.waiter = nil
                return (waiter, true)
            }
            state.chunks.append(chunk)
            state.bytes += chunk.count
            return (nil, state.bytes <= Self.windowBytes + WorkerFrame.rowBytesMax)
        }
        waiter?.resume(returning: chunk)
        return isWithin
    }

    /// Ends the stream; only the first ending counts. After a failure nothing of what waits is handed out.
    func finish(_ ending: Result<Void, any Error>) {
        let waiter = self.state.withLock { state -> CheckedContinuation<[UInt8]?, any Error>? in
            guard state.ending == nil else { return nil }
            state.ending = ending
            if case .failure = ending { (state.chunks, state.next, state.bytes) = ([], 0, 0) }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: ending.map { nil })
    }

    /// The next part; nil at the end. One caller at a time; cancelling it ends the stream for good.
    func next() async throws -> [UInt8]? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let answer = self.state.withLock { state -> Result<[UInt8]?, any Error>? in
                    precondition(state.waiter == nil, "one consumer at a time")
                    if state.next < state.chunks.count {
                        let chunk = state.chunks[state.next]
                        state.chunks[state.next] = []
                        state.next += 1
                        state.bytes -= chunk.count
                        if state.next == state.chunks.count { (state.chunks, state.next) = ([], 0) }
                        return .success(chunk)
                    }
                    if let ending = state.ending { return ending.map { nil } }
                    state.waiter = continuation
                    return nil
                }
                if let answer { continuation.resume(with: answer) }
            }
        } onCancel: {
            self.finish(.failure(CancellationError()))
        }
    }
}

/// The batches of a result that a worker produces.
struct WorkerBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    /// Tells the worker when nobody reads any more.
    final class Owner: Sendable {
        let inbox: ResultInbox
        private let link: WorkerLink
        private let request: UInt64

        init(inbox: ResultInbox, link: WorkerLink, request: UInt64) {
            self.inbox = inbox
            self.link = link
            self.request = request
        }

        func took(_ bytes: Int) { self.link.grant(bytes, to: self.request) }

        deinit { self.link.cancel(self.request) }
    }

    private let owner: Owner
    private let decoder: ArrowStreamDecoder

    /// - Parameter decoder: One that has read the schema.
    init(owner: Owner, decoder: ArrowStreamDecoder) {
        self.owner = owner
        self.decoder = decoder
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        fileprivate var decoder: ArrowStreamDecoder
        fileprivate var decoded: ArraySlice<ArrowRecordBatch> = []

        mutating func next() async throws -> ArrowRecordBatch? {
            while true {
                if let batch = self.decoded.popFirst() { return batch }
                guard let chunk = try await self.owner.inbox.next() else {
                    guard self.decoder.hasEnded else {
                        throw QueryError(.unavailable, "a worker's answer was cut short")
                    }
                    return nil
                }
                self.owner.took(chunk.count)
                do {
                    self.decoded = try self.decoder.feed(chunk)[...]
                } catch {
                    throw QueryError(.internal, "a worker's answer cannot be read", cause: error)
                }
            }
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(owner: self.owner, decoder: self.decoder) }
}
