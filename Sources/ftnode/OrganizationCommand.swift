internal import ArgumentParser
internal import NodeRuntime
internal import Primitives

/// The organizations of the cluster.
struct OrganizationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "org",
        abstract: "Create and list organizations.",
        discussion: """
            Examples:
              ftnode org create lab-a --name "Laboratory A"
              ftnode org list
            """,
        subcommands: [Create.self, List.self]
    )

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "create", abstract: "Create an organization.")
        @OptionGroup var connection: ConnectionOptions
        @Argument(help: "Its key: 1 to 63 of a-z 0-9 -, with a letter or digit first and last.")
        var key: String
        @Option(help: "Its name (default: the key).")
        var name: String?

        mutating func validate() throws {
            guard OrganizationKey(self.key) != nil else {
                throw ValidationError("KEY must be 1 to 63 of a-z 0-9 -, with a letter or digit first and last")
            }
        }

        mutating func run() async throws {
            let (key, name) = (self.key, self.name)
            try await self.connection.withClient { client in
                let made = try await client.createOrganization(key: key, name: name)
                Terminal.out("created organization \(made.key) in group \(made.group)\n")
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List the organizations that the token may see."
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "How to show them.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let format = self.format
            try await self.connection.withClient { client in
                let (json, list) = try await client.organizations()
                guard format == .table else { return try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                var table = TextTable(columns: ["key", "name", "group", "created"], right: [2])
                for organization in list {
                    table.append([
                        organization.key, organization.name, String(organization.group), organization.createdAt,
                    ])
                }
                Terminal.out(
                    (table.isEmpty ? "" : table.rendered() + "\n")
                        + "\(list.count) organization\(list.count == 1 ? "" : "s")\n"
                )
            }
        }
    }
}

/// The tokens of the cluster.
struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Create, list and revoke tokens.",
        discussion: """
            Examples:
              ftnode token create --role writer --org lab-a --name "bench scanner"
              ftnode token create --role auditor --org lab-a --org lab-b
              ftnode token revoke 7f3a
            """,
        subcommands: [Create.self, List.self, Revoke.self]
    )

    enum Role: String, ExpressibleByArgument, CaseIterable {
        case `operator`
        case writer
        case reader
        case auditor
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create",
            abstract: "Create a token; it is shown this once."
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "What it may do.")
        var role: Role
        @Option(help: ArgumentHelp("An organization it is for; may be repeated.", valueName: "key"))
        var org: [String] = []
        @Option(help: "What it is called in the list.")
        var name: String?
        @Flag(help: "Print the token alone.")
        var quiet = false

        mutating func validate() throws {
            if self.role == .operator, !self.org.isEmpty { throw ValidationError("an operator's token takes no --org") }
            if self.role != .operator, self.org.isEmpty {
                throw ValidationError("--org must be given for a \(self.role.rawValue)")
            }
        }

        mutating func run() async throws {
            let (role, organizations, name, quiet) = (self.role.rawValue, self.org, self.name, self.quiet)
            try await self.connection.withClient { client in
                let made = try await client.createToken(role: role, organizations: organizations, name: name)
                guard let token = made.token else {
                    throw CommandFailure(
                        "the cluster made token \(made.id) but did not return it; revoke it and try again"
                    )
                }
                Terminal.out(token + "\n")
                if !quiet { Terminal.note("token \(made.id) (\(made.role)); it is not shown again") }
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "list", abstract: "List tokens, without secrets.")
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "How to show them.")
        var format = TableOrJSON.table

        mutating func run() async throws {
            let format = self.format
            try await self.connection.withClient { client in
                let (json, list) = try await client.tokens()
                guard format == .table else { return try Terminal.write(json + [UInt8(ascii: "\n")], to: 1) }
                var table = TextTable(columns: ["id", "role", "organizations", "name", "created"])
                for token in list {
                    let organizations = token.organizations ?? []
                    table.append([
                        token.id, token.role, organizations.isEmpty ? "all" : organizations.joined(separator: ", "),
                        token.name ?? "", token.createdAt ?? "",
                    ])
                }
                Terminal.out(
                    (table.isEmpty ? "" : table.rendered() + "\n")
                        + "\(list.count) token\(list.count == 1 ? "" : "s")\n"
                )
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "revoke", abstract: "Make a token useless.")
        @OptionGroup var connection: ConnectionOptions
        @Argument(help: "The token's id, as list shows it.")
        var id: String

        mutating func run() async throws {
            let id = self.id
            try await self.connection.withClient { client in
                try await client.revokeToken(id: id)
                Terminal.out("revoked token \(TextTable.printable(id))\n")
            }
        }
    }
}
