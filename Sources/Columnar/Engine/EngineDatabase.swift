internal import CDuckDB
internal import Foundation
internal import Synchronization

/// Files that are open in this process. The engine's file lock only keeps other processes out; two instances of one
/// process on one file would destroy it.
private let openFiles = Mutex(Set<String>())

/// One open engine instance. Closed with its last user: connections keep it alive.
@safe final class EngineDatabase: Sendable {
    // The engine's instance is internally synchronised; the handle is only freed in `deinit`.
    nonisolated(unsafe) fileprivate let handle: duckdb_database  // sendable-ok: synchronised by the engine
    /// Tells when the instance is closed.
    let closed: CloseSignal

    /// Opens an instance; `path` nil: in memory.
    /// - Throws: ``ColumnarError``; the code is the engine's, the caller decides what it means.
    init(path: String?, options: [(name: String, value: String)]) throws {
        let claim = try path.map { try FileClaim($0) }
        var config: duckdb_config?
        guard unsafe duckdb_create_config(&config) == DuckDBSuccess else {
            throw ColumnarError(.internalFailure, "cannot create an engine configuration")
        }
        defer { unsafe duckdb_destroy_config(&config) }
        for option in options {
            guard unsafe duckdb_set_config(config, option.name, option.value) == DuckDBSuccess else {
                throw ColumnarError(.invalidConfiguration, "the engine refuses \(option.name) = \(option.value)")
            }
        }
        var handle: duckdb_database?
        var message: UnsafeMutablePointer<CChar>?
        let state = unsafe duckdb_open_ext(path, &handle, config, &message)
        guard state == DuckDBSuccess, let handle = unsafe handle else {
            let text = unsafe message.map { unsafe String(cString: $0) } ?? "no reason given"
            unsafe duckdb_free(message)
            throw ColumnarError(engine: text, doing: "open")
        }
        unsafe self.handle = unsafe handle
        self.closed = CloseSignal(claim: claim)
    }

    deinit {
        var handle: duckdb_database? = unsafe self.handle
        unsafe duckdb_close(&handle)
        self.closed.signal()
    }

    /// Opens a connection, which costs some microseconds.
    func connect() throws -> EngineConnection {
        var connection: duckdb_connection?
        guard unsafe duckdb_connect(self.handle, &connection) == DuckDBSuccess, let connection = unsafe connection
        else { throw ColumnarError(.internalFailure, "cannot open a connection") }
        return unsafe EngineConnection(database: self, handle: connection)
    }
}

/// The right to be the only instance of this process on a file.
private final class FileClaim: Sendable {
    private let path: String

    init(_ path: String) throws {
        let resolved = URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path
        guard openFiles.withLock({ $0.insert(resolved).inserted }) else {
            throw ColumnarError(.io, "\(path) is already open in this process")
        }
        self.path = resolved
    }

    deinit { _ = openFiles.withLock { $0.remove(self.path) } }
}

/// Lets a caller wait until an instance has been closed, which happens when its last connection goes.
final class CloseSignal: Sendable {
    private struct State {
        var claim: FileClaim?
        var isClosed = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    fileprivate init(claim: FileClaim?) { self.state = Mutex(State(claim: claim)) }

    fileprivate func signal() {
        let waiters = self.state.withLock { state in
            // The file may be opened again from here on.
            state.claim = nil
            state.isClosed = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isClosed = self.state.withLock { state in
                if !state.isClosed { state.waiters.append(continuation) }
                return state.isClosed
            }
            if isClosed { continuation.resume() }
        }
    }
}

/// One connection: a transaction and at most one running statement.
///
/// Calls run one at a time on the module's threads, except ``interrupt()``, which any thread may call.
@safe final class EngineConnection: Sendable {
    private let database: EngineDatabase
    nonisolated(unsafe) let handle: duckdb_connection  // sendable-ok: freed in `deinit`, callers take turns

    fileprivate init(database: EngineDatabase, handle: duckdb_connection) {
        self.database = database
        unsafe self.handle = unsafe handle
    }

    deinit {
        var handle: duckdb_connection? = unsafe self.handle
        unsafe duckdb_disconnect(&handle)
    }

    /// Stops the running statement soon; thread safe.
    func interrupt() { unsafe duckdb_interrupt(self.handle) }

