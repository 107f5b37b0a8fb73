internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Logging
internal import Primitives
internal import QueryRouter
internal import Shards

/// The worker processes of a node that hold organizations' columnar stores.
///
/// An organization's store is always in the same worker: it is chosen by the organization's id. A worker that dies
/// costs its running statements a retriable error; projection goes on with the next one, from the position in the file.
final class WorkerPool: OrganizationStores {
    /// How often projection is tried again when the worker dies of nothing else.
    static let attemptsMax = 3
    /// How long anything but a statement may take.
    static let ownWorkLimit = Duration.seconds(300)

    let slots: [WorkerSlot]

    /// Starts `count` workers; ``closeAll()`` ends them.
    init(count: Int, settings: WorkerSettings, launch: WorkerLaunch = WorkerLaunch(), logger: Logger) {
        precondition(count > 0, "a pool needs a worker")
        let memory = StatementMemory()
        self.slots = (0..<count).map {
            WorkerSlot(name: "worker-\($0)", settings: settings, launch: launch, memory: memory, logger: logger)
        }
        for slot in self.slots { slot.start() }
    }

    /// The worker with the store of `organization`; neighbouring ids are spread.
    static func place(of organization: OrganizationID, among count: Int) -> Int {
        let mixed = UInt64(truncatingIfNeeded: organization.rawValue) &* 0x9E37_79B9_7F4A_7C15
        return Int((mixed >> 32) % UInt64(count))
    }

    private func slot(of organization: OrganizationID) -> WorkerSlot {
        self.slots[Self.place(of: organization, among: self.slots.count)]
    }

    func query(_ question: StoreQuestion, of organization: OrganizationID) async throws -> StoreResult {
        do {
            let link = try await self.slot(of: organization).current()
            return try await link.open(
                try WorkerQuestion.query(organization, question).encoded(),
                limit: question.limits.timeLimit ?? Self.ownWorkLimit,
                statement: question.statement.digest
            )
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func tables(of organization: OrganizationID, isCurrent: Bool) async throws -> ShardTables {
        do {
            let link = try await self.slot(of: organization).current()
            if !isCurrent, let known = link.tables.find(organization) { return known }
            let turn = link.tables.turn
            let body = try WorkerQuestion.tables(organization, isCurrent: isCurrent).encoded()
            let tables = try ShardTables(encoded: try await link.ask(body, limit: Self.ownWorkLimit))
            link.tables.keep(tables, of: organization, askedIn: turn)
            return tables
        } catch let error as WorkerGone {
            throw QueryError.workerGone(error)
        }
    }

    func position(of organization: OrganizationID) async throws -> SequenceNumber {
        let answer = try await self.askPatiently(.position(organization), of: organization)
        var reader = ByteReader(answer)
        return SequenceNumber(try reader.read(UInt64.self))
    }

    func project(_ records: [StoredRecord], to organization: OrganizationID, isUrgent: Bool) async throws {
        guard !records.isEmpty else { return }
        _ = try await self.askPatiently(.project(organization, records, isUrgent: isUrgent), of: organization)
    }

    func reset(_ organization: OrganizationID) async throws {
        let slot = self.slot(of: organization)
        _ = try await self.askPatiently(.reset(organization), of: organization)
        // The next one begins without what records had brought.
        try? await slot.current().tables.forget(organization)
    }

    /// Asks again when the worker dies; everything that is asked here may be done twice.
    ///
    /// - Throws: ``ProjectionUnavailable`` when the store's files are not to blame, so that they are not deleted for it.
    private func askPatiently(_ question: WorkerQuestion, of organization: OrganizationID) async throws -> [UInt8] {
        let body = try question.encoded()
        let slot = self.slot(of: organization)
        var lonelyDeaths = 0
        for _ in 0..<Self.attemptsMax {
            do {
                return try await slot.current().ask(body, limit: Self.ownWorkLimit)
            } catch let error as WorkerGone {
                if error.wasAlone { lonelyDeaths += 1 }
            } catch let error as ColumnarError where [.busy, .closed, .cancelled].contains(error.code) {
                throw ProjectionUnavailable(organization: organization, cause: error)
            } catch is CancellationError {
                throw ProjectionUnavailable(organization: organization, cause: CancellationError())
            }
        }
        let gone = WorkerGone(fault: .ended, wasAlone: true)
        guard lonelyDeaths == Self.attemptsMax else {
            throw ProjectionUnavailable(organization: organization, cause: gone)
        }
        throw ColumnarError(.damaged, "the worker died \(Self.attemptsMax) times of this store", cause: gone)
    }

    func closeAll() async {
        await withDiscardingTaskGroup { group in
            for slot in self.slots { group.addTask { await slot.stop() } }
        }
    }
}

extension NodeConfiguration {
    /// Threads that a worker uses for one statement.
    var statementThreads: Int {
        self.queryThreads > 0
            ? self.queryThreads : min(max(ProcessInfo.processInfo.activeProcessorCount, 1), Self.queryThreadsMax)
    }
}

extension WorkerSettings {
    /// Of a worker's memory there is one open store for so much; one that nobody asks takes a third of it.
    private static let openStoreBytes = 16 << 20

    /// Those of a node's workers with columnar stores.
    init(stores configuration: NodeConfiguration) {
        let directory = configuration.dataDirectory + "/" + Node.columnarFolder
        self.init(role: .stores, directory: URL(fileURLWithPath: directory).standardizedFileURL.path)
        self.memoryBytesMax = UInt64(configuration.workerMemoryBytes)
        self.isSandboxed = configuration.workerSandbox
        self.storeMemoryBytes = configuration.columnarMemoryBytes
        self.statementThreads = configuration.statementThreads
        self.timeLimitMilliseconds = configuration.queryTimeLimitMilliseconds
        self.idleSeconds = configuration.workerIdleSeconds
        // A statement over more organizations than are open would open every store anew, each time.
        self.openMax = max(ColumnarStores.openMaxDefault, configuration.workerMemoryBytes / Self.openStoreBytes)
    }
}

extension QueryError {
    /// What a statement's caller is told when its worker died.
    static func workerGone(_ error: WorkerGone) -> QueryError {
        QueryError(.unavailable, "the process that ran the statement ended; try again", cause: error)
    }

    /// Whether a worker process ended while it ran the statement, here or on a peer.
    ///
    /// Such a statement is not sent to another replica by itself: it may end the worker there too.
    var hasEndedItsWorker: Bool {
        switch self.cause {
        case let gone as WorkerGone: gone.hadBegun
        case is RemoteShardResult.WorkerEnded: true
        case let inner as QueryError: inner.hasEndedItsWorker
        default: false
        }
    }
}
