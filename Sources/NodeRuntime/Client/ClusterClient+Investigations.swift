internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// An investigation that an organization keeps.
package struct SavedInvestigationView: Sendable, Decodable, Equatable {
    package var name: String
    package var title: String
    package var filters: [String: String]
    package var lastSequence: UInt64
    package var lastActor: String
}

/// Investigations that organizations keep for themselves.
extension ClusterClient {
    private struct List: Decodable { var saved: [SavedInvestigationView] }
    private struct Change: Decodable { var sequence: UInt64 }

    /// Those that an organization keeps, by name, as JSON and decoded.
    package func savedInvestigations(
        _ organization: String
    ) async throws -> (json: [UInt8], list: [SavedInvestigationView]) {
        let bytes = try await self.send(APIRequest(.get, Self.investigationsPath(organization))).bytes
        return (bytes, try Self.decode(List.self, from: bytes).saved)
    }

    /// Keeps a set of filters, in the place of an earlier one of the name.
    /// - Returns: The sequence of the record.
    package func saveInvestigation(
        _ organization: String,
        name: String,
        title: String,
        filters: [(String, String)]
    ) async throws -> UInt64 {
        var json = JSONOutput()
        json.beginObject()
        json.member("name", name)
        json.member("title", title)
        json.beginObject("filters")
        for (name, value) in filters { json.member(named: name, value) }
        json.endObject()
        json.endObject()
        let request = APIRequest(.post, Self.investigationsPath(organization), body: json.buffer)
        return try Self.decode(Change.self, from: try await self.send(request).bytes).sequence
    }

    /// - Returns: The sequence of the record.
    package func deleteInvestigation(_ organization: String, name: String) async throws -> UInt64 {
        let path = "\(Self.investigationsPath(organization))/\(APIRequest.encoded(name))"
        return try Self.decode(Change.self, from: try await self.send(APIRequest(.delete, path)).bytes).sequence
    }

    private static func investigationsPath(_ organization: String) -> String {
        "/v1/organizations/\(APIRequest.encoded(organization))/investigations"
    }
}
