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
    private let rules: StatementSplitter.Rules
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
    ///   - rules: Exact, but in tests.
    init(_ node: SyntaxNode, from: Relation, names: [String], rules: StatementSplitter.Rules = .exact) throws {
        let node = Self.unqualified(node, from)
        self.node = node
        self.from = from
        self.names = names
        self.rules = rules
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
        // After ORDER BY was read, which may have aggregates of its own.
        let modifiers = try self.finalModifiers()
        let (cut, orders) = self.cut(items, sets)
        final = final.setting("modifiers", .array(Self.adding(orders.ties, to: modifiers)))
        guard !self.partials.isEmpty || !self.groups.isEmpty || !self.distincts.isEmpty else {
            throw Obstacle("it groups rows, and aggregates nothing")
        }
        return ConcatPlanner.Parts(shard: self.shard(cut, orders.shard), columns: self.columns, final: final, cut: cut)
    }

    private var columns: [String] {
        self.groups.indices.map(OwnName.group) + self.distincts.indices.map(OwnName.distinct)
            + self.partials.indices.map(OwnName.aggregate)
    }

    /// What a shard computes: its groups, and the parts of each.
    private func shard(_ cut: ShardCut, _ orders: [SyntaxNode]) -> SyntaxNode {
        let keys = self.groups + self.distincts
        var list: [SyntaxNode] = []
        for (expression, name) in zip(keys + self.partials, self.columns) {
            list.append(expression.setting("alias", .string(name)))
        }
        // By place: a name could mean a column or an alias.
        let places = keys.indices.map { SyntaxNode.integer($0 + 1) }
        let all = keys.indices.map { SyntaxNode.number(String($0)) }
        var modifiers: [SyntaxNode] = []
        if case .rows(let rows) = cut { modifiers = [QueryClauses.order(orders), QueryClauses.limit(rows)] }
        return self.node
            .setting("select_list", .array(list))
            .setting("group_expressions", .array(places))
            .setting("group_sets", keys.isEmpty ? .array([]) : .array([.array(all)]))
            .setting("aggregate_handling", .string("STANDARD_HANDLING"))
            .setting("having", .null)
            .setting("qualify", .null)
            .setting("modifiers", .array(modifiers))
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

    // MARK: - LIMIT

    /// How many groups a shard need send, in which order, and what must break ties in the final step.
    ///
    /// Where ORDER BY sorts by what is grouped by, and by nothing else before that, the rows of the answer are the first
    /// groups in an order that hangs on no aggregate. With all other group keys behind it, that order leaves no two groups equal.
    /// So a group of the answer has fewer groups before it than the LIMIT needs, on every shard too: each shard that has
    /// it sends it. Other groups may come in part; they are behind those in the final step, which sorts likewise.
    private func cut(
        _ items: [SyntaxNode],
        _ sets: SyntaxNode
    ) -> (cut: ShardCut, orders: (shard: [SyntaxNode], ties: [SyntaxNode])) {
        guard self.clauses.limit != nil else { return (.none, ([], [])) }
        if let obstacle = self.cutObstacle(items, sets) { return (.whole(obstacle), ([], [])) }
        guard let rows = self.clauses.rowsNeeded, rows <= ShardCut.groupsMax else {
            return (.whole(Obstacle("LIMIT is no number, or a large one")), ([], []))
        }
        var shard: [SyntaxNode] = []
        var left = Set(self.groups.indices)
        let isAll = QueryClauses.orderAll(self.clauses.order)
        let keys = isAll.map { all in items.map { all.setting("expression", $0) } } ?? self.clauses.order
        for order in keys where !left.isEmpty {
            guard let place = self.groupPlace(of: order.node("expression") ?? .null, items) else {
                if self.rules == .cutsByAnyOrder { continue }
                let what = Obstacle("it is sorted by what is not grouped by", at: order.node("expression"))
                return (.whole(what), ([], []))
            }
            guard left.remove(place) != nil else { continue }
            shard.append(order.setting("expression", .integer(place + 1)))
        }
        guard isAll == nil || left.isEmpty else {
            return (.whole(Obstacle("ORDER BY ALL leaves out what is grouped by")), ([], []))
        }
        let rest = left.sorted()
        let ties = rest.map { QueryClauses.orderItem(.column(OwnName.group($0))) }
        return (.rows(rows), (shard + rest.map { QueryClauses.orderItem(.integer($0 + 1)) }, ties))
    }

    /// The final step's modifiers with more items behind those of its ORDER BY.
    private static func adding(_ ties: [SyntaxNode], to modifiers: [SyntaxNode]) -> [SyntaxNode] {
        guard !ties.isEmpty else { return modifiers }
        let isOrder = { (modifier: SyntaxNode) in modifier.text("type") == "ORDER_MODIFIER" }
        let own = modifiers.filter(isOrder).flatMap { $0.list("orders") }
        // LIMIT stands behind it.
        return [QueryClauses.order(own + ties)] + modifiers.filter { !isOrder($0) }
    }

    /// What else than the order keeps shards from leaving groups out.
    private func cutObstacle(_ items: [SyntaxNode], _ sets: SyntaxNode) -> Obstacle? {
        guard !self.groups.isEmpty else { return Obstacle("it has one group") }
        let places = Set(self.groups.indices.map { SyntaxNode.number(String($0)) })
        guard sets.elements.count == 1, Set(sets.elements[0].elements) == places else {
            return Obstacle("it has several grouping sets")
        }
        if let having = self.node.node("having") { return Obstacle("HAVING leaves out groups", at: having) }
        if let qualify = self.node.node("qualify") { return Obstacle("QUALIFY leaves out groups", at: qualify) }
        if let window = Locality.windows(in: self.node).first {
            return Obstacle("a window sees all groups", at: window)
        }
        if self.clauses.isDistinct { return Obstacle("DISTINCT makes several groups one row") }
        if let distinct = self.distincts.first { return Obstacle("distinct values are sent one by one", at: distinct) }
        var generating: SyntaxNode?
        SyntaxNode.array(items).walk { node in
            if AllowedFunctions.generating.contains(node.text("function_name").lowercased()) { generating = node }
            return generating == nil
        }
        if let generating { return Obstacle("a group may give several rows, or none", at: generating) }
        return nil
    }

    /// The group key that an item of ORDER BY is.
    private func groupPlace(of expression: SyntaxNode, _ items: [SyntaxNode]) -> Int? {
        if let place = QueryClauses.integer(expression) {
            return (1...items.count).contains(place) ? self.groupPlaces[items[place - 1].meaning] : nil
        }
        if let name = ConcatPlanner.singleName(expression), let place = self.aliases[name] {
            return self.groupPlaces[items[place].meaning]
        }
        return self.groupPlaces[expression.meaning]
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
