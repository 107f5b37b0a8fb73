internal import HTTPTypes
internal import NIOCore
internal import Primitives
internal import Transport

/// What somebody was refused.
struct AccessRefusal: Hashable, Sendable {
    /// The operation, or another name from a closed set.
    let what: String
    /// The organization concerned; nil for what is the cluster's.
    let organization: OrganizationKey?
    /// Whether the caller may not even know of it.
    let isRestricted: Bool
}

/// An error answer of the API: RFC 9457 problem details with a stable `code`.
///
/// `Documentation/api.md` lists the codes.
struct Problem: Error, Sendable {
    /// The stable names that clients see.
    enum Code: String, Sendable, CaseIterable {
        case malformedJSON = "malformed_json"
        case invalidField = "invalid_field"
        case unknownField = "unknown_field"
        case invalidParameter = "invalid_parameter"
        case invalidUTF8 = "invalid_utf8"
        case numberNotRepresentable = "number_not_representable"
        case tooDeep = "too_deep"
        case duplicateKey = "duplicate_key"
        case sqlSyntax = "sql_syntax"
        case sqlInvalid = "sql_invalid"
        case unauthenticated
        case forbidden
        case sqlNotAllowed = "sql_not_allowed"
        case sqlQuarantined = "sql_quarantined"
        case notFound = "not_found"
        case organizationNotFound = "organization_not_found"
        case recordNotFound = "record_not_found"
        case entityNotFound = "entity_not_found"
        case tokenNotFound = "token_not_found"
        case methodNotAllowed = "method_not_allowed"
        case organizationExists = "organization_exists"
        case lastOperatorToken = "last_operator_token"
        case nodeNotFound = "node_not_found"
        case groupNotFound = "group_not_found"
        case nodeExists = "node_exists"
        case nodeRemoved = "node_removed"
        case addressTaken = "address_taken"
        case lastVoter = "last_voter"
        case notEnoughNodes = "not_enough_nodes"
        case replicasInvalid = "replicas_invalid"
        case notAVoter = "not_a_voter"
        case nodeNotAvailable = "node_not_available"
        case stateNotAllowed = "state_not_allowed"
        case changePending = "change_pending"
        case reservedKey = "reserved_key"
        case featureUnsupported = "feature_unsupported"
        case tooMany = "too_many"
        case keyExists = "key_exists"
        case keyNotFound = "key_not_found"
        case checkpointNotFound = "checkpoint_not_found"
        case checkpointUnavailable = "checkpoint_unavailable"
        case notSigning = "not_signing"
        case repairFailed = "repair_failed"
        case tileNotFound = "tile_not_found"
        case subjectNotFound = "subject_not_found"
        case legalHold = "legal_hold"
        case alreadyErased = "already_erased"
        case subjectErased = "subject_erased"
        case notSealing = "not_sealing"
        case bodyTooLarge = "body_too_large"
        case batchTooLarge = "batch_too_large"
        case recordTooLarge = "record_too_large"
        case resultTooLarge = "result_too_large"
        case unsupportedMediaType = "unsupported_media_type"
        case idempotencyKeyReused = "idempotency_key_reused"
        case overloaded
        case `internal`
        case noQuorum = "no_quorum"
        case noLeader = "no_leader"
        case outcomeUnknown = "outcome_unknown"
        case shardUnavailable = "shard_unavailable"
        case queryUnavailable = "query_unavailable"
        case queryEnded = "query_ended"
        case queryNotFound = "query_not_found"
        case shuttingDown = "shutting_down"
        case queryTimeLimit = "query_time_limit"
        case queryMemoryLimit = "query_memory_limit"

        var status: HTTPResponse.Status {
            switch self {
            case .malformedJSON, .invalidField, .unknownField, .invalidParameter, .invalidUTF8,
                .numberNotRepresentable, .tooDeep, .duplicateKey, .sqlSyntax, .sqlInvalid, .replicasInvalid:
                .badRequest
            case .unauthenticated: .unauthorized
            case .forbidden, .sqlNotAllowed: .forbidden
            case .notFound, .organizationNotFound, .recordNotFound, .tokenNotFound, .nodeNotFound, .groupNotFound,
                .keyNotFound, .checkpointNotFound, .tileNotFound, .entityNotFound,
                .subjectNotFound, .queryNotFound:
                .notFound
            case .methodNotAllowed: .methodNotAllowed
            case .organizationExists, .lastOperatorToken, .nodeExists, .nodeRemoved, .addressTaken, .lastVoter,
                .notEnoughNodes, .notAVoter, .nodeNotAvailable, .stateNotAllowed, .reservedKey, .featureUnsupported,
                .tooMany, .keyExists, .notSigning, .repairFailed, .notSealing, .legalHold, .alreadyErased,
                .subjectErased, .queryEnded:
                .conflict
            case .bodyTooLarge, .batchTooLarge, .recordTooLarge, .resultTooLarge: .contentTooLarge
            case .unsupportedMediaType: .unsupportedMediaType
            case .idempotencyKeyReused, .sqlQuarantined: .unprocessableContent
            case .overloaded: .tooManyRequests
            case .internal: .internalServerError
            case .noQuorum, .noLeader, .outcomeUnknown, .shardUnavailable, .queryUnavailable, .shuttingDown,
                .changePending, .checkpointUnavailable:
                .serviceUnavailable
            case .queryTimeLimit: .gatewayTimeout
            case .queryMemoryLimit: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
            }
        }

        var title: String {
            switch self {
            case .malformedJSON: "Malformed JSON"
            case .invalidUTF8: "Invalid UTF-8"
            case .sqlSyntax: "SQL syntax error"
            case .sqlInvalid: "Invalid SQL statement"
            case .sqlNotAllowed: "SQL statement not allowed"
            case .sqlQuarantined: "SQL statement refused for a while"
            default:
                self.rawValue.prefix(1).uppercased() + self.rawValue.dropFirst().replacing("_", with: " ")
            }
        }
    }

    /// A further member of the problem document.
    enum Member: Sendable {
        case number(StaticString, Int)
        case text(StaticString, String)
    }

    let code: Code
    let detail: String
    var members: [Member] = []
    /// What led to this, for the node's log; never shown to the client.
    var cause: (any Error)?
    var headers: HTTPFields = [:]
    /// What the caller had no right to; goes on record, and is never shown to the client.
    var refusal: AccessRefusal?

    init(_ code: Code, _ detail: String, members: [Member] = [], cause: (any Error)? = nil) {
        self.code = code
        self.detail = detail
        self.members = members
        self.cause = cause
        if case .unauthenticated = code { self.headers[.wwwAuthenticate] = "Bearer" }
        if code.status == .serviceUnavailable || code.status == .tooManyRequests { self.headers[.retryAfter] = "1" }
    }

    /// The document that the client gets.
    func response(requestID: String) -> ServerResponse {
        var json = JSONOutput()
        json.beginObject()
        json.member("type", "urn:flasktrack:problem:\(self.code.rawValue)")
        json.member("title", self.code.title)
        json.member("status", self.code.status.code)
        json.member("code", self.code.rawValue)
        json.member("detail", self.detail)
        json.member("request_id", requestID)
        for member in self.members {
            switch member {
            case .number(let name, let value): json.member(name, value)
            case .text(let name, let value): json.member(name, value)
            }
        }
        json.endObject()
        var fields = self.headers
        fields[.contentType] = "application/problem+json"
        fields[.requestID] = requestID
        return ServerResponse(status: self.code.status, headerFields: fields, body: .bytes(json.buffer))
    }
}
