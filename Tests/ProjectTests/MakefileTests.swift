internal import Foundation
internal import Testing

/// What a Makefile says of itself.
struct MakefileText {
    let text: String

    var targets: Set<String> {
        get throws { Set(try self.text.matches(#"^([a-z][a-z-]*):(?!=)"#)) }
    }
    var phony: Set<String> {
        get throws {
            Set(try self.text.matches(#"^\.PHONY: (.*)$"#).flatMap { $0.split(separator: " ").map(String.init) })
        }
    }
    /// Targets that `make help` shows.
    var described: Set<String> {
        get throws { Set(try self.text.matches(#"^([a-z-]+):.*## "#)) }
    }
    var scripts: [String] {
        get throws { try self.text.matches(#"(scripts/[a-z0-9_-]+\.[a-z]+)"#) }
    }
}

@Suite("Makefile")
struct MakefileTests {
    @Test
    func helpListsEveryTarget() throws {
        let makefile = MakefileText(text: try Repository.text("Makefile"))
        #expect(try makefile.described == makefile.targets)
        #expect(try makefile.phony == makefile.targets)
        #expect(try makefile.targets.isSuperset(of: ["help", "run", "test", "bench", "lint", "format", "clean"]))
    }

    @Test
    func aTargetWithoutDescriptionIsSeen() throws {
        let makefile = MakefileText(text: ".PHONY: run\nrun: ## start\n\tx\nhidden:\n\ty\nX := 1\n")
        #expect(try makefile.targets == ["run", "hidden"])
        #expect(try makefile.described == ["run"])
    }

    @Test
    func callsOnlyScriptsThatExist() throws {
        for script in try MakefileText(text: Repository.text("Makefile")).scripts {
            #expect(Repository.exists(script), "\(script)")
        }
    }

    @Test
    func continuousIntegrationCallsMakeOnly() throws {
        let commands = try Repository.text(".ci/run").split(separator: "\n").filter {
            !$0.hasPrefix("#") && !$0.hasPrefix("set ") && !$0.hasPrefix("cd ")
        }
        #expect(commands == ["make test", "exec make chaos-quick"])
    }

    @Test
    func whatIsBuiltIsIgnored() throws {
        let lines = Set(try Repository.text(".gitignore").split(separator: "\n").map(String.init))
        for line in [".build/", ".build-*/", ".duckdb", ".flasktrack/", "Package.resolved"] {
            #expect(lines.contains(line), "\(line)")
        }
    }

    @Test(arguments: [
        "scripts/setup.sh", "scripts/fetch-duckdb.sh", "scripts/check-rules.sh", "scripts/bench.sh", ".ci/run",
    ])
    func scriptsCanBeExecuted(_ path: String) {
        #expect(FileManager.default.isExecutableFile(atPath: Repository.root.appendingPathComponent(path).path))
    }
}
