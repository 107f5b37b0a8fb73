package import Primitives

/// Everything one node needs to know to start; where it comes from is ``ConfigurationLoader``'s affair.
package struct NodeConfiguration: Sendable, Equatable {
    /// Another node's, or this node's, place in the cluster.
    package struct Member: Sendable, Equatable {
        package var id: NodeID
        /// `host:port` under which clients reach it.
        package var apiAddress: HostPort
        /// `host:port` under which peers reach it.
        package var peerAddress: HostPort
        /// Where it stands, such as a data centre; replicas are spread over regions. Empty when it does not matter.
        package var region: String
        /// 0 is preferred as a leader, larger numbers less; votes are not changed by it.
        package var priority: Int

        package init(
            id: NodeID,
            apiAddress: HostPort,
            peerAddress: HostPort,
            region: String = "",
            priority: Int = 0
        ) {
            self.id = id
            self.apiAddress = apiAddress
            self.peerAddress = peerAddress
            self.region = region
            self.priority = priority
        }
    }

    /// A host name or address, and a port.
    package struct HostPort: Sendable, Hashable, CustomStringConvertible {
        package var host: String
        package var port: Int

        package init(host: String, port: Int) {
            self.host = host
            self.port = port
        }

        package var description: String {
            self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
        }
    }

    /// A witness outside the cluster that cosigns checkpoints.
    package struct Witness: Sendable, Equatable {
        /// Where it takes checkpoints: `https://host[:port][/path]`.
        package var url: String
        /// Its public key as a C2SP vkey.
        package var key: String
        /// What its certificate must chain to; nil for the system's authorities.
        package var caFile: String?

        package init(url: String, key: String, caFile: String? = nil) {
            self.url = url
            self.key = key
            self.caFile = caFile
        }
    }

    /// How log lines are written.
    package enum LogFormat: String, Sendable, CaseIterable {
        case text
        case json
    }

    /// The cluster's name, part of every node's identity: 1–63 of `a-z 0-9 -`.
    package var clusterID: String
    /// The nodes that found the cluster, by id; for one that was added later, itself and some members.
    package var members: [Member]
    /// The most data groups.
    package static let dataGroupsMax = 4096
    /// The largest priority of a node.
    package static let priorityMax = 10
    /// Data groups, fixed at cluster creation.
    package var dataGroups: Int = 8
    /// Replicas of each data group (1, 3, 5 or 7, at most the number of members).
    package var replicas: Int = 3
    /// What an added node shows when it starts for the first time; nil for a founding node.
    package var joinToken: String?

    /// This node.
    package var nodeID: NodeID
    /// Data directory, made when absent.
    package var dataDirectory: String

    /// Where the API listens.
    package var apiListen: HostPort
    package var apiCertificateFile: String
    package var apiKeyFile: String
    /// Where peers are awaited.
    package var peerListen: HostPort
    package var peerCertificateFile: String
    package var peerKeyFile: String
    /// The cluster's CA: what peers must chain to.
    package var caFile: String

    /// SHA-256, in hexadecimal, of the operator token that the cluster is created with; nil when there is one already.
    package var bootstrapTokenSHA256: String?

    /// One Raft tick, in milliseconds (5–1000).
    package var raftTickMilliseconds: Int = 50
    /// Ticks between a leader's heartbeats.
    package var raftHeartbeatTicks: Int = 2
    /// Ticks without a leader before an election; each wait is drawn from this to twice this.
    package var raftElectionTicks: Int = 20
    /// Threads that run consensus.
    package var raftLoops: Int = 1
    /// Log that each group keeps although it is applied and durable, in bytes.
    package var raftLogTailBytes: Int = 16 << 20
    /// True when a leader may read without asking its followers.
    package var raftLeaseReads = false
    /// True when it is put on record that operators and auditors read ledgers.
    package var recordsReadings = true
    /// True when groups without work may sleep.
    package var raftSleep = true
    /// Most that this node sends of snapshots, in bytes a second.
    package var snapshotBytesPerSecond: Int = 200 << 20
    /// How far this node's clock may be from the others', in milliseconds.
    package var clockDriftLimitMilliseconds: Int = 500

    /// How long a write may wait for a leader and a majority before it is refused, in milliseconds.
    package var writeTimeoutMilliseconds: Int = 5000
    /// Largest request body of an append, in bytes.
    package var batchBytesMax: Int = 4 * 1024 * 1024
    /// Most records of one batch.
    package var batchRecordsMax: Int = 1000

    /// Memory of one organization's columnar store, in bytes.
    package var columnarMemoryBytes: Int = 256 * 1024 * 1024
    /// Memory of the router's gathering store for one query, in bytes.
    package var gatherMemoryBytes: Int = 1024 * 1024 * 1024
    /// Threads that work on a statement of an organization with many records; 0: one a core.
    package var queryThreads = 0
    /// Longest a statement may run, in milliseconds.
    package var queryTimeLimitMilliseconds: Int = 30_000
    /// Statements that run at once.
    package var queriesRunningMax: Int = 16
    /// Statements that wait for a place.
    package var queriesWaitingMax: Int = 128
    /// How long a statement waits for a place, in milliseconds.
    package var queryWaitMilliseconds: Int = 10_000
    /// How long the rows of an answer may lie unread, in milliseconds.
    package var queryUnreadMilliseconds: Int = 60_000
    /// Answers that are kept for the next who asks the same, in bytes; 0 keeps none.
    package var queryCacheBytes: Int = 64 * 1024 * 1024
    /// Largest result in bytes.
    package var queryResultBytesMax: Int = 512 * 1024 * 1024

    /// Worker processes with columnar stores (1–``workersMax``).
    package var workers: Int = 2
    /// The most worker processes.
    package static let workersMax = 64
    /// Largest ``queryThreads``.
    package static let queryThreadsMax = 64
    /// Private writable memory that one worker process may have, in bytes.
    package var workerMemoryBytes: Int = 4096 * 1024 * 1024
    /// A columnar store that nobody has used for so many seconds is closed.
    package var workerIdleSeconds: Int = 300
    /// False when worker processes keep the network and all files, for systems without seccomp.
    package var workerSandbox = true

    /// Most bytes of its ledgers that the node re-reads in the background in a second.
    package var scrubBytesPerSecond: Int = 8 << 20
    /// After how many hours everything is re-read, also what has not changed.
    package var scrubIntervalHours: Int = 168

    /// The private key with which this node signs checkpoints; nil when it signs none.
    package var signingKeyFile: String?
    /// The key under which this node keeps the keys of data subjects; nil when it takes no personal data.
    package var sealingKeyFile: String?
    /// The most witnesses.
    package static let witnessesMax = 16
    package var witnesses: [Witness] = []
    /// How many of ``witnesses`` must have cosigned; nil for all.
    package var witnessQuorum: Int?

    package var logLevel: String = "info"
    package var logFormat: LogFormat = .text

    /// What ``members`` say of this node; needed for its first start.
    package var ownEntry: Member? { self.members.first { $0.id == self.nodeID } }

    package init(
        clusterID: String,
        members: [Member],
        nodeID: NodeID,
        dataDirectory: String,
        apiListen: HostPort,
        apiCertificateFile: String,
        apiKeyFile: String,
        peerListen: HostPort,
        peerCertificateFile: String,
        peerKeyFile: String,
        caFile: String
    ) {
        self.clusterID = clusterID
        self.members = members
        self.nodeID = nodeID
        self.dataDirectory = dataDirectory
        self.apiListen = apiListen
        self.apiCertificateFile = apiCertificateFile
        self.apiKeyFile = apiKeyFile
        self.peerListen = peerListen
        self.peerCertificateFile = peerCertificateFile
        self.peerKeyFile = peerKeyFile
        self.caFile = caFile
    }
}
