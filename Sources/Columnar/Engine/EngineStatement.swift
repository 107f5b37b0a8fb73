internal import CDuckDB

/// A prepared statement and, once started, its streaming result. Used by one thread at a time.
@safe final class EngineStatement: Sendable {
    private let connection: EngineConnection
    nonisolated(unsafe) private var statement: duckdb_prepared_statement?  // sendable-ok: one job at a time
    nonisolated(unsafe) private var result: duckdb_result  // sendable-ok: one job at a time
    nonisolated(unsafe) private var arrowOptions: duckdb_arrow_options?  // sendable-ok: one job at a time
    nonisolated(unsafe) private var ended = false  // sendable-ok: one job at a time
    /// Whether all columns can be read from the engine's vectors (``isPlain(_:_:)``); nil: not looked at yet.
    nonisolated(unsafe) private var isPlain: Bool?  // sendable-ok: one job at a time

    /// Parses and binds `sql`, which must hold exactly one SELECT.
    /// - Parameter values: Of the parameters; nil: the statement is only described.
    init(_ connection: EngineConnection, sql: String, values: [ArrowValue]?) throws {
        self.connection = connection
        unsafe self.result = unsafe duckdb_result()
        unsafe self.statement = nil
        unsafe self.arrowOptions = nil
        var extracted: duckdb_extracted_statements?
        defer { unsafe duckdb_destroy_extracted(&extracted) }
        let count = unsafe duckdb_extract_statements(connection.handle, sql, &extracted)
        guard count > 0 else {
            guard let message = unsafe duckdb_extract_statements_error(extracted) else {
                throw ColumnarError(.syntax, "the statement is empty", position: 0)
            }
            throw unsafe ColumnarError(engine: engineText(message), doing: "parse")
        }
        guard count == 1 else {
            throw ColumnarError(.notAllowed, "\(count) statements in one text; exactly one is allowed")
        }
        let prepared = unsafe duckdb_prepare_extracted_statement(connection.handle, extracted, 0, &self.statement)
        guard prepared == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_prepare_error(self.statement)), doing: "bind")
        }
        guard unsafe duckdb_prepared_statement_type(self.statement) == DUCKDB_STATEMENT_TYPE_SELECT else {
            throw ColumnarError(.notAllowed, "only SELECT is allowed")
        }
        guard unsafe duckdb_nparams(self.statement) <= idx_t(EngineParameters.countMax) else {
            throw ColumnarError(.notAllowed, "a statement may have \(EngineParameters.countMax) parameters")
        }
        if let values { try unsafe EngineParameters.bind(values, to: self.statement) }
        unsafe duckdb_connection_get_arrow_options(connection.handle, &self.arrowOptions)
    }

    /// Runs `sql`, which must be known to be one SELECT without parameters, to its end; the rows are in the engine's memory then.
    ///
    /// The engine plans it once, where a statement that is prepared is planned again when it starts.
    init(whole connection: EngineConnection, sql: String) throws {
        self.connection = connection
        unsafe self.result = unsafe duckdb_result()
        unsafe self.statement = nil
        unsafe self.arrowOptions = nil
        guard unsafe duckdb_query(connection.handle, sql, &self.result) == DuckDBSuccess else {
            let error = unsafe ColumnarError(engine: engineText(duckdb_result_error(&self.result)), doing: "run")
            throw error
        }
        unsafe duckdb_connection_get_arrow_options(connection.handle, &self.arrowOptions)
    }

    /// The number of statements in a text.
    /// - Throws: ``ColumnarError`` `.syntax`.
    static func count(_ sql: String, on connection: EngineConnection) throws -> Int {
        var extracted: duckdb_extracted_statements?
        defer { unsafe duckdb_destroy_extracted(&extracted) }
        let count = unsafe duckdb_extract_statements(connection.handle, sql, &extracted)
        guard count > 0 else {
            throw unsafe ColumnarError(engine: engineText(duckdb_extract_statements_error(extracted)), doing: "parse")
        }
        return Int(count)
    }

    deinit { self.close() }

    /// Frees the statement and its result, running or not. May be called again; nothing else may follow.
    func close() {
        unsafe self.ended = true
        unsafe duckdb_destroy_result(&self.result)
        unsafe duckdb_destroy_prepare(&self.statement)
        unsafe duckdb_destroy_arrow_options(&self.arrowOptions)
    }

    /// Types of the parameters 1, 2, …; `.null` where the statement leaves the type open.
    func parameterTypes() throws -> [ArrowType] {
        let count = unsafe Int(duckdb_nparams(self.statement))
        var types = unsafe [duckdb_logical_type?](repeating: nil, count: count)
        defer { for index in unsafe types.indices { unsafe duckdb_destroy_logical_type(&types[index]) } }
        for index in 0..<count {
            unsafe types[index] = unsafe Self.known(
                duckdb_param_logical_type(self.statement, idx_t(index + 1))
            )
        }
        let names = (1...max(1, count)).map { "parameter \($0)" }
        return try unsafe self.arrowSchema(&types, names: names).fields.map(\.type)
    }

    /// The type, or the null type in place of one that is still open.
    private static func known(_ type: duckdb_logical_type?) -> duckdb_logical_type? {
        var type = unsafe type
        let open: [duckdb_type] = [DUCKDB_TYPE_INVALID, DUCKDB_TYPE_ANY]
        guard unsafe type == nil || open.contains(duckdb_get_type_id(type)) else { return unsafe type }
        unsafe duckdb_destroy_logical_type(&type)
        return unsafe duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL)
    }

    private func arrowSchema(_ types: inout [duckdb_logical_type?], names: [String]) throws -> ArrowSchema {
        let texts = names.map { Array($0.utf8CString) }
        var pointers: [UnsafePointer<CChar>?] = unsafe []
        for text in texts {
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: text.count)
            unsafe copy.initialize(from: text, count: text.count)
            unsafe pointers.append(UnsafePointer(copy))
        }
        defer { for index in unsafe pointers.indices { unsafe pointers[index]?.deallocate() } }
        var schema = unsafe CArrowSchema()
        try unsafe check(
            duckdb_to_arrow_schema(self.arrowOptions, &types, &pointers, idx_t(types.count), &schema),
            doing: "describe the statement",
            code: .unsupported
        )
        defer { unsafe schema.release?(&schema) }
        return try unsafe ArrowSchema(reading: schema)
    }

    /// Names and types of the result; none when they hang on parameters whose type is open.
    func schema() throws -> ArrowSchema {
        let count = unsafe Int(duckdb_prepared_statement_column_count(self.statement))
        var types = unsafe [duckdb_logical_type?](repeating: nil, count: count)
        defer { for index in unsafe types.indices { unsafe duckdb_destroy_logical_type(&types[index]) } }
        var names: [String] = []
        for index in 0..<count {
            unsafe types[index] = unsafe Self.known(
                duckdb_prepared_statement_column_logical_type(self.statement, idx_t(index))
            )
            let name = unsafe duckdb_prepared_statement_column_name(self.statement, idx_t(index))
            names.append(unsafe engineText(name))
            unsafe duckdb_free(UnsafeMutableRawPointer(mutating: name))
        }
        return try unsafe self.columns(&types, names: names)
    }

    /// Names and types of the running result.
    func resultSchema() throws -> ArrowSchema {
        let count = unsafe Int(duckdb_column_count(&self.result))
        var types = unsafe [duckdb_logical_type?](repeating: nil, count: count)
        defer { for index in unsafe types.indices { unsafe duckdb_destroy_logical_type(&types[index]) } }
        var names: [String] = []
        for index in 0..<count {
            unsafe types[index] = unsafe duckdb_column_logical_type(&self.result, idx_t(index))
            // The name is the result's.
            names.append(unsafe engineText(duckdb_column_name(&self.result, idx_t(index))))
        }
        return try unsafe self.columns(&types, names: names)
    }

    private func columns(_ types: inout [duckdb_logical_type?], names: [String]) throws -> ArrowSchema {
        var read = try unsafe self.arrowSchema(&types, names: names)
        for index in 0..<min(names.count, read.fields.count) {
            unsafe markEngineType(&read.fields[index], types[index])
        }
        return read
    }

    /// Starts execution; returns when the first rows are there or the end is reached.
    func start() throws {
        var pending: duckdb_pending_result?
        defer { unsafe duckdb_destroy_pending(&pending) }
        guard unsafe duckdb_pending_prepared_streaming(self.statement, &pending) == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_pending_error(pending)), doing: "run")
        }
        guard unsafe duckdb_execute_pending(pending, &self.result) == DuckDBSuccess else {
            let message = unsafe duckdb_pending_error(pending) ?? duckdb_result_error(&self.result)
            throw unsafe ColumnarError(engine: engineText(message), doing: "run")
        }
    }

    /// Fetches the next chunk (at most 2,048 rows) and appends it to `columns`.
    /// - Returns: Rows appended; 0 at the end.
    func fetch(into columns: [ColumnAssembler], schema: ArrowSchema) throws -> Int {
        guard unsafe !self.ended else { return 0 }
        var chunk: duckdb_data_chunk? = unsafe duckdb_fetch_chunk(self.result)
        defer { unsafe duckdb_destroy_data_chunk(&chunk) }
        guard unsafe chunk != nil else {
            unsafe self.ended = true
            // A missing chunk also means that execution failed.
            if let message = unsafe duckdb_result_error(&self.result), unsafe message.pointee != 0 {
                throw unsafe ColumnarError(engine: engineText(message), doing: "run")
            }
            return 0
        }
        let rows = unsafe Int(duckdb_data_chunk_get_size(chunk))
        guard rows > 0 else {
            unsafe self.ended = true
            return 0
        }
        if self.isPlain(schema), columns.count == schema.fields.count {
            for (index, column) in columns.enumerated() {
                try unsafe column.append(duckdb_data_chunk_get_vector(chunk, idx_t(index)), count: rows)
            }
            return rows
        }
        var array = unsafe CArrowArray()
        try unsafe check(
            duckdb_data_chunk_to_arrow(self.arrowOptions, chunk, &array),
            doing: "export rows",
            code: .unsupported
        )
        defer { unsafe array.release?(&array) }
        guard Int(unsafe array.n_children) == columns.count else {
            throw ColumnarError(.internalFailure, "the engine exported \(unsafe array.n_children) columns")
        }
        for (index, column) in columns.enumerated() {
            guard let child = unsafe array.children[index] else {
                throw ColumnarError(.internalFailure, "the engine exported no column \(index)")
            }
            try unsafe column.append(child, from: 0, count: rows, depth: 0)
        }
        return rows
    }
}

