internal import Dispatch
internal import Foundation
internal import Synchronization

/// Who wrote a statement.
package enum StatementOrigin: Sendable, Hashable {
    /// A user: the gate of the store looks at it.
    case user
    /// The query router, out of a statement that has passed its own, stricter gate. It may use aggregate states.
    case router
}

/// How a statement's rows are made.
package enum AnswerDelivery: Sendable, Hashable {
    /// While they are read, a bounded number ahead of the reader.
    case streamed
    /// All before the first can be read, within the store's memory. For short answers of the router's own statements, for
    /// which it takes half the work: the engine plans a statement twice whose rows it streams.
    case whole
}

/// Rows that one statement sees in a table, and nobody else: they are gone with it.
package struct TransientRows: Sendable {
    /// An existing table.
    package let table: String
    /// Their columns fit the table's, or are converted where the engine can.
    package let batches: [ArrowRecordBatch]

    /// Creates rows of a table.
    package init(table: String, batches: [ArrowRecordBatch]) {
        self.table = table
        self.batches = batches
    }
}

/// What a statement needs and gives, without running it.
package struct StatementDescription: Sendable, Hashable {
    /// Names and types of the columns; none when they hang on parameters whose type is open.
    package let schema: ArrowSchema
    /// Types of the parameters 1, 2, …; `.null` where the statement leaves the type open.
    package let parameterTypes: [ArrowType]

    /// Creates a description.
    package init(schema: ArrowSchema, parameterTypes: [ArrowType]) {
        self.schema = schema
        self.parameterTypes = parameterTypes
    }
}

extension ColumnarStore {
    /// Runs one read-only SELECT and streams its rows.
    ///
    /// The statement sees one snapshot, and ``ColumnarResult/position`` is the position of that snapshot. The time
    /// limit counts from this call to the last batch. Cancelling the calling task stops the query.
    /// - Throws: ``ColumnarError``: `.syntax`, `.binder`, `.catalog` with the position in `sql`; `.notAllowed`;
    ///   `.execution`; `.timeLimit`, `.memoryLimit`, `.resultLimit`, `.cancelled`; `.busy`; `.closed`.
    /// - Parameters:
    ///   - delivery: How the rows are made.
    ///   - rows: Appended for this statement alone; it then sees the store as it is, at position 0.
    ///   - scope: Says, inside of the snapshot, what the statement sees instead of the store as it is.
    package func query(
        _ sql: String,
        parameters: [ArrowValue] = [],
        origin: StatementOrigin = .user,
        limits: QueryLimits = .init(),
        delivery: AnswerDelivery = .streamed,
        rows: TransientRows? = nil,
        scope: (@Sendable (StoreSnapshot) throws -> QueryScope)? = nil
    ) async throws -> ColumnarResult {
        let limit = limits.timeLimit.map { min($0, self.configuration.timeLimit) } ?? self.configuration.timeLimit
        let deadline = DispatchTime.now() + .nanoseconds(limit.nanoseconds)  // ambient-ok: a time limit is wall time
        let start = QueryStart(threads: self.threads)
        let (cursor, schema, position) = try await withTaskCancellationHandler {
            try await self.threads.run(on: .query) {
                let connection = try self.database().connect()
                try self.breadth.grow(connection)
                let (statement, schema, position) = try start.run(connection, deadline: deadline) {
                    try self.begin(
                        Prepared(sql, parameters, origin, delivery, rows, limits.hidden, scope),
                        on: connection
                    )
                }
                let cursor = ResultCursor(
                    connection: connection,
                    statement: statement,
                    schema: schema,
                    limits: limits,
                    deadline: deadline,
                    threads: self.threads
                )
                self.register(cursor)
                start.began(cursor)
                // Short answers are whole now, without another change of threads.
                cursor.fetchHere()
                return (cursor, schema, position)
            }
        } onCancel: {
            start.cancel()
        }
        return ColumnarResult(
            schema: schema,
            position: position,
            batches: ColumnarBatches(owner: ColumnarBatches.Owner(cursor: cursor))
        )
    }

