internal import ArgumentParser
internal import NodeRuntime

extension ClusterCommand {
    struct RotateKey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-key",
            abstract: "Have a node make itself another key for checkpoints.",
            discussion: """
                The node writes the new key into its key file and publishes it; both keys sign until the one before \
                ends. What the old key signed stays valid. For a key that was stolen use --overlap 0.

                Examples:
                  ftnode cluster rotate-key --node 2
                  ftnode cluster rotate-key --node 2 --overlap 0
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "The node.")
        var node: Int
        @Option(help: ArgumentHelp("How long the key before stays valid.", valueName: "seconds"))
        var overlap = 86_400

        mutating func validate() throws {
            try NodeArgument.check(self.node, "--node")
            if self.overlap < 0 { throw ValidationError("--overlap must not be negative") }
        }

        mutating func run() async throws {
            let (node, overlap) = (self.node, self.overlap)
            try await self.connection.withClient { client in
                let changed = try await client.rotateKey(node: node, overlapSeconds: overlap)
                Terminal.out("new key of node \(node): \(changed.key)\n")
                Terminal.out("valid for \(overlap) s more: \(changed.previous)\n")
            }
        }
    }

    struct RetireKey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "retire-key",
            abstract: "End the validity of a node's key, for one that was lost or stolen.",
            discussion: """
                What it signed before that moment stays valid. The end may be moved to an earlier time, never to a later one.

                Example:
                  ftnode cluster retire-key --node 2 --key prod/node-2+1f2e3d4c+BA… --at 2026-03-01T08:00:00Z
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "The node.")
        var node: Int
        @Option(help: ArgumentHelp("The public key, as `ftnode audit keys` shows it.", valueName: "vkey"))
        var key: String
        @Option(help: ArgumentHelp("The last moment at which it is valid (default: now).", valueName: "time"))
        var at: String?

        mutating func validate() throws { try NodeArgument.check(self.node, "--node") }

        mutating func run() async throws {
            let (node, key, at) = (self.node, self.key, self.at)
            try await self.connection.withClient { client in
                try await client.retireKey(node: node, key: key, at: at)
                Terminal.out("retired\n")
            }
        }
    }
}
