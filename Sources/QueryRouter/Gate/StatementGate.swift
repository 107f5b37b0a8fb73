internal import Columnar

/// Decides, before anything runs, whether a statement may run at all; pure.
///
/// Works on DuckDB's syntax tree and knows only what is allowed: node kinds, functions, tables. Whatever it does not
/// know is refused, so that an upgrade of the engine opens nothing. Every check holds at every depth of the tree.
struct StatementGate {
    /// The longest statement, in bytes.
    static let statementBytesMax = 64 << 10
    /// The deepest nesting of expressions, subqueries and joins.
    static let depthMax = 100
    /// The longest list after IN.
    static let listElementsMax = 10_000

    let catalog: TableCatalog

    /// Refuses what is too long for the parser to see.
    static func checkLength(_ sql: String) throws {
        guard sql.utf8.count <= Self.statementBytesMax else {
            throw QueryError(.tooLarge, "a statement may have \(Self.statementBytesMax) bytes, not \(sql.utf8.count)")
        }
    }

    /// Reads what DuckDB's `json_serialize_sql` gave.
    func read(_ text: String) throws -> SyntaxNode {
        do {
            return try SyntaxReader.read(text)
        } catch .tooDeep {
            throw Self.tooDeep(at: nil)
        } catch .malformed(let offset) {
            throw QueryError(.internal, "the parser's tree is malformed at byte \(offset)")
        }
    }

    /// Checks the tree that DuckDB's `json_serialize_sql` gave for `sql`.
    ///
    /// - Throws: ``QueryError`` `.notAllowed`, `.unknownTable`, `.invalid`, `.tooLarge`, with the position in `sql`.
    func check(_ sql: String, tree text: String) throws -> CheckedStatement {
        try self.check(sql, root: self.read(text))
    }

    /// Checks a tree that was read already.
    func check(_ sql: String, root: SyntaxNode) throws -> CheckedStatement {
        let statements = root.list("statements")
        guard let statement = statements.first?.node("node") else {
            throw QueryError(.notAllowed, "there is no statement")
        }
        guard statements.count == 1 else {
            throw QueryError(.notAllowed, "one statement at a time: there are \(statements.count)")
        }
        var walk = GateWalk(catalog: self.catalog)
        try walk.queryNode(statement, scope: CommonTables(), depth: 0)
        return CheckedStatement(
            sql: sql,
            tree: root,
            references: walk.references,
            names: walk.names,
            readsWholeRows: walk.readsWholeRows || walk.namesWholeRow,
            readsDictionary: walk.readsDictionary
        )
    }

    static func tooDeep(at position: Int?) -> QueryError {
        QueryError(.tooLarge, "the statement is nested deeper than \(Self.depthMax) levels", position: position)
    }
}

/// The common table expressions that are visible at one place.
struct CommonTables {
    var names: Set<String> = []
}
