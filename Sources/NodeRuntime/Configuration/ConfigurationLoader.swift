internal import Foundation
internal import Primitives

/// A configuration that was read, and for every key where its value comes from.
package struct LoadedConfiguration: Sendable {
    /// Where a value was found.
    package enum Origin: Sendable, Equatable, CustomStringConvertible {
        case `default`
        case file(line: Int)
        case environment(String)
        case flag
        /// Optional and given nowhere.
        case absent

        package var description: String {
            switch self {
            case .default: "default"
            case .file(let line): "line \(line)"
            case .environment(let name): name
            case .flag: "--set"
            case .absent: "not set"
            }
        }
    }

    /// One key, for an explanation.
    package struct Row: Sendable, Equatable {
        package var key: String
        /// The value as text; `(hidden)` when it is a secret.
        package var value: String
        package var origin: Origin
        package var isSecret: Bool
        package var summary: String
    }

    /// The file that was read.
    package let file: String
    package let configuration: NodeConfiguration
    package let rows: [Row]
    /// Things that are allowed but probably not meant, such as environment variables that no key reads.
    package let warnings: [String]

    /// Where the value of `key` stands, for errors: `FILE:LINE`, an environment variable, `--set`, or the file.
    func place(of key: String) -> String {
        switch self.rows.first(where: { $0.key == key })?.origin {
        case .file(let line): "\(self.file):\(line)"
        case .environment(let name): "environment \(name)"
        case .flag: "--set"
        case .default, .absent, nil: self.file
        }
    }
}

/// Reads a node's configuration: defaults, then the file, then the environment, then flags.
///
/// Everything that is wrong is reported together. Files named by the configuration are not opened here;
/// ``LoadedConfiguration/validate(now:)`` does that.
package enum ConfigurationLoader {
    /// Environment variables of the same prefix that are not configuration keys.
    static let otherEnvironmentNames: Set<String> = ["FTNODE_CONTEXT"]

    /// What was found before it is known to be complete.
    package struct Outcome: Sendable {
        package let rows: [LoadedConfiguration.Row]
        package let warnings: [String]
        package let problems: [ConfigurationProblem]
        /// Nil when there are problems.
        package let loaded: LoadedConfiguration?
    }

    /// Reads the file at `file` and what overrides it.
    ///
    /// - Parameters:
    ///   - environment: Of the process; `FTNODE_` and the key in capitals, dots as underscores.
    ///   - overrides: `key=value` texts of `--set`, the last of a key wins; relative paths are relative to the
    ///     working directory, as are those of the environment.
    /// - Throws: ``ConfigurationError`` with every problem.
    package static func load(
        file: String,
        environment: [String: String] = [:],
        overrides: [String] = []
    ) throws(ConfigurationError) -> LoadedConfiguration {
        let outcome = self.examine(file: file, environment: environment, overrides: overrides)
        guard let loaded = outcome.loaded else { throw ConfigurationError(outcome.problems) }
        return loaded
    }

    /// The same, but returns what could be understood beside what is wrong, for `--check`.
    package static func examine(
        file: String,
        environment: [String: String] = [:],
        overrides: [String] = []
    ) -> Outcome {
        let workingFolder = FileManager.default.currentDirectoryPath
        let path = FilePaths.resolve(file, against: workingFolder)
        return self.examine(
            content: ConfigurationFile(path: path),
            environment: environment,
            overrides: overrides,
            workingFolder: workingFolder
        )
    }

    static func examine(
        content: ConfigurationFile,
        environment: [String: String],
        overrides: [String],
        workingFolder: String
    ) -> Outcome {
        var reading = ConfigurationReading(content: content, workingFolder: workingFolder)
        reading.take(environment: environment)
        reading.take(overrides: overrides)
        if reading.problems.contains(where: { $0.code == .unreadableFile || $0.code == .malformedFile }) {
            return Outcome(rows: [], warnings: reading.warnings, problems: reading.problems, loaded: nil)
        }
        reading.readKeys()
        reading.readMembers()
        reading.readWitnesses()
        var problems = reading.problems
        guard problems.isEmpty, let configuration = reading.configuration() else {
            return Outcome(rows: reading.rows, warnings: reading.warnings, problems: problems, loaded: nil)
        }
        let loaded = LoadedConfiguration(
            file: content.path,
            configuration: configuration,
            rows: reading.rows,
            warnings: reading.warnings
        )
        problems = loaded.crossKeyProblems()
        return Outcome(
            rows: reading.rows,
            warnings: reading.warnings,
            problems: problems,
            loaded: problems.isEmpty ? loaded : nil
        )
    }
}

