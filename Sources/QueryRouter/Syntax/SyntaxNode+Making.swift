/// Nodes of the router's own, in the form of DuckDB 2.0.0's parser.
extension SyntaxNode {
    /// Rebuilds the tree from the top: where `change` gives a node, that node stands in place of the old one and is not
    /// looked into.
    func mapping(_ change: (SyntaxNode) -> SyntaxNode?) -> SyntaxNode {
        if let changed = change(self) { return changed }
        switch self {
        case .null, .bool, .number, .string: return self
        case .array(let elements): return .array(elements.map { $0.mapping(change) })
        case .object(let members):
            return .object(members.map { Member(key: $0.key, value: $0.value.mapping(change)) })
        }
    }

    /// Visits the tree from the top; where `visit` says false, what is below is left out.
    func walk(_ visit: (SyntaxNode) -> Bool) {
        guard visit(self) else { return }
        switch self {
        case .null, .bool, .number, .string: return
        case .array(let elements): for element in elements { element.walk(visit) }
        case .object(let members): for member in members { member.value.walk(visit) }
        }
    }

    /// Whether a node of the tree is such.
    func contains(_ isSuch: (SyntaxNode) -> Bool) -> Bool {
        var found = false
        self.walk { node in
            if !found, isSuch(node) { found = true }
            return !found
        }
        return found
    }

    /// The tree without what does not change its meaning: places in the text, and the alias of its top.
    var meaning: SyntaxNode {
        self.stripped(isTop: true)
    }

    private func stripped(isTop: Bool) -> SyntaxNode {
        switch self {
        case .null, .bool, .number, .string: return self
        case .array(let elements): return .array(elements.map { $0.stripped(isTop: false) })
        case .object(let members):
            var kept: [Member] = []
            for member in members {
                switch member.key {
                case "query_location", "query_location_length": continue
                case "alias" where isTop: continue
                case "column_names", "function_name":
                    kept.append(Member(key: member.key, value: member.value.lowercased))
                default: kept.append(Member(key: member.key, value: member.value.stripped(isTop: false)))
                }
            }
            return .object(kept)
        }
    }

    private var lowercased: SyntaxNode {
        switch self {
        case .string(let text): .string(text.lowercased())
        case .array(let elements): .array(elements.map(\.lowercased))
        default: self
        }
    }

    // MARK: - Making nodes

    static func expression(
        _ kind: String,
        _ type: String,
        alias: String = "",
        _ members: KeyValuePairs<String, SyntaxNode>
    ) -> SyntaxNode {
        var node: [Member] = [
            Member(key: "class", value: .string(kind)), Member(key: "type", value: .string(type)),
            Member(key: "alias", value: .string(alias)), Member(key: "query_location", value: .number("0")),
            Member(key: "query_location_length", value: .number("0")),
        ]
        node += members.map { Member(key: $0.key, value: $0.value) }
        return .object(node)
    }

    static func column(_ name: String, alias: String = "") -> SyntaxNode {
        self.expression("COLUMN_REF", "COLUMN_REF", alias: alias, ["column_names": .array([.string(name)])])
    }

    static func text(_ text: String) -> SyntaxNode { self.constant("STRING", text) }

    static func integer(_ number: Int) -> SyntaxNode { self.constant("INTEGER", String(number)) }

    static var nullConstant: SyntaxNode { self.constant("NULL_LITERAL", "") }

    private static func constant(_ kind: String, _ text: String) -> SyntaxNode {
        self.expression(
            "CONSTANT",
            "VALUE_CONSTANT",
            ["literal": .object(["kind": .string(kind), "text": .string(text)])]
        )
    }

    /// - Parameter type: The engine's name of a plain type.
    static func cast(
        _ child: SyntaxNode,
        to type: String,
        children: [SyntaxNode] = [],
        alias: String = ""
    ) -> SyntaxNode {
        self.expression(
            "CAST",
            "OPERATOR_CAST",
            alias: alias,
            [
                "child": child, "try_cast": .bool(false),
                "type_expr": self.expression(
                    "TYPE",
                    "TYPE",
                    [
                        "catalog": .string(""), "schema": .string(""), "type_name": .string(type),
                        "children": .array(children), "qualified_name": .object(["path": .array([.string(type)])]),
                    ]
                ),
            ]
        )
    }

    static func call(
        _ name: String,
        _ arguments: [SyntaxNode],
        distinct: Bool = false,
        filter: SyntaxNode = .null
    )
        -> SyntaxNode
    {
        self.expression(
            "FUNCTION",
            "FUNCTION",
            [
                "function_name": .string(name), "schema": .string(""), "filter": filter,
                "order_bys": .object(["type": .string("ORDER_MODIFIER"), "orders": .array([])]),
                "distinct": .bool(distinct), "is_operator": .bool(false), "export_state": .bool(false),
                "catalog": .string(""),
                "arguments": .array(
                    arguments.map { .object(["name": .string(""), "expression": $0.setting("alias", .string(""))]) }
                ),
                "qualified_name": .object(["path": .array([.string(name)])]),
            ]
        )
    }

    static func and(_ parts: [SyntaxNode]) -> SyntaxNode {
        parts.count == 1
            ? parts[0] : self.expression("CONJUNCTION", "CONJUNCTION_AND", ["children": .array(parts)])
    }

    static func baseTable(_ name: String, alias: String = "") -> SyntaxNode {
        .object([
            "type": .string("BASE_TABLE"), "alias": .string(alias), "sample": .null, "query_location": .number("0"),
            "query_location_length": .number("0"), "schema_name": .string(""), "table_name": .string(name),
            "column_name_alias": .array([]), "catalog_name": .string(""), "at_clause": .null,
            "qualified_name": .object(["path": .array([.string(name)])]),
        ])
    }

    /// A SELECT over `from`; other clauses are set by the caller.
    static func select(_ list: [SyntaxNode], from: SyntaxNode, condition: SyntaxNode = .null) -> SyntaxNode {
        .object([
            "type": .string("SELECT_NODE"), "modifiers": .array([]), "cte_map": .object(["map": .array([])]),
            "select_list": .array(list), "from_table": from, "where_clause": condition,
            "group_expressions": .array([]), "group_sets": .array([]),
            "aggregate_handling": .string("STANDARD_HANDLING"), "having": .null, "sample": .null, "qualify": .null,
        ])
    }

    /// The parser's whole answer for one statement whose query is this node.
    var asStatement: SyntaxNode {
        let statement = SyntaxNode.object(["node": self, "named_param_map": .array([])])
        return .object(["error": .bool(false), "statements": .array([statement])])
    }
}
