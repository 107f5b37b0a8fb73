internal import ArgumentParser
internal import NodeRuntime

/// The root of all commands.
struct FTNode: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ftnode",
        abstract: "Flask Track: a cluster that keeps a verifiable audit ledger, and the commands to use it.",
        discussion: """
            Start a cluster on this machine with `ftnode dev`, then try the other commands with the client.yaml that it \
            writes. Client commands take --context FILE, or the environment variable FTNODE_CONTEXT, or \
            ~/.config/ftnode/client.yaml.

            Exit codes: 0 success, 1 a refusal or a failed verification, 2 wrong usage.
            """,
        version: ProductVersion.text,
        subcommands: [
            DevCommand.self, ServeCommand.self, PKICommand.self, ClusterCommand.self, OrganizationCommand.self,
            TokenCommand.self, ImportCommand.self, ExportLakeCommand.self, AuditCommand.self, QueryCommand.self,
            SQLCommand.self, WitnessCommand.self,
            VersionCommand.self,
        ]
    )
}

/// How client commands find their cluster.
struct ConnectionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The client.yaml to use (else FTNODE_CONTEXT, else ~/.config/ftnode/client.yaml).",
            valueName: "file"
        )
    )
    var context: String?

    /// Runs `body` with a client, which is closed afterwards.
    func withClient(_ body: (ClusterClient) async throws -> Void) async throws {
        let path = ClientContext.path(explicit: self.context, environment: CommandEnvironment.all)
        let client = try ClusterClient(context: ClientContext.load(path: path))
        defer { client.close() }
        try await body(client)
    }
}

/// Table for people, JSON for programs.
enum TableOrJSON: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
}

/// Shows the version.
struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Show the version.")

    mutating func run() throws { Terminal.out("ftnode \(ProductVersion.text)\n") }
}