/// One run of the loader: gathers values, rows and problems.
struct ConfigurationReading {
    private let content: ConfigurationFile
    private let workingFolder: String
    private var environment: [String: String] = [:]
    private var flags: [String: String] = [:]
    private var values: [String: ConfigurationValue] = [:]
    private var members: [NodeConfiguration.Member] = []
    private var witnesses: [NodeConfiguration.Witness] = []
    private(set) var rows: [LoadedConfiguration.Row] = []
    private(set) var warnings: [String] = []
    private(set) var problems: [ConfigurationProblem]

    init(content: ConfigurationFile, workingFolder: String) {
        self.content = content
        self.workingFolder = workingFolder
        self.problems = content.problems
    }

    mutating func take(environment: [String: String]) {
        let known = Set(ConfigurationKey.all.map(\.environmentName))
        for name in environment.keys.sorted() where name.hasPrefix("FTNODE_") {
            guard !ConfigurationLoader.otherEnvironmentNames.contains(name) else { continue }
            if known.contains(name) {
                self.environment[name] = environment[name]
            } else {
                let hint = ConfigurationRules.nearest(to: name, among: known.sorted()).map { "; did you mean \($0)?" }
                self.warnings.append("environment variable \(name) is not read by any key\(hint ?? "")")
            }
        }
    }

    mutating func take(overrides: [String]) {
        for override in overrides {
            guard let equals = override.firstIndex(of: "=") else {
                self.problems.append(
                    ConfigurationProblem(.wrongType, place: "--set", "\"\(override.prefix(80))\" is not key=value")
                )
                continue
            }
            let key = String(override[..<equals])
            guard ConfigurationKey.byName[key] != nil else {
                let message =
                    key.hasPrefix(ConfigurationKey.nodesName)
                    ? "\(ConfigurationKey.nodesName) can be given in the file only"
                    : ConfigurationFile.unknownKeyMessage(key, among: ConfigurationKey.byName.keys.sorted())
                self.problems.append(ConfigurationProblem(.unknownKey, place: "--set", message))
                continue
            }
            self.flags[key] = String(override[override.index(after: equals)...])
        }
    }

    mutating func readKeys() {
        for key in ConfigurationKey.all { self.read(key) }
    }

    private mutating func read(_ key: ConfigurationKey) {
        var folder = self.workingFolder
        let origin: LoadedConfiguration.Origin
        let text: String
        let place: String
        if let value = self.flags[key.name] {
            (text, origin, place) = (value, .flag, "--set")
        } else if let value = self.environment[key.environmentName] {
            (text, origin, place) = (value, .environment(key.environmentName), "environment \(key.environmentName)")
        } else if let entry = self.content.entries[key.name] {
            (text, origin, place) = (entry.text, .file(line: entry.line), "\(self.content.path):\(entry.line)")
            folder = FilePaths.folder(of: self.content.path)
            if case .integer = key.kind, entry.isQuoted {
                self.fail(.wrongType, key, place, "a quoted text is not \(key.kind.allowed)", origin)
                return
            }
        } else if let value = key.defaultText {
            (text, origin, place) = (value, .default, "default")
        } else {
            self.readAbsent(key)
            return
        }
        do {
            let value = try key.kind.read(text, folder: folder)
            self.values[key.name] = value
            let unit = key.unit.map { " " + $0 } ?? ""
            self.addRow(key, key.isSecret ? "(hidden)" : value.shown + unit, origin)
        } catch {
            let message = key.isSecret ? "must be \(key.kind.allowed)" : error.message
            self.fail(error.code, key, place, message, origin)
        }
    }

    private mutating func readAbsent(_ key: ConfigurationKey) {
        self.addRow(key, "-", .absent)
        // A value that the file gives in the wrong form is already reported.
        let isReported = self.problems.contains { $0.key == key.name || $0.key == key.section }
        guard !key.isOptional, !isReported else { return }
        self.problems.append(
            ConfigurationProblem(
                .missing,
                key: key.name,
                place: self.content.path,
                "must be given: \(key.summary) (\(key.kind.allowed))"
            )
        )
    }

