internal import ArgumentParser
internal import Foundation
internal import NodeRuntime
internal import Primitives

/// Keeps a Delta Lake table of records up to date.
struct ExportLakeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write records into a Delta Lake table, each exactly once.",
        discussion: """
            DIR/audit_log becomes a Delta Lake table of Parquet files, partitioned by organization and month, that Spark, \
            Trino, Dask, polars and DuckDB read. Each run adds what is new. A run that was interrupted, even killed, is \
            simply run again: no record is missing or twice.

            Records become files in sealed ranges of --rows sequences (1 to N, N+1 to 2N, …); what does not fill a range \
            waits, unless --all-now is given. Each file is exported like "ftnode audit export" does: the organization's \
            ledger records who took which sequences and the SHA-256 of the file, and the file is compared with that. \
            Needs an auditor's or operator's token. One record of an organization: "ftnode audit export".

            Examples:
              ftnode export --lake /data/lake
              ftnode export --lake /data/lake --org lab-a --org lab-b --all-now
              ftnode export --lake /data/lake --watch 60
            """
    )

    @OptionGroup var connection: ConnectionOptions
    @Option(help: ArgumentHelp("The folder that holds, or shall hold, the table audit_log.", valueName: "dir"))
    var lake: String
    @Option(help: ArgumentHelp("Only this organization; may be repeated.", valueName: "key"))
    var org: [String] = []
    @Option(help: ArgumentHelp("Records of a sealed range.", valueName: "n"))
    var rows = LakePlan.rowsDefault
    @Flag(help: "Export the last records too when they do not fill a range, as a smaller file.")
    var allNow = false
    @Option(help: ArgumentHelp("Look again every so many seconds, until Ctrl-C.", valueName: "seconds"))
    var watch: Double?

    @Option(
        help: ArgumentHelp(
            "Commits from one checkpoint of the log to the next, which spares readers the commits before it.",
            valueName: "n"
        )
    )
    var checkpointEvery = DeltaCheckpoint.intervalDefault

    mutating func validate() throws {
        guard self.checkpointEvery > 0 else { throw ValidationError("--checkpoint-every must be 1 or more") }
        guard (1...LakePlan.rowsMax).contains(self.rows) else {
            throw ValidationError("--rows must be 1 to \(LakePlan.rowsMax)")
        }
        if let watch = self.watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch must be from 0.1 to 86400 seconds")
        }
        if self.watch != nil, self.allNow {
            throw ValidationError("--all-now would never end with --watch: each export is a record itself")
        }
        if let key = self.org.first(where: { OrganizationKey($0) == nil }) {
            throw ValidationError("--org \(key): a key has 1 to 63 of a-z 0-9 -, with a letter or digit first and last")
        }
    }

    mutating func run() async throws {
        let (lake, wanted, rows, allNow, watch) = (self.lake, self.org, self.rows, self.allNow, self.watch)
        let checkpointEvery = self.checkpointEvery
        try await self.connection.withClient { client in
            let source = ClusterLakeSource(client: client)
            do {
                let export = LakeExport(
                    source: source,
                    storage: try await LakeFolder.open(lake),
                    rows: rows,
                    takesRest: allNow,
                    checkpointInterval: checkpointEvery,
                    tableID: UUID().uuidString.lowercased(),  // ambient-ok: the id of a new table
                    now: { Int64(Date().timeIntervalSince1970 * 1000) }  // ambient-ok: the time of a commit
                )
                while true {
                    let keys = wanted.isEmpty ? try await client.organizations().list.map(\.key) : wanted
                    try await Self.round(export, keys, showsIdle: watch == nil)
                    guard let watch else { break }
                    try await Task.sleep(for: .seconds(watch))
                }
            } catch {
                await source.close()
                throw error
            }
            await source.close()
        }
    }

    private static func round(_ export: LakeExport, _ keys: [String], showsIdle: Bool) async throws {
        var table = TextTable(
            columns: ["organization", "files", "records", "bytes", "in the lake", "in the ledger"],
            right: [1, 2, 3, 4, 5]
        )
        var isIdle = true
        for key in keys.sorted() {
            guard let organization = OrganizationKey(key) else { continue }
            let summary = try await export.run(organization) { progress in
                Terminal.note("\(key): \(Grouped.number(Int(clamping: progress.exported))) records in the lake")
            }
            isIdle = isIdle && summary.files == 0
            table.append([
                key, Grouped.number(summary.files), Grouped.number(Int(clamping: summary.records)),
                Grouped.number(Int(clamping: summary.bytes)), Grouped.number(Int(clamping: summary.exported)),
                Grouped.number(Int(clamping: summary.size)),
            ])
        }
        if showsIdle || !isIdle { Terminal.out(table.rendered()) }
    }
}