extension EngineStatement {
    /// Whether the result's columns lie in the engine's vectors as in Arrow, or are texts: then they are copied once.
    private func isPlain(_ schema: ArrowSchema) -> Bool {
        if let known = unsafe self.isPlain { return known }
        let isPlain = schema.fields.enumerated().allSatisfy { index, field in
            unsafe Self.isPlain(duckdb_column_type(&self.result, idx_t(index)), field.type)
        }
        unsafe self.isPlain = isPlain
        return isPlain
    }

    private static func isPlain(_ engine: duckdb_type, _ type: ArrowType) -> Bool {
        switch type {
        case .utf8: engine == DUCKDB_TYPE_VARCHAR
        case .binary: engine == DUCKDB_TYPE_BLOB
        case .int8: engine == DUCKDB_TYPE_TINYINT
        case .uint8: engine == DUCKDB_TYPE_UTINYINT
        case .int16: engine == DUCKDB_TYPE_SMALLINT
        case .uint16: engine == DUCKDB_TYPE_USMALLINT
        case .int32: engine == DUCKDB_TYPE_INTEGER
        case .uint32: engine == DUCKDB_TYPE_UINTEGER
        case .int64: engine == DUCKDB_TYPE_BIGINT
        case .uint64: engine == DUCKDB_TYPE_UBIGINT
        case .float32: engine == DUCKDB_TYPE_FLOAT
        case .float64: engine == DUCKDB_TYPE_DOUBLE
        case .date32: engine == DUCKDB_TYPE_DATE
        case .timestamp(.second, nil): engine == DUCKDB_TYPE_TIMESTAMP_S
        case .timestamp(.millisecond, nil): engine == DUCKDB_TYPE_TIMESTAMP_MS
        case .timestamp(.microsecond, nil): engine == DUCKDB_TYPE_TIMESTAMP
        case .timestamp(.microsecond, .some): engine == DUCKDB_TYPE_TIMESTAMP_TZ
        case .timestamp(.nanosecond, nil): engine == DUCKDB_TYPE_TIMESTAMP_NS
        default: false
        }
    }
}

extension ColumnAssembler {
    /// Appends the rows of a flat vector whose type is one of those of ``EngineStatement``'s plain columns.
    fileprivate func append(_ vector: duckdb_vector?, count: Int) throws {
        let validity = unsafe duckdb_vector_get_validity(vector).map { UnsafeRawPointer($0) }
        guard let data = unsafe duckdb_vector_get_data(vector) else {
            throw ColumnarError(.internalFailure, "the engine has a column without values")
        }
        guard self.type.layout != .variable else {
            return try unsafe self.append(texts: UnsafeRawPointer(data), validity: validity, count: count)
        }
        var part = unsafe Part(start: 0, count: count)
        unsafe part.validity = unsafe validity
        unsafe part.values = UnsafeRawPointer(data)
        self.append(part)
    }
}

/// Notes the engine's type where Arrow has none for it, so that a reader can tell JSON from text.
private func markEngineType(_ field: inout ArrowField, _ type: duckdb_logical_type?) {
    guard field.type == .utf8, let alias = unsafe duckdb_logical_type_get_alias(type) else { return }
    defer { unsafe duckdb_free(alias) }
    field.metadata.append(ArrowMetadata(key: ArrowField.engineTypeKey, value: unsafe String(cString: alias)))
}
