internal import HTTPTypes
internal import NIOCore
internal import Synchronization

/// Bytes on their way from producers on any thread to the event loop, which takes them as the peer's window allows.
///
/// Bounded by `bytesMax`: a writer that goes over it is suspended (`write`) or refused (`tryWrite`). The loop is woken
/// only when it had found nothing to send.
final class OutboundBody: Sendable {
    private enum End {
        case finished(HTTPFields?)
        case failed(any Error)
    }

    private struct Waiter {
        var ticket: Int
        /// What it lets wait.
        var bytesMax: Int
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var chunks: [ByteBuffer] = []
        /// The first chunk that still has bytes.
        var firstChunk = 0
        var waitingBytes = 0
        var end: End?
        /// Why nobody will send any more bytes.
        var closed: (any Error)?
        /// The loop found nothing to send.
        var isStarved = false
        var waiters: [Waiter] = []
        var nextTicket = 0
    }

    /// What the loop found.
    enum ReadResult {
        case bytes(Int)
        /// The last bytes; there may be none.
        case end(Int, trailers: HTTPFields?)
        case starved
        case failed(any Error)
    }

    private let state = Mutex(State())
    private let bytesMax: Int
    private let onReady: @Sendable () -> Void

    init(bytesMax: Int, onReady: @escaping @Sendable () -> Void) {
        self.bytesMax = bytesMax
        self.onReady = onReady
    }

    // MARK: the producers' side

    /// Queues bytes without waiting; false when they do not fit or the stream is over.
    func tryWrite(_ bytes: ByteBuffer) -> Bool {
        let (accepted, wakes) = self.state.withLock { state in
            guard state.closed == nil, state.end == nil,
                state.waitingBytes == 0 || state.waitingBytes + bytes.readableBytes <= self.bytesMax
            else { return (false, false) }
            return (true, Self.enqueue(bytes, &state))
        }
        if wakes { self.onReady() }
        return accepted
    }

    /// Queues bytes; returns once at most `bytesMax` are waiting, or `ahead` when that is more.
    func write(_ parts: [ByteBuffer], ahead: Int = 0) async throws {
        if try !self.queue(parts, ahead: ahead) { try await self.waitForRoom(ahead: ahead) }
    }

    /// Queues bytes without waiting.
    /// - Returns: False when more than `bytesMax`, or `ahead` when that is more, are waiting: the writer has to wait for
    ///   room (``waitForRoom(ahead:)``) before it writes more.
    func queue(_ parts: [ByteBuffer], ahead: Int) throws -> Bool {
        try Task.checkCancellation()
        let bytesMax = max(self.bytesMax, ahead)
        let (hasRoom, wakes) = try self.state.withLock { state in
            if let error = state.closed { throw error }
            precondition(state.end == nil, "a body is written after its end")
            var wakes = false
            for part in parts where Self.enqueue(part, &state) { wakes = true }
            return (state.waitingBytes <= bytesMax, wakes)
        }
        if wakes { self.onReady() }
        return hasRoom
    }

    /// Queues bytes; returns once at most `bytesMax` are waiting.
    func write(_ bytes: ByteBuffer) async throws { try await self.write([bytes]) }

    /// Ends the body.
    func finish(trailers: HTTPFields?) {
        self.end(.finished(trailers))
    }

    /// Ends the body in the middle: the stream will be reset.
    func fail(_ error: any Error) {
        self.end(.failed(error))
    }

    /// Whether it ended in the middle.
    var hasFailed: Bool {
        self.state.withLock { state in
            if case .failed = state.end { true } else { false }
        }
    }

    private func end(_ end: End) {
        let wakes = self.state.withLock { state in
            guard state.end == nil, state.closed == nil else { return false }
            state.end = end
            defer { state.isStarved = false }
            return state.isStarved
        }
        if wakes { self.onReady() }
    }

    private static func enqueue(_ bytes: ByteBuffer, _ state: inout State) -> Bool {
        guard bytes.readableBytes > 0 else { return false }
        state.chunks.append(bytes)
        state.waitingBytes += bytes.readableBytes
        defer { state.isStarved = false }
        return state.isStarved
    }

