internal import AuditLedger
internal import CoreMetrics
internal import Laboratory
internal import Logging
internal import Primitives
internal import ServiceLifecycle
internal import Shards
internal import Storage
internal import Synchronization

/// Which part of a ledger somebody read; the raw value stands in records.
enum LedgerPart: String, CaseIterable, Sendable {
    case records
    case history
    case investigations
    case query
    /// The raw bundles of records (C2SP tlog-tiles).
    case tiles
    /// Who there is personal data of.
    case subjects
}

/// Puts refusals, and readings by those who oversee, on record: in the ledger of the organization concerned, or the
/// cluster's.
///
/// What a request notes is counted in memory (``AccessTally``) and written by ``run()``: no request waits for it, and
/// the number of records is bounded whatever is asked. What cannot be written stays counted and is tried again. What is
/// counted is kept on disk (``AccessJournal``) within ``journalInterval``, and taken from there when the node starts
/// again: a kill loses that much at most, and may have a record written twice. What a node that stops cannot write is logged
/// and counted in `ft_access_unrecorded_total`, and left on its disk.
final class AccessRecorder: Sendable {
    /// Entries that are written at once.
    static let writesMax = 32
    /// How long the last entries may take when the node stops.
    static let flushTimeout = Duration.seconds(1)
    /// How long the loop sleeps when nothing is counted.
    static let idleTime = Duration.seconds(600)
    /// How long what was counted may be in memory alone.
    static let journalInterval = Duration.seconds(5)

    private let cluster: String
    private let node: NodeID
    private let recordsReadings: Bool
    private let directory: ShardDirectory
    private let gateway: CommandGateway
    private let metrics: AccessMetrics
    private let logger: Logger
    private let bell = Bell()
    private let started = NodeClock.monotonic.now
    private let journal: AccessJournal
    private let threads: StoreThreads
    private let counted = Mutex(Counted())

    private struct Counted {
        var tally = AccessTally(system: SystemState.ledgerKey)
        /// Whether the journal is behind.
        var isUnsaved = false
    }

    init(
        configuration: NodeConfiguration,
        directory: ShardDirectory,
        gateway: CommandGateway,
        registry: PrometheusRegistry,
        store: any KeyValueStore,
        threads: StoreThreads,
        logger: Logger
    ) {
        self.journal = AccessJournal(store: store)
        self.threads = threads
        self.cluster = configuration.clusterID
        self.node = configuration.nodeID
        self.recordsReadings = configuration.recordsReadings
        self.directory = directory
        self.gateway = gateway
        self.metrics = AccessMetrics(registry: registry)
        self.logger = logger
        self.metrics.observe(registry) { self.counted.withLock { ($0.tally.rowCount, $0.tally.counts) } }
    }

    private var uptime: Duration { self.started.duration(to: NodeClock.monotonic.now) }

    // MARK: What requests note

    /// Counts a refusal of a caller who is known.
    func refused(_ refusal: AccessRefusal, of call: APICall) {
        self.metrics.refusals.increment()
        self.note(Self.act(refusal, by: call.token) { self.directory.organization($0) != nil }, by: call.recordInfo)
    }

    /// Counts a request without a token that is known.
    func unknownCaller(_ request: RequestInfo) {
        self.metrics.unknownCallers.increment()
        let act = AccessAct(
            kind: .unknownCaller,
            actor: Actor(kind: .system, id: "unknown"),
            ledger: SystemState.ledgerKey,
            entity: .cluster,
            subject: "bearer"
        )
        self.note(act, by: request)
    }

    /// Counts a request with a token that was revoked: whose it was is known.
    func revokedCaller(_ token: RevokedToken, _ request: RequestInfo) {
        self.metrics.unknownCallers.increment()
        let actor = Actor(
            kind: .apiKey,
            id: token.id,
            name: token.name.isEmpty ? nil : token.name,
            role: token.role.rawValue
        )
        let act = AccessAct(
            kind: .unknownCaller,
            actor: actor,
            ledger: SystemState.ledgerKey,
            entity: .cluster,
            subject: "revoked_token"
        )
        self.note(act, by: request)
    }

    /// Counts that somebody saw a part of an organization's ledger.
    func read(_ part: LedgerPart, of organization: OrganizationKey, by call: APICall) {
        guard self.recordsReadings, call.token.grant.role.readingIsRecorded else { return }
        let act = AccessAct(
            kind: .reading,
            actor: Self.actor(call.token),
            ledger: organization,
            entity: .organization(organization),
            subject: part.rawValue
        )
        self.note(act, by: call.recordInfo)
    }

    /// As ``read(_:of:by:)`` for several; very many count as one of the cluster's.
    func read(_ part: LedgerPart, of organizations: [OrganizationKey], by call: APICall) {
        guard organizations.count > AccessTally.rowsPerActorMax else {
            for key in organizations { self.read(part, of: key, by: call) }
            return
        }
        self.read(part, of: SystemState.ledgerKey, by: call)
    }

