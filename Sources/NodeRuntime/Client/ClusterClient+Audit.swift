internal import HTTPTypes
internal import NIOCore

/// The comparison of two replicas as the API gives it.
package struct ComparisonView: Sendable, Decodable, Equatable {
    package struct Difference: Sendable, Decodable, Equatable {
        package var sequence: Int
        package var checksumA: String
        package var checksumB: String
        package var recordA: String
        package var recordB: String
        package var members: [String]
        package var verdict: String
        package var checkpointSize: Int?
        package var laterTotal: Int
        package var laterCompared: Int
        package var laterDiffering: Int
    }

    package var organization: String
    package var a: Int
    package var b: Int
    package var sizeA: Int?
    package var sizeB: Int?
    package var outcome: String
    package var shorter: String?
    package var side: String?
    package var fault: String?
    package var detail: String?
    package var roundTrips: Int
    package var difference: Difference?

    /// The same records, as far as both have them.
    package var isSound: Bool { self.outcome == "equal" || self.outcome == "prefix" }

    private func node(_ side: String?) -> String { "node \(side == "a" ? self.a : self.b)" }

    /// What was found, for people.
    package var text: String {
        let sizes =
            "node \(self.a): \(self.sizeA.map(Grouped.number) ?? "?") records, "
            + "node \(self.b): \(self.sizeB.map(Grouped.number) ?? "?") records"
        var lines = ["\(self.organization): \(sizes), \(self.roundTrips) round trips"]
        switch self.outcome {
        case "equal": lines.append("the same records")
        case "prefix": lines.append("the same records as far as \(self.node(self.shorter)) has them")
        case "caught": lines.append("CAUGHT: \(self.node(self.side)) \(self.fault ?? "") in its own tree")
        case "unavailable": lines.append("\(self.node(self.side)) cannot be read: \(self.detail ?? "")")
        default: break
        }
        guard let difference = self.difference else { return lines.joined(separator: "\n") + "\n" }
        lines.append("DIFFERENT from record \(difference.sequence) on")
        lines.append("  node \(self.a): \(difference.checksumA) (\(difference.recordA))")
        lines.append("  node \(self.b): \(difference.checksumB) (\(difference.recordB))")
        if !difference.members.isEmpty { lines.append("  members: \(difference.members.joined(separator: ", "))") }
        lines.append(
            "  later records: \(Grouped.number(difference.laterTotal)), of the first "
                + "\(Grouped.number(difference.laterCompared)) \(Grouped.number(difference.laterDiffering)) "
                + "differ in more than their link"
        )
        let size = difference.checkpointSize.map { " of size \(Grouped.number($0))" } ?? ""
        switch difference.verdict {
        case "a", "b": lines.append("  the quorum-signed checkpoint\(size) supports \(self.node(difference.verdict))")
        case "neither": lines.append("  the quorum-signed checkpoint\(size) supports NEITHER")
        default: lines.append("  no quorum-signed checkpoint covers this record: undecided")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

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
