import HTTPTypes
import NIOCore
import NIOEmbedded

@testable import Transport

/// A server's HTTP/2 handler without sockets or TLS, on a clock that the test moves.
final class EmbeddedServer {
    let channel: EmbeddedChannel
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    init(
        limits: TransportLimits = TransportLimits(),
        _ plan: @escaping @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan
    ) throws {
        self.channel = EmbeddedChannel()
        try self.channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        let info = ConnectionInfo(remoteAddress: "test", applicationProtocol: "h2", tlsVersion: "none")
        let handler = try HTTP2ServerHandler(
            callbacks: HTTP2Callbacks(),
            options: HTTP2Options(limits: limits),
            limits: limits,
            router: TestRouter(plan: plan),
            info: info,
            now: self.channel.eventLoop.now
        )
        try self.channel.pipeline.syncOperations.addHandler(handler)
    }

    deinit { _ = try? self.channel.finish(acceptAlreadyClosed: true) }

    var isOpen: Bool { self.channel.isActive }

    /// Has the server read bytes, as one read of a socket would.
    func send(_ bytes: [UInt8]) {
        guard self.channel.isActive else { return }
        // An error closes the channel; `isOpen` and the frames tell.
        _ = try? self.channel.writeInbound(ByteBuffer(bytes: bytes))
        self.channel.embeddedEventLoop.run()
    }

    /// Frames the server has sent since the last call, as (type, flags, stream, payload).
    func receive() throws -> [Frame] {
        var bytes = ByteBuffer()
        while var part = try self.channel.readOutbound(as: ByteBuffer.self) { bytes.writeBuffer(&part) }
        return Frame.parse(bytes)
    }

    func advance(by duration: Duration) {
        self.channel.embeddedEventLoop.advanceTime(by: TimeAmount(duration))
    }
}

/// A socket that has taken nothing yet.
final class FullSocket: ChannelOutboundHandler {
    typealias OutboundIn = IOData
    private var waiting: [EventLoopPromise<Void>] = []

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if let promise { self.waiting.append(promise) }
        context.write(data, promise: nil)
    }

    func drain() {
        let all = self.waiting
        self.waiting = []
        for promise in all { promise.succeed() }
    }
}

/// One HTTP/2 frame as bytes.
struct Frame: Equatable {
    var type: UInt8
    var flags: UInt8 = 0
    var stream: UInt32 = 0
    var payload: [UInt8] = []

    static let data: UInt8 = 0
    static let headers: UInt8 = 1
    static let reset: UInt8 = 3
    static let settings: UInt8 = 4
    static let ping: UInt8 = 6
    static let goAway: UInt8 = 7
    static let windowUpdate: UInt8 = 8
    static let continuation: UInt8 = 9
    static let endStream: UInt8 = 1
    static let endHeaders: UInt8 = 4

    var bytes: [UInt8] {
        let count = self.payload.count
        return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), self.type, self.flags]
            + (0..<4).map { UInt8(self.stream >> (24 - 8 * $0) & 255) } + self.payload
    }

    /// The error code of a RST_STREAM or GOAWAY.
    var errorCode: UInt32 {
        let start = self.type == Self.goAway ? 4 : 0
        return self.payload[start..<start + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }

    static func parse(_ buffer: ByteBuffer) -> [Frame] {
        var buffer = buffer
        var frames: [Frame] = []
        while let head = buffer.readBytes(length: 9) {
            let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            let stream = head[5...].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let payload = buffer.readBytes(length: count) ?? []
            frames.append(Frame(type: head[3], flags: head[4], stream: stream, payload: payload))
        }
        return frames
    }

    /// A header block of literals without indexing (RFC 7541, section 6.2.2).
    static func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { name, value in [0] + Self.text(name) + Self.text(value) }
    }

    private static func text(_ text: String) -> [UInt8] {
        var count = text.utf8.count
        guard count >= 127 else { return [UInt8(count)] + Array(text.utf8) }
        var bytes: [UInt8] = [127]
        count -= 127
        while count >= 128 {
            bytes.append(UInt8(count % 128 + 128))
            count /= 128
        }
        return bytes + [UInt8(count)] + Array(text.utf8)
    }

    static func request(
        _ stream: UInt32,
        _ method: String = "GET",
        _ path: String = "/",
        _ fields: [(String, String)] = [],
        ends: Bool = true
    ) -> Frame {
        Frame(
            type: Self.headers,
            flags: Self.endHeaders | (ends ? Self.endStream : 0),
            stream: stream,
            payload: Self.block(
                [(":method", method), (":scheme", "https"), (":authority", "test"), (":path", path)] + fields
            )
        )
    }

    static let emptySettings = Frame(type: Self.settings)
}

/// A seeded generator (SplitMix64), so that a failing seed replays.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
