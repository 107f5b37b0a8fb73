internal import AuditLedger
internal import Columnar
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Transport

/// The routers of a node: over everything, and over shards that show no reserved records.
///
/// Which records a caller sees is settled by the shards that the router asks, below every statement and every plan.
struct QueryRouters: Sendable {
    let all: QueryRouter
    let withoutReserved: QueryRouter

    subscript(seesReserved seesReserved: Bool) -> QueryRouter { seesReserved ? self.all : self.withoutReserved }

}

/// Runs a statement and encodes its result in the form that was asked for.
struct QueryService: Sendable {
    /// Largest result that is gathered before it is sent (`json`, `table`), in bytes of Arrow; larger ones stream in the other forms.
    static let gatheredBytesMax = 64 << 20
    /// Most bytes of one read of a Parquet file.
    static let fileChunkBytes = 256 * 1024
    /// Provenance of more organizations than this is left out of the header, which would grow too long.
    static let provenanceHeaderMax = 32

    let routers: QueryRouters
    /// Tells which tables an organization has.
    let shards: any ShardQueryService
    let running: RunningQueries
    let cache: QueryCache
    /// Where organizations stand, as new as was asked for; nil when another node would have to say.
    let sequences: @Sendable ([OrganizationKey], QueryConsistency) async throws -> [OrganizationKey: SequenceNumber]?
    let parquet: ParquetExporter
    let manifests = QueryManifests()
    let resultBytesMax: Int
    let timeLimit: Duration

    /// Answers a statement once it has a place among those that run; the only way in, for every protocol.
    ///
    /// Returns when the first rows can be read. The statement is listed, can be ended, and keeps its place until its
    /// rows are read or dropped.
    /// - Throws: ``QueryError``.
    func open(_ request: QueryRequest, by caller: QueryCaller) async throws -> QueryOutcome {
        let router = self.routers[seesReserved: caller.seesReserved]
        let (cache, sequences) = (self.cache, self.sequences)
        let key = QueryCache.Key(
            sql: request.sql,
            parameters: request.parameters,
            organizations: Set(request.organizations).sorted(),
            plan: request.planChoice,
            seesReserved: caller.seesReserved
        )
        return try await self.running.run(sql: request.sql, organizations: request.organizations, caller: caller) {
            var request = request
            request.now = SystemTime.now()
            guard request.asOf == nil else { return try await router.run(request) }
            let timed = request
            // The statement is planned while a majority is asked where the organizations stand: one round for each group
            // tells of all of them.
            async let planning: Void = router.plan(ahead: timed)
            let found = try await sequences(key.organizations, request.consistency)
            let isKept = cache.keeps(request)
            if isKept, let found, let kept = cache.find(key, at: found, within: request) { return kept }
            await planning
            guard let positions = found else { return try await router.run(request) }
            // What was just confirmed need not be confirmed again.
            request.consistency = .atLeast(positions)
            let outcome = try await router.run(request)
            guard isKept else { return outcome }
            // Only what reflects exactly these records may be kept.
            guard outcome.provenance.allSatisfy({ positions[$0.organization] == $0.sequence }) else { return outcome }
            let batches = KeptBatches(outcome: outcome, cache: cache, key: key, sequences: positions)
            return outcome.replacing(batches: RecordBatchStream(batches))
        }
    }

    /// Checks a statement and tells its columns and parameters; no shard is asked for rows.
    /// - Throws: ``QueryError``.
    func prepare(
        sql: String,
        organizations: [OrganizationKey],
        by caller: QueryCaller
    ) async throws -> PreparedQuery {
        try await self.routers[seesReserved: caller.seesReserved].prepare(sql: sql, organizations: organizations)
    }

    func run(
        sql: String,
        parameters: [ArrowValue] = [],
        organizations: [OrganizationKey],
        consistency: QueryConsistency,
        asOf: QueryAsOf? = nil,
        plan: QueryRequest.PlanChoice = .automatic,
        format: ResultFormat,
        by caller: QueryCaller
    ) async throws -> ServerResponse {
        let started = NodeClock.monotonic.now
        let request = QueryRequest(
            sql: sql,
            parameters: parameters,
            organizations: organizations,
            consistency: consistency,
            resultBytesMax: self.isGathered(format)
                ? min(Self.gatheredBytesMax, self.resultBytesMax) : self.resultBytesMax,
            timeLimit: self.timeLimit,
            planChoice: plan,
            asOf: asOf
        )
        let outcome = try await self.open(request, by: caller)
        let answer = QueryAnswer(
            request: request,
            caller: caller,
            format: format,
            at: SystemTime.now(),
            plan: outcome.plan,
            provenance: Self.provenance(outcome),
            rows: RowCounter()
        )
        let response: ServerResponse
        switch format {
        case .json, .table, .box, .markdown:
            response = try await self.gathered(outcome, format, answer.rows, started: started)
        case .ndjson, .csv, .arrow: response = try await self.streamed(outcome, format, answer.rows)
        case .parquet: response = try await self.file(outcome, answer.rows)
        }
        return self.manifests.noting(answer, response)
    }

