package import Consensus
package import Primitives

/// What one node says of itself: what its program can do, the groups that it leads, and how far its replicas are.
package struct NodeReport: Sendable {
    /// A replica as its own node sees it.
    package struct Replica: Sendable, Hashable {
        package var applied: LogIndex
        /// It is fetching or installing a snapshot.
        package var isInstalling: Bool

        package init(applied: LogIndex, isInstalling: Bool) {
            self.applied = applied
            self.isInstalling = isInstalling
        }
    }

    /// Nil when the node says nothing that makes sense.
    package var features: FeatureRange?
    /// The groups that it leads, or believes to.
    package var led: [GroupStatus]
    package var replicas: [GroupID: Replica]

    package init(features: FeatureRange?, led: [GroupStatus], replicas: [GroupID: Replica]) {
        self.features = features
        self.led = led
        self.replicas = replicas
    }

    /// What follows from the states of all groups of a node.
    package init(features: FeatureRange?, statuses: [GroupStatus]) {
        self.init(features: features, led: statuses.filter { $0.role == .leader }, replicas: [:])
        for status in statuses {
            self.replicas[status.group] = Replica(applied: status.applied, isInstalling: status.isInstalling)
        }
    }
}

/// What all nodes said of themselves at one moment; nodes that did not answer are absent.
package struct ClusterSurvey: Sendable {
    /// One group as its leader sees it.
    package struct Group: Sendable {
        package let leader: NodeID
        package let status: GroupStatus

        /// As the leader has applied it.
        package var membership: Membership { self.status.membership }
    }

    package private(set) var reports: [NodeID: NodeReport] = [:]
    /// Groups that have a leader; of several that say so, the one of the highest term.
    package private(set) var groups: [GroupID: Group] = [:]
    /// Entries by which a voter that has caught up may be behind while writes go on.
    package let lagMax: UInt64

    package init(lagMax: UInt64 = ClusterUpkeep.lagMax) { self.lagMax = lagMax }

    /// Adds what `node` says.
    package mutating func take(_ report: NodeReport, of node: NodeID) {
        self.reports[node] = report
        for status in report.led {
            if let known = self.groups[status.group], known.status.term >= status.term { continue }
            self.groups[status.group] = Group(leader: node, status: status)
        }
    }

    /// Whether the node has answered.
    package func isLive(_ node: NodeID) -> Bool { self.reports[node] != nil }

    /// Who leads a group, nil when nobody says so.
    package func leader(of group: GroupID) -> NodeID? { self.groups[group]?.leader }
}
