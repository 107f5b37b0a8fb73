internal import Columnar
internal import Primitives

/// Chooses the plan of a checked statement; pure.
///
/// In doubt it fetches more: the final step of a gathered query is always the whole statement over the gathered rows,
/// so leaving out rows and columns is right only where the statement cannot see the difference.
struct QueryPlanner {
    /// What may be left out; switched off by tests that compare the answers.
    struct Options: Sendable {
        var prunesColumns = true
        var pushesConditions = true
        /// Whether aggregates may be split; a test splits them wrongly on purpose.
        var rules = StatementSplitter.Rules.exact
        /// Whether queries of WITH and FROM are answered first also where gathering is possible; for tests of that.
        var pullsTablesFirst = false
    }

    var options = Options()

    /// - Parameters:
    ///   - organizations: Whom the caller asks for, in key order, each once.
    ///   - names: The names of the statement's columns, as the binder gives them; nil: unknown, so that nothing is split.
    ///   - forcesGather: Never pushes more down than columns and conditions.
    func plan(
        _ statement: CheckedStatement,
        organizations: [OrganizationKey],
        catalog: TableCatalog,
        names: [String]?,
        forcesGather: Bool
    ) -> ChosenPlan {
        var tables: [String: [TableReference]] = [:]
        var order: [String] = []
        for reference in statement.references {
            if tables[reference.table.name] == nil { order.append(reference.table.name) }
            tables[reference.table.name, default: []].append(reference)
        }
        let gathered = order.compactMap { name in
            tables[name].map { self.gathered($0, of: statement, organizations: organizations) }
        }
        var rejections: [ChosenPlan.Rejection] = []
        if !forcesGather, !order.isEmpty, !statement.readsDictionary {
            let read = organizations.filter { key in gathered.contains { $0.organizations.contains(key) } }
            let only = read.count == 1 ? read[0] : organizations.count == 1 ? organizations[0] : nil
            // Where its tables are not those of the catalog, its own answer would be another one.
            if let only, order.allSatisfy({ catalog.share(of: only, in: $0) == .same }) {
                return ChosenPlan(plan: .single(only), rejections: [])
            }
            let many =
                only.map { "the tables of \($0) differ from the others'" } ?? "it reads \(read.count) organizations"
            rejections.append(.init(kind: .single, obstacle: Obstacle(many)))
            do {
                let split = StatementSplitter(statement: statement, catalog: catalog, rules: self.options.rules)
                let plan = try split.plan(names: names, organizations: read, rejections: &rejections)
                return ChosenPlan(plan: .scatter(plan), rejections: rejections)
            } catch let obstacle as Obstacle {
                rejections.append(.init(kind: .partial, obstacle: obstacle))
            } catch {}
        }
        return ChosenPlan(plan: .gather(gathered), rejections: rejections)
    }

    /// - Parameter references: All places that read one dataset; not empty.
    private func gathered(
        _ references: [TableReference],
        of statement: CheckedStatement,
        organizations: [OrganizationKey]
    ) -> GatheredTable {
        let table = references[0].table
        var keys: Set<String>? = []
        for reference in references {
            let wanted = self.options.pushesConditions ? Self.organizationKeys(of: reference) : nil
            keys = keys.flatMap { known in wanted.map { known.union($0) } }
        }
        var conditions: [SyntaxNode] = []
        if references.count == 1, self.options.pushesConditions {
            let pushable = PushableCondition(table: table, qualifier: references[0].qualifier)
            conditions = references[0].conjuncts.compactMap(pushable.rewritten)
        }
        return GatheredTable(
            table: table,
            columns: self.columns(of: table, for: statement),
            conditions: conditions,
            organizations: keys.map { keys in organizations.filter { keys.contains($0.rawValue) } } ?? organizations
        )
    }

    private func columns(of table: TableSchema, for statement: CheckedStatement) -> [ColumnDefinition] {
        guard self.options.prunesColumns, !statement.readsWholeRows else { return table.columns }
        let named = table.columns.filter { statement.names.contains($0.name.lowercased()) }
        guard named.isEmpty else { return named }
        // `count(*)`: rows without values; a number is the cheapest to carry.
        let small: Set<ColumnType> = [.bool, .int64, .uint64, .double, .timestampMicros]
        return [table.columns.first { small.contains($0.type) } ?? table.columns[0]]
    }

    /// The organizations that a reference can read, when its conditions name them.
    private static func organizationKeys(of reference: TableReference) -> Set<String>? {
        let pushable = PushableCondition(table: reference.table, qualifier: reference.qualifier)
        var keys: Set<String>?
        for conjunct in reference.conjuncts {
            guard let found = pushable.texts(equalTo: TableCatalog.organizationColumn, in: conjunct) else { continue }
            keys = keys?.intersection(found) ?? found
        }
        return keys
    }
}
