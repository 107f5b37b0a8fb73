internal import Columnar

/// Where the rows of a part of a statement come from, as seen from one shard.
enum Spread: Sendable, Hashable {
    /// The union of what the shards compute each for itself; each row comes from one organization.
    case local
    /// The same on every shard: no dataset in it.
    case everywhere
    /// Neither: it needs rows of several organizations at once.
    case across(Obstacle)
}

/// What keeps a statement from a cheaper plan, and where it stands.
struct Obstacle: Error, Sendable, Hashable {
    let reason: String
    let position: Int?

    init(_ reason: String, at node: SyntaxNode? = nil) {
        self.reason = reason
        self.position = node?.location
    }
}

/// A name by which a column can be read that holds the row's organization.
struct KeyColumn: Sendable, Hashable {
    let qualifier: String
    let name: String
}

/// What can be said of a FROM clause.
struct Relation: Sendable {
    var spread: Spread
    /// Columns that hold the organization of the row; never null.
    var keys: Set<KeyColumn> = []
    /// Every name of a column; nil: unknown.
    var columns: Set<String>?
    /// Whether its rows are of the one organization of the row outside.
    var isTied = false
}

/// What can be said of a query.
struct QueryShape: Sendable {
    var spread: Spread
    /// Names of the columns in order, and whether they hold the organization; nil: unknown.
    var outputs: [(name: String, isKey: Bool)]?
    var isTied = false
}

/// What is visible around a query.
struct LocalityScope: Sendable {
    var commonTables: [String: QueryShape] = [:]
    /// Organizations of the rows outside, which a sub-query may name.
    var outerKeys: Set<KeyColumn> = []
}

/// Tells which parts of a statement every shard can compute for itself; pure.
///
/// Rests on one fact: a shard holds one organization, so rows with different organizations are on different shards,
/// and rows of the same on one. What it does not know, it calls ``Spread/across(_:)``.
struct Locality {
    let catalog: TableCatalog
    var rules = StatementSplitter.Rules.exact

    // MARK: - Queries

    func query(_ node: SyntaxNode, _ outer: LocalityScope) -> QueryShape {
        var scope = outer
        if let obstacle = self.addCommonTables(of: node, to: &scope) { return QueryShape(spread: .across(obstacle)) }
        switch node.text("type") {
        case "SELECT_NODE": return self.select(node, scope)
        case "SET_OPERATION_NODE": return self.setOperation(node, scope)
        default:
            guard !self.readsDatasets(node, scope) else {
                return QueryShape(spread: .across(Obstacle("it is recursive", at: node)))
            }
            return QueryShape(spread: .everywhere)
        }
    }

    /// Adds the WITH clause of a node to the scope.
    func addCommonTables(of node: SyntaxNode, to scope: inout LocalityScope) -> Obstacle? {
        for entry in node.node("cte_map")?.list("map") ?? [] {
            guard let value = entry.node("value"),
                let query = value.node("query_node") ?? value.node("query")?.node("node")
            else { return Obstacle("a WITH clause of an unknown form") }
            var shape = self.query(query, scope)
            let aliases = value.list("aliases").compactMap { $0.text?.lowercased() }
            if !aliases.isEmpty { shape.outputs = Self.renamed(shape.outputs, aliases) }
            scope.commonTables[entry.text("key").lowercased()] = shape
        }
        return nil
    }

    private static func renamed(
        _ outputs: [(name: String, isKey: Bool)]?,
        _ aliases: [String]
    ) -> [(name: String, isKey: Bool)]? {
        guard var outputs, aliases.count <= outputs.count else { return nil }
        for (index, alias) in aliases.enumerated() { outputs[index].name = alias }
        return outputs
    }

    private func select(_ node: SyntaxNode, _ scope: LocalityScope) -> QueryShape {
        let from = self.from(of: node, scope)
        let outputs = Self.outputs(of: node, from)
        func shape(_ spread: Spread) -> QueryShape {
            QueryShape(spread: spread, outputs: outputs, isTied: from.isTied)
        }
        if case .across = from.spread { return shape(from.spread) }
        if let obstacle = self.subqueryObstacle(in: node, from, scope) { return shape(.across(obstacle)) }
        guard from.spread == .local else { return shape(.everywhere) }
        if !from.isTied, let obstacle = Self.obstacle(in: node, from, outputs) { return shape(.across(obstacle)) }
        return shape(.local)
    }

