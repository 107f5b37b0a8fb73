internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Laboratory
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage

/// Folds this node's replica of a ledger into an empty state, and the rows of `audit_log` in its columnar store into another, and says
/// whether they agree with each other and with what `entities` and `entity_history` hold.
struct RebuildCheck: Sendable {
    /// What one replica came to.
    struct Result: Sendable, Equatable {
        /// Records folded.
        var size: UInt64
        /// Entities in the end.
        var entities: Int
        /// The root of the records as they were read, and the stored one.
        var root: Digest
        var storedRoot: Digest
        /// Digests of the states by the ledger's bytes and by the columnar store's rows.
        var ledgerState: Digest
        var columnarState: Digest
        /// Of the rows of `entities`; ``ledgerState`` when they are right.
        var entitiesState: Digest
        /// Digests of every state that there was, by the ledger's bytes and by the rows of `entity_history`.
        var ledgerHistory: Digest
        var columnarHistory: Digest

        /// True when folding gave what is stored.
        var isEqual: Bool {
            self.root == self.storedRoot && self.ledgerState == self.columnarState
                && self.ledgerState == self.entitiesState && self.ledgerHistory == self.columnarHistory
        }
    }

    /// Rows asked of the columnar store at once.
    static let rowsMax = 20_000
    static let runRecords = 2000

    let store: any KeyValueStore
    let threads: StoreThreads
    /// Runs a statement on the organization's columnar store, which has been projected up to the record at least, for so many rows.
    let rows: @Sendable (OrganizationEntry, ShardStatement, SequenceNumber, Int) async throws -> RecordBatchStream

    init(
        store: any KeyValueStore,
        threads: StoreThreads,
        rows:
            @escaping @Sendable (OrganizationEntry, ShardStatement, SequenceNumber, Int) async throws ->
            RecordBatchStream
    ) {
        self.store = store
        self.threads = threads
        self.rows = rows
    }

    /// Over this node's own columnar stores.
    init(store: any KeyValueStore, threads: StoreThreads, queries: ShardQueries) {
        self.init(store: store, threads: threads) { entry, statement, sequence, rowsMax in
            try await queries.queryHere(
                entry,
                statement: statement,
                requirement: .atLeast(sequence),
                limits: ShardQueryLimits(timeLimit: .seconds(60), resultBytesMax: Int.max, resultRowsMax: rowsMax)
            ).batches
        }
    }

    /// - Throws: ``LedgerError``, ``ShardError``, ``QueryError``, `OrganizationState.Failure`.
    func run(_ entry: OrganizationEntry) async throws -> Result {
        let snapshot = try await self.threads.run { [store] in try store.snapshot() }
        let reader = LedgerReader(store: snapshot, organization: entry.id)
        let head = try await self.threads.run { try reader.head() }
        var fold = Fold()
        while fold.state.sequence < head.lastSequence {
            fold = try await self.threads.run { [fold] in try Self.fold(reader, fold, to: head.lastSequence) }
            try Task.checkCancellation()
        }
        let (state, tree) = (fold.state, fold.tree)
        let columnar = try await self.columnarState(of: entry, to: head.lastSequence)
        let entities = try await self.entitiesState(of: entry, to: head.lastSequence)
        let history = try await self.columnarHistory(of: entry, to: head.lastSequence)
        return Result(
            size: head.size,
            entities: state.count,
            root: tree.root,
            storedRoot: head.root,
            ledgerState: state.digest,
            columnarState: columnar.digest,
            entitiesState: entities,
            ledgerHistory: fold.history.digest,
            columnarHistory: history
        )
    }

    /// What the records up to one come to.
    private struct Fold: Sendable {
        var state = OrganizationState(entitiesMax: HistoryReader.entitiesMax)
        var tree = MerkleTree()
        var history = HistoryDigest()
    }

