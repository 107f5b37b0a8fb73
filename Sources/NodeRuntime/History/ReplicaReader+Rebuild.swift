internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards

extension ReplicaReader {
    /// Has every replica fold its ledger into an empty state, side by side; by node, ascending.
    func rebuild(
        _ entry: OrganizationEntry
    ) async -> [(node: NodeID, answer: Result<RebuildCheck.Result, PeerError>)] {
        var request = WireRebuildRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        let question = request
        return await withTaskGroup(of: (NodeID, Result<RebuildCheck.Result, PeerError>).self) { group in
            for node in self.placement.nodes(of: entry.group) {
                group.addTask { (node, await self.rebuild(question, on: node)) }
            }
            var answers: [(node: NodeID, answer: Result<RebuildCheck.Result, PeerError>)] = []
            for await (node, answer) in group { answers.append((node, answer)) }
            return answers.sorted { $0.node < $1.node }
        }
    }

    private func rebuild(
        _ request: WireRebuildRequest,
        on node: NodeID
    ) async -> Result<RebuildCheck.Result, PeerError> {
        do {
            let response: WireRebuildResponse
            if node == self.node {
                response = await self.service.rebuild(request)
            } else {
                response = try await self.links.call(PeerPath.rebuild, of: node, request, timeout: self.verifyTimeout)
            }
            guard response.failure.isEmpty else {
                return .failure(PeerError(code: .interrupted, peer: node, message: response.failure, cause: nil))
            }
            guard let result = RebuildCheck.Result(response) else {
                return .failure(
                    PeerError(
                        code: .malformedAnswer,
                        peer: node,
                        message: "a digest is malformed or missing (an earlier version?)",
                        cause: nil
                    )
                )
            }
            return .success(result)
        } catch {
            return .failure(PeerError(code: .interrupted, peer: node, message: errorChain(error), cause: error))
        }
    }
}
