internal import Crypto
internal import Foundation
internal import NodeRuntime
internal import Primitives

/// Five nodes as processes, their network, certificates and configurations.
final class ClusterUnderTest {
    static let clusterID = "chaos"

    let folder: String
    let ftnode: String
    let network: Network
    let dataGroups: Int
    private(set) var nodes: [Int: NodeProcess] = [:]
    private let seeds: [Int]
    private let shim: String?
    private let pki: PKIFolder
    private let token = "ft_" + String(repeating: "c4", count: 32)
    private let volumeMegabytes: Int?
    /// The line of the configuration with consensus' times.
    private let raft: String

    init(
        folder: String,
        ftnode: String,
        nodes count: Int,
        dataGroups: Int,
        volumeMegabytes: Int?,
        network: Network,
        raft: String = "raft: {tick_ms: 20, heartbeat_ticks: 2, election_ticks: 20}"
    ) async throws {
        self.raft = raft
        self.folder = folder
        self.ftnode = ftnode
        self.seeds = Array(1...count)
        self.dataGroups = dataGroups
        self.volumeMegabytes = volumeMegabytes
        self.network = network
        self.shim = await Self.buildShim(folder)
        self.pki = PKIFolder(path: folder + "/pki")
        try self.pki.initialize(cluster: Self.clusterID, days: 30, now: SystemTime.now(), replacing: false)
        for node in self.seeds { try await self.prepare(node, joinToken: nil) }
    }

    /// Compiles the library that makes syncs fail; nil when there is no compiler.
    private static func buildShim(_ folder: String) async -> String? {
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
        let library = folder + "/fsync_shim.so"
        for compiler in ["cc", "clang", "gcc"] {
            let command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source + "/Shim/fsync_shim.c", "-ldl"]
            if (try? await Shell.run(command)) != nil { return library }
        }
        return nil
    }

    var canFailSyncs: Bool { self.shim != nil }

    var context: ClientContext {
        ClientContext(
            addresses: self.nodes.keys.sorted().map {
                .init(host: self.network.address(of: $0), port: self.network.apiPort(of: $0))
            },
            caFile: self.pki.caFile,
            token: self.token
        )
    }

    var contextFile: String { self.folder + "/client.yaml" }

    /// Makes certificate, configuration, volume and namespace of a node.
    func prepare(_ node: Int, joinToken: String?) async throws {
        try await self.network.attach(node)
        try self.pki.issueNode(
            NodeID(UInt64(node)),
            hosts: [self.network.address(of: node), "localhost"],
            days: 10,
            now: SystemTime.now(),
            replacing: true
        )
        let folder = "\(self.folder)/node-\(node)"
        let command =
            self.network.prefix(of: node) + [self.ftnode, "serve", "--config", "\(folder)/node.yaml"]
        let process = try NodeProcess(id: node, folder: folder, command: command, shim: self.shim)
        if let megabytes = self.volumeMegabytes { await process.makeVolume(megabytes: megabytes) }
        try self.configuration(of: node, joinToken: joinToken).write(
            toFile: folder + "/node.yaml",
            atomically: true,
            encoding: .utf8
        )
        self.nodes[node] = process
        try ClientContext.text(
            addresses: self.nodes.keys.sorted().map {
                "\(self.network.address(of: $0)):\(self.network.apiPort(of: $0))"
            },
            caFile: self.pki.caFile,
            token: self.token
        ).write(toFile: self.contextFile, atomically: true, encoding: .utf8)
    }

    private func configuration(of node: Int, joinToken: String?) -> String {
        let known = joinToken == nil ? self.seeds : Set(self.nodes.keys).union([node]).sorted()
        let members = known.map {
            let address = self.network.address(of: $0)
            return "    - {id: \($0), api: \"\(address):\(self.network.apiPort(of: $0))\", "
                + "peer: \"\(address):\(self.network.peerPort(of: $0))\"}\n"
        }.joined()
        let files = "\(self.pki.path)/node-\(node)"
        let hash = SHA256.hash(data: Array(self.token.utf8)).map { String(format: "%02x", $0) }.joined()
        let address = self.network.address(of: node)
        return """
            cluster:
              id: \(Self.clusterID)
              replicas: \(min(3, self.seeds.count))
              data_groups: \(self.dataGroups)
            \(joinToken.map { "  join_token: \"\($0)\"\n" } ?? "")  nodes:
            \(members)node: {id: \(node), data: \(self.folder)/node-\(node)/data}
            api: {listen: "\(address):\(self.network.apiPort(of: node))", certificate: \(files).pem, key: \(files).key}
            peer: {listen: "\(address):\(self.network.peerPort(of: node))", certificate: \(files).pem, key: \(files).key, ca: \(self.pki.caFile)}
            auth: {bootstrap_token_sha256: "\(hash)"}
            \(self.raft)

            """
    }

    func startAll() throws {
        for node in self.nodes.values.sorted(by: { $0.id < $1.id }) { try node.start() }
    }

    /// Runs a command of `ftnode` against the cluster.
    func command(_ arguments: String...) async throws -> (status: Int32, output: String) {
        try await Shell.status([self.ftnode] + arguments + ["--context", self.contextFile])
    }

    /// Makes a new node known to the cluster, prepares and starts it.
    func add(_ node: Int) async throws {
        let added = try await self.command(
            "cluster",
            "add-node",
            "--id",
            "\(node)",
            "--api",
            "\(self.network.address(of: node)):\(self.network.apiPort(of: node))",
            "--peer",
            "\(self.network.address(of: node)):\(self.network.peerPort(of: node))"
        )
        guard added.status == 0, let token = added.output.firstMatch(of: /join_token: (\S+)/)?.1 else {
            throw Shell.Failure(description: "add-node \(node): \(added.output)")
        }
        try await self.prepare(node, joinToken: String(token))
        try self.nodes[node]?.start()
    }

    /// Puts `new` in the place of `old`; waits until it has joined, then until all is moved.
    func replace(_ old: Int, by new: Int) async throws {
        let triesMax = 120
        for _ in 0..<triesMax {
            let replaced = try await self.command(
                "cluster",
                "replace-node",
                "\(old)",
                "\(new)",
                "--wait",
                "--wait-timeout",
                "120"
            )
            if replaced.status == 0 { return }
            // Not in the table before it has joined.
            guard replaced.output.contains("node_not_found") || replaced.output.contains("node_not_available") else {
                throw Shell.Failure(description: "replace-node \(old) \(new): \(replaced.output)")
            }
            try await Task.sleep(for: .milliseconds(250))
        }
        throw Shell.Failure(description: "node \(new) has not joined within 30 s")
    }

    /// Takes a node that was removed from the cluster out of the test.
    func retire(_ node: Int) async {
        guard let process = self.nodes[node] else { return }
        process.signal(SIGKILL)
        _ = await process.waitForEnd(.seconds(10))
        await process.removeVolume()
        self.nodes[node] = nil
    }

    func stopAll() async {
        for node in self.nodes.values {
            node.signal(SIGCONT)
            node.signal(SIGTERM)
        }
        for node in self.nodes.values {
            if await !node.waitForEnd(.seconds(20)) { node.signal(SIGKILL) }
            _ = await node.waitForEnd(.seconds(5))
        }
    }

    /// Removes namespaces and volumes, also of nodes that were retired.
    func remove(everUsed nodes: [Int]) async {
        for node in self.nodes.values { await node.removeVolume() }
        await self.network.remove(nodes: nodes)
    }
}
