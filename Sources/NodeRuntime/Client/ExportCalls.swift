internal import HTTPTypes
package import NIOCore
internal import Transport

/// An export as `ftnode audit export` asks for it.
package struct ExportOrder: Sendable {
    package static let formats = ["package", "json", "ndjson", "csv", "parquet"]

    package var organization: String
    /// Filters and choices, as the API names them.
    package var parameters: [(String, String)]
    /// Longest to wait for the whole export.
    package var timeout = Duration.seconds(3600)

    package init(organization: String, parameters: [(String, String)]) {
        self.organization = organization
        self.parameters = parameters
    }
}

extension ClusterClient {
    /// Has an export made; it streams.
    ///
    /// Not repeated after its first byte: each is a record of its own.
    /// - Parameter onChunk: Gets the bytes in order; the next ones wait until it returns.
    /// - Returns: What the export is of, as JSON.
    package func export(_ order: ExportOrder, onChunk: (ByteBuffer) throws -> Void) async throws -> String {
        let path = "/v1/organizations/\(APIRequest.encoded(order.organization))/export"
        var request = APIRequest(.post, APIRequest.target(path, order.parameters), body: ByteBuffer())
        request.timeout = order.timeout
        request.budget = .seconds(15)
        let response = try await self.open(request)
        do {
            for try await chunk in response.body { try onChunk(chunk) }
        } catch let error as TransportError {
            throw ClientError(.unreachable, "the export broke off", cause: error)
        }
        return response.head.headerFields[.exportManifest] ?? "{}"
    }
}
