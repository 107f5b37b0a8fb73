internal import AuditLedger
internal import CoreMetrics
internal import Laboratory
internal import Logging
internal import Primitives
internal import Storage
internal import Synchronization

/// Gives every organization that has changed a checkpoint signed by a majority of its replicas.
///
/// A shell around ``CheckpointRounds``: it tells the rules what happens, and signs, asks, stores and wakes who waits. It
/// signs for the leaders of its node's groups and answers the leaders of others. Nothing runs for an organization that
/// does not change. Reads and writes of the store are on store threads; signing has a thread of its own.
final class CheckpointService: Sendable {
    /// What the service needs of the node around it.
    struct Ports: Sendable {
        /// The organization with this id; nil when this node does not know of it yet.
        var entry: @Sendable (OrganizationID) -> OrganizationEntry?
        /// The signers of a group, when this node leads it.
        var leads: @Sendable (GroupID) -> SigningQuorum?
        /// The signers of a group that this node holds.
        var quorum: @Sendable (GroupID) -> SigningQuorum?
        /// Whether this node's replica of an organization may be read and vouched for now.
        var serves: @Sendable (OrganizationEntry) -> Bool
        /// The number of records that are applied here; nil when it is not in memory.
        var size: @Sendable (OrganizationID) -> UInt64?
        /// Asks a peer.
        var ask: @Sendable (NodeID, WireCheckpointRequest) async throws -> WireCheckpointResponse
        /// The time of day.
        var wallTime: @Sendable () -> Timestamp = { SystemTime.now() }
        /// Time since some moment; never goes back.
        var now: @Sendable () -> Duration
        /// Returns after this long, or when cancelled.
        var sleep: @Sendable (Duration) async -> Void
    }

    /// What the node says of its part in signing.
    struct Status: Sendable, Equatable {
        var forks = 0
        var contradictions = 0
        var pending = 0
    }

