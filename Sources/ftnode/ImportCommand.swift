internal import ArgumentParser
internal import NodeRuntime
internal import Primitives
internal import Synchronization

/// Imports events.
struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Append events from newline-delimited JSON, Arrow or Parquet.",
        discussion: """
            Each line is one event: an object with organization, action, entity_type, entity_id, and optionally actor, \
            occurred_at, before, after, reason, severity, compliance, outcome, causation, correlation, session, personal. \
            The order within an organization is kept.

            In Arrow (stream or file) and Parquet each row is one event and each column a member of that name: \
            action, entity_type and entity_id are needed; before, after, compliance and personal are JSON as text, or \
            structures, lists and maps; the actor is a column actor or the columns actor_kind, actor_id, actor_name, \
            actor_role and actor_on_behalf_of; null means absent. Without a column organization, give --org. Other \
            columns are refused.

            Running the same import again, or again after it was interrupted, appends nothing twice: batches carry \
            idempotency keys made from their content and place. A file that has grown is another import: import the \
            new lines alone.

            Examples:
              ftnode import events.ndjson --create-organizations
              zcat events.ndjson.gz | ftnode import -
              ftnode import events.parquet --org lab-a
            """
    )

    @OptionGroup var connection: ConnectionOptions
    @Argument(help: "The file, or - for standard input.")
    var file: String
    @Option(help: "The form of the file (default: by the end of its name, .parquet, .arrow, .feather; else ndjson).")
    var format: ImportFormat?
    @Option(help: ArgumentHelp("The organization of rows that name none (arrow, parquet).", valueName: "key"))
    var org: String?
    @Flag(help: "Create organizations that do not exist (needs an operator's token).")
    var createOrganizations = false
    @Option(help: ArgumentHelp("Try a batch again for this long, in seconds.", valueName: "seconds"))
    var timeout = 120

    mutating func validate() throws {
        if let org = self.org, OrganizationKey(org) == nil {
            throw ValidationError("--org must be 1 to 63 of a-z 0-9 -, with a letter or digit first and last")
        }
        if self.org != nil, self.chosenFormat == .ndjson {
            throw ValidationError("--org is for arrow and parquet: lines of JSON name their organization")
        }
        guard (1...86_400).contains(self.timeout) else { throw ValidationError("--timeout must be 1 to 86400") }
    }

    private var chosenFormat: ImportFormat { self.format ?? ImportFormat(path: self.file) }

    mutating func run() async throws {
        let (path, format, organization) = (self.file, self.chosenFormat, self.org.flatMap { OrganizationKey($0) })
        let (creates, timeout) = (self.createOrganizations, self.timeout)
        try await self.connection.withClient { client in
            let run = ImportRun(client: client, createsOrganizations: creates, timeout: .seconds(timeout))
            guard format != .ndjson else {
                try await ImportReporter.run(run, try LineSource(path: path))
                return
            }
            let table = try await TableSource.open(path: path, format: format, organization: organization)
            do {
                try await ImportReporter.run(run, table)
            } catch {
                await table.close()
                throw error
            }
            await table.close()
        }
    }
}

extension ImportFormat: ExpressibleByArgument {}

/// Shows an import's progress and result.
enum ImportReporter {
    /// Seconds between two lines when standard error is no terminal.
    private static let lineInterval = 5.0
    /// Seconds between two drawings of the bar.
    private static let barInterval = 0.1
    private static let barWidth = 30

    static func run(_ run: ImportRun, _ source: any ImportSource) async throws {
        let start = CommandEnvironment.uptimeSeconds()
        let isTerminal = Terminal.errorIsTerminal
        let last = Mutex(start)
        let outcome = await run.run(source) { progress in
            let now = CommandEnvironment.uptimeSeconds()
            let isDue = last.withLock { last in
                guard now - last >= (isTerminal ? self.barInterval : self.lineInterval) else { return false }
                last = now
                return true
            }
            guard isDue else { return }
            let line = self.line(progress, seconds: now - start, hasBar: isTerminal)
            if isTerminal { Terminal.overwrite(line) } else { Terminal.note(line) }
        }
        if isTerminal { Terminal.overwrite("") }
        let seconds = CommandEnvironment.uptimeSeconds() - start
        Terminal.out(self.summary(outcome.progress, seconds: seconds))
        guard let failure = outcome.failure else { return }
        Terminal.note(
            "\(Grouped.number(outcome.progress.acknowledged)) records are acknowledged and safe; "
                + "the same command goes on where this one ended"
        )
        throw failure
    }

    static func line(_ progress: ImportRun.Progress, seconds: Double, hasBar: Bool) -> String {
        let rate = seconds > 0 ? Int(Double(progress.acknowledged) / seconds) : 0
        var text = "\(Grouped.number(progress.acknowledged)) records, \(Grouped.number(rate))/s"
        guard let total = progress.totalBytes, total > 0 else { return text }
        let share = min(1, Double(progress.bytesRead) / Double(total))
        text = "\(Int(share * 100))% read, " + text
        guard hasBar else { return text }
        let filled = Int(share * Double(self.barWidth))
        return "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: self.barWidth - filled)
            + "] " + text
    }

    static func summary(_ progress: ImportRun.Progress, seconds: Double) -> String {
        var table = TextTable(
            columns: ["records appended", "already there", "organizations", "seconds", "records/s"],
            right: [0, 1, 2, 3, 4]
        )
        let rate = seconds > 0 ? Int(Double(progress.acknowledged) / seconds) : 0
        let tenths = Int((seconds * 10).rounded())
        table.append([
            Grouped.number(progress.appended), Grouped.number(progress.alreadyThere),
            String(progress.organizations.count), "\(tenths / 10).\(tenths % 10)", Grouped.number(rate),
        ])
        return table.rendered()
    }
}
