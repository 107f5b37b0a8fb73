internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Transport

/// Finds the answer to a request: who asks, which route, which limits. Routes of its own are in extensions by subject.
///
/// An object: every route's handler holds it.
final class APIRouter: RequestRouter {
    /// Largest body of a request that carries no records, in bytes.
    static let smallBodyBytesMax = 256 * 1024
    /// Most bytes that are read of a body that is too large, before it is refused.
    static let drainedBytesMax = 16 << 20

    let node: NodeID
    let configuration: NodeConfiguration
    let directory: ShardDirectory
    let gateway: CommandGateway
    let records: RecordReader
    let recordFilter: RecordFilter
    let queries: QueryService
    let queryWatch: QueryWatch
    let replicas: ReplicaReader
    let trusted: TrustedHeads
    let cluster: ClusterReader
    let administration: ClusterAdministration
    let audit: NodeAudit
    let checkpoints: CheckpointReader
    let publisher: KeyPublisher
    let subjects: SubjectKeeper
    let health: HealthReport
    let metrics: NodeMetrics
    let ids: RequestIDs
    let threads: StoreThreads
    let recordCache: RecordCache
    let exports: ExportService
    let access: AccessRecorder
    let flight: FlightState
    let logger: Logger

    init(
        node: NodeID,
        configuration: NodeConfiguration,
        directory: ShardDirectory,
        gateway: CommandGateway,
        records: RecordReader,
        recordFilter: RecordFilter,
        queries: QueryService,
        queryWatch: QueryWatch,
        replicas: ReplicaReader,
        trusted: TrustedHeads,
        cluster: ClusterReader,
        administration: ClusterAdministration,
        audit: NodeAudit,
        checkpoints: CheckpointReader,
        publisher: KeyPublisher,
        subjects: SubjectKeeper,
        health: HealthReport,
        metrics: NodeMetrics,
        ids: RequestIDs,
        threads: StoreThreads,
        recordCache: RecordCache,
        exports: ExportService,
        access: AccessRecorder,
        flight: FlightState,
        logger: Logger
    ) {
        self.node = node
        self.configuration = configuration
        self.directory = directory
        self.gateway = gateway
        self.records = records
        self.recordFilter = recordFilter
        self.queries = queries
        self.queryWatch = queryWatch
        self.replicas = replicas
        self.trusted = trusted
        self.cluster = cluster
        self.administration = administration
        self.audit = audit
        self.checkpoints = checkpoints
        self.publisher = publisher
        self.subjects = subjects
        self.health = health
        self.metrics = metrics
        self.ids = ids
        self.threads = threads
        self.recordCache = recordCache
        self.exports = exports
        self.access = access
        self.flight = flight
        self.logger = logger
    }

