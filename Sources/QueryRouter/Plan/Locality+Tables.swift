internal import Columnar

extension Locality {
    func table(_ node: SyntaxNode, _ scope: LocalityScope) -> Relation {
        if node["sample"] != nil, node["sample"] != .null {
            return Relation(spread: .across(Obstacle("a sample is drawn from all rows together", at: node)))
        }
        switch node.text("type") {
        case "EMPTY": return Relation(spread: .everywhere, columns: [])
        case "BASE_TABLE": return self.baseTable(node, scope)
        case "SUBQUERY":
            guard let query = node.node("subquery")?.node("node") else { return Self.unknown(node) }
            return Self.relation(self.query(query, scope), node)
        case "JOIN": return self.join(node, scope)
        case "TABLE_FUNCTION", "EXPRESSION_LIST":
            guard !self.readsDatasets(node, scope) else { return Self.unknown(node) }
            return Relation(spread: .everywhere)
        default:
            guard self.readsDatasets(node, scope) else { return Relation(spread: .everywhere) }
            return Self.unknown(node)
        }
    }

    private static func unknown(_ node: SyntaxNode) -> Relation {
        let kind = node.text("type").lowercased()
        return Relation(spread: .across(Obstacle("\(kind) needs all rows together", at: node)))
    }

    private func baseTable(_ node: SyntaxNode, _ scope: LocalityScope) -> Relation {
        let name = node.text("table_name").lowercased()
        if node.text("schema_name").isEmpty, let shape = scope.commonTables[name] {
            return Self.relation(shape, node, name: name)
        }
        guard let table = self.catalog.table(named: name) else { return Self.unknown(node) }
        var columns = table.columns.map { $0.name.lowercased() }
        for (index, alias) in node.list("column_name_alias").enumerated() where index < columns.count {
            columns[index] = alias.text?.lowercased() ?? ""
        }
        let alias = node.text("alias").lowercased()
        let key = KeyColumn(qualifier: alias.isEmpty ? name : alias, name: columns.first ?? "")
        return Relation(spread: .local, keys: [key], columns: Set(columns))
    }

    /// A query as it stands in FROM.
    private static func relation(_ shape: QueryShape, _ node: SyntaxNode, name: String = "") -> Relation {
        var relation = Relation(spread: shape.spread, isTied: shape.isTied)
        guard var outputs = shape.outputs else { return relation }
        for (index, alias) in node.list("column_name_alias").enumerated() where index < outputs.count {
            outputs[index].name = alias.text?.lowercased() ?? ""
        }
        let alias = node.text("alias").lowercased()
        let qualifier = alias.isEmpty ? name : alias
        // Of two columns with one name, the engine gives the second another.
        let names = outputs.map(\.name)
        guard Set(names).count == names.count else { return relation }
        relation.columns = Set(names)
        relation.keys = Set(outputs.filter(\.isKey).map { KeyColumn(qualifier: qualifier, name: $0.name) })
        return relation
    }

    // MARK: - Joins

    private func join(_ node: SyntaxNode, _ scope: LocalityScope) -> Relation {
        guard let leftNode = node.node("left"), let rightNode = node.node("right") else { return Self.unknown(node) }
        let left = self.table(leftNode, scope)
        if case .across = left.spread { return left }
        var inner = scope
        inner.outerKeys.formUnion(left.keys)
        let right = self.table(rightNode, inner)
        if case .across = right.spread { return right }
        let columns = left.columns.flatMap { left in right.columns.map { left.union($0) } }
        if let condition = node.node("condition"), condition.contains({ $0.text("class") == "SUBQUERY" }) {
            return Relation(spread: .across(Obstacle("a sub-query in a join's condition", at: condition)))
        }
        if node.node("ranking_expression") != nil { return Self.unknown(node) }
        switch (left.spread, right.spread) {
        case (.everywhere, .everywhere): return Relation(spread: .everywhere, columns: columns)
        case (.local, .local): return self.localJoin(node, left, right, columns)
        default: return Self.mixedJoin(node, left, right, columns)
        }
    }

