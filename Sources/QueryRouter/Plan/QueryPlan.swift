internal import Columnar
internal import Primitives

/// How a statement is answered, cheapest first.
///
/// Two more plans have their place between these: (b) statements that are separable, pushed down to every shard and
/// concatenated (ORDER BY and LIMIT merged); (c) aggregates that decompose into partial states of shards and a final
/// step. Whatever they answer must equal what ``gather(_:)`` answers.
enum QueryPlan: Sendable {
    /// (a) Everything that the statement reads is one organization's: its shard runs the statement as it is.
    case single(OrganizationKey)
    /// (d) The shards' rows are gathered, less what the statement surely does not need, and the statement runs here.
    case gather([GatheredTable])

    var kind: QueryPlanKind {
        switch self {
        case .single: .single
        case .gather: .gather
        }
    }
}

/// What is fetched of one dataset.
struct GatheredTable: Sendable {
    let table: TableSchema
    /// The columns to fetch, in the table's order; at least one.
    let columns: [ColumnDefinition]
    /// Conditions that every row must satisfy; only bare column names in them.
    let conditions: [SyntaxNode]
    /// Whose rows, in key order.
    let organizations: [OrganizationKey]

    /// What the gathered rows are kept in.
    var schema: TableSchema { TableSchema(name: self.table.name, columns: self.columns) }

    /// The shards' statement when there are no conditions.
    var plainSQL: String {
        let columns = self.columns.map { Self.quoted($0.name) }.joined(separator: ", ")
        return "SELECT \(columns) FROM \(Self.quoted(self.table.name))"
    }

    /// The shards' statement as a tree, for the engine to write out; nil when there are no conditions.
    var tree: SyntaxNode? {
        guard let first = self.conditions.first else { return nil }
        let condition =
            self.conditions.count == 1
            ? first
            : Self.expression("CONJUNCTION", "CONJUNCTION_AND", ["children": .array(self.conditions)])
        let from = SyntaxNode.object([
            "type": .string("BASE_TABLE"), "alias": .string(""), "sample": .null, "query_location": .number("0"),
            "query_location_length": .number("0"), "schema_name": .string(""),
            "table_name": .string(self.table.name), "column_name_alias": .array([]), "catalog_name": .string(""),
            "at_clause": .null, "qualified_name": .object(["path": .array([.string(self.table.name)])]),
        ])
        let select = SyntaxNode.object([
            "type": .string("SELECT_NODE"), "modifiers": .array([]), "cte_map": .object(["map": .array([])]),
            "select_list": .array(self.columns.map { Self.column($0.name) }), "from_table": from,
            "where_clause": condition, "group_expressions": .array([]), "group_sets": .array([]),
            "aggregate_handling": .string("STANDARD_HANDLING"), "having": .null, "sample": .null, "qualify": .null,
        ])
        let statement = SyntaxNode.object(["node": select, "named_param_map": .array([])])
        return .object(["error": .bool(false), "statements": .array([statement])])
    }

    static func column(_ name: String) -> SyntaxNode {
        self.expression("COLUMN_REF", "COLUMN_REF", ["column_names": .array([.string(name)])])
    }

    private static func expression(
        _ kind: String,
        _ type: String,
        _ members: KeyValuePairs<String, SyntaxNode>
    ) -> SyntaxNode {
        var node: [SyntaxNode.Member] = [
            .init(key: "class", value: .string(kind)), .init(key: "type", value: .string(type)),
            .init(key: "alias", value: .string("")), .init(key: "query_location", value: .number("0")),
            .init(key: "query_location_length", value: .number("0")),
        ]
        node += members.map { .init(key: $0.key, value: $0.value) }
        return .object(node)
    }

    /// An identifier of ours in a statement of ours.
    private static func quoted(_ name: String) -> String {
        "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}
