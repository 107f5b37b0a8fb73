/// What `ftnode serve --check` prints: every key, its value, where it comes from and what it means.
package enum ConfigurationExplanation {
    /// A table, then warnings, then `OK` or every problem.
    package static func text(
        file: String,
        rows: [LoadedConfiguration.Row],
        warnings: [String],
        problems: [ConfigurationProblem]
    ) -> String {
        var table = TextTable(columns: ["key", "value", "from", "meaning"])
        for row in rows {
            table.append([row.key, row.value, row.origin.description, row.summary])
        }
        var text = "configuration \(file)\n\n"
        if !rows.isEmpty { text += table.rendered() + "\n" }
        for warning in warnings { text += "warning: \(warning)\n" }
        for problem in problems { text += "error: \(problem)\n" }
        if problems.isEmpty {
            text += "OK\n"
        } else {
            text += "\(problems.count) error\(problems.count == 1 ? "" : "s")\n"
        }
        return text
    }
}
