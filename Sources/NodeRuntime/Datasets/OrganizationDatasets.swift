internal import AuditLedger
internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// The tables of one organization's columnar store, and what fills them.
///
/// Knows a store and records only, so that it works in whatever process has the store open. One for each open store.
/// Safe to call from any task; every call into the engine runs on the store's threads.
///
/// `audit_log` grows with each projected batch. What is derived from it (`entities`, `entity_history`, the views by type) is
/// folded later, from the rows of `audit_log`: when a statement reads it, or when ``fold(upTo:on:)`` is called. How far is
/// stored in the transaction that adds the rows, so that each record is folded once, whatever happens.
final class OrganizationDatasets: Sendable {
    let store: ColumnarStore
    /// Folding is done by one task at a time.
    private let turns = Turns()
    /// So is the indexing of texts, beside it.
    private let textTurns = Turns()
    private let textIndex: TextIndex
    private let known: Mutex<Known>

    private struct Known {
        var catalog: TypeCatalog
        /// The last record that was folded.
        var position: SequenceNumber
        /// How many blocks of texts are indexed, at least.
        var textBlocks: UInt64
    }

    /// Called when a table or a column appears, before any answer that may name it.
    private let onTables: @Sendable () -> Void

    private init(
        store: ColumnarStore,
        textIndex: TextIndex,
        known: Known,
        onTables: @escaping @Sendable () -> Void
    ) {
        self.store = store
        self.textIndex = textIndex
        self.known = Mutex(known)
        self.onTables = onTables
    }

    /// Makes the tables that the store lacks, and reads what types it has.
    /// - Parameter geometry: How sequences are divided for the index of texts.
    /// - Throws: ``ColumnarError``.
    static func open(
        _ store: ColumnarStore,
        geometry: TextGeometry = .standard,
        onTables: @escaping @Sendable () -> Void = {}
    ) async throws -> OrganizationDatasets {
        let textIndex = TextIndex(geometry: geometry)
        let known = try await store.transaction(on: .query) { transaction in
            let catalog = try DatasetStorage.prepare(transaction)
            return Known(
                catalog: catalog,
                position: try DatasetStorage.position(transaction),
                textBlocks: try textIndex.prepare(transaction)
            )
        }
        return OrganizationDatasets(store: store, textIndex: textIndex, known: known, onTables: onTables)
    }

    /// The last sequence in `audit_log`; zero when it is empty.
    func position() async throws -> SequenceNumber { SequenceNumber(try await self.store.position()) }

    /// The last record that was folded.
    var foldedPosition: SequenceNumber { self.known.withLock { $0.position } }

    /// Adds consecutive records to `audit_log` and moves the position to the last, in one transaction.
    ///
    /// Records at or below the position are there already and are left alone.
    /// - Throws: ``LedgerError`` when a record cannot be read; ``ColumnarError``.
    func project(_ records: [StoredRecord], on lane: ColumnarThreads.Lane) async throws {
        guard let last = records.last else { return }
        let batch = try await self.store.run(on: lane) { try AuditLogDataset.batch(of: records) }
        try await self.store.ingest(
            table: AuditLogDataset.table.name,
            batch: batch,
            position: last.sequence.rawValue,
            on: lane
        )
    }

    // MARK: - Folding

    /// Folds what is not folded yet, a bounded number of records in each transaction.
    ///
    /// A cancelled call leaves whole steps behind.
    /// - Parameter sequence: Where it may stop; nil for the last record of `audit_log` at the time of the call.
    /// - Throws: ``ColumnarError``, ``LedgerError`` `.damaged` when a row holds no JSON, `CancellationError`.
    @discardableResult
    func fold(
        upTo sequence: SequenceNumber? = nil,
        on lane: ColumnarThreads.Lane = .query
    ) async throws -> SequenceNumber {
        let wanted: SequenceNumber
        if let sequence { wanted = sequence } else { wanted = try await self.position() }
        while self.foldedPosition < wanted {
            try Task.checkCancellation()
            let isAtEnd = try await self.turns.take {
                guard self.foldedPosition < wanted else { return true }
                let catalog = self.known.withLock { $0.catalog }
                let step = try await self.store.transaction(on: lane) { try FoldStep.run($0, catalog) }
                self.known.withLock { ($0.catalog, $0.position) = (step.catalog, step.position) }
                if step.catalog.count != catalog.count { self.onTables() }
                return step.isAtEnd
            }
            if isAtEnd { break }
        }
        return self.foldedPosition
    }

    // MARK: - Texts

