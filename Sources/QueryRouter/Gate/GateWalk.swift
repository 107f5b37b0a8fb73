internal import Columnar

/// One pass over a tree: refuses what is not allowed, and collects what the planner needs.
struct GateWalk {
    let catalog: TableCatalog
    var references: [TableReference] = []
    var names: Set<String> = []
    var readsWholeRows = false
    var readsDictionary = false
    /// Aliases and names of the datasets that were read, in lower case.
    private var qualifiers: Set<String> = []
    /// The last words of the paths, which may name a whole row.
    private var lastNames: Set<String> = []

    init(catalog: TableCatalog) { self.catalog = catalog }

    /// `SELECT t FROM audit_log t`: a word that may be a column is also the name of a row.
    var namesWholeRow: Bool { !self.lastNames.isDisjoint(with: self.qualifiers) }

    // MARK: - Query nodes

    mutating func queryNode(_ node: SyntaxNode, scope outer: CommonTables, depth: Int) throws {
        try Self.check(depth: depth, of: node)
        try Self.checkMembers(of: node, known: Self.queryMembers)
        let scope = try self.commonTables(node, scope: outer, depth: depth)
        switch node.text("type") {
        case "SELECT_NODE": try self.select(node, scope: scope, depth: depth)
        case "SET_OPERATION_NODE":
            for child in node.list("children") { try self.queryNode(child, scope: scope, depth: depth + 1) }
            for side in ["left", "right"] {
                if let child = node.node(side) { try self.queryNode(child, scope: scope, depth: depth + 1) }
            }
            try self.modifiers(node, scope: scope, depth: depth)
        case "RECURSIVE_CTE_NODE":
            var inner = scope
            inner.names.insert(node.text("cte_name").lowercased())
            for side in ["left", "right"] {
                guard let child = node.node(side) else { continue }
                try self.queryNode(child, scope: side == "left" ? scope : inner, depth: depth + 1)
            }
            try self.children(of: node, keys: ["key_targets", "payload_aggregates"], scope: inner, depth: depth)
            try self.modifiers(node, scope: scope, depth: depth)
        case let kind: throw Self.refusal("a part of the kind \(kind)", at: node)
        }
    }

    /// Checks the WITH clause; each expression sees those before it.
    private mutating func commonTables(
        _ node: SyntaxNode,
        scope outer: CommonTables,
        depth: Int
    ) throws -> CommonTables {
        var scope = outer
        for entry in node.node("cte_map")?.list("map") ?? [] {
            guard let value = entry.node("value"),
                let query = value.node("query_node") ?? value.node("query")?.node("node")
            else { throw Self.refusal("this WITH clause", at: entry) }
            try self.queryNode(query, scope: scope, depth: depth + 1)
            try self.children(of: value, keys: ["key_targets", "payload_aggregates"], scope: scope, depth: depth)
            scope.names.insert(entry.text("key").lowercased())
        }
        return scope
    }

    private mutating func select(_ node: SyntaxNode, scope: CommonTables, depth: Int) throws {
        if let from = node.node("from_table") {
            // USING SAMPLE draws before the condition: then fewer rows would be another sample.
            let filter = node.node("sample") == nil ? node.node("where_clause") : nil
            try self.table(from, scope: scope, depth: depth + 1, filter: filter)
        }
        try self.children(
            of: node,
            keys: ["select_list", "where_clause", "group_expressions", "having", "qualify"],
            scope: scope,
            depth: depth
        )
        try self.modifiers(node, scope: scope, depth: depth)
    }

    private mutating func modifiers(_ node: SyntaxNode, scope: CommonTables, depth: Int) throws {
        for modifier in node.list("modifiers") {
            try Self.checkMembers(of: modifier, known: Self.modifierMembers)
            switch modifier.text("type") {
            case "ORDER_MODIFIER", "DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER":
                try self.children(
                    of: modifier,
                    keys: ["orders", "distinct_on_targets", "limit", "offset"],
                    scope: scope,
                    depth: depth
                )
            case let kind: throw Self.refusal("a part of the kind \(kind)", at: modifier)
            }
        }
    }

