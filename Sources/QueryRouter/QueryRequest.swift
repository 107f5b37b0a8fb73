package import Columnar
package import Primitives

/// How new the answer must be.
package enum QueryConsistency: Sendable, Hashable {
    /// Everything acknowledged before the query came.
    case linearizable
    /// The nearest replicas as they are.
    case eventual
    /// At least up to these records; organizations that are not named: as they are.
    case atLeast([OrganizationKey: SequenceNumber])

    func requirement(for organization: OrganizationKey) -> ReadRequirement {
        switch self {
        case .linearizable: .latest
        case .eventual: .eventual
        case .atLeast(let sequences): sequences[organization].map(ReadRequirement.atLeast) ?? .eventual
        }
    }
}

/// One question.
package struct QueryRequest: Sendable {
    /// Which plans may be used.
    package enum PlanChoice: Sendable, Hashable {
        /// The cheapest that is exact.
        case automatic
        /// The rows are gathered, whatever would be cheaper: what every other plan must equal.
        case gather
    }

    package var sql: String
    /// Values of the parameters `?` or `$1`, `$2`, …
    package var parameters: [ArrowValue]
    /// The caller's scope: every table holds these organizations' rows and no others.
    package var organizations: [OrganizationKey]
    package var consistency: QueryConsistency
    /// Arrow bytes of the result.
    package var resultBytesMax: Int
    package var resultRowsMax: Int
    /// From the call to the last batch; the router's own limit is not exceeded.
    package var timeLimit: Duration
    /// Memory of the final step, in bytes; nil or more than the router's limit: the router's.
    package var memoryBytesMax: Int?
    package var planChoice: PlanChoice
    /// The moment of the past to read; nil: now.
    package var asOf: QueryAsOf?
    /// What `now()` and its like are on every shard of a split statement; nil: such a statement is not split.
    package var now: Timestamp?

    package init(
        sql: String,
        parameters: [ArrowValue] = [],
        organizations: [OrganizationKey],
        consistency: QueryConsistency = .linearizable,
        resultBytesMax: Int = 256 << 20,
        resultRowsMax: Int = 10_000_000,
        timeLimit: Duration = .seconds(30),
        memoryBytesMax: Int? = nil,
        planChoice: PlanChoice = .automatic,
        asOf: QueryAsOf? = nil,
        now: Timestamp? = nil
    ) {
        self.now = now
        self.sql = sql
        self.parameters = parameters
        self.organizations = organizations
        self.consistency = consistency
        self.resultBytesMax = resultBytesMax
        self.resultRowsMax = resultRowsMax
        self.timeLimit = timeLimit
        self.memoryBytesMax = memoryBytesMax
        self.planChoice = planChoice
        self.asOf = asOf
    }
}

/// What a statement gives and wants, before any shard is asked for rows.
package struct PreparedQuery: Sendable, Hashable {
    /// The columns; another type of a value than its parameter's may change them.
    package let schema: ArrowSchema
    /// Types of the parameters 1, 2, …; where the statement leaves a type open, the first of ``PreparedQuery/openTypes``
    /// with which it can be bound.
    package let parameterTypes: [ArrowType]

    /// Types that are tried for parameters whose own type nothing tells, in this order.
    package static let openTypes: [ArrowType] = [.utf8, .float64, .int64, .timestamp(.microsecond, timezone: nil)]
}

/// The names of plans, as clients see them.
package enum QueryPlanKind: String, Sendable, CaseIterable {
    /// One organization's shard runs the statement as it is.
    case single
    /// Every shard answers for its own rows; the answers are joined.
    case concat
    /// Shards aggregate their own rows; the parts are put together.
    case partial
    /// Rows are gathered, and the statement runs over them.
    case gather
}

/// What a query cost before its first batch.
package struct QueryStatistics: Sendable, Hashable {
    /// Organizations in the caller's scope.
    package let organizations: Int
    /// Statements that were sent to shards.
    package let shards: Int
    package let gatheredRows: Int
    /// Arrow bytes.
    package let gatheredBytes: Int
    package let planning: Duration
    package let gathering: Duration
}

/// Organizations without a table that the statement reads.
package struct TableAbsence: Sendable, Hashable {
    package let table: String
    /// In key order.
    package let organizations: [OrganizationKey]
}

/// An answer whose rows are still to be read: consume `batches`, or drop it.
package struct QueryOutcome: Sendable {
    package let schema: ArrowSchema
    /// An error in it means that there is no answer: what came before must not be used.
    package let batches: RecordBatchStream
    /// Of every organization that was read, in key order.
    package let provenance: [ShardProvenance]
    /// Tables of the statement that some organizations do not have; they count as having no rows of them.
    package let absences: [TableAbsence]
    package let plan: QueryPlanKind
    package let statistics: QueryStatistics
}
