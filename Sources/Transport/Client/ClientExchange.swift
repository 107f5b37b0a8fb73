package import HTTPTypes
package import NIOCore
internal import Synchronization

/// One request of a client and its response. Shared by the caller, the connection's event loop and a body's producer.
final class ClientExchange: Sendable {
    private struct State {
        var head: Result<HTTPResponse, any Error>?
        var waiter: CheckedContinuation<HTTPResponse, any Error>?
        var producer: Task<Void, Never>?
        var isOver = false
    }

    let id: Int
    let request: HTTPRequest
    let content: OutboundContent
    let inbound: InboundBody
    /// Set and read on the event loop only.
    let deadline: Duration?
    private let state = Mutex(State())

    init(id: Int, request: HTTPRequest, content: OutboundContent, inbound: InboundBody, deadline: Duration?) {
        self.id = id
        self.request = request
        self.content = content
        self.inbound = inbound
        self.deadline = deadline
    }

    /// True once the stream is over.
    var isOver: Bool { self.state.withLock { $0.isOver } }

    /// Hands over the response's head.
    func receive(_ head: HTTPResponse) {
        let waiter = self.state.withLock { state in
            guard state.head == nil else { return nil as CheckedContinuation<HTTPResponse, any Error>? }
            state.head = .success(head)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: head)
    }

    /// Ends everything that belongs to the exchange; what has already succeeded stays so.
    func end(_ error: any Error) {
        let (waiter, producer) = self.state.withLock { state in
            state.isOver = true
            defer {
                state.waiter = nil
                state.producer = nil
            }
            if state.head == nil { state.head = .failure(error) }
            return (state.waiter, state.producer)
        }
        waiter?.resume(throwing: error)
        self.inbound.fail(error)
        if case .pipe(let pipe) = self.content { pipe.close(error) }
        producer?.cancel()
    }

    /// Keeps the task that writes the body, to cancel it at the end.
    func own(producer: Task<Void, Never>) {
        let isOver = self.state.withLock { state in
            if !state.isOver { state.producer = producer }
            return state.isOver
        }
        if isOver { producer.cancel() }
    }

    /// Waits for the response's head; one caller.
    func response() async throws -> HTTPResponse {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<HTTPResponse, any Error>? = self.state.withLock { state in
                    if let head = state.head { return head }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    precondition(state.waiter == nil, "a response has one waiter")
                    state.waiter = continuation
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let waiter = self.state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }
}

/// The answer to a client's request.
package struct ClientResponse: Sendable {
    /// Status and header fields.
    package let head: HTTPResponse
    /// The body as it arrives.
    package let body: ResponseBody

    /// The whole body.
    /// - Throws: ``TransportError`` `.tooLarge` when it is longer than `bytesMax`.
    package func collect(upTo bytesMax: Int) async throws -> ByteBuffer { try await self.body.collect(upTo: bytesMax) }

    /// The fields after the body; nil before its end, or when there are none.
    package var trailers: HTTPFields? { self.body.trailers }
}

/// A long-lived request whose body is fed from any thread.
package final class OutboundStream: Sendable {
    private let exchange: ClientExchange
    private let pipe: OutboundBody
    private let mailbox: Mailbox

    init(exchange: ClientExchange, pipe: OutboundBody, mailbox: Mailbox) {
        self.exchange = exchange
        self.pipe = pipe
        self.mailbox = mailbox
    }

    deinit {
        guard !self.exchange.isOver, !self.exchange.inbound.isOver else { return }
        self.mailbox.post(.cancel(id: self.exchange.id, TransportError(.streamReset, "the stream was let go of")))
    }

    /// Queues bytes without waiting; false when the stream's bound would be exceeded, or it is over.
    ///
    /// From any thread. Costs a lock, and a wake-up of the event loop only when it had nothing to send.
    package func tryWrite(_ bytes: ByteBuffer) -> Bool { self.pipe.tryWrite(bytes) }

    /// Ends the body.
    package func finish(trailers: HTTPFields? = nil) { self.pipe.finish(trailers: trailers) }

    /// Resets the stream.
    package func cancel() {
        self.mailbox.post(.cancel(id: self.exchange.id, TransportError(.streamReset, "the stream was cancelled here")))
    }

    /// False once the stream is over.
    package var isOpen: Bool { !self.exchange.isOver }

    /// Bytes queued that have not been handed to the connection.
    package var waitingBytes: Int { self.pipe.waitingBytes }

    /// Waits for the response's head; call it once.
    /// - Throws: ``TransportError`` when the stream or the connection ended before it.
    package func response() async throws -> ClientResponse {
        let head = try await self.exchange.response()
        let lease = StreamLease(mailbox: self.mailbox, id: self.exchange.id, source: self.exchange.inbound)
        return ClientResponse(head: head, body: ResponseBody(source: self.exchange.inbound, lease: lease))
    }
}
