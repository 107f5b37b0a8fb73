/// One configuration key; ``ConfigurationKey/all`` is the only list of them.
package struct ConfigurationKey: Sendable {
    /// The dotted name, as in `--set` and in errors.
    package let name: String
    package let kind: ConfigurationKind
    /// What the number counts.
    package let unit: String?
    /// The value when none is given; nil when one must be given, unless `isOptional`.
    package let defaultText: String?
    /// True when the key may be absent although it has no default.
    package let isOptional: Bool
    /// True when explanations and logs must not show the value.
    package let isSecret: Bool
    /// One line for people.
    package let summary: String

    init(
        _ name: String,
        _ kind: ConfigurationKind,
        unit: String? = nil,
        default defaultText: String? = nil,
        optional: Bool = false,
        secret: Bool = false,
        _ summary: String
    ) {
        self.name = name
        self.kind = kind
        self.unit = unit
        self.defaultText = defaultText
        self.isOptional = optional
        self.isSecret = secret
        self.summary = summary
    }

    /// The environment variable that overrides the file: `api.listen` is `FTNODE_API_LISTEN`.
    package var environmentName: String {
        "FTNODE_" + self.name.uppercased().map { $0 == "." ? "_" : String($0) }.joined()
    }

    /// The section before the first dot.
    var section: String { String(self.name.prefix { $0 != "." }) }

    /// The list of the cluster's nodes: a sequence of mappings, given in the file only.
    package static let nodesName = "cluster.nodes"
    /// The members of each entry of ``nodesName``.
    static let nodeMembers = ["id", "api", "peer", "region", "priority"]
    /// The list of witnesses: a sequence of mappings, given in the file only.
    package static let witnessesName = "witnesses"
    /// The members of each entry of ``witnessesName``.
    static let witnessMembers = ["url", "vkey", "ca"]

    /// Every key that a configuration may have, besides `cluster.nodes` and `witnesses`.
    package static let all: [ConfigurationKey] =
        clusterKeys + listenerKeys + timingKeys + replicationKeys + limitKeys + auditKeys

    static let byName: [String: ConfigurationKey] = Dictionary(uniqueKeysWithValues: Self.all.map { ($0.name, $0) })

    static let sections: [String] = Self.all.reduce(into: []) { sections, key in
        if !sections.contains(key.section) { sections.append(key.section) }
    }

    private static let clusterKeys: [ConfigurationKey] = [
        ConfigurationKey("cluster.id", .name, "name of the cluster, part of every node's identity"),
        ConfigurationKey(
            "cluster.data_groups",
            .integer(1...NodeConfiguration.dataGroupsMax),
            default: "8",
            "replication groups for organizations; fixed when the cluster is created"
        ),
        ConfigurationKey(
            "cluster.replicas",
            .choice(["1", "3", "5", "7"]),
            default: "3",
            "copies of each organization's data, at most one a node"
        ),
        ConfigurationKey(
            "cluster.join_token",
            .token,
            optional: true,
            secret: true,
            "one-time token of `ftnode cluster add-node`; needed for the first start of an added node only"
        ),
        ConfigurationKey("node.id", .integer(1...1_000_000), "this node's id, its own for ever"),
        ConfigurationKey("node.data", .path, "data directory; made when absent"),
    ]

    private static let listenerKeys: [ConfigurationKey] = [
        ConfigurationKey("api.listen", .address, "where clients connect to"),
        ConfigurationKey("api.certificate", .path, "certificate chain (PEM) that clients are shown"),
        ConfigurationKey("api.key", .path, "private key (PEM) of api.certificate"),
        ConfigurationKey("peer.listen", .address, "where the other nodes connect to"),
        ConfigurationKey("peer.certificate", .path, "certificate chain (PEM) that names this node to its peers"),
        ConfigurationKey("peer.key", .path, "private key (PEM) of peer.certificate"),
        ConfigurationKey("peer.ca", .path, "the cluster's CA (PEM): what every peer must chain to"),
        ConfigurationKey(
            "auth.bootstrap_token_sha256",
            .sha256,
            optional: true,
            secret: true,
            "SHA-256 of the operator token that a new cluster starts with"
        ),
    ]

    private static let timingKeys: [ConfigurationKey] = [
        ConfigurationKey(
            "raft.tick_ms",
            .integer(5...1000),
            unit: "ms",
            default: "50",
            "length of one tick of consensus"
        ),
        ConfigurationKey(
            "raft.heartbeat_ticks",
            .integer(1...100),
            unit: "ticks",
            default: "2",
            "between a leader's heartbeats"
        ),
        ConfigurationKey(
            "raft.election_ticks",
            .integer(3...1000),
            unit: "ticks",
            default: "20",
            "without a leader before an election; each wait is drawn from this to twice this"
        ),
        ConfigurationKey(
            "write.timeout_ms",
            .integer(100...600_000),
            unit: "ms",
            default: "5000",
            "a write waits this long for a leader and a majority"
        ),
        ConfigurationKey(
            "clock.drift_limit_ms",
            .integer(10...60_000),
            unit: "ms",
            default: "500",
            "a clock further than this from the other nodes' is reported"
        ),
    ]

    private static let replicationKeys: [ConfigurationKey] = [
        ConfigurationKey("raft.loops", .integer(1...64), unit: "threads", default: "1", "threads that run consensus"),
        ConfigurationKey(
            "raft.log_tail_mb",
            .integer(1...65_536),
            unit: "MiB",
            default: "16",
            "log that each group keeps although it is applied and durable; replicas further behind get a snapshot"
        ),
        ConfigurationKey(
            "raft.lease_reads",
            .choice(["off", "on"]),
            default: "off",
            "a leader reads without asking its followers; needs clocks that run equally fast"
        ),
        ConfigurationKey(
            "raft.sleep",
            .choice(["off", "on"]),
            default: "on",
            "groups without work send no heartbeats of their own"
        ),
        ConfigurationKey(
            "snapshot.rate_mb",
            .integer(1...100_000),
            unit: "MiB/s",
            default: "200",
            "most that this node sends to replicas that need a snapshot"
        ),
    ]

    private static let limitKeys: [ConfigurationKey] = [
        ConfigurationKey(
            "write.batch_bytes_max",
            .integer(65_536...67_108_864),
            unit: "bytes",
            default: "4194304",
            "largest body of an append"
        ),
        ConfigurationKey(
            "write.batch_records_max",
            .integer(1...100_000),
            unit: "records",
            default: "1000",
            "most records of one append"
        ),
        ConfigurationKey(
            "query.columnar_memory_mb",
            .integer(16...1_048_576),
            unit: "MiB",
            default: "256",
            "memory of one organization's columnar store"
        ),
        ConfigurationKey(
            "query.gather_memory_mb",
            .integer(16...1_048_576),
            unit: "MiB",
            default: "1024",
            "memory of the query router for one statement over several organizations"
        ),
        ConfigurationKey(
            "query.threads",
            .integer(0...NodeConfiguration.queryThreadsMax),
            unit: "threads",
            default: "0",
            "threads that work on a statement of an organization with many records; 0: one a core"
        ),
        ConfigurationKey(
            "query.time_limit_ms",
            .integer(100...3_600_000),
            unit: "ms",
            default: "30000",
            "longest a statement may run"
        ),
        ConfigurationKey(
            "query.running_max",
            .integer(1...1_024),
            unit: "statements",
            default: "16",
            "statements that a node answers at once"
        ),
        ConfigurationKey(
            "query.waiting_max",
            .integer(0...65_536),
            unit: "statements",
            default: "128",
            "statements that wait for a place; one more is refused"
        ),
        ConfigurationKey(
            "query.wait_ms",
            .integer(100...600_000),
            unit: "ms",
            default: "10000",
            "longest a statement waits for its place"
        ),
        ConfigurationKey(
            "query.unread_ms",
            .integer(1_000...3_600_000),
            unit: "ms",
            default: "60000",
            "how long the rows of an answer may lie unread before it is ended"
        ),
        ConfigurationKey(
            "query.cache_mb",
            .integer(0...65_536),
            unit: "MiB",
            default: "64",
            "answers that are kept for the next who asks the same of the same records; 0 keeps none"
        ),
        ConfigurationKey(
            "query.result_mb_max",
            .integer(1...65_536),
            unit: "MiB",
            default: "512",
            "largest result of a statement"
        ),
        ConfigurationKey(
            "worker.count",
            .integer(1...NodeConfiguration.workersMax),
            unit: "processes",
            default: "2",
            "worker processes with columnar stores; organizations are spread over them"
        ),
        ConfigurationKey(
            "worker.memory_mb",
            .integer(256...1_048_576),
            unit: "MiB",
            default: "4096",
            "private memory that one worker process may have"
        ),
        ConfigurationKey(
            "worker.idle_close_s",
            .integer(5...86_400),
            unit: "s",
            default: "300",
            "a columnar store that nobody has used for so long is closed"
        ),
        ConfigurationKey(
            "worker.sandbox",
            .choice(["off", "on"]),
            default: "on",
            "worker processes give up the network, other programs and all other files"
        ),
        ConfigurationKey(
            "log.level",
            .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
            default: "info",
            "least severe lines that are written"
        ),
        ConfigurationKey(
            "log.format",
            .choice(NodeConfiguration.LogFormat.allCases.map(\.rawValue)),
            default: "text",
            "one line a message, as text or as JSON"
        ),
    ]

    private static let auditKeys: [ConfigurationKey] = [
        ConfigurationKey(
            "audit.signing_key",
            .path,
            optional: true,
            "private key (C2SP skey) with which this node signs checkpoints; without one it signs none"
        ),
        ConfigurationKey(
            "audit.sealing_key",
            .path,
            optional: true,
            "key under which this node keeps the keys of data subjects; without one the node takes no personal data"
        ),
        ConfigurationKey(
            "audit.witness_quorum",
            .integer(0...NodeConfiguration.witnessesMax),
            unit: "witnesses",
            optional: true,
            "how many of the witnesses must have cosigned; all of them when it is not given"
        ),
        ConfigurationKey(
            "audit.scrub_rate_mb",
            .integer(1...10_000),
            unit: "MiB/s",
            default: "8",
            "most that the node re-reads of its ledgers in the background"
        ),
        ConfigurationKey(
            "audit.scrub_interval_hours",
            .integer(1...8_760),
            unit: "h",
            default: "168",
            "after how long everything is re-read, also what has not changed"
        ),
        ConfigurationKey(
            "audit.record_readings",
            .choice(["off", "on"]),
            default: "on",
            "operators' and auditors' readings of ledgers go on record"
        ),
    ]
}