    // MARK: - Tables

    private mutating func table(_ node: SyntaxNode, scope: CommonTables, depth: Int, filter: SyntaxNode?) throws {
        try Self.check(depth: depth, of: node)
        try Self.checkMembers(of: node, known: Self.tableMembers)
        switch node.text("type") {
        case "EMPTY": break
        case "BASE_TABLE": try self.baseTable(node, scope: scope, filter: filter)
        case "SUBQUERY": try self.children(of: node, keys: ["subquery"], scope: scope, depth: depth)
        case "JOIN":
            if node.text("ref_type") == "NATURAL" { self.readsWholeRows = true }
            for side in ["left", "right"] {
                if let child = node.node(side) { try self.table(child, scope: scope, depth: depth + 1, filter: nil) }
            }
            for column in node.list("using_columns") { self.note(column.text ?? "") }
            try self.children(of: node, keys: ["condition", "ranking_expression"], scope: scope, depth: depth)
        case "TABLE_FUNCTION": try self.tableFunction(node, scope: scope, depth: depth)
        case "EXPRESSION_LIST": try self.children(of: node, keys: ["values"], scope: scope, depth: depth)
        case "PIVOT":
            self.readsWholeRows = true
            if let source = node.node("source") { try self.table(source, scope: scope, depth: depth + 1, filter: nil) }
            try self.children(of: node, keys: ["aggregates", "pivots"], scope: scope, depth: depth)
        case "SHOW_REF":
            self.readsWholeRows = true
            guard ["DESCRIBE", "SUMMARY"].contains(node.text("show_type")), let query = node.node("query") else {
                throw Self.refusal("SHOW", at: node)
            }
            try self.queryNode(query, scope: scope, depth: depth + 1)
        case let kind: throw Self.refusal("a table of the kind \(kind)", at: node)
        }
    }

    private mutating func baseTable(_ node: SyntaxNode, scope: CommonTables, filter: SyntaxNode?) throws {
        let name = node.text("table_name")
        let schema = node.text("schema_name").lowercased()
        let path = node.node("qualified_name")?.list("path").compactMap(\.text) ?? [name]
        let isCommonTable = scope.names.contains(name.lowercased())
        if node["at_clause"] != nil, node["at_clause"] != .null { throw Self.refusal("AT", at: node) }
        if isCommonTable, schema.isEmpty || schema == "recurring", path.count <= 2 { return }
        guard node.text("catalog_name").isEmpty, schema.isEmpty || schema == "main", path.count <= 2 else {
            let full = path.joined(separator: ".")
            throw QueryError(
                .notAllowed,
                "\(full): tables of other schemas and databases are not allowed",
                position: node.location,
                names: [full]
            )
        }
        // Made by the router out of a table of information_schema.
        if StatementForm.Dictionary.isOwn(name) {
            self.readsDictionary = true
            return
        }
        guard let table = self.catalog.table(named: name) else {
            let hint = self.catalog.nearest(to: name, among: scope.names).map { "; did you mean \($0)?" } ?? ""
            let message = "there is no table \(name)\(hint)"
            throw QueryError(.unknownTable, message, position: node.location, names: [name])
        }
        let alias = node.text("alias").lowercased()
        let qualifier = alias.isEmpty ? name.lowercased() : alias
        self.qualifiers.insert(qualifier)
        self.qualifiers.insert(name.lowercased())
        let renamesColumns = !node.list("column_name_alias").isEmpty
        let isSampled = node["sample"] != nil && node["sample"] != .null
        if renamesColumns { self.readsWholeRows = true }
        let isFiltered = !renamesColumns && !isSampled
        self.references.append(
            TableReference(
                table: table,
                qualifier: qualifier,
                conjuncts: isFiltered ? filter.map(Self.conjuncts) ?? [] : []
            )
        )
    }

