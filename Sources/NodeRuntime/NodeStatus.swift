internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Primitives
internal import Shards

/// What a node says of itself.
struct NodeStatus: Sendable {
    /// The version of this program.
    static let version = ProductVersion.text

    let node: NodeID
    let startedAt: ContinuousClock.Instant
    /// What it says of its part in signing checkpoints.
    var audit: @Sendable () -> WireAuditStatus = { WireAuditStatus() }
    /// Organizations that it does not serve because their history is damaged.
    var damaged: @Sendable () -> [WireDamageStatus] = { [] }
    var workers = WorkerList()

    var uptimeSeconds: Double {
        let uptime = self.startedAt.duration(to: NodeClock.monotonic.now)
        return Double(uptime.milliseconds) / 1000
    }

    func wire(_ groups: [GroupStatus], pulls: [SnapshotPuller.Pull] = []) -> WireStatusResponse {
        var response = WireStatusResponse()
        response.node = self.node.rawValue
        response.processID = UInt64(ProcessInfo.processInfo.processIdentifier)
        response.version = Self.version
        response.uptimeSeconds = self.uptimeSeconds
        response.featureMin = FeatureRange.supported.min.rawValue
        response.featureMax = FeatureRange.supported.max.rawValue
        response.groups = groups.map { WireGroupStatus($0) }
        response.pulls = pulls.map { WireSnapshotPull($0) }
        response.audit = self.audit()
        response.damaged = self.damaged()
        response.workers = self.workers.wire
        return response
    }
}

extension WireGroupStatus {
    init(_ group: GroupStatus) {
        self.init()
        self.group = group.group.rawValue
        self.role = group.role.rawValue
        self.leader = group.leader?.rawValue ?? 0
        self.term = group.term.rawValue
        self.commit = group.commit.rawValue
        self.applied = group.applied.rawValue
        self.first = group.first.rawValue
        self.last = group.last.rawValue
        self.asleep = group.isAsleep
        self.installing = group.isInstalling
        self.membership = Data(group.membership.encoded())
        self.replicas = group.replicas.map { replica in
            var wire = WireReplicaStatus()
            wire.node = replica.node.rawValue
            wire.match = replica.match.rawValue
            wire.active = replica.isRecentlyActive
            wire.lag = replica.lag
            wire.learner = replica.isLearner
            wire.snapshot = replica.snapshot?.rawValue ?? 0
            return wire
        }
    }
}

extension WireSnapshotPull {
    init(_ pull: SnapshotPuller.Pull) {
        self.init()
        self.group = pull.group.rawValue
        self.from = pull.from.rawValue
        self.index = pull.mark.index.rawValue
        self.attempt = UInt32(pull.attempt)
        self.bytes = pull.bytes
        self.records = pull.records
        self.recordsTotal = pull.recordsTotal
    }
}

extension WireDamageStatus {
    init(_ organization: OrganizationID, _ finding: LedgerFinding) {
        self.init()
        self.organization = organization.rawValue
        self.kind = finding.kind.rawValue
        self.sequence = finding.sequence.rawValue
        self.place = finding.place
        self.detail = finding.detail
    }
}
