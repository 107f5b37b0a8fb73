internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// What was: entities and organizations as of a moment, differences, investigations, and whether folding gives what is stored.
extension APIRouter {
    /// Parts after the organization's key that ``historyPlan(_:_:)`` answers.
    static let historyParts: Set<String> = ["entities", "diff", "investigations"]

    private static let entitiesDefault = 100
    private static let entitiesMax = 1000

    /// The plan of `/v1/organizations/KEY/PART/…`.
    func historyPlan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        let key = segments[2]
        switch (segments[3], segments.count) {
        case ("entities", 4):
            return try self.only(.get, request) { request, _ in try await self.entities(request, key) }
        case ("entities", 6):
            let name = EntityName(type: segments[4], id: segments[5])
            return try self.only(.get, request) { request, _ in try await self.entity(request, key, name) }
        case ("entities", 7) where segments[6] == "diff":
            let name = EntityName(type: segments[4], id: segments[5])
            return try self.only(.get, request) { request, _ in try await self.entityDiff(request, key, name) }
        case ("diff", 4):
            return try self.only(.get, request) { request, _ in try await self.organizationDiff(request, key) }
        case ("investigations", 4), ("investigations", 5): return try self.investigationPlan(request, segments)
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    private var history: HistoryReader { HistoryReader(records: self.records, filter: self.recordFilter) }

    // MARK: Parameters

    private static func moment(_ name: String, _ request: APICall) throws(Problem) -> HistoryMoment? {
        guard let text = request.parameter(name) else { return nil }
        guard let moment = HistoryMoment(text) else {
            throw Problem(.invalidParameter, "\(name) is a sequence or a date and time of RFC 3339")
        }
        return moment
    }

    private static func isLatest(_ request: APICall) throws(Problem) -> Bool {
        try RecordSearch.choice("consistency", request, ["linearizable", "eventual"]) == "linearizable"
    }

    /// Both ends of a difference; the later one is now when it is absent.
    private static func range(_ request: APICall) throws(Problem) -> (from: HistoryMoment, to: HistoryMoment?) {
        guard let from = try self.moment("from", request) else {
            throw Problem(.invalidParameter, "from is needed: a sequence or a time")
        }
        let to = try self.moment("to", request)
        var isBackwards = false
        switch (from, to) {
        case (.sequence(let first), .sequence(let last)): isBackwards = first > last
        case (.time(let first), .time(let last)): isBackwards = first > last
        default: break
        }
        if isBackwards { throw Problem(.invalidParameter, "the range is backwards: from is after to") }
        return (from, to)
    }

    private static func wrapping<Value>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as OrganizationState.Failure where error.code == .tooManyEntities {
            throw Problem(
                .resultTooLarge,
                "the organization has more than \(HistoryReader.entitiesMax) entities",
                members: [.number("limit", HistoryReader.entitiesMax)]
            )
        }
    }

    // MARK: States

