internal import ArgumentParser
internal import NodeRuntime

extension ClusterCommand {
    /// Statements that run.
    struct Queries: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "queries",
            abstract: "Show the statements that run, on every node.",
            discussion: """
                An operator sees all of them, any other token its own. waiting: for a place among those that run; running: \
                until the first rows; streaming: rows are being read.

                Examples:
                  ftnode cluster queries
                  ftnode cluster kill 2-6f1d0c9a4be87712
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        /// Characters of a statement in the table.
        private static let statementMax = 60

        mutating func run() async throws {
            let format = self.format
            try await self.connection.withClient { client in
                let (json, queries, silent) = try await client.runningQueries()
                if format == .json { return try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                var table = TextTable(
                    columns: ["id", "state", "seconds", "rows", "plan", "caller", "by", "organizations", "statement"],
                    right: [2, 3]
                )
                for query in queries { table.append(Self.cells(query)) }
                Terminal.out(table.isEmpty ? "no statement runs\n" : table.rendered())
                if !silent.isEmpty {
                    let nodes = silent.map(String.init).joined(separator: ", ")
                    Terminal.note("no answer from node \(nodes): its statements are not shown")
                }
            }
        }

        private static func cells(_ query: RunningQueryView) -> [String] {
            let tenths = query.runningMs / 100
            let others = query.organizations.count - 1
            let first = query.organizations.first ?? "-"
            let words = query.sql.split(whereSeparator: \.isWhitespace).joined(separator: " ")
            return [
                query.id, query.state, "\(tenths / 10).\(tenths % 10)", String(query.rows), query.plan ?? "-",
                query.caller, query.channel, others > 0 ? "\(first) +\(others)" : first,
                words.count > Self.statementMax ? words.prefix(Self.statementMax - 1) + "…" : words,
            ]
        }
    }

    /// Ends a statement.
    struct Kill: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "kill",
            abstract: "End a running statement.",
            discussion: """
                Its client gets the error query_ended, and every shard stops working on it. An operator may end any, any \
                other token its own.

                Example:
                  ftnode cluster kill 2-6f1d0c9a4be87712
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Argument(help: "The id that `ftnode cluster queries` shows.")
        var id: String

        mutating func run() async throws {
            let id = self.id
            try await self.connection.withClient { client in
                try await client.endQuery(id)
                Terminal.out("ended \(id)\n")
            }
        }
    }
}
