internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// Statements: what they are about, how they are started, how their rows are sent.
extension APIRouter {
    /// The organizations that a call is about: the chosen one, or all that the token may query.
    func flightScope(_ call: FlightCall, catalog: String? = nil) async throws -> [OrganizationKey] {
        if let catalog = catalog ?? call.session.catalog {
            return [try await self.organization(catalog, for: call.request, .runQuery).key]
        }
        return self.directory.organizations.map(\.key).filter { call.request.token.grant.sees($0) }
    }

    /// What a descriptor stands for.
    func flightInfo(_ descriptor: FlightFlightDescriptor, _ call: FlightCall) async throws -> FlightFlightInfo {
        switch try self.flightCommand(descriptor) {
        case .path(let path):
            let (catalog, sql) = try Self.pathStatement(path)
            return try await self.started(sql, nil, catalog: catalog, descriptor, call)
        case .command(.statement(let sql)): return try await self.started(sql, nil, catalog: nil, descriptor, call)
        case .command(.prepared(let handle)):
            let statement = try self.flight.prepared(handle, by: call.request.token.id)
            return try await self.started(statement.sql, statement.parameters, catalog: nil, descriptor, call)
        case .command(.catalogue(let command)):
            return try self.info(
                ArrowStreamEncoder(schema: command.schema),
                ticket: descriptor.cmd,
                descriptor: descriptor
            )
        case .command: throw Self.readOnly
        }
    }

    /// The columns of what a descriptor stands for, without running it.
    func flightSchema(_ descriptor: FlightFlightDescriptor, _ call: FlightCall) async throws -> [UInt8] {
        let schema: ArrowSchema
        switch try self.flightCommand(descriptor) {
        case .path(let path):
            let (catalog, sql) = try Self.pathStatement(path)
            schema = call.session.profile.schema(try await self.prepared(sql, catalog: catalog, call).schema)
        case .command(.statement(let sql)):
            schema = call.session.profile.schema(try await self.prepared(sql, catalog: nil, call).schema)
        case .command(.prepared(let handle)):
            schema = call.session.profile.schema(try self.flight.prepared(handle, by: call.request.token.id).schema)
        case .command(.catalogue(let command)): schema = command.schema
        case .command: throw Self.readOnly
        }
        return ArrowStreamEncoder(schema: schema).schemaMessage()
    }

    static var readOnly: GRPCStatus {
        GRPCStatus(
            .invalidArgument,
            "read_only: statements only read; events are appended by ingest into audit_log or by the REST API"
        )
    }

    private enum Asked {
        case command(FlightCommand)
        case path([String])
    }

    private func flightCommand(_ descriptor: FlightFlightDescriptor) throws(GRPCStatus) -> Asked {
        switch descriptor.type {
        case .cmd: return .command(try FlightCommand(descriptor.cmd))
        case .path: return .path(descriptor.path)
        case .unknown, .UNRECOGNIZED: throw GRPCStatus(.invalidArgument, "a descriptor is a command or a path")
        }
    }

    /// A path is a table, or an organization and a table: all of its rows.
    private static func pathStatement(_ path: [String]) throws(GRPCStatus) -> (catalog: String?, sql: String) {
        guard (1...2).contains(path.count), let table = path.last, !table.isEmpty else {
            throw GRPCStatus(.invalidArgument, "a path is TABLE, or ORGANIZATION and TABLE")
        }
        let quoted = table.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
        return (path.count == 2 ? path[0] : nil, "SELECT * FROM \"\(quoted)\"")
    }

    // MARK: Starting

    private func started(
        _ sql: String,
        _ parameters: [ArrowValue]?,
        catalog: String?,
        _ descriptor: FlightFlightDescriptor,
        _ call: FlightCall
    ) async throws -> FlightFlightInfo {
        let result = try await self.start(sql, parameters, catalog: catalog, call)
        let handle = try self.flight.hold(result, for: call.request.token.id)
        var ticket = FlightSQLTicketStatementQuery()
        ticket.statementHandle = Data(handle)
        return try self.info(
            ArrowStreamEncoder(schema: result.schema),
            ticket: try ticket.wrapped(),
            descriptor: descriptor
        )
    }

    /// Runs a statement until its first rows are there: from here on it reflects fixed positions.
    private func start(
        _ sql: String,
        _ parameters: [ArrowValue]?,
        catalog: String?,
        _ call: FlightCall
    ) async throws -> HeldResult {
        try Self.checkStatement(sql)
        let organizations = try await self.flightScope(call, catalog: catalog)
        let outcome = try await self.queries.open(
            QueryRequest(
                sql: sql,
                parameters: parameters ?? [],
                organizations: organizations,
                consistency: call.session.consistency,
                resultBytesMax: self.queries.resultBytesMax,
                timeLimit: call.timeLimit(self.queries.timeLimit)
            ),
            by: call.request.queryCaller(.flight)
        )
        self.access.read(.query, of: organizations, by: call.request)
        var schema = call.session.profile.schema(outcome.schema)
        schema.metadata += [
            ArrowMetadata(key: "flasktrack.query_id", value: call.request.id),
            ArrowMetadata(key: "flasktrack.node", value: String(self.node.rawValue)),
            ArrowMetadata(key: "flasktrack.plan", value: outcome.plan.rawValue),
            ArrowMetadata(key: "flasktrack.provenance", value: QueryService.provenance(outcome)),
        ]
        return HeldResult(
            batches: outcome.batches,
            schema: schema,
            profile: call.session.profile,
            compression: call.session.compression
        )
    }

    /// Checks a statement without running it.
    func prepared(_ sql: String, catalog: String?, _ call: FlightCall) async throws -> PreparedQuery {
        try Self.checkStatement(sql)
        return try await self.queries.prepare(
            sql: sql,
            organizations: try await self.flightScope(call, catalog: catalog),
            by: call.request.queryCaller(.flight)
        )
    }

    static func checkStatement(_ sql: String) throws(GRPCStatus) {
        guard sql.utf8.count <= FlightLimits.statementBytesMax else {
            throw GRPCStatus(.resourceExhausted, "a statement of more than \(FlightLimits.statementBytesMax) bytes")
        }
    }

    /// One endpoint without a place: the rows are here, in their order.
    private func info(
        _ encoder: ArrowStreamEncoder,
        ticket: Data,
        descriptor: FlightFlightDescriptor
    ) throws -> FlightFlightInfo {
        var info = FlightFlightInfo()
        info.schema = Data(encoder.schemaMessage())
        info.flightDescriptor = descriptor
        var endpoint = FlightFlightEndpoint()
        endpoint.ticket.ticket = ticket
        info.endpoint = [endpoint]
        info.totalRecords = -1
        info.totalBytes = -1
        info.ordered = true
        return info
    }

    // MARK: Sending

    func doGet(_ ticket: Data, _ call: FlightCall) async throws -> FlightAnswer {
        switch try FlightCommand(ticket) {
        case .result(let handle):
            let result = try self.flight.take(handle, by: call.request.token.id)
            return .stream { writer in try await FlightSender(result, writer, self.threads).run() }
        case .catalogue(let command):
            let batches = try await self.answer(command, call)
            let held = HeldResult(
                batches: RecordBatchStream(batches: batches),
                schema: command.schema,
                profile: .arrow,
                compression: call.session.compression
            )
            return .stream { writer in try await FlightSender(held, writer, self.threads).run() }
        case .statement, .prepared, .update, .preparedUpdate, .ingest:
            throw GRPCStatus(.invalidArgument, "this is a command and no ticket: ask GetFlightInfo first")
        }
    }
}
