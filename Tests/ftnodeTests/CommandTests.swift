internal import ArgumentParser
internal import Foundation
internal import Testing

@testable internal import ftnode

@Suite("The command line")
struct CommandTests {
    /// The exit code that `arguments` end with before anything is run; nil when they parse.
    private func parsingStatus(_ arguments: [String]) -> Int32? {
        do {
            _ = try FTNode.parseAsRoot(arguments)
            return nil
        } catch {
            return CommandRun.report(error)
        }
    }

    @Test(arguments: [
        ["dev", "--nodes", "5", "--port", "9000", "--data", "x", "--demo"], ["serve", "--config", "f", "--check"],
        ["serve", "--config", "f", "--set", "a=b", "--set", "c=d", "--parent", "1"],
        ["pki", "init", "--cluster", "c", "--out", "d", "--days", "3", "--force"],
        ["pki", "node", "--dir", "d", "--id", "1", "--host", "a", "--host", "::1"],
        ["pki", "client", "--dir", "d", "--name", "n"], ["pki", "show", "f"],
        ["cluster", "status", "--format", "json"],
        [
            "cluster", "add-node", "--id", "4", "--api", "a:1", "--peer", "a:2", "--region", "n", "--priority", "1",
            "--wait",
        ],
        ["cluster", "remove-node", "4", "--wait", "--wait-timeout", "9"], ["cluster", "replace-node", "2", "4"],
        ["cluster", "transfer-leader", "--group", "0", "--to", "2"], ["cluster", "rebalance", "--wait"],
        ["cluster", "place", "--group", "3", "--nodes", "1,2,4"], ["cluster", "drain", "3"],
        ["cluster", "cordon", "3"],
        ["cluster", "uncordon", "3"], ["cluster", "recover", "--config", "f", "--survivors", "1,2", "--yes"],
        ["org", "create", "lab-a", "--name", "L"], ["org", "list"],
        ["token", "create", "--role", "writer", "--org", "lab-a"], ["token", "create", "--role", "operator"],
        ["token", "list"], ["token", "revoke", "x"], ["import", "-", "--create-organizations", "--timeout", "5"],
        [
            "audit", "log", "--org", "lab-a", "--entity-type", "t", "--entity-id", "i", "--limit", "3", "--format",
            "csv",
        ],
        ["audit", "verify", "--org", "a", "--org", "b", "--context", "c"],
        ["audit", "investigations", "--org", "a", "--format", "json"],
        ["audit", "investigations", "--org", "a", "--save", "n", "--title", "t", "--filter", "action=delete"],
        ["audit", "investigations", "--org", "a", "--delete", "n"],
        ["audit", "export", "--org", "a", "--output", "f", "--reveal"],
        ["query", "select 1", "--org", "a", "--consistency", "a=3", "--format", "arrow", "--output", "f"], ["version"],
    ])
    func takesWhatItsHelpSays(arguments: [String]) { #expect(self.parsingStatus(arguments) == nil) }

    @Test(arguments: [
        ["bogus"], ["serve"], ["serve", "--config"], ["dev", "--nodes", "0"], ["dev", "--nodes", "8"],
        ["dev", "--port", "70000"], ["dev", "--nodes", "three"], ["pki", "node", "--dir", "d"],
        ["cluster", "status", "--format", "xml"], ["cluster", "add-node", "--id", "4", "--api", "a:1"],
        ["cluster", "add-node", "--id", "0", "--api", "a:1", "--peer", "a:2"],
        ["cluster", "add-node", "--id", "4", "--api", "a", "--peer", "a:2"], ["cluster", "remove-node"],
        ["cluster", "remove-node", "x"], ["cluster", "replace-node", "2", "2"], ["cluster", "replace-node", "2"],
        ["cluster", "transfer-leader", "--group", "-1", "--to", "2"], ["cluster", "transfer-leader", "--group", "1"],
        ["cluster", "place", "--group", "0", "--nodes", "1"], ["cluster", "place", "--group", "1", "--nodes", "1,1"],
        ["cluster", "drain", "3", "--wait-timeout", "0"], ["cluster", "recover", "--config", "f"],
        ["cluster", "recover", "--config", "f", "--survivors", "1,,2"], ["org", "create"], ["org", "create", "Lab A"],
        ["token", "create", "--role", "king"], ["token", "create", "--role", "writer"],
        ["token", "create", "--role", "operator", "--org", "a"], ["import"], ["import", "f", "--timeout", "0"],
        ["audit", "log"], ["audit", "log", "--org", "a", "--limit", "0"], ["query"],
        ["audit", "investigations", "--org", "a", "--save", "n"],
        ["audit", "investigations", "--org", "a", "--save", "n", "--filter", "action"],
        ["audit", "investigations", "--org", "a", "--save", "n", "--filter", "a=b", "--delete", "n"],
        ["query", "select 1", "--consistency", "strong"], ["query", "select 1", "--unknown"],
    ])
    func wrongUsageEndsWithTwo(arguments: [String]) { #expect(self.parsingStatus(arguments) == 2) }

    @Test(
        .timeLimit(.minutes(10)),
        arguments: [
            [], ["dev"], ["serve"], ["pki", "init"], ["pki", "node"], ["pki", "client"], ["pki", "show"],
            ["cluster", "status"], ["cluster", "add-node"], ["cluster", "remove-node"], ["cluster", "replace-node"],
            ["cluster", "transfer-leader"], ["cluster", "place"], ["cluster", "rebalance"], ["cluster", "drain"],
            ["cluster", "cordon"], ["cluster", "uncordon"], ["cluster", "recover"], ["org", "create"], ["org", "list"],
            ["token", "create"], ["token", "list"],
            ["token", "revoke"], ["import"], ["audit", "log"], ["audit", "verify"], ["query"], ["version"],
        ]
    )
    func everyCommandHasHelp(path: [String]) async { #expect(await CommandRun.run(path + ["--help"]) == 0) }

    @Test(.timeLimit(.minutes(10))) func refusalsEndWithOne() async {
        #expect(await CommandRun.run(["cluster", "status", "--context", "/nonexistent/client.yaml"]) == 1)
        #expect(await CommandRun.run(["serve", "--config", "/nonexistent/node.yaml"]) == 1)
        #expect(await CommandRun.run(["serve", "--config", "/nonexistent/node.yaml", "--check"]) == 1)
        #expect(await CommandRun.run(["pki", "show", "/nonexistent.pem"]) == 1)
        #expect(
            await CommandRun.run(["cluster", "recover", "--config", "/nonexistent/node.yaml", "--survivors", "1"]) == 1
        )
        #expect(await CommandRun.run(["version"]) == 0)
    }

    @Test func csvQuotesWhatMustBeQuoted() {
        #expect(CSVLine.text(["a", "b,c", "d\"e", "f\ng", ""]) == "a,\"b,c\",\"d\"\"e\",\"f\ng\",\n")
    }
}
