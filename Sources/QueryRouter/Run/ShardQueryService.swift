package import Columnar
package import Primitives

/// Answers statements from one organization's shard, wherever its replicas are.
///
/// The router knows shards through this alone: local stores and remote nodes look the same.
package protocol ShardQueryService: Sendable {
    /// Runs one SELECT on the organization's columnar store.
    ///
    /// Returns when the first rows can come; cancelling the calling task stops the query there too. The batches outlive
    /// that task: another one may read them. Dropping their iterator, or cancelling the task that reads, stops them.
    /// - Throws: ``QueryError``, or Columnar's error; codes and positions are kept, for they tell the user what is
    ///   wrong with the statement. Anything else counts as `.unavailable`.
    func query(
        organization: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult

    /// The organization's tables.
    ///
    /// - Parameter isCurrent: Whether tables must be known that its newest records bring; otherwise what is known now.
    /// - Throws: As ``query(organization:statement:requirement:limits:)``.
    func tables(of organization: OrganizationKey, isCurrent: Bool) async throws -> ShardTables
}

/// One SELECT for a shard.
package struct ShardStatement: Sendable, Hashable {
    package var sql: String
    /// Values of the parameters 1, 2, …
    package var parameters: [ArrowValue]
    /// Whether a user wrote the text, or the router out of a user's; the router's may use aggregate states.
    package var origin: StatementOrigin
    /// The moment of the past to read; nil: now.
    package var asOf: QueryMoment?
    /// Whether the rows may be made before the first is read: where they are surely few.
    package var delivery: AnswerDelivery
    /// What the rows of `audit_log` must be that it finds, beside what it says itself; nil: nothing is known of that.
    package var texts: TextSearch?

    package init(
        sql: String,
        parameters: [ArrowValue] = [],
        origin: StatementOrigin = .user,
        asOf: QueryMoment? = nil,
        delivery: AnswerDelivery = .streamed,
        texts: TextSearch? = nil
    ) {
        self.sql = sql
        self.parameters = parameters
        self.origin = origin
        self.asOf = asOf
        self.delivery = delivery
        self.texts = texts
    }
}

/// How new a shard's answer must be.
package enum ReadRequirement: Sendable, Hashable {
    /// Everything that was acknowledged before the query came.
    case latest
    /// At least up to this record.
    case atLeast(SequenceNumber)
    /// The replica as it is.
    case eventual
}

/// Limits of one statement on one shard.
package struct ShardQueryLimits: Sendable, Hashable {
    /// From the call to the last batch.
    package var timeLimit: Duration
    /// Arrow bytes of the result.
    package var resultBytesMax: Int
    package var resultRowsMax: Int

    package init(timeLimit: Duration, resultBytesMax: Int, resultRowsMax: Int) {
        self.timeLimit = timeLimit
        self.resultBytesMax = resultBytesMax
        self.resultRowsMax = resultRowsMax
    }
}

/// What a part of an answer reflects: an organization's ledger up to `sequence`, whose Merkle root was `root`.
package struct ShardProvenance: Sendable, Hashable {
    package let organization: OrganizationKey
    package let sequence: SequenceNumber
    package let root: Digest
    /// Whose replica answered.
    package let node: NodeID

    package init(organization: OrganizationKey, sequence: SequenceNumber, root: Digest, node: NodeID) {
        self.organization = organization
        self.sequence = sequence
        self.root = root
        self.node = node
    }
}

/// A shard's answer.
package struct ShardResult: Sendable {
    package let schema: ArrowSchema
    package let provenance: ShardProvenance
    package let batches: RecordBatchStream

    package init(schema: ArrowSchema, provenance: ShardProvenance, batches: RecordBatchStream) {
        self.schema = schema
        self.provenance = provenance
        self.batches = batches
    }
}