    private func isGathered(_ format: ResultFormat) -> Bool {
        switch format {
        case .json, .table, .box, .markdown: true
        case .ndjson, .csv, .arrow, .parquet: false
        }
    }

    private func gathered(
        _ outcome: QueryOutcome,
        _ format: ResultFormat,
        _ counter: RowCounter,
        started: ContinuousClock.Instant
    ) async throws -> ServerResponse {
        // What explains is there to be read whole.
        let isExplained = outcome.schema.fields.map(\.name).prefix(3) == ["item", "organization", "detail"]
        let options = isExplained ? ResultEncoderOptions(cellWidthMax: .max) : ResultEncoderOptions()
        var encoder = try ResultEncoder(format: format, schema: outcome.schema, options: options)
        var buffer = ByteBuffer(bytes: encoder.start())
        for try await batch in counter.counting(outcome.batches) {
            buffer.writeBytes(try encoder.encode(batch))
        }
        let elapsed = started.duration(to: NodeClock.monotonic.now)
        let milliseconds =
            Double(elapsed.components.attoseconds / 1_000_000_000_000) / 1000
            + Double(elapsed.components.seconds) * 1000
        buffer.writeBytes(
            encoder.finish(jsonMembers: [
                ("row_count", String(counter.count)),
                ("plan", "\"\(outcome.plan.rawValue)\""),
                ("provenance", Self.provenance(outcome)),
                ("elapsed_ms", String(milliseconds)),
            ])
        )
        return ServerResponse(status: .ok, headerFields: self.fields(outcome, format), body: .bytes(buffer))
    }

    /// Answers once the first rows are there, so that a statement that fails before them is refused like any other.
    private func streamed(
        _ outcome: QueryOutcome,
        _ format: ResultFormat,
        _ counter: RowCounter
    ) async throws -> ServerResponse {
        let first = try ResultEncoder(format: format, schema: outcome.schema)
        let batches = try await StartedBatches(counter.counting(outcome.batches))
        return ServerResponse(
            status: .ok,
            headerFields: self.fields(outcome, format),
            body: .stream { writer in
                var encoder = first
                try await writer.write(ByteBuffer(bytes: encoder.start()))
                while let batch = try await batches.next() {
                    try await writer.write(try encoder.buffers(of: batch), ahead: 0)
                }
                try await writer.write(ByteBuffer(bytes: encoder.finish()))
                return nil
            }
        )
    }

    private func file(_ outcome: QueryOutcome, _ counter: RowCounter) async throws -> ServerResponse {
        let file = try await self.parquet.export(schema: outcome.schema, batches: counter.counting(outcome.batches))
        var fields = self.fields(outcome, .parquet)
        fields[.contentLength] = String(file.byteCount)
        return ServerResponse(
            status: .ok,
            headerFields: fields,
            body: .stream { writer in
                var offset = 0
                while offset < file.byteCount {
                    let bytes = try await file.read(from: offset, count: Self.fileChunkBytes)
                    guard !bytes.isEmpty else { break }
                    try await writer.write(ByteBuffer(bytes: bytes))
                    offset += bytes.count
                }
                return nil
            }
        )
    }

    private func fields(_ outcome: QueryOutcome, _ format: ResultFormat) -> HTTPFields {
        var fields: HTTPFields = [.contentType: format.mediaType, .queryPlan: outcome.plan.rawValue]
        if format != .json, outcome.provenance.count <= Self.provenanceHeaderMax {
            fields[.queryProvenance] = Self.provenance(outcome)
        }
        return fields
    }

    /// What the answer reflects, as JSON.
    static func provenance(_ outcome: QueryOutcome) -> String {
        var json = JSONOutput()
        json.beginArray()
        for part in outcome.provenance {
            json.beginObject()
            json.member("organization", part.organization.rawValue)
            json.member("sequence", part.sequence.rawValue)
            json.member("root", part.root)
            json.member("node", part.node.rawValue)
            json.endObject()
        }
        json.endArray()
        return String(decoding: json.bytes, as: UTF8.self)
    }
}

