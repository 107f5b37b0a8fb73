internal import AuditLedger
internal import Columnar
internal import Primitives
internal import Shards

/// The table `audit_log`: one row a record, one typed column a field.
enum AuditLogDataset {
    /// How a column is filled.
    private enum Source {
        case text(RecordField)
        case json(RecordField)
        case recordedAt
        case occurredAt
        case sequence
        case checksum
    }

    private static let sources: [(name: String, source: Source)] = [
        ("organization", .text(.organization)),
        ("sequence", .sequence),
        ("recorded_at", .recordedAt),
        ("occurred_at", .occurredAt),
        ("actor_kind", .text(.actorKind)),
        ("actor_id", .text(.actorID)),
        ("actor_name", .text(.actorName)),
        ("actor_role", .text(.actorRole)),
        ("actor_on_behalf_of", .text(.actorOnBehalfOf)),
        ("action", .text(.action)),
        ("entity_type", .text(.entityType)),
        ("entity_id", .text(.entityID)),
        ("before", .json(.before)),
        ("after", .json(.after)),
        ("reason", .text(.reason)),
        ("severity", .text(.severity)),
        ("changed", .json(.changed)),
        ("causation", .text(.causation)),
        ("correlation", .text(.correlation)),
        ("session", .text(.session)),
        ("personal", .json(.personal)),
        ("compliance", .json(.compliance)),
        ("outcome", .text(.outcome)),
        ("request_id", .text(.requestID)),
        ("request_channel", .text(.requestChannel)),
        ("request_ip", .text(.requestIP)),
        ("request_user_agent", .text(.requestUserAgent)),
        ("request_authentication", .text(.requestAuthentication)),
        ("previous", .text(.previous)),
        ("checksum", .checksum),
    ]

    static let table = TableSchema(
        name: "audit_log",
        columns: sources.map { ColumnDefinition($0.name, columnType(of: $0.source)) }
    )

    private static func columnType(of source: Source) -> ColumnType {
        switch source {
        case .text, .checksum: .utf8
        case .json: .json
        case .recordedAt, .occurredAt: .timestampMicros
        case .sequence: .uint64
        }
    }

    /// The rows of `records`, in order.
    /// - Throws: ``LedgerError`` when a record cannot be read, ``ColumnarError`` when a value does not fit.
    static func batch(of records: [StoredRecord]) throws -> ColumnBatch {
        var columns = self.table.columns.map { ColumnBuilder($0.type, capacity: records.count) }
        var checksum: [UInt8] = []
        for record in records {
            let fields = try RecordFields(scanning: record.bytes)
            for (place, column) in self.sources.enumerated() {
                switch column.source {
                case .text(let field):
                    if let text = fields.textSlice(field) {
                        try columns[place].append(utf8: text)
                    } else {
                        columns[place].appendNull()
                    }
                case .json(let field):
                    if let json = fields.json(field), json.first != UInt8(ascii: "n") {
                        try columns[place].append(utf8: json)
                    } else {
                        columns[place].appendNull()
                    }
                case .recordedAt: columns[place].append(fields.recordedAt.rawValue)
                case .occurredAt:
                    if let time = fields.occurredAt {
                        columns[place].append(time.rawValue)
                    } else {
                        columns[place].appendNull()
                    }
                case .sequence: columns[place].append(record.sequence.rawValue)
                case .checksum:
                    checksum.removeAll(keepingCapacity: true)
                    LedgerHash.leaf(record.bytes).appendHex(to: &checksum)
                    try columns[place].append(utf8: checksum)
                }
            }
        }
        return try ColumnBatch(columns: columns)
    }
}