    /// Returns once at most `bytesMax` bytes are waiting, or `ahead` when that is more.
    func waitForRoom(ahead: Int) async throws {
        let bytesMax = max(self.bytesMax, ahead)
        let ticket = self.state.withLock { state in
            state.nextTicket += 1
            return state.nextTicket
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<Void, any Error>? = self.state.withLock { state in
                    if let error = state.closed { return .failure(error) }
                    if state.waitingBytes <= bytesMax { return .success(()) }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    state.waiters.append(Waiter(ticket: ticket, bytesMax: bytesMax, continuation: continuation))
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let waiter: Waiter? = self.state.withLock { state in
                guard let index = state.waiters.firstIndex(where: { $0.ticket == ticket }) else { return nil }
                return state.waiters.remove(at: index)
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    // MARK: the event loop's side

    /// Bytes that wait to be sent.
    var waitingBytes: Int { self.state.withLock { $0.waitingBytes } }

    /// Says what ``take(_:)`` may take next, at most `bytesMax` bytes; takes nothing.
    func look(upTo bytesMax: Int) -> ReadResult {
        self.state.withLock { state in
            if case .failed(let error) = state.end { return .failed(error) }
            let count = min(bytesMax, state.waitingBytes)
            if count == state.waitingBytes, case .finished(let trailers) = state.end {
                return .end(count, trailers: trailers)
            }
            if count == 0 { state.isStarved = true }
            return count == 0 ? .starved : .bytes(count)
        }
    }

    /// Takes the next `count` bytes, in parts that are not copied.
    /// - Returns: Nil when there are no longer so many, because the stream is over.
    func take(_ count: Int) -> [ByteBuffer]? {
        let (parts, resumed): ([ByteBuffer]?, [Waiter]) = self.state.withLock { state in
            guard count <= state.waitingBytes else { return (nil, []) }
            var parts: [ByteBuffer] = []
            var left = count
            while left > 0 {
                let there = min(left, state.chunks[state.firstChunk].readableBytes)
                if let part = state.chunks[state.firstChunk].readSlice(length: there) { parts.append(part) }
                left -= there
                if state.chunks[state.firstChunk].readableBytes == 0 {
                    state.chunks[state.firstChunk] = ByteBuffer()
                    state.firstChunk += 1
                }
            }
            Self.compact(&state)
            state.waitingBytes -= count
            return (parts, Self.waitersWithRoom(&state))
        }
        for waiter in resumed { waiter.continuation.resume() }
        return parts
    }

    /// Takes the chunks that wait, at most about `bytesMax` bytes.
    func takeChunks(upTo bytesMax: Int) -> (chunks: [ByteBuffer], result: ReadResult) {
        let (chunks, result, resumed): ([ByteBuffer], ReadResult, [Waiter]) = self.state.withLock { state in
            if case .failed(let error) = state.end { return ([], .failed(error), []) }
            var chunks: [ByteBuffer] = []
            var count = 0
            while count < bytesMax, state.firstChunk < state.chunks.count {
                let chunk = state.chunks[state.firstChunk]
                count += chunk.readableBytes
                chunks.append(chunk)
                state.firstChunk += 1
            }
            Self.compact(&state)
            state.waitingBytes -= count
            let resumed = count > 0 ? Self.waitersWithRoom(&state) : []
            if state.waitingBytes == 0, case .finished(let trailers) = state.end {
                return (chunks, .end(count, trailers: trailers), resumed)
            }
            if count == 0 { state.isStarved = true }
            return (chunks, count == 0 ? .starved : .bytes(count), resumed)
        }
        for waiter in resumed { waiter.continuation.resume() }
        return (chunks, result)
    }

    /// Refuses further bytes and drops those that wait.
    func close(_ error: any Error) {
        let waiters: [Waiter] = self.state.withLock { state in
            guard state.closed == nil else { return [] }
            state.closed = error
            state.chunks = []
            state.firstChunk = 0
            state.waitingBytes = 0
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.continuation.resume(throwing: error) }
    }

    /// Removes the waiters that have waited long enough: half of what they let wait is free again.
    private static func waitersWithRoom(_ state: inout State) -> [Waiter] {
        guard !state.waiters.isEmpty else { return [] }
        let waitingBytes = state.waitingBytes
        let resumed = state.waiters.filter { waitingBytes <= $0.bytesMax / 2 }
        if !resumed.isEmpty { state.waiters.removeAll { waitingBytes <= $0.bytesMax / 2 } }
        return resumed
    }

    /// Gives back the chunks already sent, in amortised constant time.
    private static func compact(_ state: inout State) {
        if state.firstChunk == state.chunks.count {
            state.chunks.removeAll(keepingCapacity: true)
            state.firstChunk = 0
        } else if state.firstChunk > state.chunks.count / 2, state.firstChunk > 32 {
            state.chunks.removeFirst(state.firstChunk)
            state.firstChunk = 0
        }
    }
}
