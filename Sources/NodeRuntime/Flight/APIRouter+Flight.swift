internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// Arrow Flight SQL: calls over gRPC on the API's port.
///
/// - Source: Apache Arrow, «Arrow Flight RPC» and «Arrow Flight SQL»; gRPC, «gRPC over HTTP2»
extension APIRouter {
    /// How to answer a call of the Flight service; `name` is the last part of its path.
    func flightPlan(_ head: HTTPRequest, _ connection: ConnectionInfo, _ name: Substring) -> RoutePlan {
        let id = self.ids.next()
        var call: FlightCall?
        do {
            guard head.method == .post, head.headerFields.value(of: .contentType)?.hasPrefix("application/grpc") == true
            else { throw Problem(.unsupportedMediaType, "this path takes calls of gRPC") }
            guard let method = FlightMethod(rawValue: String(name)), method != .doExchange else {
                throw GRPCStatus(.unimplemented, "\(name) is not supported")
            }
            if method == .handshake { return self.handshakePlan(head, connection, id: id) }
            let token = try self.flightToken(head, basic: true)
            let request = APICall(id: id, head: head, token: token, connection: connection, parameters: [])
            let timeout = head.headerFields.value(of: .grpcTimeout).flatMap(GRPCStatus.timeout)
            let made = FlightCall(request: request, session: try FlightSession(head.headerFields), timeout: timeout)
            call = made
            if method == .doPut {
                return .streaming { request in
                    await self.flightResponse(id: id, call: made) { try await self.doPut(request.body, made) }
                }
            }
            return self.unaryPlan(method, made)
        } catch {
            if call == nil, (error as? Problem)?.code == .unauthenticated {
                self.access.unknownCaller(RequestInfo(id: id, head: head, connection: connection, authentication: nil))
            }
            let response = Self.flightEnd(self.flightStatus(error, id: id, call: call), id: id)
            // The body is taken first: some clients do not read an answer that ends their upload.
            return .collected(
                bodyBytesMax: FlightLimits.requestBytesMax,
                tooLarge: { response },
                handler: { _, _ in response }
            )
        }
    }

    private func unaryPlan(_ method: FlightMethod, _ call: FlightCall) -> RoutePlan {
        let id = call.request.id
        let tooLarge: @Sendable () -> ServerResponse = {
            let status = GRPCStatus(.resourceExhausted, "a request of more than \(FlightLimits.requestBytesMax) bytes")
            return Self.flightEnd(status, id: id)
        }
        return .collected(bodyBytesMax: FlightLimits.requestBytesMax, tooLarge: tooLarge) { _, body in
            await self.flightResponse(id: id, call: call) {
                var reader = GRPCFrameReader(messageBytesMax: FlightLimits.requestBytesMax)
                reader.feed(body)
                guard let message = try reader.next(), reader.isBetweenMessages else {
                    throw GRPCStatus(.invalidArgument, "one message is wanted")
                }
                return try await self.answer(method, message, call)
            }
        }
    }

    private func answer(_ method: FlightMethod, _ message: ByteBuffer, _ call: FlightCall) async throws -> FlightAnswer
    {
        switch method {
        case .getFlightInfo:
            let info = try await self.flightInfo(try FlightFlightDescriptor.read(message), call)
            return .messages([try info.framed()])
        case .pollFlightInfo:
            var poll = FlightPollInfo()
            poll.info = try await self.flightInfo(try FlightFlightDescriptor.read(message), call)
            poll.progress = 1
            return .messages([try poll.framed()])
        case .getSchema:
            var result = FlightSchemaResult()
            result.schema = Data(try await self.flightSchema(try FlightFlightDescriptor.read(message), call))
            return .messages([try result.framed()])
        case .doGet: return try await self.doGet(try FlightTicket.read(message).ticket, call)
        case .doAction: return try await self.doAction(try FlightAction.read(message), call)
        case .listActions: return .messages(try Self.actionTypes.map { try $0.framed() })
        case .listFlights: return .messages(try await self.listFlights(call).map { try $0.framed() })
        case .handshake, .doPut, .doExchange: throw GRPCStatus(.unimplemented, "\(method.rawValue) is not supported")
        }
    }

    // MARK: Who calls

    /// The token of a call: as bearer, or as the password of any user.
    func flightToken(_ head: HTTPRequest, basic: Bool) throws(Problem) -> TokenEntry {
        guard self.directory.isBootstrapped else {
            throw Problem(.noLeader, "this node does not know yet that the cluster has begun")
        }
        guard let secret = Self.flightSecret(head.headerFields) else {
            throw Problem(.unauthenticated, "a token of the API is needed: as bearer, or as the password of any user")
        }
        return try self.flightToken(secret: secret)
    }

    private func flightToken(secret: [UInt8]) throws(Problem) -> TokenEntry {
        guard let token = self.directory.token(hash: sha256(secret)) else {
            throw Problem(.unauthenticated, "the token is not known")
        }
        return token
    }

