internal import Consensus
internal import HTTPTypes
internal import Laboratory
internal import Primitives
internal import Shards
internal import Synchronization
internal import Transport

/// Whether the node lives and whether it can serve.
final class HealthReport: Sendable {
    private let host: RaftHost
    private let directory: ShardDirectory
    /// Groups that one reason names.
    private static let namedGroupsMax = 8
    /// Damaged organizations that an answer names.
    private static let namedOrganizationsMax = 100
    private let isStopping = Atomic<Bool>(false)

    private let damage: DamageRegister?
    private let workers: [WorkerSlot]

    /// - Parameter damage: What the node does not serve; nil when there is nothing to ask.
    init(host: RaftHost, directory: ShardDirectory, damage: DamageRegister? = nil, workers: [WorkerSlot] = []) {
        self.host = host
        self.directory = directory
        self.damage = damage
        self.workers = workers
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
        // A replica that is catching up counts for nothing yet.
        let leaderless = self.host.status().filter { $0.leader == nil && !$0.membership.voters.isEmpty }.map(\.group)
        if !leaderless.isEmpty {
            let named = leaderless.prefix(Self.namedGroupsMax).map(\.description).joined(separator: ", ")
            let more = leaderless.count - min(leaderless.count, Self.namedGroupsMax)
            reasons.append("no leader known of groups \(named)" + (more > 0 ? " and \(more) more" : ""))
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
        // The node serves the others, so it is ready; requests for these go to other nodes.
        let damaged = self.damage?.all ?? []
        if !damaged.isEmpty {
            json.beginArray("damaged_organizations")
            for (organization, _) in damaged.prefix(Self.namedOrganizationsMax) {
                json.element(self.directory.organization(organization)?.key.rawValue ?? organization.description)
            }
            json.endArray()
        }
        // Everything but statements goes on without them, and a moment later there are new ones.
        let starting = self.workers.filter { !$0.isAlive }
        if !starting.isEmpty {
            json.beginArray("workers_starting")
            for worker in starting { json.element(worker.name) }
            json.endArray()
        }
        json.endObject()
        return APIRouter.json(reasons.isEmpty ? .ok : .serviceUnavailable, json)
    }
}
