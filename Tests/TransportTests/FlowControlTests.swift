import HTTPTypes
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import Transport

/// Windows follow the consumer, seen in the frames themselves.
@Suite(.timeLimit(.minutes(10)))
struct FlowControlTests {
    private func server(
        _ handler: @escaping @Sendable (ServerRequest) async -> ServerResponse
    ) throws -> EmbeddedServer {
        var limits = TransportLimits()
        limits.streamWindowBytes = 65_535
        limits.responseBufferBytes = 10_000
        let server = try EmbeddedServer(limits: limits) { _, _ in .streaming(handler: handler) }
        server.send(EmbeddedServer.preface + Frame.emptySettings.bytes)
        _ = try server.receive()
        return server
    }

    private func windowBytes(_ frames: [Frame], stream: UInt32) -> Int {
        frames.filter { $0.type == Frame.windowUpdate && $0.stream == stream }.reduce(0) { sum, frame in
            sum + frame.payload.reduce(0) { $0 << 8 | Int($1) }
        }
    }

    @Test func aWindowOpensOnlyByWhatIsTaken() throws {
        let gate = Gate()
        let server = try self.server { request in
            await gate.wait()
            let body = try? await request.body.collect(upTo: 1 << 20)
            return ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "\(body?.readableBytes ?? -1)")))
        }
        server.send(Frame.request(1, "POST", ends: false).bytes)
        let part = [UInt8](repeating: 1, count: 16_000)
        for _ in 0..<4 { server.send(Frame(type: Frame.data, stream: 1, payload: part).bytes) }
        let before = try server.receive()
        #expect(self.windowBytes(before, stream: 1) == 0)
        gate.open()
        server.channel.embeddedEventLoop.run()
        #expect(self.windowBytes(try server.receive(), stream: 1) == 64_000)
        server.send(Frame(type: Frame.data, flags: Frame.endStream, stream: 1).bytes)
        #expect(try server.receive().contains { $0.payload == Array("64000".utf8) })
    }

    @Test func aWriterWaitsForTheClientsWindow() throws {
        let written = Counter()
        let server = try self.server { _ in
            ServerResponse(
                status: .ok,
                body: .stream { writer in
                    for _ in 0..<100 {
                        try await writer.write(ByteBuffer(repeating: 1, count: 5_000))
                        written.increment(by: 5_000)
                    }
                    return nil
                }
            )
        }
        server.send(Frame.request(1).bytes)
        func sent() throws -> Int {
            try server.receive().filter { $0.type == Frame.data }.reduce(0) { $0 + $1.payload.count }
        }
        // The client's first window is 65,535 bytes; behind it wait at most 10,000 and one write.
        #expect(try sent() == 65_535)
        #expect((65_535...80_535).contains(written.value))
        let opened = Frame(type: Frame.windowUpdate, stream: 1, payload: [0, 0, 0x27, 0x10]).bytes  // 10,000
        let connection = Frame(type: Frame.windowUpdate, payload: [0, 0, 0x27, 0x10]).bytes
        server.send(opened + connection)
        #expect(try sent() == 10_000)
        #expect((75_535...90_535).contains(written.value))
    }

    @Test func aBodyThatFailsBehindAShutWindowResetsItsStream() throws {
        let gate = Gate()
        let server = try self.server { _ in
            ServerResponse(
                status: .ok,
                body: .stream { writer in
                    // More than the window of 65,535 bytes, and no write waits.
                    for _ in 0..<14 { try await writer.write(ByteBuffer(repeating: 1, count: 5_000)) }
                    await gate.wait()
                    throw CancellationError()
                }
            )
        }
        server.send(Frame.request(1).bytes)
        #expect(try server.receive().reduce(0) { $0 + ($1.type == Frame.data ? $1.payload.count : 0) } == 65_535)
        gate.open()
        server.channel.embeddedEventLoop.run()
        let frames = try server.receive()
        #expect(frames.map(\.type) == [Frame.reset])
        #expect(frames.first?.stream == 1)
    }

    @Test func aLostConnectionLeavesNothingBehind() throws {
        weak var body: InboundBody?
        weak var handler: HTTP2ServerHandler?
        let held = Mutex<Unowned?>(nil)
        do {
            let server = try self.server { request in
                held.withLock { $0 = Unowned(body: request.body.source) }
                _ = try? await request.body.collect(upTo: 1 << 20)
                return ServerResponse(status: .ok)
            }
            server.send(Frame.request(1, "POST", ends: false).bytes)
            server.send(Frame(type: Frame.data, stream: 1, payload: [1]).bytes)
            body = held.withLock { $0?.body }
            handler = try server.channel.pipeline.syncOperations.handler(type: HTTP2ServerHandler.self)
            #expect(body != nil && handler != nil)
            server.channel.close(promise: nil)
            server.channel.embeddedEventLoop.run()
        }
        #expect(body == nil)
        #expect(handler == nil)
    }

    @Test func aRefusedBodyGivesTheConnectionsWindowBack() throws {
        var limits = TransportLimits()
        limits.connectionWindowBytes = 65_535
        let server = try EmbeddedServer(limits: limits) { _, _ in
            .collected(bodyBytesMax: 10) { _, _ in ServerResponse(status: .ok) }
        }
        server.send(EmbeddedServer.preface + Frame.emptySettings.bytes)
        let part = [UInt8](repeating: 1, count: 16_000)
        var given = 0
        for stream in stride(from: UInt32(1), to: 9, by: 2) {
            server.send(Frame.request(stream, "POST", ends: false).bytes)
            server.send(Frame(type: Frame.data, flags: Frame.endStream, stream: stream, payload: part).bytes)
            given += self.windowBytes(try server.receive(), stream: 0)
        }
        #expect(given >= 32_000)
    }
}

/// A body that is looked at without being kept.
struct Unowned: Sendable {
    weak let body: InboundBody?
}

/// Holds one task back until it is opened; the task goes on where its executor runs.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = self.state.withLock { state in
                if !state.isOpen { state.waiter = continuation }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiter = self.state.withLock { state in
            state.isOpen = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}
