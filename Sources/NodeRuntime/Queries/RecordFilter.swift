internal import Columnar
internal import Laboratory
internal import Primitives
internal import QueryRouter

/// Finds the sequences of the records that a search matches, in the organization's columnar store.
struct RecordFilter: Sendable {
    let queries: ShardQueries
    let timeLimit: Duration

    /// Up to the search's limit, in its order.
    /// - Throws: ``QueryError`` or ``ShardError``.
    func sequences(matching search: RecordSearch, in entry: OrganizationEntry) async throws -> [SequenceNumber] {
        let result = try await self.queries.query(
            organization: entry.key,
            statement: ShardStatement(sql: Self.statement(search), texts: Self.texts(search)),
            requirement: search.isLatest ? .latest : .eventual,
            limits: ShardQueryLimits(
                timeLimit: self.timeLimit,
                resultBytesMax: RecordSearch.limitMax * 64 + 65_536,
                resultRowsMax: RecordSearch.limitMax
            )
        )
        var sequences: [SequenceNumber] = []
        for try await batch in result.batches {
            for row in 0..<batch.rowCount {
                guard let value = batch.int64(row: row, column: 0) else { continue }
                sequences.append(SequenceNumber(UInt64(value)))
            }
        }
        return sequences
    }

    /// What a record must be to be found, joined by AND; the cursor is not among it.
    static func conditions(_ search: RecordSearch) -> [String] {
        var conditions = search.equal.map { "\($0.column) = \(self.literal($0.value))" }
        if let reason = search.reason { conditions.append("contains(lower(reason), lower(\(self.literal(reason))))") }
        if let condition = search.condition { conditions.append(self.text(of: condition)) }
        if let compliance = search.compliance {
            let text = self.literal(compliance.text)
            conditions.append(
                compliance.pointer.map { "json_extract_string(compliance, \(self.literal($0))) = \(text)" }
                    ?? "contains(lower(compliance), lower(\(text)))"
            )
        }
        if search.hidesReserved { conditions.append("(\(AuditLogDataset.reservedCondition)) IS NOT TRUE") }
        if let from = search.from { conditions.append("recorded_at >= make_timestamp(\(from.rawValue))") }
        if let to = search.to { conditions.append("recorded_at < make_timestamp(\(to.rawValue))") }
        return conditions
    }

    static func statement(_ search: RecordSearch) -> String {
        var conditions = self.conditions(search)
        if let cursor = search.cursor {
            conditions.append("sequence \(search.isDescending ? "<=" : ">=") \(cursor.rawValue)")
        }
        return """
            SELECT CAST(sequence AS BIGINT) FROM audit_log
            WHERE \(conditions.joined(separator: " AND "))
            ORDER BY sequence \(search.isDescending ? "DESC" : "ASC") LIMIT \(search.limit)
            """
    }

    /// What the same search says of texts; nil when that is nothing.
    static func texts(_ search: RecordSearch) -> TextSearch? {
        var conditions: [TextSearch.Condition] = []
        if let reason = search.reason { conditions.append(.contains(.reason, reason)) }
        if let condition = search.condition { conditions.append(self.texts(of: condition)) }
        if let compliance = search.compliance, compliance.pointer == nil {
            conditions.append(.contains(.compliance, compliance.text))
        }
        guard conditions.contains(where: \.saysSomething) else { return nil }
        // Alone it is compared as fast as it is looked up; other columns hold few different texts, which stand everywhere.
        conditions += search.equal.filter { $0.column == RecordCondition.Column.entityID.rawValue }
            .map { .equals(.entityID, $0.value) }
        return TextSearch(
            .all(conditions),
            first: search.isDescending ? nil : search.cursor,
            last: search.isDescending ? search.cursor : nil
        )
    }

    private static func texts(of condition: RecordCondition) -> TextSearch.Condition {
        switch condition {
        case .equal(let column, let value): self.column(column).map { .equals($0, value) } ?? .anything
        case .oneOf(let column, let values):
            self.column(column).map { column in .any(values.map { .equals(column, $0) }) } ?? .anything
        case .contains(let column, let text): self.column(column).map { .contains($0, text) } ?? .anything
        case .any(let parts): .any(parts.map(self.texts))
        case .all(let parts): .all(parts.map(self.texts))
        }
    }

    private static func column(_ column: RecordCondition.Column) -> TextSearch.Column? {
        switch column {
        case .action: .action
        case .actorID: nil
        case .after: .after
        case .before: .before
        case .compliance: .compliance
        case .entityID: .entityID
        case .entityType: .entityType
        case .reason: .reason
        }
    }

    private static func text(of condition: RecordCondition) -> String {
        switch condition {
        case .equal(let column, let value): "\(column.rawValue) = \(self.literal(value))"
        case .oneOf(let column, let values):
            "\(column.rawValue) IN (\(values.map(self.literal).joined(separator: ", ")))"
        case .contains(let column, let text):
            "coalesce(contains(lower(\(column.rawValue)), lower(\(self.literal(text)))), false)"
        case .any(let conditions): "(\(conditions.map(self.text).joined(separator: " OR ")))"
        case .all(let conditions): "(\(conditions.map(self.text).joined(separator: " AND ")))"
        }
    }

    /// A text as an SQL literal.
    private static func literal(_ text: String) -> String { quoteLiteral(text) }
}
