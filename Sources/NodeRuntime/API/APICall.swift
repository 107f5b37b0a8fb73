internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Synchronization
internal import Transport

extension HTTPField.Name {
    static let requestID = HTTPField.Name(known: "request-id")
    static let idempotencyKey = HTTPField.Name(known: "idempotency-key")
    static let idempotencyReplayed = HTTPField.Name(known: "idempotency-replayed")
    static let queryPlan = HTTPField.Name(known: "flasktrack-plan")
    static let queryManifest = HTTPField.Name(known: "flasktrack-manifest")
    static let queryProvenance = HTTPField.Name(known: "flasktrack-provenance")
}

/// One authenticated request: who asks, under which id, and from where. An object, as every step of an answer holds it.
final class APICall: Sendable {
    let id: String
    let head: HTTPRequest
    let token: TokenEntry
    let connection: ConnectionInfo
    /// The part of the target after `?`, decoded; in order.
    let parameters: [(name: String, value: String)]

    init(
        id: String,
        head: HTTPRequest,
        token: TokenEntry,
        connection: ConnectionInfo,
        parameters: [(name: String, value: String)]
    ) {
        self.id = id
        self.head = head
        self.token = token
        self.connection = connection
        self.parameters = parameters
    }

    /// Allows or refuses, in the words of the API.
    /// - Throws: ``Problem`` `.forbidden`, or `.organizationNotFound` when the caller must not know more.
    func allow(_ operation: AccessOperation, in organization: OrganizationKey? = nil) throws(Problem) {
        let decision = self.token.grant.decide(operation, in: organization)
        guard decision != .allowed else { return }
        let isInvisible = decision == .invisible
        var problem =
            isInvisible
            ? Problem.organizationNotFound(organization?.rawValue ?? "")
            : Problem(.forbidden, "a token of role \(self.token.grant.role.rawValue) may not do this")
        problem.refusal = AccessRefusal(
            what: operation.rawValue,
            organization: organization,
            isRestricted: isInvisible
        )
        throw problem
    }

    /// Whether the caller may see records that are reserved for those who oversee an organization (``ReservedRecords``).
    var seesReserved: Bool { self.token.grant.decide(.readReserved) == .allowed }

    /// Refuses parameters that the route does not have, and repeated ones.
    func requireOnly(parameters known: [String]) throws(Problem) {
        guard !self.parameters.isEmpty else { return }
        var seen: Set<String> = []
        for parameter in self.parameters {
            guard known.contains(parameter.name) else {
                throw Problem(.invalidParameter, "unknown parameter \"\(parameter.name)\"")
            }
            guard seen.insert(parameter.name).inserted else {
                throw Problem(.invalidParameter, "parameter \"\(parameter.name)\" is given twice")
            }
        }
    }

    func parameter(_ name: String) -> String? { self.parameters.first { $0.name == name }?.value }

    /// The client's `Idempotency-Key`.
    /// - Throws: ``Problem`` when it is not 1–200 visible ASCII characters.
    func idempotencyKey() throws(Problem) -> String? {
        guard let key = self.head.headerFields.value(of: .idempotencyKey) else { return nil }
        let keyBytesMax = 200
        guard (1...keyBytesMax).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Problem(.invalidParameter, "Idempotency-Key must have 1 to \(keyBytesMax) visible ASCII characters")
        }
        return key
    }

    /// Who the cluster ledger says wanted a change of the cluster.
    var origin: CommandOrigin {
        CommandOrigin(
            actor: self.token.name.isEmpty ? self.token.id : self.token.name,
            kind: .apiKey,
            requestID: self.id
        )
    }

    /// What a record says of the request that made it.
    var recordInfo: RequestInfo {
        RequestInfo(id: self.id, head: self.head, connection: self.connection, authentication: "bearer")
    }
}

extension RequestInfo {
    /// A request of the API.
    init(id: String, head: HTTPRequest, connection: ConnectionInfo, authentication: String?) {
        self.init(
            id: id,
            channel: .api,
            ip: connection.remoteHost,
            userAgent: head.headerFields.value(of: .userAgent),
            authentication: authentication
        )
    }
}

extension Problem {
    static func organizationNotFound(_ key: String) -> Problem {
        Problem(.organizationNotFound, "there is no organization \"\(key)\"")
    }
}

/// Makes request ids: a random part of this process and a counter.
final class RequestIDs: Sendable {
    private let prefix = RandomText.hex(bytes: 4)
    private let counter = Atomic<UInt32>(0)

    func next() -> String {
        let (_, value) = self.counter.wrappingAdd(1, ordering: .relaxed)
        let digits = String(value, radix: 16)
        return self.prefix + String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Splits and decodes request targets.
enum RequestTarget {
    /// The path's parts between slashes, decoded; nil when an escape is malformed, not UTF-8, or a NUL.
    static func segments(of path: Substring) -> [String]? {
        var segments: [String] = []
        for part in path.split(separator: "/", omittingEmptySubsequences: true) {
            guard let segment = self.decode(part, plusIsSpace: false) else { return nil }
            segments.append(segment)
        }
        return segments
    }

    /// The parameters after `?`; nil when an escape is malformed.
    static func parameters(of query: Substring) -> [(name: String, value: String)]? {
        var parameters: [(String, String)] = []
        for part in query.split(separator: "&", omittingEmptySubsequences: true) {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = self.decode(pair[0], plusIsSpace: true),
                let value = self.decode(pair.count > 1 ? pair[1] : "", plusIsSpace: true)
            else { return nil }
            parameters.append((name, value))
        }
        return parameters
    }

    private static func decode(_ text: Substring, plusIsSpace: Bool) -> String? {
        // Most parts have nothing to decode.
        let isPlain = text.utf8.allSatisfy {
            $0 != UInt8(ascii: "%") && $0 != 0 && ($0 != UInt8(ascii: "+") || !plusIsSpace)
        }
        if isPlain { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(Hex.value), let low = rest.popFirst().flatMap(Hex.value) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(UInt8(ascii: " "))
            default: bytes.append(byte)
            }
        }
        guard !bytes.contains(0) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
