internal import AuditLedger
internal import HTTPTypes
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

extension HTTPField.Name {
    static let grpcTimeout = HTTPField.Name(known: "grpc-timeout")
    static let setCookieField = HTTPField.Name(known: "set-cookie")
}

/// One authenticated call of the Flight service.
struct FlightCall: Sendable {
    let request: APICall
    let session: FlightSession
    /// What the client grants, from now; nil when it does not say.
    let timeout: Duration?

    /// Time for a statement: the node's own limit, or less when the client wants less.
    func timeLimit(_ own: Duration) -> Duration { self.timeout.map { min($0, own) } ?? own }
}

/// What a call is answered with.
enum FlightAnswer: Sendable {
    /// These messages.
    case messages([ByteBuffer], HTTPFields = [:])
    /// Whatever the function writes; what it throws becomes the status.
    case stream(@Sendable (ResponseBodyWriter) async throws -> Void)
}

extension Problem {
    /// The status by which a Flight client learns of the problem: the code and the place come first in its message.
    func grpcStatus(requestID: String) -> GRPCStatus {
        let code: GRPCStatus.Code
        switch self.code {
        case .queryTimeLimit: code = .deadlineExceeded
        case .overloaded: code = .unavailable
        default:
            switch self.code.status.code {
            case 400, 415, 422: code = .invalidArgument
            case 401: code = .unauthenticated
            case 403: code = .permissionDenied
            case 404, 405: code = .notFound
            case 409: code = .failedPrecondition
            case 413, 507: code = .resourceExhausted
            case 503: code = .unavailable
            case 504: code = .deadlineExceeded
            default: code = .internal
            }
        }
        var text = "\(self.code.rawValue): \(self.detail)"
        for case .number(let name, let place) in self.members where name.description == "position" {
            text += " (at byte \(place))"
        }
        return GRPCStatus(code, "\(text) [request \(requestID)]")
    }
}
