internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// Two replicas compared by their trees, one question of such a comparison, and the repair of a replica.
extension APIRouter {
    /// The plan of `/v1/audit/VERB`, where it is one of these.
    func auditPlan(_ request: APICall, _ verb: String) throws(Problem) -> RoutePlan {
        switch verb {
        case "compare": return try self.only(.post, request, self.compareReplicas)
        case "descend": return try self.only(.post, request, self.descend)
        case "repair": return try self.only(.post, request, self.repairReplica)
        case "clear-signed-head": return try self.only(.post, request, self.clearSignedHead)
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    /// A node that should have a replica of the organization.
    private func replica(_ number: UInt64, of entry: OrganizationEntry, _ pointer: String) throws(Problem) -> NodeID {
        let node = NodeID(number)
        guard self.records.placement.nodes(of: entry.group).contains(node) else {
            throw Problem(
                .nodeNotFound,
                "node \(node) has no replica of \(entry.key)",
                members: [.text("pointer", pointer)]
            )
        }
        return node
    }

    private func compareReplicas(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["organization", "a", "b"])
        let entry = try await self.organization(try object.string("organization"), for: request, .verifyLedger)
        let a = try self.replica(UInt64(clamping: try object.integer("a")), of: entry, "/a")
        let b = try self.replica(UInt64(clamping: try object.integer("b")), of: entry, "/b")
        guard a != b else { throw Problem(.invalidField, "a and b are the same node") }
        let checkpoints = await self.trusted.checkpoints(of: entry)
        let result = await self.replicas.descend(entry, a, b, checkpoints: checkpoints)
        var json = JSONOutput(capacity: 2048)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("a", a.rawValue)
        json.member("b", b.rawValue)
        DescentText.write(result, to: &json)
        json.endObject()
        return Self.json(.ok, json)
    }

    private func descend(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["organization", "node", "kind", "numbers"])
        let entry = try await self.organization(try object.string("organization"), for: request, .verifyLedger)
        let node = try self.replica(UInt64(clamping: try object.integer("node")), of: entry, "/node")
        var wire = WireDescentRequest()
        let kinds: [String: WireDescentRequest.Kind] = [
            "head": .head, "bounds": .bounds, "descendants": .descendants, "contents": .contents, "record": .record,
        ]
        guard let kind = kinds[try object.string("kind")] else {
            throw Problem(.invalidField, "there is no such question", members: [.text("pointer", "/kind")])
        }
        wire.kind = kind
        wire.numbers = try object.optional("numbers")?.array().map { UInt64(clamping: try $0.integer()) } ?? []
        guard let question = wire.question else {
            throw Problem(.invalidField, "the question needs other numbers", members: [.text("pointer", "/numbers")])
        }
        if kind == .record { self.access.read(.records, of: entry.key, by: request) }
        var json = JSONOutput(capacity: 32_768)
        json.beginObject()
        switch await self.replicas.ask(question, of: node, about: entry) {
        case .head(let size, let peaks):
            json.member("size", size)
            Self.write(peaks, to: &json)
        case .digests(let digests): Self.write(digests, to: &json)
        case .record(let bytes):
            if let bytes {
                json.member("record", Data(bytes).base64EncodedString())
            } else {
                json.null("record")
            }
        case .cover, .withheld: throw Problem(.internal, "a replica holds every record")
        case .unavailable(let reason): throw Problem(.shardUnavailable, "node \(node): \(reason)")
        }
        json.endObject()
        return Self.json(.ok, json)
    }

    private static func write(_ digests: [Digest], to json: inout JSONOutput) {
        json.beginArray("digests")
        for digest in digests { json.element(digest.hex) }
        json.endArray()
    }