    private func entity(_ request: APICall, _ key: String, _ name: EntityName) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: ["as_of", "consistency"])
        let moment = try Self.moment("as_of", request)
        let view = try await self.history.entity(name, of: entry, at: moment, isLatest: try Self.isLatest(request))
        guard let state = view.state else {
            throw Problem(.entityNotFound, "no record of this entity with outcome success by that moment")
        }
        self.access.read(.history, of: entry.key, by: request)
        var json = JSONOutput(capacity: 1024)
        Self.write(state, to: &json)
        return Self.json(.ok, json)
    }

    private func entities(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: ["as_of", "consistency", "entity_type", "status", "limit", "after"])
        let limit =
            try RecordSearch.number("limit", request, 1...UInt64(Self.entitiesMax)).map { Int($0) }
            ?? Self.entitiesDefault
        let status = try request.parameter("status").map { text throws(Problem) in
            guard let status = EntityStatus(rawValue: text) else {
                let known = EntityStatus.allCases.map(\.rawValue).joined(separator: ", ")
                throw Problem(.invalidParameter, "status is one of \(known)")
            }
            return status
        }
        let after = try request.parameter("after").map { text throws(Problem) in
            guard let slash = text.firstIndex(of: "/") else {
                throw Problem(.invalidParameter, "after is the last page's \"next\"")
            }
            return EntityName(type: String(text[..<slash]), id: String(text[text.index(after: slash)...]))
        }
        let moment = try Self.moment("as_of", request)
        let isLatest = try Self.isLatest(request)
        let state = try await Self.wrapping {
            try await self.history.organization(entry, at: moment, isLatest: isLatest)
        }
        self.access.read(.history, of: entry.key, by: request)
        let type = request.parameter("entity_type").map { Array($0.utf8) }
        let wanted = state.sorted.lazy.filter { entity in
            (type == nil || entity.name.type == type) && (status == nil || entity.status == status)
                && (after.map { $0 < entity.name } ?? true)
        }
        let page = Array(wanted.prefix(limit + 1))
        var json = JSONOutput(capacity: 4096)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("sequence", state.sequence.rawValue)
        if let time = state.recordedAt { json.member("recorded_at", time) } else { json.null("recorded_at") }
        json.member("entities_total", state.count)
        json.member("state_digest", state.digest)
        json.beginArray("entities")
        for entity in page.prefix(limit) { Self.write(entity, to: &json) }
        json.endArray()
        let next = page.count > limit ? page[limit - 1].name : nil
        json.member("next", next.map { "\(Self.text($0.type))/\(Self.text($0.id))" })
        json.endObject()
        return Self.json(.ok, json)
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private static func write(_ state: EntityState, to json: inout JSONOutput) {
        json.beginObject()
        json.member("entity_type", self.text(state.name.type))
        json.member("entity_id", self.text(state.name.id))
        json.member("status", state.status.rawValue)
        json.member("state", raw: CanonicalJSON.encode(state.value))
        json.member("version", state.version)
        json.member("first_sequence", state.firstSequence.rawValue)
        json.member("last_sequence", state.lastSequence.rawValue)
        json.member("first_recorded_at", state.firstRecordedAt)
        json.member("last_recorded_at", state.lastRecordedAt)
        json.member("last_action", state.lastAction)
        json.member("last_actor", state.lastActor)
        json.endObject()
    }

    // MARK: Differences

    private func entityDiff(_ request: APICall, _ key: String, _ name: EntityName) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: ["from", "to", "consistency"])
        let (from, to) = try Self.range(request)
        let isLatest = try Self.isLatest(request)
        let earlier = try await self.history.entity(name, of: entry, at: from, isLatest: isLatest)
        let later = try await self.history.entity(name, of: entry, at: to, isLatest: isLatest)
        guard earlier.state != nil || later.state != nil else {
            throw Problem(.entityNotFound, "no record of this entity with outcome success by these moments")
        }
        self.access.read(.history, of: entry.key, by: request)
        var json = JSONOutput(capacity: 1024)
        Self.write(EntityDifference(name: name, from: earlier.state, to: later.state), to: &json)
        return Self.json(.ok, json)
    }

    private func organizationDiff(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: ["from", "to", "consistency"])
        let (from, to) = try Self.range(request)
        let isLatest = try Self.isLatest(request)
        let (earlier, later) = try await Self.wrapping {
            let earlier = try await self.history.organization(entry, at: from, isLatest: isLatest)
            var later = earlier
            try await self.history.advance(&later, of: entry, to: to, isLatest: false)
            return (earlier, later)
        }
        self.access.read(.history, of: entry.key, by: request)
        let differences = later.changes(since: earlier)
        guard differences.count <= Self.entitiesMax else {
            throw Problem(
                .resultTooLarge,
                "\(differences.count) entities differ; at most \(Self.entitiesMax) are shown: take moments closer together",
                members: [.number("limit", Self.entitiesMax)]
            )
        }
        var json = JSONOutput(capacity: 4096)
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("from_sequence", earlier.sequence.rawValue)
        json.member("to_sequence", later.sequence.rawValue)
        json.beginArray("entities")
        for difference in differences { Self.write(difference, to: &json) }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    private static func write(_ difference: EntityDifference, to json: inout JSONOutput) {
        json.beginObject()
        json.member("entity_type", self.text(difference.name.type))
        json.member("entity_id", self.text(difference.name.id))
        json.member("from_sequence", difference.from?.lastSequence.rawValue)
        json.member("to_sequence", difference.to?.lastSequence.rawValue)
        json.member("from_status", difference.from?.status.rawValue)
        json.member("to_status", difference.to?.status.rawValue)
        json.beginArray("changes")
        for change in difference.values {
            json.beginObject()
            json.member("path", change.path)
            if let from = change.from { json.member("from", raw: CanonicalJSON.encode(from)) }
            if let to = change.to { json.member("to", raw: CanonicalJSON.encode(to)) }
            json.endObject()
        }
        json.endArray()
        json.endObject()
    }

    // MARK: Rebuilding

    /// `POST /v1/audit/rebuild`: every replica folds its ledger, and the results are compared; one line an organization.
    func rebuild(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        var keys: [String]?
        if body.readableBytes > 0 {
            let object = try self.object(body, of: request, keys: ["organizations"])
            keys = try object.optional("organizations")?.array().map { try $0.string() }
        }
        let entries = try await self.organizationsToVerify(keys, for: request)
        let replicas = self.replicas
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: MediaType.ndjson.rawValue],
            body: .stream { writer in
                for entry in entries {
                    let answers = await replicas.rebuild(entry)
                    var json = JSONOutput(capacity: 1024)
                    RebuildReport.write(entry, answers, to: &json)
                    try await writer.write(json.buffer)
                }
                // Without this line the answer is not whole.
                var json = JSONOutput()
                json.beginObject()
                json.beginObject("summary")
                json.member("organizations", entries.count)
                json.endObject()
                json.endObject()
                json.endLine()
                try await writer.write(json.buffer)
                return nil
            }
        )
    }
}