    /// Two sides of which both are spread: every pair of rows must be of one organization.
    private func localJoin(
        _ node: SyntaxNode,
        _ left: Relation,
        _ right: Relation,
        _ columns: Set<String>?
    ) -> Relation {
        let obstacle = Obstacle("a join pairs rows of several organizations", at: node)
        guard node.text("ref_type") != "POSITIONAL" else { return Relation(spread: .across(obstacle)) }
        let shared = Set(left.keys.map(\.name)).intersection(right.keys.map(\.name))
        var isTogether = right.isTied
        if let condition = node.node("condition") {
            for part in Self.conjuncts(condition) where part.text("type") == "COMPARE_EQUAL" {
                guard let one = part.node("left"), let other = part.node("right") else { continue }
                for (first, second) in [(one, other), (other, one)]
                where Self.isQualifiedKey(first, left.keys) && Self.isQualifiedKey(second, right.keys) {
                    isTogether = true
                }
            }
        }
        let using = Set(node.list("using_columns").compactMap { $0.text?.lowercased() })
        if !using.isDisjoint(with: shared) { isTogether = true }
        let isNatural = node.text("ref_type") == "NATURAL"
        if isNatural, !shared.isEmpty { isTogether = true }
        guard isTogether else { return Relation(spread: .across(obstacle)) }
        var relation = Relation(spread: .local, columns: columns, isTied: left.isTied && right.isTied)
        switch node.text("join_type") {
        case "INNER": relation.keys = left.keys.union(right.keys)
        case "LEFT": relation.keys = Self.unambiguous(left.keys, against: right, using, isNatural)
        case "SEMI", "ANTI":
            relation.keys = left.keys
            relation.columns = left.columns
        case "RIGHT": relation.keys = Self.unambiguous(right.keys, against: left, using, isNatural)
        case "OUTER", "FULL": relation.keys = []
        default: return Relation(spread: .across(obstacle))
        }
        return relation
    }

    /// The keys of the side that is kept whole.
    ///
    /// USING makes one column of two: then the name alone may mean the other side's value, which may be null, and is
    /// no key. NATURAL does the same. With ON, a name that both sides have is an error of the statement.
    private static func unambiguous(
        _ keys: Set<KeyColumn>,
        against other: Relation,
        _ using: Set<String>,
        _ isNatural: Bool
    ) -> Set<KeyColumn> {
        let merged = keys.filter { key in
            using.contains(key.name) || isNatural && other.columns?.contains(key.name) != false
        }
        return merged.isEmpty ? keys : keys.subtracting(merged)
    }

    /// One side spread, the other the same everywhere: no row of the latter may be kept for itself.
    private static func mixedJoin(
        _ node: SyntaxNode,
        _ left: Relation,
        _ right: Relation,
        _ columns: Set<String>?
    ) -> Relation {
        let spread = left.spread == .local ? left : right
        let isLeftSpread = left.spread == .local
        var isFit = node.text("ref_type") != "POSITIONAL"
        var keptColumns = columns
        switch node.text("join_type") {
        case "INNER": break
        case "LEFT": isFit = isFit && isLeftSpread
        case "SEMI", "ANTI":
            isFit = isFit && isLeftSpread
            keptColumns = left.columns
        case "RIGHT": isFit = isFit && !isLeftSpread
        default: isFit = false
        }
        guard isFit else {
            return Relation(spread: .across(Obstacle("a join keeps rows that are on no shard", at: node)))
        }
        // A column of the other side with the key's name could be meant by the name alone.
        let other = isLeftSpread ? right : left
        let using = Set(node.list("using_columns").compactMap { $0.text?.lowercased() })
        let isInner = node.text("join_type") == "INNER"
        let keys = spread.keys.filter { key in
            isInner || !(using.contains(key.name) || other.columns?.contains(key.name) != false)
                || node.text("ref_type") == "CROSS"
        }
        return Relation(spread: .local, keys: keys, columns: keptColumns, isTied: spread.isTied)
    }
}
