internal import AuditLedger
internal import Columnar
internal import Primitives

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

    private static let sources: [(name: String, source: Source, comment: String)] = [
        ("organization", .text(.organization), "key of the organization"),
        ("sequence", .sequence, "the record's place in the organization's ledger, from 1 without a gap"),
        ("recorded_at", .recordedAt, "when the cluster took it, UTC; never earlier than the record before"),
        ("occurred_at", .occurredAt, "when it happened, UTC, as the client says; null when it does not"),
        ("actor_kind", .text(.actorKind), "user, api_key, service_account or system"),
        ("actor_id", .text(.actorID), "who did it"),
        ("actor_name", .text(.actorName), "the actor's name at that time"),
        ("actor_role", .text(.actorRole), "the actor's role at that time"),
        ("actor_on_behalf_of", .text(.actorOnBehalfOf), "for whom the actor did it"),
        ("action", .text(.action), "what was done"),
        ("entity_type", .text(.entityType), "kind of thing that it was done to, such as sample"),
        ("entity_id", .text(.entityID), "identifies the entity among those of its type"),
        ("before", .json(.before), "what the entity was before, or the part that changed"),
        ("after", .json(.after), "what the entity is after it, or the part that changed"),
        ("reason", .text(.reason), "why it was done"),
        ("severity", .text(.severity), "info, notice, warning or critical"),
        ("changed", .json(.changed), "the places at which before and after differ"),
        ("causation", .text(.causation), "what caused it, as the client names it"),
        ("correlation", .text(.correlation), "what it belongs to, as the client names it"),
        ("session", .text(.session), "the client's session"),
        ("personal", .json(.personal), "places that hold personal data"),
        ("compliance", .json(.compliance), "context of compliance"),
        ("outcome", .text(.outcome), "success, denied or failed"),
        ("request_id", .text(.requestID), "the request that brought it"),
        ("request_channel", .text(.requestChannel), "ui, api, qr, mcp, system or support"),
        ("request_ip", .text(.requestIP), "the address that it came from"),
        ("request_user_agent", .text(.requestUserAgent), "the program that sent it"),
        ("request_authentication", .text(.requestAuthentication), "how the caller was known"),
        ("previous", .text(.previous), "SHA-256 of the record before, in hexadecimal digits"),
        ("checksum", .checksum, "SHA-256 of this record, in hexadecimal digits"),
    ]

    static let table = TableSchema(
        name: "audit_log",
        columns: sources.map { ColumnDefinition($0.name, columnType(of: $0.source), comment: $0.comment) },
        comment: "one row a record of the organization's ledger"
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
