package import HTTPTypes
internal import NIOCore
internal import Synchronization

/// One HTTP/2 connection to a server; many requests share it. Thread safe.
package final class HTTPClientConnection: Sendable {
    private struct State {
        var nextID = 1
        var isOpen = true
        var isClosed = false
        var onClose: [@Sendable () -> Void] = []
    }

    /// `host:port` of the server.
    package let remoteName: String
    /// What the handshake agreed on, with the server's certificate as `peer`.
    package let info: ConnectionInfo
    private let mailbox: Mailbox
    private let executor: EventLoopTaskExecutor
    private let limits: TransportLimits
    private let state = Mutex(State())

    init(remoteName: String, info: ConnectionInfo, mailbox: Mailbox, limits: TransportLimits) {
        self.remoteName = remoteName
        self.info = info
        self.mailbox = mailbox
        self.executor = EventLoopTaskExecutor(eventLoop: mailbox.eventLoop)
        self.limits = limits
    }

    /// False once the connection takes no new requests; those that are open may go on.
    package var isOpen: Bool { self.state.withLock { $0.isOpen } }

    /// Sends a request and waits for the response's head.
    ///
    /// Cancelling the task resets the stream; the server may have acted or not.
    /// - Parameter timeout: For the whole exchange, the response's body included.
    /// - Throws: ``TransportError``; `.overloaded` when too many requests wait for a stream.
    package func execute(
        _ head: HTTPRequest,
        body: RequestBodySource = .none,
        timeout: Duration? = nil
    ) async throws -> ClientResponse {
        let id = self.takeID()
        let content: OutboundContent
        var producer: (OutboundBody, @Sendable (RequestBodyWriter) async throws -> HTTPFields?)?
        switch body {
        case .none: content = .none
        case .bytes(let bytes): content = .bytes(bytes)
        case .stream(let produce):
            let pipe = self.makePipe(id: id)
            content = .pipe(pipe)
            producer = (pipe, produce)
        }
        let exchange = try self.start(id: id, head, content: content, timeout: timeout)
        // Taken before waiting: a cancelled or failed wait lets go of it, which resets the stream.
        let lease = StreamLease(mailbox: self.mailbox, id: id, source: exchange.inbound)
        if let (pipe, produce) = producer {
            let task = Task(executorPreference: self.executor) {  // task-owner: the exchange cancels it when it ends
                do {
                    pipe.finish(trailers: try await produce(RequestBodyWriter(pipe: pipe)))
                } catch {
                    pipe.fail(error)
                }
            }
            exchange.own(producer: task)
        }
        let response = try await exchange.response()
        return ClientResponse(head: response, body: ResponseBody(source: exchange.inbound, lease: lease))
    }

    /// Opens a stream whose body is fed by `tryWrite`.
    /// - Parameter bufferBytesMax: Bytes that may wait to be sent, nil for the limits' `responseBufferBytes`.
    /// - Throws: ``TransportError`` `.connectionClosed`.
    package func openStream(_ head: HTTPRequest, bufferBytesMax: Int? = nil) throws -> OutboundStream {
        let id = self.takeID()
        let pipe = self.makePipe(id: id, bytesMax: bufferBytesMax)
        let exchange = try self.start(id: id, head, content: .pipe(pipe), timeout: nil)
        return OutboundStream(exchange: exchange, pipe: pipe, mailbox: self.mailbox)
    }

    /// Closes at once; open requests fail.
    package func close() {
        self.stopAccepting()
        self.mailbox.post(.close)
    }

    /// Takes no new requests and closes after the open ones.
    package func shutDown() {
        self.stopAccepting()
        self.mailbox.post(.shutDown)
    }

    /// Calls `body` once the connection is closed, on its event loop; at once if it is.
    package func onClose(_ body: @escaping @Sendable () -> Void) {
        let isClosed = self.state.withLock { state in
            if !state.isClosed { state.onClose.append(body) }
            return state.isClosed
        }
        if isClosed { body() }
    }

    private func takeID() -> Int {
        self.state.withLock { state in
            defer { state.nextID += 1 }
            return state.nextID
        }
    }

    private func makePipe(id: Int, bytesMax: Int? = nil) -> OutboundBody {
        let mailbox = self.mailbox
        let bytesMax = bytesMax ?? self.limits.responseBufferBytes
        return OutboundBody(bytesMax: bytesMax) { mailbox.post(.outboundReady(id: id)) }
    }

    private func start(
        id: Int,
        _ head: HTTPRequest,
        content: OutboundContent,
        timeout: Duration?
    ) throws(TransportError) -> ClientExchange {
        let mailbox = self.mailbox
        let inbound = InboundBody { mailbox.post(.inboundConsumed(id: id)) }
        let exchange = ClientExchange(id: id, request: head, content: content, inbound: inbound, deadline: timeout)
        guard self.isOpen, mailbox.post(.start(exchange)) else {
            let message = "the connection to \(self.remoteName) is closed"
            throw TransportError(.connectionClosed, message, wasNotSent: true)
        }
        return exchange
    }

    /// The server said that it takes no new requests.
    func stopAccepting() {
        self.state.withLock { $0.isOpen = false }
    }

    /// The connection is closed.
    func didClose() {
        let callbacks = self.state.withLock { state in
            state.isOpen = false
            state.isClosed = true
            defer { state.onClose = [] }
            return state.onClose
        }
        for callback in callbacks { callback() }
    }
}
