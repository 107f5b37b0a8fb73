internal import AuditLedger
internal import Columnar
internal import Primitives

/// The tables `entities` and `entity_history`: what entities are and were, by ``EntityFold``.
///
/// The states of now are rows of `entities`; those that ended are rows of a table of their own, to which rows are only
/// added. `entity_history` shows both.
enum EntityDataset {
    /// The table of the states that ended.
    static let endedTable = "_entity_history"

    static let entities = TableSchema(
        name: "entities",
        columns: [
            ColumnDefinition("organization", .utf8, comment: "key of the organization"),
            ColumnDefinition("entity_type", .utf8, comment: "kind of thing, such as sample"),
            ColumnDefinition("entity_id", .utf8, comment: "identifies the entity among those of its type"),
            ColumnDefinition("status", .utf8, comment: "present, archived or deleted"),
            ColumnDefinition(
                "state",
                .json,
                comment: "what the records up to now say of it; null when none says anything"
            ),
            ColumnDefinition("version", .uint64, comment: "how many records have changed it"),
            ColumnDefinition("first_sequence", .uint64, comment: "the first record that changed it"),
            ColumnDefinition("last_sequence", .uint64, comment: "the last record that changed it"),
            ColumnDefinition("first_recorded_at", .timestampMicros, comment: "when the first one was recorded, UTC"),
            ColumnDefinition("last_recorded_at", .timestampMicros, comment: "when the last one was recorded, UTC"),
            ColumnDefinition("last_action", .utf8, comment: "action of the last one"),
            ColumnDefinition("last_actor", .utf8, comment: "id of the actor of the last one"),
        ],
        comment: "one row an entity: its state after all records"
    )

    static let history = TableSchema(
        name: "entity_history",
        columns: [
            ColumnDefinition("organization", .utf8, comment: "key of the organization"),
            ColumnDefinition("entity_type", .utf8, comment: "kind of thing, such as sample"),
            ColumnDefinition("entity_id", .utf8, comment: "identifies the entity among those of its type"),
            ColumnDefinition(
                "sequence",
                .uint64,
                comment: "the record that brought this state; it is valid from there on"
            ),
            ColumnDefinition("valid_from", .timestampMicros, comment: "when that record was recorded, UTC"),
            ColumnDefinition(
                "valid_to",
                .timestampMicros,
                comment: "when the next state came, UTC; null while it is valid"
            ),
            ColumnDefinition(
                "valid_to_sequence",
                .uint64,
                comment: "the record that brought the next state; null while it is valid"
            ),
            ColumnDefinition("status", .utf8, comment: "present, archived or deleted"),
            ColumnDefinition("state", .json, comment: "the state after the record; null when none says anything"),
            ColumnDefinition(
                "version",
                .uint64,
                comment: "1 for the entity's first state, one more for each further one"
            ),
            ColumnDefinition("action", .utf8, comment: "action of the record"),
            ColumnDefinition("actor", .utf8, comment: "id of the record's actor"),
            ColumnDefinition("first_sequence", .uint64, comment: "the first record that changed the entity"),
            ColumnDefinition("first_recorded_at", .timestampMicros, comment: "when that was recorded, UTC"),
        ],
        comment: "one row a state that an entity has or had, with the time and the records between which it was valid",
        isView: true
    )

    // MARK: Definitions

    /// Every state, read from the tables of `catalog`, or from those of the view's own.
    private static func states(in catalog: String?) -> String {
        let place = catalog.map { "\(quoteIdentifier($0)).main." } ?? ""
        let columns = self.history.columns.map(\.name).joined(separator: ", ")
        return """
            SELECT \(columns) FROM \(place)\(self.endedTable) UNION ALL
            SELECT organization, entity_type, entity_id, last_sequence, last_recorded_at, CAST(NULL AS TIMESTAMP), \
            CAST(NULL AS UBIGINT), status, state, version, last_action, last_actor, first_sequence, first_recorded_at \
            FROM \(place)entities
            """
    }

    /// The statements that make the tables that are not there.
    static var definitions: [String] {
        [
            self.entities.createStatement,
            TableSchema(name: self.endedTable, columns: self.history.columns).createStatement,
            "CREATE VIEW IF NOT EXISTS entity_history AS \(self.states(in: nil))",
        ]
    }

    /// The statements that remove them.
    static let removals = [
        "DROP VIEW IF EXISTS entity_history", "DROP TABLE IF EXISTS \(endedTable)", "DROP TABLE IF EXISTS entities",
    ]

    /// `entities` as it was after the record.
    static func entities(asOf sequence: SequenceNumber, in catalog: String) -> String {
        """
        SELECT organization, entity_type, entity_id, status, state, version, first_sequence, sequence AS last_sequence, \
        first_recorded_at, valid_from AS last_recorded_at, action AS last_action, actor AS last_actor \
        FROM (\(self.states(in: catalog))) \
        WHERE sequence <= \(sequence) AND (valid_to_sequence IS NULL OR valid_to_sequence > \(sequence))
        """
    }

    /// `entity_history` as it was after the record.
    static func history(asOf sequence: SequenceNumber, in catalog: String) -> String {
        let columns = self.history.columns.map { column in
            guard column.name.hasPrefix("valid_to") else { return column.name }
            return "CASE WHEN valid_to_sequence <= \(sequence) THEN \(column.name) END AS \(column.name)"
        }
        return """
            SELECT \(columns.joined(separator: ", ")) FROM (\(self.states(in: catalog))) WHERE sequence <= \(sequence)
            """
    }

