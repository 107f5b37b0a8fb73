internal import AuditLedger
internal import Columnar
internal import Primitives

/// Compares what is derived from `audit_log` with the records of the ledger, a run of consecutive records at a time.
///
/// Each run needs only its own rows and the states before it, which the runs before have found right. So nothing grows
/// with the number of entities. `entities` is compared with it: its rows are the history's rows that are still valid.
struct EntityAudit {
    /// What is wrong, and with the rows of which record.
    struct Difference: Error, Sendable, Equatable {
        let sequence: SequenceNumber
        let detail: String
    }

    /// Runs a SELECT on the store as of the last record that is compared.
    typealias Rows = (String) async throws -> [ArrowRecordBatch]

    /// Rows that were compared.
    private(set) var rows: UInt64 = 0
    private var catalog = DatasetStorage.emptyCatalog()
    private var findings: [TypeCatalog.Finding] = []

    /// A row of `entity_history`, without its organization.
    private struct Row: Equatable {
        var name: EntityName
        var sequence: SequenceNumber
        var validFrom: Timestamp
        var validTo: Timestamp?
        var validToSequence: SequenceNumber?
        var status: String
        var state: [UInt8]?
        var version: UInt64
        var action: String
        var actor: String
        var firstSequence: SequenceNumber
        var firstRecordedAt: Timestamp

        init(_ state: EntityState, text: [UInt8], until: (SequenceNumber, Timestamp)? = nil) {
            self.name = state.name
            self.sequence = state.lastSequence
            self.validFrom = state.lastRecordedAt
            self.validToSequence = until?.0
            self.validTo = until?.1
            self.status = state.status.rawValue
            self.state = state.value.isNull ? nil : text
            self.version = state.version
            self.action = state.lastAction
            self.actor = state.lastActor
            self.firstSequence = state.firstSequence
            self.firstRecordedAt = state.firstRecordedAt
        }

        init(_ batch: ArrowRecordBatch, _ row: Int) {
            func number(_ column: Int) -> UInt64 { UInt64(clamping: batch.int64(row: row, column: column) ?? 0) }
            func time(_ column: Int) -> Timestamp {
                Timestamp(microseconds: batch.int64(row: row, column: column) ?? 0)
            }
            self.name = EntityName(
                type: batch.utf8(row: row, column: 0) ?? [],
                id: batch.utf8(row: row, column: 1) ?? []
            )
            self.sequence = SequenceNumber(number(2))
            self.validFrom = time(3)
            self.validTo = batch.isNull(row: row, column: 4) ? nil : time(4)
            self.validToSequence = batch.isNull(row: row, column: 5) ? nil : SequenceNumber(number(5))
            self.status = batch.string(row: row, column: 6) ?? ""
            self.state = batch.utf8(row: row, column: 7)
            self.version = number(8)
            self.action = batch.string(row: row, column: 9) ?? ""
            self.actor = batch.string(row: row, column: 10) ?? ""
            self.firstSequence = SequenceNumber(number(11))
            self.firstRecordedAt = time(12)
        }

        static let columns = """
            entity_type, entity_id, sequence, epoch_us(valid_from), epoch_us(valid_to), valid_to_sequence, status, state, \
            version, action, actor, first_sequence, epoch_us(first_recorded_at), organization
            """

        /// The state, for folding on from it; nil when it cannot be one.
        var entry: EntityProjection.Entry? {
            guard let status = EntityStatus(rawValue: self.status) else { return nil }
            guard let value = self.state.map({ try? JSONParser.parse(canonical: $0) }) ?? JSONValue.null else {
                return nil
            }
            return EntityProjection.Entry(
                state: EntityState(
                    name: self.name,
                    status: status,
                    value: value,
                    version: self.version,
                    firstSequence: self.firstSequence,
                    lastSequence: self.sequence,
                    firstRecordedAt: self.firstRecordedAt,
                    lastRecordedAt: self.validFrom,
                    lastAction: self.action,
                    lastActor: self.actor
                ),
                text: self.state
            )
        }
    }

