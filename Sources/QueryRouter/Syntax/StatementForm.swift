internal import Columnar
internal import Primitives

/// Rewrites what clients write in ways of their own into the forms that the gate knows; pure.
///
/// - `"organization".main.table`, as tools write that take an organization for a catalog: that organization's rows of
///   the table. With one organization in scope it is the table itself.
/// - `information_schema.tables` and `.columns`, and SHOW TABLES: tables of the router's own, made of the catalog.
/// - `date_bin`, as Grafana writes it: the engine's `time_bucket`.
struct StatementForm {
    let organizations: [OrganizationKey]

    /// The tree in known forms.
    func normalized(_ tree: SyntaxNode) -> SyntaxNode {
        tree.mapping { node in
            switch node.text("type") {
            case "BASE_TABLE": return self.baseTable(node)
            case "SHOW_REF": return Self.showTables(node)
            case "FUNCTION": return Self.function(node).map { self.childrenNormalized($0) }
            default: return nil
            }
        }
    }

    private func childrenNormalized(_ node: SyntaxNode) -> SyntaxNode {
        guard case .object(let members) = node else { return node }
        return .object(members.map { .init(key: $0.key, value: self.normalized($0.value)) })
    }

    private func baseTable(_ node: SyntaxNode) -> SyntaxNode? {
        let schema = node.text("schema_name").lowercased()
        let catalog = node.text("catalog_name")
        if catalog.isEmpty, schema == "information_schema" { return Self.dictionaryTable(node) }
        let owner: String
        if catalog.isEmpty {
            guard !schema.isEmpty, schema != "main" else { return nil }
            owner = node.text("schema_name")
        } else {
            if schema == "information_schema", self.organizations.contains(where: { $0.rawValue == catalog }) {
                return Self.dictionaryTable(node)
            }
            guard schema == "main" || schema.isEmpty else { return nil }
            owner = catalog
        }
        guard self.organizations.contains(where: { $0.rawValue == owner }) else { return nil }
        let name = node.text("table_name")
        let plain = Self.plain(node, name: name)
        if self.organizations.count == 1 { return plain }
        let inner = SyntaxNode.select(
            [Self.star],
            from: .baseTable(name),
            condition: .expression(
                "COMPARISON",
                "COMPARE_EQUAL",
                ["left": .column(TableCatalog.organizationColumn), "right": .text(owner)]
            )
        )
        return Self.subquery(inner, like: node, alias: name)
    }

    /// The node without its qualifiers.
    private static func plain(_ node: SyntaxNode, name: String) -> SyntaxNode {
        node.setting("catalog_name", .string("")).setting("schema_name", .string(""))
            .setting("table_name", .string(name))
            .setting("qualified_name", .object(["path": .array([.string(name)])]))
    }

    private static func dictionaryTable(_ node: SyntaxNode) -> SyntaxNode? {
        let name = node.text("table_name").lowercased()
        guard let own = Dictionary.tables[name] else { return nil }
        let alias = node.text("alias").isEmpty ? name : node.text("alias")
        return self.plain(node, name: own).setting("alias", .string(alias))
    }

    private static func showTables(_ node: SyntaxNode) -> SyntaxNode? {
        guard node.text("show_type") == "SHOW_SPECIAL", node.text("table_name") == "\"tables\"" else { return nil }
        let inner = SyntaxNode.select(
            [.column("table_name", alias: "name")],
            from: .baseTable(Dictionary.tables["tables"] ?? "")
        )
        return self.subquery(inner, like: node, alias: "tables")
    }

    private static func function(_ node: SyntaxNode) -> SyntaxNode? {
        guard node.text("class") == "FUNCTION", node.text("function_name").lowercased() == "date_bin" else {
            return nil
        }
        return node.setting("function_name", .string("time_bucket"))
            .setting("qualified_name", .object(["path": .array([.string("time_bucket")])]))
    }

    private static func subquery(_ query: SyntaxNode, like node: SyntaxNode, alias: String) -> SyntaxNode {
        let given = node.text("alias")
        return .object([
            "type": .string("SUBQUERY"), "alias": .string(given.isEmpty ? alias : given),
            "sample": node["sample"] ?? .null, "query_location": node["query_location"] ?? .number("0"),
            "query_location_length": .number("0"),
            "subquery": .object(["node": query, "named_param_map": .array([])]),
            "column_name_alias": .array(node.list("column_name_alias")),
        ])
    }

    private static var star: SyntaxNode {
        .expression(
            "STAR",
            "STAR",
            [
                "relation_name": .string(""), "exclude_list": .array([]), "replace_list": .array([]),
                "columns": .bool(false), "expr": .null, "qualified_exclude_list": .array([]), "rename_list": .array([]),
            ]
        )
    }

    /// The tables that tell what tables there are, made anew for each statement that reads them.
    enum Dictionary {
        /// Their names in the engine by those in `information_schema`.
        static let tables = ["tables": "_ft_tables", "columns": "_ft_columns", "schemata": "_ft_schemata"]

        static func isOwn(_ name: String) -> Bool { self.tables.values.contains(name) }

        static let definitions = [
            """
            CREATE TABLE _ft_tables (table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, \
            table_type VARCHAR, table_comment VARCHAR)
            """,
            """
            CREATE TABLE _ft_columns (table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, \
            column_name VARCHAR, ordinal_position INTEGER, column_default VARCHAR, is_nullable VARCHAR, \
            data_type VARCHAR, column_comment VARCHAR)
            """,
            "CREATE TABLE _ft_schemata (catalog_name VARCHAR, schema_name VARCHAR)",
        ]

        /// - Parameter catalog: The name under which the caller's scope goes.
        static func rows(_ datasets: [TableSchema], catalog: String) -> [String] {
            let owner = SQLText.literal(catalog)
            var columns: [String] = []
            let tables = datasets.map { dataset in
                let name = SQLText.literal(dataset.name)
                for (place, column) in dataset.columns.enumerated() {
                    let comment = column.comment.isEmpty ? "NULL" : SQLText.literal(column.comment)
                    columns.append(
                        "(\(owner), 'main', \(name), \(SQLText.literal(column.name)), \(place + 1), NULL, "
                            + "'\(column.nullable ? "YES" : "NO")', '\(column.type.sqlName)', \(comment))"
                    )
                }
                let comment = dataset.comment.isEmpty ? "NULL" : SQLText.literal(dataset.comment)
                return "(\(owner), 'main', \(name), '\(dataset.isView ? "VIEW" : "BASE TABLE")', \(comment))"
            }
            let schemata = "INSERT INTO _ft_schemata VALUES (\(owner), 'main')"
            guard !tables.isEmpty else { return [schemata] }
            return [
                schemata, "INSERT INTO _ft_tables VALUES " + tables.joined(separator: ", "),
                "INSERT INTO _ft_columns VALUES " + columns.joined(separator: ", "),
            ]
        }
    }
}
