internal import AuditLedger
internal import Consensus
internal import CoreMetrics
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// What a repair has done.
struct RepairOutcome: Sendable, Equatable {
    /// The first sequence that was looked at; the one after the last when only rows were replaced.
    var first: UInt64
    /// The size of the ledger after it.
    var size: UInt64
    var root: Digest
    /// Records that were fetched and written.
    var records: UInt64 = 0
    /// Tree nodes that were computed and written.
    var nodes: UInt64 = 0
    /// Rows that were taken from other replicas.
    var rows: UInt64 = 0
    /// Whether the head was replaced.
    var head = false
    var basis: TrustedHeads.Basis = .checkpoint
    /// The node that the records came from.
    var source: NodeID
}

/// Brings this node's replica of an organization back to what a majority has signed.
///
/// Records come from a peer; each must have the checksum that the tree of the trusted root has at its place, proved down
/// from that root, before it is written. Tree nodes are computed. Everything is written on the group's lane, so between
/// two turns of applying; records and nodes lie below what appends write.
struct RepairService: Sendable {
    /// Why nothing, or not all, could be done.
    struct Failure: Error, CustomStringConvertible {
        enum Code: String, Sendable {
            case notHosted
            case busy
            case noSource
            case notTrusted
            case sourceLies
            case notMended
        }

        let code: Code
        let description: String

        init(_ code: Code, _ description: String) {
            self.code = code
            self.description = description
        }
    }

    /// Repairs that run on this node.
    private final class Running: Sendable {
        private let organizations = Mutex<Set<OrganizationID>>([])
        func begin(_ organization: OrganizationID) -> Bool {
            self.organizations.withLock { $0.insert(organization).inserted }
        }
        func end(_ organization: OrganizationID) { self.organizations.withLock { _ = $0.remove(organization) } }
    }

    /// Records asked of a peer at once.
    static let recordsAskedMax = 64
    /// Times that the head is tried to be set, when commands go on meanwhile.
    static let headAttemptsMax = 200
    static let headPause = Duration.milliseconds(20)

    let node: NodeID
    let host: RaftHost
    let placement: Placement
    let applier: ShardApplier
    let store: any KeyValueStore
    let threads: StoreThreads
    let replicas: ReplicaReader
    let trusted: TrustedHeads
    let inspector: ReplicaInspector
    let reporter: DamageReporter
    let checkpoints: CheckpointService
    /// Makes what is derived from an organization's records anew.
    let rebuildProjections: @Sendable (OrganizationID) async throws -> Void
    private let running = Running()

    init(
        node: NodeID,
        host: RaftHost,
        placement: Placement,
        applier: ShardApplier,
        store: any KeyValueStore,
        threads: StoreThreads,
        replicas: ReplicaReader,
        trusted: TrustedHeads,
        inspector: ReplicaInspector,
        reporter: DamageReporter,
        checkpoints: CheckpointService,
        rebuildProjections: @escaping @Sendable (OrganizationID) async throws -> Void
    ) {
        self.node = node
        self.host = host
        self.placement = placement
        self.applier = applier
        self.store = store
        self.threads = threads
        self.replicas = replicas
        self.trusted = trusted
        self.inspector = inspector
        self.reporter = reporter
        self.checkpoints = checkpoints
        self.rebuildProjections = rebuildProjections
    }

    /// Repairs the organization's ledger on this node.
    /// - Parameter from: The first sequence to look at; nil lets the node find it.
    /// - Returns: nil when nothing was wrong.
    /// - Throws: ``Failure`` and what reading and writing throw. What was written until then is right.
    func repair(_ entry: OrganizationEntry, from: UInt64?, origin: CommandOrigin) async throws -> RepairOutcome? {
        guard self.placement.servesHere(entry.group) else {
            throw Failure(.notHosted, "node \(self.node) has no replica of \(entry.key) to repair now")
        }
        guard self.running.begin(entry.id) else { throw Failure(.busy, "\(entry.key) is being repaired already") }
        defer { self.running.end(entry.id) }
        let before = try await self.inspector.inspect(entry, .tree)
        let (rows, rowSource) = try await self.mendRows(entry)
        let (head, basis, sources) = try await self.believed(entry)
        var failure: any Error = Failure(.noSource, "no other replica of \(entry.key) answers")
        for source in sources {
            do {
                let first = try await self.first(entry, from, before, head, source)
                guard first != nil || rows > 0 else {
                    try await self.declareSound(entry, origin)
                    return nil
                }
                var outcome = RepairOutcome(
                    first: first ?? head.size + 1,
                    size: head.size,
                    root: head.root,
                    source: first == nil ? rowSource ?? source : source
                )
                outcome.basis = basis
                outcome.rows = rows
                if first != nil { try await self.run(entry, &outcome, to: head) }
                try await self.conclude(entry, before.finding, outcome, origin)
                return outcome
            } catch {
                failure = error
            }
        }
        throw failure
    }

