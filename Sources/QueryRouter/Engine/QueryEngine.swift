package import Columnar

/// All of the engine that the router itself needs: a parser, a binder, and scratch stores.
///
/// Nothing else in this module touches DuckDB, so that whoever implements this decides in which process users'
/// statements are read and the final steps run. Every value that crosses it is plain data.
package protocol QueryEngine: Sendable {
    /// The statement's syntax tree as the engine's JSON.
    /// - Throws: Columnar's error `.syntax` with the position, `.notAllowed` for anything but SELECT.
    func syntaxTree(of sql: String) async throws -> String

    /// The statement behind a syntax tree.
    func sql(of tree: String) async throws -> String

    /// Binds a statement over empty tables: names and types of its result and types of its parameters.
    ///
    /// - Parameter origin: `.router` for statements of the router's own, which may use aggregate states.
    /// - Throws: Columnar's error, with the position in `sql`.
    func describe(
        _ sql: String,
        over schema: EngineSchema,
        origin: StatementOrigin
    ) async throws -> StatementDescription

    /// Opens a store in memory for one query.
    /// - Throws: Columnar's error of the definition.
    func openScratch(_ settings: ScratchSettings) async throws -> any QueryScratch

    /// Answers one statement of the router's own over few rows: as ``openScratch(_:)``, ``QueryScratch/append(_:to:)``,
    /// ``QueryScratch/query(_:parameters:origin:delivery:limits:)`` and ``QueryScratch/close()`` in a row, in one question.
    ///
    /// - Parameter rows: Of a table that the settings' definition makes.
    func answer(
        _ sql: String,
        over rows: TransientRows,
        in settings: ScratchSettings,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult

    /// Frees what the engine keeps. Scratch stores that are open stay usable.
    func close() async
}

/// One query's own store: gathered rows, and the final step over them.
///
/// Whoever drops a scratch without closing it has it closed in the background.
package protocol QueryScratch: Sendable {
    /// Runs a definition of the router's own; never text that a user wrote.
    func define(_ sql: String) async throws

    /// Appends rows to a table, all or none; types that differ are converted where the engine can.
    /// - Parameter batches: Of one schema.
    func append(_ batches: [ArrowRecordBatch], to table: String) async throws

    /// Runs one SELECT; returns when the first rows can be read.
    ///
    /// Cancelling the calling task, or dropping the batches, stops it.
    func query(
        _ sql: String,
        parameters: [ArrowValue],
        origin: StatementOrigin,
        delivery: AnswerDelivery,
        limits: QueryLimits
    ) async throws -> ScratchResult

    /// Binds a statement without running it.
    func describe(_ sql: String, origin: StatementOrigin) async throws -> StatementDescription

    /// Frees the store and what it has spilled; may be called again.
    func close() async
}

/// Rows of a scratch store.
package struct ScratchResult: Sendable {
    package let schema: ArrowSchema
    package let batches: RecordBatchStream

    package init(schema: ArrowSchema, batches: RecordBatchStream) {
        self.schema = schema
        self.batches = batches
    }
}

/// What one query's scratch store may use.
package struct ScratchSettings: Sendable, Hashable {
    /// Buffer memory, in bytes; nil or more than the engine's limit: the engine's.
    package var memoryBytesMax: Int?
    /// From the opening to the last batch.
    package var timeLimit: Duration
    /// Tables without rows over which the answers' table is defined; nil: none.
    ///
    /// A store that had the same is used again with them in place. Then nothing else may be defined there but the one
    /// table `_ft_parts`.
    package var schema: EngineSchema?
    /// Run when the store is there, as by ``QueryScratch/define(_:)``; empty: nothing.
    package var definition: String

    package init(
        memoryBytesMax: Int? = nil,
        timeLimit: Duration,
        schema: EngineSchema? = nil,
        definition: String = ""
    ) {
        self.memoryBytesMax = memoryBytesMax
        self.timeLimit = timeLimit
        self.schema = schema
        self.definition = definition
    }
}

/// Definitions of tables without rows, over which statements are bound.
///
/// Equal values bind equally: an engine may keep the stores of those that it has seen.
package struct EngineSchema: Sendable, Hashable {
    /// Statements of the router's own, to be run in this order.
    package let definitions: [String]

    package init(definitions: [String]) { self.definitions = definitions }
}