    typealias Handler = @Sendable (APICall, ByteBuffer) async throws -> ServerResponse

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        let target = head.path ?? "/"
        let mark = target.utf8.firstIndex(of: UInt8(ascii: "?"))
        let path = target[..<(mark ?? target.endIndex)]
        let query = mark.map { target[target.utf8.index(after: $0)...] } ?? ""
        switch path {
        case "/healthz" where head.method == .get: return .immediate(self.health.alive)
        case "/readyz" where head.method == .get: return .immediate(self.health.readiness())
        default: break
        }
        if path.hasPrefix(FlightMethod.pathPrefix) {
            return self.flightPlan(head, connection, path.dropFirst(FlightMethod.pathPrefix.count))
        }
        let id = self.ids.next()
        var call: APICall?
        do {
            let token = try self.authenticate(head)
            guard let segments = RequestTarget.segments(of: path),
                let parameters = RequestTarget.parameters(of: query)
            else { throw Problem(.invalidParameter, "the target has a malformed escape") }
            let request = APICall(
                id: id,
                head: head,
                token: token,
                connection: connection,
                parameters: parameters
            )
            call = request
            return try self.plan(request, segments)
        } catch {
            if call == nil, (error as? Problem)?.code == .unauthenticated {
                let info = RequestInfo(id: id, head: head, connection: connection, authentication: nil)
                if let token = Self.bearer(head).flatMap({ self.directory.revokedToken(hash: $0) }) {
                    self.access.revokedCaller(token, info)
                } else {
                    self.access.unknownCaller(info)
                }
            }
            // The body is taken first: some clients do not read an answer that ends their upload.
            let refusal = self.refuse(error, id: id, head: head, of: call)
            return .collected(bodyBytesMax: Self.smallBodyBytesMax, tooLarge: { refusal }, handler: { _, _ in refusal })
        }
    }

    private func authenticate(_ head: HTTPRequest) throws(Problem) -> TokenEntry {
        // A client takes 401 as final: not before this node knows the tokens.
        guard self.directory.isBootstrapped else {
            throw Problem(.noLeader, "this node does not know yet that the cluster has begun")
        }
        guard let field = head.headerFields.value(of: .authorization) else {
            throw Problem(.unauthenticated, "an Authorization header with a bearer token is needed")
        }
        guard let token = Self.tokenHash(field).flatMap({ self.directory.token(hash: $0) }) else {
            throw Problem(.unauthenticated, "the token is not known")
        }
        return token
    }

    /// The hash of the token that a request shows; nil when it shows none.
    private static func bearer(_ head: HTTPRequest) -> Digest? {
        head.headerFields.value(of: .authorization).flatMap(self.tokenHash)
    }

    private static func tokenHash(_ field: String) -> Digest? {
        let bytes = Array(field.utf8)
        guard bytes.count > self.scheme.count, self.isBearer(bytes) else { return nil }
        return sha256(Array(bytes[self.scheme.count...]))
    }

    /// The scheme of RFC 6750 in lowercase, with the space after it.
    private static let scheme = Array("bearer ".utf8)

    /// Whether `field` begins with the scheme, in whatever case.
    private static func isBearer(_ field: [UInt8]) -> Bool {
        zip(field, self.scheme).allSatisfy { byte, wanted in
            byte == wanted || (wanted != UInt8(ascii: " ") && byte | 0x20 == wanted)
        }
    }

    /// The route's plan.
    private func plan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        guard segments.first == "v1" else {
            if segments == ["metrics"] {
                return try self.only(.get, request) { request, _ in try self.metricsText(request) }
            }
            throw Problem(.notFound, "there is no such route")
        }
        switch segments.count {
        case 2:
            switch segments[1] {
            case "organizations":
                if request.head.method == .post { return self.small(request, self.createOrganization) }
                return try self.only(.get, request, self.listOrganizations)
            case "actions": return try self.only(.get, request) { request, _ in try self.actions(request) }
            case "query": return try self.only(.post, request, self.query)
            case "queries": return try self.only(.get, request, self.listQueries)
            case "cluster": return try self.only(.get, request, self.clusterStatus)
            case "keys": return try self.only(.get, request, self.listKeys)
            case "tokens":
                if request.head.method == .post { return self.small(request, self.createToken) }
                return try self.only(.get, request, self.listTokens)
            default: break
            }
        case 3... where segments[1] == "cluster": return try self.clusterPlan(request, Array(segments.dropFirst(2)))
        case 3 where segments[1] == "organizations":
            return try self.only(.get, request) { request, _ in try await self.readOrganization(request, segments[2]) }
        case 3 where segments[1] == "queries":
            return try self.only(.delete, request) { request, _ in try await self.endQuery(request, segments[2]) }
        case 4 where segments[1] == "queries" && segments[3] == "manifest":
            return try self.only(.get, request) { request, _ in try self.queryManifest(request, segments[2]) }
        case 3 where segments[1] == "tokens":
            return try self.only(.delete, request) { request, _ in try await self.revokeToken(request, segments[2]) }
        case 3 where segments[1] == "audit" && segments[2] == "verify":
            return try self.only(.post, request, self.verify)
        case 3 where segments[1] == "audit" && segments[2] == "rebuild":
            return try self.only(.post, request, self.rebuild)
        case 4 where segments[1] == "organizations" && segments[3] == "export":
            return try self.exportPlan(request, segments[2])
        case 3 where segments[1] == "audit": return try self.auditPlan(request, segments[2])
        case 4... where segments[1] == "organizations" && segments[3] == "subjects":
            return try self.subjectPlan(request, segments)
        case 4... where segments[1] == "organizations" && Self.historyParts.contains(segments[3]):
            return try self.historyPlan(request, segments)
        case 4 where segments[1] == "organizations" && segments[3] == "records":
            if request.head.method == .post { return try self.appendPlan(request, segments[2]) }
            return try self.only(.get, request) { request, _ in try await self.listRecords(request, segments[2]) }
        case 4 where segments[1] == "organizations" && segments[3] == "ledger":
            return try self.only(.get, request) { request, _ in try await self.ledger(request, segments[2]) }
        case 5 where segments[1] == "organizations" && segments[3] == "records":
            if let kept = try self.keptRecord(request, segments[2], segments[4]) { return .immediate(kept) }
            return try self.only(.get, request) { request, _ in
                try await self.readRecord(request, segments[2], segments[4])
            }
        case 4... where segments[1] == "organizations" && Self.checkpointParts.contains(segments[3]):
            return try self.checkpointPlan(request, segments)
        case 6 where segments[1] == "organizations" && segments[3] == "records":
            return try self.checkpointPlan(request, segments)
        default: break
        }
        throw Problem(.notFound, "there is no such route")
    }

    func only(
        _ method: HTTPRequest.Method,
        _ request: APICall,
        _ handler: @escaping Handler
    ) throws(Problem) -> RoutePlan {
        guard request.head.method == method else {
            var problem = Problem(.methodNotAllowed, "this route takes \(method.rawValue)")
            problem.headers[.allow] = method.rawValue
            throw problem
        }
        return self.small(request, handler)
    }

    func small(_ request: APICall, _ handler: @escaping Handler) -> RoutePlan {
        self.collected(request, bodyBytesMax: Self.smallBodyBytesMax, handler)
    }

    /// Collects the body, runs the handler, and turns what it throws into a problem document.
    func collected(_ request: APICall, bodyBytesMax: Int, _ handler: @escaping Handler) -> RoutePlan {
        let refusal: @Sendable () -> ServerResponse = {
            let tooLarge = Problem(
                .bodyTooLarge,
                "the body is longer than \(bodyBytesMax) bytes",
                members: [.number("limit", bodyBytesMax)]
            )
            return tooLarge.response(requestID: request.id)
        }
        if let declared = request.head.headerFields.value(of: .contentLength).flatMap({ Int($0) }),
            declared > bodyBytesMax
        {
            return .streaming { request in
                await Self.drain(request.body)
                return refusal()
            }
        }
        return .collected(bodyBytesMax: bodyBytesMax, tooLarge: refusal) { _, body in
            let started = NodeClock.monotonic.now
            var response: ServerResponse
            do {
                response = try await handler(request, body)
                response.head.headerFields[.requestID] = request.id
            } catch {
                response = self.refuse(error, id: request.id, head: request.head, of: request)
            }
            self.metrics.answered(response.head.status.code, after: started.duration(to: NodeClock.monotonic.now))
            return response
        }
    }

    /// Takes the body of a refused request, up to a bound: some clients do not read an answer that ends their upload.
    private static func drain(_ body: RequestBody) async {
        var bytes = 0
        do {
            for try await chunk in body {
                bytes += chunk.readableBytes
                if bytes > Self.drainedBytesMax { return }
            }
        } catch {
            // The client has gone, and with it whoever would read the answer.
        }
    }

    private func refuse(_ error: any Error, id: String, head: HTTPRequest, of call: APICall?) -> ServerResponse {
        self.noted(error, id: id, path: head.method.rawValue, of: call).response(requestID: id)
    }

    /// The problem behind an error, once it is on record, in the log and counted as it must be.
    /// - Parameter path: What the log calls the request.
    func noted(_ error: any Error, id: String, path: String, of call: APICall?) -> Problem {
        let problem = Problem.wrapping(error)
        if let call, let refusal = problem.refusal ?? Self.refusal(of: problem.code) {
            self.access.refused(refusal, of: call)
        }
        if problem.code.status.code >= 500 {
            self.logger.warning(
                "request failed",
                metadata: [
                    "request.id": "\(id)",
                    "request.method": "\(path)",
                    "problem.code": "\(problem.code.rawValue)",
                    "problem.detail": "\(problem.detail)",
                    "error.chain": "\(problem.cause.map(errorChain) ?? "-")",
                ]
            )
        }
        self.metrics.refused(problem.code)
        return problem
    }

    /// What nobody may do, whatever the role.
    private static func refusal(of code: Problem.Code) -> AccessRefusal? {
        guard code == .sqlNotAllowed || code == .sqlQuarantined else { return nil }
        return AccessRefusal(what: code.rawValue, organization: nil, isRestricted: true)
    }

    /// The organization of a path, when the caller may do `operation` in it.
    ///
    /// One that this node does not know yet may have been created through another a moment ago: then the system group is asked.
    func organization(
        _ key: String,
        for request: APICall,
        _ operation: AccessOperation
    ) async throws(Problem) -> OrganizationEntry {
        guard let key = OrganizationKey(key) else { throw Problem.organizationNotFound(key) }
        return try await self.organization(key, for: request, operation)
    }

    /// The organization with a key that was read already, as ``organization(_:for:_:)``.
    func organization(
        _ key: OrganizationKey,
        for request: APICall,
        _ operation: AccessOperation
    ) async throws(Problem) -> OrganizationEntry {
        try request.allow(operation, in: key)
        if let entry = self.directory.organization(key) { return entry }
        do {
            try await self.records.reads.linearize(.system)
        } catch {
            throw Problem.wrapping(error)
        }
        guard let entry = self.directory.organization(key) else { throw Problem.organizationNotFound(key.rawValue) }
        return entry
    }

    /// Several organizations, as ``organization(_:for:_:)``.
    func organizations(
        _ keys: [String],
        for request: APICall,
        _ operation: AccessOperation
    ) async throws(Problem) -> [OrganizationEntry] {
        var entries: [OrganizationEntry] = []
        for key in keys { entries.append(try await self.organization(key, for: request, operation)) }
        return entries
    }

    static func json(_ status: HTTPResponse.Status, _ output: JSONOutput) -> ServerResponse {
        ServerResponse(
            status: status,
            headerFields: [.contentType: "application/json"],
            body: .bytes(output.buffer)
        )
    }

    private func metricsText(_ request: APICall) throws -> ServerResponse {
        try request.allow(.readCluster)
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: PrometheusRegistry.contentType],
            body: .bytes(ByteBuffer(string: self.metrics.render()))
        )
    }
}