    /// The root to go by, and who holds it.
    private func believed(
        _ entry: OrganizationEntry
    ) async throws -> (head: TreeHead, basis: TrustedHeads.Basis, sources: [NodeID]) {
        let others = self.placement.others(of: entry.group)
        if let newest = await self.trusted.checkpoints(of: entry).last {
            return (TreeHead(size: newest.size, root: newest.root), .checkpoint, others)
        }
        // The replica that is to be repaired has a voice too: it may be right about the rest.
        let comparison = await self.replicas.compare(entry)
        let agreeing = comparison.replicas.filter { replica in
            if case .agrees = replica.status { return true }
            return false
        }.map(\.node)
        guard agreeing.count * 2 > comparison.replicas.count, comparison.size > 0 else {
            throw Failure(
                .notTrusted,
                "there is no quorum-signed checkpoint of \(entry.key), nor a majority of one mind"
            )
        }
        let sources = agreeing.filter { $0 != self.node }
        return (TreeHead(size: comparison.size, root: comparison.root), .majority, sources)
    }

    /// Where to begin; nil when nothing is wrong.
    private func first(
        _ entry: OrganizationEntry,
        _ from: UInt64?,
        _ before: ReplicaInspection,
        _ head: TreeHead,
        _ source: NodeID
    ) async throws -> UInt64? {
        if let from { return min(max(from, 1), head.size) }
        // A row beside the ledger says nothing of the records.
        let marked = self.reporter.register.finding(of: entry.id).flatMap { $0.level <= .tree ? $0 : nil }
        let known = before.finding ?? marked
        var first = known.map { max($0.sequence.rawValue, 1) }
        let checkpoint = DescentCheckpoint(size: head.size, root: head.root, isQuorumSigned: true)
        let result = await self.replicas.descend(entry, self.node, source, checkpoints: [checkpoint])
        switch result.outcome {
        case .differs:
            if let sequence = result.difference?.sequence.rawValue { first = min(first ?? sequence, sequence) }
        case .prefix(shorter: .a) where head.size > (result.sizeA ?? 0):
            // Replication brings what is missing, unless all of it was applied already.
            if known != nil { first = min(first ?? .max, (result.sizeA ?? 0) + 1) }
        case .caught(.a, let fault):
            first = min(first ?? .max, fault.position?.firstSequence.rawValue ?? 1)
        case .caught(.b, _): throw Failure(.sourceLies, "node \(source) contradicts itself")
        case .unavailable(.b, let reason): throw Failure(.noSource, "node \(source): \(reason)")
        case .equal, .prefix, .withheld, .caught, .unavailable: break
        }
        return first.map { min($0, max(head.size, 1)) }
    }

    /// Ends what stands in the register, when re-reading as deep as it was found finds nothing any more.
    private func declareSound(_ entry: OrganizationEntry, _ origin: CommandOrigin) async throws {
        guard let marked = self.reporter.register.finding(of: entry.id) else { return }
        try await self.requireSound(entry, marked.level)
        await self.reporter.clear(marked, of: entry, origin: origin)
    }

    private func requireSound(_ entry: OrganizationEntry, _ level: VerificationLevel) async throws {
        let after = try await self.inspector.inspect(entry, max(level, .tree))
        guard let left = after.finding else { return }
        let place = left.place.isEmpty ? "record \(left.sequence)" : left.place
        throw Failure(.notMended, "after the repair \(place) is still \(left.kind.rawValue)")
    }

    // MARK: Records and nodes

    private func run(_ entry: OrganizationEntry, _ outcome: inout RepairOutcome, to head: TreeHead) async throws {
        guard head.size > 0 else { return }
        var mender = try await self.mend(entry, from: outcome.first - 1, to: head, outcome.source)
        outcome.records += mender.recordsMended
        outcome.nodes += mender.nodesMended
        for _ in 0..<Self.headAttemptsMax {
            let made = mender
            let store = self.store
            let (applier, group) = (self.applier, entry.group)
            // Whoever appends has a head of its own: right ones are left alone.
            let isRight = try await self.host.withLane(group) {
                try Self.isRight(try applier.head(of: entry.id), after: made, store, entry.id)
            }
            if isRight { return }
            let (peerHead, applied) = try await self.replicas.head(of: entry, on: outcome.source)
            guard peerHead.size >= mender.tree.size else { throw Failure(.noSource, "the source is behind") }
            if peerHead.size > mender.tree.size {
                // What was appended since hangs on what is proved: the walk begins within it.
                mender = try await self.mend(entry, from: mender.tree.size - 1, to: peerHead, outcome.source)
                outcome.records += mender.recordsMended
                outcome.nodes += mender.nodesMended
            }
            let wanted = mender
            let isSet = try await self.host.withLane(group) {
                // Only where this replica has applied exactly as much is that head its own.
                guard try applier.appliedState(of: group).index.rawValue == applied else { return false }
                try applier.replaceHead(try wanted.head(), group: group)
                return true
            }
            if isSet {
                outcome.head = true
                outcome.size = wanted.tree.size
                outcome.root = wanted.tree.root
                return
            }
            try await Task.sleep(for: Self.headPause)
        }
        throw Failure(
            .notMended,
            "the head could not be set while commands go on: repair again when the group is quiet"
        )
    }

