internal import ArgumentParser
internal import NodeRuntime

/// Options of a command about one data subject.
struct SubjectOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The organization.", valueName: "key"))
    var org: String
    @Option(help: ArgumentHelp("The data subject, by the pseudonym that records use.", valueName: "text"))
    var subject: String
}

extension AuditCommand {
    struct Subjects: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "subjects",
            abstract: "Show the data subjects of an organization: whose personal data is kept, held or erased.",
            discussion: """
                Examples:
                  ftnode audit subjects --org lab-a
                  ftnode audit subjects --org lab-a --format json
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: "How to show them; json prints one a line.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let (org, format) = (self.org, self.format)
            try await self.connection.withClient { client in
                var table = TextTable(columns: ["subject", "state", "held", "values", "record"], right: [3, 4])
                try await client.subjects(org) { json, subject in
                    if format == .json { return try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                    let record = subject.eraseCompleted ?? subject.eraseRequested
                    table.append([
                        subject.subject, subject.state, subject.held ? "yes" : "no", String(subject.values),
                        record.map { String($0) } ?? "-",
                    ])
                }
                if format == .table { Terminal.out(table.rendered() + "\n") }
            }
        }
    }

    struct Erase: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "erase",
            abstract: "Erase a data subject: its personal values can never be read again.",
            discussion: """
                The sealed values are deleted and every replica destroys the keys; records, checksums and proofs stay as \
                they are. This cannot be undone. --wait returns when every replica has confirmed.

                Example:
                  ftnode audit erase --org lab-a --subject p-1077 --basis "GDPR Art. 17(1)(b)" --wait
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var target: SubjectOptions
        @Option(help: "On what right the erasure stands.")
        var basis: String
        @Option(help: "Why, for the record.")
        var reason: String?
        @Flag(help: "Wait until every replica has destroyed the keys.")
        var wait = false
        @Option(help: ArgumentHelp("How long to wait.", valueName: "seconds"))
        var timeout = 120

        mutating func validate() throws {
            if self.timeout < 1 { throw ValidationError("--timeout must be at least 1") }
        }

        mutating func run() async throws {
            let (org, subject) = (self.target.org, self.target.subject)
            let (basis, reason, wait, timeout) = (self.basis, self.reason, self.wait, self.timeout)
            try await self.connection.withClient { client in
                let change = try await client.eraseSubject(org, subject: subject, basis: basis, reason: reason)
                Terminal.out("erasure of \(TextTable.printable(subject)) is record \(change.sequence ?? 0)\n")
                guard wait else { return }
                guard let done = try await client.erased(org, subject: subject, within: .seconds(timeout)) else {
                    Terminal.out("not every replica has confirmed yet; the cluster goes on\n")
                    throw ExitCode(ExitStatus.refused)
                }
                Terminal.out("complete: record \(done)\n")
            }
        }
    }

    struct Hold: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hold",
            abstract: "Put a legal hold on a data subject, which cannot be erased meanwhile, or lift it.",
            discussion: """
                Examples:
                  ftnode audit hold --org lab-a --subject p-1077 --reason "case 12/26"
                  ftnode audit hold --org lab-a --subject p-1077 --release
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var target: SubjectOptions
        @Option(help: "Why, for the record.")
        var reason: String?
        @Flag(help: "Lift the hold.")
        var release = false

        mutating func run() async throws {
            let (org, subject) = (self.target.org, self.target.subject)
            let (reason, isOn) = (self.reason, !self.release)
            try await self.connection.withClient { client in
                let change = try await client.holdSubject(org, subject: subject, isOn: isOn, reason: reason)
                let record = change.sequence.map { ": record \($0)" } ?? " already"
                Terminal.out("\(TextTable.printable(subject)) is \(isOn ? "held" : "not held")\(record)\n")
            }
        }
    }

    struct Reveal: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reveal",
            abstract: "Show a record with its personal values; that they were seen is recorded.",
            discussion: "Example:\n  ftnode audit reveal --org lab-a --sequence 17"
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("The record's number.", valueName: "n"))
        var sequence: UInt64

        mutating func run() async throws {
            let (org, sequence) = (self.org, self.sequence)
            try await self.connection.withClient { client in
                let json = try await client.organizationResource(
                    org,
                    path: ["records", String(sequence)],
                    parameters: [("reveal", "true")]
                )
                try Terminal.write(json + [UInt8(ascii: "\n")], to: 1)
            }
        }
    }
}