    struct State {
        var rounds: CheckpointRounds
        var demandsMade: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<CheckpointRounds.Outcome, Never>] = [:]
        /// Groups whose leader or members may have changed.
        var changedGroups: Set<GroupID> = []
        /// Groups that were ever told of: when keys change, each may have to be signed for.
        var knownGroups: Set<GroupID> = []
        /// Groups that this node leads, as the last turn found.
        var led: Set<GroupID> = []
        /// Organizations that have changed and are not in the directory yet.
        var unknown: Set<OrganizationID> = []
        var contradictions: Set<OrganizationID> = []
        var forks = 0
    }

    /// Organizations that are read in one go when the node starts.
    static let startBatchMax = 4096

    let node: NodeID
    let ports: Ports
    let signer: CheckpointSigner
    let rows: CheckpointStore
    let threads: StoreThreads
    /// Signs, one batch at a time.
    let signing: SerialThread
    let metrics: CheckpointMetrics
    let witnesses: WitnessPolicy
    let logger: Logger
    let state: Mutex<State>
    /// Hears of checkpoints of organizations whose group this node leads, once they are stored.
    let published = Relay<(OrganizationEntry, StoredCheckpoint)>()
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(
        node: NodeID,
        ports: Ports,
        signer: CheckpointSigner,
        threads: StoreThreads,
        signing: SerialThread,
        metrics: CheckpointMetrics,
        witnesses: WitnessPolicy = WitnessPolicy(),
        logger: Logger,
        pace: CheckpointRounds.Pace = CheckpointRounds.Pace()
    ) {
        self.node = node
        self.ports = ports
        self.signer = signer
        self.rows = signer.rows
        self.threads = threads
        self.signing = signing
        self.metrics = metrics
        self.witnesses = witnesses
        self.logger = logger
        self.state = Mutex(State(rounds: CheckpointRounds(node: node, pace: pace)))
        (self.signals, self.signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    var status: Status {
        self.state.withLock {
            Status(forks: $0.forks, contradictions: $0.contradictions.count, pending: $0.rounds.dirtyCount)
        }
    }

    // MARK: What happens

    /// A ledger has grown on this node; called on a lane after the write.
    func advanced(_ organization: OrganizationID) {
        guard let size = self.ports.size(organization) else { return }
        self.changed([(organization, size)])
    }

    private func changed(_ organizations: [(OrganizationID, size: UInt64)]) {
        let now = self.ports.now()
        let known = organizations.map { ($0, self.ports.entry($0.0)) }
        let isNews = self.state.withLock { state in
            var isNews = false
            for ((organization, size), entry) in known {
                if let entry {
                    let isNew = state.rounds.changed(organization, group: entry.group, size: size, at: now)
                    // A follower only keeps it in mind: should it lead, that is news of the group.
                    isNews = isNews || isNew && state.led.contains(entry.group)
                } else {
                    state.unknown.insert(organization)
                    isNews = true
                }
            }
            return isNews
        }
        if isNews { self.signal.yield() }
    }

    /// The leader or the members of a group may have changed; from any thread, returns at once.
    func groupChanged(_ group: GroupID) {
        self.state.withLock { state in
            state.changedGroups.insert(group)
            state.knownGroups.insert(group)
        }
        self.signal.yield()
    }

    /// Keys were published or retired: what did not sign may sign now.
    func keysChanged() {
        let now = self.ports.now()
        let groups = self.state.withLock { state in
            state.changedGroups.formUnion(state.rounds.groups)
            state.changedGroups.formUnion(state.knownGroups)
            state.rounds.keysChanged(at: now)
            return state.changedGroups
        }
        if !groups.isEmpty { self.signal.yield() }
    }

    /// An organization has left this node.
    func discarded(_ organization: OrganizationID) {
        self.state.withLock { state in
            state.rounds.forget(organization)
            state.unknown.remove(organization)
            state.contradictions.remove(organization)
        }
        self.signal.yield()
    }

    /// A checkpoint of everything that this node has applied, signed by a majority; only on the group's leader.
    /// - Throws: ``CheckpointRounds/Outcome`` as ``NotPublished``, ``StorageError``, ``MalformedBytes``.
    func fresh(_ entry: OrganizationEntry, timeout: Duration) async throws -> StoredCheckpoint {
        let demand = self.state.withLock { state in
            state.demandsMade += 1
            return state.demandsMade
        }
        let ports = self.ports
        let outcome = await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await ports.sleep(timeout)
                self.give(up: demand, of: entry.id)
            }
            defer { group.cancelAll() }
            return await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = ports.now()
                    self.state.withLock { state in
                        state.waiters[demand] = continuation
                        state.rounds.demanded(entry.id, group: entry.group, by: demand, at: now)
                    }
                    self.signal.yield()
                }
            } onCancel: {
                self.give(up: demand, of: entry.id)
            }
        }
        guard case .published(let size) = outcome else {
            self.metrics.failedRounds.increment()
            throw NotPublished(outcome: outcome)
        }
        let rows = self.rows
        let stored = try await self.threads.run { try rows.checkpoint(of: entry.id, size: size) }
        guard let stored else { throw NotPublished(outcome: .noQuorum) }
        return stored
    }

    private func give(up demand: UInt64, of organization: OrganizationID) {
        let waiter = self.state.withLock { state in
            state.rounds.withdrew(demand, of: organization)
            return state.waiters.removeValue(forKey: demand)
        }
        waiter?.resume(returning: .noQuorum)
    }

    // MARK: Life

    /// Signs and asks until cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.lookAtStart() }
            var led: [GroupID: SigningQuorum] = [:]
            var armed: Duration?
            for await _ in self.signals {
                self.resolveUnknown()
                let changed = self.state.withLock { state in
                    defer { state.changedGroups = [] }
                    return state.changedGroups
                }
                for changed in changed { led[changed] = self.ports.leads(changed) }
                let now = self.ports.now()
                let known = led
                let (actions, again) = self.state.withLock { state in
                    for changed in changed {
                        if known[changed] == nil { state.led.remove(changed) } else { state.led.insert(changed) }
                        state.rounds.leadershipChanged(of: changed, at: now)
                    }
                    return state.rounds.next(at: now) { known[$0] }
                }
                self.perform(actions, known, in: &group)
                if let time = armed, time <= now { armed = nil }
                guard let again, armed.map({ again < $0 }) ?? true else { continue }
                armed = again
                group.addTask {
                    await self.ports.sleep(again - now)
                    self.signal.yield()
                }
            }
            group.cancelAll()
        }
        self.endAll()
    }

    /// Nobody waits for a service that has ended.
    private func endAll() {
        let waiters = self.state.withLock { state in
            defer { state.waiters = [:] }
            return state.waiters.values.map { $0 }
        }
        for waiter in waiters { waiter.resume(returning: .notLeader) }
    }

    private func resolveUnknown() {
        let unknown = self.state.withLock { $0.unknown }
        guard !unknown.isEmpty else { return }
        let known = unknown.filter { self.ports.entry($0) != nil }
        self.state.withLock { $0.unknown.subtract(known) }
        for organization in known { self.advanced(organization) }
    }

    private func perform(
        _ actions: [CheckpointRounds.Action],
        _ led: [GroupID: SigningQuorum],
        in group: inout DiscardingTaskGroup
    ) {
        var finished: [CheckpointRounds.Published] = []
        var ended: [([CheckpointRounds.Demand], CheckpointRounds.Outcome)] = []
        for action in actions {
            switch action {
            case .sign(let organizations): group.addTask { await self.signOwn(organizations, led) }
            case .ask(let node, let proposals, let notes):
                group.addTask { await self.ask(node, proposals, notes) }
            case .publish(let checkpoint): finished.append(checkpoint)
            case .end(let demands, let outcome): ended.append((demands, outcome))
            }
        }
        guard !finished.isEmpty || !ended.isEmpty else { return }
        let (publish, end) = (finished, ended)
        group.addTask {
            // Who waits for a checkpoint reads it from the store.
            let isStored = await self.store(publish)
            for (demands, outcome) in end { self.end(demands, isStored ? outcome : .noQuorum) }
        }
    }

    private func end(_ demands: [CheckpointRounds.Demand], _ outcome: CheckpointRounds.Outcome) {
        let waiters = self.state.withLock { state in demands.compactMap { state.waiters.removeValue(forKey: $0) } }
        for waiter in waiters { waiter.resume(returning: outcome) }
    }

    /// Finds the organizations whose last checkpoint is older than their ledger, and counts the fork proofs.
    private func lookAtStart() async {
        let rows = self.rows
        var next: [UInt8]? = []
        do {
            let forks = try await self.threads.run { try rows.forkCount() }
            self.state.withLock { $0.forks += forks }
            while let from = next, !Task.isCancelled {
                let (found, rest) = try await self.threads.run { try rows.grown(from: from, limit: Self.startBatchMax) }
                self.changed(found.map { ($0.organization, $0.size) })
                next = rest
            }
        } catch {
            self.logger.error(
                "the ledgers cannot be compared with their checkpoints",
                metadata: ["error.chain": "\(errorChain(error))"]
            )
        }
    }

    // MARK: Signing

    private func signOwn(_ organizations: [OrganizationID], _ led: [GroupID: SigningQuorum]) async {
        let entries = organizations.compactMap(self.ports.entry)
        let wanted = entries.filter(self.ports.serves).map {
            CheckpointSigner.Wanted(organization: $0, size: nil, asLog: true)
        }
        let outcomes = await self.sign(wanted)
        var results: [(organization: OrganizationID, signing: CheckpointRounds.Signing, quorum: SigningQuorum?)] = []
        for (wanted, outcome) in zip(wanted, outcomes) {
            let entry = wanted.organization
            results.append((entry.id, self.meaning(of: outcome, entry), led[entry.group]))
        }
        let signed = Set(wanted.map(\.organization.id))
        for organization in organizations where !signed.contains(organization) {
            results.append((organization, .later, nil))
        }
        let now = self.ports.now()
        self.state.withLock { [results] in $0.rounds.didSign(results, at: now) }
        self.signal.yield()
    }

    /// Signs on the signing thread; an outcome for each, also when the promise could not be stored.
    func sign(_ wanted: [CheckpointSigner.Wanted]) async -> [CheckpointSigner.Outcome] {
        guard !wanted.isEmpty else { return [] }
        let (signer, time) = (self.signer, self.ports.wallTime())
        do {
            return try await self.signing.run { try signer.sign(wanted, at: time) }
        } catch {
            self.logger.error("nothing can be signed", metadata: ["error.chain": "\(errorChain(error))"])
            return wanted.map { _ in .failed(error) }
        }
    }

    private func meaning(
        of outcome: CheckpointSigner.Outcome,
        _ entry: OrganizationEntry
    ) -> CheckpointRounds.Signing {
        switch outcome {
        case .signed(let note):
            self.isConsistent(entry)
            let checkpoint = note.checkpoint
            return .signed(.init(size: checkpoint.size, root: checkpoint.root, signatures: note.note.signatures))
        case .behind, .stale: return .later
        case .contradiction(let last):
            self.raiseContradiction(entry, last)
            return .refused
        case .noKey: return .refused
        case .failed(let error):
            self.logger.error(
                "the head of a ledger cannot be signed",
                metadata: ["organization.id": "\(entry.id)", "error.chain": "\(errorChain(error))"]
            )
            return .refused
        }
    }

    // MARK: Alarms

    /// What this node stores is not what it signed.
    func raiseContradiction(_ entry: OrganizationEntry, _ last: TreeHead) {
        guard self.state.withLock({ $0.contradictions.insert(entry.id).inserted }) else { return }
        self.metrics.raised(.contradiction)
        self.logger.critical(
            "this node stores another history than it has signed; nothing more of it is signed",
            metadata: [
                "organization.key": "\(entry.key)", "checkpoint.size": "\(last.size)",
                "checkpoint.root": "\(last.root)",
            ]
        )
    }

    func isConsistent(_ entry: OrganizationEntry) {
        _ = self.state.withLock { $0.contradictions.remove(entry.id) }
    }

    /// Puts another head in the place of the last one that this node signed, because an operator wants it; then it signs
    /// again.
    ///
    /// On the signing thread: between looking and storing nobody signs.
    /// - Parameter last: What is there now; nil for a row that cannot be read.
    /// - Throws: ``StorageError``; ``CancellationError`` when another head was signed meanwhile. Nothing has changed then.
    func replaceSignedHead(of entry: OrganizationEntry, _ last: TreeHead?, by head: TreeHead) async throws {
        let rows = self.rows
        try await self.signing.run {
            guard (try? rows.signedHead(of: entry.id)) == last else { throw CancellationError() }
            var batch = WriteBatch()
            CheckpointStore.put(signed: head, of: entry.id, into: &batch)
            try rows.store.write(batch, durability: .logged)
            try rows.store.sync()
        }
        self.isConsistent(entry)
        self.groupChanged(entry.group)
    }

    /// Keeps a fork proof and tells of it. Blocks: on a store thread.
    func raise(_ proof: ForkProof, of entry: OrganizationEntry, between nodes: [NodeID]) {
        do {
            guard try self.rows.add(fork: proof, of: entry.id, at: self.ports.wallTime()) else { return }
        } catch {
            self.logger.error("a fork proof cannot be stored", metadata: ["error.chain": "\(errorChain(error))"])
        }
        self.state.withLock { $0.forks += 1 }
        self.metrics.raised(.fork)
        self.logger.critical(
            "two replicas have signed different histories of one organization",
            metadata: [
                "organization.key": "\(entry.key)", "checkpoint.size": "\(proof.older.checkpoint.size)",
                "checkpoint.nodes": "\(nodes.map(\.description).joined(separator: ", "))",
            ]
        )
    }

    /// Tells of new events.
    func wake() { self.signal.yield() }
}

/// Why a checkpoint on demand did not come about.
struct NotPublished: Error, Sendable {
    let outcome: CheckpointRounds.Outcome
}
