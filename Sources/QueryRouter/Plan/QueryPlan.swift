internal import Columnar
internal import Primitives

/// How a statement is answered, cheapest first. Whatever (b) and (c) answer must equal what (d) answers.
enum QueryPlan: Sendable {
    /// (a) Everything that the statement reads is one organization's: its shard runs the statement as it is.
    case single(OrganizationKey)
    /// (b) The statement is separable, or (c) its aggregates decompose: shards answer in parts.
    case scatter(ScatterPlan)
    /// (d) The shards' rows are gathered, less what the statement surely does not need, and the statement runs here.
    case gather([GatheredTable])

    var kind: QueryPlanKind {
        switch self {
        case .single: .single
        case .scatter(let plan): plan.kind
        case .gather: .gather
        }
    }
}

/// A plan, and why none of the cheaper ones was taken.
struct ChosenPlan: Sendable {
    struct Rejection: Sendable {
        let kind: QueryPlanKind
        let obstacle: Obstacle
    }

    let plan: QueryPlan
    let rejections: [Rejection]
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
        let columns = self.columns.map { SQLText.quoted($0.name) }.joined(separator: ", ")
        return "SELECT \(columns) FROM \(SQLText.quoted(self.table.name))"
    }

    /// What goes before the shards' statement where an organization's table differs from the catalog's.
    func adaptation(of own: TableSchema) -> String {
        let table = SQLText.quoted(self.table.name)
        return "WITH \(table) AS (SELECT \(SQLText.adapted(self.table.columns, from: own)) FROM main.\(table)) "
    }

    /// The shards' statement as a tree, for the engine to write out; nil when there are no conditions.
    var tree: SyntaxNode? {
        guard !self.conditions.isEmpty else { return nil }
        return SyntaxNode.select(
            self.columns.map { .column($0.name) },
            from: .baseTable(self.table.name),
            condition: .and(self.conditions)
        ).asStatement
    }
}
