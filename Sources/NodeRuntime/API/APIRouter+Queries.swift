internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// The statements that run, on every node; a token sees and ends its own, an operator all.
extension APIRouter {
    func listQueries(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let (queries, silent) = await self.queryWatch.list(of: self.owner(request))
        var json = JSONOutput()
        json.beginObject()
        json.beginArray("queries")
        for query in queries { Self.write(query, to: &json) }
        json.endArray()
        json.beginArray("silent_nodes")
        for node in silent { json.element(raw: String(node.rawValue).utf8) }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    func endQuery(_ request: APICall, _ id: String) async throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        let name = request.token.name.isEmpty ? request.token.id : request.token.name
        guard try await self.queryWatch.end(id, of: self.owner(request), by: name) else {
            throw Problem(.queryNotFound, "no statement \"\(id)\" runs")
        }
        return ServerResponse(status: .noContent)
    }

    /// The token whose statements the caller may see; nil for all.
    private func owner(_ request: APICall) -> String? {
        request.token.grant.decide(.readCluster, in: nil) == .allowed ? nil : request.token.id
    }

    private static func write(_ query: QueryWatch.Entry, to json: inout JSONOutput) {
        json.beginObject()
        json.member("id", query.id)
        json.member("node", query.node.rawValue)
        json.member("state", query.state.phase)
        json.member("running_ms", query.state.runningMs)
        json.member("rows", query.state.rows)
        json.member("bytes", query.state.bytes)
        json.member("plan", query.state.plan.isEmpty ? nil : query.state.plan)
        json.member("caller", query.state.caller)
        json.member("channel", query.state.channel)
        json.member("request_id", query.state.requestID)
        json.beginArray("organizations")
        for organization in query.state.organizations { json.element(organization) }
        json.endArray()
        json.member("sql", query.state.sql)
        json.endObject()
    }
}