    /// The secret in an `authorization` field.
    static func flightSecret(_ fields: HTTPFields) -> [UInt8]? {
        guard let field = fields.value(of: .authorization), let space = field.firstIndex(of: " ") else { return nil }
        let rest = field[field.index(after: space)...]
        switch field[..<space].lowercased() {
        case "bearer": return rest.isEmpty ? nil : Array(rest.utf8)
        case "basic":
            // Some clients leave the padding out.
            let padding = String(repeating: "=", count: (4 - rest.utf8.count % 4) % 4)
            guard let pair = Data(base64Encoded: rest + padding), let colon = pair.firstIndex(of: UInt8(ascii: ":"))
            else {
                return nil
            }
            return Array(pair[pair.index(after: colon)...])
        default: return nil
        }
    }

    /// Answers with the bearer token of later calls, in a header field and as the payload.
    private func handshakePlan(_ head: HTTPRequest, _ connection: ConnectionInfo, id: String) -> RoutePlan {
        .streaming { request in
            await self.flightResponse(id: id, call: nil) {
                var secret = Self.flightSecret(head.headerFields)
                if secret == nil { secret = try await Self.handshakeSecret(request.body) }
                guard self.directory.isBootstrapped else {
                    throw Problem(.noLeader, "this node does not know yet that the cluster has begun")
                }
                do {
                    _ = try self.flightToken(secret: secret ?? [])
                } catch {
                    let info = RequestInfo(id: id, head: head, connection: connection, authentication: nil)
                    self.access.unknownCaller(info)
                    throw error
                }
                var response = FlightHandshakeResponse()
                response.payload = Data(secret ?? [])
                var fields = HTTPFields()
                fields[.authorization] = "Bearer " + String(decoding: secret ?? [], as: UTF8.self)
                return .messages([try response.framed()], fields)
            }
        }
    }

    /// The password, or the bare token, of a client that authenticates in the call's first message.
    private static func handshakeSecret(_ body: RequestBody) async throws -> [UInt8] {
        var reader = GRPCFrameReader(messageBytesMax: FlightLimits.requestBytesMax)
        for try await bytes in body {
            reader.feed(bytes)
            guard let message = try reader.next() else { continue }
            let payload = try FlightHandshakeRequest.read(message).payload
            if let basic = try? FlightBasicAuth(serializedBytes: payload), !basic.password.isEmpty {
                return Array(basic.password.utf8)
            }
            return Array(payload)
        }
        return []
    }

    // MARK: Answers

    /// Runs a handler and turns what comes of it into messages and a status.
    private func flightResponse(
        id: String,
        call: FlightCall?,
        _ handler: @Sendable () async throws -> FlightAnswer
    ) async -> ServerResponse {
        let started = NodeClock.monotonic.now
        defer { self.metrics.answered(200, after: started.duration(to: NodeClock.monotonic.now)) }
        do {
            switch try await handler() {
            case .messages(let messages, let fields):
                var response = Self.flightEnd(.ok, id: id, after: messages)
                for field in fields { response.head.headerFields[field.name] = field.value }
                if call?.session.keepsCookies != true, response.head.headerFields[.setCookieField] == nil {
                    response.head.headerFields[.setCookieField] = (call?.session ?? FlightSession()).setCookie
                }
                return response
            case .stream(let produce):
                return Self.flightStream(id: id, produce) { self.flightStatus($0, id: id, call: call) }
            }
        } catch {
            return Self.flightEnd(self.flightStatus(error, id: id, call: call), id: id)
        }
    }

    /// What the client is told of an error; the node's log and counters hear of it too.
    func flightStatus(_ error: any Error, id: String, call: FlightCall?) -> GRPCStatus {
        if let status = error as? GRPCStatus { return status }
        if error is CancellationError { return GRPCStatus(.cancelled, "the call was cancelled") }
        let problem = self.noted(error, id: id, path: call?.request.head.path ?? "", of: call?.request)
        return problem.grpcStatus(requestID: id)
    }

    private static func flightEnd(_ status: GRPCStatus, id: String, after messages: [ByteBuffer] = []) -> ServerResponse
    {
        self.flightStream(id: id) { writer in
            for message in messages { try await writer.write(message) }
            return status.fields
        }
    }

    /// Answers with what `produce` writes and the status of its end.
    ///
    /// A client that does not read gets no status, which would wait behind what it does not read: its stream is reset.
    static func flightStream(
        id: String,
        _ produce: @escaping @Sendable (ResponseBodyWriter) async throws -> Void,
        status: @escaping @Sendable (any Error) -> GRPCStatus
    ) -> ServerResponse {
        self.flightStream(id: id) { writer in
            do {
                try await produce(writer)
                return GRPCStatus.ok.fields
            } catch let stalled as FlightSender.Stalled {
                throw stalled
            } catch {
                return status(error).fields
            }
        }
    }

    private static func flightStream(
        id: String,
        _ body: @escaping @Sendable (ResponseBodyWriter) async throws -> HTTPFields?
    ) -> ServerResponse {
        ServerResponse(
            status: .ok,
            headerFields: [.contentType: "application/grpc", .requestID: id],
            body: .stream(body)
        )
    }
}
