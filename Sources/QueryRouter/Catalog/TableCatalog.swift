internal import Columnar
internal import Primitives

/// The datasets that one request may read: the union of its organizations' tables.
///
/// Rules, which decision 0033 explains:
/// - A table that only some organizations have: the others have no rows of it.
/// - A column that only some organizations have: the others have null in it.
/// - A column whose type differs: whole and floating-point numbers together are DOUBLE; any other mixture is VARCHAR,
///   each value as the engine writes it.
/// - Columns stand in the order of the first organization, those that later ones add behind them.
struct TableCatalog: Sendable {
    /// The name of the column that tells whose row it is.
    static let organizationColumn = "organization"

    /// What one organization has of a dataset.
    enum Share: Sendable, Hashable {
        /// The table as the catalog describes it.
        case same
        /// The table with fewer columns, or with other types.
        case adapted(TableSchema)
        case absent
    }

    /// In the order of their first appearance.
    let datasets: [TableSchema]
    /// Equal numbers mean the same tables of the same organizations; 0: nothing is known of that.
    let identity: UInt64
    /// Empty tables of every dataset, and of those that tell of them.
    let engineSchema: EngineSchema
    private let byName: [String: TableSchema]
    private let shares: [OrganizationKey: [String: Share]]

    /// - Parameter base: Datasets to use when there is no organization.
    /// - Parameter identity: A number that no other catalog has; 0: none.
    /// - Throws: ``QueryError`` `.internal` when a name occurs twice, or a table lacks its first column.
    init(_ organizations: [OrganizationKey: ShardTables], base: [TableSchema] = [], identity: UInt64 = 0) throws {
        var order: [String] = []
        var merged: [String: Merging] = [:]
        var owned: [OrganizationKey: [String: TableSchema]] = [:]
        for (organization, tables) in organizations.sorted(by: { $0.key < $1.key }) {
            var own: [String: TableSchema] = [:]
            for table in tables.tables {
                let name = table.name.lowercased()
                try Self.check(table, isNew: own[name] == nil)
                if merged[name] == nil {
                    order.append(name)
                    merged[name] = Merging(table)
                } else {
                    merged[name]?.add(table)
                }
                own[name] = table
            }
            owned[organization] = own
        }
        if organizations.isEmpty {
            for table in base {
                let name = table.name.lowercased()
                try Self.check(table, isNew: merged[name] == nil)
                order.append(name)
                merged[name] = Merging(table)
            }
        }
        self.datasets = order.compactMap { merged[$0]?.table }
        self.byName = Dictionary(uniqueKeysWithValues: self.datasets.map { ($0.name.lowercased(), $0) })
        let columns = self.byName.mapValues { $0.columns.map(Self.untilted) }
        self.shares = owned.mapValues { own in
            own.reduce(into: [:]) { shares, entry in
                let isSame = entry.value.columns.map(Self.untilted) == columns[entry.key]
                shares[entry.key] = isSame ? .same : .adapted(entry.value)
            }
        }
        self.identity = identity
        self.engineSchema = EngineSchema(
            definitions: self.datasets.map(\.createStatement) + StatementForm.Dictionary.definitions
        )
    }

    private static func check(_ table: TableSchema, isNew: Bool) throws {
        guard table.columns.first?.name == Self.organizationColumn, table.columns.first?.type == .utf8
        else {
            throw QueryError(
                .internal,
                "table \(table.name) does not begin with a text column organization"
            )
        }
        guard isNew else { throw QueryError(.internal, "table \(table.name) is defined twice") }
    }

    /// The dataset of that name, any case.
    func table(named name: String) -> TableSchema? { self.byName[name.lowercased()] }

    /// What an organization has of the dataset `name`.
    func share(of organization: OrganizationKey, in name: String) -> Share {
        self.shares[organization]?[name.lowercased()] ?? .absent
    }

    /// A column without what no statement sees: whether null is allowed.
    private static func untilted(_ column: ColumnDefinition) -> ColumnDefinition {
        ColumnDefinition(column.name, column.type)
    }

    // MARK: - Near names

    /// The table or common table expression with the name most like `name`, when one is close enough.
    func nearest(to name: String, among others: Set<String> = []) -> String? {
        NearestName.find(name, among: self.datasets.map(\.name) + others.sorted())
    }
}

/// One dataset while the organizations' tables are put together.
private struct Merging {
    private let name: String
    private var isView: Bool
    private var comment: String
    private var columns: [ColumnDefinition]
    private var places: [String: Int]

    init(_ table: TableSchema) {
        self.name = table.name
        self.isView = table.isView
        self.comment = table.comment
        self.columns = table.columns
        self.places = Dictionary(
            table.columns.enumerated().map { ($0.element.name.lowercased(), $0.offset) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    mutating func add(_ table: TableSchema) {
        self.isView = self.isView || table.isView
        if self.comment.isEmpty { self.comment = table.comment }
        var seen: Set<Int> = []
        for column in table.columns {
            let key = column.name.lowercased()
            guard let place = self.places[key] else {
                self.places[key] = self.columns.count
                seen.insert(self.columns.count)
                self.columns.append(ColumnDefinition(column.name, column.type, comment: column.comment))
                continue
            }
            let mine = self.columns[place]
            self.columns[place] = ColumnDefinition(
                mine.name,
                Self.common(mine.type, column.type),
                nullable: mine.nullable || column.nullable,
                comment: mine.comment.isEmpty ? column.comment : mine.comment
            )
            seen.insert(place)
        }
        for place in self.columns.indices where !seen.contains(place) && !self.columns[place].nullable {
            let mine = self.columns[place]
            self.columns[place] = ColumnDefinition(mine.name, mine.type, comment: mine.comment)
        }
    }

    private static func common(_ left: ColumnType, _ right: ColumnType) -> ColumnType {
        guard left != right else { return left }
        let numbers: Set<ColumnType> = [.int64, .uint64, .double]
        return numbers.contains(left) && numbers.contains(right) ? .double : .utf8
    }

    var table: TableSchema {
        TableSchema(name: self.name, columns: self.columns, comment: self.comment, isView: self.isView)
    }
}