    /// The parts of a condition that must all hold.
    private static func conjuncts(_ condition: SyntaxNode) -> [SyntaxNode] {
        guard condition.text("type") == "CONJUNCTION_AND" else { return [condition] }
        return condition.list("children").flatMap(Self.conjuncts)
    }

    private mutating func tableFunction(_ node: SyntaxNode, scope: CommonTables, depth: Int) throws {
        guard let function = node.node("function"), function.text("class") == "FUNCTION" else {
            throw Self.refusal("this table function", at: node)
        }
        let name = function.text("function_name").lowercased()
        let isPlain = function.text("schema").isEmpty && function.text("catalog").isEmpty
        guard AllowedFunctions.tableFunctions.contains(name), isPlain else {
            throw QueryError(
                .notAllowed,
                "the table function \(name) is not allowed",
                position: node.location,
                names: [name]
            )
        }
        try Self.checkMembers(of: function, known: Self.callMembers)
        try GeneratedSize.checkTable(function, name: name, at: node.location)
        try self.children(of: function, keys: Self.callMembers.sorted(), scope: scope, depth: depth)
    }

    // MARK: - Expressions

    /// Checks everything below the named members.
    private mutating func children(
        of node: SyntaxNode,
        keys: [String],
        scope: CommonTables,
        depth: Int
    ) throws {
        for key in keys {
            if let value = node[key] { try self.any(value, scope: scope, depth: depth + 1) }
        }
    }

    /// Checks a value whose kind the tree itself tells: an expression, a query, or a list or holder of such.
    private mutating func any(_ value: SyntaxNode, scope: CommonTables, depth: Int) throws {
        switch value {
        case .null, .bool, .number, .string: return
        case .array(let elements):
            for element in elements { try self.any(element, scope: scope, depth: depth) }
        case .object(let members):
            if value["class"] != nil { return try self.expression(value, scope: scope, depth: depth) }
            let kind = value.text("type")
            if kind.hasSuffix("_NODE") { return try self.queryNode(value, scope: scope, depth: depth) }
            if !kind.isEmpty, !Self.plainKinds.contains(kind) {
                throw Self.refusal("a part of the kind \(kind)", at: value)
            }
            for member in members { try self.any(member.value, scope: scope, depth: depth) }
        }
    }

    /// The parts of a tree that have a type and are neither expression, query nor table.
    private static let plainKinds: Set<String> = ["ORDER_DEFAULT", "ASCENDING", "DESCENDING", "ORDER_MODIFIER"]

    private mutating func expression(_ node: SyntaxNode, scope: CommonTables, depth: Int) throws {
        try Self.check(depth: depth, of: node)
        switch node.text("class") {
        case "CONSTANT", "POSITIONAL_REFERENCE": return
        case "COLUMN_REF": return try self.columnReference(node)
        case "STAR": self.readsWholeRows = true
        case "FUNCTION", "WINDOW": try self.function(node)
        case "TYPE":
            guard node.text("schema").isEmpty, node.text("catalog").isEmpty else {
                throw Self.refusal("a type of another schema", at: node)
            }
        case "OPERATOR":
            let kind = node.text("type")
            guard Self.operators.contains(kind) else { throw Self.refusal("the operator \(kind)", at: node) }
            let count = node.list("children").count
            if count > StatementGate.listElementsMax + 1 {
                throw QueryError(
                    .tooLarge,
                    "a list of \(count - 1) elements; \(StatementGate.listElementsMax) are allowed",
                    position: node.location
                )
            }
        case "COMPARISON", "CONJUNCTION", "CAST", "CASE", "BETWEEN", "SUBQUERY", "LAMBDA", "COLLATE": break
        case "PARAMETER":
            guard UInt16(node.text("identifier")) != nil else {
                throw Self.refusal("a parameter with a name", at: node)
            }
            return
        case let kind: throw Self.refusal("an expression of the kind \(kind)", at: node)
        }
        guard case .object(let members) = node else { return }
        for member in members { try self.any(member.value, scope: scope, depth: depth + 1) }
    }

