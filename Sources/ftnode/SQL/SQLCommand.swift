internal import ArgumentParser
internal import Foundation
internal import NodeRuntime

/// The interactive shell.
struct SQLCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sql",
        abstract: "Ask questions in SQL, one after the other.",
        discussion: """
            Statements end with a semicolon; \\? lists the shell's own commands. Tab completes tables, columns and words \
            of SQL; the arrow keys bring back what was typed before, also in earlier sessions (FTNODE_SQL_HISTORY names \
            the file, empty for none). Without a terminal, statements are read from standard input, and the first that \
            fails ends it.

            Examples:
              ftnode sql --org lab-a
              echo "select count(*) from audit_log" | ftnode sql --format csv
            """
    )

    @OptionGroup var connection: ConnectionOptions
    @Option(help: ArgumentHelp("Only this organization; may be repeated.", valueName: "key"))
    var org: [String] = []
    @Option(help: "The form of results.")
    var format = QueryFormat.box
    @Option(help: ArgumentHelp("linearizable, eventual, or KEY=SEQUENCE,…", valueName: "consistency"))
    var consistency = "linearizable"

    mutating func validate() throws {
        guard QueryCall.consistencyJSON(self.consistency) != nil else {
            throw ValidationError("--consistency must be linearizable, eventual or KEY=SEQUENCE,…")
        }
        if QueryCall.binaryFormats.contains(self.format.rawValue) {
            throw ValidationError("\(self.format.rawValue) is for ftnode query --output")
        }
    }

    mutating func run() async throws {
        let settings = ShellSettings(organizations: self.org, consistency: self.consistency, format: self.format)
        try await self.connection.withClient { client in
            let shell = await SQLShell(client: client, settings: settings)
            if Terminal.inIsTerminal, Terminal.outIsTerminal {
                try await shell.converse()
            } else {
                try await shell.run(script: FileHandle.standardInput)
            }
        }
    }
}
