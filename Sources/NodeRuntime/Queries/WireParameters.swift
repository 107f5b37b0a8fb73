internal import Columnar
internal import Foundation
internal import QueryRouter

/// Values of a statement's parameters on the wire: an Arrow IPC stream with one row and a column for each.
enum WireParameters {
    /// - Throws: ``QueryError`` `.invalid` for a value that is not plain.
    static func encode(_ values: [ArrowValue]) throws -> Data {
        guard !values.isEmpty else { return Data() }
        let fields = try values.enumerated().map { ArrowField("\($0.offset)", try Self.type(of: $0.element)) }
        let schema = ArrowSchema(fields: fields)
        let batch = try ArrowRecordBatch.make(schema: schema, columns: values.map { [$0] })
        let encoder = ArrowStreamEncoder(schema: schema)
        return Data(encoder.schemaMessage() + (try encoder.message(for: batch)) + encoder.endOfStream())
    }

    /// - Throws: ``QueryError`` `.invalid` when the bytes are not one row.
    static func decode(_ data: Data) throws -> [ArrowValue] {
        guard !data.isEmpty else { return [] }
        var decoder = ArrowStreamDecoder()
        let batches = try decoder.feed(data)
        try decoder.finish()
        guard batches.count == 1, batches[0].rowCount == 1 else {
            throw QueryError(.invalid, "the values of the parameters are not one row")
        }
        return batches[0].schema.fields.indices.map { batches[0].value(row: 0, column: $0) }
    }

    private static func type(of value: ArrowValue) throws -> ArrowType {
        switch value {
        case .null: .null
        case .bool: .bool
        case .int: .int64
        case .uint: .uint64
        case .double: .float64
        case .decimal(_, let scale): .decimal128(precision: 38, scale: scale)
        case .string: .utf8
        case .bytes: .binary
        case .date: .date32
        case .time(_, let unit): unit.perSecond > 1_000 ? .time64(unit) : .time32(unit)
        case .timestamp(_, let unit, let zone): .timestamp(unit, timezone: zone)
        case .interval: .intervalMonthDayNano
        case .list, .structure, .map, .union: throw QueryError(.invalid, "only plain values can be bound to parameters")
        }
    }
}
