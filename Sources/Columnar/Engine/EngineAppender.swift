internal import CDuckDB
internal import Foundation

/// Appends rows to one table, column by column, in chunks of the engine's vector size. Used by one thread.
@safe struct EngineAppender: ~Copyable {
    private var appender: duckdb_appender?
    private var types: [duckdb_logical_type?] = unsafe []
    private let connection: EngineConnection
    private let table: String

    init(_ connection: EngineConnection, table: String) throws {
        self.connection = connection
        self.table = table
        unsafe self.appender = nil
        guard unsafe duckdb_appender_create(connection.handle, nil, table, &self.appender) == DuckDBSuccess else {
            let error = unsafe duckdb_appender_error_data(self.appender)
            unsafe duckdb_appender_destroy(&self.appender)
            // The only reason beyond those that are told apart: no such table.
            try unsafe check(error, doing: "append", code: .catalog)
            throw ColumnarError(.internalFailure, "append to \(table): no reason given")
        }
        let count = unsafe duckdb_appender_column_count(self.appender)
        for index in 0..<count {
            unsafe self.types.append(duckdb_appender_column_type(self.appender, index))
        }
    }

    deinit {
        var appender = unsafe self.appender
        unsafe duckdb_appender_destroy(&appender)
        var types = unsafe self.types
        for index in unsafe types.indices { unsafe duckdb_destroy_logical_type(&types[index]) }
    }

    private func succeed(_ state: duckdb_state) throws {
        guard state != DuckDBSuccess else { return }
        let error = unsafe duckdb_appender_error_data(self.appender)
        try unsafe check(error, doing: "append to \(self.table)", code: .execution)
        throw ColumnarError(.internalFailure, "append to \(self.table): no reason given")
    }

    /// Flushes everything that was appended into the connection's transaction.
    func flush() throws { try self.succeed(unsafe duckdb_appender_flush(self.appender)) }

    // MARK: - Own batches

    func append(_ batch: ColumnBatch) throws {
        guard unsafe batch.columns.count == self.types.count else {
            throw unsafe ColumnarError(
                .schemaMismatch,
                "\(batch.columns.count) columns for the \(self.types.count) of table \(self.table)"
            )
        }
        for (index, column) in batch.columns.enumerated() {
            let type = unsafe duckdb_get_type_id(self.types[index])
            guard column.type.engineType == type else {
                throw ColumnarError(.schemaMismatch, "column \(index) of table \(self.table) has another type")
            }
        }
        let chunkRows = Int(duckdb_vector_size())
        var types = unsafe self.types
        var chunk: duckdb_data_chunk? = unsafe duckdb_create_data_chunk(&types, idx_t(types.count))
        defer { unsafe duckdb_destroy_data_chunk(&chunk) }
        var start = 0
        while start < batch.rows {
            let count = min(chunkRows, batch.rows - start)
            unsafe duckdb_data_chunk_reset(chunk)
            for (index, column) in batch.columns.enumerated() {
                guard let vector = unsafe duckdb_data_chunk_get_vector(chunk, idx_t(index)) else {
                    throw ColumnarError(.internalFailure, "no vector for column \(index)")
                }
                unsafe column.fill(vector, from: start, count: count, shared: batch.texts)
            }
            unsafe duckdb_data_chunk_set_size(chunk, idx_t(count))
            try self.succeed(unsafe duckdb_append_data_chunk(self.appender, chunk))
            start += count
        }
    }

    // MARK: - Arrow batches

    func append(_ batch: ArrowRecordBatch) throws {
        guard unsafe batch.columns.count == self.types.count else {
            throw unsafe ColumnarError(
                .schemaMismatch,
                "\(batch.columns.count) columns for the \(self.types.count) of table \(self.table)"
            )
        }
        let export = ArrowSchemaExport(batch.schema.fields)
        var converted: duckdb_arrow_converted_schema?
        defer { unsafe duckdb_destroy_arrow_converted_schema(&converted) }
        try unsafe check(
            duckdb_schema_from_arrow(self.connection.handle, export.root, &converted),
            doing: "read an Arrow schema",
            code: .unsupported
        )
        let chunkRows = Int(duckdb_vector_size())
        var start = 0
        while start < batch.rowCount {
            let count = min(chunkRows, batch.rowCount - start)
            var array = unsafe ArrowArrayExport.make(batch.columns, from: start, count: count)
            // The chunk takes the array over, also when the call fails half-way; `release` is nil then.
            defer { unsafe array.release?(&array) }
            var chunk: duckdb_data_chunk?
            defer { unsafe duckdb_destroy_data_chunk(&chunk) }
            try unsafe check(
                duckdb_data_chunk_from_arrow(self.connection.handle, &array, converted, &chunk),
                doing: "read an Arrow batch",
                code: .unsupported
            )
            try self.succeed(unsafe duckdb_append_data_chunk(self.appender, chunk))
            start += count
        }
        withExtendedLifetime(export) {}
    }
}

