internal import HTTPTypes
internal import NIOCore
internal import Transport

/// A host and a port.
struct Endpoint: Sendable, Hashable {
    var host: String
    var port: Int

    /// Reads `https://host:port` or `host:port`.
    init(_ text: String) throws {
        var rest = text[...]
        if let scheme = rest.firstRange(of: "://") { rest = rest[scheme.upperBound...] }
        while rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]) else {
            throw BenchError(.badInput, "'\(text)' is not host:port")
        }
        self.host = String(rest[..<colon])
        self.port = port
    }

    var authority: String { "\(self.host):\(self.port)" }
}

/// A few open connections that many clients share.
struct Connections: Sendable {
    typealias Target = (endpoint: Endpoint, connection: HTTPClientConnection)

    private let all: [Target]
    private let byEndpoint: [Endpoint: [Target]]

    private init(_ all: [Target]) {
        self.all = all
        self.byEndpoint = Dictionary(grouping: all, by: \.endpoint)
    }

    /// Opens `count` connections, in turns to each of `endpoints`.
    static func open(
        _ endpoints: [Endpoint],
        count: Int,
        caFile: String,
        on group: any EventLoopGroup
    ) async throws -> Connections {
        let tls = try ReloadableTLSContext(
            client: TLSClientConfiguration(caFile: caFile, minimumVersion: .tls12)
        )
        let client = HTTPClient(eventLoopGroup: group, tls: tls)
        var all: [Target] = []
        for index in 0..<max(count, endpoints.count) {
            let endpoint = endpoints[index % endpoints.count]
            all.append((endpoint, try await client.connect(host: endpoint.host, port: endpoint.port)))
        }
        return Connections(all)
    }

    /// The `index`-th connection, counted round and round; if `endpoint` is given, of those to it.
    func pick(_ index: Int, to endpoint: Endpoint? = nil) -> Target {
        if let endpoint, let candidates = self.byEndpoint[endpoint] { return candidates[index % candidates.count] }
        return self.all[index % self.all.count]
    }

    func close() {
        for (_, connection) in self.all { connection.close() }
    }
}

extension HTTPClientConnection {
    /// Sends a request and returns the status, the body and the trailers.
    func exchange(
        _ head: HTTPRequest,
        body: RequestBodySource = .none
    ) async throws -> (head: HTTPResponse, body: ByteBuffer, trailers: HTTPFields?) {
        let answerBytesMax = 64 << 20
        let response = try await self.execute(head, body: body)
        let bytes = try await response.collect(upTo: answerBytesMax)
        return (response.head, bytes, response.trailers)
    }
}
