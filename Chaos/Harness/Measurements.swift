internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import HTTPTypes
internal import NIOCore
internal import NodeRuntime
internal import Primitives

/// What all measurements need: three nodes on loopback with the times of a cluster in earnest.
struct MeasurementOptions: ParsableArguments {
    @Option(help: "The ftnode to run.")
    var ftnode: String

    @Option(help: "Where everything of the run lies; removed afterwards.")
    var folder: String

    /// Runs `body` with a cluster that serves, and takes it down whatever happens.
    func withCluster(dataGroups: Int, _ body: (MeasuredCluster) async throws -> Void) async throws {
        try FileManager.default.createDirectory(atPath: self.folder, withIntermediateDirectories: true)
        let cluster = try await ClusterUnderTest(
            folder: URL(fileURLWithPath: self.folder).path,
            ftnode: self.ftnode,
            nodes: 3,
            dataGroups: dataGroups,
            volumeMegabytes: nil,
            network: .loopback,
            raft: "raft: {tick_ms: 50, heartbeat_ticks: 2, election_ticks: 20}"
        )
        do {
            try cluster.startAll()
            try await body(MeasuredCluster(cluster: cluster))
        } catch {
            await cluster.stopAll()
            throw error
        }
        await cluster.stopAll()
        try? FileManager.default.removeItem(atPath: self.folder)
    }
}

/// A cluster with a clock beside it.
struct MeasuredCluster {
    let cluster: ClusterUnderTest
    let clock = ContinuousClock()  // ambient-ok: measurements are of real time

    /// A client that asks the given nodes only, in their order.
    func client(_ nodes: [Int]) throws -> ClusterClient {
        var context = self.cluster.context
        context.addresses = nodes.map {
            .init(host: self.cluster.network.address(of: $0), port: self.cluster.network.apiPort(of: $0))
        }
        return try ClusterClient(context: context)
    }

    func createOrganization(_ key: String) async throws -> OrganizationView {
        let client = try self.client([1, 2, 3])
        defer { client.close() }
        return try await client.createOrganization(key: key, name: nil, budget: .seconds(60), mayExist: true)
    }

    static func append(_ body: String, to organization: String, key: String, by client: ClusterClient) async throws {
        var request = APIRequest(.post, "/v1/organizations/\(organization)/records", body: ByteBuffer(string: body))
        request.idempotencyKey = key
        request.timeout = .seconds(10)
        request.budget = .seconds(60)
        if body.contains("\n") { request.contentType = "application/x-ndjson" }
        _ = try await client.send(request)
    }