    /// The FROM clause of a SELECT, tied to a row outside when its condition says so.
    func from(of node: SyntaxNode, _ scope: LocalityScope) -> Relation {
        if node["sample"] != nil, node["sample"] != .null {
            return Relation(spread: .across(Obstacle("a sample is drawn from all rows together")))
        }
        guard let table = node.node("from_table") else { return Relation(spread: .everywhere, columns: []) }
        var relation = self.table(table, scope)
        guard relation.spread == .local, !scope.outerKeys.isEmpty, let condition = node.node("where_clause") else {
            return relation
        }
        for part in Self.conjuncts(condition) where part.text("type") == "COMPARE_EQUAL" {
            guard let left = part.node("left"), let right = part.node("right") else { continue }
            for (inner, other) in [(left, right), (right, left)]
            where Self.isKey(inner, relation.keys) && Self.isQualifiedKey(other, scope.outerKeys)
                && !Self.isKey(other, relation.keys)
            {
                relation.isTied = true
            }
        }
        return relation
    }

    /// What makes a SELECT over one relation need rows of several organizations.
    private static func obstacle(
        in node: SyntaxNode,
        _ from: Relation,
        _ outputs: [(name: String, isKey: Bool)]?
    ) -> Obstacle? {
        if Self.aggregates(node), !Self.groupsByKey(node, from) {
            return Obstacle("it aggregates over several organizations", at: node)
        }
        if let window = Self.windows(in: node).first(where: { !Self.isPartitioned($0, from) }) {
            return Obstacle("a window reaches over several organizations", at: window)
        }
        for modifier in node.list("modifiers") {
            switch modifier.text("type") {
            case "DISTINCT_MODIFIER":
                guard modifier.list("distinct_on_targets").isEmpty else {
                    return Obstacle("DISTINCT ON compares rows of several organizations")
                }
                guard outputs?.contains(where: \.isKey) == true else {
                    return Obstacle("DISTINCT compares rows of several organizations")
                }
            case "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER":
                return Obstacle("LIMIT counts rows of several organizations", at: modifier.node("limit"))
            default: break
            }
        }
        return nil
    }

    private func setOperation(_ node: SyntaxNode, _ scope: LocalityScope) -> QueryShape {
        var children = node.list("children")
        for side in ["left", "right"] { if let child = node.node(side) { children.append(child) } }
        let shapes = children.map { self.query($0, scope) }
        for shape in shapes { if case .across = shape.spread { return QueryShape(spread: shape.spread) } }
        if shapes.allSatisfy({ $0.spread == .everywhere }) { return QueryShape(spread: .everywhere) }
        guard shapes.allSatisfy({ $0.spread == .local }) else {
            return QueryShape(spread: .across(Obstacle("a set operation of datasets with other rows", at: node)))
        }
        let isTied = shapes.allSatisfy(\.isTied)
        let isByName = node.text("setop_type") == "UNION_BY_NAME"
        var outputs: [(name: String, isKey: Bool)]?
        if !isByName, let first = shapes.first?.outputs, shapes.allSatisfy({ $0.outputs?.count == first.count }) {
            outputs = first.indices.map { index in
                (first[index].name, shapes.allSatisfy { $0.outputs?[index].isKey == true })
            }
        }
        let keepsAll =
            node["setop_all"]?.isTrue == true && ["UNION", "UNION_BY_NAME"].contains(node.text("setop_type"))
        guard keepsAll || isTied || outputs?.contains(where: \.isKey) == true else {
            let what = "a set operation compares rows of several organizations"
            return QueryShape(spread: .across(Obstacle(what, at: node)))
        }
        let limits = node.list("modifiers").contains { $0.text("type") != "ORDER_MODIFIER" }
        guard !limits || isTied else {
            return QueryShape(spread: .across(Obstacle("LIMIT counts rows of several organizations", at: node)))
        }
        return QueryShape(spread: .local, outputs: outputs, isTied: isTied)
    }

