/// The commands of the shell that are not SQL.
enum ShellCommand {
    /// One command, for the help.
    struct Help: Sendable {
        let word: String
        let arguments: String
        let text: String
    }

    static let all = [
        Help(word: "?", arguments: "", text: "show this list"),
        Help(word: "d", arguments: "[TABLE]", text: "list the tables, or the columns of one"),
        Help(word: "org", arguments: "[KEY … | all]", text: "show or set the organizations that statements see"),
        Help(word: "consistency", arguments: "[VALUE]", text: "show or set: linearizable, eventual, or KEY=SEQUENCE,…"),
        Help(word: "format", arguments: "[NAME]", text: "show or set: box, table, markdown, csv, json, ndjson"),
        Help(word: "timing", arguments: "[on | off]", text: "show how long each statement takes"),
        Help(word: "o", arguments: "[FILE]", text: "write results to FILE, or to the terminal again"),
        Help(word: "i", arguments: "FILE", text: "run the statements of FILE"),
        Help(word: "watch", arguments: "[SECONDS]", text: "run the last statement again and again (2 s); Ctrl-C ends"),
        Help(word: "explain", arguments: "", text: "show how the last statement is answered, and what it cost"),
        Help(word: "queries", arguments: "", text: "show the statements that run now"),
        Help(word: "q", arguments: "", text: "leave"),
    ]

    /// The list that `\?` shows.
    static var help: String {
        let heads = self.all.map { "\\" + $0.word + ($0.arguments.isEmpty ? "" : " " + $0.arguments) }
        let width = heads.map(\.count).max() ?? 0
        let lines = zip(heads, self.all).map { head, command in
            "  " + head + String(repeating: " ", count: width - head.count + 2) + command.text
        }
        return lines.joined(separator: "\n") + "\n\nEverything else is SQL and ends with a semicolon. Tab completes.\n"
    }

    /// The statement behind `\d`.
    static func listing(of table: String?) -> String {
        guard let table else {
            return """
                SELECT DISTINCT table_name AS "table", table_type AS kind, TABLE_COMMENT AS about \
                FROM information_schema.tables ORDER BY ALL
                """
        }
        let name = table.replacing("'", with: "''")
        return """
            SELECT column_name AS "column", data_type AS type, COLUMN_COMMENT AS about \
            FROM information_schema.columns WHERE lower(table_name) = lower('\(name)') ORDER BY ordinal_position
            """
    }
}
