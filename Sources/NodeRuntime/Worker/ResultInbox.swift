internal import Columnar
internal import NIOCore
internal import QueryRouter
internal import Synchronization

/// The part of a result's Arrow stream that has come from a worker and that its consumer has not taken yet.
///
/// A worker sends no more than ``windowBytes`` beyond what the consumer has taken.
final class ResultInbox: Sendable {
    /// Bytes of a result that may be on their way or wait here.
    static let windowBytes = 4 << 20

    /// A part of the stream.
    enum Part: Sendable {
        /// Bytes, wherever they are cut.
        case bytes([UInt8])
        /// A frame with a whole message.
        case batch(ByteBuffer)

        var byteCount: Int {
            switch self {
            case .bytes(let bytes): bytes.count
            case .batch(let frame): frame.readableBytes
            }
        }
    }

    private typealias Waiter = CheckedContinuation<Part?, any Error>

    private struct State {
        var parts: [Part?] = []
        var next = 0
        var bytes = 0
        var waiter: Waiter?
        var ending: Result<Void, any Error>?
    }

    private let state = Mutex(State())

    /// Adds a part of the stream.
    /// - Returns: False when there is more than the worker may have sent.
    func put(_ part: Part) -> Bool {
        let (waiter, isWithin) = self.state.withLock { state -> (Waiter?, Bool) in
            guard state.ending == nil else { return (nil, true) }
            if let waiter = state.waiter {
                state.waiter = nil
                return (waiter, true)
            }
            state.parts.append(part)
            state.bytes += part.byteCount
            return (nil, state.bytes <= Self.windowBytes + max(WorkerFrame.rowBytesMax, WorkerFrame.batchBytesMax))
        }
        waiter?.resume(returning: part)
        return isWithin
    }

    /// Ends the stream; only the first ending counts. After a failure nothing of what waits is handed out.
    func finish(_ ending: Result<Void, any Error>) {
        let waiter = self.state.withLock { state -> Waiter? in
            guard state.ending == nil else { return nil }
            state.ending = ending
            if case .failure = ending { (state.parts, state.next, state.bytes) = ([], 0, 0) }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: ending.map { nil })
    }

    /// The next part; nil at the end. One caller at a time; cancelling it ends the stream for good.
    func next() async throws -> Part? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let answer = self.state.withLock { state -> Result<Part?, any Error>? in
                    precondition(state.waiter == nil, "one consumer at a time")
                    if state.next < state.parts.count {
                        let part = state.parts[state.next]
                        state.parts[state.next] = nil
                        state.next += 1
                        state.bytes -= part?.byteCount ?? 0
                        if state.next == state.parts.count { (state.parts, state.next) = ([], 0) }
                        return .success(part)
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
                guard let part = try await self.owner.inbox.next() else {
                    guard self.decoder.hasEnded else {
                        throw QueryError(.unavailable, "a worker's answer was cut short")
                    }
                    return nil
                }
                self.owner.took(part.byteCount)
                do {
                    switch part {
                    case .bytes(let bytes): self.decoded = try self.decoder.feed(bytes)[...]
                    case .batch(let frame):
                        let message = try WorkerBatch(frame)
                        if let batch = try self.decoder.feed(metadata: message.metadata, body: message.body) {
                            return batch
                        }
                    }
                } catch {
                    throw QueryError(.internal, "a worker's answer cannot be read", cause: error)
                }
            }
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(owner: self.owner, decoder: self.decoder) }
}
