/// Bounds of one stream.
package struct ArrowStreamLimits: Sendable {
    /// Most bytes of one message, metadata and body together.
    package var messageBytesMax: Int
    /// Most rows of one batch.
    package var batchRowsMax: Int

    /// Creates limits.
    package init(messageBytesMax: Int = 64 << 20, batchRowsMax: Int = 4 << 20) {
        self.messageBytesMax = messageBytesMax
        self.batchRowsMax = batchRowsMax
    }
}

/// Reads an Arrow IPC stream as its bytes arrive. Whatever is not a valid stream is refused with an error.
package struct ArrowStreamDecoder: Sendable {
    private enum Stage {
        case frame
        case metadata(length: Int)
        case body(ArrowBatchLayout?, length: Int)
        case ended
        case failed
    }

    /// Columns of every batch, once the first message has been read.
    package private(set) var schema: ArrowSchema?
    /// True once the stream's own end mark has been read: only then is it known that nothing was cut off.
    package var hasEnded: Bool {
        if case .ended = self.stage { return true }
        return false
    }
    private let limits: ArrowStreamLimits
    private var pending: [UInt8] = []
    private var head = 0
    private var stage = Stage.frame

    /// Creates a decoder for one stream.
    package init(limits: ArrowStreamLimits = .init()) { self.limits = limits }

    /// Takes the next bytes of the stream.
    /// - Returns: The batches that are complete now; empty ones are kept.
    /// - Throws: ``ColumnarError`` `.invalidArrow`, or `.unsupported` for valid streams with what is not carried. The
    ///   decoder stays unusable.
    package mutating func feed(_ bytes: some Collection<UInt8>) throws -> [ArrowRecordBatch] {
        if self.head > 0 {
            self.pending.removeFirst(self.head)
            self.head = 0
        }
        self.pending.append(contentsOf: bytes)
        var batches: [ArrowRecordBatch] = []
        do {
            while try self.step(&batches) {}
        } catch {
            self.stage = .failed
            throw error
        }
        return batches
    }

    /// Says that no more bytes come.
    /// - Throws: ``ColumnarError`` `.invalidArrow` when the stream was cut short. The end mark may be missing, as the
    ///   format allows, but not a part of a message, and not the schema.
    package mutating func finish() throws {
        switch self.stage {
        case .ended: return
        case .frame where self.available == 0 && self.schema != nil: self.stage = .ended
        default:
            self.stage = .failed
            throw ColumnarError(.invalidArrow, "the stream ends inside of a message")
        }
    }

    private var available: Int { self.pending.count - self.head }

    private mutating func word() -> UInt32 {
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(self.pending[self.head + $1]) << UInt32($1 * 8) }
        self.head += 4
        return value
    }

    /// Reads one part if it is complete.
    private mutating func step(_ batches: inout [ArrowRecordBatch]) throws -> Bool {
        switch self.stage {
        case .frame: return try self.readFrame()
        case .metadata(let length): return try self.readMetadata(length)
        case .body(let layout, let length):
            guard self.available >= length else { return false }
            let body = Array(self.pending[self.head..<self.head + length])
            self.head += length
            self.stage = .frame
            if let layout { batches.append(try self.batch(layout, body: body)) }
            return true
        case .ended:
            guard self.available == 0 else { throw ColumnarError(.invalidArrow, "bytes after the end of the stream") }
            return false
        case .failed: throw ColumnarError(.invalidArrow, "the stream has already failed")
        }
    }

    private mutating func readFrame() throws -> Bool {
        guard self.available >= 8 else { return false }
        guard self.word() == ArrowWire.continuation else {
            throw ColumnarError(.invalidArrow, "not an Arrow IPC stream")
        }
        let length = self.word()
        if length == 0 {
            guard self.schema != nil else { throw ColumnarError(.invalidArrow, "a stream without a schema") }
            self.stage = .ended
            return true
        }
        guard length <= UInt32(clamping: self.limits.messageBytesMax) else {
            throw ColumnarError(.invalidArrow, "a message of more than \(self.limits.messageBytesMax) bytes")
        }
        self.stage = .metadata(length: Int(length))
        return true
    }

    private mutating func readMetadata(_ length: Int) throws -> Bool {
        guard self.available >= length else { return false }
        let (message, bodyBytes) = try ArrowMessage.read(Array(self.pending[self.head..<self.head + length]))
        self.head += length
        guard bodyBytes >= 0, bodyBytes <= Int64(self.limits.messageBytesMax - length) else {
            throw ColumnarError(.invalidArrow, "a message of more than \(self.limits.messageBytesMax) bytes")
        }
        switch message {
        case .schema(let schema):
            guard self.schema == nil else { throw ColumnarError(.invalidArrow, "a second schema") }
            self.schema = schema
            self.stage = .body(nil, length: Int(bodyBytes))
        case .recordBatch(let layout):
            guard self.schema != nil else { throw ColumnarError(.invalidArrow, "a batch before the schema") }
            guard layout.rows <= self.limits.batchRowsMax else {
                throw ColumnarError(.invalidArrow, "a batch of more than \(self.limits.batchRowsMax) rows")
            }
            self.stage = .body(layout, length: Int(bodyBytes))
        }
        return true
    }

    private func batch(_ layout: ArrowBatchLayout, body: [UInt8]) throws -> ArrowRecordBatch {
        guard let schema = self.schema else { throw ColumnarError(.invalidArrow, "a batch before the schema") }
        let memory = ArrowMemoryBuilder(capacity: body.count)
        memory.append(body)
        var reader = BatchReader(layout: layout, body: memory.finish())
        var columns: [ArrowColumn] = []
        for field in schema.fields {
            let column = try reader.column(field.type)
            guard column.count == layout.rows else {
                throw ColumnarError(.invalidArrow, "a column's length is not the batch's")
            }
            try column.validate()
            columns.append(column)
        }
        guard reader.isDone else { throw ColumnarError(.invalidArrow, "buffers that belong to no column") }
        return ArrowRecordBatch(unchecked: schema, rowCount: layout.rows, columns: columns)
    }
}

