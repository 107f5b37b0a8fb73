internal import Foundation
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Configuration is read whole, or refused with every reason")
struct ConfigurationLoaderTests {
    static let good = """
        cluster:
          id: demo
          replicas: 1
          nodes:
            - {id: 1, api: "127.0.0.1:8443", peer: "127.0.0.1:8543"}
        node: {id: 1, data: ./data}
        api:
          listen: "127.0.0.1:8443"
          certificate: pki/node-1.pem
          key: pki/node-1.key
        peer:
          listen: "127.0.0.1:8543"
          certificate: pki/node-1.pem
          key: pki/node-1.key
          ca: pki/ca.pem
        auth:
          bootstrap_token_sha256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
        """

    private func examine(
        _ text: String,
        environment: [String: String] = [:],
        overrides: [String] = []
    ) -> ConfigurationLoader.Outcome {
        ConfigurationLoader.examine(
            content: ConfigurationFile(path: "/etc/ft/node.yaml", text: text),
            environment: environment,
            overrides: overrides,
            workingFolder: "/home/me"
        )
    }

    private func messages(_ text: String, environment: [String: String] = [:], overrides: [String] = []) -> [String] {
        self.examine(text, environment: environment, overrides: overrides).problems.map(\.description)
    }

    @Test func readsEveryKindOfValueAndResolvesPathsAgainstTheFile() throws {
        let loaded = try #require(self.examine(Self.good).loaded)
        let configuration = loaded.configuration
        #expect(configuration.clusterID == "demo")
        #expect(configuration.nodeID == NodeID(1))
        #expect(configuration.dataDirectory == "/etc/ft/data")
        #expect(configuration.caFile == "/etc/ft/pki/ca.pem")
        #expect(configuration.apiListen == .init(host: "127.0.0.1", port: 8443))
        #expect(configuration.dataGroups == 8)
        #expect(configuration.columnarMemoryBytes == 256 << 20)
        #expect(configuration.members.map(\.peerAddress.port) == [8543])
    }

