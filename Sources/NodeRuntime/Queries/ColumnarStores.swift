internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Shards

/// The columnar stores of this process, one file an organization, opened when used and closed when too many are open.
actor ColumnarStores: OrganizationStores {
    private struct Open {
        let store: ColumnarStore
        let datasets: OrganizationDatasets
        var users = 0
        var lastUse: UInt64 = 0
        /// ``turns`` at the last use.
        var lastTurn: UInt64 = 0
        /// What ``foldQuiet()`` saw last.
        var seenPosition: SequenceNumber?
    }

    /// A store in memory with every organization's tables, and no rows.
    private struct Empty: Sendable {
        let store: ColumnarStore
        let datasets: OrganizationDatasets
    }

    /// Most files held open at once, unless told otherwise; each costs about 5 MB.
    static let openMaxDefault = 64

    private let directory: String
    private let threads: ColumnarThreads
    private let configuration: ColumnarConfiguration
    private let openMax: Int
    private let geometry: TextGeometry
    private let onTables: @Sendable (OrganizationID) -> Void
    private var open: [OrganizationID: Open] = [:]
    /// Organizations whose store is being opened or closed, and who waits for that.
    private var busy: [OrganizationID: [CheckedContinuation<Void, Never>]] = [:]
    /// What answers for organizations that have no store; opened when one is asked.
    private var empty: Task<Empty, any Error>?
    private var uses: UInt64 = 0
    /// How often ``closeUnused(for:)`` was called.
    private var turns: UInt64 = 0

    /// - Parameters:
    ///   - openMax: Files held open at once; more only while they are in use.
    ///   - geometry: How sequences are divided for the index of texts.
    ///   - onTables: Called when a table or a column of an organization appears, before any answer that may name it.
    init(
        directory: String,
        threads: ColumnarThreads,
        configuration: ColumnarConfiguration,
        openMax: Int = openMaxDefault,
        geometry: TextGeometry = .standard,
        onTables: @escaping @Sendable (OrganizationID) -> Void = { _ in }
    ) {
        self.openMax = openMax
        self.geometry = geometry
        self.onTables = onTables
        self.directory = directory
        self.threads = threads
        self.configuration = configuration
    }

    private nonisolated func file(of organization: OrganizationID) -> String {
        "\(self.directory)/organization-\(organization.rawValue).duckdb"
    }

    /// The number of files that are open.
    var openCount: Int { self.open.count }

    /// Lends the organization's store; it stays open until the caller gives it back by ``release(_:of:)``, or
    /// ``reset(_:)`` closes it.
    func lend(_ organization: OrganizationID) async throws -> ColumnarStore {
        while self.busy[organization] != nil { await self.waitWhileBusy(organization) }
        self.uses += 1
        if self.open[organization] != nil {
            self.open[organization]?.users += 1
            self.open[organization]?.lastUse = self.uses
            self.open[organization]?.lastTurn = self.turns
        }
        if let store = self.open[organization]?.store { return store }
        self.busy[organization] = []
        defer { self.endBusy(organization) }
        var configuration = self.configuration
        configuration.temporaryDirectory = self.file(of: organization) + ".tmp"
        let store = try await ColumnarStore.open(
            .file(self.file(of: organization)),
            configuration: configuration,
            threads: self.threads
        )
        do {
            let onTables = self.onTables
            let datasets = try await OrganizationDatasets.open(store, geometry: self.geometry) {
                onTables(organization)
            }
            self.open[organization] = Open(
                store: store,
                datasets: datasets,
                users: 1,
                lastUse: self.uses,
                lastTurn: self.turns
            )
        } catch {
            await store.close()
            throw error
        }
        await self.closeIdle()
        return store
    }

    /// Whether nothing was ever projected for the organization: making a store to find it empty takes longer than most
    /// statements.
    private func hasNoStore(_ organization: OrganizationID) -> Bool {
        guard self.open[organization] == nil, self.busy[organization] == nil else { return false }
        return access(self.file(of: organization), F_OK) != 0 && errno == ENOENT
    }

    /// The datasets of an organization without a store.
    private func emptyDatasets() async throws -> OrganizationDatasets {
        let (configuration, threads) = (self.configuration, self.threads)
        let opening =
            self.empty
            ?? Task {  // task-owner: whoever asks for it awaits it; closed by closeAll()
                let store = try await ColumnarStore.open(.memory, configuration: configuration, threads: threads)
                return Empty(store: store, datasets: try await OrganizationDatasets.open(store))
            }
        self.empty = opening
        do {
            return try await opening.value.datasets
        } catch {
            // The next one tries again.
            self.empty = nil
            throw error
        }
    }

    /// Gives back a store that was lent; one that was closed meanwhile counts no more.
    func release(_ store: ColumnarStore, of organization: OrganizationID) async {
        guard self.open[organization]?.store === store else { return }
        self.open[organization]?.users -= 1
        await self.closeIdle()
    }

    private func waitWhileBusy(_ organization: OrganizationID) async {
        await withCheckedContinuation { continuation in self.busy[organization, default: []].append(continuation) }
    }

    private func endBusy(_ organization: OrganizationID) {
        for waiter in self.busy.removeValue(forKey: organization) ?? [] { waiter.resume() }
    }

    private func closeIdle() async {
        while self.open.count > self.openMax {
            let idle = self.open.filter { $0.value.users == 0 && self.busy[$0.key] == nil }
            guard let oldest = idle.min(by: { $0.value.lastUse < $1.value.lastUse })?.key else { return }
            await self.close(oldest)
        }
    }

    /// Folds a part of what came to the stores that are open and that no record came to since the last call, so that a
    /// statement need not wait for it, and indexes texts of those to which few came; to be called at equal intervals.
    ///
    /// What fails here fails again for the statement that needs it, and is told there.
    func foldQuiet() async {
        for (organization, entry) in self.open.sorted(by: { $0.key < $1.key }) {
            guard self.busy[organization] == nil, self.open[organization]?.store === entry.store,
                let position = try? await entry.datasets.position()
            else { continue }
            guard self.open[organization]?.store === entry.store else { continue }
            let seen = self.open[organization]?.seenPosition
            self.open[organization]?.seenPosition = position
            guard let seen else { continue }
            let folds = seen == position && entry.datasets.foldedPosition < position
            // Not only in quiet times: a store to which a few records come all the time would never be searched fast.
            let indexes =
                position.rawValue <= seen.rawValue + Self.slowRecordsMax
                && entry.datasets.hasTextsToIndex(at: position)
            guard folds || indexes else { continue }
            let end = min(position.rawValue, entry.datasets.foldedPosition.rawValue + UInt64(Self.quietRecordsMax))
            self.open[organization]?.users += 1
            if folds { _ = try? await entry.datasets.fold(upTo: SequenceNumber(end), on: .ingest) }
            if indexes { try? await entry.datasets.indexTexts(blocksMax: Self.quietBlocksMax) }
            await self.release(entry.store, of: organization)
        }
    }

    /// Records that ``foldQuiet()`` folds of one organization in one call.
    private static let quietRecordsMax = 4 * FoldStep.recordsMax
    /// Blocks of texts that it indexes of one organization in one call.
    private static let quietBlocksMax = 2
    /// Records that may have come since the last call to a store whose texts are indexed.
    private static let slowRecordsMax: UInt64 = 8_192

    /// Closes the stores that nobody has used since this was called `turns` times; to be called at equal intervals.
    func closeUnused(for turns: UInt64) async {
        self.turns += 1
        for (organization, entry) in self.open.sorted(by: { $0.key < $1.key }) {
            // Others may have come while one was closed.
            guard self.open[organization]?.users == 0, self.busy[organization] == nil,
                self.open[organization]?.lastUse == entry.lastUse, self.turns - entry.lastTurn > turns
            else { continue }
            await self.close(organization)
        }
    }

    private func close(_ organization: OrganizationID) async {
        guard let store = self.open.removeValue(forKey: organization)?.store else { return }
        self.busy[organization] = []
        await store.close()
        self.endBusy(organization)
    }

    /// Closes every store; nobody may use one any more.
    func closeAll() async {
        for organization in self.open.keys.sorted() { await self.close(organization) }
        let empty = self.empty
        self.empty = nil
        try? await empty?.value.store.close()
    }

    func position(of organization: OrganizationID) async throws -> SequenceNumber {
        if self.hasNoStore(organization) { return .zero }
        return try await self.withStore(organization) { SequenceNumber(try await $0.position()) }
    }

    func project(_ records: [StoredRecord], to organization: OrganizationID, isUrgent: Bool) async throws {
        guard !records.isEmpty else { return }
        try await self.withDatasets(organization) { try await $0.project(records, on: isUrgent ? .query : .ingest) }
    }

    /// Lends the organization's datasets to `body`.
    func withDatasets<Value: Sendable>(
        _ organization: OrganizationID,
        _ body: (OrganizationDatasets) async throws -> Value
    ) async throws -> Value {
        try await self.withStore(organization) { try await body(self.datasets(of: $0, organization)) }
    }

    /// What belongs to a store that was lent.
    private func datasets(of store: ColumnarStore, _ organization: OrganizationID) throws -> OrganizationDatasets {
        guard let datasets = self.open[organization]?.datasets, datasets.store === store else {
            throw ColumnarError(.closed, "the columnar store was closed")
        }
        return datasets
    }

    func tables(of organization: OrganizationID, isCurrent: Bool) async throws -> ShardTables {
        if self.hasNoStore(organization) { return OrganizationDatasets.tables(of: DatasetStorage.emptyCatalog()) }
        return try await self.withDatasets(organization) { try await $0.tables(isCurrent: isCurrent) }
    }

    func query(_ question: StoreQuestion, of organization: OrganizationID) async throws -> StoreResult {
        if self.hasNoStore(organization) {
            let result = try await self.emptyDatasets().query(question.statement, limits: question.limits)
            return StoreResult(
                schema: result.schema,
                position: .zero,
                batches: RecordBatchStream(result.batches),
                isWhole: question.statement.delivery == .whole
            )
        }
        let store = try await self.lend(organization)
        do {
            let result = try await self.datasets(of: store, organization)
                .query(question.statement, limits: question.limits)
            let lease = StoreLease(stores: self, store: store, organization: organization)
            return StoreResult(
                schema: result.schema,
                position: SequenceNumber(result.position),
                batches: RecordBatchStream(LeasedBatches(batches: result.batches, lease: lease)),
                isWhole: question.statement.delivery == .whole
            )
        } catch {
            await self.release(store, of: organization)
            throw error
        }
    }

    private func withStore<Value: Sendable>(
        _ organization: OrganizationID,
        _ body: (ColumnarStore) async throws -> Value
    ) async throws -> Value {
        let store = try await self.lend(organization)
        do {
            let value = try await body(store)
            await self.release(store, of: organization)
            return value
        } catch {
            await self.release(store, of: organization)
            throw error
        }
    }

    func reset(_ organization: OrganizationID) async throws {
        while self.busy[organization] != nil { await self.waitWhileBusy(organization) }
        await self.close(organization)
        for suffix in ["", ".wal", ".tmp"] {
            let path = self.file(of: organization) + suffix
            if FileManager.default.fileExists(atPath: path) { try FileManager.default.removeItem(atPath: path) }
        }
    }
}

/// Keeps a columnar store lent until the last reader of its result is gone.
final class StoreLease: Sendable {
    private let stores: ColumnarStores
    private let store: ColumnarStore
    private let organization: OrganizationID

    init(stores: ColumnarStores, store: ColumnarStore, organization: OrganizationID) {
        self.stores = stores
        self.store = store
        self.organization = organization
    }

    deinit {
        let (stores, store, organization) = (self.stores, self.store, self.organization)
        Task { await stores.release(store, of: organization) }  // task-owner: none is needed, one short actor call
    }
}

/// Batches of a local store that hold its lease.
struct LeasedBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    let batches: ColumnarBatches
    let lease: StoreLease

    struct AsyncIterator: AsyncIteratorProtocol {
        var iterator: ColumnarBatches.AsyncIterator
        let lease: StoreLease

        mutating func next() async throws -> ArrowRecordBatch? { try await self.iterator.next() }
    }

    func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(iterator: self.batches.makeAsyncIterator(), lease: self.lease)
    }
}