    private mutating func fail(
        _ code: ConfigurationProblem.Code,
        _ key: ConfigurationKey,
        _ place: String,
        _ message: String,
        _ origin: LoadedConfiguration.Origin
    ) {
        self.addRow(key, "(invalid)", origin)
        self.problems.append(ConfigurationProblem(code, key: key.name, place: place, message))
    }

    private mutating func addRow(_ key: ConfigurationKey, _ value: String, _ origin: LoadedConfiguration.Origin) {
        self.rows.append(
            LoadedConfiguration.Row(
                key: key.name,
                value: value,
                origin: origin,
                isSecret: key.isSecret,
                summary: key.summary
            )
        )
    }

    mutating func readMembers() {
        let isReported = self.problems.contains { $0.key?.hasPrefix(ConfigurationKey.nodesName) == true }
        if self.content.nodes.isEmpty, !isReported {
            self.problems.append(
                ConfigurationProblem(
                    .missing,
                    key: ConfigurationKey.nodesName,
                    place: self.content.path,
                    "must list the nodes that found the cluster, or members to join, as {id, api, peer}"
                )
            )
        }
        for (index, node) in self.content.nodes.enumerated() {
            let prefix = "\(ConfigurationKey.nodesName)[\(index)]"
            let id = self.member("id", .integer(1...1_000_000), of: node, prefix)
            let api = self.member("api", .address, of: node, prefix)
            let peer = self.member("peer", .address, of: node, prefix)
            let region = self.optionalMember("region", .name, of: node, prefix)
            let priority = self.optionalMember(
                "priority",
                .integer(0...NodeConfiguration.priorityMax),
                of: node,
                prefix
            )
            guard case .integer(let id) = id, case .address(let api) = api, case .address(let peer) = peer else {
                continue
            }
            var member = NodeConfiguration.Member(id: NodeID(UInt64(id)), apiAddress: api, peerAddress: peer)
            if case .text(let region) = region { member.region = region }
            if case .integer(let priority) = priority { member.priority = priority }
            self.members.append(member)
            self.rows.append(
                LoadedConfiguration.Row(
                    key: prefix,
                    value: "node \(id): api \(api), peer \(peer)",
                    origin: .file(line: node.line),
                    isSecret: false,
                    summary: "a node of the cluster, and where clients and peers reach it"
                )
            )
        }
    }

    mutating func readWitnesses() {
        let folder = FilePaths.folder(of: self.content.path)
        for (index, entry) in self.content.witnesses.enumerated() {
            let prefix = "\(ConfigurationKey.witnessesName)[\(index)]"
            let url = self.member("url", .url, of: entry, prefix)
            let key = self.member("vkey", .witnessKey, of: entry, prefix)
            guard case .text(let url) = url, case .text(let key) = key else { continue }
            var witness = NodeConfiguration.Witness(url: url, key: key)
            if let ca = entry.members["ca"] { witness.caFile = FilePaths.resolve(ca.text, against: folder) }
            self.witnesses.append(witness)
            self.rows.append(
                LoadedConfiguration.Row(
                    key: prefix,
                    value: url,
                    origin: .file(line: entry.line),
                    isSecret: false,
                    summary: "a witness that cosigns checkpoints"
                )
            )
        }
    }

    private mutating func optionalMember(
        _ name: String,
        _ kind: ConfigurationKind,
        of node: ConfigurationFile.NodeEntry,
        _ prefix: String
    ) -> ConfigurationValue? {
        node.members[name] == nil ? nil : self.member(name, kind, of: node, prefix)
    }

    private mutating func member(
        _ name: String,
        _ kind: ConfigurationKind,
        of node: ConfigurationFile.NodeEntry,
        _ prefix: String
    ) -> ConfigurationValue? {
        let key = "\(prefix).\(name)"
        guard let entry = node.members[name] else {
            if !self.problems.contains(where: { $0.key == key }) {
                self.problems.append(
                    ConfigurationProblem(
                        .missing,
                        key: key,
                        place: "\(self.content.path):\(node.line)",
                        "must be given: \(kind.allowed)"
                    )
                )
            }
            return nil
        }
        do {
            return try kind.read(entry.text, folder: self.workingFolder)
        } catch {
            self.problems.append(
                ConfigurationProblem(
                    error.code,
                    key: key,
                    place: "\(self.content.path):\(entry.line)",
                    error.message
                )
            )
            return nil
        }
    }

    private func integer(_ key: String) -> Int? {
        switch self.values[key] {
        case .integer(let value): value
        case .text(let text): Int(text)
        default: nil
        }
    }

