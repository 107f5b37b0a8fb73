internal import Columnar

/// A statement that passed the gate, with what the planner wants to know of it.
struct CheckedStatement: Sendable {
    /// The text as the user wrote it, or what the router made of it where the engine would not understand it.
    var sql: String
    /// The parser's whole tree of it.
    let tree: SyntaxNode
    /// Every reference to a dataset, in the order of the tree; common table expressions are not among them.
    let references: [TableReference]
    /// Every word that may name a column, in lower case: a superset of the columns that the statement can read.
    let names: Set<String>
    /// Whether some part of the statement reads all columns of something (`*`, NATURAL, PIVOT, a whole row …).
    let readsWholeRows: Bool
    /// Whether some organization's table differs from the catalog's.
    var isAdapted = false
    /// Whether it reads what tells of tables and columns.
    var readsDictionary = false

    /// The statement's query node.
    var query: SyntaxNode? { self.tree.list("statements").first?.node("node") }

    /// Names of the datasets, in lower case.
    var tables: Set<String> { Set(self.references.map { $0.table.name.lowercased() }) }
}

/// One place in a statement that reads a dataset.
struct TableReference: Sendable {
    let table: TableSchema
    /// How its columns may be qualified: the alias, or else the table's name; lower case.
    let qualifier: String
    /// The conjuncts of the WHERE clause of a SELECT whose FROM is this reference alone; otherwise none.
    ///
    /// Each row that the SELECT uses satisfies all of them.
    let conjuncts: [SyntaxNode]
}
