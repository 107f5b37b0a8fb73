internal import Columnar

/// Plan (c): shards aggregate their own rows; the router puts the parts together and does the rest of the statement.
///
/// A shard groups by all expressions of GROUP BY together, so that grouping sets, HAVING, windows over groups, ORDER
/// BY and LIMIT are all done once, by the router, in the statement's own words over the parts.
struct PartialPlanner {
    private let node: SyntaxNode
    private let from: Relation
    private let names: [String]
    private let clauses: QueryClauses
    /// Items of the SELECT list by alias.
    private let aliases: [String: Int]

    private var groups: [SyntaxNode] = []
    /// GROUP BY expressions by their meaning.
    private var groupPlaces: [SyntaxNode: Int] = [:]
    private var distincts: [SyntaxNode] = []
    private var distinctPlaces: [SyntaxNode: Int] = [:]
    private var partials: [SyntaxNode] = []
    private var partialPlaces: [SyntaxNode: Int] = [:]

    /// - Parameters:
    ///   - node: A SELECT whose FROM is local and that aggregates.
    ///   - names: The names of the statement's columns, as the binder gives them.
    init(_ node: SyntaxNode, from: Relation, names: [String]) throws {
        let node = Self.unqualified(node, from)
        self.node = node
        self.from = from
        self.names = names
        self.clauses = QueryClauses(node)
        self.aliases = ConcatPlanner.aliases(of: node)
        guard !self.aliases.values.contains(ConcatPlanner.unknownPlace) else {
            throw Obstacle("two columns have one name")
        }
    }

    /// Over one table, `a.action` and `action` are the same: the statement's clauses over groups without qualifiers.
    private static func unqualified(_ node: SyntaxNode, _ from: Relation) -> SyntaxNode {
        guard let table = node.node("from_table"), table.text("type") == "BASE_TABLE", let columns = from.columns else {
            return node
        }
        let alias = table.text("alias").lowercased()
        let qualifier = alias.isEmpty ? table.text("table_name").lowercased() : alias
        guard !columns.contains(qualifier) else { return node }
        var result = node
        for key in ["select_list", "group_expressions", "having", "qualify", "modifiers"] {
            guard let clause = node[key] else { continue }
            result = result.setting(
                key,
                clause.mapping { part in
                    let path = part.list("column_names")
                    guard part.text("class") == "COLUMN_REF", path.count == 2, path[0].text?.lowercased() == qualifier,
                        let name = path[1].text?.lowercased(), columns.contains(name)
                    else { return nil }
                    return part.setting("column_names", .array([path[1]]))
                }
            )
        }
        return result
    }

    /// - Throws: ``Obstacle``.
    mutating func plan() throws -> ConcatPlanner.Parts {
        let items = self.node.list("select_list")
        guard items.count == self.names.count, self.clauses.others.isEmpty else {
            throw Obstacle("the SELECT list has a star")
        }
        let sets = try self.readGroups(items)
        var list: [SyntaxNode] = []
        for (item, name) in zip(items, self.names) {
            list.append(try self.rewritten(item).setting("alias", .string(name)))
        }
        var final = SyntaxNode.select(list, from: .baseTable(ScatterPlan.table))
        final = final.setting(
            "group_expressions",
            .array(self.groups.indices.map { .column(OwnName.group($0)) })
        ).setting("group_sets", sets)
        for clause in ["having", "qualify"] {
            guard let expression = self.node.node(clause) else { continue }
            final = final.setting(clause, try self.rewrittenOutside(expression, clause: clause))
        }
        final = final.setting("modifiers", .array(try self.finalModifiers()))
        guard !self.partials.isEmpty || !self.groups.isEmpty || !self.distincts.isEmpty else {
            throw Obstacle("it groups rows, and aggregates nothing")
        }
        return ConcatPlanner.Parts(shard: self.shard(), columns: self.columns, final: final)
    }

    private var columns: [String] {
        self.groups.indices.map(OwnName.group) + self.distincts.indices.map(OwnName.distinct)
            + self.partials.indices.map(OwnName.aggregate)
    }

    /// What a shard computes: its groups, and the parts of each.
    private func shard() -> SyntaxNode {
        let keys = self.groups + self.distincts
        var list: [SyntaxNode] = []
        for (expression, name) in zip(keys + self.partials, self.columns) {
            list.append(expression.setting("alias", .string(name)))
        }
        // By place: a name could mean a column or an alias.
        let places = keys.indices.map { SyntaxNode.integer($0 + 1) }
        let all = keys.indices.map { SyntaxNode.number(String($0)) }
        return self.node
            .setting("select_list", .array(list))
            .setting("group_expressions", .array(places))
            .setting("group_sets", keys.isEmpty ? .array([]) : .array([.array(all)]))
            .setting("aggregate_handling", .string("STANDARD_HANDLING"))
            .setting("having", .null)
            .setting("qualify", .null)
            .setting("modifiers", .array([]))
    }

    // MARK: - GROUP BY

