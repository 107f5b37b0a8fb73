internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards

/// The columnar stores of a node's organizations, wherever they are open.
///
/// Two implementations: ``WorkerPool``, whose stores are open in worker processes, is what a node runs; and
/// ``ColumnarStores``, in whose process they are open: that is what a worker runs itself, and unit tests.
protocol OrganizationStores: ProjectionStore {
    /// Runs one SELECT on an organization's store as it is.
    ///
    /// Returns when the first rows can come; cancelling the calling task stops the query. The batches outlive that task;
    /// dropping their iterator, or cancelling the task that reads, stops them.
    /// - Throws: ``ColumnarError`` of the store; ``QueryError`` `.unavailable` when the process that had it open is gone.
    func query(_ question: StoreQuestion, of organization: OrganizationID) async throws -> StoreResult

    /// The tables that statements on an organization's store may name.
    ///
    /// - Parameter isCurrent: Folds the newest rows first; otherwise what is known now.
    /// - Throws: As ``query(_:of:)``.
    func tables(of organization: OrganizationID, isCurrent: Bool) async throws -> ShardTables

    /// Closes every store; nobody may use one any more.
    func closeAll() async
}

/// What one organization's store is asked.
struct StoreQuestion: Sendable {
    var statement: ShardStatement
    var limits: QueryLimits

    init(_ statement: ShardStatement, limits: QueryLimits = QueryLimits()) {
        self.statement = statement
        self.limits = limits
    }

    /// A statement as a user writes it.
    init(sql: String, limits: QueryLimits = QueryLimits()) {
        self.init(ShardStatement(sql: sql), limits: limits)
    }
}

/// A store's answer.
struct StoreResult: Sendable {
    let schema: ArrowSchema
    /// The store's position in the same snapshot as the rows.
    let position: SequenceNumber
    let batches: RecordBatchStream
    /// Whether the rows are there already.
    var isWhole = false
}