    private static let operators: Set<String> = [
        "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL",
        "OPERATOR_COALESCE", "OPERATOR_NULLIF", "OPERATOR_TRY", "OPERATOR_UNPACK", "GROUPING_FUNCTION",
        "ARRAY_EXTRACT", "ARRAY_SLICE", "ARRAY_CONSTRUCTOR", "STRUCT_EXTRACT", "ARROW",
    ]

    /// Words that stand for a call without parentheses and tell of the installation.
    private static let refusedWords: Set<String> = ["current_catalog", "current_database"]

    private mutating func columnReference(_ node: SyntaxNode) throws {
        let path = node.list("column_names").compactMap { $0.text?.lowercased() }
        if path.last == "rowid" || (path.count == 1 && Self.refusedWords.contains(path[0])) {
            let name = path.last ?? ""
            throw QueryError(.notAllowed, "\(name) is not allowed", position: node.location, names: [name])
        }
        for name in path { self.note(name) }
        if let last = path.last { self.lastNames.insert(last) }
    }

    private mutating func function(_ node: SyntaxNode) throws {
        let name = node.text("function_name").lowercased()
        let isAllowed = AllowedFunctions.names.contains(name) || AllowedFunctions.operators.contains(name)
        guard isAllowed else {
            let isKnown = AllowedFunctions.isKnownRefusal(name) || AllowedFunctions.tableFunctions.contains(name)
            throw QueryError(
                isKnown ? .notAllowed : .invalid,
                isKnown ? "the function \(name) is not allowed" : "there is no function \(name)",
                position: node.location,
                names: [name]
            )
        }
        if node["export_state"]?.isTrue == true { throw Self.refusal("EXPORT_STATE", at: node) }
        // `action.upper()` parses as the function upper of a schema action, and reads the column action.
        for qualifier in [node.text("catalog"), node.text("schema")] where !qualifier.isEmpty {
            guard !Self.systemSchemas.contains(qualifier.lowercased()) else {
                throw Self.refusal("a function of the schema \(qualifier)", at: node)
            }
            self.note(qualifier)
            self.lastNames.insert(qualifier.lowercased())
        }
        try GeneratedSize.checkScalar(node, name: name)
    }

    private static let systemSchemas: Set<String> = ["system", "temp", "pg_catalog", "information_schema", "main"]

    private mutating func note(_ name: String) { self.names.insert(name.lowercased()) }

    private static let queryMembers: Set<String> = [
        "select_list", "from_table", "where_clause", "group_expressions", "having", "qualify", "modifiers", "cte_map",
        "children", "left", "right", "key_targets", "payload_aggregates",
    ]
    private static let tableMembers: Set<String> = [
        "subquery", "left", "right", "condition", "ranking_expression", "function", "values", "source", "aggregates",
        "pivots", "query", "at_clause",
    ]
    private static let callMembers: Set<String> = ["arguments", "filter", "order_bys"]
    private static let modifierMembers: Set<String> = ["orders", "distinct_on_targets", "limit", "offset"]

    /// Refuses a node that holds an expression, query or table where this walk does not look.
    private static func checkMembers(of node: SyntaxNode, known: Set<String>) throws {
        guard case .object(let members) = node else { return }
        for member in members where !known.contains(member.key) {
            guard Self.isInert(member.value) else { throw Self.refusal("the clause \(member.key)", at: node) }
        }
    }

    private static func isInert(_ value: SyntaxNode) -> Bool {
        switch value {
        case .null, .bool, .number, .string: true
        case .array(let elements): elements.allSatisfy(Self.isInert)
        case .object(let members):
            value["class"] == nil && value["type"]?.text == nil && members.allSatisfy { Self.isInert($0.value) }
        }
    }

    private static func check(depth: Int, of node: SyntaxNode) throws {
        guard depth <= StatementGate.depthMax else { throw StatementGate.tooDeep(at: node.location) }
    }

    private static func refusal(_ what: String, at node: SyntaxNode) -> QueryError {
        QueryError(.notAllowed, "\(what) is not allowed", position: node.location)
    }
}