    /// - Returns: The grouping sets of the final step.
    private mutating func readGroups(_ items: [SyntaxNode]) throws -> SyntaxNode {
        var sets = self.node["group_sets"] ?? .array([])
        var expressions = self.node.list("group_expressions")
        if self.node.text("aggregate_handling") == "FORCE_AGGREGATES" {
            expressions = items.filter { !Locality.containsAggregate($0) && !Self.isWindow($0) }
            sets =
                expressions.isEmpty
                ? .array([]) : .array([.array(expressions.indices.map { .number(String($0)) })])
        }
        if expressions.isEmpty, !sets.elements.isEmpty { throw Obstacle("GROUP BY ()") }
        for expression in expressions {
            let resolved = try self.resolvedGroup(expression, items)
            let place = self.groups.count
            self.groups.append(resolved)
            if self.groupPlaces[resolved.meaning] == nil { self.groupPlaces[resolved.meaning] = place }
            if self.groupPlaces[expression.meaning] == nil, ConcatPlanner.singleName(expression) != nil {
                self.groupPlaces[expression.meaning] = place
            }
        }
        return sets
    }

    private static func isWindow(_ node: SyntaxNode) -> Bool { node.contains { $0.text("class") == "WINDOW" } }

    /// What a part of GROUP BY means: an expression, a place in the SELECT list, a column, or else an alias.
    private func resolvedGroup(_ expression: SyntaxNode, _ items: [SyntaxNode]) throws -> SyntaxNode {
        if let place = QueryClauses.integer(expression) {
            guard (1...max(1, items.count)).contains(place) else { throw Obstacle("GROUP BY a place", at: expression) }
            return try self.groupable(items[place - 1])
        }
        if let name = ConcatPlanner.singleName(expression), let place = self.aliases[name] {
            guard let columns = self.from.columns else {
                throw Obstacle("\(name) may be a column or a name of the SELECT list", at: expression)
            }
            // A column of that name comes first.
            if !columns.contains(name) { return try self.groupable(items[place]) }
        }
        return try self.groupable(expression)
    }

    private func groupable(_ expression: SyntaxNode) throws -> SyntaxNode {
        if Locality.containsAggregate(expression) || Self.isWindow(expression) {
            throw Obstacle("GROUP BY an aggregate", at: expression)
        }
        return expression.setting("alias", .string(""))
    }

    // MARK: - Expressions over groups

    /// An expression of the SELECT list over the parts.
    private mutating func rewritten(_ node: SyntaxNode) throws -> SyntaxNode {
        if node["class"] != nil {
            if let place = self.groupPlaces[node.meaning] { return .column(OwnName.group(place)) }
            switch node.text("class") {
            case "COLUMN_REF": throw Obstacle("a column that is not grouped by", at: node)
            case "SUBQUERY": throw Obstacle("a sub-query over groups", at: node)
            case "STAR", "LAMBDA", "POSITIONAL_REFERENCE", "COLLATE":
                throw Obstacle("\(node.text("class").lowercased()) over groups", at: node)
            case "FUNCTION":
                if Locality.isAggregate(node) { return try self.aggregate(node) }
                // `action.upper()` reads the column action.
                guard node.text("schema").isEmpty, node.text("catalog").isEmpty else {
                    throw Obstacle("a call on a column that is not grouped by", at: node)
                }
            default: break
            }
        }
        switch node {
        case .null, .bool, .number, .string: return node
        case .array(let elements):
            var rewritten: [SyntaxNode] = []
            for element in elements { rewritten.append(try self.rewritten(element)) }
            return .array(rewritten)
        case .object(let members):
            var rewritten: [SyntaxNode.Member] = []
            for member in members {
                rewritten.append(.init(key: member.key, value: try self.rewritten(member.value)))
            }
            return .object(rewritten)
        }
    }

    /// An expression of HAVING, QUALIFY or ORDER BY, which may also use the names of the SELECT list.
    private mutating func rewrittenOutside(_ node: SyntaxNode, clause: String) throws -> SyntaxNode {
        let items = self.node.list("select_list")
        var obstacle: Obstacle?
        let aliases = self.aliases
        let groups = self.groupPlaces
        let columns = self.from.columns
        // Names inside of aggregates are columns; those outside may be aliases.
        let resolved = node.mapping { part in
            if part["class"] == nil { return nil }
            if Locality.isAggregate(part) {
                let usesAlias = part.contains { inner in
                    ConcatPlanner.singleName(inner).map { aliases[$0] != nil && columns?.contains($0) != true } ?? false
                }
                if usesAlias { obstacle = Obstacle("an aggregate of a name of the SELECT list", at: part) }
                return part
            }
            guard let name = ConcatPlanner.singleName(part), let place = aliases[name] else { return nil }
            let isGrouped = groups[part.meaning] != nil
            let meansSame = groups[part.meaning] == groups[items[place].meaning] && isGrouped
            if meansSame { return part }
            guard let columns, !columns.contains(name), !isGrouped else {
                obstacle = Obstacle("\(name) may be a column or a name of the SELECT list", at: part)
                return part
            }
            return items[place].setting("alias", .string(""))
        }
        if let obstacle { throw obstacle }
        return try self.rewritten(resolved)
    }