/// Hands out a batch's nodes and buffers in order.
private struct BatchReader {
    private let layout: ArrowBatchLayout
    private let body: ArrowBuffer
    private var node = 0
    private var buffer = 0

    init(layout: ArrowBatchLayout, body: ArrowBuffer) {
        self.layout = layout
        self.body = body
    }

    var isDone: Bool { self.node == self.layout.nodes.count && self.buffer == self.layout.buffers.count }

    mutating func column(_ type: ArrowType) throws -> ArrowColumn {
        guard self.node < self.layout.nodes.count else { throw ColumnarError(.invalidArrow, "too few nodes") }
        let (count, nullCount) = self.layout.nodes[self.node]
        self.node += 1
        guard count >= 0, count <= Int64(Int32.max), nullCount >= 0, nullCount <= count else {
            throw ColumnarError(.invalidArrow, "wrong counts of a column")
        }
        var buffers: [ArrowBuffer] = []
        for _ in 0..<Self.bufferCount(type) { buffers.append(try self.nextBuffer()) }
        let children = try type.children.map { try self.column($0.type) }
        let isNull = type == .null
        return ArrowColumn(
            type: type,
            count: Int(count),
            nullCount: isNull ? Int(count) : Int(nullCount),
            validity: buffers.first.flatMap { $0.count == 0 ? nil : $0 },
            values: buffers.count > 1 ? buffers[1] : .empty,
            data: buffers.count > 2 ? buffers[2] : .empty,
            children: children
        )
    }

    private static func bufferCount(_ type: ArrowType) -> Int {
        switch type.layout {
        case .null: 0
        case .structure, .fixedList: 1
        case .bits, .fixed, .list: 2
        case .variable: 3
        }
    }

    private mutating func nextBuffer() throws -> ArrowBuffer {
        guard self.buffer < self.layout.buffers.count else { throw ColumnarError(.invalidArrow, "too few buffers") }
        let (offset, length) = self.layout.buffers[self.buffer]
        self.buffer += 1
        guard offset >= 0, length >= 0, offset % 8 == 0, offset <= Int64(self.body.count),
            length <= Int64(self.body.count) - offset
        else { throw ColumnarError(.invalidArrow, "a buffer outside of the body") }
        return self.body.range(from: Int(offset), count: Int(length))
    }
}
