internal import Columnar

/// Which Arrow types a client gets, for clients that misread some.
enum OutputProfile: String, CaseIterable, Sendable {
    /// As the engine has them.
    case arrow
    /// For reporting tools: nested values, intervals and times of day as text, unsigned 64-bit numbers as decimals.
    case bi
    /// For Grafana, which reads every timestamp as nanoseconds and nothing but plain numbers and texts.
    case grafana

    /// The type in which columns of a type are sent.
    func type(for type: ArrowType) -> ArrowType {
        switch self {
        case .arrow: type
        case .bi:
            switch type {
            case .list, .fixedSizeList, .structure, .map, .intervalMonthDayNano, .time32, .time64, .null: .utf8
            case .uint64: .decimal128(precision: 20, scale: 0)
            default: type
            }
        case .grafana:
            switch type {
            case .list, .fixedSizeList, .structure, .map, .intervalMonthDayNano, .time32, .time64, .null, .binary,
                .fixedSizeBinary:
                .utf8
            case .timestamp, .date32: .timestamp(.nanosecond, timezone: nil)
            case .decimal128(let precision, 0) where precision <= 18: .int64
            case .decimal128: .float64
            default: type
            }
        }
    }

    /// The columns that are sent.
    func schema(_ schema: ArrowSchema) -> ArrowSchema {
        guard self != .arrow else { return schema }
        var result = schema
        for index in result.fields.indices { result.fields[index].type = self.type(for: result.fields[index].type) }
        return result
    }

    /// The rows that are sent.
    /// - Throws: ``ColumnarError`` `.execution` when a value does not fit the profile's type.
    func batch(_ batch: ArrowRecordBatch, schema: ArrowSchema) throws -> ArrowRecordBatch {
        guard self != .arrow else { return try batch.with(schema: schema) }
        let columns = try zip(batch.columns, schema.fields).map { try $0.cast(to: $1.type) }
        return try ArrowRecordBatch(schema: schema, rowCount: batch.rowCount, columns: columns)
    }
}
