internal import ArgumentParser
internal import NodeRuntime

/// The state of the cluster, and what changes it.
struct ClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "See, grow, shrink and repair a cluster.",
        discussion: """
            The cluster moves replicas by itself, a few at a time, while it serves; --wait shows how far it is and \
            returns when it is done.

            Examples:
              ftnode cluster add-node --id 4 --api 10.0.0.4:8443 --peer 10.0.0.4:8543
              ftnode cluster replace-node 2 4 --wait
              ftnode cluster drain 3 --wait
            """,
        subcommands: [
            Status.self, AddNode.self, RemoveNode.self, ReplaceNode.self, TransferLeader.self, Place.self,
            Rebalance.self, Drain.self, Cordon.self, Uncordon.self, Recover.self,
            RotateKey.self, RetireKey.self, Queries.self, Kill.self,
        ]
    )

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status",
            abstract: "Show nodes and replication groups.",
            discussion: """
                The second table has a column for each node: the index up to which its replica has applied the group's \
                log, and how far it is behind. * marks the leader, l a learner (it counts for no majority), + a replica \
                that is coming and - one that is going in a change under way. Groups that sleep have no work and send no \
                heartbeats of their own. CLOCK is how far a node's clock is ahead of that of the node that was asked.

                Example:
                  ftnode cluster status --format json
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let format = self.format
            try await self.connection.withClient { client in
                let (json, view) = try await client.status()
                if format == .json {
                    try Terminal.write(json + [UInt8(ascii: "\n")], to: 1)
                } else {
                    Terminal.out(ClusterText.text(view))
                }
            }
        }
    }
}
