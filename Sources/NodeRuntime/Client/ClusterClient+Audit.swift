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
    package var rows: Int?
    package var head: Bool?
    package var basis: String?
    package var source: Int?

    /// What was done, for people.
    package var text: String {
        guard self.repaired else { return "\(self.organization) on node \(self.node): nothing was wrong\n" }
        let basis =
            self.basis == "checkpoint"
            ? "a quorum-signed checkpoint" : "the root that most replicas hold: NO signed checkpoint vouches for it"
        let rows =
            (self.rows ?? 0) == 0
            ? "" : "  \(Grouped.number(self.rows ?? 0)) rows beside the ledger, as most replicas have them\n"
        guard (self.first ?? 0) <= (self.size ?? 0) else {
            return "\(self.organization) on node \(self.node): repaired\n" + rows
        }
        return "\(self.organization) on node \(self.node): repaired from record \(self.first ?? 0) on\n" + rows
            + "  \(Grouped.number(self.records ?? 0)) records from node \(self.source ?? 0), "
            + "\(Grouped.number(self.nodes ?? 0)) tree nodes\(self.head == true ? ", the head" : "")\n"
            + "  verified against \(basis)\n"
            + "  now \(Grouped.number(self.size ?? 0)) records, root \(self.root ?? "")\n"
    }
}

/// The largest head that a node signed for an organization, where it contradicts what the node holds.
package struct SignedHeadView: Sendable, Decodable, Equatable {
    package var organization: String
    package var node: Int
    package var cleared: Bool
    package var readable: Bool
    package var signedSize: Int
    package var signedRoot: String
    package var trustedSize: Int
    package var trustedRoot: String
    /// A signed note of the node.
    package var evidence: String

    /// For people.
    package var text: String {
        let signed =
            self.readable ? "\(Grouped.number(self.signedSize)) records, root \(self.signedRoot)" : "unreadable"
        return "\(self.organization) on node \(self.node)\n  had signed: \(signed)\n"
            + "  signs from now on what continues: \(Grouped.number(self.trustedSize)) records, root \(self.trustedRoot)\n"
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

    /// Shows the head that a node signed and that contradicts what it holds; with `clearing` the node forgets that one.
    package func signedHead(
        _ organization: String,
        node: Int,
        clearing view: SignedHeadView? = nil,
        reason: String = ""
    ) async throws -> SignedHeadView {
        let head = view.map {
            ",\"size\":\($0.signedSize),\"root\":\"\($0.signedRoot)\",\"reason\":\(JSONText.quoted(reason))"
        }
        let body = "{\"organization\":\(JSONText.quoted(organization)),\"node\":\(node)\(head ?? "")}"
        var request = APIRequest(.post, "/v1/audit/clear-signed-head", body: ByteBuffer(string: body))
        request.isReadOnly = view == nil
        request.timeout = Self.verificationTimeout
        return try Self.decode(SignedHeadView.self, from: try await self.send(request).bytes)
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
