internal import ArgumentParser
internal import NodeRuntime

/// The state of the cluster.
struct ClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "See the state of a cluster.",
        subcommands: [Status.self]
    )

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status",
            abstract: "Show nodes and replication groups.",
            discussion: """
                The second table has a column for each node: the index up to which its replica has applied the group's \
                log, and how far it is behind. * marks the leader.

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

/// The state of a cluster as two tables and a line.
enum ClusterText {
    static func text(_ view: ClusterView) -> String {
        var nodes = TextTable(columns: ["node", "state", "address", "pid", "version", "up"], right: [3])
        for node in view.nodes.sorted(by: { $0.id < $1.id }) {
            nodes.append([
                String(node.id), node.state, node.address, node.pid.map(String.init) ?? "-", node.version ?? "-",
                node.uptimeSeconds.map(Self.uptime) ?? "-",
            ])
        }
        let ids = view.nodes.map(\.id).sorted()
        var groups = TextTable(
            columns: ["group", "leader", "term", "commit"] + ids.map { "n\($0)" },
            right: [2, 3]
        )
        for group in view.groups.sorted(by: { $0.id < $1.id }) {
            let commit = group.replicas.compactMap(\.commit).max()
            groups.append(
                [
                    group.id == 0 ? "0 system" : String(group.id), group.leader.map { "node \($0)" } ?? "none",
                    group.term.map(String.init) ?? "-", commit.map(String.init) ?? "-",
                ] + ids.map { id in group.replicas.first { $0.node == id }.map(Self.replica) ?? "" }
            )
        }
        let up = view.nodes.filter { $0.state == "up" }.count
        let led = view.groups.filter { $0.leader != nil }.count
        return nodes.rendered() + "\n" + groups.rendered()
            + "\ncluster \(TextTable.printable(view.clusterId)): \(up) of \(view.nodes.count) nodes up, "
            + "\(led) of \(view.groups.count) groups have a leader\n"
    }

    private static func replica(_ replica: ClusterView.Replica) -> String {
        guard let applied = replica.applied else { return "-" }
        let lag = replica.lag ?? 0
        return "\(applied)\(lag > 0 ? " (-\(lag))" : "")\(replica.role == "leader" ? " *" : "")"
    }

    private static func uptime(_ seconds: Double) -> String {
        let whole = Int(seconds)
        return switch whole {
        case ..<60: "\(whole) s"
        case ..<3600: "\(whole / 60) min"
        case ..<86_400: "\(whole / 3600) h \(whole % 3600 / 60) min"
        default: "\(whole / 86_400) d \(whole % 86_400 / 3600) h"
        }
    }
}
