internal import Consensus
internal import HTTPTypes
internal import Primitives
internal import Shards
internal import Synchronization
internal import Transport

/// Whether the node lives and whether it can serve.
final class HealthReport: Sendable {
    private let host: RaftHost
    private let directory: ShardDirectory
    private let groups: [GroupID]
    private let isStopping = Atomic<Bool>(false)

    init(host: RaftHost, directory: ShardDirectory, groups: [GroupID]) {
        self.host = host
        self.directory = directory
        self.groups = groups
    }

    /// From now on the node is not ready.
    func stop() { self.isStopping.store(true, ordering: .relaxed) }

    /// The answer of `/healthz`: it lives.
    let alive: ServerResponse = {
        var json = JSONOutput()
        json.beginObject()
        json.member("status", "ok")
        json.endObject()
        return APIRouter.json(.ok, json)
    }()

    /// Why the node cannot serve now; empty when it can.
    func reasons() -> [String] {
        var reasons: [String] = []
        if self.isStopping.load(ordering: .relaxed) { reasons.append("stopping") }
        if let failure = self.host.failure { reasons.append("failed: \(failure)") }
        let leaderless = self.groups.filter { self.host.leader(of: $0) == nil }
        if !leaderless.isEmpty {
            reasons.append("no leader known of groups \(leaderless.map(\.description).joined(separator: ", "))")
        }
        if !self.directory.isBootstrapped { reasons.append("the cluster has not begun") }
        return reasons
    }

    /// The answer of `/readyz`.
    func readiness() -> ServerResponse {
        let reasons = self.reasons()
        var json = JSONOutput()
        json.beginObject()
        json.member("status", reasons.isEmpty ? "ready" : "not_ready")
        json.beginArray("reasons")
        for reason in reasons { json.element(reason) }
        json.endArray()
        json.endObject()
        return APIRouter.json(reasons.isEmpty ? .ok : .serviceUnavailable, json)
    }
}
