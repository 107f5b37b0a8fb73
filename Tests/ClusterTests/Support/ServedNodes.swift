internal import Crypto
internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import Primitives

/// Certificates, configurations and data of nodes that tests start one by one with `ftnode serve`.
struct ServedNodes: Sendable {
    /// What a node's configuration says besides what is the same for all.
    struct Settings: Sendable {
        var clusterID = "lab"
        /// Ids of all members; more than one have three replicas.
        var members = [1]
        /// Lines that are added to the configuration.
        var extra = ""
    }

    let folder: TestFolder
    let settings: Settings
    let basePort: Int
    let token = "ft_" + String(repeating: "5e", count: 32)

    /// Makes the CA, a certificate for each member, and a place for each member's data.
    init(_ folder: TestFolder, _ settings: Settings = Settings()) throws {
        self.folder = folder
        self.settings = settings
        let offsets = settings.members + settings.members.map { $0 + 100 }
        self.basePort = try LoopbackPorts.base(offsets: offsets)
        let now = SystemTime.now()
        try self.pki.initialize(cluster: settings.clusterID, days: 100, now: now, replacing: false)
        for node in settings.members { try self.issueCertificate(node, now: now, days: 10) }
        for node in settings.members { try self.writeConfiguration(node) }
    }

    var pki: PKIFolder { PKIFolder(path: self.folder.file("pki-\(self.settings.clusterID)")) }
    var authorization: String { "Bearer \(self.token)" }
    func apiPort(_ node: Int) -> Int { self.basePort + node }
    func peerPort(_ node: Int) -> Int { self.basePort + node + 100 }
    func dataFolder(_ node: Int) -> String { self.folder.file("data-\(self.settings.clusterID)-\(node)") }
    func configurationFile(_ node: Int) -> String { self.folder.file("\(self.settings.clusterID)-\(node).yaml") }

    func issueCertificate(_ node: Int, now: Timestamp, days: Int) throws {
        try self.pki.issueNode(
            NodeID(UInt64(node)),
            hosts: PKIFolder.defaultHosts,
            days: days,
            now: now,
            replacing: true
        )
    }

    private func writeConfiguration(_ node: Int) throws {
        let members = self.settings.members.map {
            "    - {id: \($0), api: \"127.0.0.1:\(self.apiPort($0))\", peer: \"127.0.0.1:\(self.peerPort($0))\"}\n"
        }.joined()
        let files = "\(self.pki.path)/node-\(node)"
        let hash = SHA256.hash(data: Array(self.token.utf8)).map { String(format: "%02x", $0) }.joined()
        let text = """
            cluster:
              id: \(self.settings.clusterID)
              replicas: \(self.settings.members.count > 1 ? 3 : 1)
              data_groups: 2
              nodes:
            \(members)node: {id: \(node), data: \(self.dataFolder(node))}
            api: {listen: "127.0.0.1:\(self.apiPort(node))", certificate: \(files).pem, key: \(files).key}
            peer: {listen: "127.0.0.1:\(self.peerPort(node))", certificate: \(files).pem, key: \(files).key, ca: \(self.pki.caFile)}
            auth: {bootstrap_token_sha256: "\(hash)"}
            \(self.settings.extra)

            """
        try self.folder.write(Array(text.utf8), to: "\(self.settings.clusterID)-\(node).yaml")
    }

    /// Starts a node; returns as soon as the process runs.
    func launch(_ node: Int, _ overrides: [String] = []) async throws -> ChildProgram {
        try await ChildProgram.start(
            Programs.ftnode,
            ["serve", "--config", self.configurationFile(node)] + overrides.flatMap { ["--set", $0] }
        )
    }

    /// Starts a node and waits until it serves.
    func start(_ node: Int) async throws -> ChildProgram {
        let program = try await self.launch(node)
        try await program.line(containing: "serving")
        return program
    }

    /// Waits, by the client's own retries, until the nodes know all leaders.
    func waitUntilReady(_ nodes: [Int]) async throws {
        for node in nodes {
            try await self.withClient([node]) { client in
                var request = APIRequest(.get, "/readyz")
                request.budget = .seconds(30)
                _ = try await client.send(request)
            }
        }
    }

    /// Runs `body` with a client that names `nodes`.
    func withClient<R>(_ nodes: [Int], _ body: (ClusterClient) async throws -> R) async throws -> R {
        let client = try ClusterClient(
            context: ClientContext(
                addresses: nodes.map { .init(host: "127.0.0.1", port: self.apiPort($0)) },
                caFile: self.pki.caFile,
                token: self.token
            )
        )
        defer { client.close() }
        return try await body(client)
    }
}
