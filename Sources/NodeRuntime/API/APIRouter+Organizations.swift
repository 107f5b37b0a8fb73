internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// Organizations and tokens: what the system group keeps.
extension APIRouter {
    /// The members of a JSON body that must be an object with no others.
    func object(_ body: ByteBuffer, of request: APICall, keys: [String]) throws -> JSONPlace {
        try self.requireJSON(request)
        let place = JSONPlace(try JSONParser.parse(Array(body.readableBytesView)))
        try place.requireOnly(keys: keys)
        return place
    }

    private func requireJSON(_ request: APICall) throws(Problem) {
        guard MediaType(request.head.headerFields.value(of: .contentType)) == .json else {
            throw Problem(.unsupportedMediaType, "the body must be application/json")
        }
    }

    func createOrganization(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.createOrganization)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["key", "name"])
        let text = try object.string("key")
        guard let key = OrganizationKey(text) else {
            throw Problem(
                .invalidField,
                "a key has 1 to \(OrganizationKey.bytesMax) of a-z, 0-9 and -, not - at the ends",
                members: [.text("pointer", "/key")]
            )
        }
        let name = try object.optionalString("name") ?? text
        guard OrganizationRules.isValid(name: name) else {
            throw Problem(
                .invalidField,
                "a name has 1 to \(OrganizationRules.nameBytesMax) bytes and no control characters",
                members: [.text("pointer", "/name")]
            )
        }
        let command = CreateOrganizationCommand(key: key, name: name)
        let result = try await self.gateway.submit(
            .createOrganization(command),
            to: .system,
            mayRepeat: false,
            origin: request.origin
        )
        try await self.records.reads.linearize(.system)
        switch result {
        case .organization(let entry):
            var json = JSONOutput()
            Self.write(entry, to: &json)
            return Self.json(.created, json)
        case .refused(let refusal): throw Problem(refusal: refusal)
        default: throw Problem(refusal: .malformed)
        }
    }

    func listOrganizations(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        try request.allow(.readOrganization)
        var json = JSONOutput()
        json.beginObject()
        json.beginArray("organizations")
        for entry in self.directory.organizations where request.token.grant.sees(entry.key) {
            Self.write(entry, to: &json)
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    func readOrganization(_ request: APICall, _ key: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        var json = JSONOutput()
        Self.write(try await self.organization(key, for: request, .readOrganization), to: &json)
        return Self.json(.ok, json)
    }

    private static func write(_ entry: OrganizationEntry, to json: inout JSONOutput) {
        json.beginObject()
        json.member("key", entry.key.rawValue)
        json.member("name", entry.name)
        json.member("group", entry.group.rawValue)
        json.member("created_at", entry.createdAt)
        json.endObject()
    }

    // MARK: Tokens

    func createToken(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.manageTokens)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["role", "organizations", "name"])
        guard let role = Role(rawValue: try object.string("role")) else {
            let roles = Role.allCases.map(\.rawValue).joined(separator: ", ")
            throw Problem(.invalidField, "role is one of \(roles)", members: [.text("pointer", "/role")])
        }
        var organizations: Set<OrganizationKey> = []
        if let list = try object.optional("organizations") {
            for place in try list.array() {
                guard let key = OrganizationKey(try place.string()) else {
                    throw Problem.organizationNotFound(try place.string())
                }
                organizations.insert(key)
            }
        }
        guard role == .operator || !organizations.isEmpty else {
            throw Problem(
                .invalidField,
                "a token of role \(role.rawValue) names the organizations that it is for",
                members: [.text("pointer", "/organizations")]
            )
        }
        let secret = "ft_" + RandomText.hex(bytes: 32)
        let id = RandomText.hex(bytes: 8)
        let name = try object.optionalString("name") ?? ""
        guard name.utf8.count <= SystemState.tokenNameBytesMax else {
            throw Problem(.invalidField, "the name is too long", members: [.text("pointer", "/name")])
        }
        let command = CreateTokenCommand(
            id: id,
            hash: sha256(Array(secret.utf8)),
            name: name,
            grant: Grant(role: role, organizations: role == .operator ? [] : organizations)
        )
        let result = try await self.gateway.submit(
            .createToken(command),
            to: .system,
            mayRepeat: false,
            origin: request.origin
        )
        try await self.records.reads.linearize(.system)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
        var json = JSONOutput()
        json.beginObject()
        json.member("id", id)
        json.member("token", secret)
        Self.write(command.grant, name: name, to: &json)
        if let createdAt = self.directory.token(hash: command.hash)?.createdAt { json.member("created_at", createdAt) }
        json.endObject()
        return Self.json(.created, json)
    }

    private static func write(_ grant: Grant, name: String, to json: inout JSONOutput) {
        json.member("role", grant.role.rawValue)
        json.beginArray("organizations")
        for key in grant.organizations.sorted() { json.element(key.rawValue) }
        json.endArray()
        json.member("name", name)
    }

    func listTokens(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.manageTokens)
        try request.requireOnly(parameters: [])
        var json = JSONOutput()
        json.beginObject()
        json.beginArray("tokens")
        for token in self.directory.tokens {
            json.beginObject()
            json.member("id", token.id)
            Self.write(token.grant, name: token.name, to: &json)
            json.member("created_at", token.createdAt)
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    func revokeToken(_ request: APICall, _ id: String) async throws -> ServerResponse {
        try request.allow(.manageTokens)
        try request.requireOnly(parameters: [])
        let command = RevokeTokenCommand(id: id)
        let result = try await self.gateway.submit(
            .revokeToken(command),
            to: .system,
            mayRepeat: true,
            origin: request.origin
        )
        try await self.records.reads.linearize(.system)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
        return ServerResponse(status: .noContent)
    }
}

/// The media types that bodies may have.
enum MediaType: String {
    case json = "application/json"
    case ndjson = "application/x-ndjson"

    /// Reads a `Content-Type`, parameters left aside.
    init?(_ field: String?) {
        guard let field else { return nil }
        // As most clients write it.
        if let exact = Self(rawValue: field) {
            self = exact
            return
        }
        guard let type = field.split(separator: ";").first else { return nil }
        self.init(rawValue: type.trimmingSpaces.lowercased())
    }
}

extension Substring {
    /// Without spaces and tabs at the ends.
    var trimmingSpaces: Substring {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
