/// The state of a cluster as `GET /v1/cluster` gives it.
package struct ClusterView: Sendable, Decodable, Equatable {
    /// One node: what the cluster knows of it, and what it said when it was asked.
    package struct Node: Sendable, Decodable, Equatable {
        package var id: Int
        package var address: String
        package var peerAddress: String?
        /// `up` or `down`.
        package var state: String
        /// `joining`, `active`, `cordoned`, `draining` or `removed`.
        package var membership: String?
        package var region: String?
        package var priority: Int?
        package var featureLevel: Int?
        /// How far its clock is ahead of that of the node that was asked, in milliseconds.
        package var clockOffsetMs: Double?
        package var pid: Int?
        package var version: String?
        package var uptimeSeconds: Double?
        /// Replicas and leaders of data groups.
        package var replicas: Int?
        package var leaders: Int?
        package var audit: Audit?
        /// Organizations that it does not serve because their history is damaged there.
        package var damaged: [Damage]?
        /// The processes that hold its columnar stores and run statements.
        package var workers: [Worker]?
    }

    /// A worker process of a node.
    package struct Worker: Sendable, Decodable, Equatable {
        package var name: String
        /// Nil while it is being started.
        package var pid: Int?
        package var uptimeSeconds: Double?
        /// How often it was replaced since the node's start.
        package var restarts: Int
        /// Physical memory.
        package var memoryBytes: Int
        /// Columnar stores that it has open.
        package var openStores: Int
        /// Why the last one before it ended; nil when none did.
        package var lastEnd: String?
    }

    /// An organization that a node does not serve.
    package struct Damage: Sendable, Decodable, Equatable {
        package var organization: String?
        package var kind: String
        package var sequence: Int
        package var place: String
    }

    /// A node's part in signing checkpoints.
    package struct Audit: Sendable, Decodable, Equatable {
        package var signing: Bool
        /// Fork proofs that it stores.
        package var forks: Int
        /// Organizations of which it stores something else than it has signed.
        package var contradictions: Int
        /// Erasures in groups that it leads whose keys not every replica has destroyed.
        package var erasuresPending: Int?
    }

    /// One replica of a group.
    package struct Replica: Sendable, Decodable, Equatable {
        package var node: Int
        package var role: String?
        /// `voter`, `learner`, `incoming` or `outgoing`.
        package var part: String?
        package var commit: Int?
        package var applied: Int?
        package var last: Int?
        package var lag: Int?
    }

    /// One replication group.
    package struct Group: Sendable, Decodable, Equatable {
        package var id: Int
        package var leader: Int?
        package var term: Int?
        package var joint: Bool?
        package var asleep: Bool?
        package var replicas: [Replica]
    }

    /// A change of replicas or leaders that is under way or comes next.
    package struct Move: Sendable, Decodable, Equatable {
        package var group: Int
        package var action: String
        package var node: Int?
        /// `running` or `planned`.
        package var state: String
    }

    package var clusterId: String
    package var featureLevel: Int?
    package var recoveryEpoch: Int?
    package var nodes: [Node]
    package var groups: [Group]
    package var moves: [Move]?
    /// Moves that are planned beyond those listed.
    package var movesLeft: Int?

    /// True when no replica or leader has to move any more.
    package var isSettled: Bool { (self.moves ?? []).isEmpty && (self.movesLeft ?? 0) == 0 }
}

/// A node that was added, and what it needs to join; only this answer holds the token.
package struct AddedNode: Sendable, Decodable, Equatable {
    package var id: Int
    package var joinToken: String
    package var expiresAt: String
}