    /// A statement that is about to start.
    private struct Prepared {
        let sql: String
        let parameters: [ArrowValue]
        let origin: StatementOrigin
        var delivery: AnswerDelivery
        let rows: TransientRows?
        let hidden: [HiddenRows]
        let scope: (@Sendable (StoreSnapshot) throws -> QueryScope)?

        init(
            _ sql: String,
            _ parameters: [ArrowValue],
            _ origin: StatementOrigin,
            _ delivery: AnswerDelivery,
            _ rows: TransientRows?,
            _ hidden: [HiddenRows],
            _ scope: (@Sendable (StoreSnapshot) throws -> QueryScope)?
        ) {
            (self.sql, self.parameters, self.origin) = (sql, parameters, origin)
            (self.delivery, self.rows, self.hidden, self.scope) = (delivery, rows, hidden, scope)
        }
    }

    private typealias Started = (statement: EngineStatement, schema: ArrowSchema, position: UInt64)

    private func begin(_ query: Prepared, on connection: EngineConnection) throws -> Started {
        do {
            return try self.prepare(query, on: connection)
        } catch let error as ColumnarError where error.code == .memoryLimit && query.delivery == .whole {
            // The answer may fit piece by piece.
            try connection.execute("ROLLBACK", doing: "begin anew")
            var query = query
            query.delivery = .streamed
            return try self.prepare(query, on: connection)
        }
    }

    private func prepare(_ query: Prepared, on connection: EngineConnection) throws -> Started {
        if query.origin == .user { try self.passGate(query.sql, on: connection) }
        if let rows = query.rows { return try self.start(query, with: rows, on: connection) }
        if let started = try self.startKnown(query, on: connection) { return started }
        let writes = self.numbers.quietWrites()
        try connection.execute(Self.begin, doing: "begin")
        // The first read of the transaction fixes its snapshot.
        let snapshot = StoreSnapshot(
            connection: connection,
            position: try Self.readPosition(connection),
            known: nil
        )
        let seen = try query.scope?(snapshot) ?? QueryScope(position: snapshot.position)
        self.numbers.keep(position: snapshot.position, snapshot.record.numbers, since: writes)
        if !seen.replacements.isEmpty || !query.hidden.isEmpty {
            try StatementGate.checkNamesNoDatabase(tree: Self.serialize(query.sql, on: connection))
            try seen.install(on: connection, hiding: query.hidden, database: try snapshot.database())
        }
        let statement = try self.start(query, on: connection)
        return (statement, try statement.resultSchema(), seen.position)
    }

    private static let begin = "BEGIN TRANSACTION READ ONLY"

    /// Starts a statement in a transaction that has more rows than the store; it is rolled back when the connection ends.
    private func start(
        _ query: Prepared,
        with rows: TransientRows,
        on connection: EngineConnection
    ) throws -> Started {
        try connection.execute("BEGIN TRANSACTION", doing: "begin")
        let appender = try EngineAppender(connection, table: rows.table)
        for batch in rows.batches { try appender.append(batch) }
        try appender.flush()
        let statement = try self.start(query, on: connection)
        return (statement, try statement.resultSchema(), 0)
    }

    /// Starts a statement without reading the numbers of its snapshot, which are known as long as nobody writes.
    /// - Returns: nil when they are not, or when the statement sees something else than the store as it is.
    private func startKnown(_ query: Prepared, on connection: EngineConnection) throws -> Started? {
        guard query.hidden.isEmpty, let known = self.numbers.known() else { return nil }
        let snapshot = StoreSnapshot(connection: connection, position: known.position, known: known)
        let seen: QueryScope
        do {
            seen = try query.scope?(snapshot) ?? QueryScope(position: snapshot.position)
        } catch is StoreSnapshot.Unknown {
            return nil
        }
        guard seen.replacements.isEmpty else { return nil }
        try connection.execute(Self.begin, doing: "begin")
        let statement = try self.start(query, on: connection)
        // Its tables are bound: the snapshot is fixed.
        if self.numbers.isStill(known) { return (statement, try statement.resultSchema(), seen.position) }
        statement.close()
        try connection.execute("ROLLBACK", doing: "begin anew")
        return nil
    }

