internal import CDuckDB

/// Values of a statement's parameters in the engine's form.
enum EngineParameters {
    /// The most parameters of one statement.
    static let countMax = 1_000

    /// Binds `values` to the positions 1, 2, … of a prepared statement.
    /// - Throws: ``ColumnarError`` `.binder` when there are too few or too many, `.unsupported` for nested values.
    static func bind(_ values: [ArrowValue], to statement: duckdb_prepared_statement?) throws {
        let wanted = unsafe Int(duckdb_nparams(statement))
        guard wanted == values.count else {
            throw ColumnarError(.binder, "the statement has \(wanted) parameters; there are \(values.count) values")
        }
        for (index, value) in values.enumerated() {
            var made = try unsafe Self.make(value, at: index + 1)
            defer { unsafe duckdb_destroy_value(&made) }
            guard unsafe duckdb_bind_value(statement, idx_t(index + 1), made) == DuckDBSuccess else {
                throw ColumnarError(.binder, "parameter \(index + 1) does not fit the statement")
            }
        }
    }

    private static func make(_ value: ArrowValue, at position: Int) throws -> duckdb_value? {
        switch value {
        case .null: return unsafe duckdb_create_null_value()
        case .bool(let bit): return unsafe duckdb_create_bool(bit)
        case .int(let number): return unsafe duckdb_create_int64(number)
        case .uint(let number): return unsafe duckdb_create_uint64(number)
        case .double(let number): return unsafe duckdb_create_double(number)
        case .string(let text):
            let bytes = Array(text.utf8)
            return unsafe bytes.withUnsafeBufferPointer { buffer in
                unsafe buffer.withMemoryRebound(to: CChar.self) {
                    unsafe duckdb_create_varchar_length($0.baseAddress, idx_t($0.count))
                }
            }
        case .bytes(let bytes):
            return unsafe bytes.withUnsafeBufferPointer { unsafe duckdb_create_blob($0.baseAddress, idx_t($0.count)) }
        case .date(let days): return unsafe duckdb_create_date(duckdb_date(days: days))
        case .time(let time, let unit):
            return unsafe duckdb_create_time(duckdb_time(micros: try Self.micros(time, unit, at: position)))
        case .timestamp(let time, let unit, let timezone):
            guard timezone == nil else {
                let micros = try Self.micros(time, unit, at: position)
                return unsafe duckdb_create_timestamp_tz(duckdb_timestamp(micros: micros))
            }
            return unsafe Self.make(timestamp: time, unit)
        case .interval(let months, let days, let nanoseconds):
            return unsafe duckdb_create_interval(
                duckdb_interval(months: months, days: days, micros: nanoseconds / 1_000)
            )
        case .decimal(let unscaled, let scale):
            let words = duckdb_hugeint(
                lower: UInt64(truncatingIfNeeded: unscaled),
                upper: Int64(truncatingIfNeeded: unscaled >> 64)
            )
            guard (0...38).contains(scale) else {
                throw ColumnarError(.unsupported, "parameter \(position) has a scale that is not carried")
            }
            return unsafe duckdb_create_decimal(duckdb_decimal(width: 38, scale: UInt8(scale), value: words))
        case .list, .structure, .map, .union:
            throw ColumnarError(.unsupported, "parameter \(position) is nested; only plain values can be bound")
        }
    }

    /// - Throws: ``ColumnarError`` `.binder` when the time lies beyond what microseconds can say.
    private static func micros(_ time: Int64, _ unit: ArrowTimeUnit, at position: Int) throws -> Int64 {
        if unit == .nanosecond { return time / 1_000 }
        let (micros, overflow) = time.multipliedReportingOverflow(
            by: ArrowTimeUnit.microsecond.perSecond / unit.perSecond
        )
        guard !overflow else { throw ColumnarError(.binder, "parameter \(position) is a time that is out of range") }
        return micros
    }

    private static func make(timestamp: Int64, _ unit: ArrowTimeUnit) -> duckdb_value? {
        switch unit {
        case .second: unsafe duckdb_create_timestamp_s(duckdb_timestamp_s(seconds: timestamp))
        case .millisecond: unsafe duckdb_create_timestamp_ms(duckdb_timestamp_ms(millis: timestamp))
        case .microsecond: unsafe duckdb_create_timestamp(duckdb_timestamp(micros: timestamp))
        case .nanosecond: unsafe duckdb_create_timestamp_ns(duckdb_timestamp_ns(nanos: timestamp))
        }
    }
}
