internal import CNGHTTP2
internal import HTTPTypes
internal import NIOCore

/// The client's end of an HTTP/2 connection: turns exchanges into streams.
///
/// Confined to the connection's event loop.
final class HTTP2ClientHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let session: HTTP2Session
    private let limits: TransportLimits
    private let remoteName: String
    /// Completed with the server's SETTINGS: only then does TLS 1.3 tell that it accepts the client's certificate.
    private var ready: EventLoopPromise<HTTPClientConnection>?
    private var connection: HTTPClientConnection?
    private var mailbox: Mailbox?
    private var context: ChannelHandlerContext?
    private let writer = FrameWriter()
    private var streams: [Int: HTTP2Stream] = [:]
    /// Exchanges that wait for a free stream, at most `queuedRequestsMax`.
    private var queue = CircularBuffer<ClientExchange>()
    private var deadlines: [Int: Scheduled<Void>] = [:]
    private var failure: (any Error)?
    private var isShuttingDown = false
    private var keepAlive: RepeatedTask?
    private var lastReadAt: NIODeadline
    private var pingSentAt: NIODeadline?

    init(
        callbacks: HTTP2Callbacks,
        options: HTTP2Options,
        limits: TransportLimits,
        remoteName: String,
        ready: EventLoopPromise<HTTPClientConnection>,
        now: NIODeadline
    ) throws(TransportError) {
        self.session = try HTTP2Session(
            role: .client,
            callbacks: callbacks,
            options: options,
            limits: limits,
            now: now
        )
        self.limits = limits
        self.remoteName = remoteName
        self.ready = ready
        self.lastReadAt = now
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        self.context = context
        self.mailbox = Mailbox(eventLoop: context.eventLoop) { bound.value.deliverMailbox() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.closeDown()
        self.context = nil
        self.mailbox = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.closeDown()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let handshake = event as? TLSHandshakeCompleted else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        do {
            guard handshake.applicationProtocol == "h2", let mailbox = self.mailbox else {
                throw TransportError(.protocolViolation, "\(self.remoteName) does not speak HTTP/2")
            }
            self.connection = HTTPClientConnection(
                remoteName: self.remoteName,
                info: ConnectionInfo(
                    remoteAddress: context.remoteAddress.map(addressText),
                    peer: handshake.peer,
                    applicationProtocol: "h2",
                    tlsVersion: handshake.version
                ),
                mailbox: mailbox,
                limits: self.limits
            )
            try self.session.start()
            self.sendFrames()
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.lastReadAt = context.eventLoop.now
        self.pingSentAt = nil
        do {
            try self.session.receive(self.unwrapInboundIn(data), now: self.lastReadAt)
            self.processEvents()
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.deliverMailbox()
        context.fireChannelReadComplete()
    }

    /// Resumes what `sendFrames` left waiting when the socket was full.
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.sendFrames()
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if self.failure == nil {
            let wrapped = error as? TransportError
            self.failure =
                wrapped ?? TransportError(.connectionClosed, "the connection to \(self.remoteName) broke", cause: error)
        }
        context.close(promise: nil)
    }

    // MARK: events

    private func processEvents() {
        for event in self.session.takeEvents() {
            switch event {
            case .head(let stream):
                guard !stream.isHeadTooLarge else {
                    self.end(stream, TransportError(.tooLarge, "a response head of \(self.remoteName) is too long"))
                    self.session.reset(stream, code: NGHTTP2_CANCEL.rawValue)
                    continue
                }
                stream.exchange?.receive(stream.makeResponse())
                if stream.hasInboundEnded { stream.exchange?.inbound.finish(trailers: stream.trailers) }
            case .end(let stream): stream.exchange?.inbound.finish(trailers: stream.trailers)
            case .tooLarge: break  // Only a server collects.
            case .closed(let stream, let code): self.streamClosed(stream, code: code)
            case .settings: self.becomeReady()
            case .pong: break
            case .goingAway: self.beginDraining()
            }
        }
    }

    private func becomeReady() {
        if let connection = self.connection, let ready = self.ready {
            self.ready = nil
            ready.succeed(connection)
            self.startKeepAlive()
        }
        self.startQueued()  // The number of streams may have changed.
    }

    private func streamClosed(_ stream: HTTP2Stream, code: UInt32) {
        let text = unsafe String(cString: nghttp2_http2_strerror(code))
        let error =
            code == NGHTTP2_REFUSED_STREAM.rawValue
            ? TransportError(.overloaded, "\(self.remoteName) refused the request")
            : TransportError(.streamReset, "\(self.remoteName) ended the request: \(text)")
        self.end(stream, error)
        self.startQueued()
    }

    private func end(_ stream: HTTP2Stream, _ error: any Error) {
        guard let exchange = stream.exchange else { return }
        stream.exchange = nil
        self.streams[exchange.id] = nil
        self.deadlines.removeValue(forKey: exchange.id)?.cancel()
        exchange.end(error)
        if !stream.isClosed { self.session.beginDiscarding(stream) }
    }

    private func beginDraining() {
        self.connection?.stopAccepting()
        self.isShuttingDown = true
        let waiting = self.queue
        self.queue.removeAll()
        for exchange in waiting {
            self.finish(
                exchange,
                TransportError(.connectionClosed, "\(self.remoteName) is shutting down", wasNotSent: true)
            )
        }
        self.closeIfDrained()
    }

    private func closeIfDrained() {
        guard self.isShuttingDown, self.streams.isEmpty, self.queue.isEmpty, let context = self.context else { return }
        self.session.terminate(code: NGHTTP2_NO_ERROR.rawValue)
        self.sendFrames()
        context.close(promise: nil)
    }

    // MARK: the mailbox

    private func deliverMailbox() {
        guard let mailbox = self.mailbox else { return }
        for message in mailbox.takeAll() {
            switch message {
            case .start(let exchange): self.start(exchange)
            case .inboundConsumed(let id):
                guard let stream = self.streams[id], let exchange = stream.exchange else { continue }
                self.session.consume(exchange.inbound.takeConsumed(), on: stream)
            case .outboundReady(let id):
                if let stream = self.streams[id] { self.session.resume(stream) }
            case .cancel(let id, let error): self.cancel(id: id, error)
            case .shutDown:
                self.isShuttingDown = true
                self.closeIfDrained()
            case .close: self.context?.close(promise: nil)
            case .response, .handlerEnded: break  // A server's.
            }
        }
        self.sendFrames()
    }

    private func start(_ exchange: ClientExchange) {
        guard self.context != nil, self.failure == nil else {
            let message = "the connection to \(self.remoteName) is closed"
            exchange.end(TransportError(.connectionClosed, message, wasNotSent: true))
            return
        }
        if let timeout = exchange.deadline, let context = self.context {
            let id = exchange.id
            self.deadlines[id] = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(timeout)) {
                self.cancel(id: id, TransportError(.timeout, "\(self.remoteName) did not answer in \(timeout)"))
                self.sendFrames()
            }
        }
        if self.streams.count < self.streamsMax {
            self.open(exchange)
        } else if self.queue.count < self.limits.queuedRequestsMax {
            self.queue.append(exchange)
        } else {
            self.finish(exchange, TransportError(.overloaded, "too many requests wait for \(self.remoteName)"))
        }
    }

    private var streamsMax: Int { min(self.session.remoteStreamsMax, self.limits.concurrentStreamsMax) }

    private func open(_ exchange: ClientExchange) {
        do {
            let stream = try self.session.submitRequest(
                exchange.request,
                content: exchange.content,
                inbound: exchange.inbound
            )
            stream.exchange = exchange
            self.streams[exchange.id] = stream
        } catch {
            self.finish(exchange, error)
        }
    }

    private func startQueued() {
        while self.streams.count < self.streamsMax, let exchange = self.queue.popFirst() { self.open(exchange) }
        self.closeIfDrained()
    }

    /// Ends an exchange that has no stream.
    private func finish(_ exchange: ClientExchange, _ error: any Error) {
        self.deadlines.removeValue(forKey: exchange.id)?.cancel()
        exchange.end(error)
    }

    private func cancel(id: Int, _ error: TransportError) {
        if let stream = self.streams[id] {
            self.session.reset(stream, code: NGHTTP2_CANCEL.rawValue)
            self.end(stream, error)
            self.startQueued()
        } else if let index = self.queue.firstIndex(where: { $0.id == id }) {
            self.finish(self.queue.remove(at: index), error)
        }
    }

    // MARK: keep-alive

    private func startKeepAlive() {
        guard let interval = self.limits.keepAliveInterval, let context = self.context else { return }
        let step = TimeAmount(min(interval, self.limits.keepAliveTimeout) / 2)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        self.keepAlive = context.eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            bound.value.checkKeepAlive(interval: TimeAmount(interval))
        }
    }

    private func checkKeepAlive(interval: TimeAmount) {
        guard let context = self.context else { return }
        let now = context.eventLoop.now
        if let sentAt = self.pingSentAt {
            guard now - sentAt >= TimeAmount(self.limits.keepAliveTimeout) else { return }
            let error = TransportError(.connectionClosed, "\(self.remoteName) does not answer any more")
            self.errorCaught(context: context, error: error)
        } else if now - self.lastReadAt >= interval {
            self.pingSentAt = now
            do {
                try self.session.submitPing()
                self.sendFrames()
            } catch {
                self.errorCaught(context: context, error: error)
            }
        }
    }

    // MARK: sending and the end

    private func sendFrames() {
        guard let context = self.context else { return }
        do {
            try self.writer.sendFrames(of: self.session, context: context)
            // Sending can close streams too.
            self.processEvents()
            if self.session.isFinished { self.writer.closeOnceWritten(context, limit: self.limits.idleTimeout) }
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    private func closeDown() {
        let error =
            self.failure
            ?? TransportError(.connectionClosed, "\(self.remoteName) closed the connection")
        self.failure = error
        self.keepAlive?.cancel()
        self.keepAlive = nil
        self.ready?.fail(error)
        self.ready = nil
        self.connection?.stopAccepting()
        let unread = self.mailbox?.close() ?? []
        let notSent = TransportError(.connectionClosed, "\(self.remoteName) is gone", cause: error, wasNotSent: true)
        for case .start(let exchange) in unread { exchange.end(notSent) }
        let waiting = self.queue
        self.queue.removeAll()
        for exchange in waiting { self.finish(exchange, notSent) }
        for stream in self.session.removeAllStreams() {
            stream.exchange?.end(error)
            stream.exchange = nil
        }
        self.streams = [:]
        for deadline in self.deadlines.values { deadline.cancel() }
        self.deadlines = [:]
        self.connection?.didClose()
        self.connection = nil  // It holds the mailbox, which holds this handler.
    }
}

/// An address as `host:port`.
func addressText(_ address: SocketAddress) -> String {
    guard let ip = address.ipAddress, let port = address.port else { return address.description }
    return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
}
