internal import Columnar
internal import Primitives

/// A statement for every shard, and what the router does with the answers.
struct ScatterPlan: Sendable {
    /// The table that holds the shards' answers.
    static let table = "_ft_parts"

    let kind: QueryPlanKind
    /// The shards' statement, a query node; its columns are named by ``columns``, in order.
    let shard: SyntaxNode
    /// Names of the columns of the shards' answers.
    let columns: [String]
    /// The final step, a query node over ``table``; nil: the answers are handed on as they come.
    let final: SyntaxNode?
    /// Whose shards are asked, in key order.
    let organizations: [OrganizationKey]
    /// The datasets that the shards' statement reads.
    let tables: [TableSchema]
    /// What a shard's answer is cut at.
    let cut: ShardCut

    /// Rows of a shard's answer up to which it counts as short.
    private static let shortRowsMax = 10_000

    /// How shards and the final step make their rows: groups, and rows that a LIMIT cuts, are few.
    var delivery: AnswerDelivery {
        if case .rows(let rows) = self.cut { return rows <= Self.shortRowsMax ? .whole : .streamed }
        return self.kind == .partial ? .whole : .streamed
    }
}

/// Whether a shard sends only so much as the statement's LIMIT needs.
enum ShardCut: Sendable {
    /// The statement has no LIMIT that could be pushed down.
    case none
    /// A shard sends at most so many rows: the first in the statement's order.
    case rows(Int)
    /// A shard sends all of its rows, and why.
    case whole(Obstacle)

    /// The most groups to which shards cut what they send: sorting more of them costs more than it saves.
    static let groupsMax = 10_000
}

/// Names of the router's own in statements.
enum OwnName {
    static let prefix = "_ft_"

    static func output(_ index: Int) -> String { "_ft_c\(index)" }
    static func sort(_ index: Int) -> String { "_ft_s\(index)" }
    static func group(_ index: Int) -> String { "_ft_g\(index)" }
    static func aggregate(_ index: Int) -> String { "_ft_a\(index)" }
    static func distinct(_ index: Int) -> String { "_ft_d\(index)" }
}

/// Clauses of a query node that both split plans need.
struct QueryClauses {
    let order: [SyntaxNode]
    let limit: SyntaxNode?
    let isDistinct: Bool
    let others: [SyntaxNode]

    init(_ node: SyntaxNode) {
        var order: [SyntaxNode] = []
        var limit: SyntaxNode?
        var isDistinct = false
        var others: [SyntaxNode] = []
        for modifier in node.list("modifiers") {
            switch modifier.text("type") {
            case "ORDER_MODIFIER": order += modifier.list("orders")
            case "LIMIT_MODIFIER" where limit == nil: limit = modifier
            case "DISTINCT_MODIFIER" where modifier.list("distinct_on_targets").isEmpty: isDistinct = true
            default: others.append(modifier)
            }
        }
        self.order = order
        self.limit = limit
        self.isDistinct = isDistinct
        self.others = others
    }

    /// Rows that the LIMIT needs of every shard: its count and its offset; nil when it does not say so by literals.
    var rowsNeeded: Int? {
        guard let limit = self.limit, limit.text("limit_type") == "ROW_COUNT",
            let count = limit.node("limit").flatMap(Self.count)
        else { return nil }
        guard let offsetNode = limit.node("offset") else { return count }
        guard let offset = Self.count(offsetNode) else { return nil }
        let (sum, overflows) = count.addingReportingOverflow(offset)
        return overflows ? nil : sum
    }

    /// A number of rows, also where it is the value of a parameter.
    private static func count(_ node: SyntaxNode) -> Int? {
        if let number = Self.integer(node) { return number }
        guard node.text("class") == "CAST", node.node("type_expr")?.text("type_name") == "BIGINT",
            let literal = node.node("child")?.node("literal"), literal.text("kind") == "STRING"
        else { return nil }
        return Int(literal.text("text")).flatMap { $0 >= 0 ? $0 : nil }
    }

    static func integer(_ node: SyntaxNode) -> Int? {
        guard node.text("class") == "CONSTANT", let literal = node.node("literal"), literal.text("kind") == "INTEGER"
        else { return nil }
        return Int(literal.text("text")).flatMap { $0 >= 0 ? $0 : nil }
    }

    static func limit(_ rows: Int) -> SyntaxNode {
        .object([
            "type": .string("LIMIT_MODIFIER"), "limit": .integer(rows), "offset": .null,
            "limit_type": .string("ROW_COUNT"),
        ])
    }

    /// One item of ORDER BY, in the usual direction.
    static func orderItem(_ expression: SyntaxNode) -> SyntaxNode {
        .object([
            "type": .string("ORDER_DEFAULT"), "null_order": .string("ORDER_DEFAULT"), "expression": expression,
        ])
    }

    static func order(_ orders: [SyntaxNode]) -> SyntaxNode {
        .object(["type": .string("ORDER_MODIFIER"), "orders": .array(orders)])
    }

    /// `ORDER BY ALL`: the one item, or nil.
    static func orderAll(_ orders: [SyntaxNode]) -> SyntaxNode? {
        guard orders.count == 1, let expression = orders[0].node("expression"), expression.text("class") == "STAR",
            expression.list("exclude_list").isEmpty, expression.text("relation_name").isEmpty,
            expression["expr"] == .null || expression["expr"] == nil
        else { return nil }
        return orders[0]
    }
}
