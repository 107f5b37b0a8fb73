internal import Columnar
internal import Primitives

/// Splits a statement into a part for every shard and a final step; pure.
///
/// Says no by throwing an ``Obstacle`` as soon as something is not known to be exact.
struct StatementSplitter {
    /// How aggregates are put together.
    enum Rules: Sendable {
        case exact
        /// Averages of averages: for the test that shows that the differential test notices.
        case averagesOfAverages
        /// Sub-queries that look at the rows of all organizations taken for ones that look at the row's own: likewise.
        case everyListIsOwn
        /// Groups cut by the group keys whatever the statement sorts by: likewise.
        case cutsByAnyOrder
    }

    let statement: CheckedStatement
    let catalog: TableCatalog
    var rules = Rules.exact

    func plan(
        names: [String]?,
        organizations: [OrganizationKey],
        rejections: inout [ChosenPlan.Rejection]
    ) throws -> ScatterPlan {
        try self.checkWhole()
        guard let names, let root = self.statement.query else {
            throw Obstacle("the names of its columns hang on its parameters")
        }
        var tables: [TableSchema] = []
        for reference in self.statement.references where !tables.contains(where: { $0.name == reference.table.name }) {
            tables.append(reference.table)
        }
        let (kind, parts) = try self.splitting(root, names, &rejections)
        return ScatterPlan(
            kind: kind,
            shard: parts.shard,
            columns: parts.columns,
            final: self.rules == .averagesOfAverages ? parts.final.map(Self.averagingAgain) : parts.final,
            organizations: organizations,
            tables: tables,
            cut: parts.cut
        )
    }

    /// Splits the statement, or else the one query in it that reads datasets.
    private func splitting(
        _ root: SyntaxNode,
        _ names: [String],
        _ rejections: inout [ChosenPlan.Rejection]
    ) throws -> (QueryPlanKind, ConcatPlanner.Parts) {
        do {
            return try self.parts(root, names, &rejections)
        } catch let obstacle as Obstacle {
            let staged = StagedPlanner(catalog: self.catalog) { query, names in
                var ignored: [ChosenPlan.Rejection] = []
                return try self.parts(query, names, &ignored)
            }
            guard let parts = staged.plan(root) else { throw obstacle }
            return (.partial, parts)
        }
    }

    private func parts(
        _ root: SyntaxNode,
        _ names: [String],
        _ rejections: inout [ChosenPlan.Rejection]
    ) throws -> (QueryPlanKind, ConcatPlanner.Parts) {
        let locality = Locality(catalog: self.catalog, rules: self.rules)
        let clauses = QueryClauses(root)
        // ORDER BY, LIMIT and DISTINCT of the whole are the final step's business.
        let bare = root.setting("modifiers", .array(clauses.others))
        let shape = locality.query(bare, LocalityScope())
        switch shape.spread {
        case .everywhere: throw Obstacle("it reads no dataset")
        case .local:
            let sortsBySubquery = clauses.order.contains { $0.contains { $0.text("class") == "SUBQUERY" } }
            guard !sortsBySubquery else { throw Obstacle("ORDER BY has a sub-query", at: clauses.order.first) }
            let windows = Locality.windows(in: SyntaxNode.object(["modifiers": .array(root.list("modifiers"))]))
            guard windows.isEmpty else { throw Obstacle("ORDER BY has a window", at: windows.first) }
            if Locality.containsAggregate(.array(clauses.order)), !Locality.aggregates(bare) {
                throw Obstacle("ORDER BY has an aggregate", at: clauses.order.first)
            }
            let isApart = shape.outputs?.contains(where: \.isKey) == true
            return (
                .concat,
                try ConcatPlanner(names: names).plan(root, mustMergeDistinct: clauses.isDistinct && !isApart)
            )
        case .across(let obstacle):
            rejections.append(.init(kind: .concat, obstacle: obstacle))
            guard root.text("type") == "SELECT_NODE", Locality.aggregates(root) else { throw obstacle }
            var scope = LocalityScope()
            if let obstacle = locality.addCommonTables(of: root, to: &scope) { throw obstacle }
            let from = locality.from(of: root, scope)
            if case .across(let obstacle) = from.spread { throw obstacle }
            guard from.spread == .local else { throw obstacle }
            if let obstacle = locality.subqueryObstacle(in: root, from, scope) { throw obstacle }
            var planner = try PartialPlanner(root, from: from, names: names, rules: self.rules)
            return (.partial, try planner.plan())
        }
    }

    /// What rules out every split, wherever it stands.
    private func checkWhole() throws {
        var obstacle: Obstacle?
        self.statement.tree.walk { node in
            guard obstacle == nil else { return false }
            switch node.text("class") {
            case "FUNCTION", "WINDOW":
                let name = node.text("function_name").lowercased()
                if AllowedFunctions.volatile.contains(name) {
                    obstacle = Obstacle("\(name)() may differ from shard to shard", at: node)
                }
            case "COLLATE": obstacle = Obstacle("a collation is lost on the way", at: node)
            case "COLUMN_REF":
                let names = node.list("column_names").compactMap { $0.text?.lowercased() }
                if names.contains(where: { $0.hasPrefix(OwnName.prefix) }) {
                    obstacle = Obstacle("a name that the router uses itself", at: node)
                }
                if names.count == 1,
                    AllowedFunctions.volatile.contains(names[0]) || StatementTime.varyingWords.contains(names[0])
                {
                    obstacle = Obstacle("\(names[0]) may differ from shard to shard", at: node)
                }
            case "PARAMETER": obstacle = Obstacle("a parameter without a value", at: node)
            default: break
            }
            if node.text("type") == "BASE_TABLE", !node.text("schema_name").isEmpty {
                let name = node.text("table_name")
                // Where tables differ, the name stands for a table that is made to fit; a qualified one does not.
                if self.statement.tables.contains(name.lowercased()), self.statement.isAdapted {
                    obstacle = Obstacle("a qualified name of a table that differs between organizations", at: node)
                }
            }
            return true
        }
        if let obstacle { throw obstacle }
    }

    /// The final step with every combined state taken for a number to be averaged: wrong on purpose.
    private static func averagingAgain(_ node: SyntaxNode) -> SyntaxNode {
        node.mapping { part in
            guard part.text("class") == "FUNCTION", part.text("function_name") == "sum" else { return nil }
            return part.setting("function_name", .string("avg"))
                .setting("qualified_name", .object(["path": .array([.string("avg")])]))
        }
    }
}