    private mutating func finalModifiers() throws -> [SyntaxNode] {
        var modifiers: [SyntaxNode] = []
        if self.clauses.isDistinct {
            modifiers.append(
                .object(["type": .string("DISTINCT_MODIFIER"), "distinct_on_targets": .array([])])
            )
        }
        if !self.clauses.order.isEmpty {
            var orders = self.clauses.order
            if QueryClauses.orderAll(orders) == nil {
                for (index, order) in orders.enumerated() {
                    guard let expression = order.node("expression") else { continue }
                    orders[index] = order.setting("expression", try self.orderKey(expression))
                }
            }
            modifiers.append(QueryClauses.order(orders))
        }
        if let limit = self.clauses.limit { modifiers.append(limit) }
        return modifiers
    }

    private mutating func orderKey(_ expression: SyntaxNode) throws -> SyntaxNode {
        if QueryClauses.integer(expression) != nil { return expression }
        if expression.text("class") == "CONSTANT" { throw Obstacle("ORDER BY a constant", at: expression) }
        // A name alone is a name of the SELECT list first; the final step has the same names.
        if let name = ConcatPlanner.singleName(expression), self.aliases[name] != nil { return expression }
        return try self.rewrittenOutside(expression, clause: "ORDER BY")
    }

    // MARK: - Aggregates

    /// The final expression of an aggregate; its parts are added to the shards' columns.
    private mutating func aggregate(_ node: SyntaxNode) throws -> SyntaxNode {
        let name = node.text("function_name").lowercased()
        let arguments = node.list("arguments")
        let isDistinct = node["distinct"]?.isTrue == true
        guard let rule = AggregateRules.rule(name) else { throw Obstacle("\(name) does not decompose", at: node) }
        let isPlain = node.text("schema").isEmpty && node.text("catalog").isEmpty
        let isNamed = arguments.contains { !$0.text("name").isEmpty }
        guard isPlain, !isNamed else { throw Obstacle("a call of an unknown form", at: node) }
        if AggregateRules.ofOneArgument.contains(name) && arguments.count != 1
            || AggregateRules.ofTwoArguments.contains(name) && arguments.count != 2
        {
            throw Obstacle("\(name) of \(arguments.count) arguments does not decompose", at: node)
        }
        if node.contains({ $0.text("class") == "SUBQUERY" || $0.text("class") == "WINDOW" }) {
            throw Obstacle("an aggregate of a sub-query or window", at: node)
        }
        if isDistinct, !AggregateRules.blindToRepeats.contains(name) { return self.distinctAggregate(node) }
        var part = node.setting("alias", .string(""))
        if rule != .state { part = part.setting("distinct", .bool(false)) }
        if rule == .state { part = part.setting("export_state", .bool(true)) }
        let column = SyntaxNode.column(OwnName.aggregate(self.place(of: part)))
        switch rule {
        case .again: return .call(name, [column])
        case .count:
            let sum = SyntaxNode.call("sum", [column])
            let total = SyntaxNode.expression(
                "OPERATOR",
                "OPERATOR_COALESCE",
                ["children": .array([sum, .integer(0)])]
            )
            return .cast(total, to: "BIGINT")
        case .state: return .call("finalize", [.call("combine_aggr", [column])])
        }
    }

    private mutating func place(of part: SyntaxNode) -> Int {
        if let place = self.partialPlaces[part.meaning] { return place }
        self.partials.append(part)
        self.partialPlaces[part.meaning] = self.partials.count - 1
        return self.partials.count - 1
    }

    /// DISTINCT: whatever the aggregate looks at becomes a key of the shards' groups, and it is computed at the end.
    private mutating func distinctAggregate(_ node: SyntaxNode) -> SyntaxNode {
        var final = node.setting("alias", .string(""))
        final = final.setting(
            "arguments",
            .array(
                node.list("arguments").map { argument in
                    guard let expression = argument.node("expression") else { return argument }
                    return argument.setting("expression", self.key(expression))
                }
            )
        )
        if let filter = node.node("filter") { final = final.setting("filter", self.key(filter)) }
        if let orders = node.node("order_bys") {
            let keyed = orders.list("orders").map { order in
                guard let expression = order.node("expression") else { return order }
                return order.setting("expression", self.key(expression))
            }
            final = final.setting("order_bys", orders.setting("orders", .array(keyed)))
        }
        return final
    }

    /// A column of the shards' answers that holds an expression's value; a constant stands for itself.
    private mutating func key(_ expression: SyntaxNode) -> SyntaxNode {
        if expression.text("class") == "CONSTANT" { return expression }
        if let place = self.groupPlaces[expression.meaning], ConcatPlanner.singleName(expression) == nil {
            return .column(OwnName.group(place))
        }
        if let place = self.distinctPlaces[expression.meaning] { return .column(OwnName.distinct(place)) }
        self.distincts.append(expression.setting("alias", .string("")))
        self.distinctPlaces[expression.meaning] = self.distincts.count - 1
        return .column(OwnName.distinct(self.distincts.count - 1))
    }
}