    private func start(_ query: Prepared, on connection: EngineConnection) throws -> EngineStatement {
        if query.delivery == .whole, query.origin == .router, query.parameters.isEmpty,
            try self.isOneSelect(query.sql, on: connection)
        {
            return try EngineStatement(whole: connection, sql: query.sql)
        }
        let statement = try EngineStatement(connection, sql: query.sql, values: query.parameters)
        try statement.start()
        return statement
    }

    /// Whether a text is one SELECT and nothing else, as far as that is seen without binding it.
    private func isOneSelect(_ sql: String, on connection: EngineConnection) throws -> Bool {
        guard sql.utf8.starts(with: "SELECT ".utf8) else { return false }
        if self.threads.statements.selects.withLock({ $0.contains(sql) }) { return true }
        guard try EngineStatement.count(sql, on: connection) == 1 else { return false }
        guard sql.utf8.count <= KnownStatements.bytesMax else { return true }
        self.threads.statements.selects.withLock { known in
            if known.count >= KnownStatements.max { known.removeAll(keepingCapacity: true) }
            known.insert(sql)
        }
        return true
    }

    /// Refuses what a user may not run; our own planner's statements (`.trusted`) only have to be one SELECT.
    private func passGate(_ sql: String, on connection: EngineConnection) throws {
        guard self.configuration.access == .sandboxed else { return }
        guard sql.utf8.count <= StatementGate.statementBytesMax else {
            throw ColumnarError(.notAllowed, "a statement may have \(StatementGate.statementBytesMax) bytes")
        }
        if self.threads.statements.passed.withLock({ $0[sql] != nil }) { return }
        let tree = try Self.serialize(sql, on: connection)
        try StatementGate.check(tree: tree)
        let names = StatementGate.tableNames(tree: tree)
        self.threads.statements.passed.withLock { passed in
            if passed.count >= KnownStatements.max { passed.removeAll(keepingCapacity: true) }
            passed[sql] = names
        }
    }

    /// The names, in lower case, that stand in the place of a table in a statement that may run; those of its own common
    /// tables are among them.
    /// - Throws: ``ColumnarError``, as ``query(_:parameters:origin:limits:scope:)`` before execution.
    package func tableNames(in sql: String, origin: StatementOrigin = .user) async throws -> Set<String> {
        let known =
            origin == .user
            ? self.threads.statements.passed.withLock { $0[sql] } : self.threads.statements.routers.withLock { $0[sql] }
        if let known { return known }
        return try await self.threads.run(on: .query) {
            let connection = try self.database().connect()
            if origin == .user { try self.passGate(sql, on: connection) }
            if let names = self.threads.statements.passed.withLock({ $0[sql] }) { return names }
            let names = StatementGate.tableNames(tree: try Self.serialize(sql, on: connection))
            if origin != .user, sql.utf8.count <= KnownStatements.bytesMax {
                self.threads.statements.routers.withLock { known in
                    if known.count >= KnownStatements.max { known.removeAll(keepingCapacity: true) }
                    known[sql] = names
                }
            }
            return names
        }
    }

    // MARK: - The planner's tools

    /// The statement's syntax tree as the engine's JSON.
    ///
    /// The format belongs to the pinned engine version. Only SELECT statements have one.
    /// - Throws: ``ColumnarError`` `.syntax` with the position, `.notAllowed` for anything but SELECT.
    package func serializeSQL(_ sql: String) async throws -> String {
        try await self.threads.run(on: .query) {
            try Self.serialize(sql, on: self.database().connect())
        }
    }

