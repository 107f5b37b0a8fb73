internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1

/// Adds what an HTTP/1.1 connection needs behind TLS.
func addHTTP1Handlers(
    to channel: any Channel,
    limits: TransportLimits,
    router: any RequestRouter,
    info: ConnectionInfo
) throws {
    var decoding = NIOHTTPDecoderLimitConfiguration()
    decoding.maxHeaderFieldSize = limits.headerBytesMax
    decoding.maxHeaderListSize = limits.headerBytesMax
    var encoding = HTTPResponseEncoder.Configuration()
    encoding.automaticallySetFramingHeaders = false  // The handler knows about HEAD; the encoder does not.
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(HTTPResponseEncoder(configuration: encoding))
    try pipeline.addHandler(ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: decoding)))
    try pipeline.addHandler(
        HTTP1ServerHandler(limits: limits, router: router, info: info, now: channel.eventLoop.now)
    )
}

/// Serves one HTTP/1.1 connection: one request at a time, further ones wait unread.
///
/// Confined to the connection's event loop.
final class HTTP1ServerHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = Never
    typealias OutboundOut = HTTPServerResponsePart

    /// The request that is being answered.
    private final class Exchange {
        enum Inbound {
            case collecting(ByteBuffer, bytesMax: Int)
            case streaming(InboundBody)
            case discarding(Int)
        }

        let id: Int
        let version: HTTPVersion
        var isKeepAlive: Bool
        let isHeadRequest: Bool
        var inbound = Inbound.discarding(0)
        /// Bytes of a streamed body that nobody has taken.
        var heldBytes = 0
        var hasInboundEnded = false
        var collector: HTTP2Stream.Collector?
        var task: Task<Void, Never>?
        var pipe: OutboundBody?
        var isResponseBegun = false
        var isResponseDone = false

        init(id: Int, head: HTTPRequestHead) {
            self.id = id
            self.version = head.version
            self.isKeepAlive = head.isKeepAlive
            self.isHeadRequest = head.method == .HEAD
        }
    }

    /// Bytes of a refused body that are read before the connection is closed, so that the client reads the answer.
    private static let drainBytesMax = 16 * 1024 * 1024
    /// Bytes taken from a streamed answer at once.
    private static let burstBytes = 64 * 1024

    private let limits: TransportLimits
    private let router: any RequestRouter
    private let info: ConnectionInfo
    private var context: ChannelHandlerContext?
    private var mailbox: Mailbox?
    private var executor: EventLoopTaskExecutor?
    private var exchange: Exchange?
    /// Parts of requests that came behind the one being answered; bounded by one read of the socket.
    private var waiting = CircularBuffer<HTTPServerRequestPart>()
    private var isReadHeld = false
    private var isCatchingUp = false
    private var isClosing = false
    /// Done once the socket has taken the newest answer's end: closing before would cut off what it has not taken.
    private var lastEnd: EventLoopFuture<Void>?
    private var nextID = 1
    private var lastActivityAt: NIODeadline
    private var hasHadRequest = false
    private var timer: RepeatedTask?

    init(limits: TransportLimits, router: any RequestRouter, info: ConnectionInfo, now: NIODeadline) {
        self.limits = limits
        self.router = router
        self.info = info
        self.lastActivityAt = now
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        self.context = context
        self.executor = EventLoopTaskExecutor(eventLoop: context.eventLoop)
        self.mailbox = Mailbox(eventLoop: context.eventLoop) { bound.value.wakeUp() }
        let step = deadlineStep(self.limits)
        self.timer = context.eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            bound.value.checkDeadlines()
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.closeDown()
        self.context = nil
        self.mailbox = nil
        self.executor = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.closeDown()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is GracefulShutdownRequested else { return context.fireUserInboundEventTriggered(event) }
        self.beginShutdown()
    }

    // MARK: reading

    /// Reads go on only while somebody wants what comes: this is the back-pressure.
    func read(context: ChannelHandlerContext) {
        if self.mayRead {
            context.read()
        } else {
            self.isReadHeld = true
        }
    }

    private var mayRead: Bool {
        guard let exchange = self.exchange else { return true }
        return !exchange.hasInboundEnded && exchange.heldBytes < self.limits.streamWindowBytes
    }

    private func readAgain() {
        guard self.isReadHeld, self.mayRead, let context = self.context else { return }
        self.isReadHeld = false
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.lastActivityAt = context.eventLoop.now
        guard !self.isClosing else { return }
        let part = self.unwrapInboundIn(data)
        if self.waiting.isEmpty, self.exchange?.hasInboundEnded != true {
            self.receive(part)
        } else {
            self.waiting.append(part)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.wakeUp()
        context.fireChannelReadComplete()
    }

    private func receive(_ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head): self.begin(head)
        case .body(let bytes): self.receive(bytes)
        case .end(let trailers): self.end(trailers)
        }
    }

    private func begin(_ head: HTTPRequestHead) {
        self.hasHadRequest = true
        let exchange = Exchange(id: self.nextID, head: head)
        self.nextID += 1
        self.exchange = exchange
        guard let request = convertedRequest(head) else {
            exchange.isKeepAlive = false
            return self.respond(plainResponse(.badRequest), to: exchange)
        }
        switch self.router.route(request, self.info) {
        case .immediate(let response): self.respond(response, to: exchange)
        case .collected(let bytesMax, let tooLarge, let handler):
            exchange.collector = HTTP2Stream.Collector(
                request: request,
                handler: handler,
                tooLarge: tooLarge,
                startedAt: self.lastActivityAt
            )
            if let declared = declaredLength(request), declared > bytesMax { return self.answerTooLarge(exchange) }
            exchange.inbound = .collecting(ByteBuffer(), bytesMax: bytesMax)
            self.expectContinue(request, exchange)
        case .streaming(let handler):
            guard let mailbox = self.mailbox else { return }
            let id = exchange.id
            let body = InboundBody { mailbox.post(.inboundConsumed(id: id)) }
            exchange.inbound = .streaming(body)
            self.expectContinue(request, exchange)
            self.run(exchange) { [info] in
                await handler(ServerRequest(head: request, body: RequestBody(source: body), connection: info))
            }
        }
    }

    private func expectContinue(_ request: HTTPRequest, _ exchange: Exchange) {
        guard exchange.version != .http1_0, request.headerFields[.expect]?.lowercased() == "100-continue" else {
            return
        }
        let head = HTTPResponseHead(version: exchange.version, status: .continue)
        self.context?.writeAndFlush(self.wrapOutboundOut(.head(head)), promise: nil)
    }

    private func receive(_ bytes: ByteBuffer) {
        guard let exchange = self.exchange else { return }
        switch exchange.inbound {
        case .collecting(var collected, let bytesMax):
            guard collected.readableBytes + bytes.readableBytes <= bytesMax else {
                return self.answerTooLarge(exchange)
            }
            exchange.inbound = .discarding(0)  // So that the buffer is not shared while it grows.
            collected.writeImmutableBuffer(bytes)
            exchange.inbound = .collecting(collected, bytesMax: bytesMax)
        case .streaming(let body):
            if body.append(bytes) { exchange.heldBytes += bytes.readableBytes }
        case .discarding(let count):
            exchange.inbound = .discarding(count + bytes.readableBytes)
            if count + bytes.readableBytes > Self.drainBytesMax { self.context?.close(promise: nil) }
        }
    }

    private func end(_ trailers: HTTPHeaders?) {
        guard let exchange = self.exchange else { return }
        exchange.hasInboundEnded = true
        switch exchange.inbound {
        case .streaming(let body): body.finish(trailers: trailers.flatMap { convertedFields($0) })
        case .collecting(let bytes, _):
            exchange.inbound = .discarding(0)
            guard let collector = exchange.collector else { return }
            exchange.collector = nil
            let request = ServerRequest(
                head: collector.request,
                body: RequestBody(source: .complete()),
                connection: self.info
            )
            self.run(exchange) { await collector.handler(request, bytes) }
        case .discarding: break
        }
        if exchange.isResponseDone { self.finish(exchange) }
    }

    private func answerTooLarge(_ exchange: Exchange) {
        let response = exchange.collector?.tooLarge?() ?? plainResponse(.contentTooLarge)
        exchange.collector = nil
        exchange.inbound = .discarding(0)
        self.respond(response, to: exchange)
    }

    // MARK: answering

    private func run(_ exchange: Exchange, _ handler: @escaping @Sendable () async -> ServerResponse) {
        guard let mailbox = self.mailbox, let executor = self.executor else { return }
        let id = exchange.id
        let bufferBytesMax = self.limits.responseBufferBytes
        let task = Task.immediate(executorPreference: executor) {  // task-owner: `closeDown` cancels it
            await answer(handler, id: id, mailbox: mailbox, bufferBytesMax: bufferBytesMax)
        }
        exchange.task = task
    }

    private func respond(_ response: ServerResponse, to exchange: Exchange) {
        switch response.body {
        case .empty: self.respond(response.head, .none, to: exchange)
        case .bytes(let bytes): self.respond(response.head, .bytes(bytes), to: exchange)
        case .stream: self.run(exchange) { response }
        }
    }

    private func respond(_ response: HTTPResponse, _ content: OutboundContent, to exchange: Exchange) {
        guard let context = self.context, !exchange.isResponseBegun else { return }
        exchange.isResponseBegun = true
        var headers = convertedHeaders(response.headerFields)
        let mayHaveBody = !exchange.isHeadRequest && response.status.code != 204 && response.status.code != 304
        let length = contentLength(of: content, status: response.status, isHeadRequest: exchange.isHeadRequest)
        if let length, !headers.contains(name: "content-length") {
            headers.add(name: "content-length", value: String(length))
        }
        if mayHaveBody, case .pipe = content, !headers.contains(name: "content-length") {
            if exchange.version != .http1_0 {
                headers.add(name: "transfer-encoding", value: "chunked")
            } else {
                exchange.isKeepAlive = false
            }
        }
        if self.isClosing { exchange.isKeepAlive = false }
        if !exchange.isKeepAlive {
            headers.replaceOrAdd(name: "connection", value: "close")
        } else if exchange.version == .http1_0 {
            headers.replaceOrAdd(name: "connection", value: "keep-alive")
        }
        let status = HTTPResponseStatus(statusCode: response.status.code, reasonPhrase: response.status.reasonPhrase)
        let head = HTTPResponseHead(version: exchange.version, status: status, headers: headers)
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        switch content {
        case .pipe(let pipe) where mayHaveBody:
            exchange.pipe = pipe
            self.pump(exchange)
        case .pipe(let pipe):
            pipe.close(TransportError(.streamReset, "the answer has no body"))
            self.complete(exchange, trailers: nil)
        case .bytes(let bytes) where mayHaveBody && bytes.readableBytes > 0:
            context.write(self.wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
            self.complete(exchange, trailers: nil)
        case .bytes, .none: self.complete(exchange, trailers: nil)
        }
    }

    /// Sends what a streamed answer has, while the socket takes it.
    private func pump(_ exchange: Exchange) {
        guard let context = self.context, let pipe = exchange.pipe else { return }
        while context.channel.isWritable {
            let (chunks, result) = pipe.takeChunks(upTo: Self.burstBytes)
            for chunk in chunks { context.write(self.wrapOutboundOut(.body(.byteBuffer(chunk))), promise: nil) }
            switch result {
            case .bytes:
                self.lastActivityAt = context.eventLoop.now
                context.flush()
            case .starved: return context.flush()
            case .end(_, let trailers): return self.complete(exchange, trailers: trailers)
            case .failed: return context.close(promise: nil)  // The client sees that the body is not complete.
            }
        }
    }

    private func complete(_ exchange: Exchange, trailers: HTTPFields?) {
        guard let context = self.context else { return }
        exchange.pipe = nil
        exchange.isResponseDone = true
        let isBare = exchange.isHeadRequest
        let written = context.eventLoop.makePromise(of: Void.self)
        self.lastEnd = written.futureResult
        self.lastActivityAt = context.eventLoop.now
        context.write(self.wrapOutboundOut(.end(isBare ? nil : trailers.map(convertedHeaders))), promise: written)
        context.flush()
        if case .streaming(let body) = exchange.inbound, !exchange.hasInboundEnded {
            exchange.heldBytes = 0
            _ = body.discard()
            exchange.inbound = .discarding(0)
        }
        if exchange.hasInboundEnded { self.finish(exchange) }
        self.readAgain()
    }

    /// Both directions are done: closes, or goes on with the next request.
    private func finish(_ exchange: Exchange) {
        guard self.exchange === exchange else { return }
        self.exchange = nil
        guard exchange.isKeepAlive, !self.isClosing else { return self.closeOnceWritten() }
        guard !self.isCatchingUp else { return }  // The loop below goes on.
        self.isCatchingUp = true
        while self.exchange?.hasInboundEnded != true, let part = self.waiting.popFirst() { self.receive(part) }
        self.isCatchingUp = false
        self.readAgain()
    }

    private func wakeUp() {
        guard let mailbox = self.mailbox else { return }
        for message in mailbox.takeAll() {
            switch message {
            case .response(let id, let head, let content, _):
                if let exchange = self.exchange, exchange.id == id, !exchange.isResponseBegun {
                    self.respond(head, content, to: exchange)
                } else if case .pipe(let pipe) = content {
                    pipe.close(TransportError(.streamReset, "the request is over"))
                }
            case .inboundConsumed(let id):
                guard let exchange = self.exchange, exchange.id == id, case .streaming(let body) = exchange.inbound
                else {
                    continue
                }
                exchange.heldBytes -= body.takeConsumed()
                self.readAgain()
            case .outboundReady(let id):
                if let exchange = self.exchange, exchange.id == id { self.pump(exchange) }
            default: break
            }
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if let exchange = self.exchange { self.pump(exchange) }
        context.fireChannelWritabilityChanged()
    }

    // MARK: errors and the end

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parserError = error as? HTTPParserError, self.exchange?.isResponseBegun != true, !self.isClosing
        else {
            return context.close(promise: nil)
        }
        self.isClosing = true
        let status: HTTPResponse.Status =
            parserError == .headerOverflow ? .requestHeaderFieldsTooLarge : .badRequest
        self.exchange?.task?.cancel()
        let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "/")
        let exchange = Exchange(id: self.nextID, head: head)
        exchange.hasInboundEnded = true
        self.nextID += 1
        self.exchange = exchange
        self.respond(plainResponse(status), to: exchange)
    }

    private func beginShutdown() {
        self.isClosing = true
        self.exchange?.isKeepAlive = false
        if self.exchange == nil { self.closeOnceWritten() }
    }

    /// Closes when the client has, or has been sent, all of the last answer; one that does not read is closed by
    /// ``checkDeadlines()``.
    private func closeOnceWritten() {
        self.isClosing = true
        guard let context = self.context, let written = self.lastEnd else {
            self.context?.close(promise: nil)
            return
        }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        written.whenComplete { _ in bound.value.context?.close(promise: nil) }
    }

    private func checkDeadlines() {
        guard let context = self.context else { return }
        let silence = context.eventLoop.now - self.lastActivityAt
        if let exchange = self.exchange {
            let isReading = !exchange.hasInboundEnded && exchange.heldBytes == 0
            let isBlocked = !context.channel.isWritable
            if isReading || isBlocked, silence >= TimeAmount(self.limits.idleTimeout) {
                return context.close(promise: nil)
            }
            guard let startedAt = exchange.collector?.startedAt,
                context.eventLoop.now - startedAt >= TimeAmount(self.limits.collectTimeout)
            else { return }
            exchange.isKeepAlive = false
            exchange.collector = nil
            exchange.inbound = .discarding(0)
            self.isClosing = true
            exchange.hasInboundEnded = true
            self.respond(plainResponse(.requestTimeout), to: exchange)
            return
        }
        // Bytes of a head do not count as activity, so that a slow head cannot hold the connection.
        let patience = self.hasHadRequest ? self.limits.idleTimeout : self.limits.headTimeout
        if silence >= TimeAmount(patience) { context.close(promise: nil) }
    }

    private func closeDown() {
        self.timer?.cancel()
        self.timer = nil
        let error = TransportError(
            .connectionClosed,
            "the connection to \(self.info.remoteAddress ?? "a client") closed"
        )
        for message in self.mailbox?.close() ?? [] {
            if case .response(_, _, .pipe(let pipe), _) = message { pipe.close(error) }
        }
        self.waiting.removeAll()
        guard let exchange = self.exchange else { return }
        self.exchange = nil
        exchange.task?.cancel()
        if case .streaming(let body) = exchange.inbound { body.fail(error) }
        exchange.pipe?.close(error)
    }
}