    /// Whether records up to `position` complete a block of texts that is not indexed.
    func hasTextsToIndex(at position: SequenceNumber) -> Bool {
        position >= self.textIndex.geometry.last(ofBlock: self.indexedTextBlocks)
    }

    /// How many blocks of texts are indexed.
    var indexedTextBlocks: UInt64 { self.known.withLock { $0.textBlocks } }

    /// Indexes the texts of complete blocks that are not indexed yet.
    ///
    /// Rows are read on snapshots, a slice at a time; writers wait only while a block is stored. A cancelled call leaves whole
    /// blocks behind.
    /// - Throws: ``ColumnarError``, `CancellationError`.
    func indexTexts(blocksMax: Int = .max, on lane: ColumnarThreads.Lane = .ingest) async throws {
        var blocks = 0
        while blocks < blocksMax, self.hasTextsToIndex(at: try await self.position()) {
            blocks += 1
            try await self.textTurns.take {
                let block = self.indexedTextBlocks
                guard self.hasTextsToIndex(at: try await self.position()) else { return }
                let index = self.textIndex
                var slices: [TextSlice] = []
                for place in 0..<UInt64(TextGeometry.slicesOfBlock) {
                    try Task.checkCancellation()
                    let slice = block * UInt64(TextGeometry.slicesOfBlock) + place
                    slices.append(try await self.store.snapshot(on: lane) { try index.slice(slice, $0) })
                }
                let whole = slices
                let pages = try await self.store.run(on: lane) { TextPage.pages(of: whole) }
                let stored = try await self.store.transaction(on: lane) { try index.write(pages, of: block, $0) }
                self.known.withLock { $0.textBlocks = stored }
            }
        }
    }

    // MARK: - Tables

    /// The tables that statements may name.
    ///
    /// - Parameter isCurrent: Folds the newest records first; otherwise what is known now.
    /// - Throws: As ``fold(upTo:on:)``.
    func tables(isCurrent: Bool) async throws -> ShardTables {
        if isCurrent { try await self.fold() }
        let catalog = self.known.withLock { $0.catalog }
        return Self.tables(of: catalog)
    }

    /// The tables that every organization has.
    static let baseTables = [AuditLogDataset.table, EntityDataset.entities, EntityDataset.history]

    static func tables(of catalog: TypeCatalog) -> ShardTables {
        ShardTables(
            version: DatasetStorage.layout << 32 | UInt64(catalog.count),
            tables: self.baseTables + catalog.types.map(TypeView.table)
        )
    }

    // MARK: - Queries

    /// Runs one SELECT.
    ///
    /// A statement that reads what is folded sees everything up to the sequence that the result names, which is the last of
    /// `audit_log` or one that was the last when the call came.
    /// - Parameter statement: With the moment in which everything is seen; nil: now.
    /// - Throws: As `ColumnarStore.query`; ``ColumnarError`` `.execution` for a moment that has not come.
    func query(_ statement: ShardStatement, limits: QueryLimits) async throws -> ColumnarResult {
        let names = try await self.store.tableNames(in: statement.sql, origin: statement.origin)
        let (needsFold, others) = self.known.withLock { known -> (Bool, Bool) in
            let derived = DatasetStorage.derivedNames.union(known.catalog.types.map(\.view))
            return (
                !names.isDisjoint(with: derived), !names.subtracting(derived).isSubset(of: DatasetStorage.tableNames)
            )
        }
        if needsFold { try await self.fold() }
        do {
            return try await self.query(statement, limits, readsFolded: needsFold)
        } catch let error as ColumnarError where error.code == .catalog && others {
            // Perhaps the view of a type that only records have brought which were not folded yet.
            let before = self.foldedPosition
            guard try await self.fold() > before else { throw error }
            return try await self.query(statement, limits, readsFolded: true)
        }
    }

    private func query(
        _ statement: ShardStatement,
        _ limits: QueryLimits,
        readsFolded: Bool
    ) async throws -> ColumnarResult {
        let (index, blocks) = (self.textIndex, self.indexedTextBlocks)
        return try await self.store.query(
            statement.sql,
            parameters: statement.parameters,
            origin: statement.origin,
            limits: limits,
            delivery: statement.delivery
        ) { snapshot in
            var scope = try DatasetScope(readsFolded: readsFolded, moment: statement.asOf).scope(snapshot)
            if let texts = statement.texts, scope.replacements.isEmpty,
                let candidates = try index.candidates(texts, blocks: blocks, snapshot)
            {
                scope.narrow(to: candidates, in: try snapshot.database())
            }
            return scope
        }
    }
}
