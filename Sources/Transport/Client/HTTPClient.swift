package import NIOCore
internal import NIOPosix

/// Opens HTTP/2 connections over TLS.
package final class HTTPClient: Sendable {
    private let eventLoopGroup: any EventLoopGroup
    private let tls: ReloadableTLSContext
    private let limits: TransportLimits

    /// A client that starts nothing until `connect`.
    package init(
        eventLoopGroup: any EventLoopGroup,
        tls: ReloadableTLSContext,
        limits: TransportLimits = TransportLimits()
    ) {
        self.eventLoopGroup = eventLoopGroup
        self.tls = tls
        self.limits = limits
    }

    /// Connects, and returns once the server has accepted the connection and this client's certificate.
    /// - Parameter expectedName: A DNS name the server's certificate must carry, instead of `host`.
    /// - Throws: ``TransportError`` `.connectFailed`, `.timeout`, or what is wrong with a certificate.
    package func connect(
        host: String,
        port: Int,
        expectedName: String? = nil
    ) async throws -> HTTPClientConnection {
        let remoteName = "\(host):\(port)"
        let callbacks = try HTTP2Callbacks()
        let options = try HTTP2Options(limits: self.limits)
        let context = self.tls.current
        let limits = self.limits
        let eventLoop = self.eventLoopGroup.next()
        let ready = eventLoop.makePromise(of: HTTPClientConnection.self)
        let writeBufferMax = limits.writeBufferBytesMax
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(limits.connectTimeout))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.writeBufferWaterMark, value: .init(low: writeBufferMax / 2, high: writeBufferMax))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(
                        TLSHandler(
                            context: context,
                            peer: remoteName,
                            serverName: expectedName ?? host,
                            handshakeTimeout: limits.handshakeTimeout
                        )
                    )
                    try pipeline.addHandler(
                        HTTP2ClientHandler(
                            callbacks: callbacks,
                            options: options,
                            limits: limits,
                            remoteName: remoteName,
                            ready: ready,
                            now: channel.eventLoop.now
                        )
                    )
                }
            }
        let channel: any Channel
        do {
            channel = try await bootstrap.connect(host: host, port: port).get()
        } catch {
            let wrapped = (error as? TransportError) ?? Self.connectError(remoteName, error)
            ready.fail(wrapped)
            throw wrapped
        }
        let deadline = eventLoop.scheduleTask(in: TimeAmount(limits.connectTimeout)) {
            channel.pipeline.fireErrorCaught(
                TransportError(.timeout, "\(remoteName) did not begin to speak HTTP/2 in time")
            )
        }
        defer { deadline.cancel() }
        return try await withTaskCancellationHandler {
            try await ready.futureResult.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    private static func connectError(_ remoteName: String, _ error: any Error) -> TransportError {
        if let timeout = error as? ChannelError, case .connectTimeout = timeout {
            return TransportError(.timeout, "\(remoteName) did not accept a connection in time", cause: error)
        }
        return TransportError(.connectFailed, "cannot connect to \(remoteName): \(error)", cause: error)
    }
}
