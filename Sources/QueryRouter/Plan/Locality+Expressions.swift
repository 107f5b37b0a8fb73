extension Locality {
    // MARK: - Keys

    private static func path(_ node: SyntaxNode) -> [String]? {
        guard node.text("class") == "COLUMN_REF" else { return nil }
        return node.list("column_names").compactMap { $0.text?.lowercased() }
    }

    /// Whether an expression is a column that holds the organization.
    ///
    /// A name alone means the one column of that name: two would be an error of the statement.
    static func isKey(_ node: SyntaxNode, _ keys: Set<KeyColumn>) -> Bool {
        guard let path = self.path(node), let name = path.last else { return false }
        return switch path.count {
        case 1: keys.contains { $0.name == name }
        case 2: keys.contains(KeyColumn(qualifier: path[0], name: name))
        case 3: path[0] == "main" && keys.contains(KeyColumn(qualifier: path[1], name: name))
        default: false
        }
    }

    static func isQualifiedKey(_ node: SyntaxNode, _ keys: Set<KeyColumn>) -> Bool {
        (self.path(node)?.count ?? 0) >= 2 && self.isKey(node, keys)
    }

    /// The columns of a SELECT, in order; nil where a star hides them.
    static func outputs(of node: SyntaxNode, _ from: Relation) -> [(name: String, isKey: Bool)]? {
        var outputs: [(name: String, isKey: Bool)] = []
        for item in node.list("select_list") {
            if item.text("class") == "STAR" || self.makesRows(item) { return nil }
            let alias = item.text("alias").lowercased()
            let name = alias.isEmpty ? self.path(item)?.last ?? "" : alias
            outputs.append((name, self.isKey(item, from.keys)))
        }
        return outputs
    }

    /// Whether one expression may stand for several columns.
    private static func makesRows(_ node: SyntaxNode) -> Bool {
        node.contains { part in
            part.text("class") == "STAR"
                || (part.text("class") == "FUNCTION" && part.text("function_name").lowercased() == "unnest")
                || part.text("type") == "OPERATOR_UNPACK"
        }
    }

    // MARK: - Aggregates and windows

    /// Whether a SELECT groups rows or aggregates them.
    static func aggregates(_ node: SyntaxNode) -> Bool {
        if node.text("aggregate_handling") != "STANDARD_HANDLING" { return true }
        if !node.list("group_expressions").isEmpty || !node.list("group_sets").isEmpty { return true }
        if node.node("having") != nil { return true }
        return ["select_list", "qualify", "modifiers"].contains { key in
            node[key].map(self.containsAggregate) ?? false
        }
    }

    static func containsAggregate(_ node: SyntaxNode) -> Bool {
        var found = false
        node.walk { part in
            if found || part.text("class") == "SUBQUERY" { return false }
            if self.isAggregate(part) { found = true }
            return !found
        }
        return found
    }

    static func isAggregate(_ node: SyntaxNode) -> Bool {
        node.text("class") == "FUNCTION" && AggregateRules.all.contains(node.text("function_name").lowercased())
    }

    /// Whether each group holds rows of one organization.
    static func groupsByKey(_ node: SyntaxNode, _ from: Relation) -> Bool {
        if node.text("aggregate_handling") == "FORCE_AGGREGATES" {
            return node.list("select_list").contains { self.isKey($0, from.keys) }
        }
        let keys = Set(
            node.list("group_expressions").enumerated().filter { self.isKey($0.element, from.keys) }.map(\.offset)
        )
        let sets = node.list("group_sets")
        guard !keys.isEmpty, !sets.isEmpty else { return false }
        return sets.allSatisfy { set in
            set.elements.contains { element in
                if case .number(let digits) = element, let index = Int(digits) { keys.contains(index) } else { false }
            }
        }
    }

    static func windows(in node: SyntaxNode) -> [SyntaxNode] {
        var windows: [SyntaxNode] = []
        for key in ["select_list", "qualify", "modifiers", "having"] {
            node[key]?.walk { part in
                if part.text("class") == "SUBQUERY" { return false }
                if part.text("class") == "WINDOW" { windows.append(part) }
                return true
            }
        }
        return windows
    }

    static func isPartitioned(_ window: SyntaxNode, _ from: Relation) -> Bool {
        window.list("partitions").contains { self.isKey($0, from.keys) }
    }
}
