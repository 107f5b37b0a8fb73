internal import ArgumentParser
internal import NodeRuntime

extension AuditCommand {
    /// `--entity TYPE/ID`.
    struct EntityArgument: ExpressibleByArgument, Sendable {
        let type: String
        let id: String

        init?(argument: String) {
            guard let slash = argument.firstIndex(of: "/"), slash != argument.startIndex else { return nil }
            self.type = String(argument[..<slash])
            self.id = String(argument[argument.index(after: slash)...])
            if self.id.isEmpty { return nil }
        }
    }

    struct State: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "state",
            abstract: "Show an entity, or all of an organization, as it was at a moment.",
            discussion: """
                The state is folded from the records: what they say was there before and after.

                Examples:
                  ftnode audit state --org lab-a --entity sample/S-17
                  ftnode audit state --org lab-a --entity sample/S-17 --as-of 2026-05-16T14:22:11Z
                  ftnode audit state --org lab-a --as-of 1200
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("Only this entity.", valueName: "type/id"))
        var entity: EntityArgument?
        @Option(
            help: ArgumentHelp("The moment: a sequence, or a time of RFC 3339 (default: now).", valueName: "moment")
        )
        var asOf: String?
        @Option(help: "Only entities of this type.")
        var entityType: String?
        @Option(help: "Most entities to show (at most 1000).")
        var limit: Int?
        @Option(help: ArgumentHelp("Entities after this one.", valueName: "type/id"))
        var after: String?
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let parameters: [(String, String?)] = [
                ("as_of", self.asOf), ("entity_type", self.entityType), ("limit", self.limit.map { String($0) }),
                ("after", self.after),
            ]
            let (org, entity, format) = (self.org, self.entity, self.format)
            let path = ["entities"] + (entity.map { [$0.type, $0.id] } ?? [])
            let given = parameters.compactMap { name, value in value.map { (name, $0) } }
            try await self.connection.withClient { client in
                let bytes = try await client.organizationResource(org, path: path, parameters: given)
                switch format {
                case .json: try Terminal.write(bytes + [UInt8(ascii: "\n")], to: 1)
                case .table:
                    Terminal.out(try entity == nil ? HistoryText.entities(bytes) : HistoryText.entity(bytes))
                }
            }
        }
    }

    struct Diff: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "diff",
            abstract: "Show what changed between two moments.",
            discussion: """
                Examples:
                  ftnode audit diff --org lab-a --entity sample/S-17 --from 10 --to 200
                  ftnode audit diff --org lab-a --from 2026-05-16T00:00:00Z
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("Only this entity.", valueName: "type/id"))
        var entity: EntityArgument?
        @Option(help: ArgumentHelp("The earlier moment: a sequence or a time.", valueName: "moment"))
        var from: String
        @Option(help: ArgumentHelp("The later moment (default: now).", valueName: "moment"))
        var to: String?
        @Option(help: "How to show it.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let (org, format) = (self.org, self.format)
            let path = self.entity.map { ["entities", $0.type, $0.id, "diff"] } ?? ["diff"]
            let parameters = [("from", self.from)] + (self.to.map { [("to", $0)] } ?? [])
            try await self.connection.withClient { client in
                let bytes = try await client.organizationResource(org, path: path, parameters: parameters)
                switch format {
                case .json: try Terminal.write(bytes + [UInt8(ascii: "\n")], to: 1)
                case .table: Terminal.out(try HistoryText.differences(bytes))
                }
            }
        }
    }

    struct Rebuild: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rebuild",
            abstract: "Fold every replica's ledger into an empty store and compare with what is stored.",
            discussion: """
                Every node folds the records of its replica, and the rows of its columnar store, each into an empty \
                state. Both must be equal, have the stored root, be what the tables entities and entity_history hold, and \
                be equal on all replicas. Nothing is changed. \
                Exit 1 when anything differs or a replica cannot be reached.

                Example:
                  ftnode audit rebuild --check --org lab-a
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Flag(help: "Compare only; needed, as nothing else is offered.")
        var check = false
        @Option(help: ArgumentHelp("Only this organization; may be repeated.", valueName: "key"))
        var org: [String] = []
        @Option(help: "How to show it; json prints one organization a line.")
        var format = TableOrJSON.table

        mutating func validate() throws {
            if !self.check {
                throw ValidationError(
                    "give --check: columnar stores are rebuilt by the nodes themselves when they fail"
                )
            }
        }

        mutating func run() async throws {
            let (organizations, format) = (self.org, self.format)
            try await self.connection.withClient { client in
                var summary = RebuildSummary()
                try await client.rebuild(organizations: organizations) { json, view in
                    summary.add(view)
                    if format == .json { try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                }
                if format == .table { Terminal.out(summary.text) }
                if !summary.isGood { throw ExitCode(ExitStatus.refused) }
            }
        }
    }

    struct Investigate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "investigate",
            abstract: "Answer a question that auditors ask again and again.",
            discussion: """
                sample-history          everything that concerns one sample (--entity-id)
                protocol-approvals      who submitted, approved, rejected, signed and finalized protocols
                contamination-timeline  contaminations and the events, alerts and escalations around them
                user-actions            everything that one user did (--actor)
                workflow-changes        how workflows were made, changed, approved and retired
                NAME                    one that the organization keeps: ftnode audit investigations

                Examples:
                  ftnode audit investigate sample-history --org lab-a --entity-id S-17
                  ftnode audit investigate user-actions --org lab-a --actor jane.smith --format csv
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Argument(help: "The investigation.")
        var name: String
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: "The entity that it is about.")
        var entityID: String?
        @Option(help: "The actor that it is about.")
        var actor: String?
        @Option(help: ArgumentHelp("Only records recorded at or after this time (RFC 3339).", valueName: "time"))
        var from: String?
        @Option(help: ArgumentHelp("Only records recorded before this time (RFC 3339).", valueName: "time"))
        var to: String?
        @Flag(name: .customLong("desc"), help: "Newest first.")
        var isDescending = false
        @Option(help: "Most records to show (default: all).")
        var limit: Int?
        @Option(help: "How to show them.")
        var format = LogFormat.table

        mutating func run() async throws {
            let filters: [(String, String?)] = [
                ("entity_id", self.entityID), ("actor", self.actor), ("from", self.from), ("to", self.to),
            ]
            var query = AuditLogQuery(
                organization: self.org,
                filters: filters.compactMap { name, value in value.map { (name, $0) } }
            )
            query.investigation = self.name
            query.isDescending = self.isDescending
            query.limit = self.limit
            try await Log.show(query, format: self.format, self.connection)
        }
    }
}
