internal import Columnar

/// Plan (c) below the top: everything that a statement reads of datasets is in one query inside of it, whose aggregates
/// decompose, or which a LIMIT cuts. Its parts are put together by the router, and the rest of the statement runs over them there.
///
/// The rest is the user's own, with the final step of that query in the query's place: as a query by itself gives the same
/// rows wherever it stands, nothing else can differ. One that hangs on rows outside does not bind on a shard, and is gathered.
struct StagedPlanner {
    let catalog: TableCatalog
    /// How the query inside is split.
    let split: (SyntaxNode, [String]) throws -> (QueryPlanKind, ConcatPlanner.Parts)

    /// A query inside, and the statement with a place for its final step.
    private struct Stage {
        /// With all common tables that it needs.
        let query: SyntaxNode
        let statement: (SyntaxNode) -> SyntaxNode
    }

    /// - Returns: nil when there is no such query, or nothing that is known of it.
    func plan(_ root: SyntaxNode) -> ConcatPlanner.Parts? {
        // A sample is drawn from all rows together.
        guard !root.contains({ $0.node("sample") != nil }) else { return nil }
        for stage in self.commonTables(of: root) + self.queries(in: root) {
            guard stage.query.text("type") == "SELECT_NODE", Self.isShort(stage.query),
                !self.readsDatasets(stage.statement(Self.nothing)), let names = Self.names(of: stage.query),
                var (_, parts) = try? self.split(stage.query, names)
            else { continue }
            let list = names.enumerated().map { SyntaxNode.column(OwnName.output($0.offset), alias: $0.element) }
            parts.final = stage.statement(parts.final ?? .select(list, from: .baseTable(ScatterPlan.table)))
            return parts
        }
        return nil
    }

    /// Whether a query's parts are fewer rows than those that it reads: it aggregates, or a LIMIT cuts it.
    private static func isShort(_ query: SyntaxNode) -> Bool {
        Locality.aggregates(query) || QueryClauses(query).rowsNeeded != nil
    }

    /// What stands in place of a query while it is looked what the rest reads.
    private static let nothing = SyntaxNode.select([.nullConstant], from: .object(["type": .string("EMPTY")]))

    private func readsDatasets(_ node: SyntaxNode) -> Bool {
        node.contains { part in
            part.text("type") == "BASE_TABLE" && self.catalog.table(named: part.text("table_name")) != nil
        }
    }

    /// Common tables of the statement, the last first: each with those before it, where nobody else needs them.
    private func commonTables(of root: SyntaxNode) -> [Stage] {
        let entries = root.node("cte_map")?.list("map") ?? []
        return entries.indices.reversed().compactMap { index -> Stage? in
            guard let value = entries[index].node("value") else { return nil }
            let isDirect = value.node("query_node") != nil
            guard let query = value.node("query_node") ?? value.node("query")?.node("node"),
                value.list("key_targets").isEmpty
            else { return nil }
            let own = query.node("cte_map")?.list("map") ?? []
            let before = Array(entries[..<index])
            // Those before that read datasets go with it, and so do those that they hang on.
            let moved = before.contains { self.readsDatasets($0) } ? before : []
            let movedNames = Set(moved.map { $0.text("key").lowercased() })
            func statement(_ final: SyntaxNode) -> SyntaxNode {
                let placed =
                    isDirect
                    ? value.setting("query_node", final)
                    : value.setting("query", (value.node("query") ?? .null).setting("node", final))
                let kept = Array(entries[moved.count..<index])
                let map = kept + [entries[index].setting("value", placed)] + Array(entries[(index + 1)...])
                return root.setting("cte_map", .object(["map": .array(map)]))
            }
            let isNamedElsewhere = statement(Self.nothing).contains { part in
                part.text("type") == "BASE_TABLE" && movedNames.contains(part.text("table_name").lowercased())
            }
            guard !isNamedElsewhere, Set(own.map { $0.text("key").lowercased() }).isDisjoint(with: movedNames) else {
                return nil
            }
            let whole = query.setting("cte_map", .object(["map": .array((moved.isEmpty ? before : moved) + own)]))
            return Stage(query: whole, statement: statement)
        }
    }

    /// Queries in FROM and in expressions, the outermost first.
    private func queries(in root: SyntaxNode) -> [Stage] {
        let outer = root.node("cte_map")?.list("map") ?? []
        // A name of a common table in it would be unknown to the shards.
        guard outer.isEmpty else { return [] }
        var found: [SyntaxNode] = []
        root.walk { part in
            if let query = part.node("subquery")?.node("node"), self.readsDatasets(query) { found.append(query) }
            return true
        }
        return found.map { query in
            Stage(query: query) { final in root.mapping { $0 == query ? final : nil } }
        }
    }

    /// The names of a query's columns, where it gives them itself; each once.
    private static func names(of query: SyntaxNode) -> [String]? {
        var names: [String] = []
        for item in query.list("select_list") {
            var name = item.text("alias")
            if name.isEmpty, item.text("class") == "COLUMN_REF" { name = item.list("column_names").last?.text ?? "" }
            guard !name.isEmpty, item.text("class") != "STAR" else { return nil }
            names.append(name)
        }
        return Set(names.map { $0.lowercased() }).count == names.count && !names.isEmpty ? names : nil
    }
}
