internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Transport

/// Records: appending and reading them.
extension APIRouter {
    /// Checks what the head can tell before the body is read.
    func appendPlan(_ request: APICall, _ key: String) throws(Problem) -> RoutePlan {
        guard let organization = OrganizationKey(key) else { throw Problem.organizationNotFound(key) }
        try request.allow(.appendRecords, in: organization)
        guard organization != SystemState.ledgerKey else {
            throw Problem(
                .reservedKey,
                "\"\(organization)\" is the cluster's own ledger: the cluster itself appends to it"
            )
        }
        try request.requireOnly(parameters: [])
        let idempotencyKey = try request.idempotencyKey()
        switch MediaType(request.head.headerFields.value(of: .contentType)) {
        case .json:
            return self.collected(request, bodyBytesMax: EventLimits.eventBytesMax) { request, body in
                let entry = try await self.organization(organization, for: request, .appendRecords)
                let bytes = Array(body.readableBytesView)
                let (draft, personal) = try EventDraft.parseSealing(bytes, defaults: self.context(entry, request))
                return try await self.append(
                    [draft],
                    personal.map { (0, $0) },
                    bytes,
                    to: entry,
                    idempotencyKey,
                    isBatch: false
                )
            }
        case .ndjson:
            return self.collected(request, bodyBytesMax: self.configuration.batchBytesMax) { request, body in
                let entry = try await self.organization(organization, for: request, .appendRecords)
                let bytes = Array(body.readableBytesView)
                let limits = EventBatch.Limits(
                    recordsMax: self.configuration.batchRecordsMax,
                    bytesMax: self.configuration.batchBytesMax
                )
                let context = self.context(entry, request)
                // A large batch takes milliseconds: not on the event loop.
                let events: (drafts: [EventDraft], personal: [(event: Int, value: PersonalValue)])
                do {
                    events = try await self.threads.run {
                        try EventBatch.parseSealing(bytes, limits: limits, defaults: context)
                    }
                } catch let error as EventError where error.code == .batchTooLarge {
                    var problem = Problem.wrapping(error)
                    problem.members.append(.number("limit", limits.recordsMax))
                    throw problem
                }
                return try await self.append(
                    events.drafts,
                    events.personal,
                    bytes,
                    to: entry,
                    idempotencyKey,
                    isBatch: true
                )
            }
        case nil:
            throw Problem(.unsupportedMediaType, "records come as application/json or application/x-ndjson")
        }
    }

    /// What the node knows of a request's records before it reads them.
    func context(_ entry: OrganizationEntry, _ request: APICall) -> EventContext {
        let isSecond = self.directory.featureLevel >= .three
        return EventContext(
            organization: entry.key,
            request: request.recordInfo,
            defaultActor: Actor(
                kind: .apiKey,
                id: request.token.id,
                name: request.token.name.isEmpty ? nil : request.token.name,
                role: request.token.grant.role.rawValue
            ),
            format: isSecond ? .second : .first,
            saltSeed: isSecond ? RandomText.bytes(PersonalCommitment.saltBytes) : nil
        )
    }

    private func append(
        _ drafts: [EventDraft],
        _ personal: [(event: Int, value: PersonalValue)],
        _ body: [UInt8],
        to entry: OrganizationEntry,
        _ idempotencyKey: String?,
        isBatch: Bool
    ) async throws -> ServerResponse {
        let receipt = try await self.append(drafts, personal, body, to: entry, idempotencyKey)
        return Self.response(receipt, entry.key, isBatch: isBatch)
    }

    /// Appends events whose texts are `body`; returns when they are durable.
    func append(
        _ drafts: [EventDraft],
        _ personal: [(event: Int, value: PersonalValue)],
        _ body: [UInt8],
        to entry: OrganizationEntry,
        _ idempotencyKey: String?
    ) async throws -> AppendReceipt {
        let command = AppendCommand(
            organization: entry.id,
            idempotency: idempotencyKey.map { Idempotency(key: $0, request: body) },
            drafts: drafts,
            sealed: try await self.seal(personal, in: entry, mayReplay: idempotencyKey != nil)
        )
        let result = try await self.gateway.submit(
            .append(command),
            to: entry.group,
            mayRepeat: idempotencyKey != nil
        )
        switch result {
        case .appended(let receipt):
            self.metrics.appended(receipt)
            return receipt
        case .refused(let refusal): throw Problem(refusal: refusal)
        default: throw Problem(refusal: .malformed)
        }
    }

