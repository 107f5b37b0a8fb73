import HTTPTypes
import NIOCore
import NIOEmbedded
import Testing

@testable import Transport

/// HTTP/1.1 without sockets or TLS, on a clock that the test moves.
@Suite(.timeLimit(.minutes(10)))
struct HTTP1Tests {
    private static let plan: @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan = { head, _ in
        switch head.path {
        case "/count":
            .collected(bodyBytesMax: 1_000) { request, body in
                ServerResponse(
                    status: .ok,
                    body: .bytes(ByteBuffer(string: "\(request.head.authority ?? "-") \(body.readableBytes)"))
                )
            }
        case "/empty": .immediate(ServerResponse(status: .noContent))
        default: .immediate(ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "path \(head.path ?? "-")"))))
        }
    }

    private func channel(_ limits: TransportLimits = TransportLimits()) throws -> EmbeddedChannel {
        let channel = EmbeddedChannel()
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        try addHTTP1Handlers(
            to: channel,
            limits: limits,
            router: TestRouter(plan: Self.plan),
            info: ConnectionInfo(remoteAddress: "test", applicationProtocol: "http/1.1", tlsVersion: "none")
        )
        return channel
    }

    private func exchange(_ text: String, on channel: EmbeddedChannel) throws -> String {
        _ = try? channel.writeInbound(ByteBuffer(string: text))
        channel.embeddedEventLoop.run()
        return try self.answer(of: channel)
    }

    private func answer(of channel: EmbeddedChannel) throws -> String {
        var bytes = ByteBuffer()
        while let part = try channel.readOutbound(as: IOData.self) {
            if case .byteBuffer(var buffer) = part { bytes.writeBuffer(&buffer) }
        }
        return String(buffer: bytes)
    }

    @Test func keepsTheConnection() throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        for path in ["/a", "/b?c=d"] {
            let answer = try self.exchange("GET \(path) HTTP/1.1\r\nHost: test\r\n\r\n", on: channel)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(answer.hasSuffix("\r\n\r\npath \(path)"))
        }
        #expect(channel.isActive)
        let last = try self.exchange("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", on: channel)
        #expect(last.contains("connection: close"))
        #expect(!channel.isActive)
    }

    @Test(arguments: [false, true])
    func closesOnlyWhenTheSocketHasTheWholeAnswer(isShutdown: Bool) throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let socket = FullSocket()
        try channel.pipeline.syncOperations.addHandler(socket, position: .first)
        let field = isShutdown ? "" : "Connection: close\r\n"
        _ = try self.exchange("GET / HTTP/1.1\r\nHost: test\r\n\(field)\r\n", on: channel)
        if isShutdown { channel.pipeline.fireUserInboundEventTriggered(GracefulShutdownRequested()) }
        channel.embeddedEventLoop.run()
        #expect(channel.isActive, "what waits would be lost")
        socket.drain()
        channel.embeddedEventLoop.run()
        #expect(!channel.isActive)
    }

    @Test func aClientThatNeverTakesTheLastAnswerIsClosed() throws {
        var limits = TransportLimits()
        limits.idleTimeout = .seconds(30)
        let channel = try self.channel(limits)
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        try channel.pipeline.syncOperations.addHandler(FullSocket(), position: .first)
        _ = try self.exchange("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", on: channel)
        #expect(channel.isActive)
        channel.embeddedEventLoop.advanceTime(by: .seconds(61))
        #expect(!channel.isActive)
    }

    @Test func answersPipelinedRequestsInOrder() throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let requests = (0..<500).map { "GET /\($0) HTTP/1.1\r\nHost: test\r\n\r\n" }.joined()
        let answer = try self.exchange(requests, on: channel)
        let order = answer.split(separator: "path /").dropFirst().map { Int($0.prefix { $0.isNumber }) }
        #expect(order == (0..<500).map(Optional.some))
    }

    @Test func collectsChunkedAndSizedBodies() throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let head = "POST /count HTTP/1.1\r\nHost: test\r\n"
        let chunked = head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        #expect(try self.exchange(chunked, on: channel).hasSuffix("test 5"))
        let body = String(repeating: "x", count: 1_000)
        let sized = head + "Content-Length: 1000\r\n\r\n" + body
        #expect(try self.exchange(sized, on: channel).hasSuffix("test 1000"))
        for text in [
            head + "Content-Length: 1001\r\n\r\nx" + body,
            head + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + body + "x\r\n0\r\n\r\n",
        ] {
            let answer = try self.exchange(text, on: channel)
            #expect(answer.hasPrefix("HTTP/1.1 413"))
            #expect(channel.isActive)
        }
        #expect(try self.exchange("GET /after HTTP/1.1\r\nHost: test\r\n\r\n", on: channel).hasSuffix("path /after"))
    }

    @Test func honoursExpectHeadAndNoContent() throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let head = "POST /count HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        #expect(try self.exchange(head, on: channel) == "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(try self.exchange("abc", on: channel).hasSuffix("test 3"))
        let refused = head.replacing("Length: 3", with: "Length: 3000")
        #expect(try self.exchange(refused, on: channel).hasPrefix("HTTP/1.1 413"))

        let other = try self.channel()
        defer { _ = try? other.finish(acceptAlreadyClosed: true) }
        let answer = try self.exchange("HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n", on: other)
        #expect(answer.contains("content-length: 7") && answer.hasSuffix("\r\n\r\n"))
        let empty = try self.exchange("GET /empty HTTP/1.1\r\nHost: test\r\n\r\n", on: other)
        #expect(empty.hasPrefix("HTTP/1.1 204") && !empty.contains("content-length") && empty.hasSuffix("\r\n\r\n"))
    }

    @Test(arguments: [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET relative HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n",
    ])
    func answersMalformedRequestsWith400(request: String) throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let answer = try self.exchange(request, on: channel)
        #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
        #expect(answer.contains("connection: close"))
        #expect(!channel.isActive)
    }

    @Test func answersALongHeadWith431() throws {
        var limits = TransportLimits()
        limits.headerBytesMax = 1_000
        let long = String(repeating: "a", count: 2_000)
        let many = (0..<100).map { "x-\($0): aaaaaaaaaaaaaaaa\r\n" }.joined()
        for text in ["x: \(long)\r\n", many] {
            let channel = try self.channel(limits)
            defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
            let answer = try self.exchange("GET / HTTP/1.1\r\nHost: test\r\n\(text)\r\n", on: channel)
            #expect(answer.hasPrefix("HTTP/1.1 431"))
            #expect(!channel.isActive)
        }
    }

    @Test func closesOnSlowHeadsAndIdleConnections() throws {
        let slow = try self.channel()
        defer { _ = try? slow.finish(acceptAlreadyClosed: true) }
        for _ in 0..<20 where slow.isActive {
            _ = try self.exchange("G", on: slow)
            slow.embeddedEventLoop.advanceTime(by: .seconds(1))
        }
        #expect(!slow.isActive)

        let idle = try self.channel()
        defer { _ = try? idle.finish(acceptAlreadyClosed: true) }
        _ = try self.exchange("GET / HTTP/1.1\r\nHost: test\r\n\r\n", on: idle)
        idle.embeddedEventLoop.advanceTime(by: .seconds(100))
        #expect(idle.isActive)
        idle.embeddedEventLoop.advanceTime(by: .seconds(30))
        #expect(!idle.isActive)
    }

    @Test func answersASlowBodyWith408() throws {
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        _ = try self.exchange("POST /count HTTP/1.1\r\nHost: test\r\nContent-Length: 900\r\n\r\n", on: channel)
        for _ in 0..<14 where channel.isActive {
            _ = try? channel.writeInbound(ByteBuffer(string: "x"))
            channel.embeddedEventLoop.advanceTime(by: .seconds(10))
        }
        #expect(try self.answer(of: channel).hasPrefix("HTTP/1.1 408"))
        #expect(!channel.isActive)
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func survivesRandomBytes(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let channel = try self.channel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let words = [
            "GET ", "POST ", "/count", " HTTP/1.1", "\r\n", "Host: a", "\r\n\r\n", "Content-Length: 5", "0", ":",
        ]
        for _ in 0..<200 where channel.isActive {
            let text =
                Int.random(in: 0..<8, using: &random) == 0
                ? String(UnicodeScalar(UInt8.random(in: 0...255, using: &random)))
                : words.randomElement(using: &random) ?? ""
            _ = try self.exchange(text, on: channel)
        }
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }
}
