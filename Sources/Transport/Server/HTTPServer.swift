internal import Glibc
package import NIOCore
internal import NIOPosix
internal import Synchronization

/// Serves HTTP/2, and HTTP/1.1 for clients that ask for it, over TLS; or HTTP/1.1 without TLS. Thread safe.
package final class HTTPServer: Sendable {
    private struct State {
        var listener: (any Channel)?
        var isShuttingDown = false
        var connections: [ObjectIdentifier: any Channel] = [:]
    }

    private let host: String
    private let port: Int
    private let tls: ReloadableTLSContext?
    private let limits: TransportLimits
    private let eventLoopGroup: any EventLoopGroup
    private let router: any RequestRouter
    private let state = Mutex(State())
    /// Completed when the listener and all connections are closed after a shutdown began.
    private let closed: EventLoopPromise<Void>

    /// A server that starts nothing until `start` or `run`.
    /// - Parameters:
    ///   - port: 0 for any free one.
    ///   - tls: nil to speak HTTP/1.1 in clear text: for the loopback address, behind something that speaks TLS.
    package init(
        host: String,
        port: Int,
        tls: ReloadableTLSContext?,
        limits: TransportLimits = TransportLimits(),
        eventLoopGroup: any EventLoopGroup,
        router: any RequestRouter
    ) {
        self.host = host
        self.port = port
        self.tls = tls
        self.limits = limits
        self.eventLoopGroup = eventLoopGroup
        self.router = router
        self.closed = eventLoopGroup.any().makePromise(of: Void.self)
    }

    deinit { self.closed.fail(TransportError(.connectionClosed, "the server was let go of")) }

    /// The port that is listened on, nil before `start`.
    package var boundPort: Int? { self.state.withLock { $0.listener?.localAddress?.port } }

    /// Connections that are open.
    package var connectionCount: Int { self.state.withLock { $0.connections.count } }

    /// Begins to listen.
    /// - Returns: The port.
    /// - Throws: ``TransportError`` `.portInUse` or `.badConfiguration` naming host and port.
    @discardableResult
    package func start() async throws -> Int {
        try self.limits.validate()
        let callbacks = try HTTP2Callbacks()
        let options = try HTTP2Options(limits: self.limits)
        let writeBufferMax = self.limits.writeBufferBytesMax
        let bootstrap = ServerBootstrap(group: self.eventLoopGroup)
            .serverChannelOption(.backlog, value: TransportLimits.listenBacklog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: writeBufferMax / 2, high: writeBufferMax))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try self.accept(channel, callbacks: callbacks, options: options)
                }
            }
        let listener: any Channel
        do {
            listener = try await bootstrap.bind(host: self.host, port: self.port).get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            let message = "\(self.host):\(self.port) is in use by another process"
            throw TransportError(.portInUse, message, cause: error)
        } catch {
            throw TransportError(
                .badConfiguration,
                "cannot listen on \(self.host):\(self.port): \(error)",
                cause: error
            )
        }
        listener.closeFuture.whenComplete { _ in self.completeIfClosed() }
        let isShuttingDown = self.state.withLock { state in
            state.listener = listener
            return state.isShuttingDown
        }
        if isShuttingDown { listener.close(promise: nil) }
        return listener.localAddress?.port ?? self.port
    }

    /// Serves until the server is shut down; starts it if need be. A cancelled run closes everything at once.
    /// - Throws: ``TransportError`` as ``start()`` does.
    package func run() async throws {
        if self.state.withLock({ $0.listener == nil }) { try await self.start() }
        try await withTaskCancellationHandler {
            try await self.closed.futureResult.get()
        } onCancel: {
            self.beginShutdown(graceful: false)
        }
    }

    /// Stops accepting and lets open requests finish, for `gracefulShutdownTimeout`; returns at once.
    package func beginGracefulShutdown() { self.beginShutdown(graceful: true) }

    /// Stops accepting and returns once every connection is closed.
    /// - Parameter graceful: Lets open requests finish, for `gracefulShutdownTimeout`.
    package func shutdown(graceful: Bool) async {
        self.beginShutdown(graceful: graceful)
        try? await self.closed.futureResult.get()  // Fails only when the server is let go of.
    }

    private func beginShutdown(graceful: Bool) {
        let (listener, connections) = self.state.withLock { state in
            state.isShuttingDown = true
            return (state.listener, Array(state.connections.values))
        }
        listener?.close(promise: nil)
        guard graceful else {
            for connection in connections { connection.close(promise: nil) }
            return self.completeIfClosed()
        }
        for connection in connections {
            connection.pipeline.fireUserInboundEventTriggered(GracefulShutdownRequested())
        }
        let deadline = self.eventLoopGroup.any().scheduleTask(in: TimeAmount(self.limits.gracefulShutdownTimeout)) {
            self.beginShutdown(graceful: false)
        }
        self.closed.futureResult.whenComplete { _ in deadline.cancel() }
        self.completeIfClosed()
    }

    private func completeIfClosed() {
        let isClosed = self.state.withLock { state in
            state.isShuttingDown && state.connections.isEmpty && state.listener?.isActive != true
        }
        if isClosed { self.closed.succeed() }
    }

    private func accept(_ channel: any Channel, callbacks: HTTP2Callbacks, options: HTTP2Options) throws {
        let id = ObjectIdentifier(channel)
        let isWelcome = self.state.withLock { state in
            guard !state.isShuttingDown, state.connections.count < self.limits.connectionsMax else { return false }
            state.connections[id] = channel
            return true
        }
        guard isWelcome else {
            throw TransportError(.overloaded, "there are \(self.limits.connectionsMax) connections")
        }
        channel.closeFuture.whenComplete { _ in
            self.state.withLock { $0.connections[id] = nil }
            self.completeIfClosed()
        }
        guard let tls = self.tls else {
            let remote = channel.remoteAddress.map(addressText)
            let info = ConnectionInfo(remoteAddress: remote, applicationProtocol: "http/1.1", tlsVersion: "none")
            return try addHTTP1Handlers(to: channel, limits: self.limits, router: self.router, info: info)
        }
        try addServerHandlers(
            to: channel,
            context: tls.current,
            callbacks: callbacks,
            options: options,
            limits: self.limits,
            router: self.router
        )
    }
}

