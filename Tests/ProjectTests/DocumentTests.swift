internal import Foundation
internal import Testing

/// The names of all configuration keys, read from the sources.
enum ConfigurationNames {
    static func all() throws -> Set<String> {
        let source = try Repository.text("Sources/NodeRuntime/Configuration/ConfigurationKey.swift")
        return Set(try source.matches(#"ConfigurationKey\(\s*"([a-z]+\.[a-z0-9_]+)""#))
    }
}

@Suite("Documents")
struct DocumentTests {
    /// Targets of relative links, without their anchors.
    static func links(_ text: String) throws -> [String] {
        try text.matches(#"\]\(((?!https?:|mailto:|#)[^)\s]+)\)"#).map { String($0.prefix { $0 != "#" }) }
    }

    /// Paths of this repository in backticks.
    static func paths(_ text: String) throws -> [String] {
        try text.matches(
            #"`((?:Sources|Tests|Benchmarks|Documentation|scripts|cluster-configs|\.ci)/[A-Za-z0-9_./-]+)`"#
        )
    }

    @Test
    func everyRelativeLinkLeadsSomewhere() throws {
        for document in try Repository.documents() {
            let folder = URL(fileURLWithPath: document).deletingLastPathComponent().relativePath
            for link in try Self.links(Repository.text(document)) {
                #expect(Repository.exists(folder == "." ? link : folder + "/" + link), "\(document): \(link)")
            }
        }
        #expect(try Self.links("[a](b.md#c) [d](https://e) [f](#g)") == ["b.md"])
    }

    @Test
    func everyPathExists() throws {
        for document in try Repository.documents() {
            for path in try Self.paths(Repository.text(document)) {
                #expect(Repository.exists(path), "\(document): \(path)")
            }
        }
        #expect(try Self.paths("`scripts/none.sh` and `Sources/<Module>/X`") == ["scripts/none.sh"])
    }

    @Test
    func everyMakeTargetExists() throws {
        let targets = try MakefileText(text: Repository.text("Makefile")).targets
        for document in try Repository.documents() {
            for target in try Repository.text(document).matches(#"(?:^|`)make ([a-z-]+)"#) {
                #expect(targets.contains(target), "\(document): make \(target)")
            }
        }
        #expect(!targets.contains("all"))
    }

    @Test
    func operationsExplainsEveryConfigurationKey() throws {
        let keys = try ConfigurationNames.all()
        #expect(keys.count > 10)
        let explained = Set(try Repository.text("Documentation/operations.md").matches(#"^\| `([a-z]+\.[a-z0-9_]+)`"#))
        #expect(explained == keys.union(["cluster.nodes"]))
    }

    @Test
    func theAPIDocumentHasEveryErrorCode() throws {
        let source = try Repository.text("Sources/NodeRuntime/API/Problem.swift")
        let listed =
            source.components(separatedBy: "enum Code").dropFirst().first?.components(separatedBy: "var ").first ?? ""
        let codes =
            try listed.matches(#"^ +case `?[a-zA-Z0-9]+`? = "([a-z0-9_]+)"$"#)
            + listed.matches(#"^ +case `?([a-z]+)`?$"#)
        #expect(codes.count > 20)
        let document = try Repository.text("Documentation/api.md")
        #expect(codes.filter { !document.contains("`\($0)`") } == [])
    }

    @Test
    func decisionsAreNumberedWithoutGapsAndListed() throws {
        let files = try Repository.files(below: "Documentation/decisions", ending: ".md")
            .map { URL(fileURLWithPath: $0).lastPathComponent }
            .filter { $0 != "README.md" }
        let list = try Repository.text("Documentation/decisions/README.md")
        for (index, file) in files.enumerated() {
            #expect(file.hasPrefix(String(format: "%04d-", index + 1)), "\(file)")
            let isListed = list.contains("(\(file))")
            #expect(isListed, "\(file)")
            let text = try Repository.text("Documentation/decisions/\(file)")
            let missing = ["## Context", "## Decision", "## Consequences"].filter { !text.contains($0) }
            #expect(missing == [], "\(file)")
        }
        #expect(files.count >= 7)
    }

    @Test
    func everyModuleHasALineInContributing() throws {
        let text = try Repository.text("CONTRIBUTING.md")
        let modules = try FileManager.default.contentsOfDirectory(
            atPath: Repository.root.appendingPathComponent("Sources").path
        )
        let missing = try modules.filter { try !$0.hasPrefix(".") && text.matches(#"^\| .*\b(\#($0))\b"#).isEmpty }
        #expect(missing == [])
    }
}