    private func text(_ key: String) -> String? {
        if case .text(let value) = self.values[key] { value } else { nil }
    }

    private func address(_ key: String) -> NodeConfiguration.HostPort? {
        if case .address(let value) = self.values[key] { value } else { nil }
    }

    /// The whole configuration; nil when a key without a default is absent.
    func configuration() -> NodeConfiguration? {
        guard
            let clusterID = self.text("cluster.id"), let nodeID = self.integer("node.id"),
            let data = self.text("node.data"), let apiListen = self.address("api.listen"),
            let apiCertificate = self.text("api.certificate"), let apiKey = self.text("api.key"),
            let peerListen = self.address("peer.listen"), let peerCertificate = self.text("peer.certificate"),
            let peerKey = self.text("peer.key"), let ca = self.text("peer.ca")
        else { return nil }
        var result = NodeConfiguration(
            clusterID: clusterID,
            members: self.members.sorted { $0.id < $1.id },
            nodeID: NodeID(UInt64(nodeID)),
            dataDirectory: data,
            apiListen: apiListen,
            apiCertificateFile: apiCertificate,
            apiKeyFile: apiKey,
            peerListen: peerListen,
            peerCertificateFile: peerCertificate,
            peerKeyFile: peerKey,
            caFile: ca
        )
        result.bootstrapTokenSHA256 = self.text("auth.bootstrap_token_sha256")
        result.joinToken = self.text("cluster.join_token")
        result.signingKeyFile = self.text("audit.signing_key")
        result.sealingKeyFile = self.text("audit.sealing_key")
        result.witnesses = self.witnesses
        result.witnessQuorum = self.integer("audit.witness_quorum")
        result.raftLeaseReads = self.text("raft.lease_reads") == "on"
        result.raftSleep = self.text("raft.sleep") == "on"
        result.workerSandbox = self.text("worker.sandbox") == "on"
        result.recordsReadings = self.text("audit.record_readings") == "on"
        result.logLevel = self.text("log.level") ?? result.logLevel
        result.logFormat = self.text("log.format").flatMap(NodeConfiguration.LogFormat.init) ?? result.logFormat
        let mebibyte = 1 << 20
        let numbers: [(String, WritableKeyPath<NodeConfiguration, Int>, Int)] = [
            ("cluster.data_groups", \.dataGroups, 1), ("cluster.replicas", \.replicas, 1),
            ("raft.tick_ms", \.raftTickMilliseconds, 1), ("raft.heartbeat_ticks", \.raftHeartbeatTicks, 1),
            ("raft.election_ticks", \.raftElectionTicks, 1), ("raft.loops", \.raftLoops, 1),
            ("raft.log_tail_mb", \.raftLogTailBytes, mebibyte),
            ("snapshot.rate_mb", \.snapshotBytesPerSecond, mebibyte),
            ("audit.scrub_rate_mb", \.scrubBytesPerSecond, mebibyte),
            ("audit.scrub_interval_hours", \.scrubIntervalHours, 1),
            ("clock.drift_limit_ms", \.clockDriftLimitMilliseconds, 1),
            ("write.timeout_ms", \.writeTimeoutMilliseconds, 1),
            ("write.batch_bytes_max", \.batchBytesMax, 1), ("write.batch_records_max", \.batchRecordsMax, 1),
            ("query.columnar_memory_mb", \.columnarMemoryBytes, mebibyte),
            ("query.gather_memory_mb", \.gatherMemoryBytes, mebibyte),
            ("query.threads", \.queryThreads, 1), ("query.time_limit_ms", \.queryTimeLimitMilliseconds, 1),
            ("query.running_max", \.queriesRunningMax, 1), ("query.waiting_max", \.queriesWaitingMax, 1),
            ("query.wait_ms", \.queryWaitMilliseconds, 1), ("query.unread_ms", \.queryUnreadMilliseconds, 1),
            ("query.cache_mb", \.queryCacheBytes, mebibyte),
            ("query.result_mb_max", \.queryResultBytesMax, mebibyte),
            ("worker.count", \.workers, 1), ("worker.memory_mb", \.workerMemoryBytes, mebibyte),
            ("worker.idle_close_s", \.workerIdleSeconds, 1),
        ]
        for (key, path, scale) in numbers {
            if let value = self.integer(key) { result[keyPath: path] = value * scale }
        }
        return result
    }
}
