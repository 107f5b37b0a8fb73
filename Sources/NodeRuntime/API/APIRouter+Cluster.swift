internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Transport

extension APIRouter {
    func clusterStatus(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.readCluster)
        try request.requireOnly(parameters: [])
        return Self.json(.ok, await self.cluster.document())
    }
}
