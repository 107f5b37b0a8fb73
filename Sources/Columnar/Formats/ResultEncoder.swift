/// The forms in which a result leaves the node.
package enum ResultFormat: String, CaseIterable, Sendable {
    /// One object: `{"columns":[{"name","type"}],"rows":[[…]]}`.
    case json
    /// One object a line.
    case ndjson
    /// RFC 4180 with a header line.
    case csv
    /// Aligned text for terminals.
    case table
    /// The same with a frame.
    case box
    /// A table of Markdown (GitHub Flavored Markdown, section 4.10).
    case markdown
    /// Arrow IPC stream.
    case arrow
    /// Parquet file; made by ``ParquetExporter``, because it needs the engine.
    case parquet

    /// The look of a form that is text in columns; nil for the others.
    var look: TextTable.Look? {
        switch self {
        case .table: .plain
        case .box: .box
        case .markdown: .markdown
        case .json, .ndjson, .csv, .arrow, .parquet: nil
        }
    }

    /// Media type of the form.
    package var mediaType: String {
        switch self {
        case .json: "application/json"
        case .ndjson: "application/x-ndjson"
        case .csv: "text/csv; charset=utf-8; header=present"
        case .table, .box: "text/plain; charset=utf-8"
        case .markdown: "text/markdown; charset=utf-8"
        case .arrow: "application/vnd.apache.arrow.stream"
        case .parquet: "application/vnd.apache.parquet"
        }
    }
}

/// Choices for a ``ResultEncoder``.
package struct ResultEncoderOptions: Sendable {
    /// Widest cell of the `table` and `box` forms; longer texts are cut.
    package var cellWidthMax: Int

    /// Creates options.
    package init(cellWidthMax: Int = 48) { self.cellWidthMax = cellWidthMax }
}

