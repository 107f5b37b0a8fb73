import HTTPTypes
import NIOCore
import Synchronization
import Testing

@testable import Transport

@Suite(.timeLimit(.minutes(10)))
struct StreamingTests {
    /// What may lie between a producer and its consumer: a writer's buffer, the window, what is in one read and one
    /// chunk on either side.
    private static let betweenBytesMax = 64 * 1024 + 65_536 + 2 * 256 * 1024 + 64 * 1024
    private static let chunk = ByteBuffer(repeating: 3, count: 32 * 1024)
    private static let chunks = 300

    private static var limits: TransportLimits {
        var limits = TransportLimits.patient
        limits.responseBufferBytes = 64 * 1024
        limits.streamWindowBytes = 65_536
        limits.writeBufferBytesMax = 64 * 1024
        return limits
    }

    @Test func aSlowServerHoldsTheClientBack() async throws {
        let (taken, halfway) = (Counter(), Signal())
        try await withServer(limits: Self.limits) { _, _ in
            .streaming { request in
                await halfway.wait()
                do {
                    for try await bytes in request.body { taken.increment(by: bytes.readableBytes) }
                } catch {
                    return ServerResponse(status: .internalServerError)
                }
                return ServerResponse(status: .ok)
            }
        } _: { server in
            let connection = try await server.connect(limits: Self.limits)
            let lead = MaximumLead()
            let response = try await connection.execute(
                server.request("/", .post),
                body: .stream { writer in
                    for index in 1...Self.chunks {
                        try await writer.write(Self.chunk)
                        lead.note(index * Self.chunk.readableBytes - taken.value)
                        if index == 3 { await halfway.set() }
                    }
                    return nil
                }
            )
            #expect(response.head.status == .ok)
            #expect(taken.value == Self.chunks * Self.chunk.readableBytes)
            #expect(lead.value < Self.betweenBytesMax)
        }
    }

    @Test func aBodyGivesWhatWasLookedAtAndNoMore() async throws {
        let body = OutboundBody(bytesMax: 1 << 20) {}
        guard case .starved = body.look(upTo: 10) else { throw StreamingError("nothing is there yet") }
        try await body.write([ByteBuffer(string: "abc"), ByteBuffer(), ByteBuffer(string: "defg")], ahead: 0)
        guard case .bytes(5) = body.look(upTo: 5) else { throw StreamingError("five bytes are wanted") }
        #expect(body.waitingBytes == 7, "looking takes nothing")
        #expect(Self.texts(body.take(5)) == ["abc", "de"])
        #expect(body.take(3) == nil, "there are two")
        body.finish(trailers: nil)
        guard case .bytes(1) = body.look(upTo: 1) else { throw StreamingError("the end is not reached yet") }
        guard case .end(2, nil) = body.look(upTo: 9) else { throw StreamingError("the end is reached") }
        #expect(Self.texts(body.take(2)) == ["fg"] && body.waitingBytes == 0)
        #expect(Self.texts(body.take(0)) == [])
    }

    private static func texts(_ parts: [ByteBuffer]?) -> [String]? { parts?.map { String(buffer: $0) } }

    @Test func whoQueuesIsToldWhenToWait() async throws {
        let body = OutboundBody(bytesMax: 10) {}
        let part = ByteBuffer(repeating: 1, count: 40)
        #expect(try body.queue([part, part], ahead: 100))
        #expect(try !body.queue([part], ahead: 100), "120 of 100 wait")
        #expect(body.waitingBytes == 120, "what was queued is not refused")
        async let room: Void = body.waitForRoom(ahead: 100)
        #expect(body.take(70)?.count == 2)
        try await room
        body.close(TransportError(.streamReset, "gone"))
        #expect(throws: TransportError.self) { try body.queue([part], ahead: 100) }
        await #expect(throws: TransportError.self) { try await body.waitForRoom(ahead: 0) }
    }

