internal import CNGHTTP2
internal import HTTPTypes
internal import NIOCore

/// The server's end of an HTTP/2 connection: routes requests, runs handlers, sends answers.
///
/// Handlers run after `mem_recv`, never inside its callbacks. Confined to the connection's event loop.
final class HTTP2ServerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let session: HTTP2Session
    private let limits: TransportLimits
    private let router: any RequestRouter
    private let info: ConnectionInfo
    private var mailbox: Mailbox?
    private var executor: EventLoopTaskExecutor?
    private var context: ChannelHandlerContext?
    private let writer = FrameWriter()
    /// Handlers that run, those of streams already reset included.
    private var runningHandlers = 0
    private var collecting: [Int32: HTTP2Stream] = [:]
    /// Between a channelRead and its channelReadComplete.
    private var isReading = false
    private var isShuttingDown = false
    private var hasSentGoAway = false
    private var lastActivityAt: NIODeadline
    private var timer: RepeatedTask?

    init(
        callbacks: HTTP2Callbacks,
        options: HTTP2Options,
        limits: TransportLimits,
        router: any RequestRouter,
        info: ConnectionInfo,
        now: NIODeadline
    ) throws(TransportError) {
        self.session = try HTTP2Session(
            role: .server,
            callbacks: callbacks,
            options: options,
            limits: limits,
            now: now
        )
        self.limits = limits
        self.router = router
        self.info = info
        self.lastActivityAt = now
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        self.context = context
        self.executor = EventLoopTaskExecutor(eventLoop: context.eventLoop)
        self.mailbox = Mailbox(eventLoop: context.eventLoop) {
            if bound.value.deliverMailbox() { bound.value.sendFrames() }
        }
        let step = deadlineStep(self.limits)
        self.timer = context.eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            bound.value.checkDeadlines()
        }
        do {
            try self.session.start()
            self.sendFrames()
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.closeDown()
        self.context = nil
        self.executor = nil
        self.mailbox = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.closeDown()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is GracefulShutdownRequested {
            self.beginShutdown()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.lastActivityAt = context.eventLoop.now
        self.isReading = true
        do {
            try self.session.receive(self.unwrapInboundIn(data), now: self.lastActivityAt)
            try self.processEvents()
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.isReading = false
        self.deliverMailbox()
        self.sendFrames()
        context.fireChannelReadComplete()
    }

    /// Resumes what `sendFrames` left waiting when the socket was full.
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.sendFrames()
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    // MARK: events

    private func processEvents() throws {
        for event in self.session.takeEvents() {
            switch event {
            case .head(let stream): try self.route(stream)
            case .end(let stream): self.bodyEnded(stream)
            case .tooLarge(let stream): try self.answerTooLarge(stream)
            case .closed(let stream, let code): self.streamClosed(stream, code: code)
            case .settings: break
            case .pong:
                guard self.isShuttingDown, !self.hasSentGoAway else { continue }
                self.hasSentGoAway = true
                try self.session.submitGoAway()
            case .goingAway: break
            }
        }
    }

    private func route(_ stream: HTTP2Stream) throws {
        guard !stream.isClosed else { return }
        guard !stream.isHeadTooLarge else {
            self.session.beginDiscarding(stream)
            return try self.respond(plainResponse(.requestHeaderFieldsTooLarge), on: stream)
        }
        let request = stream.makeRequest()
        stream.isHeadRequest = request.method == .head
        switch self.router.route(request, self.info) {
        case .immediate(let response):
            self.session.beginDiscarding(stream)
            try self.respond(response, on: stream)
        case .collected(let bytesMax, let tooLarge, let handler):
            stream.collector = HTTP2Stream.Collector(
                request: request,
                handler: handler,
                tooLarge: tooLarge,
                startedAt: self.lastActivityAt
            )
            if let declared = declaredLength(request), declared > bytesMax {
                return try self.answerTooLarge(stream)
            }
            self.session.beginCollecting(stream, bytesMax: bytesMax)
            if stream.hasInboundEnded { return self.bodyEnded(stream) }
            self.collecting[stream.id] = stream
            try self.expectContinue(request, stream)
        case .streaming(let handler):
            let id = Int(stream.id)
            let body = self.makeInbound(id: id, isEmpty: stream.hasInboundEnded, stream: stream)
            try self.expectContinue(request, stream)
            self.run(stream) { [info] in
                await handler(ServerRequest(head: request, body: RequestBody(source: body), connection: info))
            }
        }
    }

    private func makeInbound(id: Int, isEmpty: Bool, stream: HTTP2Stream) -> InboundBody {
        guard let mailbox = self.mailbox else { return .complete() }
        let body = InboundBody { mailbox.post(.inboundConsumed(id: id)) }
        self.session.beginStreaming(stream, to: body)
        if isEmpty { body.finish(trailers: stream.trailers) }
        return body
    }

    private func expectContinue(_ request: HTTPRequest, _ stream: HTTP2Stream) throws {
        guard !stream.hasInboundEnded, let expected = request.headerFields.value(of: .expect),
            expected.lowercased() == "100-continue"
        else { return }
        try self.session.submitInformational(.continue, on: stream)
    }

    private func bodyEnded(_ stream: HTTP2Stream) {
        switch stream.inbound {
        case .streaming(let body): body.finish(trailers: stream.trailers)
        case .collecting:
            guard let collector = stream.collector else { return }
            stream.collector = nil
            self.collecting[stream.id] = nil
            let body = self.session.takeCollected(stream)
            let request = ServerRequest(
                head: collector.request,
                body: RequestBody(source: .complete()),
                connection: self.info
            )
            self.run(stream) { await collector.handler(request, body) }
        case .undecided, .discarding: break
        }
    }

    private func answerTooLarge(_ stream: HTTP2Stream) throws {
        let response = stream.collector?.tooLarge?() ?? plainResponse(.contentTooLarge)
        stream.collector = nil
        self.collecting[stream.id] = nil
        self.session.beginDiscarding(stream)
        try self.respond(response, on: stream)
    }

    private func streamClosed(_ stream: HTTP2Stream, code: UInt32) {
        self.collecting[stream.id] = nil
        stream.collector = nil
        guard code != NGHTTP2_NO_ERROR.rawValue || !stream.hasOutboundEnded || !stream.hasInboundEnded else { return }
        let text = unsafe String(cString: nghttp2_http2_strerror(code))
        self.abandon(stream, TransportError(.streamReset, "the client ended the request: \(text)"))
    }

    /// Tells everybody who works for a stream that it is over.
    private func abandon(_ stream: HTTP2Stream, _ error: TransportError) {
        stream.task?.cancel()
        stream.task = nil
        if case .streaming(let body) = stream.inbound { body.fail(error) }
        if case .pipe(let pipe) = stream.outbound { pipe.close(error) }
        stream.inbound = .discarding
        stream.outbound = .none
    }

    // MARK: handlers and answers

    /// Runs a handler as a task of this loop; its first part runs at once.
    private func run(_ stream: HTTP2Stream, _ handler: @escaping @Sendable () async -> ServerResponse) {
        guard let mailbox = self.mailbox, let executor = self.executor else { return }
        guard self.runningHandlers < self.limits.concurrentStreamsMax else {
            // Handlers of streams that the client has reset have not ended yet.
            self.session.reset(stream, code: NGHTTP2_REFUSED_STREAM.rawValue)
            return
        }
        self.runningHandlers += 1
        if self.isReading { mailbox.expectDelivery() }  // By channelReadComplete.
        let id = Int(stream.id)
        let bufferBytesMax = self.limits.responseBufferBytes
        let task = Task.immediate(executorPreference: executor) {  // task-owner: cancelled by `abandon` at stream's end
            await answer(handler, id: id, mailbox: mailbox, bufferBytesMax: bufferBytesMax)
        }
        stream.task = task
    }

    private func respond(_ response: ServerResponse, on stream: HTTP2Stream) throws {
        switch response.body {
        case .empty: try self.respond(response.head, .none, on: stream)
        case .bytes(let bytes): try self.respond(response.head, .bytes(bytes), on: stream)
        case .stream: self.run(stream) { response }
        }
    }

    private func respond(_ head: HTTPResponse, _ content: OutboundContent, on stream: HTTP2Stream) throws {
        let length = contentLength(of: content, status: head.status, isHeadRequest: stream.isHeadRequest)
        guard stream.isHeadRequest || head.status.code == 204 || head.status.code == 304 else {
            return try self.session.submitResponse(head, on: stream, content: content, contentLength: length)
        }
        if case .pipe(let pipe) = content { pipe.close(TransportError(.streamReset, "the answer has no body")) }
        try self.session.submitResponse(head, on: stream, content: .none, contentLength: length)
    }

    /// Acts on what tasks have posted; false when there was nothing.
    @discardableResult
    private func deliverMailbox() -> Bool {
        guard let mailbox = self.mailbox, let context = self.context else { return false }
        let messages = mailbox.takeAll()
        do {
            for message in messages { try self.deliver(message) }
        } catch {
            self.errorCaught(context: context, error: error)
        }
        return !messages.isEmpty
    }

    private func deliver(_ message: ConnectionMessage) throws {
        switch message {
        case .response(let id, let head, let content, let endsHandler):
            if endsHandler { self.handlerEnded() }
            guard let stream = self.session.streams[Int32(id)] else {
                if case .pipe(let pipe) = content {
                    pipe.close(TransportError(.streamReset, "the client ended the request"))
                }
                return
            }
            if endsHandler { stream.task = nil }
            try self.respond(head, content, on: stream)
        case .handlerEnded(let id):
            self.handlerEnded()
            guard let stream = self.session.streams[Int32(id)] else { return }
            stream.task = nil
            if case .pipe(let pipe) = stream.outbound, pipe.hasFailed { self.session.endFailed(stream) }
        case .inboundConsumed(let id):
            guard let stream = self.session.streams[Int32(id)], case .streaming(let body) = stream.inbound else {
                return
            }
            self.session.consume(body.takeConsumed(), on: stream)
        case .outboundReady(let id):
            if let stream = self.session.streams[Int32(id)] { self.session.resume(stream) }
        case .close: self.context?.close(promise: nil)
        case .shutDown: self.beginShutdown()
        case .start, .cancel: break  // A client's.
        }
    }

    private func handlerEnded() {
        self.runningHandlers -= 1
    }

    // MARK: deadlines, shutdown, sending

    private func checkDeadlines() {
        guard let context = self.context else { return }
        let now = context.eventLoop.now
        if let startedAt = self.session.headStartedAt, now - startedAt >= TimeAmount(self.limits.headTimeout) {
            self.session.terminate(code: NGHTTP2_ENHANCE_YOUR_CALM.rawValue)
        }
        for stream in Array(self.collecting.values) {
            guard let startedAt = stream.collector?.startedAt,
                now - startedAt >= TimeAmount(self.limits.collectTimeout)
            else { continue }
            self.session.reset(stream, code: NGHTTP2_CANCEL.rawValue)
        }
        // A connection may be silent while handlers work, but not while the client is the one to act.
        let isBusy = self.runningHandlers > 0 && context.channel.isWritable && !self.session.isWaitingForPeer
        if now - self.lastActivityAt >= TimeAmount(self.limits.idleTimeout), !isBusy {
            self.session.terminate(code: NGHTTP2_NO_ERROR.rawValue)
            self.sendFrames()
            context.close(promise: nil)
            return
        }
        self.sendFrames()
    }

    /// GOAWAY in two steps, so that requests on their way are still answered (RFC 9113, section 6.8).
    private func beginShutdown() {
        guard !self.isShuttingDown, let context = self.context else { return }
        self.isShuttingDown = true
        do {
            try self.session.submitShutdownNotice()
            try self.session.submitPing()  // Its answer comes after every request sent before the notice was read.
            self.sendFrames()
        } catch {
            self.errorCaught(context: context, error: error)
        }
    }

    private func sendFrames() {
        guard let context = self.context else { return }
        do {
            let roundsMax = 2
            for _ in 0..<roundsMax {
                try self.writer.sendFrames(of: self.session, context: context)
                // Sending can close streams too, which can give reason to send.
                try self.processEvents()
                guard self.session.wantsToSend, context.channel.isWritable else { break }
            }
            if self.session.isFinished { self.writer.closeOnceWritten(context, limit: self.limits.idleTimeout) }
        } catch {
            self.errorCaught(context: context, error: error)
        }
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
        for stream in self.session.removeAllStreams() { self.abandon(stream, error) }
        self.collecting = [:]
    }
}