    // MARK: Rows

    /// The columns that ``change(_:_:)`` reads, of `audit_log`.
    static let changeColumns =
        "organization, sequence, epoch_us(recorded_at), entity_type, entity_id, action, actor_id, outcome, before, after"

    /// What folding needs of a row with ``changeColumns``.
    /// - Throws: ``LedgerError`` `.damaged` when a state in it is no JSON.
    static func change(_ batch: ArrowRecordBatch, _ row: Int) throws -> EntityChange {
        func text(_ column: Int) -> String { batch.string(row: row, column: column) ?? "" }
        func value(_ column: Int) throws -> JSONValue {
            guard let text = batch.utf8(row: row, column: column) else { return .null }
            return try JSONParser.parse(canonical: text)
        }
        return EntityChange(
            name: EntityName(
                type: batch.utf8(row: row, column: 3) ?? [],
                id: batch.utf8(row: row, column: 4) ?? []
            ),
            sequence: SequenceNumber(UInt64(batch.int64(row: row, column: 1) ?? 0)),
            recordedAt: Timestamp(microseconds: batch.int64(row: row, column: 2) ?? 0),
            action: text(5),
            actor: text(6),
            outcome: Outcome(rawValue: text(7)) ?? .failed,
            before: try value(8),
            after: try value(9)
        )
    }

    /// The columns that ``entry(_:_:)`` reads, of `entities`.
    static let entryColumns = """
        entity_type, entity_id, status, state, version, first_sequence, last_sequence, epoch_us(first_recorded_at), \
        epoch_us(last_recorded_at), last_action, last_actor
        """

    /// The same, of `entity_history`.
    static let stateColumns = """
        entity_type, entity_id, status, state, version, first_sequence, sequence, epoch_us(first_recorded_at), \
        epoch_us(valid_from), action, actor
        """

    /// The state in a row with ``entryColumns`` or ``stateColumns``.
    static func entry(_ batch: ArrowRecordBatch, _ row: Int) throws -> EntityProjection.Entry {
        func sequence(_ column: Int) -> SequenceNumber {
            SequenceNumber(UInt64(batch.int64(row: row, column: column) ?? 0))
        }
        func time(_ column: Int) -> Timestamp { Timestamp(microseconds: batch.int64(row: row, column: column) ?? 0) }
        let text = batch.utf8(row: row, column: 3)
        guard let status = EntityStatus(rawValue: batch.string(row: row, column: 2) ?? "") else {
            throw ColumnarError(.damaged, "an entity has a status that there is not")
        }
        return EntityProjection.Entry(
            state: EntityState(
                name: EntityName(
                    type: batch.utf8(row: row, column: 0) ?? [],
                    id: batch.utf8(row: row, column: 1) ?? []
                ),
                status: status,
                value: try text.map { try JSONParser.parse(canonical: $0) } ?? .null,
                version: UInt64(batch.int64(row: row, column: 4) ?? 0),
                firstSequence: sequence(5),
                lastSequence: sequence(6),
                firstRecordedAt: time(7),
                lastRecordedAt: time(8),
                lastAction: batch.string(row: row, column: 9) ?? "",
                lastActor: batch.string(row: row, column: 10) ?? ""
            ),
            text: text
        )
    }

    /// The rows of `entities`.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when a text is not UTF-8.
    static func batch(
        of states: [(state: EntityState, text: [UInt8])],
        organization: String
    ) throws -> ColumnBatch {
        var columns = self.entities.columns.map { ColumnBuilder($0.type, capacity: states.count) }
        for (state, text) in states {
            columns[0].append(organization)
            try columns[1].append(utf8: state.name.type)
            try columns[2].append(utf8: state.name.id)
            columns[3].append(state.status.rawValue)
            if state.value.isNull { columns[4].appendNull() } else { try columns[4].append(utf8: text) }
            columns[5].append(state.version)
            columns[6].append(state.firstSequence.rawValue)
            columns[7].append(state.lastSequence.rawValue)
            columns[8].append(state.firstRecordedAt.rawValue)
            columns[9].append(state.lastRecordedAt.rawValue)
            columns[10].append(state.lastAction)
            columns[11].append(state.lastActor)
        }
        return try ColumnBatch(columns: columns)
    }

    /// The rows of the states that ended.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when a text is not UTF-8.
    static func batch(of ended: [EntityProjection.Ended], organization: String) throws -> ColumnBatch {
        var columns = self.history.columns.map { ColumnBuilder($0.type, capacity: ended.count) }
        for row in ended {
            columns[0].append(organization)
            try columns[1].append(utf8: row.state.name.type)
            try columns[2].append(utf8: row.state.name.id)
            columns[3].append(row.state.lastSequence.rawValue)
            columns[4].append(row.state.lastRecordedAt.rawValue)
            columns[5].append(row.at.rawValue)
            columns[6].append(row.by.rawValue)
            columns[7].append(row.state.status.rawValue)
            if row.state.value.isNull { columns[8].appendNull() } else { try columns[8].append(utf8: row.text) }
            columns[9].append(row.state.version)
            columns[10].append(row.state.lastAction)
            columns[11].append(row.state.lastActor)
            columns[12].append(row.state.firstSequence.rawValue)
            columns[13].append(row.state.firstRecordedAt.rawValue)
        }
        return try ColumnBatch(columns: columns)
    }
}
