internal import Columnar

/// A query in WITH or FROM that needs the rows of several organizations at once, and hangs on no row outside: it can be
/// answered first, and its rows stand in its place as literals.
struct PulledTable: Sendable {
    private enum Place: Sendable {
        /// An entry of the WITH clause.
        case common(SyntaxNode)
        /// A query in FROM.
        case from(SyntaxNode)
    }

    private let place: Place
    /// The query by itself, with the common tables that it may name.
    let query: SyntaxNode

    /// The first one of a SELECT: of WITH in its order, so that each may name those before it, then of FROM.
    static func find(in root: SyntaxNode, catalog: TableCatalog) -> PulledTable? {
        guard root.text("type") == "SELECT_NODE" else { return nil }
        let locality = Locality(catalog: catalog)
        let entries = root.node("cte_map")?.list("map") ?? []
        var scope = LocalityScope()
        for (index, entry) in entries.enumerated() {
            let before = self.withCommonTables(Array(entries[..<index]), root)
            scope = LocalityScope()
            guard locality.addCommonTables(of: before, to: &scope) == nil, let value = entry.node("value"),
                let query = value.node("query_node") ?? value.node("query")?.node("node")
            else { return nil }
            guard self.needsAll(query, scope, locality) else { continue }
            return PulledTable(place: .common(entry), query: PulledSubquery.adding(before, to: query))
        }
        scope = LocalityScope()
        guard locality.addCommonTables(of: root, to: &scope) == nil else { return nil }
        var found: PulledTable?
        root.node("from_table")?.walk { part in
            guard found == nil else { return false }
            guard part.text("type") == "SUBQUERY", part["class"] == nil, let query = part.node("subquery")?.node("node")
            else { return part.text("class") != "SUBQUERY" }
            if self.needsAll(query, scope, locality) {
                found = PulledTable(place: .from(part), query: PulledSubquery.adding(root, to: query))
            }
            return false
        }
        return found
    }

    private static func needsAll(_ query: SyntaxNode, _ scope: LocalityScope, _ locality: Locality) -> Bool {
        guard case .across = locality.query(query, scope).spread else { return false }
        return locality.readsDatasets(query, scope)
    }

    private static func withCommonTables(_ entries: [SyntaxNode], _ root: SyntaxNode) -> SyntaxNode {
        root.setting("cte_map", .object(["map": .array(entries)]))
    }

    /// A statement's tree with another query in this one's place.
    func replaced(in tree: SyntaxNode, by query: SyntaxNode) -> SyntaxNode {
        switch self.place {
        case .from(let table):
            let statement = (table.node("subquery") ?? .null).setting("node", query)
            return tree.mapping { $0 == table ? table.setting("subquery", statement) : nil }
        case .common(let entry):
            let value = entry.node("value") ?? .null
            let changed =
                value.node("query_node") != nil
                ? value.setting("query_node", query)
                : value.setting("query", (value.node("query") ?? .null).setting("node", query))
            return tree.mapping { $0 == entry ? entry.setting("value", changed) : nil }
        }
    }

    /// A query that gives these rows; nil when they have no such form.
    ///
    /// - Parameter columns: The values of each field; all of one number.
    static func select(_ fields: [ArrowField], _ columns: [[ArrowValue]]) -> SyntaxNode? {
        let names = Set(fields.map { $0.name.lowercased() })
        guard names.count == fields.count, !fields.isEmpty, !fields.contains(where: \.isJSON) else { return nil }
        var list: [SyntaxNode] = []
        var bytes = 0
        for (field, values) in zip(fields, columns) {
            guard let type = PulledSubquery.typeName(field.type),
                let items = PulledSubquery.items(values, of: type, bytes: &bytes)
            else { return nil }
            list.append(items.setting("alias", .string(field.name)))
        }
        let isEmpty = columns.allSatisfy(\.isEmpty)
        return .select(
            list,
            from: PulledSubquery.noTable,
            condition: isEmpty ? PulledSubquery.never : .null
        )
    }
}
