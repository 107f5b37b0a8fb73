internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import Synchronization
internal import Testing

/// Organizations, records and tokens that the tests of refusals need; made once for each cluster.
struct Bench: Sendable {
    /// The organization that bad requests are sent to; it has ``records`` records, and must keep exactly these.
    static let organization = "checks"
    static let records = 3
    /// An organization of which the tokens below know nothing.
    static let hidden = "hidden"

    let cluster: DevCluster
    let reader: String
    let writer: String
    let auditor: String
    /// A token of ``hidden`` only.
    let stranger: String

    /// That of the present shared cluster.
    private static let made = Mutex<Bench?>(nil)

    /// The bench of the shared cluster, made by the first test that asks; one test asks at a time.
    static func prepare() async throws -> Bench {
        let cluster = try #require(DevCluster.shared)
        if let bench = self.made.withLock({ $0 }), bench.cluster === cluster { return bench }
        let bench = try await self.make(cluster)
        self.made.withLock { $0 = bench }
        return bench
    }

    private static func make(_ cluster: DevCluster) async throws -> Bench {
        try await cluster.withClient { client in
            let present = try await client.organizations().list.map(\.key)
            if !present.contains(self.organization) {
                try await client.createOrganization(key: self.organization, name: nil)
                try await client.createOrganization(key: self.hidden, name: nil)
                for number in 1...self.records {
                    let reply = try await cluster.send(
                        "POST",
                        "/v1/organizations/\(self.organization)/records",
                        body: self.event("\"entity_id\":\"sound-\(number)\"")
                    )
                    try #require(reply.status == 201, "\(reply)")
                }
            }
            func token(_ role: String, _ organization: String) async throws -> String {
                let made = try await client.createToken(role: role, organizations: [organization], name: role)
                return "Bearer " + (try #require(made.token))
            }
            return Bench(
                cluster: cluster,
                reader: try await token("reader", self.organization),
                writer: try await token("writer", self.organization),
                auditor: try await token("auditor", self.organization),
                stranger: try await token("reader", self.hidden)
            )
        }
    }

    /// A sound event with further or other members.
    static func event(_ members: String) -> String {
        let base = ["action": "checked", "entity_type": "thing", "entity_id": "1"]
        let rest = base.filter { !members.contains("\"\($0.key)\":") }
        return "{" + rest.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\"\($0.value)\"," }.joined() + members + "}"
    }

    static var recordsPath: String { "/v1/organizations/\(self.organization)/records" }
}

/// A request that must be refused, and how.
struct BadRequest: Sendable, CustomTestStringConvertible {
    var name: String
    var method = "GET"
    var path: String
    var contentType: String?
    var body: [UInt8]?
    var idempotencyKey: String?
    var status: Int
    var code: String
    var line: Int?
    var pointer: String?
    var limit: Int?
    var hasPosition = false

    var testDescription: String { self.name }

    /// Sends it and checks everything that is promised of a refusal: the document, its ids, and that nothing changed.
    func check(_ bench: Bench, authorization: String? = nil, node: Int = 1) async throws {
        let connection = try #require(bench.cluster.connections[node])
        let reply = try await connection.send(
            self.method,
            self.path,
            authorization: authorization ?? bench.cluster.authorization,
            contentType: self.contentType,
            idempotencyKey: self.idempotencyKey,
            body: self.body
        )
        #expect(reply.status == self.status, "\(self.name): \(reply)")
        try reply.requireProblem(self.code, self.name)
        let problem = try reply.decode(APIConnection.ProblemDocument.self)
        if let line = self.line { #expect(problem.line == line, "\(self.name): \(reply)") }
        if let pointer = self.pointer { #expect(problem.pointer == pointer, "\(self.name): \(reply)") }
        if let limit = self.limit { #expect(problem.limit == limit, "\(self.name): \(reply)") }
        if self.hasPosition { #expect(problem.position != nil, "\(self.name): \(reply)") }
        let size = try await bench.cluster.clientRecords(of: Bench.organization, node: node)
        #expect(size == Bench.records, "\(self.name) changed the ledger")
    }
}

extension APIConnection.Reply {
    /// Checks that this is a whole problem document of `code`.
    func requireProblem(_ code: String, _ what: String) throws {
        #expect(self.fields[.contentType] == "application/problem+json", "\(what): \(self)")
        let problem = try #require(try? self.decode(APIConnection.ProblemDocument.self), "\(what): \(self)")
        #expect(problem.code == code, "\(what): \(self)")
        #expect(problem.status == self.status, "\(what): \(self)")
        #expect(problem.type == "urn:flasktrack:problem:\(code)", "\(what): \(self)")
        #expect(!problem.title.isEmpty && !problem.detail.isEmpty, "\(what): \(self)")
        #expect(!problem.requestId.isEmpty, "\(what): \(self)")
        #expect(self.fields[.requestID] == problem.requestId, "\(what): \(self)")
    }
}

extension HTTPField.Name {
    /// `request-id`, the header that names a request in a node's log.
    static let requestID: HTTPField.Name = {
        guard let name = HTTPField.Name("request-id") else { preconditionFailure("a valid name") }
        return name
    }()
}
