internal import Columnar
internal import Primitives

/// The time of a statement, bound once: all shards see the same.
///
/// A statement that asks for the time is otherwise not split, for every shard would answer with its own.
enum StatementTime {
    /// Functions without arguments that give the time at which the statement began, by the type of what they give.
    private static let functions: [String: String] = [
        "now": timestamp, "get_current_timestamp": timestamp, "transaction_timestamp": timestamp,
        "current_date": "DATE", "today": "DATE", "current_localtimestamp": "TIMESTAMP",
    ]
    /// Words that mean the same, unless there is a column of that name.
    private static let words: [String: String] = [
        "current_timestamp": timestamp, "current_date": "DATE", "localtimestamp": "TIMESTAMP",
    ]
    private static let timestamp = "TIMESTAMP WITH TIME ZONE"

    /// All words that stand for a time although they look like columns.
    static let varyingWords: Set<String> = [
        "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
    ]

    /// The statement's tree with `now` in place of what asks for the time.
    ///
    /// - Returns: Nil when nothing asks for it, or when a name of the result would change.
    static func pinning(_ now: Timestamp, in statement: CheckedStatement, hasParameters: Bool) -> SyntaxNode? {
        guard let query = statement.query else { return nil }
        let taken = self.names(in: statement)
        var found = false
        func value(_ node: SyntaxNode) -> SyntaxNode? {
            guard let type = self.type(of: node, taken) else { return nil }
            found = true
            let micros = SyntaxNode.cast(.text(String(now.rawValue)), to: "BIGINT")
            let literal = SyntaxNode.call("make_timestamp", [micros])
            guard type != "TIMESTAMP" else { return literal.setting("alias", .string(node.text("alias"))) }
            return SyntaxNode.cast(literal, to: type, alias: node.text("alias"))
        }
        // A query inside whose columns have no names of their own may be read by the names that the functions give; and with
        // parameters the binder names the result by the statement with values in it.
        guard !self.givesNames(query, taken, belowTop: !hasParameters) else { return nil }
        let tree = statement.tree.mapping(value)
        return found ? tree : nil
    }

    private static func type(of node: SyntaxNode, _ taken: Set<String>) -> String? {
        switch node.text("class") {
        case "FUNCTION":
            guard self.argumentsAreEmpty(node) else { return nil }
            return self.functions[node.text("function_name").lowercased()]
        case "COLUMN_REF":
            let path = node.list("column_names")
            guard path.count == 1, let name = path[0].text?.lowercased(), !taken.contains(name) else { return nil }
            return self.words[name]
        default: return nil
        }
    }

    private static func argumentsAreEmpty(_ node: SyntaxNode) -> Bool {
        node.list("arguments").isEmpty && node["distinct"]?.isTrue != true && node.node("filter") == nil
    }

    /// Names that columns and tables have or are given somewhere in the statement.
    private static func names(in statement: CheckedStatement) -> Set<String> {
        var names: Set<String> = []
        for reference in statement.references {
            names.formUnion(reference.table.columns.map { $0.name.lowercased() })
        }
        statement.tree.walk { node in
            names.insert(node.text("alias").lowercased())
            for key in ["column_name_alias", "aliases"] {
                names.formUnion(node.list(key).compactMap { $0.text?.lowercased() })
            }
            return true
        }
        return names
    }

    /// Whether a SELECT has a column whose name comes from what asks for the time.
    /// - Parameter belowTop: The outermost SELECT does not count.
    private static func givesNames(_ query: SyntaxNode, _ taken: Set<String>, belowTop: Bool) -> Bool {
        var isFree = belowTop && query.text("type") == "SELECT_NODE"
        return query.contains { node in
            guard node.text("type") == "SELECT_NODE" else { return false }
            defer { isFree = false }
            return !isFree
                && node.list("select_list").contains { item in
                    item.text("alias").isEmpty && item.contains { self.type(of: $0, taken) != nil }
                }
        }
    }
}
