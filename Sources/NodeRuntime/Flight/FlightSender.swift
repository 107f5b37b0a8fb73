internal import Columnar
internal import NIOCore
internal import QueryRouter
internal import Storage
internal import Transport

/// Sends a result as messages of Flight, never more than a few ahead of the client.
struct FlightSender: Sendable {
    /// The client does not read: nobody would hear a status either, so the stream is reset.
    struct Stalled: Error {}

    private let result: HeldResult
    private let writer: ResponseBodyWriter
    private let threads: StoreThreads
    private let encoder: ArrowStreamEncoder
    private let clock: any Clock<Duration>

    /// - Parameter clock: Measures how long the client takes for one message.
    init(
        _ result: HeldResult,
        _ writer: ResponseBodyWriter,
        _ threads: StoreThreads,
        clock: any Clock<Duration> = NodeClock.monotonic
    ) {
        self.result = result
        self.writer = writer
        self.threads = threads
        self.clock = clock
        self.encoder = ArrowStreamEncoder(schema: result.schema, compression: result.compression)
    }

    /// Sends the columns and then all rows.
    /// - Throws: What the statement throws, ``Stalled``, or that the stream is gone.
    func run() async throws {
        var batches = self.result.batches.makeAsyncIterator()
        try await self.write([Self.frame(header: self.encoder.flightSchemaHeader(), body: nil)])
        while let batch = try await batches.next() {
            let sent = try self.result.profile.batch(batch, schema: self.result.schema)
            if sent.byteCount <= FlightLimits.messageBytesMax {
                try await self.write(try await self.encoded(sent))
            } else {
                try await self.writeParts(of: sent)
            }
        }
    }

    /// Cuts a batch that is too large for one message.
    private func writeParts(of batch: ArrowRecordBatch) async throws {
        var waiting = [batch]
        while let next = waiting.popLast() {
            let half = next.rowCount / 2
            if next.byteCount > FlightLimits.messageBytesMax, half > 0 {
                waiting.append(next.slice(from: half, count: next.rowCount - half))
                waiting.append(next.slice(from: 0, count: half))
            } else {
                try await self.write(try await self.encoded(next))
            }
        }
    }

    /// Compressing takes milliseconds: not on the event loop.
    private func encoded(_ batch: ArrowRecordBatch) async throws -> [ByteBuffer] {
        let encoder = self.encoder
        if self.result.compression == nil { return Self.message(try encoder.parts(of: batch)) }
        return try await self.threads.run { Self.message(try encoder.parts(of: batch)) }
    }

    private func write(_ message: [ByteBuffer]) async throws {
        let writer = self.writer
        // Most messages find room, and cost no timer.
        if try writer.queue(message, ahead: FlightLimits.aheadBytes) { return }
        do {
            try await withTimeLimit(FlightLimits.stalledTime, "a client's reading", clock: self.clock) {
                try await writer.waitForRoom(ahead: FlightLimits.aheadBytes)
            }
        } catch is TimedOut {
            throw Stalled()
        }
    }

    /// A batch as one message, in parts; a body that came from a worker as it is, is sent from where it lies.
    static func message(_ parts: ArrowMessageParts) -> [ByteBuffer] {
        guard let body = parts.bodyOwner as? ByteBuffer, body.readableBytes == parts.bodyBytes else {
            return [self.frame(header: parts.header, body: parts)]
        }
        return [self.start(header: parts.header, bodyBytes: parts.bodyBytes, room: 0), body]
    }

    /// A `FlightData` in its gRPC frame, written by hand so that the body is copied once.
    static func frame(header: [UInt8], body: ArrowMessageParts?) -> ByteBuffer {
        let bodyBytes = body?.bodyBytes ?? 0
        var buffer = self.start(header: header, bodyBytes: bodyBytes, room: bodyBytes)
        body?.forEachSpan { buffer.writeBytes($0) }
        return buffer
    }

    /// All of a message but its body, for which there is `room` behind it.
    private static func start(header: [UInt8], bodyBytes: Int, room: Int) -> ByteBuffer {
        // Field 2, `data_header`, and field 1000, `data_body`, both with their length.
        let (headerTag, bodyTag) = ([UInt8(0x12)], [UInt8(0xC2), 0x3E])
        let headerLength = self.varint(header.count)
        let bodyLength = self.varint(bodyBytes)
        var count = headerTag.count + headerLength.count + header.count
        if bodyBytes > 0 { count += bodyTag.count + bodyLength.count + bodyBytes }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(GRPCFrameReader.prefixBytes + count - bodyBytes + room)
        GRPCFrameReader.writePrefix(length: count, to: &buffer)
        buffer.writeBytes(headerTag)
        buffer.writeBytes(headerLength)
        buffer.writeBytes(header)
        guard bodyBytes > 0 else { return buffer }
        buffer.writeBytes(bodyTag)
        buffer.writeBytes(bodyLength)
        return buffer
    }

    private static func varint(_ value: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = UInt64(value)
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
        return bytes
    }
}
