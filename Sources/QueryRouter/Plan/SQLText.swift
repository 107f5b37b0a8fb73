internal import Columnar

/// Pieces of the router's own statements.
enum SQLText {
    /// An identifier, whatever characters it holds.
    static func quoted(_ name: String) -> String {
        "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    /// A text as a literal, whatever characters it holds.
    static func literal(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }

    /// An organization's columns in the shape of the catalog's.
    static func adapted(_ columns: [ColumnDefinition], from own: TableSchema) -> String {
        let types = Dictionary(
            own.columns.map { ($0.name.lowercased(), $0.type) },
            uniquingKeysWith: { first, _ in first }
        )
        return columns.map { column in
            let name = self.quoted(column.name)
            switch types[column.name.lowercased()] {
            case column.type?: return name
            case .some: return "CAST(\(name) AS \(column.type.sqlName)) AS \(name)"
            case nil: return "CAST(NULL AS \(column.type.sqlName)) AS \(name)"
            }
        }.joined(separator: ", ")
    }
}
