internal import ArgumentParser
internal import Foundation
internal import NodeRuntime
internal import Primitives

/// Runs a whole cluster on this machine.
struct DevCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dev",
        abstract: "Run a cluster on this machine, each node a process of its own.",
        discussion: """
            Makes certificates, an operator token and configurations below the data folder, starts the nodes, and \
            writes DIR/client.yaml when all are ready. A node that dies is started again after five seconds. Ctrl-C \
            stops everything; the next start brings back the same ports, data and token.

            Examples:
              ftnode dev
              ftnode dev --nodes 5 --port 9443 --data /tmp/five --demo
            """
    )

    @Option(help: ArgumentHelp("How many nodes, 1 to \(DevLayout.nodesMax) (default: 3).", valueName: "n"))
    var nodes: Int?
    @Option(help: ArgumentHelp("The folder that everything is kept in.", valueName: "dir"))
    var data = ".flasktrack/dev"
    @Option(
        help: ArgumentHelp(
            "API port of the first node (default: 8443); the others follow, peer ports are 100 higher.",
            valueName: "p"
        )
    )
    var port: Int?
    @Option(help: ArgumentHelp("Replication groups for organizations, 1 to 4096 (default: 8).", valueName: "n"))
    var dataGroups: Int?
    @Flag(help: "Import a small generated demo when the cluster is empty.")
    var demo = false

    mutating func validate() throws {
        if let nodes = self.nodes, !(1...DevLayout.nodesMax).contains(nodes) {
            throw ValidationError("--nodes must be 1 to \(DevLayout.nodesMax)")
        }
        if let groups = self.dataGroups, !(1...4096).contains(groups) {
            throw ValidationError("--data-groups must be 1 to 4096")
        }
        if let port = self.port, !(1...65_000).contains(port) { throw ValidationError("--port must be 1 to 65000") }
    }

    mutating func run() async throws {
        let root = FilePaths.resolve(self.data, against: FilePaths.working)
        try WholeTextFile.makeFolder(root, for: .everybody)
        let lock = try DevLock(root: root)
        defer { withExtendedLifetime(lock) {} }
        let existing = try DevRecord.read(root: root)
        let record = try DevRecord.choose(
            existing: existing,
            nodes: self.nodes,
            port: self.port,
            dataGroups: self.dataGroups,
            root: self.data
        )
        let layout = DevLayout(
            root: root,
            nodeCount: record.nodes,
            port: record.port,
            dataGroups: record.dataGroups
        )
        try await LeftNodes.await(layout)
        try Self.requireFreePorts(layout)
        try layout.prepare(now: SystemTime.now())
        try record.write(root: root)
        let signals = StopSignals()
        var supervisor = try DevSupervisor(layout: layout, signals: signals)
        Terminal.out("starting \(layout.nodeCount) node\(layout.nodeCount == 1 ? "" : "s") …\n")
        do {
            if try await supervisor.startAll() {
                try layout.writeClientFile()
                if self.demo { try await DevDemo.importOnce(layout) }
                Terminal.out(DevText.welcome(layout, shownRoot: self.data, executable: CommandLine.arguments[0]))
                try await supervisor.watch()
            }
        } catch {
            await supervisor.stopAll()
            throw error
        }
        Terminal.out("stopping …\n")
        await supervisor.stopAll()
        Terminal.out("stopped; the data is in \(self.data)\n")
    }

    private static func requireFreePorts(_ layout: DevLayout) throws {
        guard let taken = layout.ports.first(where: { !PortProbe.isFree($0) }) else { return }
        throw CommandFailure("port \(taken) is in use; stop what listens there, or choose another with --port")
    }
}

/// The generated demo.
enum DevDemo {
    /// Imports the demo unless the cluster has an organization already.
    static func importOnce(_ layout: DevLayout) async throws {
        let client = try ClusterClient(context: ClientContext.load(path: layout.clientFile))
        defer { client.close() }
        guard try await client.organizations().list.isEmpty else { return }
        try WholeTextFile.write(DemoEvents.ndjson(), to: layout.demoFile, for: .everybody, replacing: true)
        for organization in DemoEvents.organizations {
            try await client.createOrganization(key: organization.key, name: organization.name)
        }
        let run = ImportRun(client: client, createsOrganizations: false, timeout: .seconds(30))
        let outcome = await run.run(try LineSource(path: layout.demoFile)) { _ in }
        if let failure = outcome.failure { throw failure }
        Terminal.out(
            "demo data, generated: \(outcome.progress.acknowledged) records of "
                + "\(outcome.progress.organizations.count) organizations (\(layout.demoFile))\n"
        )
    }
}

/// What is printed when all nodes are ready.
enum DevText {
    static func welcome(_ layout: DevLayout, shownRoot: String, executable: String) -> String {
        let nodes = layout.nodes.map { node in
            "  node \(node)          https://\(layout.apiAddress(node))   log \(shownRoot)/nodes/\(node)/node.log\n"
        }.joined()
        let program = "\(executable)"
        let context = "--context \(shownRoot)/client.yaml"
        let sql = "select organization, action, count(*) from audit_log group by all order by all"
        return """

            \(layout.nodeCount == 1 ? "1 node is" : "\(layout.nodeCount) nodes are") ready:

            \(nodes)
              CA              \(shownRoot)/pki/ca.pem
              operator token  \(shownRoot)/tokens/operator.token
              client context  \(shownRoot)/client.yaml

            Worth trying, in another terminal:

              \(program) cluster status \(context)
              \(program) audit verify \(context)
              \(program) query "\(sql)" \(context)

            Ctrl-C stops everything.

            """
    }
}
