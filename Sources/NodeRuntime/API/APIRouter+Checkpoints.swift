internal import AuditLedger
internal import AuditPackage
internal import Consensus
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Transport

/// Keys, checkpoints, proofs, tiles.
extension APIRouter {
    /// Parts after the organization's key that ``checkpointPlan(_:_:)`` answers.
    static let checkpointParts: Set<String> = ["checkpoint", "checkpoints", "forks", "policy", "proofs", "tiles"]
    private static let checkpointsDefault = 100

    /// The plan of `/v1/organizations/KEY/PART/…` and of `/v1/organizations/KEY/records/SEQUENCE/proof`.
    func checkpointPlan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        let key = segments[2]
        switch (segments[3], segments.count) {
        case ("checkpoint", 4):
            return try self.only(.get, request) { request, _ in try await self.checkpoint(request, key) }
        case ("checkpoints", 4):
            return try self.only(.get, request) { request, _ in try await self.listCheckpoints(request, key) }
        case ("forks", 4):
            return try self.only(.get, request) { request, _ in
                try request.requireOnly(parameters: [])
                return try await self.prove(.forks, request, key, .verifyLedger)
            }
        case ("policy", 4):
            return try self.only(.get, request) { request, _ in try await self.policy(request, key) }
        case ("proofs", 5) where segments[4] == "consistency":
            return try self.only(.get, request) { request, _ in try await self.consistency(request, key) }
        case ("records", 6) where segments[5] == "proof":
            return try self.only(.get, request) { request, _ in try await self.receipt(request, key, segments[4]) }
        case ("tiles", 5) where segments[4] == "checkpoint":
            return try self.only(.get, request) { request, _ in
                try request.requireOnly(parameters: [])
                return try await self.prove(.checkpoint(size: nil), request, key)
            }
        case ("tiles", 6...):
            return try self.only(.get, request) { request, _ in
                try request.requireOnly(parameters: [])
                guard let path = try? TilePath(parsing: segments[4...].joined(separator: "/").utf8) else {
                    throw Problem(.tileNotFound, "this is not the path of a tile")
                }
                // A bundle is whole or it is none: what it holds beside the rest can not be left out.
                if case .entries = path.content { try request.allow(.readReserved, in: OrganizationKey(key)) }
                let response = try await self.prove(.tile(path), request, key)
                if case .entries = path.content, let organization = OrganizationKey(key) {
                    self.access.read(.tiles, of: organization, by: request)
                }
                return response
            }
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    private static func size(_ name: String, _ request: APICall, isNeeded: Bool = false) throws(Problem) -> UInt64? {
        guard let text = request.parameter(name) else {
            if isNeeded { throw Problem(.invalidParameter, "\(name) is needed: a number of records") }
            return nil
        }
        guard let size = UInt64(text), size <= MerkleTree.sizeMax else {
            throw Problem(.invalidParameter, "\(name) is a number of records")
        }
        return size
    }

    private func prove(
        _ question: ProofQuestion,
        _ request: APICall,
        _ key: String,
        _ operation: AccessOperation = .readRecords
    ) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, operation)
        return Self.response(try await self.checkpoints.answer(question, about: entry))
    }

    private static func response(_ answer: ProofAnswer) -> ServerResponse {
        ServerResponse(
            status: .ok,
            headerFields: [.contentType: answer.contentType],
            body: .bytes(ByteBuffer(bytes: answer.body))
        )
    }

    private func checkpoint(_ request: APICall, _ key: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: ["fresh", "size"])
        let size = try Self.size("size", request)
        switch request.parameter("fresh") {
        case nil, "false": return try await self.prove(.checkpoint(size: size), request, key)
        case "true":
            guard size == nil else {
                throw Problem(.invalidParameter, "a fresh checkpoint is of the present size: leave size out")
            }
            let entry = try await self.organization(key, for: request, .readRecords)
            return Self.response(ProofAnswer(ProofAnswer.text, try await self.checkpoints.fresh(entry).note))
        default: throw Problem(.invalidParameter, "fresh is true or false")
        }
    }

    private func listCheckpoints(_ request: APICall, _ key: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: ["limit", "cursor"])
        var limit = Self.checkpointsDefault
        if let text = request.parameter("limit") {
            guard let number = Int(text), (1...ProofQuestion.listMax).contains(number) else {
                throw Problem(.invalidParameter, "limit is a number from 1 to \(ProofQuestion.listMax)")
            }
            limit = number
        }
        let from = try Self.size("cursor", request) ?? MerkleTree.sizeMax
        return try await self.prove(.checkpoints(upTo: from, limit: limit), request, key)
    }

    private func receipt(_ request: APICall, _ key: String, _ sequence: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: ["size"])
        guard let number = UInt64(sequence), number >= 1 else {
            throw Problem(.invalidParameter, "a sequence is a number from 1")
        }
        return try await self.prove(
            .record(SequenceNumber(number), size: try Self.size("size", request)),
            request,
            key
        )
    }

    private func consistency(_ request: APICall, _ key: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: ["from", "to"])
        guard let from = try Self.size("from", request, isNeeded: true),
            let to = try Self.size("to", request, isNeeded: true)
        else { return try await self.prove(.forks, request, key) }
        guard from <= to else { throw Problem(.invalidParameter, "from is larger than to") }
        return try await self.prove(.consistency(from: from, to: to), request, key)
    }

    // MARK: Keys

    func listKeys(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: ["organization"])
        let now = SystemTime.now()
        let bounds = try await self.keyBounds(request)
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.member("cluster", self.configuration.clusterID)
        json.beginArray("keys")
        for entry in self.directory.current.keys {
            json.beginObject()
            json.member("node", entry.node.rawValue)
            json.member("key", entry.key)
            json.member("valid_from", entry.validFrom)
            json.member("valid_to", entry.validTo?.description)
            json.member("valid", entry.isValid(at: now))
            if let sizes = bounds?.sizes[entry.key] {
                json.member("first_size", sizes.lowerBound)
                if sizes.upperBound < MerkleTree.sizeMax { json.member("last_size", sizes.upperBound) }
            }
            json.endObject()
        }
        json.endArray()
        if let bounds { json.member("origin", bounds.origin.description) }
        json.beginArray("witnesses")
        for witness in self.configuration.witnesses {
            json.beginObject()
            json.member("url", witness.url)
            json.member("key", witness.key)
            json.endObject()
        }
        json.endArray()
        json.member("witness_quorum", self.configuration.witnessQuorum ?? self.configuration.witnesses.count)
        json.endObject()
        return Self.json(.ok, json)
    }

    /// For an organization that the request names: the sizes of its checkpoints that each key may sign.
    private func keyBounds(
        _ request: APICall
    ) async throws -> (origin: LogOrigin, sizes: [String: ClosedRange<UInt64>])? {
        guard let key = request.parameter("organization") else { return nil }
        let entry = try await self.organization(key, for: request, .readRecords)
        let origin = try LogOrigin(cluster: self.configuration.clusterID, organization: entry.key)
        guard self.records.placement.servesHere(entry) else {
            throw Problem(.shardUnavailable, "node \(self.node) has no replica of \(entry.key): ask another node")
        }
        let (keys, store) = (self.audit.book.all().values.joined(), self.audit.rows.store)
        let published = keys.map {
            ($0.entry.key, PackageKey(key: $0.key, validFrom: $0.entry.validFrom, validTo: $0.entry.validTo))
        }
        let sizes = try await self.threads.run {
            let reader = LedgerReader(store: try store.snapshot(), organization: entry.id)
            let size = try reader.head().size
            return try published.map { text, key in
                (text, try key.bounded(by: reader, origin: origin, size: size).bounds?.sizes)
            }
        }
        let known = sizes.compactMap { text, sizes in sizes.map { (text, $0) } }
        return (origin, Dictionary(known) { first, _ in first })
    }

    private func policy(_ request: APICall, _ key: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let entry = try await self.organization(key, for: request, .readRecords)
        let origin = try LogOrigin(cluster: self.configuration.clusterID, organization: entry.key)
        let voters = self.directory.current.placement(of: entry.group)?.membership.voters ?? []
        do {
            let policy = try self.audit.policy(of: origin, replicas: voters)
            return Self.response(ProofAnswer(ProofAnswer.text, policy.encoded))
        } catch let error as NoteError {
            throw Problem(.notSigning, "too few nodes have published a key for checkpoints", cause: error)
        }
    }

    /// The plan of `/v1/cluster/nodes/NODE/keys/VERB`.
    func keyPlan(_ request: APICall, _ node: NodeID, _ verb: String) throws(Problem) -> RoutePlan {
        switch verb {
        case "rotate":
            return try self.only(.post, request) { request, body in
                let object = try self.manage(request, body, keys: ["overlap_seconds"])
                let secondsMax = Int64(KeyPublisher.overlapMax.components.seconds)
                let seconds = try object.optional("overlap_seconds")?.integer() ?? 86_400
                guard (0...secondsMax).contains(Int64(clamping: seconds)) else {
                    throw Problem(.invalidField, "overlap_seconds is a number from 0 to \(secondsMax)")
                }
                let changed = try await self.rotate(node, overlapSeconds: UInt32(seconds), by: request.origin)
                var json = JSONOutput()
                json.beginObject()
                json.member("key", changed.key)
                json.member("previous", changed.previous)
                json.endObject()
                return Self.json(.ok, json)
            }
        case "retire":
            return try self.only(.post, request) { request, body in
                let object = try self.manage(request, body, keys: ["key", "at"])
                let key = try object.optional("key")?.string() ?? ""
                var at: Timestamp?
                if let text = try object.optional("at")?.string() {
                    guard let time = Timestamp(text) else {
                        throw Problem(.invalidField, "at is not a date and time of RFC 3339")
                    }
                    at = time
                }
                let command = Command.retireKey(RetireKeyCommand(node: node, key: key, at: at))
                try await self.administration.submit(command, by: request.origin)
                return Self.accepted()
            }
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    private func rotate(
        _ node: NodeID,
        overlapSeconds: UInt32,
        by origin: CommandOrigin
    ) async throws -> (key: String, previous: String) {
        let state = try await self.administration.state()
        guard let entry = state.node(node) else { throw Problem(refusal: .nodeNotFound) }
        guard entry.state != .removed else { throw Problem(refusal: .nodeRemoved) }
        if node == self.node {
            return try await self.publisher.rotate(overlap: .seconds(Int64(overlapSeconds)), by: origin)
        }
        var request = WireRotateKeyRequest()
        request.overlapSeconds = overlapSeconds
        request.actor = origin.actor
        request.requestID = origin.requestID
        let response: WireRotateKeyResponse
        do {
            response = try await self.checkpoints.links.call(
                PeerPath.rotateKey,
                of: node,
                request,
                timeout: self.checkpoints.freshTimeout
            )
        } catch let error as PeerError {
            throw Problem(.nodeNotAvailable, "node \(node) does not answer", cause: error)
        }
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .internal, response.detail)
        }
        return (response.key, response.previous)
    }
}
