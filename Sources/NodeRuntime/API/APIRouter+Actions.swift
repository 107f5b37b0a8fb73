internal import AuditLedger
internal import HTTPTypes
internal import NIOCore
internal import Transport

/// The vocabulary of actions.
extension APIRouter {
    func actions(_ request: APICall) throws -> ServerResponse {
        try request.requireOnly(parameters: [])
        var json = JSONOutput(capacity: 8192)
        json.beginObject()
        json.beginArray("actions")
        for term in ActionVocabulary.all {
            json.beginObject()
            json.member("action", term.name)
            json.member("family", term.family.rawValue)
            json.member("verb", term.verb)
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }
}
