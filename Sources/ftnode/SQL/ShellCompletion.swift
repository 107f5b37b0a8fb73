/// What the shell offers for a word that was begun.
struct ShellCompletion: Sendable {
    /// Words of SQL that are offered.
    static let keywords = [
        "ALL", "AND", "AS", "ASC", "AVG", "BETWEEN", "BY", "CASE", "CAST", "COUNT", "CROSS", "DESC", "DISTINCT",
        "ELSE", "END", "EXCEPT", "EXISTS", "EXPLAIN", "FALSE", "FILTER", "FROM", "FULL", "GROUP", "HAVING", "ILIKE",
        "IN", "INNER", "INTERSECT", "INTERVAL", "IS", "JOIN", "LEFT", "LIKE", "LIMIT", "MAX", "MEDIAN", "MIN", "NOT",
        "NULL", "OFFSET", "ON", "OR", "ORDER", "OVER", "PARTITION", "QUALIFY", "RECURSIVE", "RIGHT", "SELECT", "SUM",
        "THEN", "TRUE", "UNION", "USING", "VALUES", "WHEN", "WHERE", "WINDOW", "WITH",
    ]

    /// Tables and columns, as far as they were asked for.
    var names: [String] = []
    var organizations: [String] = []

    /// The whole words that begin as `word`; `before` is what stands in front of it on the line.
    func candidates(for word: String, before: String) -> [String] {
        let line = before.drop { $0 == " " || $0 == "\t" }
        if line.isEmpty, word.hasPrefix("\\") {
            return ShellCommand.all.map { "\\" + $0.word }.filter { $0.hasPrefix(word) }
        }
        if line.hasPrefix("\\org") { return self.organizations.filter { $0.hasPrefix(word) } }
        if line.hasPrefix("\\format") { return QueryFormat.allCases.map(\.rawValue).filter { $0.hasPrefix(word) } }
        if line.hasPrefix("\\d") { return self.names.filter { $0.hasPrefix(word) } }
        guard !word.isEmpty else { return [] }
        let upper = word.uppercased()
        let isLower = word == word.lowercased()
        let keywords = Self.keywords.filter { $0.hasPrefix(upper) }.map { isLower ? $0.lowercased() : $0 }
        let names = self.names.filter { $0.lowercased().hasPrefix(word.lowercased()) }
        return names + keywords.filter { !names.contains($0) }
    }
}