extension APIRouter {
    func query(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let object = try self.object(
            body,
            of: request,
            keys: ["sql", "parameters", "organizations", "consistency", "as_of", "plan", "format"]
        )
        let sql = try object.string("sql")
        let organizations = try await self.scope(object, request)
        let accepted = ResultFormat(accepting: request.head.headerFields.value(of: .accept))
        let name = try object.optionalString("format") ?? accepted.rawValue
        guard let format = ResultFormat(rawValue: name) else {
            let known = ResultFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw Problem(.invalidField, "format is one of \(known)", members: [.text("pointer", "/format")])
        }
        let response = try await self.queries.run(
            sql: sql,
            parameters: try Self.parameters(object),
            organizations: organizations,
            consistency: try await self.consistency(object, request),
            asOf: try QueryMoments.read(object, of: organizations),
            plan: try Self.plan(object),
            format: format,
            by: request.queryCaller(.rest)
        )
        self.access.read(.query, of: organizations, by: request)
        return response
    }

    /// Plain values for `?` or `$1`, `$2`, …, in order.
    private static func parameters(_ object: JSONPlace) throws -> [ArrowValue] {
        guard let list = try object.optional("parameters") else { return [] }
        return try list.array().map { place in
            switch place.value {
            case .null: return .null
            case .bool(let bit): return .bool(bit)
            case .number(let number): return number.integer.map(ArrowValue.int) ?? .double(number.double)
            case .string: return .string(try place.string())
            case .array, .object:
                throw Problem(
                    .invalidField,
                    "a parameter is null, true, false, a number or a text",
                    members: [.text("pointer", "/parameters")]
                )
            }
        }
    }

    /// The plan that is forced; the cheapest that is exact when none is.
    private static func plan(_ object: JSONPlace) throws -> QueryRequest.PlanChoice {
        switch try object.optionalString("plan") {
        case nil, "automatic": return .automatic
        case "gather": return .gather
        default:
            throw Problem(.invalidField, "plan is automatic or gather", members: [.text("pointer", "/plan")])
        }
    }

    /// The organizations that a statement sees: those named, or all that the token may query.
    private func scope(_ object: JSONPlace, _ request: APICall) async throws -> [OrganizationKey] {
        guard let list = try object.optional("organizations") else {
            return self.directory.organizations.map(\.key).filter { request.token.grant.sees($0) }
        }
        let keys = try list.array().map { try $0.string() }
        return try await self.organizations(keys, for: request, .runQuery).map(\.key)
    }

    private func consistency(_ object: JSONPlace, _ request: APICall) async throws -> QueryConsistency {
        guard let place = try object.optional("consistency") else { return .linearizable }
        if case .string = place.value {
            switch try place.string() {
            case "linearizable": return .linearizable
            case "eventual": return .eventual
            default:
                throw Problem(
                    .invalidField,
                    "consistency is linearizable, eventual or {\"at_least\":{ORGANIZATION:SEQUENCE}}",
                    members: [.text("pointer", "/consistency")]
                )
            }
        }
        try place.requireOnly(keys: ["at_least"])
        let wanted = try place.required("at_least")
        var positions: [OrganizationKey: SequenceNumber] = [:]
        for member in try wanted.object() {
            let name = String(decoding: member.key, as: UTF8.self)
            let key = try await self.organization(name, for: request, .runQuery).key
            let sequence = try wanted.integer(name)
            guard sequence >= 0 else {
                throw Problem(.invalidField, "a sequence is not negative", members: [.text("pointer", "/consistency")])
            }
            positions[key] = SequenceNumber(UInt64(sequence))
        }
        return .atLeast(positions)
    }
}

extension APICall {
    /// Who runs a statement.
    func queryCaller(_ channel: QueryCaller.Channel) -> QueryCaller {
        QueryCaller(
            token: self.token.id,
            name: self.token.name.isEmpty ? self.token.id : self.token.name,
            channel: channel,
            requestID: self.id,
            seesReserved: self.seesReserved
        )
    }
}

extension ResultFormat {
    /// The form that an `Accept` field prefers among ours; JSON when it names none of them.
    ///
    /// - Source: RFC 9110, section 12.5.1
    init(accepting field: String?) {
        var best: (format: ResultFormat, weight: Double) = (.json, 0)
        for part in (field ?? "").split(separator: ",") {
            let pieces = part.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
            guard let type = pieces.first, let format = Self.accepted[type] else { continue }
            let weight = pieces.dropFirst().first { $0.hasPrefix("q=") }.map { Double($0.dropFirst(2)) ?? 0 } ?? 1
            if weight > best.weight { best = (format, weight) }
        }
        self = best.format
    }

    private static let accepted: [String: ResultFormat] = [
        "application/json": .json, "application/x-ndjson": .ndjson, "application/ndjson": .ndjson, "text/csv": .csv,
        "application/vnd.apache.arrow.stream": .arrow, "application/vnd.apache.parquet": .parquet,
        "text/plain": .table, "text/markdown": .markdown,
    ]
}