    @Test func aWriterThatMayBeAheadWaitsForHalfOfThat() async throws {
        let body = OutboundBody(bytesMax: 10) {}
        let part = ByteBuffer(repeating: 1, count: 40)
        try await body.write([part, part], ahead: 100)
        #expect(body.waitingBytes == 80, "no reader, and yet it returns")
        let written = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await body.write([part], ahead: 100)
                written.increment(by: 1)
            }
            while body.waitingBytes < 120 { await Task.yield() }
            #expect(body.take(60) != nil && written.value == 0, "60 of 100 wait")
            #expect(body.take(10) != nil)
            try await group.waitForAll()
            #expect(written.value == 1)
        }
    }

    @Test func everyObserverOfAResponseSeesAllOfIt() async throws {
        let (first, second) = (Counter(), Counter())
        try await withServer { _, _ in
            .streaming { _ in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        let once = writer.observed { first.increment(by: $0.readableBytes) }
                        let twice = once.observed { second.increment(by: $0.readableBytes) }
                        try await twice.write(Self.chunk)
                        try await once.write(Self.chunk)
                        return nil
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect()
            let response = try await connection.execute(server.request("/"))
            let body = try await response.body.collect(upTo: Self.chunk.readableBytes * 2)
            #expect(body.readableBytes == Self.chunk.readableBytes * 2)
            #expect(first.value == Self.chunk.readableBytes * 2)
            #expect(second.value == Self.chunk.readableBytes)
        }
    }

    @Test func aSlowClientHoldsTheServerBack() async throws {
        let (taken, lead) = (Counter(), MaximumLead())
        let halfway = Signal()
        try await withServer(limits: Self.limits) { _, _ in
            .streaming { _ in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        for index in 1...Self.chunks {
                            try await writer.write(Self.chunk)
                            lead.note(index * Self.chunk.readableBytes - taken.value)
                            if index == 3 { await halfway.set() }
                        }
                        return nil
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect(limits: Self.limits)
            let response = try await connection.execute(server.request("/"))
            await halfway.wait()
            // Another stream goes on meanwhile: only this one's window is shut.
            for try await bytes in response.body { taken.increment(by: bytes.readableBytes) }
            #expect(taken.value == Self.chunks * Self.chunk.readableBytes)
            #expect(lead.value < Self.betweenBytesMax)
        }
    }

    @Test func anAbandonedStreamDoesNotShutTheConnectionsWindow() async throws {
        var limits = Self.limits
        limits.connectionWindowBytes = 256 * 1024
        let clientLimits = limits
        try await withServer(limits: limits) { head, _ in
            .streaming { request in
                if head.path == "/ignore" { return ServerResponse(status: .ok) }
                return ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        for _ in 0..<20 { try await writer.write(Self.chunk) }
                        return nil
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect(limits: clientLimits)
            for _ in 0..<40 {
                // Of each response only the first bytes are taken; of each request body nothing.
                let response = try await connection.execute(server.request("/"))
                var iterator = response.body.makeAsyncIterator()
                _ = try await iterator.next()
                let ignored = try await connection.execute(
                    server.request("/ignore", .post),
                    body: .bytes(ByteBuffer(repeating: 1, count: 60_000))
                )
                #expect(ignored.head.status == .ok)
            }
            let last = try await connection.execute(server.request("/"))
            #expect(try await last.collect(upTo: 1 << 20).readableBytes == 20 * Self.chunk.readableBytes)
        }
    }

    @Test func aBodyTakenAfterItsStreamsEndDoesNotShutTheConnectionsWindow() async throws {
        var limits = Self.limits
        limits.connectionWindowBytes = 128 * 1024
        let clientLimits = limits
        try await withServer(limits: limits) { head, _ in
            guard head.method == .post else {
                return .immediate(ServerResponse(status: .ok, body: .bytes(ByteBuffer(repeating: 1, count: 30_000))))
            }
            return .streaming { request in
                // Answers only when the whole body is here, without having taken it. A loop that spins on the thread of
                // the connection would keep it from reading the rest.
                let source = request.body.source
                await Task.detached {  // task-owner: awaited here
                    while !source.isOver { await Task.yield() }
                }.value
                return ServerResponse(status: .ok)
            }
        } _: { server in
            let connection = try await server.connect(limits: clientLimits)
            for _ in 0..<30 {
                let response = try await connection.execute(server.request("/"))
                while !response.body.source.isOver { await Task.yield() }
                #expect(try await response.collect(upTo: 30_000).readableBytes == 30_000)
                let upload = try await connection.execute(
                    server.request("/", .post),
                    body: .bytes(ByteBuffer(repeating: 1, count: 30_000))
                )
                #expect(upload.head.status == .ok)
            }
        }
    }

    @Test func cancellingTheClientCancelsTheHandler() async throws {
        let (began, ended) = (Signal(), Signal())
        let wasCancelled = Counter()
        try await withServer { _, _ in
            .streaming { request in
                await began.set()
                do {
                    for try await _ in request.body {}
                } catch {
                    if (error as? TransportError)?.code == .streamReset || error is CancellationError {
                        wasCancelled.increment()
                    }
                }
                if Task.isCancelled { wasCancelled.increment() }
                await ended.set()
                return ServerResponse(status: .ok)
            }
        } _: { server in
            let connection = try await server.connect()
            let never = Signal()
            await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    _ = try await connection.execute(
                        server.request("/", .post),
                        body: .stream { writer in
                            try await writer.write(Self.chunk)
                            try await never.waitOrCancel()
                            return nil
                        }
                    )
                }
                await began.wait()
                group.cancelAll()
                await #expect(throws: CancellationError.self) { try await group.next() }
            }
            await ended.wait()
            #expect(wasCancelled.value == 2)
            #expect(connection.isOpen)
        }
    }

    @Test func lettingGoOfAResponseStopsItsProducer() async throws {
        let stopped = Signal()
        try await withServer(limits: Self.limits) { _, _ in
            .streaming { _ in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        do {
                            for _ in 0..<1_000_000 { try await writer.write(Self.chunk) }
                        } catch {
                            await stopped.set()
                            throw error
                        }
                        return nil
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect(limits: Self.limits)
            do {
                let response = try await connection.execute(server.request("/"))
                #expect(response.head.status == .ok)
            }
            await stopped.wait()
            #expect(connection.isOpen)
        }
    }

    @Test func aFailingProducerResetsTheStream() async throws {
        struct Broken: Error {}
        try await withServer { _, _ in
            .streaming { _ in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        try await writer.write(Self.chunk)
                        throw Broken()
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect()
            let response = try await connection.execute(server.request("/"))
            await #expect {
                _ = try await response.collect(upTo: 1 << 20)
            } throws: {
                ($0 as? TransportError)?.code == .streamReset
            }
            #expect(connection.isOpen)
        }
    }

    @Test func tryWriteRefusesWhatDoesNotFit() async throws {
        let gate = Signal()
        try await withServer(limits: Self.limits) { _, _ in
            .streaming { request in
                await gate.wait()
                let body = try? await request.body.collect(upTo: 1 << 30)
                return ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "\(body?.readableBytes ?? -1)")))
            }
        } _: { server in
            let connection = try await server.connect(limits: Self.limits)
            let stream = try connection.openStream(server.request("/", .post))
            var accepted = 0
            var refusals = 0
            // The loop may take some bytes between refusals; the window bounds how often.
            while refusals < 1_000 {
                if stream.tryWrite(Self.chunk) { accepted += Self.chunk.readableBytes } else { refusals += 1 }
                #expect(accepted < Self.betweenBytesMax)
            }
            await gate.set()
            stream.finish()
            #expect(!stream.tryWrite(Self.chunk))
            let response = try await stream.response()
            #expect(String(buffer: try await response.collect(upTo: 100)) == "\(accepted)")
        }
    }

    @Test func smallWritesFromAnotherThreadArriveInOrder() async throws {
        try await withServer { _, _ in
            .streaming { request in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        for try await bytes in request.body { try await writer.write(bytes) }
                        return nil
                    }
                )
            }
        } _: { server in
            let connection = try await server.connect()
            let stream = try connection.openStream(server.request("/", .post))
            let response = try await stream.response()
            async let echoed = response.collect(upTo: 1 << 20)
            for number in 0..<20_000 {
                var bytes = ByteBuffer()
                bytes.writeInteger(UInt32(number))
                while !stream.tryWrite(bytes) { await Task.yield() }
            }
            stream.finish()
            var bytes = try await echoed
            #expect(bytes.readableBytes == 80_000)
            for number in 0..<20_000 { #expect(bytes.readInteger(as: UInt32.self) == UInt32(number)) }
        }
    }

    @Test func aLostConnectionFailsWhatIsOpen() async throws {
        let (began, closed) = (Signal(), Signal())
        try await withServer { _, _ in
            .streaming { request in
                await began.set()
                _ = try? await request.body.collect(upTo: 100)
                return ServerResponse(status: .ok)
            }
        } _: { server in
            let connection = try await server.connect()
            let stream = try connection.openStream(server.request("/", .post))
            connection.onClose { Task { await closed.set() } }  // task-owner: ends at once
            await began.wait()
            await server.server.shutdown(graceful: false)
            await #expect {
                _ = try await stream.response()
            } throws: {
                ($0 as? TransportError)?.code == .connectionClosed
            }
            await closed.wait()
            #expect(!connection.isOpen)
            #expect(!stream.tryWrite(Self.chunk))
            await #expect(throws: TransportError.self) { try await connection.execute(server.request("/")) }
        }
    }

    @Test func requestsWaitForAFreeStream() async throws {
        var limits = TransportLimits.patient
        limits.concurrentStreamsMax = 2
        let (gate, began) = (Signal(), Counter())
        try await withServer(limits: limits) { _, _ in
            .streaming { _ in
                began.increment()
                await gate.wait()
                return ServerResponse(status: .ok)
            }
        } _: { server in
            var clientLimits = TransportLimits.patient
            clientLimits.queuedRequestsMax = 8
            let connection = try await server.connect(limits: clientLimits)
            try await withThrowingTaskGroup(of: TransportError.Code?.self) { group in
                for _ in 0..<11 {
                    group.addTask {
                        do {
                            let response = try await connection.execute(server.request("/"))
                            #expect(response.head.status == .ok)
                            return nil
                        } catch let error as TransportError {
                            return error.code
                        }
                    }
                }
                // Two run, eight wait, one is one too many.
                #expect(try await group.next() == .overloaded)
                #expect(began.value <= 2)
                await gate.set()
                for try await code in group { #expect(code == nil) }
            }
            #expect(began.value == 10)
        }
    }
}

/// The largest number noted.
final class MaximumLead: Sendable {
    private let maximum = Mutex(0)

    var value: Int { self.maximum.withLock { $0 } }

    func note(_ lead: Int) { self.maximum.withLock { $0 = max($0, lead) } }
}

extension Signal {
    /// Waits until the task is cancelled.
    nonisolated func waitOrCancel() async throws {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        await withTaskCancellationHandler {
            for await _ in stream {}
        } onCancel: {
            continuation.finish()
        }
        try Task.checkCancellation()
    }
}

private struct StreamingError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
