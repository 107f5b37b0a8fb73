internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOFoundationCompat
internal import Transport

/// Our own cluster, as its API shows it.
struct Cluster: Sendable {
    let context: ClientContext
    let connections: Connections

    private struct Status: Decodable {
        struct Node: Decodable {
            var id: Int
            var address: String
            var pid: Int?
        }
        struct Group: Decodable {
            var id: Int
            var leader: Int?
        }
        var nodes: [Node]
        var groups: [Group]
    }

    private struct Organization: Decodable {
        var group: Int
    }

    /// Where an organization's commands are ordered.
    struct Placement: Sendable {
        var key: String
        var leader: Endpoint?
    }

    /// Creates the organizations that do not exist yet and finds the node that leads each one's group.
    func place(_ keys: [String]) async throws -> [Placement] {
        for key in keys {
            let answer = try await self.send(
                .post,
                "/v1/organizations",
                type: "application/json",
                body: ByteBuffer(string: #"{"key":"\#(key)"}"#)
            )
            guard [201, 409].contains(answer.head.status.code) else { throw Self.refusal(answer) }
        }
        let status = try await self.get("/v1/cluster", as: Status.self)
        var placements: [Placement] = []
        for key in keys {
            let organization = try await self.get("/v1/organizations/\(key)", as: Organization.self)
            let leader = status.groups.first { $0.id == organization.group }?.leader
            let address = status.nodes.first { $0.id == leader }?.address
            placements.append(Placement(key: key, leader: try address.map { try Endpoint($0) }))
        }
        return placements
    }

    /// The processes of the nodes.
    func processes() async throws -> [Int] {
        try await self.get("/v1/cluster", as: Status.self).nodes.compactMap(\.pid)
    }

    /// The processes that nodes have started: workers, which run the columnar stores.
    static func children(of processes: [Int]) -> [Int] {
        processes.flatMap { process in
            let file = "/proc/\(process)/task"
            let threads = (try? FileManager.default.contentsOfDirectory(atPath: file)) ?? []
            return threads.flatMap { thread in
                let text = (try? String(contentsOfFile: "\(file)/\(thread)/children", encoding: .utf8)) ?? ""
                return text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
            }
        }
    }

    /// The body of a GET that must succeed.
    func body(of path: String) async throws -> ByteBuffer {
        let answer = try await self.send(.get, path)
        guard answer.head.status == .ok else { throw Self.refusal(answer) }
        return answer.body
    }

    private func get<Value: Decodable>(_ path: String, as type: Value.Type) async throws -> Value {
        try JSONDecoder().decode(type, from: try await self.body(of: path))
    }

    private func send(
        _ method: HTTPRequest.Method,
        _ path: String,
        type: String? = nil,
        body: ByteBuffer? = nil
    ) async throws -> (head: HTTPResponse, body: ByteBuffer, trailers: HTTPFields?) {
        let target = self.connections.pick(0)
        let head = self.head(method, path, type: type, endpoint: target.endpoint)
        return try await target.connection.exchange(head, body: body.map { .bytes($0) } ?? .none)
    }

    /// A request's head with the token.
    func head(_ method: HTTPRequest.Method, _ path: String, type: String?, endpoint: Endpoint) -> HTTPRequest {
        var fields = HTTPFields()
        fields[.authorization] = "Bearer \(self.context.token)"
        if let type { fields[.contentType] = type }
        return HTTPRequest(
            method: method,
            scheme: "https",
            authority: endpoint.authority,
            path: path,
            headerFields: fields
        )
    }

    /// Posts a body and expects `status`.
    func post(
        _ path: String,
        type: String,
        body: ByteBuffer,
        expecting status: HTTPResponse.Status,
        over target: Connections.Target
    ) async throws -> ByteBuffer {
        let answer = try await self.exchange(path, type: type, body: body, expecting: status, over: target)
        return answer.body
    }

    /// The header in which an answer names its plan.
    static let planHeader = HTTPField.Name("flasktrack-plan")!

    /// Posts a body and expects `status`; the answer's head and body.
    func exchange(
        _ path: String,
        type: String,
        body: ByteBuffer,
        expecting status: HTTPResponse.Status = .ok,
        over target: Connections.Target
    ) async throws -> (head: HTTPResponse, body: ByteBuffer) {
        let head = self.head(.post, path, type: type, endpoint: target.endpoint)
        let answer = try await target.connection.exchange(head, body: .bytes(body))
        guard answer.head.status == status else { throw Self.refusal(answer) }
        return (answer.head, answer.body)
    }

    private static func refusal(_ answer: (head: HTTPResponse, body: ByteBuffer, trailers: HTTPFields?)) -> BenchError {
        let detailMax = 300
        let detail = String(decoding: answer.body.readableBytesView.prefix(detailMax), as: UTF8.self)
        return BenchError(.refused, "status \(answer.head.status.code): \(detail)")
    }
}
