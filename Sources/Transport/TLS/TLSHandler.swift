internal import NIOCore

/// Fired inbound once the TLS handshake is complete.
struct TLSHandshakeCompleted: Sendable {
    /// Agreed on by ALPN; nil when none was offered.
    var applicationProtocol: String?
    var version: String
    var peer: PeerCertificate?
}

/// Fired outbound before writes that one flush follows: what they come to.
struct PlaintextBurst: Sendable {
    let byteCount: Int
}

/// Turns ciphertext from the socket into plaintext and back.
///
/// Writes are encrypted at once and sent by the next flush, all in one buffer.
final class TLSHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State { case handshaking, open, closed }

    private let session: TLSSession
    private let peer: String
    private let handshakeTimeout: TimeAmount
    private let isClient: Bool
    private var state = State.handshaking
    private var handshakeDeadline: Scheduled<Void>?
    private var unsentPromise: EventLoopPromise<Void>?
    /// Kept between reads: its storage is free again once the next handler returns.
    private var plaintext = ByteBuffer()

    /// One end of a connection; `serverName` is what a client demands of the server's certificate.
    init(
        context: TLSContext,
        peer: String,
        serverName: String? = nil,
        handshakeTimeout: Duration
    ) throws(TransportError) {
        self.session = try TLSSession(context: context, peer: peer, serverName: serverName)
        self.peer = peer
        self.isClient = context.isClient
        self.handshakeTimeout = TimeAmount(handshakeTimeout)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { self.begin(context: context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        self.begin(context: context)
        context.fireChannelActive()
    }

    private func begin(context: ChannelHandlerContext) {
        guard self.handshakeDeadline == nil else { return }
        let deadline = context.eventLoop.assumeIsolated().scheduleTask(in: self.handshakeTimeout) {
            self.fail(
                TransportError(.timeout, "the TLS handshake with \(self.peer) did not end in time"),
                context: context
            )
        }
        self.handshakeDeadline = deadline
        guard self.isClient else { return }
        do {
            _ = try self.session.handshake()
            self.sendCiphertext(context: context)
        } catch {
            self.fail(error, context: context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        if self.state == .handshaking {
            self.state = .closed
            context.fireErrorCaught(
                TransportError(.handshakeFailed, "\(self.peer) closed the connection during the TLS handshake")
            )
        }
        self.state = .closed
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.state = .closed
        self.handshakeDeadline?.cancel()
        self.unsentPromise?.fail(ChannelError.ioOnClosedChannel)
        self.unsentPromise = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard self.state != .closed else { return }
        do {
            try self.session.receive(self.unwrapInboundIn(data))
            if self.state == .handshaking, try self.session.handshake() { self.completeHandshake(context: context) }
            if self.state == .open { try self.readPlaintext(context: context) }
        } catch {
            self.fail(error, context: context)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        self.sendCiphertext(context: context)  // What TLS itself has to say, such as handshake messages.
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard self.state == .open else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        do {
            try self.session.encrypt(self.unwrapOutboundIn(data))
            self.unsentPromise.setOrCascade(to: promise)
        } catch {
            promise?.fail(error)
            self.fail(error, context: context)
        }
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard let burst = event as? PlaintextBurst else {
            return context.triggerUserOutboundEvent(event, promise: promise)
        }
        self.session.reserve(plaintextBytes: burst.byteCount)
        promise?.succeed()
    }

    func flush(context: ChannelHandlerContext) {
        self.sendCiphertext(context: context)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if self.state == .open {
            self.session.shutdown()
            self.sendCiphertext(context: context)
        }
        self.state = .closed
        context.close(mode: mode, promise: promise)
    }

    private func completeHandshake(context: ChannelHandlerContext) {
        self.state = .open
        self.handshakeDeadline?.cancel()
        context.fireUserInboundEventTriggered(
            TLSHandshakeCompleted(
                applicationProtocol: self.session.applicationProtocol,
                version: self.session.version,
                peer: self.session.peerCertificate
            )
        )
    }

    private func readPlaintext(context: ChannelHandlerContext) throws {
        self.plaintext.clear()
        let outcome = try self.session.decrypt(into: &self.plaintext)
        if self.plaintext.readableBytes > 0 { context.fireChannelRead(self.wrapInboundOut(self.plaintext)) }
        if outcome == .closedByPeer { context.channel.close(promise: nil) }
    }

    private func sendCiphertext(context: ChannelHandlerContext) {
        let ciphertext = self.session.takeCiphertext()
        guard ciphertext != nil || self.unsentPromise != nil else { return }
        let promise = self.unsentPromise
        self.unsentPromise = nil
        // Writing nothing is done, too, only when what was written before is.
        context.writeAndFlush(self.wrapOutboundOut(ciphertext ?? ByteBuffer()), promise: promise)
    }

    /// Sends the alert that OpenSSL has queued, if any, and closes.
    private func fail(_ error: any Error, context: ChannelHandlerContext) {
        guard self.state != .closed else { return }
        self.state = .closed
        self.sendCiphertext(context: context)
        context.fireErrorCaught(error)
        context.close(promise: nil)
    }
}
