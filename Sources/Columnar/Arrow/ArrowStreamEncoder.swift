/// Writes record batches as an Arrow IPC stream: the schema, the batches, the end.
///
/// - Source: Arrow columnar format, «Serialization and interprocess communication»
package struct ArrowStreamEncoder: Sendable {
    /// Columns of every batch.
    package let schema: ArrowSchema

    /// Alignment of messages and buffers in the stream, in bytes.
    private static let alignment = 8

    /// Creates an encoder for batches of `schema`.
    package init(schema: ArrowSchema) { self.schema = schema }

    /// The framed schema message, which opens a stream; also the form that Flight's `schema` fields want.
    package func schemaMessage() -> [UInt8] { Self.framed(self.schema.encoded()) }

    /// One framed batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the column types are not the schema's.
    package func message(for batch: ArrowRecordBatch) throws -> [UInt8] {
        let layout = try self.layout(batch)
        var bytes = Self.framed(layout.encoded())
        bytes.reserveCapacity(bytes.count + layout.bodyBytes)
        Self.appendBody(batch, to: &bytes)
        return bytes
    }

    /// What closes a stream.
    package func endOfStream() -> [UInt8] { [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0] }

    /// Flight's `data_header` of the first message: the schema without a frame.
    package func flightSchemaHeader() -> [UInt8] { self.schema.encoded() }

    /// Flight's `data_header` and `data_body` of a batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the column types are not the schema's.
    package func flightData(for batch: ArrowRecordBatch) throws -> (header: [UInt8], body: [UInt8]) {
        let layout = try self.layout(batch)
        var body: [UInt8] = []
        body.reserveCapacity(layout.bodyBytes)
        Self.appendBody(batch, to: &body)
        return (layout.encoded(), body)
    }

    private static func framed(_ metadata: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF]
        bytes.reserveCapacity(8 + metadata.count)
        let length = UInt32(metadata.count)
        for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: length >> shift)) }
        bytes.append(contentsOf: metadata)
        return bytes
    }

    private func layout(_ batch: ArrowRecordBatch) throws -> ArrowBatchLayout {
        guard batch.columns.count == self.schema.fields.count,
            zip(batch.columns, self.schema.fields).allSatisfy({ $0.type == $1.type })
        else { throw ColumnarError(.schemaMismatch, "the batch does not have the stream's columns") }
        var layout = ArrowBatchLayout(rows: batch.rowCount)
        for column in batch.columns { Self.visit(column, into: &layout) }
        return layout
    }

    private static func visit(_ column: ArrowColumn, into layout: inout ArrowBatchLayout) {
        layout.nodes.append((Int64(column.count), Int64(column.nullCount)))
        for buffer in self.buffers(column) {
            layout.buffers.append((Int64(layout.bodyBytes), Int64(buffer.count)))
            layout.bodyBytes += Self.padded(buffer.count)
        }
        for child in column.children { Self.visit(child, into: &layout) }
    }

    private static func appendBody(_ batch: ArrowRecordBatch, to bytes: inout [UInt8]) {
        func append(_ column: ArrowColumn) {
            for buffer in self.buffers(column) {
                unsafe buffer.withBytes { unsafe bytes.append(contentsOf: $0) }
                bytes.append(contentsOf: repeatElement(0, count: Self.padded(buffer.count) - buffer.count))
            }
            for child in column.children { append(child) }
        }
        for column in batch.columns { append(column) }
    }

    private static func buffers(_ column: ArrowColumn) -> [ArrowBuffer] {
        switch column.type.layout {
        case .null: []
        case .structure, .fixedList: [column.validity ?? .empty]
        case .bits, .fixed, .list: [column.validity ?? .empty, column.values]
        case .variable: [column.validity ?? .empty, column.values, column.data]
        }
    }

    private static func padded(_ bytes: Int) -> Int { (bytes + self.alignment - 1) & ~(self.alignment - 1) }
}
