internal import Consensus
internal import Foundation
internal import Primitives

/// What a node says of itself.
struct NodeStatus: Sendable {
    /// The version of this program.
    static let version = ProductVersion.text

    let node: NodeID
    let startedAt: ContinuousClock.Instant

    var uptimeSeconds: Double {
        let uptime = self.startedAt.duration(to: NodeClock.monotonic.now)
        return Double(uptime.milliseconds) / 1000
    }

    func wire(_ groups: [GroupStatus]) -> WireStatusResponse {
        var response = WireStatusResponse()
        response.node = self.node.rawValue
        response.processID = UInt64(ProcessInfo.processInfo.processIdentifier)
        response.version = Self.version
        response.uptimeSeconds = self.uptimeSeconds
        response.groups = groups.map { group in
            var wire = WireGroupStatus()
            wire.group = group.group.rawValue
            wire.role = group.role.rawValue
            wire.leader = group.leader?.rawValue ?? 0
            wire.term = group.term.rawValue
            wire.commit = group.commit.rawValue
            wire.applied = group.applied.rawValue
            wire.last = group.last.rawValue
            return wire
        }
        return response
    }
}