    private static func serialize(_ sql: String, on connection: EngineConnection) throws -> String {
        let tree = try connection.text("SELECT json_serialize_sql(?::VARCHAR)", parameter: sql, doing: "parse")
        guard let tree else { throw ColumnarError(.internalFailure, "the engine returned no syntax tree") }
        guard tree.hasPrefix("{\"error\":true") else { return tree }
        struct Failure: Decodable {
            var error_type: String
            var error_message: String
            var position: String?
        }
        guard let failure = try? JSONDecoder().decode(Failure.self, from: Data(tree.utf8)) else {
            throw ColumnarError(.syntax, "the statement does not parse")
        }
        if failure.error_type.lowercased() == "not implemented" {
            throw ColumnarError(.notAllowed, "only SELECT is allowed")
        }
        let message = failure.error_message
        throw ColumnarError(.syntax, message, position: failure.position.flatMap { Int($0) })
    }

    /// The statement behind a syntax tree.
    /// - Throws: ``ColumnarError`` when `json` is not a tree that this engine version writes.
    package func deserializeSQL(_ json: String) async throws -> String {
        try await self.threads.run(on: .query) {
            let sql = try self.database().connect()
                .text("SELECT json_deserialize_sql(?::JSON)", parameter: json, doing: "write a statement")
            guard let sql else { throw ColumnarError(.internalFailure, "the engine returned no statement") }
            return sql
        }
    }

    /// Binds a statement without running it: names and types of its result, and the types of its parameters.
    /// - Throws: ``ColumnarError``, as ``query(_:parameters:origin:limits:scope:)`` before execution.
    package func describe(_ sql: String, origin: StatementOrigin = .user) async throws -> StatementDescription {
        try await self.threads.run(on: .query) {
            let connection = try self.database().connect()
            if origin == .user { try self.passGate(sql, on: connection) }
            let statement = try EngineStatement(connection, sql: sql, values: nil)
            return StatementDescription(
                schema: try statement.schema(),
                parameterTypes: try statement.parameterTypes()
            )
        }
    }
}

/// The part of a query before there is a cursor: lets a cancellation reach whatever call is running.
private final class QueryStart: Sendable {
    private struct State {
        var cancelled = false
        var token: Interrupter.Token?
        /// Takes over once the statement has started.
        var cursor: ResultCursor?
    }

    private let state = Mutex(State())
    private let threads: ColumnarThreads

    init(threads: ColumnarThreads) { self.threads = threads }

    func cancel() {
        let (token, cursor) = self.state.withLock { state in
            state.cancelled = true
            return (state.token, state.cursor)
        }
        if let token { self.threads.interrupter.cancel(token) }
        cursor?.cancel()
    }

    /// From here on a cancellation is the cursor's.
    func began(_ cursor: ResultCursor) {
        let isCancelled = self.state.withLock { state in
            state.cursor = cursor
            return state.cancelled
        }
        if isCancelled { cursor.cancel() }
    }

    func run<R>(_ connection: EngineConnection, deadline: DispatchTime, _ body: () throws -> R) throws -> R {
        let token = self.threads.interrupter.begin(connection, deadline: deadline)
        let cancelled = self.state.withLock { state in
            state.token = token
            return state.cancelled
        }
        let result = Result {
            guard !cancelled else { throw ColumnarError(.cancelled, "the query was cancelled") }
            return try body()
        }
        self.state.withLock { $0.token = nil }
        let reason = self.threads.interrupter.end(token)
        switch result {
        case .success(let value):
            // Interrupted, yet it ended well: the time has passed all the same.
            if let reason { throw ColumnarError(.cancelled, "the query was stopped").explained(by: reason) }
            return value
        case .failure(let error as ColumnarError):
            throw cancelled ? error : error.explained(by: reason)
        case .failure(let error): throw error
        }
    }
}

extension Duration {
    /// Whole nanoseconds, at most those of a year.
    var nanoseconds: Int {
        let secondsMax: Int64 = 365 * 86_400
        let (seconds, attoseconds) = self.components
        if seconds >= secondsMax { return Int(secondsMax) * 1_000_000_000 }
        return Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000)
    }
}