extension ColumnType {
    fileprivate var engineType: duckdb_type {
        switch self {
        case .bool: DUCKDB_TYPE_BOOLEAN
        case .int64: DUCKDB_TYPE_BIGINT
        case .uint64: DUCKDB_TYPE_UBIGINT
        case .double: DUCKDB_TYPE_DOUBLE
        case .timestampMicros: DUCKDB_TYPE_TIMESTAMP
        case .utf8, .json: DUCKDB_TYPE_VARCHAR
        }
    }
}

extension ColumnBuilder {
    /// Copies rows into a vector of the engine.
    fileprivate func fill(_ vector: duckdb_vector, from start: Int, count: Int, shared: [UInt8]) {
        if self.nullCount > 0 {
            unsafe duckdb_vector_ensure_validity_writable(vector)
            if let mask = unsafe duckdb_vector_get_validity(vector) {
                self.copyValidity(from: start, count: count) { unsafe mask[$0] = $1 }
            }
        }
        guard let data = unsafe duckdb_vector_get_data(vector) else { return }
        switch self.type {
        case .bool:
            for row in 0..<count {
                unsafe data.storeBytes(of: UInt8(self.words[start + row]), toByteOffset: row, as: UInt8.self)
            }
        case .int64, .uint64, .double, .timestampMicros:
            unsafe self.words.withUnsafeBytes {
                guard let base = $0.baseAddress else { return }
                unsafe data.copyMemory(from: base + start * 8, byteCount: count * 8)
            }
        case .utf8, .json:
            if self.sharesTexts {
                return unsafe shared.withUnsafeBytes {
                    unsafe self.fill(vector, data, from: start, count: count, texts: $0)
                }
            }
            unsafe self.bytes.withUnsafeBytes { bytes in
                var from = start == 0 ? 0 : self.ends[start - 1]
                for row in 0..<count {
                    let end = self.ends[start + row]
                    // Checked as UTF-8 when it was appended to the builder.
                    let text = unsafe bytes.baseAddress.map { unsafe ($0 + from).assumingMemoryBound(to: CChar.self) }
                    unsafe duckdb_unsafe_vector_assign_string_element_len(
                        vector,
                        idx_t(row),
                        text ?? emptyText,
                        idx_t(end - from)
                    )
                    from = end
                }
            }
        }
    }

    /// Copies texts that lie in `texts`.
    ///
    /// The engine keeps short ones in the vector itself, and equal texts in a row need be kept once only.
    private func fill(
        _ vector: duckdb_vector,
        _ data: UnsafeMutableRawPointer,
        from start: Int,
        count: Int,
        texts: UnsafeRawBufferPointer
    ) {
        let width = unsafe MemoryLayout<duckdb_string_t>.size
        var last: (row: Int, place: Int, length: Int)?
        for row in 0..<count {
            let word = self.words[start + row]
            let place = Int(word >> 32)
            let length = Int(word & 0xFFFF_FFFF)
            let target = unsafe data + row * width
            if length <= inlinedBytesMax {
                // A null comes here too, as an empty text.
                unsafe target.storeBytes(of: UInt64(length), as: UInt64.self)
                unsafe target.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
                if length > 0, let base = texts.baseAddress {
                    unsafe (target + MemoryLayout<UInt32>.size).copyMemory(from: base + place, byteCount: length)
                }
                continue
            }
            guard let base = texts.baseAddress else { return }
            let text = unsafe base + place
            if let earlier = last, earlier.length == length, unsafe memcmp(base + earlier.place, text, length) == 0 {
                unsafe target.copyMemory(from: data + earlier.row * width, byteCount: width)
            } else {
                unsafe duckdb_unsafe_vector_assign_string_element_len(
                    vector,
                    idx_t(row),
                    text.assumingMemoryBound(to: CChar.self),
                    idx_t(length)
                )
                last = (row, place, length)
            }
        }
    }

    /// Hands out the words of the validity mask for rows from `start`, which is a multiple of 64.
    private func copyValidity(from start: Int, count: Int, _ store: (Int, UInt64) -> Void) {
        precondition(start & 63 == 0, "chunks start at a multiple of 64")
        for word in 0..<(count + 63) / 64 { store(word, self.validity[(start >> 6) + word]) }
    }
}

/// Texts up to this length lie in the engine's `duckdb_string_t` itself, padded with zeros (duckdb.h).
private let inlinedBytesMax = 12

/// A valid address for texts of no bytes.
nonisolated(unsafe) private let emptyText: UnsafePointer<CChar> = {  // sendable-ok: one byte, never written or freed
    let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
    unsafe pointer.initialize(to: 0)
    return unsafe UnsafePointer(pointer)
}()
