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
    /// A plan to use whatever would be cheaper.
    package enum Force: Sendable { case gather }

    package var sql: String
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
    package var force: Force?

    package init(
        sql: String,
        organizations: [OrganizationKey],
        consistency: QueryConsistency = .linearizable,
        resultBytesMax: Int = 256 << 20,
        resultRowsMax: Int = 10_000_000,
        timeLimit: Duration = .seconds(30),
        memoryBytesMax: Int? = nil,
        force: Force? = nil
    ) {
        self.sql = sql
        self.organizations = organizations
        self.consistency = consistency
        self.resultBytesMax = resultBytesMax
        self.resultRowsMax = resultRowsMax
        self.timeLimit = timeLimit
        self.memoryBytesMax = memoryBytesMax
        self.force = force
    }
}

/// The names of plans, as clients see them.
package enum QueryPlanKind: String, Sendable, CaseIterable {
    case single
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

/// An answer whose rows are still to be read: consume `batches`, or drop it.
package struct QueryOutcome: Sendable {
    package let schema: ArrowSchema
    /// An error in it means that there is no answer: what came before must not be used.
    package let batches: RecordBatchStream
    /// Of every organization that was read, in key order.
    package let provenance: [ShardProvenance]
    package let plan: QueryPlanKind
    package let statistics: QueryStatistics
}
