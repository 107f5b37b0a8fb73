/// Reads the messages of an Arrow stream one by one, each as metadata and body: the form in which Flight sends them.
///
/// Whatever is not valid is refused with an error, after which the decoder must not be used.
package struct ArrowMessageDecoder: Sendable {
    /// Columns of every batch, once the first message has been read.
    package private(set) var schema: ArrowSchema?
    private var columns: [ArrowWireColumn] = []
    private var dictionaries: [Int64: ArrowColumn] = [:]
    private var dictionaryBytes = 0
    private var awaited: ArrowMessage?
    private let limits: ArrowStreamLimits

    /// Creates a decoder for one stream.
    package init(limits: ArrowStreamLimits = .init()) { self.limits = limits }

    /// Reads one message.
    /// - Returns: Its rows; nil for a schema or a dictionary.
    /// - Throws: ``ColumnarError`` `.invalidArrow`, or `.unsupported` for what is valid but not carried.
    package mutating func decode(
        metadata: [UInt8],
        body: some RandomAccessCollection<UInt8>
    ) throws -> ArrowRecordBatch? {
        let wanted = try self.takeMetadata(metadata)
        guard wanted <= body.count else { throw ColumnarError(.invalidArrow, "a body shorter than its message says") }
        return try self.takeBody(body)
    }

    /// Reads one message whose columns stay in `body`.
    /// - Returns: Its rows; nil for a schema or a dictionary.
    /// - Throws: As ``decode(metadata:body:)``.
    package mutating func decode(metadata: [UInt8], body: ArrowBuffer) throws -> ArrowRecordBatch? {
        let wanted = try self.takeMetadata(metadata)
        guard wanted == body.count else {
            throw ColumnarError(.invalidArrow, "a body of another length than its message says")
        }
        return try self.takeBody(body)
    }

    /// - Returns: Bytes of the body, which must come next.
    mutating func takeMetadata(_ metadata: [UInt8]) throws -> Int {
        let (message, bodyBytes) = try ArrowMessage.read(metadata)
        guard bodyBytes >= 0, metadata.count <= self.limits.messageBytesMax,
            bodyBytes <= Int64(self.limits.messageBytesMax - metadata.count)
        else {
            throw ColumnarError(.invalidArrow, "a message of more than \(self.limits.messageBytesMax) bytes")
        }
        switch message {
        case .schema:
            guard self.schema == nil else { throw ColumnarError(.invalidArrow, "a second schema") }
        case .recordBatch(let layout), .dictionary(_, let layout, _):
            guard self.schema != nil else { throw ColumnarError(.invalidArrow, "a batch before the schema") }
            guard layout.rows <= self.limits.batchRowsMax else {
                throw ColumnarError(.invalidArrow, "a batch of more than \(self.limits.batchRowsMax) rows")
            }
        }
        self.awaited = message
        return Int(bodyBytes)
    }

    mutating func takeBody(_ body: some RandomAccessCollection<UInt8>) throws -> ArrowRecordBatch? {
        let memory = ArrowMemoryBuilder(capacity: body.count)
        let isCopied: Void? = body.withContiguousStorageIfAvailable { bytes in
            unsafe memory.append(UnsafeRawBufferPointer(bytes))
        }
        if isCopied == nil { memory.append(Array(body)) }
        return try self.takeBody(memory.finish())
    }

    private mutating func takeBody(_ body: ArrowBuffer) throws -> ArrowRecordBatch? {
        guard let message = self.awaited else { return nil }
        self.awaited = nil
        switch message {
        case .schema(let schema, let columns):
            self.schema = schema
            self.columns = columns
            return nil
        case .dictionary(let id, let layout, let isDelta):
            try self.keep(try self.dictionary(id, layout, body), as: id, isDelta: isDelta)
            return nil
        case .recordBatch(let layout):
            guard let schema = self.schema else { throw ColumnarError(.invalidArrow, "a batch before the schema") }
            let columns = try self.read(self.columns, layout, body)
            return ArrowRecordBatch(unchecked: schema, rowCount: layout.rows, columns: columns)
        }
    }

    private func read(
        _ wires: [ArrowWireColumn],
        _ layout: ArrowBatchLayout,
        _ body: ArrowBuffer
    ) throws -> [ArrowColumn] {
        var reader = ArrowBatchReader(
            layout: layout,
            body: body,
            bytesMax: self.limits.messageBytesMax,
            dictionaries: self.dictionaries
        )
        let columns = try wires.map { wire in
            let column = try reader.column(wire)
            guard column.count == layout.rows else {
                throw ColumnarError(.invalidArrow, "a column's length is not the batch's")
            }
            return column
        }
        guard reader.isDone else { throw ColumnarError(.invalidArrow, "buffers that belong to no column") }
        return columns
    }

    // MARK: Dictionaries

    private func dictionary(
        _ id: Int64,
        _ layout: ArrowBatchLayout,
        _ body: ArrowBuffer
    ) throws -> ArrowColumn {
        guard var wire = Self.find(id, in: self.columns) else {
            throw ColumnarError(.invalidArrow, "a dictionary that no column has")
        }
        wire.dictionary = nil
        return try self.read([wire], layout, body)[0]
    }

    private static func find(_ id: Int64, in columns: [ArrowWireColumn]) -> ArrowWireColumn? {
        for column in columns {
            if column.dictionary?.id == id { return column }
            if let found = self.find(id, in: column.children) { return found }
        }
        return nil
    }

    private mutating func keep(_ values: ArrowColumn, as id: Int64, isDelta: Bool) throws {
        var kept = values
        let old = self.dictionaries[id]
        if isDelta, let old {
            let assembler = ColumnAssembler(type: old.type)
            assembler.append(old, from: 0, count: old.count)
            assembler.append(values, from: 0, count: values.count)
            kept = assembler.finish()
        }
        self.dictionaryBytes += kept.byteCount - (old?.byteCount ?? 0)
        guard self.dictionaryBytes <= self.limits.messageBytesMax else {
            throw ColumnarError(.invalidArrow, "dictionaries of more than \(self.limits.messageBytesMax) bytes")
        }
        self.dictionaries[id] = kept
    }
}
