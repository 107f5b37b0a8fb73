internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// An organization as the API shows it.
package struct OrganizationView: Sendable, Decodable, Equatable {
    package var key: String
    package var name: String
    package var group: Int
    package var createdAt: String
}

/// A token as the API shows it; `token` only when it was just made.
package struct TokenView: Sendable, Decodable, Equatable {
    package var id: String
    package var token: String?
    package var role: String
    package var organizations: [String]?
    package var name: String?
    package var createdAt: String?
}

extension ClusterClient {
    private struct OrganizationList: Decodable { var organizations: [OrganizationView] }
    private struct TokenList: Decodable { var tokens: [TokenView] }

    /// Reads an answer's JSON, members in snake case.
    /// - Throws: ``ClientError`` `.unexpectedAnswer`.
    package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: some Sequence<UInt8>) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { return try decoder.decode(type, from: Data(bytes)) } catch {
            throw ClientError(
                .unexpectedAnswer,
                "the answer does not have the form that ftnode \(ProductVersion.text) knows",
                cause: error
            )
        }
    }

    /// The organizations that the token may see.
    package func organizations() async throws -> (json: [UInt8], list: [OrganizationView]) {
        let bytes = try await self.send(APIRequest(.get, "/v1/organizations")).bytes
        return (bytes, try Self.decode(OrganizationList.self, from: bytes).organizations)
    }

    /// Makes an organization; with `mayExist` the request is repeated after an unknown outcome.
    @discardableResult
    package func createOrganization(
        key: String,
        name: String?,
        budget: Duration = .seconds(15),
        mayExist: Bool = false
    ) async throws -> OrganizationView {
        let body = "{\"key\":\(JSONText.quoted(key)),\"name\":\(JSONText.quoted(name ?? key))}"
        var request = APIRequest(.post, "/v1/organizations", body: ByteBuffer(string: body))
        request.budget = budget
        request.isReadOnly = mayExist
        return try Self.decode(OrganizationView.self, from: try await self.send(request).bytes)
    }

    /// Makes a token; only this answer holds it.
    package func createToken(role: String, organizations: [String], name: String?) async throws -> TokenView {
        var body = "{\"role\":\(JSONText.quoted(role))"
        if !organizations.isEmpty {
            body += ",\"organizations\":[" + organizations.map(JSONText.quoted).joined(separator: ",") + "]"
        }
        if let name { body += ",\"name\":\(JSONText.quoted(name))" }
        let request = APIRequest(.post, "/v1/tokens", body: ByteBuffer(string: body + "}"))
        return try Self.decode(TokenView.self, from: try await self.send(request).bytes)
    }

    /// All tokens, without the secrets.
    package func tokens() async throws -> (json: [UInt8], list: [TokenView]) {
        let bytes = try await self.send(APIRequest(.get, "/v1/tokens")).bytes
        return (bytes, try Self.decode(TokenList.self, from: bytes).tokens)
    }

    /// Makes a token useless.
    package func revokeToken(id: String) async throws {
        _ = try await self.send(APIRequest(.delete, "/v1/tokens/\(APIRequest.encoded(id))"))
    }
}
