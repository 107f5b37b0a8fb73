internal import ArgumentParser
internal import Foundation
internal import Linearizability
internal import NIOCore
internal import NodeRuntime
internal import Primitives

/// Clusters of real processes that are hurt: what their clients see, and how fast they recover.
@main
struct ChaosCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chaos",
        abstract: "Hurts clusters of real processes, judges what clients saw, and measures recovery.",
        subcommands: [RunCommand.self, FailoverCommand.self, RestartCommand.self, CatchUpCommand.self],
        defaultSubcommand: RunCommand.self
    )
}

/// Runs a cluster of real processes, hurts it, and judges what its clients saw.
struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Hurts a cluster of real processes and checks that its clients' histories are linearizable.",
        discussion: """
            Starts nodes, each in a network namespace and on a small volume of its own where this machine allows it,
            runs clients on many organizations, and kills, pauses, cuts off, slows, fills, replaces and restarts nodes.
            Exits with 0 when every history is linearizable and every replica verifies. Needs root for namespaces and
            volumes; without it, links are not cut and disks not filled.
            """
    )

    @Option(help: "How long clients work and nodes are hurt, in seconds.")
    var seconds = 60

    @Option(help: "What all chance comes from; drawn and printed when absent.")
    var seed: UInt64?

    @Option(help: "Nodes of the cluster.")
    var nodes = 5

    @Option(help: "Organizations, each with a history of its own.")
    var organizations = 8

    @Option(help: "Clients, each with one request at a time.")
    var clients = 16

    @Option(help: "Size of each node's volume in memory, in MiB; 0 for none.")
    var volume = 384

    @Option(help: "The ftnode to run.")
    var ftnode: String

    @Option(help: "Where everything of the run lies; must not exist.")
    var folder: String

    @Flag(help: "Keep the folder even when all is well.")
    var keep = false

    func run() async throws {
        var entropy = SystemRandomNumberGenerator()  // ambient-ok: the seed of the run, printed
        let seed = self.seed ?? entropy.next()
        Report.line(
            "chaos: seed \(seed), \(self.nodes) nodes, \(self.organizations) organizations, \(self.clients) clients"
        )
        try FileManager.default.createDirectory(atPath: self.folder, withIntermediateDirectories: true)
        let cluster = try await ClusterUnderTest(
            folder: URL(fileURLWithPath: self.folder).path,
            ftnode: self.ftnode,
            nodes: self.nodes,
            dataGroups: 4,
            volumeMegabytes: self.volume > 0 ? self.volume : nil,
            network: await Network.make(mark: String(getpid() % 10_000), subnet: Int(seed % 200))
        )
        let run = ChaosRun(command: self, cluster: cluster, seed: seed)
        let failures = await run.perform()
        if failures.isEmpty {
            Report.line("chaos: all histories linearizable, all replicas verified")
            if !self.keep { try? FileManager.default.removeItem(atPath: self.folder) }
            return
        }
        for failure in failures { Report.line("chaos: FAILED: \(failure)") }
        Report.line("chaos: logs and data stay in \(self.folder); again: --seed \(seed)")
        throw ExitCode(1)
    }
}

/// One run: start, work under faults, heal, judge.
struct ChaosRun {
    let command: RunCommand
    let cluster: ClusterUnderTest
    let seed: UInt64
    private let clock = ContinuousClock()  // ambient-ok: the harness measures real time

    init(command: RunCommand, cluster: ClusterUnderTest, seed: UInt64) {
        self.command = command
        self.cluster = cluster
        self.seed = seed
    }

    /// - Returns: What is wrong.
    func perform() async -> [String] {
        var failures: [String] = []
        var everUsed = Array(1...self.command.nodes)
        do {
            try self.cluster.startAll()
            if !self.cluster.network.isIsolated { Report.line("chaos: no namespaces here: links are not cut") }
            let organizations = (1...self.command.organizations).map { "org-\($0)" }
            try await self.createOrganizations(organizations)
            let workload = Workload(
                organizations: organizations,
                context: self.cluster.context,
                patience: .seconds(60)
            )
            let startedAt = self.clock.now
            let deadline = startedAt + .seconds(self.command.seconds)
            var nemesis = Nemesis(cluster: self.cluster, seed: self.seed) { what in
                let passed = startedAt.duration(to: self.clock.now).components.seconds
                Report.line("chaos: \(passed) s: \(what)")
            }
            let (count, seed) = (self.command.clients, self.seed)
            let clients = Task { await workload.run(clients: count, seed: seed) }  // task-owner: awaited below
            await nemesis.run(until: deadline, clock: self.clock)
            everUsed = nemesis.everUsed
            workload.stop()
            await clients.value
            failures += nemesis.problems
            for (fault, count) in nemesis.done.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
                Report.line("chaos:   \(fault.rawValue): \(count)")
            }
            failures += self.judge(workload)
            failures += await self.verify()
        } catch {
            failures.append("\(error)")
        }
        await self.cluster.stopAll()
        await self.cluster.remove(everUsed: everUsed)
        return failures
    }

    private func createOrganizations(_ organizations: [String]) async throws {
        let client = try ClusterClient(context: self.cluster.context)
        defer { client.close() }
        for organization in organizations {
            try await client.createOrganization(key: organization, name: nil, budget: .seconds(60), mayExist: true)
        }
    }

    private func judge(_ workload: Workload) -> [String] {
        var failures: [String] = []
        let totals = workload.totals
        Report.line(
            "chaos: \(totals.appends) appends, \(totals.reads) linearizable reads, \(totals.unknown) appends of unknown "
                + "outcome, \(totals.refused) reads refused, slowest \(totals.slowest)"
        )
        if totals.appends == 0 || totals.reads == 0 { failures.append("no append or no read succeeded") }
        for (organization, history) in workload.history.sorted(by: { $0.key < $1.key }) {
            switch LinearizabilityChecker.check(history, of: LedgerModel.self) {
            case .linearizable: break
            case .violation(let prefix, let stuckAt):
                let shown = stuckAt.prefix(8).map { "\(history[$0])" }.joined(separator: "\n    ")
                failures.append(
                    "\(organization): \(history.count) operations are not linearizable; \(prefix) explained, then one of\n"
                        + "    \(shown)"
                )
            case .undecided(let steps): failures.append("\(organization): undecided after \(steps) steps")
            }
        }
        return failures
    }

    /// Every record of every replica, once the cluster has healed.
    private func verify() async -> [String] {
        let limit = self.clock.now + .seconds(90)
        var last = ""
        while self.clock.now < limit {
            for node in self.cluster.nodes.values where !node.isRunning { try? node.start() }
            do {
                let answer = try await self.cluster.command("audit", "verify")
                if answer.status == 0 { return [] }
                last = answer.output
            } catch {
                last = "\(error)"
            }
            // Replicas that were down are still catching up.
            try? await Task.sleep(for: .seconds(1))
        }
        return ["audit verify stayed red for 90 s after all was healed:\n\(last)"]
    }
}
