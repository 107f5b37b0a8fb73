internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import Testing

/// A cluster started by `ftnode dev`, each node a process of its own.
final class DevCluster: Sendable {
    /// The shared cluster of the suite that a test belongs to; see ``SharedClusterTrait``.
    @TaskLocal static var shared: DevCluster?

    let folder: TestFolder
    let root: String
    let nodes: Int
    let port: Int
    let program: ChildProgram
    let token: String
    /// One connection to each node, by id.
    let connections: [Int: APIConnection]

    private init(_ folder: TestFolder, nodes: Int, port: Int, _ program: ChildProgram) throws {
        self.folder = folder
        self.root = folder.file("dev")
        self.nodes = nodes
        self.port = port
        self.program = program
        self.token = try String(contentsOfFile: self.root + "/tokens/operator.token", encoding: .utf8)
        let caFile = self.root + "/pki/ca.pem"
        self.connections = try Dictionary(
            uniqueKeysWithValues: (1...nodes).map { ($0, try APIConnection(port: port + $0 - 1, caFile: caFile)) }
        )
    }

    /// Starts a cluster, new or on the data of an earlier one, and waits until all nodes are ready.
    static func start(
        in folder: TestFolder,
        nodes: Int = 3,
        again earlier: DevCluster? = nil,
        recordsReadings: Bool = false
    ) async throws -> DevCluster {
        let offsets = Array(0..<nodes) + (0..<nodes).map { $0 + 100 }
        let port = try earlier?.port ?? LoopbackPorts.base(offsets: offsets)
        let arguments =
            ["dev", "--data", folder.file("dev")]
            + (earlier == nil ? ["--nodes", "\(nodes)", "--port", "\(port)"] : [])
        // Tests read as operators all the time, and count records.
        let environment = ["FTNODE_AUDIT_RECORD_READINGS": recordsReadings ? "on" : "off"]
        let program = try await ChildProgram.start(Programs.ftnode, arguments, environment: environment)
        try await program.line(containing: "Ctrl-C stops everything")
        return try DevCluster(folder, nodes: nodes, port: port, program)
    }

    /// Runs `body` with a cluster of its own.
    static func with(_ purpose: String, _ body: (DevCluster) async throws -> Void) async throws {
        try await withFolder(purpose) { folder in
            let cluster = try await self.start(in: folder)
            do {
                try await body(cluster)
            } catch {
                await cluster.stop()
                throw error
            }
            await cluster.stop()
        }
    }

    /// Stops all nodes in good order.
    @discardableResult
    func stop() async -> ChildProgram.Ending {
        for connection in self.connections.values { connection.close() }
        return await self.program.stop()
    }

    var contextFile: String { self.root + "/client.yaml" }
    var caFile: String { self.root + "/pki/ca.pem" }
    var authorization: String { "Bearer \(self.token)" }
    func dataFolder(_ node: Int) -> String { "\(self.root)/nodes/\(node)/data" }
    func peerPort(_ node: Int) -> Int { self.port + node - 1 + 100 }

    /// Runs `body` with a client that names all nodes.
    func withClient<R>(_ body: (ClusterClient) async throws -> R) async throws -> R {
        let client = try ClusterClient(context: ClientContext.load(path: self.contextFile))
        defer { client.close() }
        return try await body(client)
    }

    /// Runs a client command against all nodes.
    func ftnode(_ arguments: String...) async throws -> (ending: ChildProgram.Ending, output: String) {
        try await ChildProgram.run(Programs.ftnode, arguments, environment: ["FTNODE_CONTEXT": self.contextFile])
    }

    /// Sends one request as the operator.
    func send(
        _ method: String,
        _ path: String,
        node: Int = 1,
        contentType: String? = nil,
        body: String? = nil
    ) async throws -> APIConnection.Reply {
        let connection = try #require(self.connections[node])
        return try await connection.send(
            method,
            path,
            authorization: self.authorization,
            contentType: contentType ?? (body == nil ? nil : "application/json"),
            body: body.map { Array($0.utf8) }
        )
    }

    /// How many records the organization has: what a linearizable read sees.
    func size(of organization: String, node: Int = 1) async throws -> Int {
        struct Page: Decodable {
            struct Entry: Decodable {
                struct Record: Decodable { var sequence: Int }
                var record: Record
            }
            var records: [Entry]
        }
        let reply = try await self.send(
            "GET",
            "/v1/organizations/\(organization)/records?order=desc&limit=1",
            node: node
        )
        try #require(reply.status == 200, "\(reply)")
        return try reply.decode(Page.self).records.first?.record.sequence ?? 0
    }

    /// How many records of an organization clients have made: those by which the cluster itself says who was refused or
    /// read what are left out. At most 1000.
    func clientRecords(of organization: String, node: Int = 1) async throws -> Int {
        struct Page: Decodable {
            struct Entry: Decodable {
                struct Record: Decodable { var action: String }
                var record: Record
            }
            var records: [Entry]
        }
        let own = ["authorization_denied", "restricted_attempt", "read_ledger"]
        let reply = try await self.send("GET", "/v1/organizations/\(organization)/records?limit=1000", node: node)
        try #require(reply.status == 200, "\(reply)")
        return try reply.decode(Page.self).records.count { !own.contains($0.record.action) }
    }

    /// All records of an organization, page by page: sequence, and `line` of its `after`.
    func records(of organization: String, node: Int = 1) async throws -> [(sequence: Int, line: Int?)] {
        struct After: Decodable { var line: Int? }
        struct Record: Decodable {
            var sequence: Int
            var after: After?
        }
        struct Entry: Decodable { var record: Record }
        struct Page: Decodable {
            var records: [Entry]
            var next: String?
        }
        var found: [(Int, Int?)] = []
        var cursor: String?
        repeat {
            let suffix = cursor.map { "&cursor=\($0)" } ?? ""
            let reply = try await self.send(
                "GET",
                "/v1/organizations/\(organization)/records?limit=1000\(suffix)",
                node: node
            )
            try #require(reply.status == 200, "\(reply)")
            let page = try reply.decode(Page.self)
            found += page.records.map { ($0.record.sequence, $0.record.after?.line) }
            cursor = page.next
        } while cursor != nil
        return found
    }
}

/// Gives the tests of a suite one cluster, started before the first and stopped after the last.
struct SharedClusterTrait: SuiteTrait, TestScoping {
    @concurrent
    func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        try await DevCluster.with("shared") { cluster in
            try await DevCluster.$shared.withValue(cluster) { try await function() }
        }
    }
}

extension Trait where Self == SharedClusterTrait {
    /// One cluster for all tests of the suite.
    static var sharedCluster: Self { Self() }
}
