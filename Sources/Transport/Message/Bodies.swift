package import HTTPTypes
package import NIOCore

/// A request's body as it arrives; one consumer.
///
/// Flow-control windows are opened only as the consumer takes bytes. Iteration throws ``TransportError``
/// `.streamReset` or `.connectionClosed` when the rest will not come.
package struct RequestBody: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer
    package typealias AsyncIterator = BodyIterator

    let source: InboundBody

    package func makeAsyncIterator() -> BodyIterator { BodyIterator(source: self.source) }

    /// The fields after the body; nil before its end, or when there are none.
    package var trailers: HTTPFields? { self.source.trailers }

    /// The whole body.
    /// - Throws: ``TransportError`` `.tooLarge` when it is longer than `bytesMax`.
    package func collect(upTo bytesMax: Int) async throws -> ByteBuffer {
        try await self.source.collect(upTo: bytesMax)
    }
}

/// A response's body as it arrives; one consumer, which lets go of it to cancel the rest.
package struct ResponseBody: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer
    package typealias AsyncIterator = BodyIterator

    let source: InboundBody
    /// Resets the stream when the last copy goes away before the end.
    let lease: StreamLease

    package func makeAsyncIterator() -> BodyIterator { BodyIterator(source: self.source, lease: self.lease) }

    /// The fields after the body; nil before its end, or when there are none.
    package var trailers: HTTPFields? { self.source.trailers }

    /// The whole body.
    /// - Throws: ``TransportError`` `.tooLarge` when it is longer than `bytesMax`.
    package func collect(upTo bytesMax: Int) async throws -> ByteBuffer {
        try await self.source.collect(upTo: bytesMax)
    }
}

/// Takes a body's bytes in their order.
package struct BodyIterator: AsyncIteratorProtocol {
    let source: InboundBody
    var lease: StreamLease?

    /// All bytes that have arrived, waiting for the first; nil at the end.
    package mutating func next() async throws -> ByteBuffer? { try await self.source.next() }
}

/// Writes a response's body.
package struct ResponseBodyWriter: Sendable {
    let pipe: OutboundBody
    private var observer: (@Sendable (ByteBuffer) -> Void)?

    init(pipe: OutboundBody) { self.pipe = pipe }

    /// Queues bytes; returns once few enough are waiting to be sent.
    /// - Throws: ``TransportError`` when the stream or connection is gone, `CancellationError` when cancelled.
    package func write(_ bytes: ByteBuffer) async throws {
        self.observer?(bytes)
        try await self.pipe.write(bytes)
    }

    /// Queues the parts of one message; returns once at most `ahead` bytes wait, so that the next message can be made
    /// while this one is sent.
    /// - Throws: As ``write(_:)``.
    package func write(_ parts: [ByteBuffer], ahead: Int) async throws {
        if let observer = self.observer { for part in parts { observer(part) } }
        try await self.pipe.write(parts, ahead: ahead)
    }

    /// Queues the parts of one message without waiting.
    /// - Returns: False when more than `ahead` bytes wait: ``waitForRoom(ahead:)`` comes before the next message.
    /// - Throws: As ``write(_:)``.
    package func queue(_ parts: [ByteBuffer], ahead: Int) throws -> Bool {
        if let observer = self.observer { for part in parts { observer(part) } }
        return try self.pipe.queue(parts, ahead: ahead)
    }

    /// Returns once few enough bytes wait to be sent, at most `ahead`.
    /// - Throws: As ``write(_:)``.
    package func waitForRoom(ahead: Int) async throws { try await self.pipe.waitForRoom(ahead: ahead) }

    /// A writer of the same body that shows all bytes to `observer` first, in order, as to those who observe already.
    package func observed(by observer: @escaping @Sendable (ByteBuffer) -> Void) -> ResponseBodyWriter {
        var writer = self
        let earlier = self.observer
        writer.observer = { bytes in
            earlier?(bytes)
            observer(bytes)
        }
        return writer
    }
}

/// Writes a request's body.
package struct RequestBodyWriter: Sendable {
    let pipe: OutboundBody

    /// Queues bytes; returns once few enough are waiting to be sent.
    /// - Throws: ``TransportError`` when the stream or connection is gone, `CancellationError` when cancelled.
    package func write(_ bytes: ByteBuffer) async throws { try await self.pipe.write(bytes) }
}

/// Where a client's request takes its body from.
package enum RequestBodySource: Sendable {
    /// No body.
    case none
    /// These bytes; `content-length` is added.
    case bytes(ByteBuffer)
    /// Whatever the function writes, then the trailers it returns. A thrown error resets the stream.
    case stream(@Sendable (RequestBodyWriter) async throws -> HTTPFields?)
}
