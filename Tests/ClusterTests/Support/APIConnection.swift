internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOPosix
internal import Transport

/// Sends single requests to one node, exactly as written, with no retries.
final class APIConnection: Sendable {
    /// A whole answer.
    struct Reply: Sendable, CustomStringConvertible {
        let status: Int
        let fields: HTTPFields
        let body: [UInt8]

        var text: String { String(decoding: self.body, as: UTF8.self) }
        var description: String { "\(self.status) \(self.text.prefix(600))" }

        func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return try decoder.decode(type, from: Data(self.body))
        }
    }

    /// An RFC 9457 document as the API writes it.
    struct ProblemDocument: Decodable, Sendable {
        var type: String
        var title: String
        var status: Int
        var code: String
        var detail: String
        var requestId: String
        var line: Int?
        var pointer: String?
        var limit: Int?
        var position: Int?
    }

    let host = "127.0.0.1"
    let port: Int
    let caFile: String
    private let pool: HTTPClientPool

    init(port: Int, caFile: String) throws {
        self.port = port
        self.caFile = caFile
        let tls = try ReloadableTLSContext(client: TLSClientConfiguration(caFile: caFile))
        self.pool = HTTPClientPool(
            client: HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, tls: tls)
        )
    }

    func close() { self.pool.closeAll() }

    /// - Parameters:
    ///   - authorization: The whole header; nil for none.
    ///   - timeout: After it the request is an error: no answer came.
    func send(
        _ method: String,
        _ path: String,
        authorization: String?,
        contentType: String? = nil,
        idempotencyKey: String? = nil,
        body: [UInt8]? = nil,
        timeout: Duration = .seconds(30)
    ) async throws -> Reply {
        var head = HTTPRequest(
            method: HTTPRequest.Method(method) ?? .get,
            scheme: "https",
            authority: "\(self.host):\(self.port)",
            path: path
        )
        head.headerFields[.authorization] = authorization
        head.headerFields[.contentType] = contentType
        if let key = idempotencyKey, let name = HTTPField.Name("idempotency-key") { head.headerFields[name] = key }
        let response = try await self.pool.execute(
            host: self.host,
            port: self.port,
            head,
            body: body.map { .bytes(ByteBuffer(bytes: $0)) } ?? .none,
            timeout: timeout
        )
        let bytes = try await response.collect(upTo: 80 << 20)
        return Reply(
            status: response.head.status.code,
            fields: response.head.headerFields,
            body: Array(bytes.readableBytesView)
        )
    }
}