/// Writes a result, batch by batch, in one of the forms.
///
/// Whole numbers keep all digits in every form, decimals are exact, times are RFC 3339 in UTC, binaries are base64;
/// JSON columns are embedded as JSON in `json` and `ndjson`; infinity and not-a-number are null there.
package struct ResultEncoder: Sendable {
    private let format: ResultFormat
    private let schema: ArrowSchema
    private let arrow: ArrowStreamEncoder
    private var table: TextTable
    private var isFirstRow = true
    /// For each column: its name as a JSON text with the colon (`ndjson`).
    private let memberNames: [[UInt8]]

    /// Creates an encoder.
    /// - Throws: ``ColumnarError`` `.unsupported` for `parquet`.
    package init(format: ResultFormat, schema: ArrowSchema, options: ResultEncoderOptions = .init()) throws {
        guard format != .parquet else { throw ColumnarError(.unsupported, "Parquet is made by the Parquet exporter") }
        self.format = format
        self.schema = schema
        self.arrow = ArrowStreamEncoder(schema: schema)
        self.table = TextTable(schema: schema, cellWidthMax: options.cellWidthMax, look: format.look ?? .plain)
        self.memberNames = uniqueNames(schema).map { name in
            var bytes: [UInt8] = []
            appendJSONString(name, to: &bytes)
            bytes.append(UInt8(ascii: ":"))
            return bytes
        }
    }

    /// What stands before the first row.
    package mutating func start() -> [UInt8] {
        switch self.format {
        case .json: self.jsonHead()
        case .csv: self.csvHead()
        case .arrow: self.arrow.schemaMessage()
        case .ndjson, .table, .box, .markdown, .parquet: []
        }
    }

    /// The rows of a batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the batch has other columns.
    package mutating func encode(_ batch: ArrowRecordBatch) throws -> [UInt8] {
        guard batch.columns.count == self.schema.fields.count else {
            throw ColumnarError(.schemaMismatch, "the batch does not have the result's columns")
        }
        switch self.format {
        case .json: return self.jsonRows(batch)
        case .ndjson: return self.ndjsonRows(batch)
        case .csv: return self.csvRows(batch)
        case .table, .box, .markdown: return self.table.encode(batch)
        case .arrow: return try self.arrow.message(for: batch)
        case .parquet: throw ColumnarError(.unsupported, "Parquet is made by the Parquet exporter")
        }
    }

    /// The rows of a batch as a message of an Arrow stream whose columns stay where they are; nil in all other forms.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when the batch has other columns.
    package func message(of batch: ArrowRecordBatch) throws -> (head: [UInt8], body: ArrowMessageParts)? {
        guard self.format == .arrow else { return nil }
        let parts = try self.arrow.parts(of: batch)
        return (ArrowStreamEncoder.framed(parts.header), parts)
    }

    /// What stands after the last row.
    /// - Parameter jsonMembers: Further members of the `json` object, each a name and a value that is JSON already,
    ///   for example the provenance. Other forms leave them out.
    package mutating func finish(jsonMembers: [(name: String, json: String)] = []) -> [UInt8] {
        switch self.format {
        case .json:
            var bytes = Array("]".utf8)
            for member in jsonMembers {
                bytes.append(UInt8(ascii: ","))
                appendJSONString(member.name, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                bytes.append(contentsOf: member.json.utf8)
            }
            bytes.append(contentsOf: "}\n".utf8)
            return bytes
        case .table, .box, .markdown: return self.table.finish()
        case .arrow: return self.arrow.endOfStream()
        case .ndjson, .csv, .parquet: return []
        }
    }

    // MARK: - JSON

    private func jsonHead() -> [UInt8] {
        var bytes = Array("{\"columns\":[".utf8)
        for (index, field) in self.schema.fields.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(contentsOf: "{\"name\":".utf8)
            appendJSONString(field.name, to: &bytes)
            bytes.append(contentsOf: ",\"type\":".utf8)
            appendJSONString(field.isJSON ? "JSON" : field.type.sqlName, to: &bytes)
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(contentsOf: "],\"rows\":[".utf8)
        return bytes
    }

    private mutating func jsonRows(_ batch: ArrowRecordBatch) -> [UInt8] {
        var bytes: [UInt8] = []
        for row in 0..<batch.rowCount {
            if !self.isFirstRow { bytes.append(UInt8(ascii: ",")) }
            self.isFirstRow = false
            bytes.append(UInt8(ascii: "["))
            for (index, column) in batch.columns.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                column.appendJSON(row, isJSON: self.schema.fields[index].isJSON, to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        }
        return bytes
    }

    private func ndjsonRows(_ batch: ArrowRecordBatch) -> [UInt8] {
        var bytes: [UInt8] = []
        for row in 0..<batch.rowCount {
            bytes.append(UInt8(ascii: "{"))
            for (index, column) in batch.columns.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                bytes.append(contentsOf: self.memberNames[index])
                column.appendJSON(row, isJSON: self.schema.fields[index].isJSON, to: &bytes)
            }
            bytes.append(contentsOf: "}\n".utf8)
        }
        return bytes
    }

    // MARK: - CSV

    private func csvHead() -> [UInt8] {
        var bytes: [UInt8] = []
        for (index, field) in self.schema.fields.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            appendCSV(Array(field.name.utf8), isText: true, to: &bytes)
        }
        bytes.append(contentsOf: [0x0D, 0x0A])
        return bytes
    }

    private func csvRows(_ batch: ArrowRecordBatch) -> [UInt8] {
        var bytes: [UInt8] = []
        var cell: [UInt8] = []
        for row in 0..<batch.rowCount {
            for (index, column) in batch.columns.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                guard !column.isNull(row) else { continue }
                cell.removeAll(keepingCapacity: true)
                column.appendPlain(row, to: &cell)
                appendCSV(cell, isText: column.type == .utf8, to: &bytes)
            }
            bytes.append(contentsOf: [0x0D, 0x0A])
        }
        return bytes
    }
}

/// Appends one cell. A text that a spreadsheet would take for a formula gets an apostrophe in front; an empty text
/// is quoted, so that it differs from null.
private func appendCSV(_ cell: [UInt8], isText: Bool, to bytes: inout [UInt8]) {
    let isFormula = isText && startsFormula(cell)
    guard isText && cell.isEmpty || cell.contains(where: { needsQuotes($0) }) else {
        if isFormula { bytes.append(UInt8(ascii: "'")) }
        bytes.append(contentsOf: cell)
        return
    }
    bytes.append(UInt8(ascii: "\""))
    if isFormula { bytes.append(UInt8(ascii: "'")) }
    for byte in cell {
        if byte == UInt8(ascii: "\"") { bytes.append(byte) }
        bytes.append(byte)
    }
    bytes.append(UInt8(ascii: "\""))
}

private func startsFormula(_ cell: [UInt8]) -> Bool {
    switch cell.first {
    case UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "@"), 0x09, 0x0D: true
    default: false
    }
}

private func needsQuotes(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: ","), UInt8(ascii: "\""), 0x0A, 0x0D: true
    default: false
    }
}

/// Column names made different from each other by numbers, for forms in which names are keys.
func uniqueNames(_ schema: ArrowSchema) -> [String] {
    var used: Set<String> = []
    return schema.fields.map { field in
        var name = field.name
        var number = 1
        while !used.insert(name.lowercased()).inserted {
            number += 1
            name = "\(field.name)_\(number)"
        }
        return name
    }
}