/// The line of one organization.
enum RebuildReport {
    static func write(
        _ entry: OrganizationEntry,
        _ answers: [(node: NodeID, answer: Result<RebuildCheck.Result, PeerError>)],
        to json: inout JSONOutput
    ) {
        json.beginObject()
        json.member("organization", entry.key.rawValue)
        json.member("status", self.isGood(answers) ? "ok" : "failed")
        json.beginArray("replicas")
        for (node, answer) in answers {
            json.beginObject()
            json.member("node", node.rawValue)
            switch answer {
            case .success(let result):
                json.member("status", result.isEqual ? "ok" : "failed")
                json.member("size", result.size)
                json.member("entities", result.entities)
                json.member("root", result.root)
                json.member("stored_root", result.storedRoot)
                json.member("ledger_state", result.ledgerState)
                json.member("columnar_state", result.columnarState)
                json.member("entities_state", result.entitiesState)
                json.member("ledger_history", result.ledgerHistory)
                json.member("columnar_history", result.columnarHistory)
            case .failure(let error):
                json.member("status", "unreachable")
                json.member("detail", error.message)
            }
            json.endObject()
        }
        json.endArray()
        json.endObject()
        json.endLine()
    }

    /// Every replica folded to what it stores, and those at one size to the same.
    static func isGood(_ answers: [(node: NodeID, answer: Result<RebuildCheck.Result, PeerError>)]) -> Bool {
        var states: [UInt64: RebuildCheck.Result] = [:]
        for (_, answer) in answers {
            guard case .success(let result) = answer, result.isEqual else { return false }
            if let other = states[result.size], other != result { return false }
            states[result.size] = result
        }
        return !answers.isEmpty
    }
}
