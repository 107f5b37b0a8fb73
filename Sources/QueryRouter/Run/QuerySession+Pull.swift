internal import Columnar
internal import Primitives

// Push-pull: sub-queries over all organizations are answered first, and their rows go to the shards as literals.
extension QuerySession {
    /// Sub-queries that one statement may pull, at all depths.
    private static let pullsMax = 8

    /// Answers the sub-queries that stand in the way of a split, and then the statement without them.
    ///
    /// - Returns: nil when that is not possible, or when an organization moved in between: then rows are gathered, which
    ///   shows one moment of each.
    func runPulling(_ planned: Planned, _ planning: Duration) async throws -> QueryOutcome? {
        guard case .gather = planned.chosen.plan, self.request.planChoice == .automatic, self.pulls < Self.pullsMax,
            let root = planned.statement.query, let described = planned.described
        else { return nil }
        let pulled = PulledSubquery.find(in: root, catalog: self.catalog)
        guard !pulled.isEmpty, self.pulls + pulled.count <= Self.pullsMax else { return nil }
        var tree = planned.statement.tree
        var seen: [OrganizationKey: SequenceNumber] = [:]
        // First whether the statement splits at all without them: nothing is asked in vain.
        let probe = try StatementGate(catalog: self.catalog).check(
            planned.statement.sql,
            root: self.replacing(pulled.map { ($0.node, SyntaxNode.nullConstant) }, in: tree)
        )
        guard case .scatter = self.choose(probe, names: described.schema.fields.map(\.name), forcesGather: false).plan
        else { return nil }
        for subquery in pulled {
            guard let (values, type, provenance) = try await self.answer(subquery) else { return nil }
            for part in provenance {
                if let known = seen[part.organization], known != part.sequence { return nil }
                seen[part.organization] = part.sequence
            }
            guard let literal = subquery.replaced(by: values, of: type) else { return nil }
            tree = self.replacing([(subquery.node, literal)], in: tree)
        }
        var statement = try StatementGate(catalog: self.catalog).check(planned.statement.sql, root: tree)
        statement.isAdapted = planned.statement.isAdapted
        let chosen = self.choose(statement, names: described.schema.fields.map(\.name), forcesGather: false)
        guard case .scatter(let plan) = chosen.plan else { return nil }
        let again = Planned(
            statement: statement,
            chosen: chosen,
            described: described,
            absences: planned.absences,
            key: nil
        )
        do {
            let outcome = try await self.runScatter(plan, again, planning)
            let isOneMoment = outcome.provenance.allSatisfy { seen[$0.organization].map($0.sequence.equals) ?? true }
            return isOneMoment ? outcome : nil
        } catch is SplitFailure {
            return nil
        }
    }

    private func replacing(_ changes: [(SyntaxNode, SyntaxNode)], in tree: SyntaxNode) -> SyntaxNode {
        tree.mapping { node in
            guard node.text("class") == "SUBQUERY" else { return nil }
            return changes.first { $0.0 == node }?.1
        }
    }

    /// The one column of a sub-query; nil when it hangs on rows outside, or is too much.
    private func answer(
        _ subquery: PulledSubquery
    ) async throws -> (values: [ArrowValue], type: ArrowType, provenance: [ShardProvenance])? {
        guard let sql = try? await self.engine.sql(of: subquery.query.asStatement.json),
            // Bound by itself, it names nothing outside.
            let described = try? await self.engine.describe(sql, over: self.catalog.engineSchema, origin: .router),
            described.schema.fields.count == 1, !described.schema.fields[0].isJSON, described.parameterTypes.isEmpty
        else { return nil }
        var session = self
        session.pulls += 1
        session.request.sql = sql
        session.request.parameters = []
        session.request.resultRowsMax = subquery.isScalar ? 1 : PulledSubquery.rowsMax
        do {
            let outcome = try await session.run()
            var values: [ArrowValue] = []
            for try await batch in outcome.batches {
                for row in 0..<batch.rowCount { values.append(batch.value(row: row, column: 0)) }
            }
            return (values, outcome.schema.fields[0].type, outcome.provenance)
        } catch let error as QueryError where error.code == .tooLarge {
            return nil
        }
    }
}

extension SequenceNumber {
    fileprivate func equals(_ other: SequenceNumber) -> Bool { self == other }
}