/// Builds the pipeline of an accepted connection up to ALPN, which decides the rest.
func addServerHandlers(
    to channel: any Channel,
    context: TLSContext,
    callbacks: HTTP2Callbacks,
    options: HTTP2Options,
    limits: TransportLimits,
    router: any RequestRouter
) throws {
    let remote = channel.remoteAddress.map(addressText)
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(
        TLSHandler(context: context, peer: remote ?? "a client", handshakeTimeout: limits.handshakeTimeout)
    )
    try pipeline.addHandler(
        ProtocolHandler { channel, handshake in
            let name = handshake.applicationProtocol ?? "http/1.1"
            let info = ConnectionInfo(
                remoteAddress: remote,
                peer: handshake.peer,
                applicationProtocol: name,
                tlsVersion: handshake.version
            )
            switch name {
            case "h2":
                try channel.pipeline.syncOperations.addHandler(
                    HTTP2ServerHandler(
                        callbacks: callbacks,
                        options: options,
                        limits: limits,
                        router: router,
                        info: info,
                        now: channel.eventLoop.now
                    )
                )
            case "http/1.1" where !context.isForPeers:
                try addHTTP1Handlers(to: channel, limits: limits, router: router, info: info)
            default:
                throw TransportError(.protocolViolation, "\(remote ?? "a client") speaks \(name)")
            }
        }
    )
}

/// Waits for the end of the handshake and then makes room for the handlers of the agreed protocol.
private final class ProtocolHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let configure: (any Channel, TLSHandshakeCompleted) throws -> Void

    init(configure: @escaping (any Channel, TLSHandshakeCompleted) throws -> Void) {
        self.configure = configure
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let handshake = event as? TLSHandshakeCompleted {
            do {
                try self.configure(context.channel, handshake)
                context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
            } catch {
                context.close(promise: nil)
            }
        } else if event is GracefulShutdownRequested {
            context.close(promise: nil)  // No request has come yet.
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