    /// The leader of a group as the given nodes see it; waits until there is one.
    func leader(of group: Int, asking nodes: [Int]) async throws -> Int {
        let client = try self.client(nodes)
        defer { client.close() }
        while true {
            if let view = try? await client.status().view,
                let leader = view.groups.first(where: { $0.id == group })?.leader,
                nodes.contains(leader)
            {
                return leader
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Returns when the node answers `/readyz` with 200.
    func waitUntilReady(_ node: Int) async throws {
        while true {
            let client = try self.client([node])
            defer { client.close() }
            var request = APIRequest(.get, "/readyz")
            request.budget = .zero
            request.timeout = .seconds(2)
            if (try? await client.send(request)) != nil { return }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Lets `new` replace `old` as soon as it has joined.
    func replace(_ old: Int, by new: Int) async throws {
        let client = try self.client([1, 2])
        defer { client.close() }
        let triesMax = 1000
        for _ in 0..<triesMax {
            do {
                return try await client.replaceNode(id: old, by: new)
            } catch let error as ClientError {
                // Not in the table before it has joined, not active before it follows the system group.
                guard case .refused(let problem) = error.code, problem.hasPrefix("node_not_") else { throw error }
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Shell.Failure(description: "node \(new) has not joined")
    }

    /// Returns when `new` is a voter of every group, with everything that is committed, and `old` is none.
    func waitUntilMoved(_ old: Int, to new: Int) async throws {
        let client = try self.client([1, 2])
        defer { client.close() }
        while true {
            let groups = try await client.status().view.groups
            let isDone = groups.allSatisfy { group in
                let voters = group.replicas.filter { $0.part == "voter" }
                let isThere = voters.contains { $0.node == new && $0.lag == 0 }
                return group.joint != true && isThere && !voters.contains { $0.node == old }
            }
            if isDone { return }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Appends `count` records of about 600 bytes in batches, from eight clients to eight organizations.
    func load(_ count: Int) async throws {
        let organizations = (1...8).map { "load-\($0)" }
        for organization in organizations { _ = try await self.createOrganization(organization) }
        let padding = String(repeating: "x", count: 420)
        let batch = 500
        try await withThrowingDiscardingTaskGroup { group in
            for (place, organization) in organizations.enumerated() {
                let client = try self.client([place % 3 + 1, (place + 1) % 3 + 1, (place + 2) % 3 + 1])
                let batches = count / organizations.count / batch
                group.addTask {
                    defer { client.close() }
                    for number in 0..<batches {
                        let body = (0..<batch).map {
                            #"{"action":"measure","entity_type":"sample","entity_id":"s-\#($0)","#
                                + #""after":{"number":\#(number)},"reason":"\#(padding)"}"# + "\n"
                        }.joined()
                        try await Self.append(body, to: organization, key: "\(organization)-\(number)", by: client)
                    }
                }
            }
        }
    }
}

/// From the death of a leader to the next write that is accepted.
struct FailoverCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "failover",
        abstract: "Kills the leader again and again and measures the time to the next accepted write."
    )

    @OptionGroup var options: MeasurementOptions

    @Option(help: "How often the leader is killed.")
    var rounds = 30

    func run() async throws {
        try await self.options.withCluster(dataGroups: 1) { measured in
            let organization = try await measured.createOrganization("failover")
            var times: [Duration] = []
            for round in 0..<self.rounds {
                for node in 1...3 { try await measured.waitUntilReady(node) }
                let leader = try await measured.leader(of: organization.group, asking: [1, 2, 3])
                let others = [1, 2, 3].filter { $0 != leader }
                let client = try measured.client(others)
                try await MeasuredCluster.append(Self.event(round), to: "failover", key: "before-\(round)", by: client)
                measured.cluster.nodes[leader]?.signal(SIGKILL)
                let killedAt = measured.clock.now
                try await MeasuredCluster.append(Self.event(round), to: "failover", key: "after-\(round)", by: client)
                times.append(killedAt.duration(to: measured.clock.now))
                client.close()
                _ = await measured.cluster.nodes[leader]?.waitForEnd(.seconds(5))
                try measured.cluster.nodes[leader]?.start()
            }
            times.sort()
            let milliseconds = times.map { Int($0 / .milliseconds(1)) }
            Report.line(
                "failover of \(self.rounds): p50 \(milliseconds[milliseconds.count / 2]) ms, worst "
                    + "\(milliseconds[milliseconds.count - 1]) ms (election timeout 1000 ms)"
            )
            Report.line(
                #"{"failover":{"p50Milliseconds":\#(milliseconds[milliseconds.count / 2]),"worstMilliseconds":"#
                    + #"\#(milliseconds[milliseconds.count - 1]),"rounds":\#(self.rounds)}}"#
            )
        }
    }

    private static func event(_ number: Int) -> String {
        #"{"action":"measure","entity_type":"sample","entity_id":"s-\#(number)","after":{"round":\#(number)}}"#
    }
}

/// From the start of a process to its first `/readyz` that says yes.
struct RestartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restart",
        abstract: "Loads a cluster and measures how soon a node serves again, after a stop and after a kill."
    )

    @OptionGroup var options: MeasurementOptions

    @Option(help: "Records of the whole cluster.")
    var records = 1_000_000

    @Option(help: "How often each kind of restart is measured.")
    var rounds = 3

    func run() async throws {
        try await self.options.withCluster(dataGroups: 8) { measured in
            for node in 1...3 { try await measured.waitUntilReady(node) }
            try await measured.load(self.records)
            for (name, signal) in [("stop", SIGTERM), ("kill", SIGKILL)] {
                var times: [Int] = []
                for round in 0..<self.rounds {
                    let node = round % 3 + 1
                    guard let process = measured.cluster.nodes[node] else { continue }
                    process.signal(signal)
                    _ = await process.waitForEnd(.seconds(60))
                    let startedAt = measured.clock.now
                    try process.start()
                    try await measured.waitUntilReady(node)
                    times.append(Int(startedAt.duration(to: measured.clock.now) / .milliseconds(1)))
                    try await Task.sleep(for: .seconds(2))
                }
                Report.line("restart after \(name) with \(self.records) records: \(times) ms")
                Report.line(#"{"restart_after_\#(name)":{"records":\#(self.records),"milliseconds":\#(times)}}"#)
            }
        }
    }
}

/// How fast an empty replica gets everything.
struct CatchUpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catch-up",
        abstract: "Loads a cluster, replaces a lost node by an empty one and measures how fast that one catches up."
    )

    @OptionGroup var options: MeasurementOptions

    @Option(help: "Records of the whole cluster.")
    var records = 400_000

    private static let dataGroups = 8

    func run() async throws {
        try await self.options.withCluster(dataGroups: Self.dataGroups) { measured in
            for node in 1...3 { try await measured.waitUntilReady(node) }
            try await measured.load(self.records)
            let cluster = measured.cluster
            let (lost, new) = (3, 4)
            cluster.nodes[lost]?.signal(SIGKILL)
            // Elections are measured by themselves.
            for group in 0...Self.dataGroups { _ = try await measured.leader(of: group, asking: [1, 2]) }
            let startedAt = measured.clock.now
            try await cluster.add(new)
            try await measured.replace(lost, by: new)
            let memberAfter = startedAt.duration(to: measured.clock.now) / .milliseconds(1)
            try await measured.waitUntilMoved(lost, to: new)
            let took = startedAt.duration(to: measured.clock.now) / .milliseconds(1)
            await cluster.retire(lost)
            let bytes = Double(self.records) * Self.recordBytes
            let rate = bytes / 1e6 / (took / 1000)
            Report.line(
                String(
                    format:
                        "catch-up of an empty node: %.0f MB in %.1f s (%.1f s until it was a member), %.0f MB/s",
                    bytes / 1e6,
                    took / 1000,
                    memberAfter / 1000,
                    rate
                )
            )
            Report.line(
                #"{"catch_up":{"records":\#(self.records),"milliseconds":\#(Int(took)),"#
                    + #""memberMilliseconds":\#(Int(memberAfter)),"mbPerSecond":\#(Int(rate))}}"#
            )
            let verified = try await cluster.command("audit", "verify")
            guard verified.status == 0 else { throw Shell.Failure(description: verified.output) }
        }
    }

    /// Bytes of a record of ``MeasuredCluster/load(_:)`` in the ledger.
    private static let recordBytes = 1040.0
}
