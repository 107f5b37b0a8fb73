internal import ArgumentParser
internal import NodeRuntime

/// Reading and verifying the ledger.
struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Read and verify the audit ledger.",
        subcommands: [
            Log.self, Verify.self, State.self, Diff.self, Investigate.self, Investigations.self,
            Rebuild.self,
            Keys.self, Checkpoint.self, Prove.self, CheckReceipt.self, Export.self, VerifyPackage.self, Compare.self,
            Repair.self, ClearSignedHead.self,
            Subjects.self, Hold.self, Erase.self, Reveal.self,
        ]
    )

    enum LogFormat: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
        case csv
    }

    enum VerifyLevel: String, ExpressibleByArgument, CaseIterable {
        case heads
        case tree
        case projections
        case signatures
    }

    struct Log: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "log",
            abstract: "Show an organization's records.",
            discussion: """
                json prints one record a line, as it was hashed, with its checksum.

                Examples:
                  ftnode audit log --org lab-a --limit 20 --desc
                  ftnode audit log --org lab-a --action queued --from 2026-01-01T00:00:00Z --format csv
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: "Only records of entities of this type.")
        var entityType: String?
        @Option(help: "Only records of this entity.")
        var entityID: String?
        @Option(help: "Only records of this actor.")
        var actor: String?
        @Option(help: "Only records of this action.")
        var action: String?
        @Option(help: ArgumentHelp("Only records recorded at or after this time (RFC 3339).", valueName: "time"))
        var from: String?
        @Option(help: ArgumentHelp("Only records recorded before this time (RFC 3339).", valueName: "time"))
        var to: String?
        @Option(help: ArgumentHelp("Only records whose reason contains this.", valueName: "text"))
        var reason: String?
        @Option(help: "Only records of this severity: info, notice, warning, critical.")
        var severity: String?
        @Option(
            help: ArgumentHelp(
                "Only records whose compliance context contains this, or /MEMBER=VALUE.",
                valueName: "text"
            )
        )
        var compliance: String?
        @Option(help: "Only records of this outcome: success, denied, failed.")
        var outcome: String?
        @Flag(name: .customLong("desc"), help: "Newest first.")
        var isDescending = false
        @Option(help: "Most records to show (default: all).")
        var limit: Int?
        @Option(help: "How to show them.")
        var format = LogFormat.table

        mutating func validate() throws {
            if let limit = self.limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
        }

        mutating func run() async throws {
            let filters: [(String, String?)] = [
                ("entity_type", self.entityType), ("entity_id", self.entityID), ("actor", self.actor),
                ("action", self.action), ("from", self.from), ("to", self.to), ("reason", self.reason),
                ("severity", self.severity), ("compliance", self.compliance), ("outcome", self.outcome),
            ]
            var query = AuditLogQuery(
                organization: self.org,
                filters: filters.compactMap { name, value in value.map { (name, $0) } }
            )
            query.isDescending = self.isDescending
            query.limit = self.limit
            try await Self.show(query, format: self.format, self.connection)
        }

        static func show(
            _ asked: AuditLogQuery,
            format: LogFormat,
            _ connection: ConnectionOptions
        ) async throws {
            try await connection.withClient { client in
                if format == .csv { Terminal.out(CSVLine.text(AuditLogRow.columns)) }
                let count = try await client.auditLog(asked) { rows in try Self.show(rows, format) }
                if format == .table { Terminal.out("\(Grouped.number(count)) record\(count == 1 ? "" : "s")\n") }
            }
        }

        private static func show(_ rows: [AuditLogRow], _ format: LogFormat) throws {
            switch format {
            case .table:
                guard !rows.isEmpty else { return }
                var table = TextTable(columns: AuditLogRow.tableColumns, right: [0])
                for row in rows { table.append(row.tableCells) }
                try Terminal.write(Array((table.rendered() + "\n").utf8), to: 1)
            case .json:
                for row in rows { try Terminal.write(row.json + [UInt8(ascii: "\n")], to: 1) }
            case .csv:
                let text = rows.map { CSVLine.text($0.csvCells) }.joined()
                try Terminal.write(Array(text.utf8), to: 1)
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify",
            abstract: "Verify every replica of every organization.",
            discussion: """
                Every node reads all records of its replica again, checks hashes, chain, order and tree, and the \
                replicas are compared. Exit 1 when anything is wrong or a replica cannot be reached.

                Levels, each with those before it: heads (only the newest nodes and the last record), tree, \
                projections (every derived row, both ways), signatures (every stored checkpoint).

                Example:
                  ftnode audit verify --org lab-a
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("Only this organization; may be repeated.", valueName: "key"))
        var org: [String] = []
        @Option(help: "How deep: heads, tree, projections or signatures.")
        var level = VerifyLevel.tree
        @Option(help: "How to show it; json prints one organization a line, then the summary.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let (organizations, level, format) = (self.org, self.level, self.format)
            try await self.connection.withClient { client in
                var report = VerificationReport()
                try await client.verify(organizations: organizations, level: level.rawValue) { json, view in
                    report.add(view)
                    if format == .json { try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                }
                if format == .table { Terminal.out(report.text) }
                if !report.isGood { throw ExitCode(ExitStatus.refused) }
            }
        }
    }
}

/// Lines of comma-separated values (RFC 4180, line feeds as line ends).
enum CSVLine {
    static func text(_ cells: [String]) -> String { cells.map(self.cell).joined(separator: ",") + "\n" }

    private static func cell(_ text: String) -> String {
        guard text.utf8.contains(where: { [0x22, 0x2C, 0x0A, 0x0D].contains($0) }) else { return text }
        return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}
