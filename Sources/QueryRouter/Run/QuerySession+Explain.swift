internal import Columnar
internal import Primitives

// EXPLAIN: the plan, what kept the statement from cheaper ones, and the statement for every shard.
extension QuerySession {
    /// Explains the request's statement; with `isAnalyzed` it also runs, and its rows are counted and dropped.
    func explain(isAnalyzed: Bool) async throws -> QueryOutcome {
        let planned = try await self.planned()
        var bound = try await self.bound(planned)
        var explanation = Explanation()
        var provenance: [ShardProvenance] = []
        if isAnalyzed {
            var session = self
            let log = ShardLog()
            session.log = log
            let outcome = try await session.run()
            var (rows, bytes) = (0, 0)
            for try await batch in outcome.batches {
                rows += batch.rowCount
                bytes += batch.byteCount
            }
            provenance = outcome.provenance
            if outcome.plan != bound.kind { bound = .init(kind: outcome.plan, rejections: bound.rejections) }
            Self.describe(bound, planned, self, &explanation)
            for entry in log.all {
                explanation.add(
                    "shard",
                    entry.sql,
                    organization: entry.organization,
                    rows: entry.rows,
                    bytes: entry.bytes,
                    duration: entry.duration
                )
            }
            if let final = bound.final { explanation.add("final", final) }
            let statistics = outcome.statistics
            explanation.add("planning", "parse, check, bind and plan", duration: statistics.planning)
            explanation.add(
                "gathered",
                "answers of \(statistics.shards) shard statements kept by the router",
                rows: statistics.gatheredRows,
                bytes: statistics.gatheredBytes,
                duration: statistics.gathering
            )
            explanation.add("result", "the whole", rows: rows, bytes: bytes, duration: self.deadline.elapsed)
        } else {
            Self.describe(bound, planned, self, &explanation)
            for (organization, sql) in bound.statements { explanation.add("shard", sql, organization: organization) }
            if let final = bound.final { explanation.add("final", final) }
        }
        return QueryOutcome(
            schema: Explanation.schema,
            batches: RecordBatchStream(batches: [try explanation.batch()]),
            provenance: provenance,
            absences: planned.absences,
            plan: bound.kind,
            statistics: QueryStatistics(
                organizations: self.organizations.count,
                shards: 0,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: self.deadline.elapsed,
                gathering: .zero
            )
        )
    }

    /// A plan with the statements that it comes to.
    private struct Bound {
        var kind: QueryPlanKind
        var rejections: [ChosenPlan.Rejection]
        var statements: [(OrganizationKey, String)] = []
        var final: String?
        /// What becomes of LIMIT.
        var limit: String?
    }

    private static func describe(
        _ bound: Bound,
        _ planned: Planned,
        _ session: QuerySession,
        _ explanation: inout Explanation
    ) {
        let meaning =
            switch bound.kind {
            case .single: "one organization's shard runs the statement as it is"
            case .concat: "every shard answers for its own rows; the answers are joined"
            case .partial: "shards aggregate their own rows; the parts are put together"
            case .gather: "rows are gathered, and the statement runs over them"
            }
        explanation.add("plan", "\(bound.kind.rawValue): \(meaning)")
        for rejection in bound.rejections {
            let place = rejection.obstacle.position.map { " (byte \($0))" } ?? ""
            explanation.add("not \(rejection.kind.rawValue)", rejection.obstacle.reason + place)
        }
        if let limit = bound.limit { explanation.add("limit", limit) }
        for absence in planned.absences {
            for organization in absence.organizations {
                explanation.add("absent", "it has no table \(absence.table)", organization: organization)
            }
        }
    }

    /// Goes as far as one can without asking a shard.
    private func bound(_ planned: Planned) async throws -> Bound {
        var bound = Bound(kind: planned.chosen.plan.kind, rejections: planned.chosen.rejections)
        switch planned.chosen.plan {
        case .single(let organization):
            _ = try await self.engine.describe(
                planned.statement.sql,
                over: self.catalog.engineSchema,
                origin: .user
            )
            bound.statements = [(organization, planned.statement.sql)]
        case .gather(let tables): try await self.bindGather(tables, planned, &bound)
        case .scatter(let plan):
            do {
                let parts = try await self.bind(plan, planned)
                bound.statements = plan.organizations.compactMap { organization in
                    self.shardSQL(plan, parts.body, organization).map { (organization, $0) }
                }
                bound.final = parts.final
                bound.limit = Self.limit(plan.cut)
            } catch let failure as SplitFailure {
                bound.kind = .gather
                bound.rejections.append(.init(kind: plan.kind, obstacle: failure.obstacle))
                try await self.bindGather(self.gathered(planned.statement), planned, &bound)
            }
        }
        return bound
    }

    private static func limit(_ cut: ShardCut) -> String? {
        switch cut {
        case .none: nil
        case .rows(let rows): "pushed down: every shard sends at most \(rows) rows, the first in the order of the whole"
        case .whole(let obstacle):
            "not pushed down: \(obstacle.reason)" + (obstacle.position.map { " (byte \($0))" } ?? "")
        }
    }

    private func bindGather(_ tables: [GatheredTable], _ planned: Planned, _ bound: inout Bound) async throws {
        let visits = try await self.gathering(into: nil).prepare(tables)
        if planned.chosen.plan.kind == .gather, let root = planned.statement.query,
            self.request.planChoice == .automatic
        {
            let pulled = PulledSubquery.find(in: root, catalog: self.catalog)
            var notes =
                pulled.isEmpty
                ? [] : ["\(pulled.count) sub-queries are answered first where that lets the rest be split"]
            if PulledTable.find(in: root, catalog: self.catalog) != nil {
                notes.append("queries in WITH or FROM are answered first where the rows are too many to be gathered")
            }
            bound.rejections += notes.map { .init(kind: .gather, obstacle: Obstacle($0)) }
        }
        bound.statements = visits.flatMap { visit in visit.statements.map { (visit.organization, $0.sql) } }
        bound.final = planned.statement.sql
    }
}
