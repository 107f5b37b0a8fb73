internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// What the replicas hold, and whether it is sound and the same.
extension APIRouter {
    func ledger(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: [])
        async let comparison = self.replicas.compare(entry)
        let holdings = await self.replicas.holdings(of: entry)
        guard let best = holdings.compactMap(\.holding).max(by: { $0.size < $1.size }) else {
            throw Problem(.shardUnavailable, "no replica of \(entry.key) answers")
        }
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("group", entry.group.rawValue)
        json.member("size", best.size)
        json.member("root", best.root)
        json.member("last_checksum", best.lastChecksum)
        json.member("consistent", await Self.agree(comparison))
        json.beginArray("replicas")
        for (node, holding) in holdings {
            json.beginObject()
            json.member("node", node.rawValue)
            json.member("reachable", holding != nil)
            if let holding {
                json.member("size", holding.size)
                json.member("root", holding.root)
                json.member("last_checksum", holding.lastChecksum)
                json.member("applied_index", holding.appliedIndex)
                json.member("projected_sequence", holding.projectedSequence)
            }
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    /// No replica that answered holds another history.
    private static func agree(_ comparison: ReplicaComparisonResult) -> Bool {
        comparison.replicas.allSatisfy { replica in
            if case .diverged = replica.status { return false }
            return true
        }
    }

    /// Those named, or without names all that the caller sees, when it may verify.
    func organizationsToVerify(_ keys: [String]?, for request: APICall) async throws -> [OrganizationEntry] {
        try request.allow(.verifyLedger)
        guard let keys else { return self.directory.organizations.filter { request.token.grant.sees($0.key) } }
        return try await self.organizations(keys, for: request, .verifyLedger)
    }

    func verify(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        var keys: [String]?
        var level = VerificationLevel.tree
        if body.readableBytes > 0 {
            let object = try self.object(body, of: request, keys: ["organizations", "level"])
            keys = try object.optional("organizations")?.array().map { try $0.string() }
            if let text = try object.optionalString("level") {
                guard let known = VerificationLevel(rawValue: text) else {
                    let names = VerificationLevel.allCases.map(\.rawValue).joined(separator: ", ")
                    throw Problem(.invalidField, "level is one of \(names)", members: [.text("pointer", "/level")])
                }
                level = known
            }
        }
        let wanted = level
        let entries = try await self.organizationsToVerify(keys, for: request)
        let replicas = self.replicas
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: MediaType.ndjson.rawValue],
            body: .stream { writer in
                let started = NodeClock.monotonic.now
                var summary = VerificationSummary()
                for entry in entries {
                    let verifications = await replicas.verify(entry, wanted)
                    var json = JSONOutput(capacity: 1024)
                    summary.write(entry, verifications, to: &json)
                    try await writer.write(json.buffer)
                }
                var json = JSONOutput()
                summary.write(to: &json, elapsed: started.duration(to: NodeClock.monotonic.now))
                try await writer.write(json.buffer)
                return nil
            }
        )
    }
}

/// Counts what a verification found, and writes its lines.
struct VerificationSummary {
    private var organizations = 0
    private var replicas = 0
    private var records: UInt64 = 0
    private var failed = 0

    mutating func write(
        _ entry: OrganizationEntry,
        _ verifications: [ReplicaReader.Verification],
        to json: inout JSONOutput
    ) {
        self.organizations += 1
        self.replicas += verifications.count
        let isSound = verifications.allSatisfy(\.isServed)
        if !isSound { self.failed += 1 }
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("status", isSound ? "ok" : "failed")
        if let (size, root) = Self.largest(verifications) {
            json.member("size", size)
            json.member("root", root)
        }
        json.beginArray("replicas")
        for verification in verifications {
            json.beginObject()
            json.member("node", verification.node.rawValue)
            switch verification.outcome {
            case .read(let size, let root, let last, let finding):
                self.records += size
                json.member("status", finding != nil ? "failed" : verification.isServed ? "ok" : "marked")
                json.member("size", size)
                json.member("root", root)
                json.member("last_checksum", last)
                Self.write(finding, named: "finding", to: &json)
                if let marked = verification.marked { Self.write(marked, named: "marked", to: &json) }
            case .unreachable(let reason):
                json.member("status", "unreachable")
                json.member("detail", reason)
                json.null("finding")
            }
            json.endObject()
        }
        json.endArray()
        json.endObject()
        json.endLine()
    }

    private static func largest(_ verifications: [ReplicaReader.Verification]) -> (UInt64, Digest)? {
        var largest: (UInt64, Digest)?
        for verification in verifications where verification.isSound {
            guard case .read(let size, let root, _, _) = verification.outcome else { continue }
            if largest.map({ size > $0.0 }) ?? true { largest = (size, root) }
        }
        return largest
    }

    private static func write(
        _ finding: ReplicaReader.Verification.Finding?,
        named name: StaticString,
        to json: inout JSONOutput
    ) {
        guard let finding else {
            json.null(name)
            return
        }
        json.beginObject(name)
        json.member("sequence", finding.sequence)
        json.member("kind", finding.kind)
        json.member("detail", finding.detail)
        if !finding.place.isEmpty { json.member("place", finding.place) }
        json.endObject()
    }

    func write(to json: inout JSONOutput, elapsed: Duration) {
        json.beginObject()
        json.beginObject("summary")
        json.member("organizations", self.organizations)
        json.member("replicas", self.replicas)
        json.member("records", self.records)
        json.member("failed", self.failed)
        json.member("elapsed_ms", elapsed.milliseconds)
        json.endObject()
        json.endObject()
        json.endLine()
    }
}
