internal import HTTPTypes
package import NIOCore
internal import Transport

/// A statement as `ftnode query` sends it.
package struct QueryCall: Sendable {
    /// Formats of the API.
    package static let formats = ["table", "box", "markdown", "json", "ndjson", "csv", "arrow", "parquet"]
    /// Those that a terminal cannot show.
    package static let binaryFormats: Set<String> = ["arrow", "parquet"]

    package var sql: String
    package var organizations: [String]
    /// `linearizable`, `eventual`, or `KEY=SEQUENCE,…` for at least these sequences.
    package var consistency: String
    package var format: String
    /// The moment to read: a time (RFC 3339), a sequence, or `KEY=SEQUENCE,…`; nil: now.
    package var asOf: String?
    /// Values of the statement's parameters, each as it is typed: JSON where it is a number, `true`, `false` or `null`, otherwise a text.
    package var parameters: [String] = []
    /// Whether rows are gathered, whatever would be cheaper.
    package var gathers = false
    /// Longest to wait for the whole result.
    package var timeout = Duration.seconds(600)

    package init(sql: String, organizations: [String], consistency: String, format: String) {
        self.sql = sql
        self.organizations = organizations
        self.consistency = consistency
        self.format = format
    }

    /// The JSON of `consistency`; nil when it is neither a word of the API nor a list of sequences.
    package static func consistencyJSON(_ text: String) -> String? {
        if text == "linearizable" || text == "eventual" { return JSONText.quoted(text) }
        var members: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false)
            guard sides.count == 2, ConfigurationRules.isName(String(sides[0])), let sequence = UInt64(sides[1]) else {
                return nil
            }
            members.append("\(JSONText.quoted(String(sides[0]))):\(sequence)")
        }
        return "{\"at_least\":{\(members.joined(separator: ","))}}"
    }

    /// The JSON of `asOf`: what is no list of sequences is judged by the node.
    static func asOfJSON(_ text: String) -> String {
        var members: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false)
            guard sides.count == 2, let sequence = UInt64(sides[1]) else { return JSONText.quoted(text) }
            members.append("\(JSONText.quoted(String(sides[0]))):\(sequence)")
        }
        return "{\(members.joined(separator: ","))}"
    }

    /// The JSON of a parameter as a person types it.
    static func parameterJSON(_ text: String) -> String {
        let isWord = text == "null" || text == "true" || text == "false"
        let isNumber = text.first.map { $0 == "-" || $0.isASCII && $0.isNumber } == true && Double(text) != nil
        let hasZeros =
            text.drop { $0 == "-" }.hasPrefix("0") && text.drop { $0 == "-" }.dropFirst().first?.isNumber == true
        return isWord || isNumber && !hasZeros && !text.contains(where: { $0 == "x" || $0 == "p" })
            ? text : JSONText.quoted(text)
    }

    var body: String? {
        guard let consistency = Self.consistencyJSON(self.consistency) else { return nil }
        var body = "{\"sql\":\(JSONText.quoted(self.sql)),\"consistency\":\(consistency),\"format\":\"\(self.format)\""
        if !self.organizations.isEmpty {
            body += ",\"organizations\":[" + self.organizations.map(JSONText.quoted).joined(separator: ",") + "]"
        }
        if !self.parameters.isEmpty {
            body += ",\"parameters\":[" + self.parameters.map(Self.parameterJSON).joined(separator: ",") + "]"
        }
        if self.gathers { body += ",\"plan\":\"gather\"" }
        if let asOf = self.asOf { body += ",\"as_of\":\(Self.asOfJSON(asOf))" }
        return body + "}"
    }
}

extension ClusterClient {
    /// Runs a statement; the result streams. Cancelling the task ends the statement on the cluster.
    /// - Parameter onChunk: Gets the result's bytes in order; the next ones wait until it returns.
    /// - Returns: The plan by which it was answered, where the answer's head tells.
    @discardableResult
    package func query(_ call: QueryCall, onChunk: (ByteBuffer) throws -> Void) async throws -> String? {
        guard let body = call.body else {
            throw ClientError(.badInput, "consistency must be linearizable, eventual or KEY=SEQUENCE,…")
        }
        var request = APIRequest(.post, "/v1/query", body: ByteBuffer(string: body))
        request.isReadOnly = true
        request.timeout = call.timeout
        request.budget = .seconds(15)
        let response = try await self.open(request)
        do {
            for try await chunk in response.body { try onChunk(chunk) }
        } catch let error as TransportError {
            throw ClientError(.unreachable, "the result broke off", cause: error)
        }
        return HTTPField.Name("flasktrack-plan").flatMap { response.head.headerFields[$0] }
    }
}
