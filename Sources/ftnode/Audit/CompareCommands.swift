internal import ArgumentParser
internal import AuditPackage
internal import NodeRuntime

extension AuditCommand {
    struct Compare: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "compare",
            abstract:
                "Compare two replicas of an organization's ledger, or one and a package, and find where they part.",
            discussion: """
                The trees of both are descended from their roots; a node that contradicts itself is caught. The verdict \
                names the side that a quorum-signed checkpoint supports. Exit 1 when they differ.

                Of a package the records themselves are hashed, not the tiles. Signatures count by your keys or policy; \
                without them by the keys that the cluster publishes. A filtered package names the records among which \
                the difference lies.

                Examples:
                  ftnode audit compare --org lab-a --node 1 --node 3
                  ftnode audit compare --org lab-a --node 1 --package lab-a.zip --keys keys.json
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("A node with a replica; give two, or one and a package.", valueName: "id"))
        var node: [Int]
        @Option(help: ArgumentHelp("An exported package to compare the replica with.", valueName: "file"))
        var package: String?
        @Option(
            help: ArgumentHelp(
                "With --package: a public key, or a file of them; may be repeated.",
                valueName: "file|vkey"
            )
        )
        var keys: [String] = []
        @Option(help: ArgumentHelp("With --package: a C2SP tlog-policy file.", valueName: "file"))
        var policy: String?
        @Option(help: ArgumentHelp("With --package: a checkpoint that you have seen before.", valueName: "file"))
        var held: String?
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func validate() throws {
            guard self.node.allSatisfy({ $0 >= 1 }) else { throw ValidationError("--node is at least 1") }
            if self.package != nil {
                guard self.node.count == 1 else { throw ValidationError("give --node once with --package") }
                return
            }
            guard self.node.count == 2, self.node[0] != self.node[1] else {
                throw ValidationError("give --node twice, with two different nodes, or once with --package")
            }
            guard self.keys.isEmpty, self.policy == nil, self.held == nil else {
                throw ValidationError("--keys, --policy and --held are for --package")
            }
        }

        mutating func run() async throws {
            let (org, nodes, format) = (self.org, self.node, self.format)
            let comparison = self.package.map { file in
                var inspection = PackageInspection()
                inspection.keys = self.keys
                inspection.policy = self.policy
                inspection.held = self.held
                return PackageComparison(organization: org, node: nodes[0], file: file, inspection: inspection)
            }
            try await self.connection.withClient { client in
                let (json, view) =
                    if let comparison {
                        try await comparison.run(client)
                    } else {
                        try await client.compare(org, nodes[0], nodes[1])
                    }
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
