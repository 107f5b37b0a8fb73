internal import HTTPTypes
internal import NIOCore
internal import Synchronization

/// Bytes on their way from the event loop to one consumer.
///
/// Bounded by the flow-control window: the loop learns through `onTaken` that bytes were taken, asks `takeConsumed()`
/// how many, and only then lets the sender go on.
final class InboundBody: Sendable {
    private enum End {
        case finished(HTTPFields?)
        case failed(any Error)
    }

    private struct State {
        var buffer: ByteBuffer?
        var end: End?
        var consumedBytes = 0
        var waiter: CheckedContinuation<ByteBuffer?, any Error>?
        /// The consumer is gone or its stream is: bytes count as consumed at once.
        var isDiscarding = false
        /// The stream is over: its bytes have been counted as consumed, taken or not.
        var isSettled = false
    }

    private enum Step {
        case value(ByteBuffer?, consumed: Bool)
        case failed(any Error)
        case wait
    }

    private let state: Mutex<State>
    private let onTaken: @Sendable () -> Void

    init(onTaken: @escaping @Sendable () -> Void) {
        self.state = Mutex(State())
        self.onTaken = onTaken
    }

    /// A body that is complete.
    static func complete(_ bytes: ByteBuffer? = nil) -> InboundBody {
        let body = InboundBody(onTaken: {})
        if let bytes, bytes.readableBytes > 0 { body.append(bytes) }
        body.finish(trailers: nil)
        return body
    }

    // MARK: the event loop's side

    /// Adds bytes; false when nobody will take them, so that they count as consumed.
    @discardableResult
    func append(_ bytes: ByteBuffer) -> Bool {
        self.add { buffer in
            if buffer == nil {
                buffer = bytes
            } else {
                buffer?.writeImmutableBuffer(bytes)
            }
        }
    }

    /// Adds a copy of bytes that are only lent.
    func append(copying bytes: UnsafeRawBufferPointer) -> Bool {
        self.add { buffer in
            if buffer == nil {
                buffer = unsafe ByteBuffer(bytes: bytes)
            } else {
                _ = unsafe buffer?.writeBytes(bytes)
            }
        }
    }

    private func add(_ extend: (inout ByteBuffer?) -> Void) -> Bool {
        let (accepted, waiter, taken) = self.state.withLock { state in
            guard !state.isDiscarding, state.end == nil else {
                return (false, nil as CheckedContinuation<ByteBuffer?, any Error>?, nil as ByteBuffer?)
            }
            extend(&state.buffer)
            guard let waiter = state.waiter, let buffer = state.buffer else { return (true, nil, nil) }
            state.waiter = nil
            state.buffer = nil
            state.consumedBytes += buffer.readableBytes
            return (true, waiter, buffer)
        }
        if let waiter {
            waiter.resume(returning: taken)
            self.onTaken()
        }
        return accepted
    }

    func finish(trailers: HTTPFields?) {
        self.end(.finished(trailers))
    }

    func fail(_ error: any Error) {
        self.end(.failed(error))
    }

    private func end(_ end: End) {
        let waiter = self.state.withLock { state in
            guard state.end == nil else { return nil as CheckedContinuation<ByteBuffer?, any Error>? }
            state.end = end
            defer { state.waiter = nil }
            return state.waiter
        }
        switch end {
        case .finished: waiter?.resume(returning: nil)
        case .failed(let error): waiter?.resume(throwing: error)
        }
    }

    /// Bytes taken since the last call.
    func takeConsumed() -> Int {
        self.state.withLock { state in
            defer { state.consumedBytes = 0 }
            return state.consumedBytes
        }
    }

    /// Drops what nobody has taken, and all that is still to come; returns the bytes that now count as consumed.
    func discard() -> Int {
        self.state.withLock { state in
            state.isDiscarding = true
            defer {
                state.buffer = nil
                state.consumedBytes = 0
            }
            return Self.unsettledBytes(state)
        }
    }

    /// Ends the accounting, for a stream that is over; bytes already here can still be taken.
    /// - Returns: Bytes that now count as consumed.
    func settle() -> Int {
        self.state.withLock { state in
            defer {
                state.isSettled = true
                state.consumedBytes = 0
            }
            return Self.unsettledBytes(state)
        }
    }

    private static func unsettledBytes(_ state: State) -> Int {
        state.isSettled ? 0 : state.consumedBytes + (state.buffer?.readableBytes ?? 0)
    }

    // MARK: the consumer's side

    var trailers: HTTPFields? {
        self.state.withLock { state in
            if case .finished(let trailers) = state.end { trailers } else { nil }
        }
    }

    /// True once no byte will come any more.
    var isOver: Bool { self.state.withLock { $0.end != nil } }

    /// All bytes that have arrived, waiting for the first; nil at the end.
    func next() async throws -> ByteBuffer? {
        switch self.state.withLock({ Self.step(&$0) }) {
        case .value(let bytes, let consumed):
            if consumed { self.onTaken() }
            return bytes
        case .failed(let error): throw error
        case .wait: break
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let step = self.state.withLock { state in
                    let step = Self.step(&state)
                    guard case .wait = step else { return step }
                    guard !Task.isCancelled else { return .failed(CancellationError()) }
                    precondition(state.waiter == nil, "a body has one consumer")
                    state.waiter = continuation
                    return step
                }
                switch step {
                case .value(let bytes, let consumed):
                    if consumed { self.onTaken() }
                    continuation.resume(returning: bytes)
                case .failed(let error): continuation.resume(throwing: error)
                case .wait: break
                }
            }
        } onCancel: {
            let waiter = self.state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }

    private static func step(_ state: inout State) -> Step {
        if let buffer = state.buffer {
            state.buffer = nil
            guard !state.isSettled else { return .value(buffer, consumed: false) }
            let isFirst = state.consumedBytes == 0
            state.consumedBytes += buffer.readableBytes
            return .value(buffer, consumed: isFirst)
        }
        switch state.end {
        case .finished: return .value(nil, consumed: false)
        case .failed(let error): return .failed(error)
        case nil: return .wait
        }
    }

    func collect(upTo bytesMax: Int) async throws -> ByteBuffer {
        var all: ByteBuffer?
        while let bytes = try await self.next() {
            guard (all?.readableBytes ?? 0) + bytes.readableBytes <= bytesMax else {
                throw TransportError(.tooLarge, "a body is longer than \(bytesMax) bytes")
            }
            if all == nil { all = bytes } else { all?.writeImmutableBuffer(bytes) }
        }
        return all ?? ByteBuffer()
    }
}
