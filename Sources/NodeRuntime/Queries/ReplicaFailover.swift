internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards

/// Asks one replica of an organization after the other until one has its first rows.
///
/// Nothing has been handed out before those, so another replica may begin anew; after them an error ends the statement.
/// What is the statement's own fault is not asked again, nor what ended the worker process that ran it.
struct ReplicaFailover {
    let organization: OrganizationKey

    /// - Parameters:
    ///   - here: Asks this node's replica; nil when it has none to read.
    ///   - others: The nodes to ask then, in their order.
    ///   - ask: Asks one of them. It returns once there are rows, or none are to come.
    /// - Throws: ``QueryError``; the statement's own, or `.unavailable` when no replica could answer.
    func run(
        here: (() async throws -> ShardResult)?,
        others: [NodeID],
        ask: (NodeID) async throws -> ShardResult
    ) async throws -> ShardResult {
        var failure: any Error = QueryError(.unavailable, "no replica of \(self.organization) can be reached")
        if let here {
            do {
                return try await here()
            } catch let error where !others.isEmpty && Self.mayGoElsewhere(error) {
                failure = error
            }
        }
        for node in others {
            try Task.checkCancellation()
            do {
                return try await ask(node)
            } catch let error where Self.mayGoElsewhere(error) {
                failure = error
            }
        }
        throw QueryError(
            .unavailable,
            "organization \(self.organization) cannot be queried now",
            names: [self.organization.rawValue],
            cause: failure
        )
    }

    /// Whether an error is the replica's and not the statement's.
    static func mayGoElsewhere(_ error: any Error) -> Bool {
        if error is ShardError { return true }
        let error = QueryError.wrapping(error, doing: "a query")
        // Without a majority the others have none either.
        return error.isRetriable && !error.hasEndedItsWorker && !(error.cause is ReadGate.Failure)
    }
}