    /// Compares the rows of the next records.
    /// - Throws: ``Difference``; ``LedgerError`` for a damaged record; what `rows` throws.
    mutating func compare(_ records: [StoredRecord], _ rows: Rows) async throws {
        guard let first = records.first?.sequence, let last = records.last?.sequence else { return }
        var earlier: [EntityName: Row] = [:]
        for batch in try await rows(Self.earlierStatement(first, last)) {
            for row in 0..<batch.rowCount {
                let found = Row(batch, row)
                guard earlier.updateValue(found, forKey: found.name) == nil else {
                    throw Difference(sequence: found.sequence, detail: "an entity has two states at once")
                }
            }
        }
        var projection = EntityProjection(earlier.values.compactMap(\.entry))
        for record in records {
            let change = try EntityChange(record.bytes)
            if projection.apply(change) { self.findings += self.catalog.observe(change) }
        }
        let expected = try Self.expected(&projection, from: first, earlier)
        var place = 0
        let statement =
            "SELECT \(Row.columns) FROM entity_history WHERE sequence BETWEEN \(first) AND \(last) ORDER BY sequence"
        for batch in try await rows(statement) {
            for row in 0..<batch.rowCount {
                var found = Row(batch, row)
                // When it ended later, a later run compares with what.
                if let end = found.validToSequence, end > last { (found.validTo, found.validToSequence) = (nil, nil) }
                guard place < expected.count, expected[place] == found else {
                    let sequence = min(
                        found.sequence,
                        place < expected.count ? expected[place].sequence : found.sequence
                    )
                    throw Difference(
                        sequence: sequence,
                        detail: "the state is not what the record gives, or not there once"
                    )
                }
                place += 1
            }
        }
        guard place == expected.count else {
            throw Difference(sequence: expected[place].sequence, detail: "the state that the record gives is not there")
        }
        self.rows += UInt64(place)
    }

    /// The states that were valid before the run, of the entities that it names.
    private static func earlierStatement(_ first: SequenceNumber, _ last: SequenceNumber) -> String {
        """
        SELECT \(Row.columns) FROM entity_history \
        WHERE sequence < \(first) AND (valid_to_sequence IS NULL OR valid_to_sequence >= \(first)) \
        AND (entity_type, entity_id) IN (SELECT entity_type, entity_id FROM audit_log \
        WHERE sequence BETWEEN \(first) AND \(last))
        """
    }

    /// The rows that the run should have, after a look at where it ends those before.
    private static func expected(
        _ projection: inout EntityProjection,
        from first: SequenceNumber,
        _ earlier: [EntityName: Row]
    ) throws -> [Row] {
        var expected: [Row] = []
        for ended in projection.ended {
            let row = Row(ended.state, text: ended.text, until: (ended.by, ended.at))
            if row.sequence >= first {
                expected.append(row)
            } else {
                guard earlier[row.name] == row else {
                    throw Difference(sequence: row.sequence, detail: "the state does not end where the next one begins")
                }
            }
        }
        for (state, text) in projection.states() where state.lastSequence >= first {
            expected.append(Row(state, text: text))
        }
        return expected.sorted { $0.sequence < $1.sequence }
    }

    /// Looks for rows that no record gives, and compares the columns of the views; after the last run.
    /// - Parameter rows: Runs a SELECT on the store as it is.
    /// - Throws: ``Difference``; what `rows` throws.
    func finish(_ last: SequenceNumber, _ rows: Rows) async throws {
        for batch in try await rows(
            """
            SELECT coalesce(sequence, 0::UBIGINT) FROM entity_history WHERE sequence IS NULL OR sequence < 1 \
            OR sequence > (SELECT coalesce(max(sequence), 0::UBIGINT) FROM audit_log) \
            OR valid_to_sequence > (SELECT coalesce(max(sequence), 0::UBIGINT) FROM audit_log) LIMIT 1
            """
        ) where batch.rowCount > 0 {
            let sequence = SequenceNumber(UInt64(clamping: batch.int64(row: 0, column: 0) ?? 0))
            throw Difference(sequence: sequence, detail: "a state stands where no record gives one")
        }
        var found: [TypeCatalog.Finding] = []
        for batch in try await rows(DatasetStorage.findingsStatement) {
            for row in 0..<batch.rowCount { found.append(try DatasetStorage.finding(batch, row)) }
        }
        // What newer records have brought is not compared.
        let known = found.prefix(self.findings.count)
        guard Array(known) == self.findings, found.dropFirst(known.count).allSatisfy({ Self.sequence(of: $0) > last })
        else {
            let place = zip(known, self.findings).firstIndex { $0 != $1 } ?? min(known.count, self.findings.count)
            let sequence = place < self.findings.count ? Self.sequence(of: self.findings[place]) : last
            throw Difference(sequence: sequence, detail: "the columns of a view are not those that the record gives")
        }
    }

    private static func sequence(of finding: TypeCatalog.Finding) -> SequenceNumber {
        switch finding {
        case .type(let type): type.sequence
        case .column(let column, _): column.sequence
        }
    }
}

extension Sequence {
    /// The place of the first element for which `matches` holds.
    fileprivate func firstIndex(where matches: (Element) -> Bool) -> Int? {
        self.enumerated().first { matches($0.element) }?.offset
    }
}
