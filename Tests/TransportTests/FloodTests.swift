import HTTPTypes
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import Transport

/// What a hostile client can send; the server ends the connection or the stream, and never crashes.
@Suite(.timeLimit(.minutes(10)))
struct FloodTests {
    private static let enhanceYourCalm: UInt32 = 0xb
    private static let opening = EmbeddedServer.preface + Frame.emptySettings.bytes

    private func server(
        _ change: (inout TransportLimits) -> Void = { _ in },
        plan: @escaping @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan = { _, _ in
            .immediate(ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "ok"))))
        }
    ) throws -> EmbeddedServer {
        var limits = TransportLimits()
        limits.controlFramesMax = 100
        limits.controlFramesPerSecond = 10
        limits.streamResetsMax = 50
        limits.streamResetsPerSecond = 5
        change(&limits)
        let server = try EmbeddedServer(limits: limits, plan)
        server.send(Self.opening)
        return server
    }

    private func expectCalm(_ server: EmbeddedServer, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let last = try #require(try server.receive().last { $0.type == Frame.goAway }, sourceLocation: sourceLocation)
        #expect(last.errorCode == Self.enhanceYourCalm, sourceLocation: sourceLocation)
        #expect(!server.isOpen, sourceLocation: sourceLocation)
    }

    @Test func answersOrdinaryRequests() throws {
        let server = try self.server()
        server.send(Frame.request(1).bytes)
        let frames = try server.receive()
        #expect(frames.contains { $0.type == Frame.headers && $0.stream == 1 })
        #expect(frames.contains { $0.type == Frame.data && $0.payload == Array("ok".utf8) })
        #expect(server.isOpen)
    }

    @Test func endsAPingFlood() throws {
        let server = try self.server()
        let ping = Frame(type: Frame.ping, payload: [UInt8](repeating: 1, count: 8)).bytes
        for _ in 0..<90 { server.send(ping) }
        #expect(server.isOpen)
        for _ in 0..<20 { server.send(ping) }
        try self.expectCalm(server)
    }

    @Test func forgivesPingsThatComeSlowly() throws {
        let server = try self.server()
        let ping = Frame(type: Frame.ping, payload: [UInt8](repeating: 1, count: 8)).bytes
        for _ in 0..<50 {
            for _ in 0..<10 { server.send(ping) }
            server.advance(by: .seconds(1))
        }
        #expect(server.isOpen)
    }

    @Test(arguments: [
        Frame.emptySettings,
        Frame(type: 2, stream: 1, payload: [0, 0, 0, 0, 1]),  // PRIORITY
        Frame(type: 0x77, payload: [1, 2, 3]),  // An extension nobody knows.
        Frame(type: Frame.windowUpdate, payload: [0, 0, 0, 1]),
    ])
    func endsOtherControlFloods(frame: Frame) throws {
        let server = try self.server()
        // Unknown frames are ignored by the protocol's own rule, and cost nothing.
        for _ in 0..<300 { server.send(frame.bytes) }
        if frame.type == 0x77 {
            server.send(Frame.request(1).bytes)
            #expect(server.isOpen)
        } else {
            try self.expectCalm(server)
        }
    }

    @Test func endsAFloodOfEmptyData() throws {
        let server = try self.server(plan: { _, _ in
            .collected(bodyBytesMax: 100) { _, _ in ServerResponse(status: .ok) }
        })
        server.send(Frame.request(1, "POST", ends: false).bytes)
        for _ in 0..<200 { server.send(Frame(type: Frame.data, stream: 1).bytes) }
        try self.expectCalm(server)
    }

    @Test func endsRapidResets() throws {
        let server = try self.server()
        var stream: UInt32 = 1
        for _ in 0..<200 where server.isOpen {
            server.send(
                Frame.request(stream).bytes + Frame(type: Frame.reset, stream: stream, payload: [0, 0, 0, 8]).bytes
            )
            stream += 2
        }
        #expect(!server.isOpen)
    }

    @Test func refusesStreamsOverTheLimit() throws {
        let server = try self.server(
            { $0.concurrentStreamsMax = 4 },
            plan: { _, _ in
                .collected(bodyBytesMax: 100) { _, _ in ServerResponse(status: .ok) }
            }
        )
        for stream in stride(from: UInt32(1), to: 13, by: 2) {
            server.send(Frame.request(stream, "POST", ends: false).bytes)
        }
        let resets = try server.receive().filter { $0.type == Frame.reset }
        #expect(resets.map(\.stream) == [9, 11])
        #expect(server.isOpen)
    }

    @Test func endsAContinuationFlood() throws {
        let server = try self.server()
        var request = Frame.request(1)
        request.flags = Frame.endStream
        server.send(request.bytes)
        let field = Frame.block([("x", "y")])
        for _ in 0..<50 { server.send(Frame(type: Frame.continuation, stream: 1, payload: field).bytes) }
        #expect(!server.isOpen)
    }

    @Test func answersALongHeadWith431() throws {
        let server = try self.server({ $0.headerBytesMax = 2_000 })
        let long = String(repeating: "a", count: 3_000)
        server.send(Frame.request(1, "GET", "/", [("x-long", long)]).bytes)
        let frames = try server.receive()
        #expect(frames.contains { $0.type == Frame.data && $0.payload.starts(with: Array("431".utf8)) })
        server.send(Frame.request(3).bytes)
        #expect(try server.receive().contains { $0.stream == 3 && $0.payload == Array("ok".utf8) })
    }

    @Test func resetsAHeaderBomb() throws {
        let server = try self.server({ $0.headerBytesMax = 2_000 })
        // One field is put into the HPACK table, then named again with one byte each time.
        let value = String(repeating: "b", count: 3_000)
        let indexed = [UInt8(0x40)] + Frame.block([("x-bomb", value)]).dropFirst()
        var request = Frame.request(1)
        request.payload += indexed + [UInt8](repeating: 0x80 | 62, count: 5_000)
        server.send(request.bytes)
        #expect(try server.receive().contains { $0.type == Frame.reset && $0.stream == 1 })
        server.send(Frame.request(3).bytes)
        #expect(try server.receive().contains { $0.stream == 3 && $0.payload == Array("ok".utf8) })
    }

    @Test(arguments: [
        [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "no-slash")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "/a b\r\nx: y")],
        [(":method", "G T"), (":scheme", "https"), (":authority", "test"), (":path", "/")],
        [(":method", "GET"), (":scheme", "https"), (":authority", "test")],
        [(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":bogus", "x")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("Upper", "x")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", "close")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("x", "a\0b")],
        [(":method", "POST"), (":scheme", "https"), (":path", "/"), ("content-length", "-1")],
    ])
    func resetsMalformedRequests(fields: [(String, String)]) throws {
        let routed = Counter()
        let server = try self.server(plan: { _, _ in
            routed.increment()
            return .immediate(ServerResponse(status: .ok))
        })
        server.send(
            Frame(
                type: Frame.headers,
                flags: Frame.endHeaders | Frame.endStream,
                stream: 1,
                payload: Frame.block(fields)
            ).bytes
        )
        #expect(try server.receive().contains { $0.type == Frame.reset && $0.stream == 1 })
        #expect(routed.value == 0)
        server.send(Frame.request(3).bytes)
        #expect(routed.value == 1)
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func survivesRandomBytes(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let server = try self.server(plan: { _, _ in
            .collected(bodyBytesMax: 1_000) { _, body in ServerResponse(status: .ok, body: .bytes(body)) }
        })
        for _ in 0..<200 where server.isOpen {
            var bytes: [UInt8]
            if UInt8.random(in: 0..<4, using: &random) == 0 {
                bytes = (0..<Int.random(in: 1..<200, using: &random)).map { _ in .random(in: 0...255, using: &random) }
            } else {
                var frame = Frame(type: .random(in: 0..<11, using: &random))
                frame.flags = .random(in: 0...255, using: &random)
                frame.stream = .random(in: 0..<9, using: &random)
                frame.payload = (0..<Int.random(in: 0..<40, using: &random)).map { _ in
                    .random(in: 0...255, using: &random)
                }
                bytes = frame.bytes
                if Bool.random(using: &random) { bytes += Frame.request(.random(in: 1..<99, using: &random)).bytes }
            }
            server.send(bytes)
        }
        _ = try server.receive()
        _ = try? server.channel.finish(acceptAlreadyClosed: true)
    }

    @Test func closesWithoutThePreface() throws {
        let server = try EmbeddedServer { _, _ in .immediate(ServerResponse(status: .ok)) }
        server.send(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        #expect(!server.isOpen)
    }

    @Test func endsAHeadThatNeverEnds() throws {
        let server = try self.server({ $0.headTimeout = .seconds(10) })
        var request = Frame.request(1)
        request.flags = Frame.endStream
        server.send(request.bytes)
        server.advance(by: .seconds(9))
        #expect(server.isOpen)
        server.advance(by: .seconds(4))
        try self.expectCalm(server)
    }

    @Test func resetsABodyThatNeverEnds() throws {
        let server = try self.server(
            { $0.collectTimeout = .seconds(60) },
            plan: { _, _ in
                .collected(bodyBytesMax: 1_000) { _, _ in ServerResponse(status: .ok) }
            }
        )
        server.send(Frame.request(1, "POST", ends: false).bytes)
        for _ in 0..<6 {
            server.advance(by: .seconds(9))
            server.send(Frame(type: Frame.data, stream: 1, payload: [1]).bytes)
        }
        #expect(try !server.receive().contains { $0.type == Frame.reset })
        server.advance(by: .seconds(10))
        #expect(try server.receive().contains { $0.type == Frame.reset && $0.stream == 1 })
        #expect(server.isOpen)
    }

    @Test func closesAnIdleConnection() throws {
        let server = try self.server({ $0.idleTimeout = .seconds(60) })
        server.advance(by: .seconds(50))
        server.send(Frame.request(1).bytes)
        server.advance(by: .seconds(55))
        #expect(server.isOpen)
        server.advance(by: .seconds(20))
        #expect(!server.isOpen)
    }

    @Test func closesOnAClientThatNeitherSendsNorReads() throws {
        let reading = try self.server(
            { $0.idleTimeout = .seconds(60) },
            plan: { _, _ in
                .streaming { request in
                    _ = try? await request.body.collect(upTo: 100)
                    return ServerResponse(status: .ok)
                }
            }
        )
        reading.send(Frame.request(1, "POST", ends: false).bytes)
        reading.advance(by: .seconds(80))
        #expect(!reading.isOpen)

        // 100,000 bytes do not fit into the client's window of 65,535.
        let writing = try self.server(
            { $0.idleTimeout = .seconds(60) },
            plan: { _, _ in
                .immediate(ServerResponse(status: .ok, body: .bytes(ByteBuffer(repeating: 1, count: 100_000))))
            }
        )
        writing.send(Frame.request(1).bytes)
        writing.advance(by: .seconds(80))
        #expect(!writing.isOpen)
    }

    @Test func endsAHandshakeThatNeverEnds() throws {
        let pki = try sharedPKI.get()
        let context = try TLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.path("server.pem"),
                privateKeyFile: pki.path("server.key")
            )
        )
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        try channel.pipeline.syncOperations.addHandler(
            TLSHandler(context: context, peer: "test", handshakeTimeout: .seconds(10))
        )
        try channel.writeInbound(ByteBuffer(bytes: [22, 3, 1]))  // The beginning of a ClientHello.
        channel.embeddedEventLoop.advanceTime(by: .seconds(9))
        #expect(channel.isActive)
        channel.embeddedEventLoop.advanceTime(by: .seconds(2))
        #expect(!channel.isActive)
        #expect { try channel.throwIfErrorCaught() } throws: { ($0 as? TransportError)?.code == .timeout }
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func refusesRandomBytesInsteadOfAHandshake(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let pki = try sharedPKI.get()
        let context = try TLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.path("server.pem"),
                privateKeyFile: pki.path("server.key")
            )
        )
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        try channel.pipeline.syncOperations.addHandler(
            TLSHandler(context: context, peer: "test", handshakeTimeout: .seconds(10))
        )
        var first: [UInt8] = (0..<400).map { _ in .random(in: 0...255, using: &random) }
        first[0] = 0x47  // Never the beginning of a record.
        #expect(throws: TransportError.self) { try channel.writeInbound(ByteBuffer(bytes: first)) }
        #expect(!channel.isActive)
    }
}

/// A number that closures of several threads count up.
final class Counter: Sendable {
    private let count = Mutex(0)

    var value: Int { self.count.withLock { $0 } }

    func increment(by step: Int = 1) { self.count.withLock { $0 += step } }
}