    /// Runs statements and drops their results.
    func execute(_ sql: String, doing operation: String) throws {
        var result = unsafe duckdb_result()
        defer { unsafe duckdb_destroy_result(&result) }
        guard unsafe duckdb_query(self.handle, sql, &result) == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_result_error(&result)), doing: operation)
        }
    }

    /// Runs a statement and returns the first value of its first row as an unsigned number; nil: no row.
    func number(_ sql: String, doing operation: String) throws -> UInt64? {
        var result = unsafe duckdb_result()
        defer { unsafe duckdb_destroy_result(&result) }
        guard unsafe duckdb_query(self.handle, sql, &result) == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_result_error(&result)), doing: operation)
        }
        var chunk: duckdb_data_chunk? = unsafe duckdb_fetch_chunk(result)
        defer { unsafe duckdb_destroy_data_chunk(&chunk) }
        guard unsafe chunk != nil, unsafe duckdb_data_chunk_get_size(chunk) > 0 else { return nil }
        let type = unsafe duckdb_column_type(&result, 0)
        guard type == DUCKDB_TYPE_UBIGINT || type == DUCKDB_TYPE_BIGINT,
            let data = unsafe duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0))
        else { throw ColumnarError(.internalFailure, "\(operation): the result is not a number") }
        return unsafe data.loadUnaligned(as: UInt64.self)
    }

    /// Runs a statement with one text parameter and returns its first value as text; nil: null.
    func text(_ sql: String, parameter: String, doing operation: String) throws -> String? {
        var statement: duckdb_prepared_statement?
        defer { unsafe duckdb_destroy_prepare(&statement) }
        guard unsafe duckdb_prepare(self.handle, sql, &statement) == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_prepare_error(statement)), doing: operation)
        }
        let bytes = Array(parameter.utf8)
        let bound = unsafe bytes.withUnsafeBufferPointer { buffer in
            unsafe buffer.withMemoryRebound(to: CChar.self) {
                unsafe duckdb_bind_varchar_length(statement, 1, $0.baseAddress, idx_t($0.count))
            }
        }
        guard bound == DuckDBSuccess else { throw ColumnarError(.internalFailure, "\(operation): cannot bind") }
        var result = unsafe duckdb_result()
        defer { unsafe duckdb_destroy_result(&result) }
        guard unsafe duckdb_execute_prepared(statement, &result) == DuckDBSuccess else {
            throw unsafe ColumnarError(engine: engineText(duckdb_result_error(&result)), doing: operation)
        }
        var chunk: duckdb_data_chunk? = unsafe duckdb_fetch_chunk(result)
        defer { unsafe duckdb_destroy_data_chunk(&chunk) }
        guard unsafe chunk != nil, unsafe duckdb_data_chunk_get_size(chunk) > 0,
            let vector = unsafe duckdb_data_chunk_get_vector(chunk, 0),
            let data = unsafe duckdb_vector_get_data(vector)
        else { return nil }
        if let validity = unsafe duckdb_vector_get_validity(vector), unsafe validity[0] & 1 == 0 { return nil }
        let value = unsafe data.assumingMemoryBound(to: duckdb_string_t.self)
        let length = unsafe Int(duckdb_string_t_length(value.pointee))
        guard let start = unsafe duckdb_string_t_data(value) else { return nil }
        return unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: length), as: UTF8.self)
    }
}

/// A message that the engine owns, copied.
func engineText(_ message: UnsafePointer<CChar>?) -> String {
    unsafe message.map { unsafe String(cString: $0) } ?? "no reason given"
}

/// Throws the error that a function of the engine returned as an object, and frees it.
///
/// These objects carry a kind and a plain message.
/// - Parameter code: Stands for the kinds that say nothing about the failure.
func check(_ error: duckdb_error_data?, doing operation: String, code: ColumnarError.Code) throws {
    var error = unsafe error
    guard unsafe error != nil else { return }
    defer { unsafe duckdb_destroy_error_data(&error) }
    guard unsafe duckdb_error_data_has_error(error) else { return }
    let message = unsafe engineText(duckdb_error_data_message(error))
    let kind: ColumnarError.Code =
        switch unsafe duckdb_error_data_error_type(error) {
        case DUCKDB_ERROR_CATALOG: .catalog
        case DUCKDB_ERROR_OUT_OF_MEMORY: .memoryLimit
        case DUCKDB_ERROR_PERMISSION: .notAllowed
        case DUCKDB_ERROR_IO: .io
        case DUCKDB_ERROR_INTERRUPT: .cancelled
        case DUCKDB_ERROR_CONSTRAINT, DUCKDB_ERROR_CONVERSION, DUCKDB_ERROR_OUT_OF_RANGE: .execution
        default: code
        }
    throw ColumnarError(kind, "\(operation): \(message)")
}