    private func note(_ act: AccessAct, by request: RequestInfo) {
        let (time, uptime) = (SystemTime.now(), self.uptime)
        let isDue = self.counted.withLock { counted in
            let wasSaved = !counted.isUnsaved
            counted.isUnsaved = true
            return counted.tally.note(act, at: time, by: request, uptime: uptime) || wasSaved
        }
        if isDue { self.bell.ring() }
    }

    private static func actor(_ token: TokenEntry) -> Actor {
        Actor(
            kind: .apiKey,
            id: token.id,
            name: token.name.isEmpty ? nil : token.name,
            role: token.grant.role.rawValue
        )
    }

    /// What a refusal counts as. Another organization's ledger gets the token's id, not what its owners call it.
    static func act(
        _ refusal: AccessRefusal,
        by token: TokenEntry,
        exists: (OrganizationKey) -> Bool
    ) -> AccessAct {
        var actor = self.actor(token)
        guard let organization = refusal.organization else {
            return AccessAct(
                kind: refusal.isRestricted ? .restricted : .denied,
                actor: actor,
                ledger: SystemState.ledgerKey,
                entity: .cluster,
                subject: refusal.what
            )
        }
        guard refusal.isRestricted else {
            return AccessAct(
                kind: .denied,
                actor: actor,
                ledger: organization,
                entity: .organization(organization),
                subject: refusal.what
            )
        }
        actor.name = nil
        // Names that are nobody's are as many as a caller can think of.
        let isKnown = exists(organization)
        return AccessAct(
            kind: .restricted,
            actor: actor,
            ledger: isKnown ? organization : SystemState.ledgerKey,
            entity: isKnown ? .organization(organization) : .unknownOrganization,
            subject: refusal.what
        )
    }

    // MARK: Writing

    /// Writes what is due, until cancelled; begins with what the last process left.
    func run() async {
        await self.restore()
        var savedAt = self.uptime
        while !Task.isCancelled {
            let uptime = self.uptime
            let (due, next, isUnsaved) = self.counted.withLock {
                ($0.tally.take(limit: Self.writesMax, uptime: uptime), $0.tally.nextDue, $0.isUnsaved)
            }
            if !due.isEmpty {
                await self.write(due)
                // What is on record must not be written again after a restart.
                self.counted.withLock { $0.isUnsaved = true }
            } else if isUnsaved, uptime >= savedAt + Self.journalInterval {
                await self.save()
                savedAt = self.uptime
            } else {
                var wait = next.map { max(.milliseconds(10), $0 - uptime) } ?? Self.idleTime
                if isUnsaved { wait = min(wait, savedAt + Self.journalInterval - uptime) }
                await self.bell.wait(upTo: min(wait, Self.idleTime), clock: NodeClock.monotonic)
            }
        }
    }

    private func restore() async {
        let journal = self.journal
        let left = (try? await self.threads.run { journal.load() }) ?? []
        let uptime = self.uptime
        self.counted.withLock { counted in for entry in left { counted.tally.putBack(entry, uptime: uptime) } }
    }

    private func save() async {
        let pending = self.counted.withLock { counted in
            counted.isUnsaved = false
            return counted.tally.pending
        }
        let journal = self.journal
        do {
            try await self.threads.run { try journal.save(pending) }
        } catch {
            self.counted.withLock { $0.isUnsaved = true }
            self.logger.debug("counted accesses are not on disk", metadata: ["error.chain": "\(errorChain(error))"])
        }
    }

