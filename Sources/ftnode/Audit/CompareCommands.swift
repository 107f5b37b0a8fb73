internal import ArgumentParser
internal import NodeRuntime

extension AuditCommand {
    struct Compare: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "compare",
            abstract: "Compare two replicas of an organization's ledger and find where they part.",
            discussion: """
                The trees of both are descended from their roots; a node that contradicts itself is caught. The verdict \
                names the side that a quorum-signed checkpoint supports. Exit 1 when the replicas differ.

                Example:
                  ftnode audit compare --org lab-a --node 1 --node 3
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("A node with a replica; give two.", valueName: "id"))
        var node: [Int]
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func validate() throws {
            guard self.node.count == 2, self.node[0] != self.node[1], self.node.allSatisfy({ $0 >= 1 }) else {
                throw ValidationError("give --node twice, with two different nodes")
            }
        }

        mutating func run() async throws {
            let (org, nodes, format) = (self.org, self.node, self.format)
            try await self.connection.withClient { client in
                let (json, view) = try await client.compare(org, nodes[0], nodes[1])
                switch format {
                case .table: Terminal.out(view.text)
                case .json: try Terminal.write(json + [UInt8(ascii: "\n")], to: 1)
                }
                if !view.isSound { throw ExitCode(ExitStatus.refused) }
            }
        }
    }

    struct Repair: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "repair",
            abstract: "Replace what is damaged in one node's replica by what a peer holds and a majority has signed.",
            discussion: """
                Records come from another replica; each is checked against the tree of a quorum-signed checkpoint \
                before it is written. The replica is verified again afterwards, and the repair is recorded in the \
                cluster's ledger.

                Example:
                  ftnode audit repair --org lab-a --node 2
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("The node whose replica is repaired.", valueName: "id"))
        var node: Int
        @Option(help: ArgumentHelp("First record to look at (default: the node finds it).", valueName: "sequence"))
        var from: Int?
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func validate() throws {
            if self.node < 1 { throw ValidationError("--node is at least 1") }
            if let from = self.from, from < 1 { throw ValidationError("--from is at least 1") }
        }

        mutating func run() async throws {
            let (org, node, from, format) = (self.org, self.node, self.from, self.format)
            try await self.connection.withClient { client in
                let (json, view) = try await client.repair(org, node: node, from: from)
                switch format {
                case .table: Terminal.out(view.text)
                case .json: try Terminal.write(json + [UInt8(ascii: "\n")], to: 1)
                }
            }
        }
    }
}