    // MARK: - Sub-queries in expressions

    /// The first sub-query of a SELECT's expressions that a shard cannot answer for its own rows.
    func subqueryObstacle(in node: SyntaxNode, _ from: Relation, _ scope: LocalityScope) -> Obstacle? {
        var inner = scope
        inner.outerKeys.formUnion(from.keys)
        var obstacle: Obstacle?
        for key in Self.expressionClauses {
            node[key]?.walk { part in
                guard obstacle == nil else { return false }
                guard part.text("class") == "SUBQUERY" else { return true }
                guard let query = part.node("subquery")?.node("node") else { return true }
                if !self.isOwn(part, query, from, inner, inCondition: key == "where_clause") {
                    obstacle = Obstacle("a sub-query reads all organizations", at: part)
                }
                // The tested expression of IN may hold another one.
                if let child = part.node("child"), child.contains({ $0.text("class") == "SUBQUERY" }) {
                    obstacle = Obstacle("a sub-query in the operand of another", at: part)
                }
                return false
            }
        }
        return obstacle
    }

    /// Whether a shard can answer a sub-query for its own rows: it reads no dataset, or the rows of the row's organization.
    ///
    /// `organization IN (SELECT organization …)` and `(organization, x) IN (SELECT (organization, y) …)` look at no others:
    /// organizations are never null, so that of another one none is equal, nor is it unknown whether it is.
    /// - Parameter inCondition: Whether it stands in WHERE; elsewhere a name may be one of the SELECT list.
    func isOwn(
        _ part: SyntaxNode,
        _ query: SyntaxNode,
        _ from: Relation,
        _ inner: LocalityScope,
        inCondition: Bool
    ) -> Bool {
        let shape = self.query(query, inner)
        if shape.spread == .everywhere { return true }
        guard shape.spread == .local else { return false }
        if shape.isTied || self.rules == .everyListIsOwn { return true }
        guard inCondition, part.text("subquery_type") == "ANY", part.text("comparison_type") == "COMPARE_EQUAL",
            query.text("type") == "SELECT_NODE", query.list("select_list").count == 1, let child = part.node("child")
        else { return false }
        if Self.isKey(child, from.keys) { return shape.outputs?.first?.isKey == true }
        var scope = inner
        guard let tested = Self.rowItems(child), let given = Self.rowItems(query.list("select_list")[0]),
            tested.count == given.count, self.addCommonTables(of: query, to: &scope) == nil
        else { return false }
        let keys = self.from(of: query, scope).keys
        return zip(tested, given).contains { Self.isKey($0, from.keys) && Self.isKey($1, keys) }
    }

    /// The items of `(a, b, …)`; nil for anything else.
    private static func rowItems(_ node: SyntaxNode) -> [SyntaxNode]? {
        guard node.text("class") == "FUNCTION", node.text("function_name").lowercased() == "row",
            node.text("schema").isEmpty, node.text("catalog").isEmpty
        else { return nil }
        let items = node.list("arguments").compactMap { $0.text("name").isEmpty ? $0.node("expression") : nil }
        return items.count == node.list("arguments").count && items.count > 1 ? items : nil
    }

    static let expressionClauses = [
        "select_list", "where_clause", "group_expressions", "having", "qualify", "modifiers",
    ]

    /// Whether a dataset is read anywhere below.
    func readsDatasets(_ node: SyntaxNode, _ scope: LocalityScope) -> Bool {
        node.contains { part in
            guard part.text("type") == "BASE_TABLE" else { return false }
            let name = part.text("table_name").lowercased()
            if let shape = scope.commonTables[name] { return shape.spread != .everywhere }
            return self.catalog.table(named: name) != nil
        }
    }

    static func conjuncts(_ condition: SyntaxNode) -> [SyntaxNode] {
        guard condition.text("type") == "CONJUNCTION_AND" else { return [condition] }
        return condition.list("children").flatMap(self.conjuncts)
    }
}
