internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// What an operator may wish of one node.
package enum NodeWish: String, Sendable {
    case cordon
    case uncordon
    case drain
}

/// What `ftnode cluster` asks for.
extension ClusterClient {
    /// The state of the cluster, as bytes for `--format json` and decoded.
    package func status() async throws -> (json: [UInt8], view: ClusterView) {
        let bytes = try await self.send(APIRequest(.get, "/v1/cluster")).bytes
        return (bytes, try Self.decode(ClusterView.self, from: bytes))
    }

    /// Makes a node known to the cluster.
    /// - Throws: ``ClientError``, `.refused` when the id or an address is taken.
    package func addNode(
        id: Int,
        api: String,
        peer: String,
        region: String?,
        priority: Int?
    ) async throws -> AddedNode {
        var body = "{\"id\":\(id),\"api\":\(JSONText.quoted(api)),\"peer\":\(JSONText.quoted(peer))"
        if let region { body += ",\"region\":\(JSONText.quoted(region))" }
        if let priority { body += ",\"priority\":\(priority)" }
        let request = APIRequest(.post, "/v1/cluster/nodes", body: ByteBuffer(string: body + "}"))
        return try Self.decode(AddedNode.self, from: try await self.send(request).bytes)
    }

    /// Takes all replicas off a node and its name out of the cluster; the removal goes on after the answer.
    package func removeNode(id: Int) async throws {
        _ = try await self.send(APIRequest(.delete, "/v1/cluster/nodes/\(id)"))
    }

    /// Puts the replicas of one node on another, then removes the first.
    package func replaceNode(id: Int, by other: Int) async throws {
        try await self.wish("/v1/cluster/nodes/\(id)/replace", "{\"by\":\(other)}")
    }

    /// Changes what a node is used for.
    package func wish(_ wish: NodeWish, node: Int) async throws {
        try await self.wish("/v1/cluster/nodes/\(node)/\(wish.rawValue)", "{}")
    }

    /// Spreads replicas and leaders evenly.
    package func rebalance() async throws { try await self.wish("/v1/cluster/rebalance", "{}") }

    /// Wishes the replicas of a data group on certain nodes.
    package func place(group: Int, on nodes: [Int]) async throws {
        let list = nodes.map(String.init).joined(separator: ",")
        try await self.wish("/v1/cluster/groups/\(group)/replicas", "{\"nodes\":[\(list)]}")
    }

    /// Makes another replica the leader of a group.
    package func transferLeader(group: Int, to node: Int) async throws {
        try await self.wish("/v1/cluster/groups/\(group)/transfer", "{\"to\":\(node)}")
    }

    /// All of these may be asked for twice: the second time nothing is left to do.
    private func wish(_ path: String, _ body: String) async throws {
        var request = APIRequest(.post, path, body: ByteBuffer(string: body))
        request.isReadOnly = true
        _ = try await self.send(request)
    }
}
