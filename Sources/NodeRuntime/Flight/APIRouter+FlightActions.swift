internal import Columnar
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import SwiftProtobuf
internal import Transport

/// Actions, and the questions about what there is.
extension APIRouter {
    static let actionTypes: [FlightActionType] = [
        ("CreatePreparedStatement", "Checks a statement and keeps it: its columns and parameters are told."),
        ("ClosePreparedStatement", "Forgets a prepared statement."),
        ("CancelFlightInfo", "Drops a result that has not been read; one that is being read ends with its stream."),
        ("CancelQuery", "The older form of CancelFlightInfo."),
        ("RenewFlightEndpoint", "Lets a result wait for its reader for its whole time again."),
        ("SetSessionOptions", "Sets catalog, schema, profile, compression or consistency for a client with cookies."),
        ("GetSessionOptions", "Tells the options that are set."),
        ("CloseSession", "Forgets the options."),
    ].map { name, text in
        var type = FlightActionType()
        type.type = name
        type.description_p = text
        return type
    }

    func doAction(_ action: FlightAction, _ call: FlightCall) async throws -> FlightAnswer {
        let token = call.request.token.id
        switch action.type {
        case "CreatePreparedStatement":
            let request = try FlightSQLActionCreatePreparedStatementRequest.unwrapped(action.body)
            return try Self.result(try await self.createPrepared(request.query, call).wrapped())
        case "ClosePreparedStatement":
            let request = try FlightSQLActionClosePreparedStatementRequest.unwrapped(action.body)
            self.flight.close(Array(request.preparedStatementHandle), by: token)
            return .messages([])
        case "CancelFlightInfo":
            let request: FlightCancelFlightInfoRequest = try Self.body(action)
            var result = FlightCancelFlightInfoResult()
            try self.cancel(request.info, token)
            result.status = .cancelled
            return try Self.result(try result.serializedData())
        case "CancelQuery":
            let request = try FlightSQLActionCancelQueryRequest.unwrapped(action.body)
            guard let info = try? FlightFlightInfo(serializedBytes: request.info) else {
                throw GRPCStatus(.invalidArgument, "a malformed FlightInfo")
            }
            var result = FlightSQLActionCancelQueryResult()
            try self.cancel(info, token)
            result.result = .cancelled
            return try Self.result(try result.wrapped())
        case "RenewFlightEndpoint":
            let request: FlightRenewFlightEndpointRequest = try Self.body(action)
            try self.flight.renew(try Self.resultHandle(request.endpoint), by: token)
            var endpoint = request.endpoint
            let (seconds, rest) = SystemTime.now().rawValue.quotientAndRemainder(dividingBy: 1_000_000)
            endpoint.expirationTime = Google_Protobuf_Timestamp(
                seconds: seconds + FlightLimits.heldTime.components.seconds,
                nanos: Int32(rest * 1000)
            )
            return try Self.result(try endpoint.serializedData())
        case "SetSessionOptions": return try self.setOptions(try Self.body(action), call)
        case "GetSessionOptions":
            var result = FlightGetSessionOptionsResult()
            for (name, value) in call.session.options { result.sessionOptions[name] = .with { $0.stringValue = value } }
            return try Self.result(try result.serializedData())
        case "CloseSession":
            var result = FlightCloseSessionResult()
            result.status = .closed
            return try Self.result(
                try result.serializedData(),
                [.setCookieField: FlightSession.clearCookie]
            )
        default: throw GRPCStatus(.unimplemented, "action \(action.type) is not supported")
        }
    }

    private static func body<Body: SwiftProtobuf.Message>(_ action: FlightAction) throws(GRPCStatus) -> Body {
        guard let message = try? Body(serializedBytes: action.body) else {
            throw GRPCStatus(.invalidArgument, "a malformed \(Body.protoMessageName)")
        }
        return message
    }

    private static func result(_ body: Data, _ fields: HTTPFields = [:]) throws -> FlightAnswer {
        var result = FlightResult()
        result.body = body
        return .messages([try result.framed()], fields)
    }

    private static func resultHandle(_ endpoint: FlightFlightEndpoint) throws(GRPCStatus) -> [UInt8] {
        guard case .result(let handle) = try FlightCommand(endpoint.ticket.ticket) else {
            throw GRPCStatus(.invalidArgument, "the endpoint is not one of a statement")
        }
        return handle
    }

    private func cancel(_ info: FlightFlightInfo, _ token: String) throws(GRPCStatus) {
        for endpoint in info.endpoint {
            guard self.flight.cancel(try Self.resultHandle(endpoint), by: token) else {
                throw GRPCStatus(
                    .notFound,
                    "ticket_unknown: no such result waits; one that is being read is cancelled by ending its stream"
                )
            }
        }
    }

    private func setOptions(
        _ request: FlightSetSessionOptionsRequest,
        _ call: FlightCall
    ) throws -> FlightAnswer {
        // Without cookies the next call would silently be about other organizations.
        guard call.session.keepsCookies else {
            throw GRPCStatus(
                .failedPrecondition,
                "session options live in cookies, and this client keeps none: switch them on "
                    + "(ADBC: adbc.flight.sql.rpc.with_cookie_middleware), or send the header x-flasktrack-catalog"
            )
        }
        var session = call.session
        var result = FlightSetSessionOptionsResult()
        for (name, value) in request.sessionOptions {
            guard let option = FlightSession.Option(rawValue: name) else {
                result.errors[name] = .with { $0.value = .invalidName }
                continue
            }
            let isSet: Bool
            switch value.optionValue {
            case .stringValue(let text)?: isSet = session.set(option, to: text)
            case nil: isSet = session.set(option, to: "")
            default: isSet = false
            }
            if !isSet { result.errors[name] = .with { $0.value = .invalidValue } }
        }
        return try Self.result(try result.serializedData(), [.setCookieField: session.setCookie])
    }