    private static func fold(_ reader: LedgerReader, _ fold: Fold, to last: SequenceNumber) throws -> Fold {
        var fold = fold
        let records = try reader.records(from: fold.state.sequence.next, limit: self.runRecords)
        guard !records.isEmpty else {
            throw LedgerError(code: .damaged, message: "record \(fold.state.sequence.next) is missing")
        }
        for record in records where record.sequence <= last {
            let change = try EntityChange(record.bytes)
            let earlier = fold.state[change.name]
            try fold.state.apply(change)
            fold.tree.push(LedgerHash.leaf(record.bytes))
            guard let next = fold.state[change.name], next.version != earlier?.version else { continue }
            if let earlier {
                fold.history.append(endOf: earlier.lastSequence, at: change.sequence, change.recordedAt)
            }
            fold.history.append(next)
        }
        return fold
    }

    // MARK: The tables

    /// The digest of the rows of `entities` as of a record.
    private func entitiesState(of entry: OrganizationEntry, to last: SequenceNumber) async throws -> Digest {
        var states: [EntityState] = []
        let rows = try await self.rows(
            "SELECT \(EntityDataset.entryColumns), organization FROM entities",
            of: entry,
            at: last,
            rowsMax: HistoryReader.entitiesMax
        )
        let organizationColumn = 11
        for try await batch in rows {
            for row in 0..<batch.rowCount {
                try Self.require(batch, row, organizationColumn, is: entry)
                states.append(try EntityDataset.entry(batch, row).state)
            }
        }
        return OrganizationState.digest(of: states.sorted { $0.name < $1.name }, at: last)
    }

    /// The digest of the rows of `entity_history` as of a record.
    private func columnarHistory(of entry: OrganizationEntry, to last: SequenceNumber) async throws -> Digest {
        var digest = HistoryDigest()
        var next: UInt64 = 0
        while next <= last.rawValue {
            let end = min(last.rawValue, next + UInt64(Self.rowsMax) - 1)
            let states = try await self.rows(
                """
                SELECT \(EntityDataset.stateColumns), organization FROM entity_history \
                WHERE sequence BETWEEN \(next) AND \(end) ORDER BY sequence
                """,
                of: entry,
                at: last
            )
            let organizationColumn = 11
            for try await batch in states {
                for row in 0..<batch.rowCount {
                    try Self.require(batch, row, organizationColumn, is: entry)
                    digest.append(try EntityDataset.entry(batch, row).state)
                }
            }
            let ends = try await self.rows(
                """
                SELECT CAST(sequence AS BIGINT), CAST(valid_to_sequence AS BIGINT), epoch_us(valid_to) FROM entity_history \
                WHERE valid_to_sequence BETWEEN \(next) AND \(end) ORDER BY valid_to_sequence, sequence
                """,
                of: entry,
                at: last
            )
            for try await batch in ends {
                for row in 0..<batch.rowCount {
                    func number(_ column: Int) -> Int64 { batch.int64(row: row, column: column) ?? 0 }
                    digest.append(
                        endOf: SequenceNumber(UInt64(clamping: number(0))),
                        at: SequenceNumber(UInt64(clamping: number(1))),
                        Timestamp(microseconds: number(2))
                    )
                }
            }
            next = end + 1
        }
        return digest.digest
    }

    private func rows(
        _ sql: String,
        of entry: OrganizationEntry,
        at last: SequenceNumber,
        rowsMax: Int = 2 * rowsMax
    ) async throws -> RecordBatchStream {
        try await self.rows(entry, ShardStatement(sql: sql, asOf: .sequence(last)), last, rowsMax)
    }

    private static func require(
        _ batch: ArrowRecordBatch,
        _ row: Int,
        _ column: Int,
        is entry: OrganizationEntry
    ) throws {
        guard batch.string(row: row, column: column) == entry.key.rawValue else {
            throw ShardError(
                code: .projection,
                message: "the columnar store of \(entry.key) holds an entity of another organization"
            )
        }
    }

