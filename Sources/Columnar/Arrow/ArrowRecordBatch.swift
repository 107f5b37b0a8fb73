/// Rows in columnar form: one column for each field of the schema. Immutable, shared without copying.
package struct ArrowRecordBatch: Sendable {
    /// Names and types of the columns.
    package let schema: ArrowSchema
    /// Number of rows.
    package let rowCount: Int
    /// Columns in the schema's order.
    package let columns: [ArrowColumn]

    /// Creates a batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when columns do not fit the schema or each other.
    package init(schema: ArrowSchema, rowCount: Int, columns: [ArrowColumn]) throws {
        guard schema.fields.count == columns.count else {
            throw ColumnarError(.schemaMismatch, "\(columns.count) columns for \(schema.fields.count) fields")
        }
        for (field, column) in zip(schema.fields, columns) where column.count != rowCount || column.type != field.type {
            throw ColumnarError(.schemaMismatch, "column \(field.name) does not fit the batch")
        }
        self.init(unchecked: schema, rowCount: rowCount, columns: columns)
    }

    init(unchecked schema: ArrowSchema, rowCount: Int, columns: [ArrowColumn]) {
        self.schema = schema
        self.rowCount = rowCount
        self.columns = columns
    }

    /// Makes a small batch of values, column by column.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when a value does not fit its field.
    package static func make(schema: ArrowSchema, columns: [[ArrowValue]]) throws -> ArrowRecordBatch {
        guard schema.fields.count == columns.count else {
            throw ColumnarError(.schemaMismatch, "\(columns.count) columns for \(schema.fields.count) fields")
        }
        let made = try zip(schema.fields, columns).map { try ArrowColumn.make($0.type, $1) }
        return try ArrowRecordBatch(schema: schema, rowCount: columns.first?.count ?? 0, columns: made)
    }

    /// Bytes of all buffers.
    package var byteCount: Int { self.columns.reduce(0) { $0 + $1.byteCount } }

    /// Bytes of memory that live as long as this batch; at least those of all buffers.
    /// - Parameter lent: What an owner of lent memory (``ArrowBuffer/init(lent:owner:)``) keeps; nil: as much as it lent.
    package func heldBytes(lent: (any Sendable) -> Int?) -> Int {
        var seen: Set<ObjectIdentifier> = []
        return self.columns.reduce(0) { $0 + $1.heldBytes(except: &seen, lent: lent) }
    }

    /// Copies `count` rows from row `start`.
    package func slice(from start: Int, count: Int) -> ArrowRecordBatch {
        ArrowRecordBatch(
            unchecked: self.schema,
            rowCount: count,
            columns: self.columns.map { $0.slice(from: start, count: count) }
        )
    }

    /// This batch with a text column in front that holds `constant` in every row.
    package func prepending(constant: String, named name: String) -> ArrowRecordBatch {
        let text = Array(constant.utf8)
        let offsets = ArrowMemoryBuilder(capacity: (self.rowCount + 1) * 4)
        let data = ArrowMemoryBuilder(capacity: self.rowCount * text.count)
        offsets.append(value: Int32(0))
        for _ in 0..<self.rowCount {
            data.append(text)
            offsets.append(value: Int32(data.count))
        }
        let column = ArrowColumn(
            type: .utf8,
            count: self.rowCount,
            nullCount: 0,
            validity: nil,
            values: offsets.finish(),
            data: data.finish()
        )
        var schema = self.schema
        schema.fields.insert(ArrowField(name, .utf8, nullable: false), at: 0)
        return ArrowRecordBatch(unchecked: schema, rowCount: self.rowCount, columns: [column] + self.columns)
    }

    /// The same rows under another schema of equal column types, for example other names or metadata.
    /// - Throws: ``ColumnarError`` `.schemaMismatch`.
    package func with(schema: ArrowSchema) throws -> ArrowRecordBatch {
        try ArrowRecordBatch(schema: schema, rowCount: self.rowCount, columns: self.columns)
    }

    /// The value at a place.
    package func value(row: Int, column: Int) -> ArrowValue { self.columns[column].value(row) }

    /// Whether the value at a place is null.
    package func isNull(row: Int, column: Int) -> Bool { self.columns[column].isNull(row) }

    /// The text at a place; nil when it is null or not text.
    package func string(row: Int, column: Int) -> String? {
        guard case .string(let text) = self.value(row: row, column: column) else { return nil }
        return text
    }

    /// The bytes of the text at a place; nil when it is null or not text.
    package func utf8(row: Int, column: Int) -> [UInt8]? {
        let column = self.columns[column]
        guard column.type == .utf8, !column.isNull(row) else { return nil }
        return column.bytes(row)
    }

    /// The whole number at a place; nil when it is null, not whole or too large. Decimals without a fraction count.
    package func int64(row: Int, column: Int) -> Int64? {
        switch self.value(row: row, column: column) {
        case .int(let number): number
        case .uint(let number): Int64(exactly: number)
        case .decimal(let unscaled, 0): Int64(exactly: unscaled)
        case .timestamp(let time, _, _): time
        default: nil
        }
    }

    /// The number at a place as a floating-point number; nil when it is null or not a number.
    package func double(row: Int, column: Int) -> Double? {
        switch self.value(row: row, column: column) {
        case .double(let number): return number
        case .int(let number): return Double(number)
        case .uint(let number): return Double(number)
        case .decimal(let unscaled, let scale):
            var divisor = 1.0
            for _ in 0..<max(0, scale) { divisor *= 10 }
            return Double(unscaled) / divisor
        default: return nil
        }
    }
}