    // MARK: Prepared statements

    private func createPrepared(
        _ sql: String,
        _ call: FlightCall
    ) async throws -> FlightSQLActionCreatePreparedStatementResult {
        let known = try await self.prepared(sql, catalog: nil, call)
        guard known.parameterTypes.count <= FlightLimits.parametersMax else {
            throw GRPCStatus(.resourceExhausted, "a statement of more than \(FlightLimits.parametersMax) parameters")
        }
        let prepared = PreparedStatement(sql: sql, schema: known.schema, parameterTypes: known.parameterTypes)
        let handle = try self.flight.prepare(prepared, for: call.request.token.id)
        var result = FlightSQLActionCreatePreparedStatementResult()
        result.preparedStatementHandle = Data(handle)
        // Some clients take a statement without columns for one that writes.
        result.isUpdate = false
        let sent = call.session.profile.schema(prepared.schema)
        result.datasetSchema = Data(ArrowStreamEncoder(schema: sent).schemaMessage())
        let parameters = prepared.parameterTypes.enumerated().map { ArrowField(String($0.offset + 1), $0.element) }
        result.parameterSchema = Data(ArrowStreamEncoder(schema: ArrowSchema(fields: parameters)).schemaMessage())
        return result
    }

    // MARK: What there is

    /// Answers a question about what there is.
    func answer(_ command: CatalogueCommand, _ call: FlightCall) async throws -> [ArrowRecordBatch] {
        func text(_ values: [String]) -> [ArrowValue] { values.map { .string($0) } }
        let columns: [[ArrowValue]]
        switch command {
        case .sqlInfo(let numbers): return [try FlightSQLInfo.batch(numbers)]
        case .typeInfo(let number): return [try FlightTypeInfo.batch(number)]
        case .catalogs: columns = [text(self.visibleOrganizations(call).map(\.rawValue))]
        case .schemas(let query):
            let isWanted =
                !query.hasDbSchemaFilterPattern
                || LikePattern.matches(FlightSession.schemaName, query.dbSchemaFilterPattern)
            let catalogs = isWanted ? try self.catalogs(query.hasCatalog ? query.catalog : nil, call) : []
            columns = [text(catalogs.map(\.rawValue)), text(catalogs.map { _ in FlightSession.schemaName })]
        case .tables(let query): columns = try await self.tables(query, call)
        case .tableTypes: columns = [text(FlightTable.Kind.allCases.map(\.rawValue))]
        case .primaryKeys, .foreignKeys: columns = command.schema.fields.map { _ in [] }
        }
        return [try ArrowRecordBatch.make(schema: command.schema, columns: columns)]
    }

    private func visibleOrganizations(_ call: FlightCall) -> [OrganizationKey] {
        self.directory.organizations.map(\.key).filter { call.request.token.grant.sees($0) }.sorted()
    }

    /// The catalogs that a question is about: the named one, the session's, or all that the token may query.
    private func catalogs(_ name: String?, _ call: FlightCall) throws -> [OrganizationKey] {
        let visible = self.visibleOrganizations(call)
        guard let name = name ?? call.session.catalog else { return visible }
        return visible.filter { $0.rawValue == name }
    }

    private func tables(_ query: FlightSQLCommandGetTables, _ call: FlightCall) async throws -> [[ArrowValue]] {
        var columns: [[ArrowValue]] = Array(repeating: [], count: query.includeSchema ? 5 : 4)
        guard
            !query.hasDbSchemaFilterPattern
                || LikePattern.matches(FlightSession.schemaName, query.dbSchemaFilterPattern)
        else { return columns }
        for organization in try self.catalogs(query.hasCatalog ? query.catalog : nil, call) {
            for table in try await self.flightTables(of: organization, call) {
                guard table.isOne(of: query.tableTypes),
                    !query.hasTableNameFilterPattern
                        || LikePattern.matches(table.name, query.tableNameFilterPattern)
                else { continue }
                columns[0].append(.string(table.catalog))
                columns[1].append(.string(FlightSession.schemaName))
                columns[2].append(.string(table.name))
                columns[3].append(.string(table.kind.rawValue))
                guard query.includeSchema else { continue }
                let schema = call.session.profile.schema(table.schema)
                columns[4].append(.bytes(ArrowStreamEncoder(schema: schema).schemaMessage()))
            }
        }
        return columns
    }

    /// The tables of an organization that the token may query.
    func flightTables(of organization: OrganizationKey, _ call: FlightCall) async throws -> [FlightTable] {
        let tables = try await self.queries.shards.tables(of: organization, isCurrent: false).tables
        return tables.map { FlightTable($0, of: organization) }
    }

    /// Every table as a path; the rows are had by asking for the path.
    func listFlights(_ call: FlightCall) async throws -> [FlightFlightInfo] {
        var infos: [FlightFlightInfo] = []
        for organization in try self.catalogs(nil, call) {
            for table in try await self.flightTables(of: organization, call) {
                var info = FlightFlightInfo()
                let schema = call.session.profile.schema(table.schema)
                info.schema = Data(ArrowStreamEncoder(schema: schema).schemaMessage())
                info.flightDescriptor.type = .path
                info.flightDescriptor.path = [organization.rawValue, table.name]
                info.totalRecords = -1
                info.totalBytes = -1
                infos.append(info)
            }
        }
        return infos
    }
}
