internal import ArgumentParser
internal import NodeRuntime

extension AuditCommand {
    struct Keys: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "keys",
            abstract: "Show the public keys with which the nodes sign checkpoints.",
            discussion: """
                Keep them away from the cluster: whoever has them can check receipts and packages without trusting it. \
                With --org, prints a policy (C2SP tlog-policy) for that organization's checkpoints instead; with --org and \
                --format json the keys, each with the sizes of that organization's checkpoints that it may have signed.

                Examples:
                  ftnode audit keys
                  ftnode audit keys --org lab-a > lab-a.policy
                  ftnode audit keys --org lab-a --format json > lab-a.keys.json
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("Print the policy of this organization.", valueName: "key"))
        var org: String?
        @Option(help: "How to show them.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let (org, format) = (self.org, self.format)
            try await self.connection.withClient { client in
                if let org, format == .table {
                    let policy = try await client.organizationResource(org, path: ["policy"], parameters: [])
                    return try Terminal.write(policy, to: 1)
                }
                let (json, keys) = try await client.keys(for: org)
                switch format {
                case .json: try Terminal.write(json + [UInt8(ascii: "\n")], to: 1)
                case .table:
                    var table = TextTable(columns: ["node", "valid from", "valid to", "key"], right: [0])
                    for key in keys {
                        table.append([String(key.node), key.validFrom, key.validTo ?? "-", key.key])
                    }
                    Terminal.out(table.rendered() + "\n")
                }
            }
        }
    }

    struct Checkpoint: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "checkpoint",
            abstract: "Print an organization's checkpoint: how many records, which root, signed by whom.",
            discussion: """
                A signed note (C2SP tlog-checkpoint). --fresh has it made now, of everything acknowledged before.

                Examples:
                  ftnode audit checkpoint --org lab-a --fresh
                  ftnode audit checkpoint --org lab-a --size 1200
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Flag(help: "Have one signed now.")
        var fresh = false
        @Option(help: ArgumentHelp("The stored one of this size.", valueName: "records"))
        var size: UInt64?

        mutating func validate() throws {
            if self.fresh, self.size != nil { throw ValidationError("--fresh and --size exclude each other") }
        }

        mutating func run() async throws {
            let (org, fresh, size) = (self.org, self.fresh, self.size)
            try await self.connection.withClient { client in
                var parameters: [(String, String)] = size.map { [("size", String($0))] } ?? []
                if fresh { parameters.append(("fresh", "true")) }
                let note = try await client.organizationResource(org, path: ["checkpoint"], parameters: parameters)
                try Terminal.write(note, to: 1)
            }
        }
    }

    struct Prove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "prove",
            abstract: "Get a receipt: proof that a record is in the ledger that the replicas have signed.",
            discussion: """
                The receipt (C2SP tlog-proof) is for a stored checkpoint; when none covers the record yet, one is made. \
                With the record's bytes and the cluster's keys it can be checked anywhere, at any time.

                Examples:
                  ftnode audit prove --org lab-a --sequence 17 --output r17.proof --record r17.json
                  ftnode audit check-receipt r17.proof --keys lab-a.policy --record r17.json
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("The record's number.", valueName: "n"))
        var sequence: UInt64
        @Option(help: ArgumentHelp("For the stored checkpoint of this size.", valueName: "records"))
        var size: UInt64?
        @Option(help: ArgumentHelp("Where to write the receipt (default: standard output).", valueName: "file"))
        var output: String?
        @Option(help: ArgumentHelp("Also write the record's bytes there.", valueName: "file"))
        var record: String?

        mutating func run() async throws {
            let (org, sequence, size) = (self.org, self.sequence, self.size)
            let (output, record) = (self.output, self.record)
            try await self.connection.withClient { client in
                let receipt = try await client.receipt(org, sequence: sequence, size: size)
                if let record {
                    try Self.write(try await client.recordBytes(org, sequence: sequence), to: record)
                }
                guard let output else { return try Terminal.write(receipt, to: 1) }
                try Self.write(receipt, to: output)
                Terminal.out("wrote \(output)\n")
            }
        }

        private static func write(_ bytes: [UInt8], to path: String) throws {
            let text = String(decoding: bytes, as: UTF8.self)
            try WholeTextFile.write(text, to: path, for: .everybody, replacing: true)
        }
    }

    struct CheckReceipt: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "check-receipt",
            abstract: "Check a receipt with keys of your own; asks nobody.",
            discussion: """
                Exit 0: valid. 1: something was changed or forged. 3: too few have signed. 4: a file cannot be read.

                Example:
                  ftnode audit check-receipt r17.proof --keys lab-a.policy --record r17.json --origin prod/lab-a
                """
        )
        @Argument(help: "The receipt.")
        var receipt: String
        @Option(help: ArgumentHelp("A policy (C2SP tlog-policy), or public keys, one a line.", valueName: "file"))
        var keys: String
        @Option(help: ArgumentHelp("The record's bytes, as stored.", valueName: "file"))
        var record: String?
        @Option(help: ArgumentHelp("The log that is expected.", valueName: "cluster/organization"))
        var origin: String?

        mutating func run() throws {
            let bytesMax = 4 << 20
            let check = ReceiptCheck.check(
                receipt: Array(try WholeTextFile.read(self.receipt, bytesMax: bytesMax).utf8),
                keys: Array(try WholeTextFile.read(self.keys, bytesMax: bytesMax).utf8),
                record: try self.record.map { Array(try WholeTextFile.read($0, bytesMax: bytesMax).utf8) },
                origin: self.origin
            )
            for line in check.lines { Terminal.out(TextTable.printable(line) + "\n") }
            Terminal.out("\(check.verdict)\n")
            if check.verdict != .valid { throw ExitCode(check.verdict.rawValue) }
        }
    }
}