    /// The fold of the columnar store's rows.
    private func columnarState(
        of entry: OrganizationEntry,
        to last: SequenceNumber
    ) async throws -> OrganizationState {
        var state = OrganizationState(entitiesMax: HistoryReader.entitiesMax)
        while state.sequence < last {
            let first = state.sequence.next
            let end = min(last.rawValue, state.sequence.rawValue + UInt64(Self.rowsMax))
            let batches = try await self.rows(
                entry,
                ShardStatement(
                    sql: """
                        SELECT CAST(sequence AS BIGINT), epoch_us(recorded_at), entity_type, entity_id, action, actor_id, \
                        outcome, before, after FROM audit_log WHERE sequence BETWEEN \(first) AND \(end) ORDER BY sequence
                        """
                ),
                SequenceNumber(end),
                Self.rowsMax
            )
            for try await batch in batches {
                for row in 0..<batch.rowCount { try state.apply(try Self.change(batch, row)) }
            }
            guard state.sequence.rawValue == end else {
                throw ShardError(
                    code: .projection,
                    message: "the columnar store of \(entry.key) lacks record \(state.sequence.next)"
                )
            }
        }
        return state
    }

    private static func change(_ batch: ArrowRecordBatch, _ row: Int) throws -> EntityChange {
        func text(_ column: Int) -> String { batch.string(row: row, column: column) ?? "" }
        func value(_ column: Int) throws -> JSONValue {
            guard let text = batch.string(row: row, column: column) else { return .null }
            return try JSONParser.parse(Array(text.utf8))
        }
        return EntityChange(
            name: EntityName(type: text(2), id: text(3)),
            sequence: SequenceNumber(UInt64(batch.int64(row: row, column: 0) ?? 0)),
            recordedAt: Timestamp(microseconds: batch.int64(row: row, column: 1) ?? 0),
            action: text(4),
            actor: text(5),
            outcome: Outcome(rawValue: text(6)) ?? .failed,
            before: try value(7),
            after: try value(8)
        )
    }
}

// What peers ask, and are answered.
extension PeerService {
    func rebuild(_ request: WireRebuildRequest) async -> WireRebuildResponse {
        var response = WireRebuildResponse()
        guard let key = OrganizationKey(request.key), let entry = self.directory.organization(key),
            entry.id.rawValue == request.organization, self.placement.servesHere(entry.group)
        else {
            response.failure = "node \(self.node) has no replica to read now"
            return response
        }
        do {
            let check = RebuildCheck(store: self.store, threads: self.storeThreads, queries: self.queries)
            let result = try await check.run(entry)
            response.size = result.size
            response.entities = UInt64(result.entities)
            response.root = Data(result.root.bytes)
            response.storedRoot = Data(result.storedRoot.bytes)
            response.ledgerState = Data(result.ledgerState.bytes)
            response.columnarState = Data(result.columnarState.bytes)
            response.entitiesState = Data(result.entitiesState.bytes)
            response.ledgerHistory = Data(result.ledgerHistory.bytes)
            response.columnarHistory = Data(result.columnarHistory.bytes)
        } catch {
            response.failure = errorChain(error)
        }
        return response
    }
}

extension RebuildCheck.Result {
    /// Nil when a digest is malformed, or missing as in the answers of earlier versions.
    init?(_ response: WireRebuildResponse) {
        guard let root = Digest(bytes: response.root), let storedRoot = Digest(bytes: response.storedRoot),
            let ledgerState = Digest(bytes: response.ledgerState),
            let columnarState = Digest(bytes: response.columnarState),
            let entitiesState = Digest(bytes: response.entitiesState),
            let ledgerHistory = Digest(bytes: response.ledgerHistory),
            let columnarHistory = Digest(bytes: response.columnarHistory)
        else { return nil }
        self.init(
            size: response.size,
            entities: Int(clamping: response.entities),
            root: root,
            storedRoot: storedRoot,
            ledgerState: ledgerState,
            columnarState: columnarState,
            entitiesState: entitiesState,
            ledgerHistory: ledgerHistory,
            columnarHistory: columnarHistory
        )
    }
}