    private func clearSignedHead(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.manageCluster)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["organization", "node", "reason", "size", "root"])
        let entry = try await self.organization(try object.string("organization"), for: request, .verifyLedger)
        var wire = WireClearSignedHeadRequest()
        let node = try self.replica(UInt64(clamping: try object.integer("node")), of: entry, "/node")
        wire.organization = entry.id.rawValue
        wire.key = entry.key.rawValue
        wire.actor = request.origin.actor
        wire.requestID = request.id
        if let text = try object.optionalString("root") {
            let size = try object.integer("size")
            guard let root = Digest(hex: text), size >= 0 else {
                throw Problem(.invalidField, "root has 64 hexadecimal digits", members: [.text("pointer", "/root")])
            }
            wire.reason = try object.string("reason")
            guard (1...EventLimits.reasonBytesMax).contains(wire.reason.utf8.count) else {
                throw Problem(.invalidField, "a reason is needed", members: [.text("pointer", "/reason")])
            }
            wire.size = UInt64(size)
            wire.root = Data(root.bytes)
        }
        let response = try await self.replicas.clearSignedHead(wire, on: node)
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .internal, response.detail)
        }
        guard let signed = Digest(bytes: [UInt8](response.signedRoot)),
            let trusted = Digest(bytes: [UInt8](response.trustedRoot))
        else { throw Problem(.internal, "node \(node) gave no answer") }
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("node", node.rawValue)
        json.member("cleared", response.cleared)
        json.member("readable", response.isReadable)
        json.member("signed_size", response.signedSize)
        json.member("signed_root", signed)
        json.member("trusted_size", response.trustedSize)
        json.member("trusted_root", trusted)
        json.member("evidence", response.evidence)
        json.endObject()
        return Self.json(.ok, json)
    }

    private func repairReplica(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.manageCluster)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["organization", "node", "from"])
        let entry = try await self.organization(try object.string("organization"), for: request, .verifyLedger)
        let node = try self.replica(UInt64(clamping: try object.integer("node")), of: entry, "/node")
        let from = try object.optional("from")?.integer()
        if let from, from < 1 {
            throw Problem(.invalidField, "sequences begin with 1", members: [.text("pointer", "/from")])
        }
        var wire = WireRepairRequest()
        wire.organization = entry.id.rawValue
        wire.key = entry.key.rawValue
        wire.from = UInt64(from ?? 0)
        wire.actor = request.origin.actor
        wire.requestID = request.id
        let response = try await self.replicas.repair(wire, on: node)
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .internal, response.detail)
        }
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("node", node.rawValue)
        json.member("repaired", response.first > 0)
        if response.first > 0, let root = Digest(bytes: [UInt8](response.root)) {
            json.member("first", response.first)
            json.member("size", response.size)
            json.member("root", root)
            json.member("records", response.records)
            json.member("nodes", response.nodes)
            json.member("rows", response.rows)
            json.member("head", response.head)
            json.member("basis", response.basis)
            json.member("source", response.source)
        }
        json.endObject()
        return Self.json(.ok, json)
    }
}

/// The result of a descent as members of a JSON object.
enum DescentText {
    static func write(_ result: DescentResult, to json: inout JSONOutput) {
        json.member("size_a", result.sizeA)
        json.member("size_b", result.sizeB)
        switch result.outcome {
        case .equal: json.member("outcome", "equal")
        case .prefix(let shorter):
            json.member("outcome", "prefix")
            json.member("shorter", shorter.rawValue)
        case .differs: json.member("outcome", "differs")
        case .withheld(let side, let gap):
            json.member("outcome", "withheld")
            json.member("side", side.rawValue)
            json.member("first", gap.first.rawValue)
            json.member("last", gap.last.rawValue)
            Self.write(gap.verdict, to: &json)
        case .caught(let side, let fault):
            json.member("outcome", "caught")
            json.member("side", side.rawValue)
            json.member("fault", fault.kind.rawValue)
            if let position = fault.position { json.member("node_position", "\(position.level)/\(position.index)") }
        case .unavailable(let side, let reason):
            json.member("outcome", "unavailable")
            json.member("side", side.rawValue)
            json.member("detail", reason)
        }
        json.member("round_trips", result.roundTrips)
        json.member("round_trips_in_all", result.roundTripsInAll)
        guard let difference = result.difference else {
            json.null("difference")
            return
        }
        json.beginObject("difference")
        json.member("sequence", difference.sequence.rawValue)
        Self.write("checksum_a", "record_a", difference.a, to: &json)
        Self.write("checksum_b", "record_b", difference.b, to: &json)
        json.beginArray("members")
        for member in difference.members { json.element(member) }
        json.endArray()
        Self.write(difference.verdict, to: &json)
        json.member("later_total", difference.laterTotal)
        json.member("later_compared", difference.laterCompared)
        json.member("later_differing", difference.laterDiffering)
        json.endObject()
    }

    private static func write(_ verdict: DescentVerdict, to json: inout JSONOutput) {
        switch verdict {
        case .supports(let side, let size):
            json.member("verdict", side.rawValue)
            json.member("checkpoint_size", size)
        case .supportsNeither(let size):
            json.member("verdict", "neither")
            json.member("checkpoint_size", size)
        case .supportsBoth(let size):
            json.member("verdict", "both")
            json.member("checkpoint_size", size)
        case .undecided: json.member("verdict", "undecided")
        }
    }

    private static func write(
        _ checksum: StaticString,
        _ standing: StaticString,
        _ leaf: DescentLeaf,
        to json: inout JSONOutput
    ) {
        json.member(checksum, leaf.checksum)
        json.member(standing, leaf.standing.rawValue)
    }
}
