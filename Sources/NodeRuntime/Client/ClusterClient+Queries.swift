internal import Foundation
internal import HTTPTypes

/// One running statement as `GET /v1/queries` gives it.
package struct RunningQueryView: Sendable, Decodable, Equatable {
    package var id: String
    package var node: Int
    /// `waiting`, `running` or `streaming`.
    package var state: String
    package var runningMs: Int
    package var rows: Int
    package var bytes: Int
    package var plan: String?
    package var caller: String
    package var channel: String
    package var organizations: [String]
    package var sql: String
}

extension ClusterClient {
    private struct QueryList: Decodable {
        var queries: [RunningQueryView]
        var silentNodes: [Int]
    }

    /// The statements that run and that the token may see, and the nodes that did not say.
    package func runningQueries() async throws -> (json: [UInt8], queries: [RunningQueryView], silent: [Int]) {
        let bytes = try await self.send(APIRequest(.get, "/v1/queries")).bytes
        let list = try Self.decode(QueryList.self, from: bytes)
        return (bytes, list.queries, list.silentNodes)
    }

    /// Ends a running statement.
    /// - Throws: ``ClientError`` `.refused` when there is none of that id.
    package func endQuery(_ id: String) async throws {
        let allowed = CharacterSet.alphanumerics.union(CharacterSet(charactersIn: "-"))
        let name = id.addingPercentEncoding(withAllowedCharacters: allowed) ?? id
        _ = try await self.send(APIRequest(.delete, "/v1/queries/\(name)"))
    }
}
