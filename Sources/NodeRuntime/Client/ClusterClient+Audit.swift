internal import HTTPTypes
internal import NIOCore

/// What a repair has done, as the API gives it.
package struct RepairView: Sendable, Decodable, Equatable {
    package var organization: String
    package var node: Int
    package var repaired: Bool
    package var first: Int?
    package var size: Int?
    package var root: String?
    package var records: Int?
    package var nodes: Int?
    package var head: Bool?
    package var basis: String?
    package var source: Int?

    /// What was done, for people.
    package var text: String {
        guard self.repaired else { return "\(self.organization) on node \(self.node): nothing was wrong\n" }
        let basis =
            self.basis == "checkpoint"
            ? "a quorum-signed checkpoint" : "the root that most replicas hold: NO signed checkpoint vouches for it"
        return "\(self.organization) on node \(self.node): repaired from record \(self.first ?? 0) on\n"
            + "  \(Grouped.number(self.records ?? 0)) records from node \(self.source ?? 0), "
            + "\(Grouped.number(self.nodes ?? 0)) tree nodes\(self.head == true ? ", the head" : "")\n"
            + "  verified against \(basis)\n"
            + "  now \(Grouped.number(self.size ?? 0)) records, root \(self.root ?? "")\n"
    }
}

/// Comparing and repairing replicas.
extension ClusterClient {
    /// Compares the replicas of two nodes by their trees; the answer's bytes, and decoded.
    package func compare(
        _ organization: String,
        _ a: Int,
        _ b: Int
    ) async throws -> (json: [UInt8], view: ComparisonView) {
        let body = "{\"organization\":\(JSONText.quoted(organization)),\"a\":\(a),\"b\":\(b)}"
        var request = APIRequest(.post, "/v1/audit/compare", body: ByteBuffer(string: body))
        request.isReadOnly = true
        request.timeout = Self.verificationTimeout
        let bytes = try await self.send(request).bytes
        return (bytes, try Self.decode(ComparisonView.self, from: bytes))
    }

    /// Has a node repair its replica; the answer's bytes, and decoded.
    package func repair(_ organization: String, node: Int, from: Int?) async throws -> (json: [UInt8], view: RepairView)
    {
        let start = from.map { ",\"from\":\($0)" } ?? ""
        let body = "{\"organization\":\(JSONText.quoted(organization)),\"node\":\(node)\(start)}"
        var request = APIRequest(.post, "/v1/audit/repair", body: ByteBuffer(string: body))
        request.timeout = Self.verificationTimeout
        let bytes = try await self.send(request).bytes
        return (bytes, try Self.decode(RepairView.self, from: bytes))
    }
}
