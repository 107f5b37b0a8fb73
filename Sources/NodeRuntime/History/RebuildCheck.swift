internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Laboratory
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage

/// Folds this node's replica of a ledger into an empty store, and what its columnar store holds into another, and says whether they agree.
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

        /// True when folding gave what is stored.
        var isEqual: Bool { self.root == self.storedRoot && self.ledgerState == self.columnarState }
    }

    /// Rows asked of the columnar store at once.
    static let rowsMax = 20_000
    static let runRecords = 2000

    let store: any KeyValueStore
    let threads: StoreThreads
    let queries: ShardQueries

    /// - Throws: ``LedgerError``, ``ShardError``, ``QueryError``, `OrganizationState.Failure`.
    func run(_ entry: OrganizationEntry) async throws -> Result {
        let snapshot = try await self.threads.run { [store] in try store.snapshot() }
        let reader = LedgerReader(store: snapshot, organization: entry.id)
        let head = try await self.threads.run { try reader.head() }
        var state = OrganizationState(entitiesMax: HistoryReader.entitiesMax)
        var tree = MerkleTree()
        while state.sequence < head.lastSequence {
            (state, tree) = try await self.threads.run { [state, tree] in
                try Self.fold(reader, state, tree, to: head.lastSequence)
            }
            try Task.checkCancellation()
        }
        let columnar = try await self.columnarState(of: entry, to: head.lastSequence)
        return Result(
            size: head.size,
            entities: state.count,
            root: tree.root,
            storedRoot: head.root,
            ledgerState: state.digest,
            columnarState: columnar.digest
        )
    }

    private static func fold(
        _ reader: LedgerReader,
        _ state: OrganizationState,
        _ tree: MerkleTree,
        to last: SequenceNumber
    ) throws -> (OrganizationState, MerkleTree) {
        var (state, tree) = (state, tree)
        let records = try reader.records(from: state.sequence.next, limit: self.runRecords)
        guard !records.isEmpty else {
            throw LedgerError(code: .damaged, message: "record \(state.sequence.next) is missing")
        }
        for record in records where record.sequence <= last {
            try state.apply(try EntityChange(record.bytes))
            tree.push(LedgerHash.leaf(record.bytes))
        }
        return (state, tree)
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
            let result = try await self.queries.queryHere(
                entry,
                statement: ShardStatement(
                    sql: """
                        SELECT CAST(sequence AS BIGINT), epoch_us(recorded_at), entity_type, entity_id, action, actor_id, \
                        outcome, before, after FROM audit_log WHERE sequence BETWEEN \(first) AND \(end) ORDER BY sequence
                        """
                ),
                requirement: .atLeast(SequenceNumber(end)),
                limits: ShardQueryLimits(timeLimit: .seconds(60), resultBytesMax: Int.max, resultRowsMax: Self.rowsMax)
            )
            for try await batch in result.batches {
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
        } catch {
            response.failure = errorChain(error)
        }
        return response
    }
}

extension RebuildCheck.Result {
    /// Nil when a digest is malformed.
    init?(_ response: WireRebuildResponse) {
        guard let root = Digest(bytes: response.root), let storedRoot = Digest(bytes: response.storedRoot),
            let ledgerState = Digest(bytes: response.ledgerState),
            let columnarState = Digest(bytes: response.columnarState)
        else { return nil }
        self.init(
            size: response.size,
            entities: Int(clamping: response.entities),
            root: root,
            storedRoot: storedRoot,
            ledgerState: ledgerState,
            columnarState: columnarState
        )
    }
}
