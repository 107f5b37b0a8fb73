internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Logging
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime
@testable internal import Shards

/// A clock that test and services share: short sleeps take no time and move it, long ones end when they are cancelled.
final class PassingTime: Sendable {
    /// Longer sleeps wait for their cancellation.
    static let passingMax = Duration.milliseconds(300)

    private let time = Mutex(Duration.zero)

    var now: Duration { self.time.withLock { $0 } }

    func pass(_ duration: Duration) async {
        if duration <= Self.passingMax {
            self.time.withLock { $0 += duration }
            await Task.yield()
            return
        }
        // A stream that nobody feeds ends when its task is cancelled.
        let (never, end) = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .bufferingNewest(1))
        for await _ in never {}
        withExtendedLifetime(end) {}
    }
}

/// Three replicas of one organization in one process, with keys that are published; node 1 leads.
final class CheckpointBench: Sendable {
    static let cluster = "lab"
    static let nodes = [NodeID(1), NodeID(2), NodeID(3)]

    /// What one replica is made of.
    struct Replica: Sendable {
        let node: NodeID
        let store: any KeyValueStore
        let signer: CheckpointSigner
        let service: CheckpointService
        let proofs: LedgerProofs
        let registry: PrometheusRegistry

        var rows: CheckpointStore { self.signer.rows }
    }

    let directory: ShardDirectory
    let entry: OrganizationEntry
    let time = PassingTime()
    let keys: [NodeID: NoteSignerKey]
    let threads: StoreThreads
    let signing: [NodeID: SerialThread]
    /// Changes what a replica answers; by default nothing.
    let meddle = Mutex<Meddling>(Meddling())
    /// Whose signatures are needed; changes as the group's membership does.
    let quorum = Mutex(SigningQuorum(voters: CheckpointBench.nodes))
    private let made = Mutex<[NodeID: Replica]>([:])
    /// Replicas that were given finished checkpoints.
    private let given = Arrivals()
    /// Replicas that were given checkpoints which a witness has cosigned.
    private let witnessed = Arrivals()

    /// Nodes that something has reached, and who waits for that.
    private final class Arrivals: Sendable {
        private struct State {
            var nodes: Set<NodeID> = []
            var waiting: [(nodes: Set<NodeID>, continuation: CheckedContinuation<Void, Never>)] = []
        }

        private let state = Mutex(State())

        func add(_ node: NodeID) {
            let due = self.state.withLock { state in
                state.nodes.insert(node)
                let nodes = state.nodes
                defer { state.waiting.removeAll { $0.nodes.isSubset(of: nodes) } }
                return state.waiting.filter { $0.nodes.isSubset(of: nodes) }
            }
            for waiter in due { waiter.continuation.resume() }
        }

        func wait(for nodes: Set<NodeID>) async {
            await withCheckedContinuation { continuation in
                let isDue = self.state.withLock { state in
                    if nodes.isSubset(of: state.nodes) { return true }
                    state.waiting.append((nodes, continuation))
                    return false
                }
                if isDue { continuation.resume() }
            }
        }
    }

    /// In a struct, as a bare closure would be wrapped anew each time it is read.
    struct Meddling: Sendable {
        var answer: @Sendable (NodeID, inout WireCheckpointResponse) -> Void = { _, _ in }
        var unreachable: Set<NodeID> = []
    }

    init(
        pace: CheckpointRounds.Pace = CheckpointRounds.Pace(),
        stores: [NodeID: any KeyValueStore] = [:],
        published: Set<NodeID> = Set(CheckpointBench.nodes)
    ) throws {
        var keys: [NodeID: NoteSignerKey] = [:]
        for node in Self.nodes {
            keys[node] = try NoteSignerKey(
                name: SigningKeyFile.name(cluster: Self.cluster, node: node),
                type: .cosignature,
                seed: [UInt8](repeating: UInt8(node.rawValue), count: 32)
            )
        }
        self.keys = keys
        let state = try Self.state(keys.filter { published.contains($0.key) })
        self.directory = ShardDirectory(state: state)
        self.entry = try #require(state.organizations.values.first)
        self.threads = try StoreThreads(name: "test-read", count: 2, queuedMax: 100)
        self.signing = try Dictionary(
            uniqueKeysWithValues: Self.nodes.map { ($0, try SerialThread(name: "test-sign-\($0)")) }
        )
        for node in Self.nodes {
            let replica = try self.makeReplica(node, stores[node] ?? InMemoryStore(), pace)
            self.made.withLock { $0[node] = replica }
        }
    }

    func close() {
        self.threads.shutdown()
        for thread in self.signing.values { thread.shutdown() }
    }

