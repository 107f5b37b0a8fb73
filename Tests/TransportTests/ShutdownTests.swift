import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import Transport

@Suite(.timeLimit(.minutes(10)))
struct ShutdownTests {
    @Test(arguments: ["h2", "http/1.1"])
    func aGracefulShutdownFinishesOpenRequests(version: String) async throws {
        let (gate, began) = (Signal(), Signal())
        try await withServer { _, _ in
            .streaming { _ in
                await began.set()
                await gate.wait()
                return ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "finished")))
            }
        } _: { server in
            let port = server.port
            let ca = server.pki.path("ca.pem")
            async let answer =
                version == "h2"
                ? Self.get(server)
                : offPool {
                    try run("curl", ["-sS", "--http1.1", "--cacert", ca, "https://localhost:\(port)/"]).text
                }
            await began.wait()
            server.server.beginGracefulShutdown()
            await #expect(throws: TransportError.self) { try await server.connect() }
            await gate.set()
            let text = try await answer
            #expect(text == "finished")
            await server.server.shutdown(graceful: true)
            #expect(server.server.connectionCount == 0)
        }
    }

    private static func get(_ server: TestServer) async throws -> String {
        let connection = try await server.connect()
        let text = String(buffer: try await connection.execute(server.request("/")).collect(upTo: 100))
        // The server has said that it goes away; no sooner than now may it have closed.
        let closed = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        connection.onClose { closed.continuation.finish() }
        for await _ in closed.stream {}
        #expect(!connection.isOpen)
        return text
    }

    /// A server that has answered the last request of a connection and said that it goes away, to a socket that is full.
    private func finished(_ limits: TransportLimits = TransportLimits()) throws -> (EmbeddedServer, FullSocket) {
        let server = try EmbeddedServer(limits: limits) { _, _ in
            .immediate(ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "the end"))))
        }
        let socket = FullSocket()
        try server.channel.pipeline.syncOperations.addHandler(socket, position: .first)
        server.send(EmbeddedServer.preface + Frame.emptySettings.bytes + Frame.request(1).bytes)
        server.channel.pipeline.fireUserInboundEventTriggered(GracefulShutdownRequested())
        let ping = try #require(try server.receive().first { $0.type == Frame.ping })
        server.send(Frame(type: Frame.ping, flags: 1, payload: ping.payload).bytes)
        #expect(try server.receive().contains { $0.type == Frame.goAway })
        return (server, socket)
    }

    @Test func closesOnlyWhenTheSocketHasTheWholeAnswer() throws {
        let (server, socket) = try self.finished()
        #expect(server.isOpen, "what waits would be lost")
        socket.drain()
        server.channel.embeddedEventLoop.run()
        #expect(!server.isOpen)
    }

    @Test func aClientThatNeverTakesTheLastAnswerIsClosedThoughItGoesOnSending() throws {
        var limits = TransportLimits()
        limits.idleTimeout = .seconds(30)
        let (server, _) = try self.finished(limits)
        for _ in 0..<29 {
            server.advance(by: .seconds(1))
            server.send(Frame(type: Frame.windowUpdate, payload: [0, 0, 0, 1]).bytes)
        }
        #expect(server.isOpen)
        server.advance(by: .seconds(1))
        #expect(!server.isOpen)
    }

    @Test func aShutdownWhoseTimeIsUpCancelsHandlers() async throws {
        var limits = TransportLimits.patient
        limits.gracefulShutdownTimeout = .zero
        let (began, ended) = (Signal(), Signal())
        try await withServer(limits: limits) { _, _ in
            .streaming { request in
                await began.set()
                try? await Signal().waitOrCancel()
                await ended.set()
                return ServerResponse(status: .ok)
            }
        } _: { server in
            let connection = try await server.connect()
            let stream = try connection.openStream(server.request("/", .post))
            await began.wait()
            await server.server.shutdown(graceful: true)
            await ended.wait()
            await #expect(throws: TransportError.self) { try await stream.response() }
        }
    }

    @Test func runEndsWithTheShutdownAndWithCancellation() async throws {
        for isCancelled in [true, false] {
            let pki = try sharedPKI.get()
            let server = HTTPServer(
                host: "127.0.0.1",
                port: 0,
                tls: try ReloadableTLSContext(
                    server: TLSServerConfiguration(
                        certificateChainFile: pki.path("server.pem"),
                        privateKeyFile: pki.path("server.key")
                    )
                ),
                eventLoopGroup: .singleton,
                router: TestRouter { _, _ in .immediate(ServerResponse(status: .ok)) }
            )
            try await server.start()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await server.run() }
                if isCancelled { group.cancelAll() } else { server.beginGracefulShutdown() }
                try await group.waitForAll()
            }
        }
    }

    @Test func namesThePortThatIsInUse() async throws {
        try await withServer { _, _ in
            .immediate(ServerResponse(status: .ok))
        } _: { first in
            let second = HTTPServer(
                host: "127.0.0.1",
                port: first.port,
                tls: try ReloadableTLSContext(
                    server: TLSServerConfiguration(
                        certificateChainFile: first.pki.path("server.pem"),
                        privateKeyFile: first.pki.path("server.key")
                    )
                ),
                eventLoopGroup: .singleton,
                router: TestRouter { _, _ in .immediate(ServerResponse(status: .ok)) }
            )
            await #expect {
                try await second.start()
            } throws: {
                ($0 as? TransportError)?.code == .portInUse && "\($0)".contains("127.0.0.1:\(first.port)")
            }
        }
    }

    @Test func closesConnectionsOverTheLimit() async throws {
        var limits = TransportLimits.patient
        limits.connectionsMax = 1
        try await withServer(limits: limits) { _, _ in
            .immediate(ServerResponse(status: .ok))
        } _: { server in
            let first = try await server.connect()
            await #expect(throws: TransportError.self) { try await server.connect() }
            #expect(try await first.execute(server.request("/")).head.status == .ok)
        }
    }

    @Test func thePoolConnectsAgain() async throws {
        try await withServer { _, _ in
            .immediate(ServerResponse(status: .ok))
        } _: { server in
            let pool = HTTPClientPool(client: try server.client())
            let first = try await pool.connection(host: "localhost", port: server.port)
            let same = try await pool.connection(host: "localhost", port: server.port)
            #expect(first === same)
            first.close()
            let response = try await pool.execute(host: "localhost", port: server.port, server.request("/"))
            #expect(response.head.status == .ok)
            #expect(server.server.connectionCount >= 1)
            pool.closeAll()
            await #expect(throws: TransportError.self) {
                try await pool.connection(host: "localhost", port: server.port)
            }
        }
    }

    @Test func noticesADeadServer() throws {
        var limits = TransportLimits.patient
        limits.keepAliveInterval = .seconds(2)
        limits.keepAliveTimeout = .seconds(3)
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        let ready = channel.eventLoop.makePromise(of: HTTPClientConnection.self)
        let handler = try HTTP2ClientHandler(
            callbacks: HTTP2Callbacks(),
            options: HTTP2Options(limits: limits),
            limits: limits,
            remoteName: "test",
            ready: ready,
            now: channel.eventLoop.now
        )
        try channel.pipeline.syncOperations.addHandler(handler)
        channel.pipeline.fireUserInboundEventTriggered(
            TLSHandshakeCompleted(applicationProtocol: "h2", version: "TLSv1.3", peer: nil)
        )
        try channel.writeInbound(ByteBuffer(bytes: Frame.emptySettings.bytes))
        let connection = try ready.futureResult.wait()
        _ = try Self.frames(channel)
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(1_900))
        #expect(try Self.frames(channel).isEmpty)
        channel.embeddedEventLoop.advanceTime(by: .seconds(2))
        let ping = try #require(try Self.frames(channel).first)
        #expect(ping.type == Frame.ping)
        // An answer keeps the connection; silence ends it.
        try channel.writeInbound(ByteBuffer(bytes: Frame(type: Frame.ping, flags: 1, payload: ping.payload).bytes))
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(1_500))
        #expect(connection.isOpen)
        channel.embeddedEventLoop.advanceTime(by: .seconds(10))
        #expect(!connection.isOpen)
        #expect(!channel.isActive)
    }

    private static func frames(_ channel: EmbeddedChannel) throws -> [Frame] {
        var bytes = ByteBuffer()
        while var part = try channel.readOutbound(as: ByteBuffer.self) { bytes.writeBuffer(&part) }
        return Frame.parse(bytes)
    }
}

/// Runs blocking work on a thread of NIO's pool.
func offPool<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await NIOThreadPool.singleton.runIfActive(body)
}
