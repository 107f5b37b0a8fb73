internal import Columnar
internal import Primitives

// Push-pull: sub-queries over all organizations are answered first, and their rows go to the shards as literals.
extension QuerySession {
    /// Sub-queries that one statement may pull, at all depths.
    private static let pullsMax = 8

    /// Where the answers to sub-queries stand.
    private struct Seen {
        var sequences: [OrganizationKey: SequenceNumber] = [:]

        /// - Returns: false when an organization has moved since an earlier answer.
        mutating func add(_ provenance: [ShardProvenance]) -> Bool {
            for part in provenance {
                if let known = self.sequences[part.organization], known != part.sequence { return false }
                self.sequences[part.organization] = part.sequence
            }
            return true
        }
    }

    /// Answers the sub-queries that stand in the way of a split, and then the statement without them: first those of WITH and
    /// FROM, one after the other, then those in expressions.
    ///
    /// - Parameter tables: Whether those of WITH and FROM are.
    /// - Returns: nil when that is not possible, or when an organization moved in between: then rows are gathered, which
    ///   shows one moment of each.
    func runPulling(_ planned: Planned, _ planning: Duration, tables pullsTables: Bool) async throws -> QueryOutcome? {
        guard case .gather = planned.chosen.plan, self.request.planChoice == .automatic, self.pulls < Self.pullsMax,
            let described = planned.described, let tables = try await self.pulledTables(planned, described, pullsTables)
        else { return nil }
        var tree = planned.statement.tree
        var seen = Seen()
        for _ in 0..<tables {
            guard let root = Self.query(tree), let table = PulledTable.find(in: root, catalog: self.catalog),
                let answer = try await self.answer(table.query, rowsMax: PulledSubquery.rowsMax),
                seen.add(answer.provenance), let rows = PulledTable.select(answer.fields, answer.columns)
            else { return nil }
            tree = table.replaced(in: tree, by: rows)
        }
        guard let root = Self.query(tree) else { return nil }
        for subquery in PulledSubquery.find(in: root, catalog: self.catalog) {
            let rowsMax = subquery.isScalar ? 1 : PulledSubquery.rowsMax
            guard let answer = try await self.answer(subquery.query, rowsMax: rowsMax), answer.fields.count == 1,
                seen.add(answer.provenance),
                let literal = subquery.replaced(by: answer.columns[0], of: answer.fields[0].type)
            else { return nil }
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
            return seen.add(outcome.provenance) ? outcome : nil
        } catch is SplitFailure {
            return nil
        }
    }

    /// Whether the statement splits without its sub-queries; nothing is asked in vain.
    /// - Returns: The number of those in WITH and FROM; nil: it does not, or there are none.
    private func pulledTables(
        _ planned: Planned,
        _ described: StatementDescription,
        _ pullsTables: Bool
    ) async throws -> Int? {
        var tree = planned.statement.tree
        var tables = 0
        while pullsTables, let root = Self.query(tree), let table = PulledTable.find(in: root, catalog: self.catalog) {
            tables += 1
            guard self.pulls + tables <= Self.pullsMax, let fields = try await self.fields(of: table.query)?.fields,
                let none = PulledTable.select(fields, fields.map { _ in [] })
            else { return nil }
            tree = table.replaced(in: tree, by: none)
        }
        guard let root = Self.query(tree) else { return nil }
        let expressions = PulledSubquery.find(in: root, catalog: self.catalog)
        let count = tables + expressions.count
        guard count > 0, self.pulls + count <= Self.pullsMax else { return nil }
        let probe = try StatementGate(catalog: self.catalog).check(
            planned.statement.sql,
            root: self.replacing(expressions.map { ($0.node, SyntaxNode.nullConstant) }, in: tree)
        )
        let names = described.schema.fields.map(\.name)
        guard case .scatter = self.choose(probe, names: names, forcesGather: false).plan else { return nil }
        return tables
    }

    private static func query(_ tree: SyntaxNode) -> SyntaxNode? { tree.list("statements").first?.node("node") }

    private func replacing(_ changes: [(SyntaxNode, SyntaxNode)], in tree: SyntaxNode) -> SyntaxNode {
        tree.mapping { node in
            guard node.text("class") == "SUBQUERY" else { return nil }
            return changes.first { $0.0 == node }?.1
        }
    }

    /// The text and the columns of a sub-query; nil when it hangs on rows outside, or its values have no form as literals.
    private func fields(of query: SyntaxNode) async throws -> (sql: String, fields: [ArrowField])? {
        guard let sql = try? await self.engine.sql(of: query.asStatement.json),
            // Bound by itself, it names nothing outside.
            let described = try? await self.engine.describe(sql, over: self.catalog.engineSchema, origin: .router),
            described.parameterTypes.isEmpty, !described.schema.fields.isEmpty,
            described.schema.fields.allSatisfy({ !$0.isJSON && PulledSubquery.typeName($0.type) != nil })
        else { return nil }
        return (sql, described.schema.fields)
    }

    /// A sub-query's answer.
    private struct Answer {
        var fields: [ArrowField]
        var columns: [[ArrowValue]]
        var provenance: [ShardProvenance]
    }

    /// The rows of a sub-query; nil when it hangs on rows outside, or they are too many.
    private func answer(_ query: SyntaxNode, rowsMax: Int) async throws -> Answer? {
        guard let (sql, _) = try await self.fields(of: query) else { return nil }
        var session = self
        session.pulls += 1
        session.request.sql = sql
        session.request.parameters = []
        session.request.resultRowsMax = rowsMax
        do {
            let outcome = try await session.run()
            var columns: [[ArrowValue]] = outcome.schema.fields.map { _ in [] }
            for try await batch in outcome.batches {
                for column in columns.indices {
                    for row in 0..<batch.rowCount { columns[column].append(batch.value(row: row, column: column)) }
                }
            }
            return Answer(fields: outcome.schema.fields, columns: columns, provenance: outcome.provenance)
        } catch let error as QueryError where error.code == .tooLarge {
            return nil
        }
    }
}
