internal import Columnar

/// Plan (b): every shard answers the whole statement for its own rows; the router joins the answers, in order.
struct ConcatPlanner {
    /// The names of the statement's columns, as the binder gives them.
    let names: [String]

    /// What the shards are asked and what is made of it.
    struct Parts {
        var shard: SyntaxNode
        var columns: [String]
        var final: SyntaxNode?
        var cut = ShardCut.none
    }

    /// - Parameter node: A query that ``Locality`` calls local but for its ORDER BY, LIMIT and DISTINCT.
    /// - Throws: ``Obstacle``.
    func plan(_ node: SyntaxNode, mustMergeDistinct: Bool) throws -> Parts {
        let clauses = QueryClauses(node)
        guard clauses.others.isEmpty else { throw Obstacle("a clause that is not split", at: clauses.others[0]) }
        var sorts: [SyntaxNode] = []
        let orders = try self.finalOrders(clauses, of: node, sorts: &sorts)
        var columns = self.names.indices.map(OwnName.output)
        columns += sorts.indices.map(OwnName.sort)
        var shard = node.setting(
            "modifiers",
            .array(self.shardModifiers(clauses, mustMergeDistinct: mustMergeDistinct))
        )
        if !sorts.isEmpty {
            guard node.text("type") == "SELECT_NODE", !clauses.isDistinct else {
                throw Obstacle("it is sorted by what it does not select", at: clauses.order.first?.node("expression"))
            }
            shard = shard.setting("select_list", .array(node.list("select_list") + sorts))
        }
        let cut = Self.cut(clauses)
        guard !orders.isEmpty || clauses.limit != nil || mustMergeDistinct else {
            return Parts(shard: shard, columns: columns, final: nil)
        }
        var modifiers: [SyntaxNode] = []
        if mustMergeDistinct {
            modifiers.append(
                .object(["type": .string("DISTINCT_MODIFIER"), "distinct_on_targets": .array([])])
            )
        }
        if !orders.isEmpty { modifiers.append(QueryClauses.order(orders)) }
        if let limit = clauses.limit { modifiers.append(limit) }
        let list = self.names.enumerated().map { SyntaxNode.column(OwnName.output($0.offset), alias: $0.element) }
        let final = SyntaxNode.select(list, from: .baseTable(ScatterPlan.table)).setting(
            "modifiers",
            .array(modifiers)
        )
        return Parts(shard: shard, columns: columns, final: final, cut: cut)
    }

    private static func cut(_ clauses: QueryClauses) -> ShardCut {
        guard clauses.limit != nil else { return .none }
        return clauses.rowsNeeded.map { .rows($0) } ?? .whole(Obstacle("LIMIT is no number of rows"))
    }

    /// What a shard sorts and cuts: only where the cut is certain, and then by the statement's own words.
    private func shardModifiers(_ clauses: QueryClauses, mustMergeDistinct: Bool) -> [SyntaxNode] {
        var modifiers: [SyntaxNode] = []
        if clauses.isDistinct {
            modifiers.append(
                .object(["type": .string("DISTINCT_MODIFIER"), "distinct_on_targets": .array([])])
            )
        }
        guard let rows = clauses.rowsNeeded else { return modifiers }
        if !clauses.order.isEmpty { modifiers.append(QueryClauses.order(clauses.order)) }
        return modifiers + [QueryClauses.limit(rows)]
    }

    /// The sort keys over the shards' columns; what the statement does not select is added to `sorts`.
    private func finalOrders(
        _ clauses: QueryClauses,
        of node: SyntaxNode,
        sorts: inout [SyntaxNode]
    ) throws -> [SyntaxNode] {
        if let all = QueryClauses.orderAll(clauses.order) {
            return self.names.indices.map { all.setting("expression", .column(OwnName.output($0))) }
        }
        let aliases = Self.aliases(of: node)
        return try clauses.order.map { order in
            guard let expression = order.node("expression") else { throw Obstacle("an ORDER BY of an unknown form") }
            if let place = QueryClauses.integer(expression), (1...max(1, self.names.count)).contains(place) {
                return order.setting("expression", .column(OwnName.output(place - 1)))
            }
            if expression.text("class") == "CONSTANT" || expression.text("class") == "STAR" {
                throw Obstacle("an ORDER BY of an unknown form", at: expression)
            }
            if let name = Self.singleName(expression), let place = aliases[name] {
                guard place != Self.unknownPlace else {
                    throw Obstacle("several columns may have the name \(name)", at: expression)
                }
                return order.setting("expression", .column(OwnName.output(place)))
            }
            guard node.text("type") == "SELECT_NODE" else { return try self.setOrder(order, expression) }
            // Inside an expression a name may be a column or an alias: only what cannot be an alias is repeated.
            let namesAlias = expression.contains { part in Self.singleName(part).map { aliases[$0] != nil } ?? false }
            guard !namesAlias else {
                throw Obstacle("ORDER BY computes with a name of the SELECT list", at: expression)
            }
            sorts.append(expression)
            return order.setting("expression", .column(OwnName.sort(sorts.count - 1)))
        }
    }

    /// The rows of a set operation are sorted by its columns only.
    private func setOrder(_ order: SyntaxNode, _ expression: SyntaxNode) throws -> SyntaxNode {
        let places = self.names.indices.filter { self.names[$0].lowercased() == Self.singleName(expression) }
        guard places.count == 1 else { throw Obstacle("an ORDER BY of an unknown form", at: expression) }
        return order.setting("expression", .column(OwnName.output(places[0])))
    }

    /// The place of an alias behind a star, or of one that is given twice.
    static let unknownPlace = -1

    /// Places of the SELECT list by the aliases that the statement gives.
    static func aliases(of node: SyntaxNode) -> [String: Int] {
        var aliases: [String: Int] = [:]
        guard node.text("type") == "SELECT_NODE" else { return aliases }
        var isOpen = false
        for (index, item) in node.list("select_list").enumerated() {
            if item.text("class") == "STAR" || item.contains({ $0.text("class") == "STAR" }) { isOpen = true }
            let alias = item.text("alias").lowercased()
            guard !alias.isEmpty else { continue }
            aliases[alias] = aliases[alias] == nil && !isOpen ? index : self.unknownPlace
        }
        return aliases
    }

    static func singleName(_ node: SyntaxNode) -> String? {
        guard node.text("class") == "COLUMN_REF" else { return nil }
        let names = node.list("column_names")
        return names.count == 1 ? names[0].text?.lowercased() : nil
    }
}