    func replica(_ node: UInt64) throws -> Replica { try #require(self.made.withLock { $0[NodeID(node)] }) }

    /// A cluster of three nodes with one organization; keys are valid from second 10 on.
    private static func state(_ keys: [NodeID: NoteSignerKey]) throws -> SystemState {
        var commands: [Command] = [
            .bootstrap(
                BootstrapCommand(
                    clusterID: self.cluster,
                    dataGroups: 1,
                    operatorToken: nil,
                    nodes: self.nodes.map { RegisterNodeCommand(node: $0, api: "a-\($0):1", peer: "p-\($0):1") },
                    placements: [
                        .init(group: .system, replicas: self.nodes), .init(group: GroupID(1), replicas: self.nodes),
                    ]
                )
            ),
            .createOrganization(CreateOrganizationCommand(key: try Fixture.key("lab-a"), name: "A")),
        ]
        for (node, key) in keys {
            let text = String(decoding: key.verifierKey.text, as: UTF8.self)
            commands.append(.publishKey(PublishKeyCommand(node: node, key: text)))
        }
        var state = SystemState()
        for command in commands { try self.apply(command, to: &state, second: 10) }
        return state
    }

    static func apply(_ command: Command, to state: inout SystemState, second: Int64) throws {
        var bytes = command.encoded(origin: .node(NodeID(1)))
        try Command.stamp(&bytes, at: Timestamp(microseconds: second * 1_000_000))
        var batch = WriteBatch()
        var records: [EventDraft] = []
        let result = state.apply(try Command.decode(bytes[...]), into: &batch, records: &records)
        if case .refused(let refusal) = result { Issue.record("\(refusal)") }
    }

    private func makeReplica(
        _ node: NodeID,
        _ store: any KeyValueStore,
        _ pace: CheckpointRounds.Pace
    ) throws -> Replica {
        let book = KeyBook(cluster: Self.cluster, directory: self.directory)
        let keys = try SigningKeys(file: nil, cluster: Self.cluster, node: node)
        keys.replace([try #require(self.keys[node])])
        let signer = CheckpointSigner(
            cluster: Self.cluster,
            node: node,
            keys: keys,
            book: book,
            rows: CheckpointStore(store: store)
        )
        let registry = PrometheusRegistry()
        let service = CheckpointService(
            node: node,
            ports: self.ports(node, store),
            signer: signer,
            threads: self.threads,
            signing: try #require(self.signing[node]),
            metrics: CheckpointMetrics(registry: registry),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            pace: pace
        )
        return Replica(
            node: node,
            store: store,
            signer: signer,
            service: service,
            proofs: LedgerProofs(cluster: Self.cluster, rows: signer.rows),
            registry: registry
        )
    }

    private func ports(_ node: NodeID, _ store: any KeyValueStore) -> CheckpointService.Ports {
        let (directory, time) = (self.directory, self.time)
        return CheckpointService.Ports(
            entry: { directory.organization($0) },
            leads: { [weak self] _ in node == NodeID(1) ? self?.quorum.withLock { $0 } : nil },
            quorum: { [weak self] _ in self?.quorum.withLock { $0 } },
            serves: { _ in true },
            size: { try? LedgerReader(store: store, organization: $0).head().size },
            ask: { [weak self] peer, request in
                guard let self, !self.meddle.withLock({ $0.unreachable.contains(peer) }) else {
                    throw PeerError(code: .unreachable, peer: peer, message: "test", cause: nil)
                }
                var response = await (try self.replica(peer.rawValue)).service.answer(request, from: node)
                self.meddle.withLock { $0 }.answer(peer, &response)
                if !request.notes.isEmpty { self.given.add(peer) }
                if request.notes.contains(where: \.witnessed) { self.witnessed.add(peer) }
                return response
            },
            wallTime: { Timestamp(microseconds: 100_000_000 + time.now.milliseconds * 1000) },
            now: { time.now },
            sleep: { await time.pass($0) }
        )
    }

    /// Publishes the keys of all nodes, in the place of those that were published.
    func publishAll() throws {
        self.directory.publish(try Self.state(self.keys))
        for node in Self.nodes { try self.replica(node.rawValue).service.keysChanged() }
    }

    /// The group has other voters from now on.
    func change(_ quorum: SigningQuorum) throws {
        self.quorum.withLock { $0 = quorum }
        for node in Self.nodes { try self.replica(node.rawValue).service.groupChanged(self.entry.group) }
    }

    /// Returns once these replicas were given a finished checkpoint.
    func waitUntilGiven(_ nodes: Set<NodeID>) async { await self.given.wait(for: nodes) }

    /// Returns once these replicas were given a checkpoint that enough witnesses have cosigned.
    func waitUntilWitnessed(_ nodes: Set<NodeID>) async { await self.witnessed.wait(for: nodes) }

    // MARK: Ledgers

    /// Adds the same records to the ledgers of `nodes`; `text` makes them differ.
    func append(_ count: Int, to nodes: [NodeID] = CheckpointBench.nodes, text: String = "s") throws {
        for node in nodes {
            let store = try self.replica(node.rawValue).store
            var batch = WriteBatch()
            var appender = LedgerAppender(head: try LedgerReader(store: store, organization: self.entry.id).head())
            for number in 0..<count {
                let event = #"{"action":"weigh","entity_type":"sample","entity_id":"\#(text)-\#(number)"}"#
                let draft = try Fixture.draft(event, of: self.entry.key.rawValue)
                _ = appender.append(draft, stampedAt: Timestamp(microseconds: 20_000_000), into: &batch)
            }
            appender.finish(into: &batch)
            try store.write(batch)
        }
    }

    /// The policy of the three replicas.
    func verifier(validity: [KeyValidity] = []) throws -> CheckpointVerifier {
        let origin = try LogOrigin(cluster: Self.cluster, organization: self.entry.key)
        let book = KeyBook(cluster: Self.cluster, directory: self.directory)
        let policy = try TrustPolicy.cluster(
            logs: book.logKeys(of: origin),
            replicas: Self.nodes.compactMap { self.keys[$0]?.verifierKey },
            replicasNeeded: 2
        )
        return try CheckpointVerifier(origin: origin, policy: policy, validity: validity)
    }

    /// Runs the services while `body` does.
    func run<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let services = try Self.nodes.map { try self.replica($0.rawValue).service }
        services[0].groupChanged(self.entry.group)
        return try await withThrowingTaskGroup(of: Value?.self) { group in
            for service in services {
                group.addTask {
                    await service.run()
                    return nil
                }
            }
            group.addTask { try await body() }
            defer { group.cancelAll() }
            while let result = try await group.next() { if let value = result { return value } }
            throw CancellationError()
        }
    }
}
