internal import Dispatch
internal import Foundation
internal import Synchronization

/// One engine instance: an organization's columnar store, a planner's empty copy of it, or a router's scratch space.
///
/// Every call into the engine runs on the given ``ColumnarThreads``. Queries run each on a connection of their own, in
/// a read-only transaction; ingest has one connection, whose calls take turns.
package final class ColumnarStore: Sendable {
    /// Where the data is kept.
    package enum Location: Sendable {
        /// A file, made when it is missing. One process and one store may have it open.
        case file(String)
        /// Memory, gone with the store.
        case memory
    }

    /// What became of a batch.
    package enum IngestOutcome: Sendable, Equatable {
        /// Rows and position were written.
        case applied
        /// The store is already at this position or beyond it: nothing was written.
        case alreadyApplied
    }

    /// Name of the table that holds the position.
    package static let positionTable = "_position"

    private struct State {
        var database: EngineDatabase?
        var ingestConnection: EngineConnection?
        /// Queries that may still run; those that are gone are swept when the list has doubled.
        var cursors: [WeakCursor] = []
        var cursorsSweptAt = 64
    }

    private struct WeakCursor {
        weak var cursor: ResultCursor?
    }

    private let state: Mutex<State>
    /// Held during each use of the ingest connection.
    private let ingestTurn = Mutex(())
    let numbers = SnapshotNumbers()
    let threads: ColumnarThreads
    let configuration: ColumnarConfiguration
    let breadth: StoreBreadth

    private init(
        database: EngineDatabase,
        connection: EngineConnection,
        threads: ColumnarThreads,
        configuration: ColumnarConfiguration,
        breadth: StoreBreadth
    ) {
        self.breadth = breadth
        self.state = Mutex(State(database: database, ingestConnection: connection))
        self.threads = threads
        self.configuration = configuration
    }

    // MARK: - Opening and closing

    /// Opens a store, or makes it.
    /// - Throws: ``ColumnarError`` `.damaged` when the file cannot be read or is not a columnar store (delete it and
    ///   rebuild), `.invalidConfiguration`, `.io`, `.busy`.
    package static func open(
        _ location: Location,
        configuration: ColumnarConfiguration = .init(),
        threads: ColumnarThreads
    ) async throws -> ColumnarStore {
        try configuration.validate()
        return try await threads.run(on: .query) {
            try Self.openNow(location, configuration: configuration, threads: threads)
        }
    }

    private static func openNow(
        _ location: Location,
        configuration: ColumnarConfiguration,
        threads: ColumnarThreads
    ) throws -> ColumnarStore {
        if let directory = configuration.temporaryDirectory { try Self.wipe(directory) }
        var path: String?
        if case .file(let file) = location { path = file }
        // A log alone is not of a new store.
        let isNew =
            path.map { path in
                ![path, path + ".wal"].contains { FileManager.default.fileExists(atPath: $0) }
            } ?? true
        do {
            let breadth = StoreBreadth(path: path, configuration)
            let database = try EngineDatabase(
                path: path,
                options: Self.options(configuration) + [(name: "threads", value: "\(breadth.threads)")]
            )
            let connection = try database.connect()
            // Not the machine's zone: the same statement must give the same answer on every node.
            try connection.execute("SET GLOBAL TimeZone = 'UTC'", doing: "set the time zone")
            // A checkpoint compresses the last row group anew: not for each few thousand rows.
            try connection.execute("SET GLOBAL checkpoint_threshold = '64MB'", doing: "set the checkpoint threshold")
            if configuration.access == .sandboxed {
                // After the opening: as an option of it, the engine would forget to leave the directory for spilling open.
                try connection.execute("SET enable_external_access = false", doing: "close the file system")
                try connection.execute(
                    "SET allowed_configs = ['threads']; SET lock_configuration = true",
                    doing: "lock the configuration"
                )
            }
            try Self.preparePosition(connection, isNew: isNew)
            return ColumnarStore(
                database: database,
                connection: connection,
                threads: threads,
                configuration: configuration,
                breadth: breadth
            )
        } catch let error as ColumnarError {
            throw path.map { Self.openFailure(error, path: $0) } ?? error
        }
    }

    private static func options(_ configuration: ColumnarConfiguration) -> [(name: String, value: String)] {
        let milliseconds = configuration.timeLimit.components.seconds * 1_000
        var options = [
            (name: "errors_as_json", value: "true"),
            (name: "async_threads", value: "0"),
            (name: "pin_threads", value: "off"),
            (name: "memory_limit", value: "\(configuration.memoryLimitBytes)B"),
            (name: "autoload_known_extensions", value: "false"),
            (name: "autoinstall_known_extensions", value: "false"),
            (name: "allow_community_extensions", value: "false"),
            // Behind our own limit, which is exact: twice the time, and not less than a second more.
            (name: "max_execution_time", value: "\(milliseconds * 2 + 1_000)"),
            (name: "temp_directory", value: configuration.temporaryDirectory ?? ""),
        ]
        if configuration.temporaryDirectory != nil {
            options.append((name: "max_temp_directory_size", value: "\(configuration.temporaryBytesMax)B"))
        }
        return options
    }

    private static func wipe(_ directory: String) throws {
        do {
            if FileManager.default.fileExists(atPath: directory) {
                try FileManager.default.removeItem(atPath: directory)
            }
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        } catch {
            throw ColumnarError(.io, "cannot make the temporary directory \(directory)", cause: error)
        }
    }

    /// Finds the position table, or makes it in an empty database.
    ///
    /// Where there can be none it is not looked for: a name that is not found costs the engine as much as all else of an
    /// opening, for it makes its own catalog then.
    private static func preparePosition(_ connection: EngineConnection, isNew: Bool) throws {
        if isNew { return try self.makePosition(connection) }
        let doing = "read the position"
        do {
            let rows = try connection.number("SELECT count(position) FROM \(self.positionTable)", doing: doing)
            guard rows == 1 else { throw ColumnarError(.damaged, "the position table has \(rows ?? 0) rows") }
        } catch let error as ColumnarError where error.code == .catalog || error.code == .binder {
            // Only then: the list of all tables takes a third of the whole opening.
            let tables = try connection.number("SELECT count(*) FROM duckdb_tables()", doing: doing) ?? 0
            guard tables == 0 else {
                throw ColumnarError(.damaged, "the file is a database, but not a columnar store", cause: error)
            }
            try self.makePosition(connection)
        }
    }

    private static func makePosition(_ connection: EngineConnection) throws {
        try connection.execute(
            "BEGIN; CREATE TABLE \(self.positionTable) (position UBIGINT NOT NULL);"
                + "INSERT INTO \(self.positionTable) VALUES (0); COMMIT",
            doing: "make the position table"
        )
    }

    /// Tells a file that is of no use from one that only cannot be had now: the caller deletes the former.
    private static func openFailure(_ error: ColumnarError, path: String) -> ColumnarError {
        let message = error.message.lowercased()
        let refusals = [
            "permission denied", "lock", "no such file", "no space", "already", "cannot open file", "conflict",
            "too many open files", "is a directory",
        ]
        if refusals.contains(where: { message.contains($0) }) && error.code != .damaged {
            return ColumnarError(.io, "cannot open \(path)", cause: error)
        }
        switch error.code {
        case .io, .internalFailure, .execution, .binder:
            return ColumnarError(.damaged, "\(path) is not a usable columnar store", cause: error)
        default: return error
        }
    }

    /// Closes the store: stops its queries, and returns when the file is closed. Later calls throw `.closed`.
    ///
    /// May be called again. A query that is just starting, or an ingest, is waited for.
    package func close() async {
        guard let closed = self.detach() else { return }
        await closed.wait()
    }

    /// Lets go of the database, on the ingest lane, because the last one to do so writes the engine's log into the file.
    private func detach() -> CloseSignal? {
        let closing = self.state.withLock { state in
            defer { state = State() }
            return state
        }
        guard let database = closing.database else { return nil }
        for entry in closing.cursors { entry.cursor?.cancel() }
        let connection = closing.ingestConnection
        // Refused after shutdown: then it happens here.
        _ = self.threads.submit(on: .ingest) { withExtendedLifetime((database, connection)) {} }
        return database.closed
    }

    /// Remembers a query, so that closing the store stops it.
    func register(_ cursor: ResultCursor) {
        let isClosed = self.state.withLock { state in
            if state.cursors.count >= state.cursorsSweptAt {
                state.cursors.removeAll { $0.cursor == nil }
                state.cursorsSweptAt = max(64, state.cursors.count * 2)
            }
            state.cursors.append(WeakCursor(cursor: cursor))
            return state.database == nil
        }
        if isClosed { cursor.cancel() }
    }

    func database() throws -> EngineDatabase {
        guard let database = self.state.withLock({ $0.database }) else {
            throw ColumnarError(.closed, "the columnar store is closed")
        }
        return database
    }

    /// Lends the ingest connection to one job at a time.
    ///
    /// - Parameter keepsNumbers: Whether nothing is written that the scopes of statements read: neither the position nor a
    ///   table of our own.
    func withIngestConnection<R>(
        keepsNumbers: Bool = false,
        _ body: (EngineConnection) throws -> R
    ) throws -> R {
        guard let connection = self.state.withLock({ $0.ingestConnection }) else {
            throw ColumnarError(.closed, "the columnar store is closed")
        }
        return try self.ingestTurn.withLock { _ in
            if !keepsNumbers { self.numbers.beginWriting() }
            defer { if !keepsNumbers { self.numbers.endWriting() } }
            return try body(connection)
        }
    }

    // MARK: - Own statements

    /// Runs a statement of our own, for example a definition; never text that a user wrote.
    package func execute(_ sql: String) async throws {
        try await self.threads.run(on: .query) {
            try self.withIngestConnection { try $0.execute(sql, doing: "run a definition") }
        }
    }

    /// Runs a definition of our own that touches neither the position nor what scopes read, such as that of a table.
    package func define(_ sql: String) async throws {
        try await self.threads.run(on: .query) {
            try self.withIngestConnection(keepsNumbers: true) { try $0.execute(sql, doing: "run a definition") }
        }
    }

    /// Runs `body` on a thread of the store's; it may block there.
    package func run<R: Sendable>(
        on lane: ColumnarThreads.Lane,
        _ body: @escaping @Sendable () throws -> R
    ) async throws -> R {
        try await self.threads.run(on: lane, body)
    }

    /// Makes a table unless it is there.
    package func createTable(_ schema: TableSchema) async throws {
        try await self.execute(schema.createStatement)
    }

    /// Writes the engine's log into the database file.
    package func checkpoint() async throws {
        try await self.threads.run(on: .ingest) {
            try self.withIngestConnection(keepsNumbers: true) { try $0.execute("CHECKPOINT", doing: "checkpoint") }
        }
    }
}
