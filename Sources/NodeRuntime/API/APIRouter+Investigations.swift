internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// Investigations: those that the product has, and those that organizations keep for themselves.
extension APIRouter {
    /// The plan of `/v1/organizations/KEY/investigations[/NAME]`.
    func investigationPlan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        let key = segments[2]
        guard segments.count == 5 else {
            if request.head.method == .post {
                return self.small(request) { request, body in try await self.saveInvestigation(request, key, body) }
            }
            return try self.only(.get, request) { request, _ in try await self.investigations(request, key) }
        }
        let name = segments[4]
        if request.head.method == .delete {
            return self.small(request) { request, _ in try await self.deleteInvestigation(request, key, name) }
        }
        return try self.only(.get, request) { request, _ in try await self.investigate(request, key, name) }
    }

    private func investigations(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: [])
        let saved = try await self.savedInvestigations(of: entry)
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.beginArray("investigations")
        for investigation in Investigation.all {
            json.beginObject()
            json.member("name", investigation.name)
            json.member("title", investigation.title)
            json.beginArray("parameters")
            for parameter in investigation.parameters {
                json.beginObject()
                json.member("name", parameter.name)
                json.member("needed", parameter.isNeeded)
                json.endObject()
            }
            json.endArray()
            json.endObject()
        }
        json.endArray()
        json.beginArray("saved")
        for (state, investigation) in saved {
            json.beginObject()
            json.member("name", investigation.name)
            json.member("title", investigation.title)
            json.beginObject("filters")
            for filter in investigation.filters { json.member(named: filter.name, filter.value) }
            json.endObject()
            json.member("last_sequence", state.lastSequence.rawValue)
            json.member("last_recorded_at", state.lastRecordedAt)
            json.member("last_actor", state.lastActor)
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    private func investigate(_ request: APICall, _ key: String, _ name: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        let search: RecordSearch
        if let investigation = Investigation.all.first(where: { $0.name == name }) {
            let names = investigation.parameters.map(\.name)
            var values: [String: String] = [:]
            for name in names { values[name] = request.parameter(name) }
            search = try RecordSearch(request, condition: try investigation.condition(values), further: names)
        } else {
            guard let saved = try await self.savedInvestigation(name, of: entry) else {
                let known = Investigation.all.map(\.name).joined(separator: ", ")
                throw Problem(
                    .notFound,
                    "there is no investigation \"\(name)\"; known are \(known), and those that the organization keeps"
                )
            }
            search = try RecordSearch(try saved.applied(to: request))
        }
        let response = try await self.records(matching: search, of: entry, for: request)
        self.access.read(.investigations, of: entry.key, by: request)
        return response
    }

    // MARK: Those that are kept

    /// Present ones, by name.
    private func savedInvestigations(
        of entry: OrganizationEntry
    ) async throws -> [(EntityState, SavedInvestigation)] {
        var states: [EntityName: EntityState] = [:]
        var cursor: SequenceNumber?
        repeat {
            let search = RecordSearch(
                equal: [("entity_type", SavedInvestigation.entityType)],
                before: nil,
                cursor: cursor,
                isLatest: cursor == nil
            )
            let sequences = try await self.recordFilter.sequences(matching: search, in: entry)
            let page = try await self.records.read(.sequences(sequences), of: entry, isLatest: false)
            for record in page.records {
                let change = try EntityChange(record.bytes)
                states[change.name] = EntityFold.apply(change, to: states[change.name])
            }
            cursor = sequences.count == RecordSearch.limitMax ? sequences.last?.next : nil
        } while cursor != nil
        return states.values.sorted { $0.name < $1.name }
            .compactMap { state in SavedInvestigation(state).map { (state, $0) } }
    }

    private func savedInvestigation(_ name: String, of entry: OrganizationEntry) async throws -> SavedInvestigation? {
        guard SavedInvestigation.isFree(name) else { return nil }
        let reader = HistoryReader(records: self.records, filter: self.recordFilter)
        let entity = EntityName(type: SavedInvestigation.entityType, id: name)
        return try await reader.entity(entity, of: entry, at: nil, isLatest: true).state
            .flatMap { SavedInvestigation($0) }
    }

    private func saveInvestigation(_ request: APICall, _ key: String, _ body: ByteBuffer) async throws -> ServerResponse
    {
        let entry = try await self.keeper(of: key, request)
        let object = try self.object(body, of: request, keys: ["name", "title", "filters"])
        let investigation = try SavedInvestigation(object)
        // What could not be run is not kept.
        let bare = APICall(
            id: request.id,
            head: request.head,
            token: request.token,
            connection: request.connection,
            parameters: []
        )
        _ = try RecordSearch(try investigation.applied(to: bare))
        let present = try await self.savedInvestigations(of: entry).map(\.1)
        let before = present.first { $0.name == investigation.name }
        guard before != nil || present.count < SavedInvestigation.countMax else {
            throw Problem(.tooMany, "the organization keeps \(SavedInvestigation.countMax) investigations already")
        }
        let receipt = try await self.record(before, investigation, entry, request)
        return Self.response(investigation.name, receipt, before == nil ? .created : .ok)
    }

    private func deleteInvestigation(_ request: APICall, _ key: String, _ name: String) async throws -> ServerResponse {
        let entry = try await self.keeper(of: key, request)
        try request.requireOnly(parameters: [])
        guard let saved = try await self.savedInvestigation(name, of: entry) else {
            throw Problem(.notFound, "the organization keeps no investigation \"\(name)\"")
        }
        return Self.response(name, try await self.record(saved, nil, entry, request), .ok)
    }

    private func keeper(of key: String, _ request: APICall) async throws -> OrganizationEntry {
        let entry = try await self.organization(key, for: request, .keepInvestigations)
        try request.requireOnly(parameters: [])
        guard entry.key != SystemState.ledgerKey else {
            throw Problem(
                .reservedKey,
                "\"\(entry.key)\" is the cluster's own ledger: the cluster itself appends to it"
            )
        }
        return entry
    }

    /// Appends that one became another; nil for none.
    private func record(
        _ before: SavedInvestigation?,
        _ after: SavedInvestigation?,
        _ entry: OrganizationEntry,
        _ request: APICall
    ) async throws -> AppendReceipt {
        let action = after == nil ? "delete" : before == nil ? "create" : "update"
        let event = JSONValue.object([
            JSONMember("action", .text(action)), JSONMember("after", after?.value ?? .null),
            JSONMember("before", before?.value ?? .null),
            JSONMember("entity_id", .text(after?.name ?? before?.name ?? "")),
            JSONMember("entity_type", .text(SavedInvestigation.entityType)),
        ])
        let draft = try EventDraft.parse(CanonicalJSON.encode(event), defaults: self.context(entry, request))
        let command = AppendCommand(organization: entry.id, idempotency: nil, drafts: [draft])
        switch try await self.gateway.submit(.append(command), to: entry.group, mayRepeat: false) {
        case .appended(let receipt): return receipt
        case .refused(let refusal): throw Problem(refusal: refusal)
        default: throw Problem(refusal: .malformed)
        }
    }

    private static func response(
        _ name: String,
        _ receipt: AppendReceipt,
        _ status: HTTPResponse.Status
    ) -> ServerResponse {
        var json = JSONOutput()
        json.beginObject()
        json.member("name", name)
        json.member("sequence", receipt.firstSequence.rawValue)
        json.endObject()
        return self.json(status, json)
    }
}
