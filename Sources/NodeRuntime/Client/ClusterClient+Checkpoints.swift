internal import HTTPTypes
internal import NIOCore

/// A published key as the API shows it.
package struct NodeKeyView: Sendable, Decodable, Equatable {
    package var node: Int
    package var key: String
    package var validFrom: String
    package var validTo: String?
    package var valid: Bool
}

/// What ``ClusterClient/rotateKey(node:overlapSeconds:)`` gives.
package struct RotatedKeyView: Sendable, Decodable, Equatable {
    package var key: String
    package var previous: String
}

/// Keys, checkpoints and receipts.
extension ClusterClient {
    private struct KeyList: Decodable { var keys: [NodeKeyView] }

    /// The keys of all nodes, as bytes for `--format json` and decoded; for an organization with the sizes of its
    /// checkpoints that each may sign.
    package func keys(for organization: String? = nil) async throws -> (json: [UInt8], list: [NodeKeyView]) {
        let path = APIRequest.target("/v1/keys", organization.map { [("organization", $0)] } ?? [])
        let bytes = try await self.send(APIRequest(.get, path)).bytes
        return (bytes, try Self.decode(KeyList.self, from: bytes).keys)
    }

    /// A receipt of a record; for the newest checkpoint one is made when none covers the record yet.
    package func receipt(_ organization: String, sequence: UInt64, size: UInt64?) async throws -> [UInt8] {
        let path = ["records", String(sequence), "proof"]
        let parameters = size.map { [("size", String($0))] } ?? []
        do {
            return try await self.organizationResource(organization, path: path, parameters: parameters)
        } catch let error as ClientError {
            guard size == nil, case .refused(problem: "checkpoint_not_found") = error.code else { throw error }
        }
        _ = try await self.organizationResource(organization, path: ["checkpoint"], parameters: [("fresh", "true")])
        return try await self.organizationResource(organization, path: path, parameters: parameters)
    }

    /// Has a node make itself another key; the one before stays valid for a while.
    package func rotateKey(node: Int, overlapSeconds: Int) async throws -> RotatedKeyView {
        let body = ByteBuffer(string: "{\"overlap_seconds\":\(overlapSeconds)}")
        let request = APIRequest(.post, "/v1/cluster/nodes/\(node)/keys/rotate", body: body)
        return try Self.decode(RotatedKeyView.self, from: try await self.send(request).bytes)
    }

    /// Ends the validity of a node's key.
    package func retireKey(node: Int, key: String, at: String?) async throws {
        var body = "{\"key\":\(JSONText.quoted(key))"
        if let at { body += ",\"at\":\(JSONText.quoted(at))" }
        var request = APIRequest(
            .post,
            "/v1/cluster/nodes/\(node)/keys/retire",
            body: ByteBuffer(string: body + "}")
        )
        request.isReadOnly = true
        _ = try await self.send(request)
    }
}