    /// Writes everything that is counted, as far as that can be done in ``flushTimeout``.
    func flush() async {
        let entries = self.counted.withLock { $0.tally.takeAll() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.write(entries) }
            group.addTask { try? await Task.sleep(for: Self.flushTimeout) }
            await group.next()
            group.cancelAll()
        }
        // What was put back was not written; it is written when the node starts again.
        await self.save()
        let left = self.counted.withLock { $0.tally.takeAll() }.reduce(0) { $0 + $1.count }
        guard left > 0 else { return }
        self.metrics.unrecorded.increment(by: Int64(clamping: left))
        self.logger.warning("refusals and readings not on record", metadata: ["access.count": "\(left)"])
    }

    private func write(_ entries: [AccessEntry]) async {
        await withTaskGroup(of: Void.self) { group in
            for (place, entry) in entries.enumerated() {
                if place >= Self.writesMax { await group.next() }
                group.addTask {
                    do {
                        try await self.write(entry)
                        self.metrics.records.increment()
                    } catch {
                        self.counted.withLock { $0.tally.putBack(entry, uptime: self.uptime) }
                        self.logger.debug(
                            "an access is not on record yet",
                            metadata: [
                                "organization.key": "\(entry.act.ledger)", "error.chain": "\(errorChain(error))",
                            ]
                        )
                    }
                }
            }
        }
    }

    private func write(_ entry: AccessEntry) async throws {
        try Task.checkCancellation()
        let (command, group) = try self.command(entry)
        // Recorded twice does less harm than not at all.
        let result = try await self.gateway.submit(command, to: group, mayRepeat: true)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
    }

    private func command(_ entry: AccessEntry) throws -> (Command, GroupID) {
        let level = self.directory.featureLevel
        let context = EventContext(
            organization: entry.act.ledger,
            request: entry.request,
            defaultActor: entry.act.actor,
            format: level >= .three ? .second : .first
        )
        let draft = try EventDraft.parse(
            AccessRecord.event(entry, node: self.node, cluster: self.cluster),
            defaults: context
        )
        if entry.act.ledger == SystemState.ledgerKey {
            guard level >= .four else { throw CommandGateway.Failure.unsupported }
            return (.appendToSystem(draft), .system)
        }
        guard let organization = self.directory.organization(entry.act.ledger) else {
            throw Problem.organizationNotFound(entry.act.ledger.rawValue)
        }
        let append = AppendCommand(organization: organization.id, idempotency: nil, drafts: [draft])
        return (.append(append), organization.group)
    }
}

/// The record of an entry.
enum AccessRecord {
    /// The event as canonical JSON.
    static func event(_ entry: AccessEntry, node: NodeID, cluster: String) -> [UInt8] {
        let act = entry.act
        let isReading = act.kind == .reading
        var after = [JSONMember(isReading ? "part" : "operation", .text(act.subject))]
        if entry.count > 1 {
            after.append(JSONMember("count", JSONNumber(Int64(clamping: entry.count)).map { .number($0) } ?? .null))
            after.append(JSONMember("first_at", .text(entry.firstAt.description)))
            after.append(JSONMember("last_at", .text(entry.lastAt.description)))
        } else {
            after.append(JSONMember("at", .text(entry.firstAt.description)))
        }
        after.append(JSONMember("node", .text("node-\(node)")))
        let (type, id) = self.entity(of: act, cluster: cluster)
        let members = [
            JSONMember("action", .text(act.kind.rawValue)),
            JSONMember("after", .object(after)),
            JSONMember("entity_id", .text(id)),
            JSONMember("entity_type", .text(type)),
            JSONMember("outcome", .text((isReading ? Outcome.success : .denied).rawValue)),
            JSONMember("severity", .text((isReading ? Severity.notice : .warning).rawValue)),
        ]
        return CanonicalJSON.encode(.object(members))
    }

    private static func entity(of act: AccessAct, cluster: String) -> (type: String, id: String) {
        let type = act.kind == .reading ? "ledger" : "organization"
        return switch act.entity {
        case .cluster: ("cluster", cluster)
        case .organization(let key): (type, key.rawValue)
        case .unknownOrganization: (type, "unknown")
        case .various: (type, AccessAct.various)
        }
    }
}

/// What an ``AccessRecorder`` counts.
private struct AccessMetrics: Sendable {
    let refusals: Counter
    let unknownCallers: Counter
    let records: Counter
    let unrecorded: Counter

    init(registry: PrometheusRegistry) {
        func counter(_ name: String, _ help: String) -> Counter {
            registry.describe(name, help)
            let counter = Counter(label: name, dimensions: [], factory: registry)
            // A rule for alerts must find a zero, not nothing.
            counter.increment(by: 0)
            return counter
        }
        self.refusals = counter("ft_access_refusals_total", "Requests that this node refused to callers whom it knows.")
        self.unknownCallers = counter("ft_access_unknown_callers_total", "Requests without a token that is valid.")
        self.records = counter("ft_access_records_total", "Records that this node wrote of refusals and readings.")
        self.unrecorded = counter(
            "ft_access_unrecorded_total",
            "Refusals and readings that were not on record when the node stopped."
        )
    }

    func observe(_ registry: PrometheusRegistry, _ sample: @escaping @Sendable () -> (Int, AccessTally.Counts)) {
        registry.sampledGauge("ft_access_rows", help: "Refusals and readings that are told apart now.") {
            Double(sample().0)
        }
        registry.sampledGauge("ft_access_folded", help: "Those since the start that went into a record with others.") {
            Double(sample().1.folded)
        }
        registry.sampledGauge(
            "ft_access_overflowed",
            help: "Those since the start whose record does not name what was tried: there were too many kinds."
        ) { Double(sample().1.overflowed) }
    }
}

/// Runs an ``AccessRecorder``; what it holds is written before the parts that it needs are stopped.
struct AccessService: Service {
    let recorder: AccessRecorder

    func run() async throws {
        await cancelWhenGracefulShutdown { await self.recorder.run() }
        await self.recorder.flush()
    }
}