    private static func response(_ receipt: AppendReceipt, _ key: OrganizationKey, isBatch: Bool) -> ServerResponse {
        var json = JSONOutput(capacity: 256 + receipt.checksums.count * 100)
        json.beginObject()
        json.member("organization", key.rawValue)
        if isBatch {
            json.member("count", receipt.checksums.count)
            json.member("first_sequence", receipt.firstSequence.rawValue)
            json.member("last_sequence", receipt.lastSequence.rawValue)
        } else {
            json.member("sequence", receipt.firstSequence.rawValue)
            json.member("checksum", receipt.checksums[0])
        }
        json.member("tree_size", receipt.lastSequence.rawValue)
        json.member("recorded_at", receipt.recordedAt)
        if isBatch {
            json.beginArray("receipts")
            for (offset, checksum) in receipt.checksums.enumerated() {
                json.beginObject()
                json.member("sequence", receipt.firstSequence.rawValue + UInt64(offset))
                json.member("checksum", checksum)
                json.endObject()
            }
            json.endArray()
        }
        json.endObject()
        var response = Self.json(.created, json)
        if receipt.isReplay { response.head.headerFields[.idempotencyReplayed] = "true" }
        return response
    }

    // MARK: Reading

    /// A single record that was read before: records never change, so the answer is right whatever happened since.
    func keptRecord(_ request: APICall, _ key: String, _ sequence: String) throws(Problem) -> ServerResponse? {
        guard request.head.method == .get, request.parameters.isEmpty, let organization = OrganizationKey(key),
            let number = UInt64(sequence)
        else { return nil }
        try request.allow(.readRecords, in: organization)
        guard let entry = self.directory.organization(organization), self.records.placement.servesHere(entry),
            let body = self.recordCache.body(of: entry.id, SequenceNumber(number))
        else { return nil }
        self.access.read(.records, of: organization, by: request)
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: MediaType.json.rawValue, .requestID: request.id],
            body: .bytes(body)
        )
    }

    func readRecord(_ request: APICall, _ key: String, _ sequence: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        try request.requireOnly(parameters: ["reveal"])
        let isRevealed = try RecordSearch.choice("reveal", request, ["false", "true"]) == "true"
        if isRevealed { try request.allow(.readSensitive, in: entry.key) }
        guard let number = UInt64(sequence), number >= 1 else {
            throw Problem(.invalidParameter, "a sequence is a number from 1")
        }
        let page = try await self.records.read(
            .sequences([SequenceNumber(number)]),
            of: entry,
            isLatest: true
        )
        guard let record = page.records.first else {
            throw Problem(
                .recordNotFound,
                "organization \(entry.key) has \(page.size) records",
                members: [.number("size", Int(clamping: page.size))]
            )
        }
        let isReserved = try ReservedRecords.contains(record.bytes)
        if isReserved { try request.allow(.readReserved, in: entry.key) }
        self.access.read(.records, of: entry.key, by: request)
        if isRevealed { return try await self.revealRecord(record.bytes, record.sequence, of: entry, for: request) }
        var json = JSONOutput(capacity: record.bytes.count + 128)
        Self.write(record, to: &json)
        let response = Self.json(.ok, json)
        // What is kept is given to whoever may read records.
        if !isReserved, case .bytes(let body) = response.body {
            self.recordCache.keep(body, of: entry.id, record.sequence)
        }
        return response
    }

    private static func write(_ record: StoredRecord, to json: inout JSONOutput) {
        json.beginObject()
        json.member("record", raw: record.bytes)
        json.member("checksum", LedgerHash.leaf(record.bytes))
        json.endObject()
    }

    func listRecords(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readRecords)
        let response = try await self.records(matching: try RecordSearch(request), of: entry, for: request)
        self.access.read(.records, of: entry.key, by: request)
        return response
    }

    /// A page of the records that a search finds, without those that the caller may not see.
    func records(
        matching search: RecordSearch,
        of entry: OrganizationEntry,
        for request: APICall
    ) async throws -> ServerResponse {
        var page: RecordReader.Page
        let search = request.seesReserved ? search : search.withoutReserved
        if search.hasFilter {
            let sequences = try await self.recordFilter.sequences(matching: search, in: entry)
            page = try await self.records.read(.sequences(sequences), of: entry, isLatest: false)
        } else {
            let from = search.cursor ?? SequenceNumber(search.isDescending ? UInt64.max : 1)
            page = try await self.records.read(
                .run(from: from, limit: search.limit, isDescending: search.isDescending),
                of: entry,
                isLatest: search.isLatest
            )
        }
        // Where the next page begins does not depend on what this one leaves out.
        let next = search.cursor(after: page)
        if search.hidesReserved {
            page.records = try page.records.filter { try !ReservedRecords.contains($0.bytes) }
        }
        var json = JSONOutput(capacity: 1024 + page.records.reduce(0) { $0 + $1.bytes.count + 100 })
        json.beginObject()
        json.beginArray("records")
        for record in page.records { Self.write(record, to: &json) }
        json.endArray()
        json.member("next", next)
        json.endObject()
        return Self.json(.ok, json)
    }
}
