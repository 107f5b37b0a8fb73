internal import Columnar

/// A sub-query that reads several organizations and hangs on no row outside: it can be answered first, and its rows
/// stand in its place as literals.
struct PulledSubquery: Sendable {
    /// Rows that may stand in a statement as a literal each.
    static let literalsMax = 200
    /// Rows that may stand in a statement; those that are no literals are one text, which is cut by the shards.
    static let rowsMax = 20_000
    /// Bytes of text that they may have.
    static let bytesMax = 256 << 10

    /// The expression in the statement's tree.
    let node: SyntaxNode
    /// The sub-query by itself, with the common table expressions that it may name.
    let query: SyntaxNode
    let isScalar: Bool

    /// The outermost sub-queries of a SELECT's expressions that a shard cannot answer; none where one of them cannot be
    /// pulled either.
    static func find(in root: SyntaxNode, catalog: TableCatalog) -> [PulledSubquery] {
        guard root.text("type") == "SELECT_NODE" else { return [] }
        let locality = Locality(catalog: catalog)
        var scope = LocalityScope()
        guard locality.addCommonTables(of: root, to: &scope) == nil else { return [] }
        var found: [PulledSubquery] = []
        var isPossible = true
        for key in Locality.expressionClauses {
            root[key]?.walk { part in
                guard isPossible else { return false }
                guard part.text("class") == "SUBQUERY" else { return true }
                guard let query = part.node("subquery")?.node("node") else { return true }
                let from = locality.from(of: root, scope)
                var inner = scope
                inner.outerKeys = from.keys
                if locality.isOwn(part, query, from, inner, inCondition: key == "where_clause") { return false }
                let kind = part.text("subquery_type")
                let isMember = kind == "ANY" && part.text("comparison_type") == "COMPARE_EQUAL"
                if kind != "SCALAR" && !isMember { isPossible = false }
                found.append(
                    PulledSubquery(node: part, query: Self.adding(root, to: query), isScalar: kind == "SCALAR")
                )
                return false
            }
        }
        return isPossible ? found : []
    }

    /// The sub-query with the outer common table expressions before its own.
    static func adding(_ root: SyntaxNode, to query: SyntaxNode) -> SyntaxNode {
        let outer = root.node("cte_map")?.list("map") ?? []
        guard !outer.isEmpty else { return query }
        let own = query.node("cte_map")?.list("map") ?? []
        return query.setting("cte_map", .object(["map": .array(outer + own)]))
    }

    /// The expression with rows in place of the sub-query; nil when they have no such form.
    func replaced(by values: [ArrowValue], of type: ArrowType) -> SyntaxNode? {
        guard let name = Self.typeName(type), values.count <= Self.rowsMax else { return nil }
        var literals: [SyntaxNode] = []
        var bytes = 0
        for value in values {
            guard let text = Self.text(value) else { return nil }
            bytes += text?.utf8.count ?? 0
            literals.append(.cast(text.map { SyntaxNode.text($0) } ?? .nullConstant, to: name))
        }
        guard bytes <= Self.bytesMax else { return nil }
        let null = SyntaxNode.cast(.nullConstant, to: name)
        if !self.isScalar, literals.count > Self.literalsMax {
            guard let list = Self.list(values, of: name) else { return nil }
            let empty = Self.noTable
            let select = SyntaxNode.select([.cast(.call("unnest", [list]), to: name)], from: empty)
            return self.node.setting("subquery", .object(["node": select, "named_param_map": .array([])]))
        }
        if self.isScalar {
            guard literals.count <= 1 else { return nil }
            return (literals.first ?? null).setting("alias", .string(self.node.text("alias")))
        }
        let empty = Self.noTable
        let select =
            literals.isEmpty
            ? SyntaxNode.select([null], from: empty, condition: Self.never)
            : SyntaxNode.select([.call("unnest", [.call("list_value", literals)])], from: empty)
        return self.node.setting(
            "subquery",
            .object(["node": select, "named_param_map": .array([])])
        )
    }

    static let noTable = SyntaxNode.object([
        "type": .string("EMPTY"), "alias": .string(""), "sample": .null, "query_location": .number("0"),
        "query_location_length": .number("0"),
    ])

    /// A condition that no row satisfies.
    static let never = SyntaxNode.expression(
        "CONSTANT",
        "VALUE_CONSTANT",
        ["literal": .object(["kind": .string("BOOLEAN"), "text": .string("false")])]
    )

    /// The rows of one column as an item of a SELECT list that reads no table; nil when they have no such form.
    ///
    /// - Parameter bytes: Of the texts of all columns so far.
    static func items(_ values: [ArrowValue], of type: String, bytes: inout Int) -> SyntaxNode? {
        guard values.count <= self.rowsMax else { return nil }
        var literals: [SyntaxNode] = []
        for value in values {
            guard let text = self.text(value) else { return nil }
            bytes += (text?.utf8.count ?? 0) + 1
            literals.append(.cast(text.map { SyntaxNode.text($0) } ?? .nullConstant, to: type))
        }
        guard bytes <= self.bytesMax else { return nil }
        if literals.isEmpty { return .cast(.nullConstant, to: type) }
        guard literals.count > self.literalsMax else { return .call("unnest", [.call("list_value", literals)]) }
        return self.list(values, of: type).map { .cast(.call("unnest", [$0]), to: type) }
    }

    /// Many values as one text that is cut: the engine reads a literal each some hundred times as slowly.
    ///
    /// nil: a value is null, or holds what the text is cut at.
    private static func list(_ values: [ArrowValue], of type: String) -> SyntaxNode? {
        let separator = "\u{1F}"
        var texts: [String] = []
        for value in values {
            guard case .some(.some(let text)) = self.text(value), !text.contains(separator) else { return nil }
            texts.append(text)
        }
        return .call("string_split", [.text(texts.joined(separator: separator)), .text(separator)])
    }

    static func typeName(_ type: ArrowType) -> String? {
        switch type {
        case .bool, .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .float64, .utf8, .date32:
            type.sqlName
        case .timestamp(.microsecond, nil): "TIMESTAMP"
        // What a sum of whole numbers is.
        case .decimal128(38, 0): "HUGEINT"
        default: nil
        }
    }

    /// The text of a value as its type reads it; nil inside: null; nil outside: no such form.
    private static func text(_ value: ArrowValue) -> String?? {
        switch value {
        case .null: .some(nil)
        case .bool(let bit): bit ? "true" : "false"
        case .int(let number): String(number)
        case .uint(let number): String(number)
        case .double(let number): String(number)
        case .string(let text): text
        case .decimal(let unscaled, 0): String(unscaled)
        default: nil
        }
    }
}
