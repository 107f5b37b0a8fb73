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

    /// The rows of ``ReservedRecords``, for queries by callers who may not see them.
    static let reservedRows = [HiddenRows(table: table.name, condition: reservedCondition)]

    /// Holds for reserved records.
    static let reservedCondition: String = {
        let actions = ReservedRecords.actions.map { "'\($0)'" }.joined(separator: ", ")
        return "action IN (\(actions)) OR entity_type = '\(ReservedRecords.entityType)'"
    }()

    private static func columnType(of source: Source) -> ColumnType {
        switch source {
        case .text, .checksum: .utf8
        case .json: .json
        case .recordedAt, .occurredAt: .timestampMicros
        case .sequence: .uint64
        }
    }

    /// The rows of `records`, in order.
    ///
    /// Texts are not copied one by one: the columns name their places in the records. The checksum of a record is what
    /// the one after it says; only the last one's is computed.
    /// - Throws: ``LedgerError`` when a record cannot be read, ``ColumnarError`` when a value does not fit.
    static func batch(of records: [StoredRecord]) throws -> ColumnBatch {
        var columns = self.table.columns.map { ColumnBuilder($0.type, capacity: records.count, sharesTexts: true) }
        var texts: [UInt8] = []
        texts.reserveCapacity(records.reduce(Self.checksumBytes) { $0 + $1.bytes.count })
        for (row, record) in records.enumerated() {
            let fields = try RecordFields(scanning: record.bytes)
            let base = texts.count
            texts.append(contentsOf: record.bytes)
            if row > 0 {
                columns[Self.checksumPlace].append(
                    shared: self.checksum(of: records[row - 1], before: record, fields, base, &texts)
                )
            }
            for (place, column) in self.sources.enumerated() {
                switch column.source {
                case .text(let field):
                    if let text = fields.textPlace(field) {
                        columns[place].append(shared: base + text.lowerBound..<base + text.upperBound)
                    } else if let text = fields.textBytes(field) {
                        columns[place].append(shared: texts.count..<texts.count + text.count)
                        texts.append(contentsOf: text)
                    } else {
                        columns[place].appendNull()
                    }
                case .json(let field):
                    if let json = fields.range(field), record.bytes[json.lowerBound] != UInt8(ascii: "n") {
                        columns[place].append(shared: base + json.lowerBound..<base + json.upperBound)
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
                case .checksum: break
                }
            }
        }
        if let last = records.last {
            columns[Self.checksumPlace].append(shared: self.append(LedgerHash.leaf(last.bytes), to: &texts))
        }
        return try ColumnBatch(columns: columns, texts: texts)
    }

    private static let checksumBytes = Digest.byteCount * 2
    private static let checksumPlace = sources.count - 1

    /// Where the checksum of `record` stands in the record after it, or is written to now when that is another one.
    private static func checksum(
        of record: StoredRecord,
        before next: StoredRecord,
        _ fields: RecordFields,
        _ base: Int,
        _ texts: inout [UInt8]
    ) -> Range<Int> {
        if record.sequence.next == next.sequence, let previous = fields.textPlace(.previous),
            previous.count == self.checksumBytes
        {
            return base + previous.lowerBound..<base + previous.upperBound
        }
        return self.append(LedgerHash.leaf(record.bytes), to: &texts)
    }

    private static func append(_ checksum: Digest, to texts: inout [UInt8]) -> Range<Int> {
        let start = texts.count
        checksum.appendHex(to: &texts)
        return start..<texts.count
    }
}
