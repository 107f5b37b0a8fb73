internal import Columnar

/// Tells whether a condition of a WHERE clause may be checked on the shards ahead of the statement.
///
/// Only what reads one dataset's columns, depends on nothing else, and calls nothing that fails on a value: an
/// unknown node means no. (A comparison of different types casts, and may fail, but then it may in one DuckDB too.)
/// In a WHERE clause over one table a bare name of a column is that column, even when the SELECT list has an alias
/// of the same name (DuckDB 2.0.0, measured).
struct PushableCondition {
    private let columns: Set<String>
    private let qualifier: String

    init(table: TableSchema, qualifier: String) {
        self.columns = Set(table.columns.map { $0.name.lowercased() })
        self.qualifier = qualifier
    }

    /// Functions that give a value or null for every argument.
    private static let functions: Set<String> = [
        "~~", "!~~", "~~*", "!~~*", "contains", "starts_with", "prefix", "suffix", "ends_with", "lower", "upper",
        "length",
        "lcase", "ucase", "date_trunc", "date_part", "year", "month", "day", "hour", "trim",
    ]

    private static let operators: Set<String> = [
        "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE",
    ]

    /// Types whose literals read the same everywhere: no time zone, no setting.
    private static let types: Set<String> = [
        "varchar", "integer", "bigint", "ubigint", "double", "boolean", "date", "timestamp",
    ]

    /// The condition with bare column names, or nil when it must not be pushed.
    func rewritten(_ node: SyntaxNode) -> SyntaxNode? {
        switch node.text("class") {
        case "CONSTANT": return node
        case "COLUMN_REF": return self.column(node).map { SyntaxNode.column($0) }
        case "COMPARISON": return self.rewriting(node, keys: ["left", "right"])
        case "BETWEEN": return self.rewriting(node, keys: ["input", "lower", "upper"])
        case "CONJUNCTION": return self.rewritingList(node, key: "children")
        case "OPERATOR":
            return Self.operators.contains(node.text("type")) ? self.rewritingList(node, key: "children") : nil
        case "CAST":
            // A literal with a type, as in DATE '2026-01-31'.
            guard node.node("child")?.text("class") == "CONSTANT", let type = node.node("type_expr"),
                Self.types.contains(type.text("type_name").lowercased()), type.list("children").isEmpty
            else { return nil }
            return node
        case "FUNCTION": return self.function(node)
        default: return nil
        }
    }

    private func function(_ node: SyntaxNode) -> SyntaxNode? {
        let isPlain =
            Self.functions.contains(node.text("function_name").lowercased()) && node.text("schema").isEmpty
            && node.text("catalog").isEmpty && node.node("filter") == nil && node["distinct"]?.isTrue != true
            && (node.node("order_bys")?.list("orders") ?? []).isEmpty
        guard isPlain else { return nil }
        var arguments: [SyntaxNode] = []
        for argument in node.list("arguments") {
            guard let expression = argument.node("expression").flatMap(self.rewritten) else { return nil }
            arguments.append(argument.setting("expression", expression))
        }
        return node.setting("arguments", .array(arguments))
    }

    private func rewriting(_ node: SyntaxNode, keys: [String]) -> SyntaxNode? {
        var result = node
        for key in keys {
            guard let part = node.node(key).flatMap(self.rewritten) else { return nil }
            result = result.setting(key, part)
        }
        return result
    }

    private func rewritingList(_ node: SyntaxNode, key: String) -> SyntaxNode? {
        var parts: [SyntaxNode] = []
        for element in node.list(key) {
            guard let part = self.rewritten(element) else { return nil }
            parts.append(part)
        }
        return node.setting(key, .array(parts))
    }

    /// The column that a reference names, or nil when it may be something else.
    private func column(_ node: SyntaxNode) -> String? {
        let path = node.list("column_names").compactMap { $0.text?.lowercased() }
        guard let last = path.last, self.columns.contains(last) else { return nil }
        switch path.count {
        // The qualifier's own name would be the whole row in some places.
        case 1: return last == self.qualifier ? nil : last
        case 2: return path[0] == self.qualifier ? last : nil
        default: return nil
        }
    }

    /// The texts of `column = 'text'` or `column IN ('text', …)`; nil for anything else.
    func texts(equalTo name: String, in node: SyntaxNode) -> Set<String>? {
        switch node.text("type") {
        case "COMPARE_EQUAL":
            guard let left = node.node("left"), let right = node.node("right") else { return nil }
            if self.isColumn(left, name) { return Self.text(right).map { [$0] } }
            return self.isColumn(right, name) ? Self.text(left).map { [$0] } : nil
        case "COMPARE_IN":
            let children = node.list("children")
            guard let first = children.first, self.isColumn(first, name) else { return nil }
            var texts: Set<String> = []
            for child in children.dropFirst() {
                guard let text = Self.text(child) else { return nil }
                texts.insert(text)
            }
            return texts
        default: return nil
        }
    }

    private func isColumn(_ node: SyntaxNode, _ name: String) -> Bool {
        node.text("class") == "COLUMN_REF" && self.column(node) == name
    }

    private static func text(_ node: SyntaxNode) -> String? {
        guard node.text("class") == "CONSTANT", let literal = node.node("literal"), literal.text("kind") == "STRING"
        else {
            return nil
        }
        return literal["text"]?.text
    }
}
