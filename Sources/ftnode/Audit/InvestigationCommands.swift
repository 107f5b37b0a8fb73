internal import ArgumentParser
internal import NodeRuntime

extension AuditCommand {
    struct Investigations: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "investigations",
            abstract: "List, keep and delete investigations of an organization's own.",
            discussion: """
                A set of filters that is kept under a name, for everybody who reads the organization's ledger. Run one \
                with ftnode audit investigate NAME. Keeping and deleting are records of the organization.

                Examples:
                  ftnode audit investigations --org lab-a
                  ftnode audit investigations --org lab-a --save deletions --title "What was deleted" --filter action=delete
                  ftnode audit investigations --org lab-a --delete deletions
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("Keep the filters under this name.", valueName: "name"))
        var save: String?
        @Option(help: "What it is for, in one line.")
        var title = ""
        @Option(
            help: ArgumentHelp(
                "A filter of GET /v1/organizations/KEY/records, such as action=delete; may be repeated.",
                valueName: "name=value"
            )
        )
        var filter: [String] = []
        @Option(help: ArgumentHelp("Delete the one of this name.", valueName: "name"))
        var delete: String?
        @Option(help: "How to show them.")
        var format = TableOrJSON.table

        private var filters: [(String, String)] {
            self.filter.compactMap { text in
                text.firstIndex(of: "=").map { (String(text[..<$0]), String(text[text.index(after: $0)...])) }
            }
        }

        mutating func validate() throws {
            guard self.filters.count == self.filter.count else { throw ValidationError("a filter is NAME=VALUE") }
            guard self.save == nil || self.delete == nil else {
                throw ValidationError("give either --save or --delete")
            }
            guard (self.save == nil) == self.filter.isEmpty else {
                throw ValidationError("--save and --filter go together")
            }
        }

        mutating func run() async throws {
            let (org, title, filters, format) = (self.org, self.title, self.filters, self.format)
            let (save, delete) = (self.save, self.delete)
            try await self.connection.withClient { client in
                if let save {
                    let sequence = try await client.saveInvestigation(org, name: save, title: title, filters: filters)
                    return Terminal.out("\(save): kept, record \(sequence)\n")
                }
                if let delete {
                    let sequence = try await client.deleteInvestigation(org, name: delete)
                    return Terminal.out("\(delete): deleted, record \(sequence)\n")
                }
                let (json, list) = try await client.savedInvestigations(org)
                if format == .json { return try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                var table = TextTable(columns: ["name", "title", "filters", "by", "record"], right: [4])
                for one in list {
                    let filters = one.filters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
                    table.append([
                        one.name, one.title, filters.joined(separator: " "), one.lastActor, String(one.lastSequence),
                    ])
                }
                Terminal.out(table.rendered() + "\n")
            }
        }
    }
}
