package import Columnar
package import Primitives
internal import Synchronization

/// Answers SQL over the datasets of any number of organizations.
///
/// Text → gate → plan → fan-out → merge. The gate and the planner are pure; what runs, runs in sandboxed
/// columnar stores: the shards' own, and for merged answers one in memory that lives as long as its query. A shard
/// that fails fails the query: an answer is whole or there is none. Safe to call from any task.
package final class QueryRouter: Sendable {
    private let service: any ShardQueryService
    private let engine: any QueryEngine
    private let timer: QueryTimer
    private let configuration: QueryRouterConfiguration
    private let planner: QueryPlanner
    private let catalogs: CatalogCache
    let plans = PlanCache()

    init(
        service: any ShardQueryService,
        engine: any QueryEngine,
        timer: QueryTimer,
        configuration: QueryRouterConfiguration,
        baseTables: [TableSchema],
        planner: QueryPlanner
    ) throws {
        try configuration.validate()
        self.service = service
        self.engine = engine
        self.timer = timer
        self.configuration = configuration
        self.planner = planner
        self.catalogs = CatalogCache(service: service, base: baseTables, fanOutMax: configuration.fanOutMax)
    }

    /// Makes a router, which holds nothing that must be closed; the engine is its owner's.
    ///
    /// - Parameter baseTables: What a statement may name when no organization is asked.
    /// - Throws: ``QueryError`` `.internal` for a configuration out of range.
    package convenience init(
        service: any ShardQueryService,
        engine: any QueryEngine,
        timer: QueryTimer,
        configuration: QueryRouterConfiguration = .init(),
        baseTables: [TableSchema] = []
    ) throws {
        try self.init(
            service: service,
            engine: engine,
            timer: timer,
            configuration: configuration,
            baseTables: baseTables,
            planner: QueryPlanner()
        )
    }

    /// Answers one request; returns when the first rows can be read.
    ///
    /// Cancelling the calling task stops every shard. No shard is asked for rows before the statement passed the gate.
    /// What is merged is bound here first, so that a wrong name costs no shard anything; one shard binds what it runs
    /// itself.
    /// - Throws: ``QueryError``.
    package func run(_ request: QueryRequest) async throws -> QueryOutcome {
        let deadline = QueryDeadline(timer: self.timer, limit: min(request.timeLimit, self.configuration.timeLimitMax))
        do {
            let prefix = try ExplainPrefix.read(request.sql)
            let request = prefix.map { Self.dropping($0, from: request) } ?? request
            return try await self.withCatalog(request.organizations) { organizations, catalog, isCurrent in
                let session = self.session(request, organizations, catalog, isCurrent, deadline)
                guard let prefix else { return try await session.run() }
                return try await session.explain(isAnalyzed: prefix.isAnalyzed)
            }
        } catch {
            throw QueryError.wrapping(error, doing: "the query")
        }
    }

    /// Tells what a statement gives and wants; no shard is asked for rows.
    ///
    /// - Parameter organizations: The scope in which it will run: their tables decide the types.
    /// - Throws: ``QueryError``.
    package func prepare(sql: String, organizations: [OrganizationKey]) async throws -> PreparedQuery {
        do {
            return try await self.withCatalog(organizations) { organizations, catalog, isCurrent in
                if try ExplainPrefix.read(sql) != nil {
                    return PreparedQuery(schema: Explanation.schema, parameterTypes: [])
                }
                let request = QueryRequest(sql: sql, organizations: organizations)
                let deadline = QueryDeadline(timer: self.timer, limit: self.configuration.timeLimitMax)
                return try await self.session(request, organizations, catalog, isCurrent, deadline).prepare()
            }
        } catch {
            throw QueryError.wrapping(error, doing: "preparing the query")
        }
    }

    /// The tables that a statement over these organizations may name: the union of theirs, with comments.
    ///
    /// - Throws: ``QueryError``.
    package func tables(of organizations: [OrganizationKey]) async throws -> [TableSchema] {
        do {
            return try await self.catalogs.catalog(of: Set(organizations).sorted(), isCurrent: true).datasets
        } catch {
            throw QueryError.wrapping(error, doing: "listing tables")
        }
    }

    /// The request without EXPLAIN; spaces in its place keep every position true.
    private static func dropping(_ prefix: ExplainPrefix, from request: QueryRequest) -> QueryRequest {
        var request = request
        let rest = request.sql.utf8.dropFirst(prefix.offset)
        request.sql = String(repeating: " ", count: prefix.offset) + String(decoding: Array(rest), as: UTF8.self)
        return request
    }

    /// Parses, checks and plans a statement.
    func plan(_ request: QueryRequest) async throws -> QueryPlan {
        let deadline = QueryDeadline(timer: self.timer, limit: self.configuration.timeLimitMax)
        return try await self.withCatalog(request.organizations) { organizations, catalog, isCurrent in
            try await self.session(request, organizations, catalog, isCurrent, deadline).plan()
        }
    }

    /// Plans a statement whose plan will be kept, for ``run(_:)`` to find; what is wrong with it is told there.
    package func plan(ahead request: QueryRequest) async {
        let organizations = Set(request.organizations).sorted()
        let prefix = try? ExplainPrefix.read(request.sql)
        let request = prefix.map { Self.dropping($0, from: request) } ?? request
        guard organizations.count <= self.configuration.organizationsMax,
            let catalog = try? await self.catalogs.catalog(of: organizations, isCurrent: false),
            !Self.mayVary(request.sql), PlanCache.key(request, catalog) != nil
        else { return }
        let deadline = QueryDeadline(timer: self.timer, limit: self.configuration.timeLimitMax)
        let isCurrent = organizations.isEmpty
        _ = try? await self.session(request, organizations, catalog, isCurrent, deadline).planned()
    }

    private func session(
        _ request: QueryRequest,
        _ organizations: [OrganizationKey],
        _ catalog: TableCatalog,
        _ isCurrent: Bool,
        _ deadline: QueryDeadline
    ) -> QuerySession {
        QuerySession(
            service: self.service,
            engine: self.engine,
            configuration: self.configuration,
            planner: self.planner,
            request: request,
            organizations: organizations,
            catalog: catalog,
            isCurrent: isCurrent,
            deadline: deadline,
            plans: self.plans
        )
    }

    /// Runs `body` over what is known of the organizations' tables, and once more when it misses a name that their
    /// newest records may have brought, in all of them or in some.
    private func withCatalog<Value>(
        _ asked: [OrganizationKey],
        _ body: ([OrganizationKey], TableCatalog, _ isCurrent: Bool) async throws -> Value
    ) async throws -> Value {
        let organizations = Set(asked).sorted()
        guard organizations.count <= self.configuration.organizationsMax else {
            let most = self.configuration.organizationsMax
            throw QueryError(.tooLarge, "\(organizations.count) organizations; a query may read \(most)")
        }
        let known = try await self.catalogs.catalog(of: organizations, isCurrent: false)
        do {
            return try await body(organizations, known, organizations.isEmpty)
        } catch is StaleCatalog {
            return try await body(
                organizations,
                try await self.catalogs.catalog(of: organizations, isCurrent: true),
                true
            )
        } catch {
            let wrapped = QueryError.wrapping(error, doing: "the query")
            guard wrapped.code == .unknownTable || wrapped.code == .invalid, !organizations.isEmpty else { throw error }
            let current = try await self.catalogs.catalog(of: organizations, isCurrent: true)
            guard current.datasets != known.datasets else { throw error }
            return try await body(organizations, current, true)
        }
    }
}
