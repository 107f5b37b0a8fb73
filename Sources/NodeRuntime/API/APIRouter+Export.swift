internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Transport

extension HTTPField.Name {
    static let contentDisposition = HTTPField.Name(known: "content-disposition")
    /// What an export is of, as JSON.
    static let exportManifest = HTTPField.Name(known: "flasktrack-export")
}

/// Exports.
extension APIRouter {
    /// The plan of `/v1/organizations/KEY/export`.
    func exportPlan(_ request: APICall, _ key: String) throws(Problem) -> RoutePlan {
        try self.only(.post, request) { request, _ in
            let entry = try await self.organization(key, for: request, .exportRecords)
            let call = try ExportCall(request)
            if call.opensPersonal { try request.allow(.readSensitive, in: entry.key) }
            return try await self.exports.answer(call, entry, request)
        }
    }
}
