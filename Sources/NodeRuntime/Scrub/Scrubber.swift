internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage

/// Reads all ledgers of this node again, slowly, for ever: what was appended soon, everything once an interval.
///
/// Progress is kept organization by organization, so that a restart goes on where
/// it was. One part of at most ``partBytes`` is read at a time, on the store's threads; between parts it rests as long
/// as the rate wants.
struct Scrubber: Sendable {
    /// Bytes of records between two rests.
    static let partBytes = UInt64(4 << 20)
    /// The shortest rest between two rounds over all organizations.
    static let roundPause = Duration.seconds(30)
    /// The rest for each organization that was looked at, so that looking at thousands of idle ones costs next to nothing.
    static let organizationPause = Duration.milliseconds(20)

    /// The rest after a round.
    static func pause(after organizations: Int) -> Duration {
        max(Self.roundPause, Self.organizationPause * organizations)
    }

    /// What is re-read, and who is told.
    struct Ports: Sendable {
        /// Organizations with a replica on this node now.
        let organizations: @Sendable () -> [OrganizationEntry]
        /// What was found of ledgers that could not be judged at start. Blocks.
        let late: @Sendable () throws -> [(LedgerFinding, OrganizationEntry)]
        /// Whether the organization's replica can be judged now: not while it takes a snapshot. Blocks.
        let isSettled: @Sendable (OrganizationEntry) throws -> Bool
        let isDamaged: @Sendable (OrganizationID) -> Bool
        let found: @Sendable (LedgerFinding, OrganizationEntry, DamageReporter.Attestation?) async -> Void
        /// The finding is in the register already.
        let announce: @Sendable (LedgerFinding, OrganizationEntry) async -> Void
        let sound: @Sendable (OrganizationEntry, DamageReporter.Attestation) async -> Void
        let read: @Sendable (_ bytes: Int) -> Void
        let now: @Sendable () -> Timestamp
    }

    let store: any KeyValueStore
    let threads: StoreThreads
    let ports: Ports
    let rate: TokenBucket
    /// After how long everything is read from the beginning.
    let interval: Duration
    let clock: any Clock<Duration>
    /// What was found before the node began to serve.
    let startFindings: [(LedgerFinding, OrganizationEntry)]
    let logger: Logger

    func run() async {
        for (finding, entry) in self.startFindings { await self.ports.announce(finding, entry) }
        while !Task.isCancelled {
            let visited = await self.round()
            try? await self.clock.sleep(for: Self.pause(after: visited))
        }
    }

    /// Goes once over all organizations.
    /// - Returns: How many there are.
    @discardableResult
    func round() async -> Int {
        await self.judgeLate()
        let organizations = self.ports.organizations()
        for entry in organizations where !self.ports.isDamaged(entry.id) {
            if Task.isCancelled { return organizations.count }
            do {
                try await self.scrub(entry)
            } catch {
                self.logger.info(
                    "scrub put off",
                    metadata: ["organization.key": "\(entry.key)", "error.chain": "\(errorChain(error))"]
                )
            }
        }
        return organizations.count
    }

    private func judgeLate() async {
        let late = self.ports.late
        do {
            for (finding, entry) in try await self.threads.run({ try late() }) {
                await self.ports.found(finding, entry, nil)
            }
        } catch {
            self.logger.info("scrub put off", metadata: ["error.chain": "\(errorChain(error))"])
        }
    }

    /// Reads what is due of one organization.
    private func scrub(_ entry: OrganizationEntry) async throws {
        while !Task.isCancelled {
            let (store, isSettled) = (self.store, self.ports.isSettled)
            let start = NodeClock.monotonic.now
            let (now, interval) = (self.ports.now(), self.interval)
            let step = try await self.threads.run { () throws -> Step? in
                guard try isSettled(entry) else { return nil }
                return try Self.step(entry, store, now: now, interval: interval)
            }
            guard let step else { return }
            self.ports.read(Int(clamping: step.bytesRead))
            if let finding = step.finding {
                await self.ports.found(finding, entry, step.attestation)
                return
            }
            if step.isNews, let attestation = step.attestation { await self.ports.sound(entry, attestation) }
            guard !step.isLast else { return }
            try await self.clock.sleep(for: self.rate.take(Int(clamping: step.bytesRead), at: start))
        }
    }

    private struct Step: Sendable {
        let bytesRead: UInt64
        let finding: LedgerFinding?
        /// Nothing more is due.
        let isLast: Bool
        /// The whole ledger was read, from its beginning, and is larger than the last time.
        let isNews: Bool
        let attestation: DamageReporter.Attestation?
    }

    /// Reads the next part, and remembers it.
    /// - Returns: nil when nothing is due.
    private static func step(
        _ entry: OrganizationEntry,
        _ store: any KeyValueStore,
        now: Timestamp,
        interval: Duration
    ) throws -> Step? {
        var row = try ScrubRow.read(entry.id, from: store)
        let size = (try? LedgerReader(store: store, organization: entry.id).head().size) ?? .max
        if let begun = row.begunAt, now.rawValue - begun.rawValue >= interval.components.seconds * 1_000_000 {
            let recordedSize = row.recordedSize
            row = ScrubRow()
            row.recordedSize = recordedSize
        }
        if let head = row.head {
            let reader = LedgerReader(store: store, organization: entry.id)
            let before = TreeHead(size: head.size, root: head.root)
            if let finding = try reader.finding(against: before, source: "what the node read before") {
                return Step(bytesRead: 0, finding: finding, isLast: true, isNews: false, attestation: nil)
            }
        }
        // Everything that there is was read, and the interval is not over.
        if let head = row.head, row.throughAt != nil, head.size == size { return nil }
        if size == 0 { return nil }
        let wasThrough = row.throughAt != nil
        if row.begunAt == nil { row.begunAt = now }
        let part = try LedgerVerifier.verifyPart(
            store: store.snapshot(),
            organization: entry.id,
            key: entry.key,
            from: row.head,
            bytesMax: Self.partBytes
        )
        // Rows beside the records, once in each reading.
        var beside = RowAudit.Outcome()
        if part.isLast, part.finding == nil, !wasThrough { beside = try RowAudit(store: store.snapshot()).run(entry) }
        let finding = part.finding ?? beside.finding
        row.bytesRead += part.bytesRead + beside.bytes
        row.head = part.head
        let isThrough = part.isLast && finding == nil && !wasThrough
        if isThrough { row.throughAt = now }
        // Once for each size: who reads the same again and again need not say so.
        let isNews = isThrough && row.recordedSize != part.head.size
        if isNews { row.recordedSize = part.head.size }
        var batch = WriteBatch()
        batch.put(.scrubState, key: ScrubRow.key(entry.id), value: row.encoded())
        try store.write(batch, durability: .unlogged)
        let attestation = DamageReporter.Attestation(
            size: part.head.size,
            root: part.head.root,
            bytesRead: row.bytesRead,
            begunAt: row.begunAt ?? now,
            endedAt: now
        )
        return Step(
            bytesRead: part.bytesRead + beside.bytes,
            finding: finding,
            isLast: part.isLast,
            isNews: isNews,
            attestation: attestation
        )
    }
}