    @Test func flagsOverrideTheEnvironmentWhichOverridesTheFile() throws {
        let environment = ["FTNODE_NODE_DATA": "elsewhere", "FTNODE_WRITE_TIMEOUT_MS": "900", "HOME": "/x"]
        let loaded = try #require(
            self.examine(Self.good, environment: environment, overrides: ["write.timeout_ms=800"]).loaded
        )
        #expect(loaded.configuration.dataDirectory == "/home/me/elsewhere")
        #expect(loaded.configuration.writeTimeoutMilliseconds == 800)
        #expect(loaded.rows.first { $0.key == "node.data" }?.origin == .environment("FTNODE_NODE_DATA"))
        #expect(loaded.rows.first { $0.key == "write.timeout_ms" }?.origin == .flag)
        #expect(loaded.rows.first { $0.key == "cluster.id" }?.origin == .file(line: 2))
        #expect(loaded.rows.first { $0.key == "cluster.data_groups" }?.origin == .default)
    }

    @Test(arguments: [
        ("  id: demo", "  idd: demo", "/etc/ft/node.yaml:2: unknown key \"cluster.idd\"; did you mean \"cluster.id\"?"),
        ("api:\n", "apy:\n", "/etc/ft/node.yaml:7: unknown key \"apy\"; did you mean \"api\"?"),
        (
            "  replicas: 1", "  replicas: 2",
            "/etc/ft/node.yaml:3: cluster.replicas: \"2\" is not one of 1, 3, 5, 7"
        ),
        (
            "  replicas: 1", "  data_groups: many\n  replicas: 1",
            "/etc/ft/node.yaml:3: cluster.data_groups: \"many\" is not a whole number from 1 to 4096"
        ),
        (
            "  replicas: 1", "  data_groups: 4097\n  replicas: 1",
            "/etc/ft/node.yaml:3: cluster.data_groups: \"4097\" is not a whole number from 1 to 4096"
        ),
        (
            "  replicas: 1", "  data_groups: \"8\"\n  replicas: 1",
            "/etc/ft/node.yaml:3: cluster.data_groups: a quoted text is not a whole number from 1 to 4096"
        ),
        ("  replicas: 1", "  replicas: [1]", "/etc/ft/node.yaml:3: cluster.replicas: must be a single value"),
        ("  id: demo", "  id:", "/etc/ft/node.yaml:2: cluster.id: has no value"),
        (
            "  listen: \"127.0.0.1:8443\"", "  listen: \"127.0.0.1:70000\"",
            "/etc/ft/node.yaml:8: api.listen: \"127.0.0.1:70000\" is not host:port, such as 0.0.0.0:8443 or "
                + "[::1]:8443, the port from 1 to 65535"
        ),
        (
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "secret",
            "/etc/ft/node.yaml:17: auth.bootstrap_token_sha256: must be 64 hexadecimal digits"
        ),
        (
            "{id: 1, api:", "{id: 1, apis: x, api:",
            "/etc/ft/node.yaml:5: unknown key \"cluster.nodes[0].apis\"; did you mean \"cluster.nodes[0].api\"?"
        ),
        (
            "  replicas: 1", "  join_token: short\n  replicas: 1",
            "/etc/ft/node.yaml:3: cluster.join_token: must be 16 to 200 visible ASCII characters"
        ),
        (
            "  replicas: 1", "  join_token: ftj_0123456789abcdef\n  replicas: 1",
            "/etc/ft/node.yaml: cluster.nodes: must name a member that the node can ask to join"
        ),
        (
            "peer: \"127.0.0.1:8543\"}", "peer: \"127.0.0.1:8543\", priority: 11}",
            "/etc/ft/node.yaml:5: cluster.nodes[0].priority: \"11\" is not a whole number from 0 to 10"
        ),
        (
            "peer: \"127.0.0.1:8543\"}", "peer: \"127.0.0.1:8543\", region: North}",
            "/etc/ft/node.yaml:5: cluster.nodes[0].region: \"North\" is not 1 to 63 of a-z 0-9 -, with a letter or digit "
                + "first and last"
        ),
        (
            "  replicas: 1", "  replicas: 3",
            "/etc/ft/node.yaml:3: cluster.replicas: 3 is more than the 1 nodes of cluster.nodes"
        ),
        (
            "  listen: \"127.0.0.1:8543\"", "  listen: \"127.0.0.1:8443\"",
            "/etc/ft/node.yaml:12: peer.listen: port 8443 is that of api.listen; they must differ"
        ),
        (
            "peer: \"127.0.0.1:8543\"}", "peer: \"127.0.0.1:8443\"}",
            "/etc/ft/node.yaml: cluster.nodes: 127.0.0.1:8443 stands twice; every address must be its own"
        ),
        (
            "node: {id: 1, data: ./data}\n", "node: {id: 1}\n",
            "/etc/ft/node.yaml: node.data: must be given: data directory; made when absent (a path)"
        ),
        ("  id: demo", "  id: demo\n  id: demo", "/etc/ft/node.yaml:2: has a key twice: id"),
        ("  id: demo", "  id: [demo", "/etc/ft/node.yaml:3: is not YAML: did not find expected ',' or ']', column 11"),
    ])
    func namesPlaceKeyAndWhatIsAllowed(change: (from: String, to: String, expected: String)) {
        #expect(Self.good.contains(change.from))
        let text = Self.good.replacingOccurrences(of: change.from, with: change.to)
        #expect(self.messages(text).contains(change.expected), "\(self.messages(text))")
    }

    @Test func reportsAllProblemsTogether() {
        let text = Self.good.replacingOccurrences(of: "id: demo", with: "id: Demo")
            .replacingOccurrences(of: "replicas: 1", with: "replicas: x")
        #expect(self.messages(text, environment: ["FTNODE_LOG_LEVEL": "loud"]).count == 3)
    }

    @Test func refusesFlagsThatNameNoKeyOrHaveNoValue() {
        #expect(
            self.messages(Self.good, overrides: ["api.lisen=1", "x", "cluster.nodes=1"]) == [
                "--set: unknown key \"api.lisen\"; did you mean \"api.listen\"?", "--set: \"x\" is not key=value",
                "--set: cluster.nodes can be given in the file only",
            ]
        )
    }

    @Test func warnsOfEnvironmentVariablesThatNoKeyReads() {
        let outcome = self.examine(Self.good, environment: ["FTNODE_API_LISTN": "x", "FTNODE_CONTEXT": "y"])
        #expect(
            outcome.warnings == [
                "environment variable FTNODE_API_LISTN is not read by any key; did you mean FTNODE_API_LISTEN?"
            ]
        )
        #expect(outcome.problems.isEmpty)
    }

    @Test func refusesAFileThatIsAbsentEmptyOrNoMapping() {
        #expect(
            ConfigurationLoader.examine(file: "/nonexistent/node.yaml").problems.map(\.description)
                == ["/nonexistent/node.yaml: cannot be read: no such file or directory"]
        )
        #expect(self.messages("") == ["/etc/ft/node.yaml: is empty"])
        #expect(self.messages("- 1") == ["/etc/ft/node.yaml:1: must be a mapping of sections"])
    }

    @Test func neverShowsASecret() {
        let secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
        let outcome = self.examine(Self.good)
        #expect(outcome.loaded?.configuration.bootstrapTokenSHA256 == secret)
        #expect(outcome.rows.first { $0.key == "auth.bootstrap_token_sha256" }?.value == "(hidden)")
        #expect(!outcome.rows.contains { $0.value.contains(secret) })
        let wrong = self.messages(Self.good, overrides: ["auth.bootstrap_token_sha256=topsecret"])
        #expect(wrong.count == 1)
        #expect(!wrong[0].contains("topsecret"))
    }

    @Test func explainsEveryKeyInATable() {
        let outcome = self.examine(
            Self.good,
            environment: ["FTNODE_LOG_LEVEL": "debug"],
            overrides: ["raft.tick_ms=20"]
        )
        let text = ConfigurationExplanation.text(
            file: "/etc/ft/node.yaml",
            rows: outcome.rows,
            warnings: outcome.warnings,
            problems: outcome.problems
        )
        let expected = """
            configuration /etc/ft/node.yaml

            KEY                          VALUE                                             FROM              MEANING
            cluster.id                   demo                                              line 2            name of the cluster, part of every node's identity
            cluster.data_groups          8                                                 default           replication groups for organizations; fixed when the cluster is created
            cluster.replicas             1                                                 line 3            copies of each organization's data, at most one a node
            cluster.join_token           -                                                 not set           one-time token of `ftnode cluster add-node`; needed for the first start of an added node only
            node.id                      1                                                 line 6            this node's id, its own for ever
            node.data                    /etc/ft/data                                      line 6            data directory; made when absent
            api.listen                   127.0.0.1:8443                                    line 8            where clients connect to
            api.certificate              /etc/ft/pki/node-1.pem                            line 9            certificate chain (PEM) that clients are shown
            api.key                      /etc/ft/pki/node-1.key                            line 10           private key (PEM) of api.certificate
            peer.listen                  127.0.0.1:8543                                    line 12           where the other nodes connect to
            peer.certificate             /etc/ft/pki/node-1.pem                            line 13           certificate chain (PEM) that names this node to its peers
            peer.key                     /etc/ft/pki/node-1.key                            line 14           private key (PEM) of peer.certificate
            peer.ca                      /etc/ft/pki/ca.pem                                line 15           the cluster's CA (PEM): what every peer must chain to
            auth.bootstrap_token_sha256  (hidden)                                          line 17           SHA-256 of the operator token that a new cluster starts with
            raft.tick_ms                 20 ms                                             --set             length of one tick of consensus
            raft.heartbeat_ticks         2 ticks                                           default           between a leader's heartbeats
            raft.election_ticks          20 ticks                                          default           without a leader before an election; each wait is drawn from this to twice this
            write.timeout_ms             5000 ms                                           default           a write waits this long for a leader and a majority
            clock.drift_limit_ms         500 ms                                            default           a clock further than this from the other nodes' is reported
            raft.loops                   1 threads                                         default           threads that run consensus
            raft.log_tail_mb             16 MiB                                            default           log that each group keeps although it is applied and durable; replicas further behind get a snapshot
            raft.lease_reads             off                                               default           a leader reads without asking its followers; needs clocks that run equally fast
            raft.sleep                   on                                                default           groups without work send no heartbeats of their own
            snapshot.rate_mb             200 MiB/s                                         default           most that this node sends to replicas that need a snapshot
            write.batch_bytes_max        4194304 bytes                                     default           largest body of an append
            write.batch_records_max      1000 records                                      default           most records of one append
            query.columnar_memory_mb     256 MiB                                           default           memory of one organization's columnar store
            query.gather_memory_mb       1024 MiB                                          default           memory of the query router for one statement over several organizations
            query.threads                0 threads                                         default           threads that work on a statement of an organization with many records; 0: one a core
            query.time_limit_ms          30000 ms                                          default           longest a statement may run
            query.running_max            16 statements                                     default           statements that a node answers at once
            query.waiting_max            128 statements                                    default           statements that wait for a place; one more is refused
            query.wait_ms                10000 ms                                          default           longest a statement waits for its place
            query.unread_ms              60000 ms                                          default           how long the rows of an answer may lie unread before it is ended
            query.cache_mb               64 MiB                                            default           answers that are kept for the next who asks the same of the same records; 0 keeps none
            query.result_mb_max          512 MiB                                           default           largest result of a statement
            worker.count                 2 processes                                       default           worker processes with columnar stores; organizations are spread over them
            worker.memory_mb             4096 MiB                                          default           private memory that one worker process may have
            worker.idle_close_s          300 s                                             default           a columnar store that nobody has used for so long is closed
            worker.sandbox               on                                                default           worker processes give up the network, other programs and all other files
            log.level                    debug                                             FTNODE_LOG_LEVEL  least severe lines that are written
            log.format                   text                                              default           one line a message, as text or as JSON
            audit.signing_key            -                                                 not set           private key (C2SP skey) with which this node signs checkpoints; without one it signs none
            audit.sealing_key            -                                                 not set           key under which this node keeps the keys of data subjects; without one the node takes no personal data
            audit.witness_quorum         -                                                 not set           how many of the witnesses must have cosigned; all of them when it is not given
            audit.scrub_rate_mb          8 MiB/s                                           default           most that the node re-reads of its ledgers in the background
            audit.scrub_interval_hours   168 h                                             default           after how long everything is re-read, also what has not changed
            audit.record_readings        on                                                default           operators' and auditors' readings of ledgers go on record
            cluster.nodes[0]             node 1: api 127.0.0.1:8443, peer 127.0.0.1:8543   line 5            a node of the cluster, and where clients and peers reach it

            OK

            """
        let squeeze = { (text: String) in
            text.split(separator: "\n", omittingEmptySubsequences: false)
                .map { $0.split(separator: " ").joined(separator: " ") }
        }
        #expect(squeeze(text) == squeeze(expected))
        let lines = text.split(separator: "\n").dropFirst(1)
        let heading = lines.first ?? ""
        let column = heading.distance(
            from: heading.startIndex,
            to: heading.range(of: "MEANING")?.lowerBound ?? heading.endIndex
        )
        #expect(lines.dropFirst().prefix(38).allSatisfy { $0.dropFirst(column - 2).hasPrefix("  ") })
    }

    @Test(
        arguments: ["single.yaml"] + (1...3).map { "three-nodes/node-\($0).yaml" }
            + (1...5).flatMap { ["five-nodes/node-\($0).yaml", "two-regions/node-\($0).yaml"] }
    )
    func loadsEveryReadyConfiguration(name: String) throws {
        let root = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let loaded = try ConfigurationLoader.load(file: root.appendingPathComponent("cluster-configs/\(name)").path)
        #expect(loaded.configuration.caFile.hasSuffix("/pki/ca.pem"))
        #expect(loaded.configuration.members.contains { $0.id == loaded.configuration.nodeID })
        #expect([1, 3, 5].contains(loaded.configuration.replicas))
        let regions = Set(loaded.configuration.members.map(\.region))
        #expect(regions == (name.hasPrefix("two-regions") ? ["north", "south"] : [""]))
    }

    @Test func aNodeThatStartsForTheFirstTimeMustStandInTheList() throws {
        let text = Self.good.replacingOccurrences(of: "node: {id: 1,", with: "node: {id: 2,")
        let loaded = try #require(self.examine(text, overrides: ["node.data=/nonexistent/data"]).loaded)
        let problems = loaded.problems(now: Timestamp(microseconds: 0)).map(\.description)
        #expect(
            problems.contains(
                "/etc/ft/node.yaml:6: node.id: 2 is not in cluster.nodes, which has 1; a new node must stand there itself"
            ),
            "\(problems)"
        )
    }
}
