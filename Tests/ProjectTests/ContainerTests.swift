internal import Foundation
internal import Testing

/// What the container files name.
enum ContainerFiles {
    /// Paths of the checkout that a Dockerfile copies.
    static func copied(_ dockerfile: String) throws -> [String] {
        try dockerfile.matches(#"^COPY (?!--from)(.+) \S+$"#).flatMap { $0.split(separator: " ").map(String.init) }
    }

    /// A node of a compose file: the configuration it mounts, and the port that its health check asks.
    struct Service: Equatable {
        var configuration: String
        var port: String
    }

    static func services(_ compose: String) throws -> [Service] {
        try compose.components(separatedBy: "\n\n").compactMap { block in
            guard let file = try block.matches(#"- \./(\S+?):/etc/ftnode/ftnode\.yaml"#).first,
                let port = try block.matches(#"https://127\.0\.0\.1:(\d+)/readyz"#).first
            else { return nil }
            return Service(configuration: file, port: port)
        }
    }

    /// True when the configuration listens for clients on `port`.
    static func listens(_ configuration: String, onAPIPort port: String) throws -> Bool {
        try configuration.matches(#"^api:\n  listen: "?[^"\n]*:(\d+)"?$"#) == [port]
    }

    /// Long options of `ftnode` that a text uses.
    static func flags(_ text: String) throws -> Set<String> {
        let commands = try text.matches(
            #"\b(ftnode (?:serve|dev|pki|cluster|org|import|audit|query|token)\b[^\n|;&]*)"#
        )
        return Set(try commands.flatMap { try $0.matches(#"(--[a-z][a-z-]+)"#) })
    }

    /// True when a command of these sources declares the option.
    static func declares(_ sources: String, flag: String) throws -> Bool {
        let name = flag.dropFirst(2)
        let words = name.split(separator: "-")
        let variable = words.enumerated().map { $0.offset == 0 ? String($0.element) : $0.element.capitalized }.joined()
        let declared = #"@(?:Option|Flag)[\s\S]{0,400}?\bvar (\#(variable))\b"#
        return try !sources.matches(declared).isEmpty || sources.contains("\"\(name)\"") || sources.contains(flag)
    }
}

@Suite("Container files")
struct ContainerTests {
    static let containers = ["Dockerfile", "docker-compose.yml"]

    @Test
    func everyCopiedPathExists() throws {
        let copied = try ContainerFiles.copied(Repository.text("Dockerfile"))
        #expect(copied.contains("Sources"))
        for path in copied { #expect(Repository.exists(path), "\(path)") }
        #expect(try ContainerFiles.copied("COPY --from=build /a /b\nCOPY x y ./\n") == ["x", "y"])
    }

    @Test
    func whatIsCopiedIsNotIgnored() throws {
        let ignored = Set(try Repository.text(".dockerignore").split(separator: "\n").map(String.init))
        #expect(Set(try ContainerFiles.copied(Repository.text("Dockerfile"))).isDisjoint(with: ignored))
        #expect(ignored.contains(".build"))
    }

    @Test
    func everyNodeIsAskedOnThePortOfItsConfiguration() throws {
        let services = try ContainerFiles.services(Repository.text("docker-compose.yml"))
        #expect(services.count == 3)
        for service in services {
            let configuration = try Repository.text(service.configuration)
            #expect(try ContainerFiles.listens(configuration, onAPIPort: service.port), "\(service)")
        }
        #expect(
            try !ContainerFiles.listens("api:\n  listen: \"127.0.0.1:1\"\npeer:\n  listen: \"h:2\"\n", onAPIPort: "2")
        )
    }

    @Test
    func everyPortOfTheContainerFilesIsInAConfiguration() throws {
        let configurations = try Repository.files(below: "cluster-configs/three-nodes", ending: ".yaml")
            .map(Repository.text).joined()
        let known = Set(try configurations.matches(#":(\d{4,5})\b"#))
        var named = Set(try Repository.text("docker-compose.yml").matches(#"127\.0\.0\.1:(\d+)"#))
        named.formUnion(
            try Repository.text("Dockerfile").matches(#"^EXPOSE (.*)$"#).flatMap {
                $0.split(separator: " ").map(String.init)
            }
        )
        #expect(named.count >= 4)
        #expect(named.subtracting(known) == [])
    }

    @Test
    func everyEnvironmentVariableIsAConfigurationKey() throws {
        let keys = try ConfigurationNames.all()
        let known = Set(keys.map { "FTNODE_" + $0.uppercased().replacingOccurrences(of: ".", with: "_") })
        for file in Self.containers {
            for name in try Repository.text(file).matches(#"\b(FTNODE_[A-Z0-9_]+)\b"#) {
                #expect(known.contains(name), "\(file): \(name)")
            }
        }
    }

    @Test
    func everyFlagIsDeclaredByACommand() throws {
        let sources = try Repository.files(below: "Sources/ftnode", ending: ".swift").map(Repository.text).joined()
        let files =
            Self.containers + [
                "Makefile", "README.md", "cluster-configs/README.md", "scripts/bench.sh", "Documentation/operations.md",
            ]
        for file in files {
            let flags = try ContainerFiles.flags(Repository.text(file)).sorted()
            let undeclared = try flags.filter { try !ContainerFiles.declares(sources, flag: $0) }
            #expect(undeclared == [], "\(file)")
        }
    }

    @Test
    func aFlagThatNoCommandDeclaresIsSeen() throws {
        let sources = "@Option(help: \"x\")\n    var peerPort: Int\n"
        #expect(
            try ContainerFiles.flags("exec ftnode serve --config F --peer-port 1\nother --no") == [
                "--config", "--peer-port",
            ]
        )
        #expect(try ContainerFiles.declares(sources, flag: "--peer-port"))
        #expect(try !ContainerFiles.declares(sources, flag: "--config"))
    }
}
