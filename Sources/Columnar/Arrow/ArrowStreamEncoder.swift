/// Writes record batches as an Arrow IPC stream: the schema, the batches, the end.
///
/// - Source: Arrow columnar format, «Serialization and interprocess communication»
package struct ArrowStreamEncoder: Sendable {
    /// Columns of every batch.
    package let schema: ArrowSchema

    /// Alignment of messages and buffers in the stream, in bytes.
    private static let alignment = 8

    private let compression: ArrowCompression?

    /// Creates an encoder for batches of `schema`.
    /// - Parameter compression: How bodies are compressed; nil: not at all.
    package init(schema: ArrowSchema, compression: ArrowCompression? = nil) {
        self.schema = schema
        self.compression = compression
    }

    /// The framed schema message, which opens a stream; also the form that Flight's `schema` fields want.
    package func schemaMessage() -> [UInt8] { Self.framed(self.schema.encoded()) }

    /// One framed batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the column types are not the schema's.
    package func message(for batch: ArrowRecordBatch) throws -> [UInt8] {
        let parts = try self.parts(of: batch)
        var bytes = Self.framed(parts.header)
        bytes.reserveCapacity(bytes.count + parts.bodyBytes)
        parts.forEachSpan { span in unsafe span.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) } }
        return bytes
    }

    /// What closes a stream.
    package func endOfStream() -> [UInt8] { [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0] }

    /// Flight's `data_header` of the first message: the schema without a frame.
    package func flightSchemaHeader() -> [UInt8] { self.schema.encoded() }

    /// Flight's `data_header` and `data_body` of a batch, without copying the columns.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the column types are not the schema's, `.internalFailure` when
    ///   the codec fails.
    package func parts(of batch: ArrowRecordBatch) throws -> ArrowMessageParts {
        guard batch.columns.count == self.schema.fields.count,
            zip(batch.columns, self.schema.fields).allSatisfy({ $0.type == $1.type })
        else { throw ColumnarError(.schemaMismatch, "the batch does not have the stream's columns") }
        var layout = ArrowBatchLayout(rows: batch.rowCount, compression: self.compression)
        var segments: [ArrowBuffer] = []
        for column in batch.columns { try self.visit(column, &layout, &segments) }
        return ArrowMessageParts(
            header: layout.encoded(),
            bodyBytes: layout.bodyBytes,
            segments: segments,
            owner: Self.owner(of: segments, at: layout)
        )
    }

    /// Whose memory is the whole body as it is.
    private static func owner(of segments: [ArrowBuffer], at layout: ArrowBatchLayout) -> (any Sendable)? {
        guard let memory = segments.lazy.compactMap(\.memory).first, let owner = memory.owner,
            memory.count == layout.bodyBytes
        else { return nil }
        for (segment, place) in zip(segments, layout.buffers) where segment.count > 0 {
            guard segment.memory === memory, segment.offset == place.0 else { return nil }
        }
        return owner
    }

    /// A message's metadata behind the mark and the length that open it in a stream.
    static func framed(_ metadata: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF]
        bytes.reserveCapacity(8 + metadata.count)
        let length = UInt32(metadata.count)
        for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: length >> shift)) }
        bytes.append(contentsOf: metadata)
        return bytes
    }

    private func visit(
        _ column: ArrowColumn,
        _ layout: inout ArrowBatchLayout,
        _ segments: inout [ArrowBuffer]
    ) throws {
        layout.nodes.append((Int64(column.count), Int64(column.nullCount)))
        for plain in Self.buffers(column) {
            var buffer = plain
            if let compression = self.compression, plain.count > 0 { buffer = try compression.compressed(plain) }
            layout.buffers.append((Int64(layout.bodyBytes), Int64(buffer.count)))
            layout.bodyBytes += Self.padded(buffer.count)
            segments.append(buffer)
        }
        for child in column.children { try self.visit(child, &layout, &segments) }
    }

    private static func buffers(_ column: ArrowColumn) -> [ArrowBuffer] {
        switch column.type.layout {
        case .null: []
        case .structure, .fixedList: [column.validity ?? .empty]
        case .bits, .fixed, .list: [column.validity ?? .empty, column.values]
        case .variable: [column.validity ?? .empty, column.values, column.data]
        // The type numbers, then the places in the children; a union has no validity of its own.
        case .union: [column.values, column.data]
        }
    }

    static func padded(_ bytes: Int) -> Int { (bytes + self.alignment - 1) & ~(self.alignment - 1) }
}

/// A batch as a message: its metadata, and the buffers of its columns as they lie in memory.
package struct ArrowMessageParts: Sendable {
    /// The metadata without a frame.
    package let header: [UInt8]
    /// Length of the body, paddings included.
    package let bodyBytes: Int
    private let segments: [ArrowBuffer]
    /// The owner of the memory that was lent (``ArrowBuffer/init(lent:owner:)``), when that memory is this body from its
    /// first byte to its last; nil otherwise.
    package let bodyOwner: (any Sendable)?

    init(header: [UInt8], bodyBytes: Int, segments: [ArrowBuffer], owner: (any Sendable)?) {
        self.header = header
        self.bodyBytes = bodyBytes
        self.segments = segments
        self.bodyOwner = owner
    }

    private static let zeros: ArrowBuffer = {
        let zeros = ArrowMemoryBuilder()
        zeros.append(zeros: ArrowStreamEncoder.padded(1))
        return zeros.finish()
    }()

    /// The body piece by piece, in order, paddings included; no piece is empty.
    package var buffers: [ArrowBuffer] {
        var buffers: [ArrowBuffer] = []
        buffers.reserveCapacity(self.segments.count * 2)
        for segment in self.segments where segment.count > 0 {
            buffers.append(segment)
            let padding = ArrowStreamEncoder.padded(segment.count) - segment.count
            if padding > 0 { buffers.append(Self.zeros.range(from: 0, count: padding)) }
        }
        return buffers
    }

    /// Lends the body piece by piece, in order.
    package func forEachSpan(_ body: (RawSpan) -> Void) {
        for buffer in self.buffers { unsafe buffer.withBytes { unsafe body(RawSpan(_unsafeBytes: $0)) } }
    }
}