    /// Whether the head goes on from what was mended.
    private static func isRight(
        _ head: LedgerHead,
        after mender: LedgerMender,
        _ store: any KeyValueReader,
        _ organization: OrganizationID
    ) throws -> Bool {
        let reader = LedgerReader(store: store, organization: organization)
        guard head.size >= mender.tree.size else { return false }
        let mended = try mender.head()
        if head.size == mended.size { return head == mended }
        guard (try? reader.treeRoot(size: head.size)) == head.root,
            let next = try reader.record(at: SequenceNumber(mender.tree.size + 1))
        else { return false }
        return try RecordFields(scanning: next).previous == mended.lastChecksum
    }

    /// Walks the source's tree down from the trusted head and puts right what differs here.
    private func mend(
        _ entry: OrganizationEntry,
        from index: UInt64,
        to head: TreeHead,
        _ source: NodeID
    ) async throws -> LedgerMender {
        var walk = LeafWalk(trusted: head, from: min(index, head.size - 1))
        var mender: LedgerMender?
        while true {
            switch walk.next() {
            case .ask(let question):
                walk.answer(await self.replicas.ask(question, of: source, about: entry))
            case .leaves(let first, let leaves):
                var next =
                    mender
                    ?? LedgerMender(
                        store: self.store,
                        organization: entry.id,
                        before: walk.before ?? MerkleTree()
                    )
                try await self.mend(entry, leaves, first: first, source, &next)
                mender = next
            case .done:
                guard let mender else { throw Failure(.noSource, "node \(source) gave nothing") }
                return mender
            case .caught(let fault):
                throw Failure(
                    .sourceLies,
                    "node \(source) gave a tree that is not the trusted one (\(fault.kind.rawValue))"
                )
            case .unavailable(let reason): throw Failure(.noSource, "node \(source): \(reason)")
            }
        }
    }

    private func mend(
        _ entry: OrganizationEntry,
        _ leaves: [Digest],
        first: UInt64,
        _ source: NodeID,
        _ mender: inout LedgerMender
    ) async throws {
        let now = mender
        let page = try await self.threads.run { try now.examine(leaves, first: first) }
        var records: [[UInt8]] = []
        for start in stride(from: 0, to: page.wanted.count, by: Self.recordsAskedMax) {
            let wanted = page.wanted[start..<min(start + Self.recordsAskedMax, page.wanted.count)]
            records += try await self.fetch(Array(wanted), entry, source)
        }
        let fetched = records
        let (mended, batch) = try await self.threads.run {
            var mended = now
            let batch = try mended.mend(page, records: fetched)
            return (mended, batch)
        }
        if !batch.isEmpty {
            let store = self.store
            try await self.host.withLane(entry.group) { try store.write(batch, durability: .unlogged) }
        }
        mender = mended
    }

    private func fetch(
        _ sequences: [SequenceNumber],
        _ entry: OrganizationEntry,
        _ source: NodeID
    ) async throws -> [[UInt8]] {
        try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
            for (place, sequence) in sequences.enumerated() {
                group.addTask {
                    switch await self.replicas.ask(.record(sequence), of: source, about: entry) {
                    case .record(let bytes?): return (place, bytes)
                    case .unavailable(let reason): throw Failure(.noSource, "node \(source): \(reason)")
                    default: throw Failure(.noSource, "node \(source) does not have record \(sequence)")
                    }
                }
            }
            var records = [[UInt8]](repeating: [], count: sequences.count)
            for try await (place, bytes) in group { records[place] = bytes }
            return records
        }
    }

    // MARK: Ending

    /// Makes it durable, reads everything again, and serves the organization once more.
    private func conclude(
        _ entry: OrganizationEntry,
        _ finding: LedgerFinding?,
        _ outcome: RepairOutcome,
        _ origin: CommandOrigin
    ) async throws {
        let (store, register) = (self.store, self.reporter.register)
        try await self.threads.run { try store.flush() }
        try await self.requireSound(entry, .tree)
        if outcome.records > 0 { try await self.rebuildProjections(entry.id) }
        if let marked = register.finding(of: entry.id), marked.level > .tree {
            try await self.requireSound(entry, marked.level)
        }
        try await self.threads.run { try register.clear(entry.id) }
        self.reporter.metrics.repairs.increment()
        await self.reporter.record(
            "ledger.repaired",
            entry,
            finding: finding,
            attestation: nil,
            more: [
                JSONMember("first", .text(String(outcome.first))),
                JSONMember("size", .text(String(outcome.size))),
                JSONMember("root", .text(outcome.root.hex)),
                JSONMember("records", .text(String(outcome.records))),
                JSONMember("nodes", .text(String(outcome.nodes))),
                JSONMember("rows", .text(String(outcome.rows))),
                JSONMember("head", .bool(outcome.head)),
                JSONMember("basis", .text(outcome.basis.rawValue)),
                JSONMember("source", .text(outcome.source.description)),
            ],
            severity: .critical,
            origin: origin
        )
    }
}
