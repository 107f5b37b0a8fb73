internal import Columnar
internal import Primitives

/// The view of one type of entities: their state with a column for each member.
enum TypeView {
    /// The columns with which every view begins, each with what it is of `entities`.
    private static let fixed: [(column: ColumnDefinition, source: String)] = [
        (ColumnDefinition("organization", .utf8, comment: "key of the organization"), "organization"),
        (ColumnDefinition("entity_id", .utf8, comment: "identifies the entity among those of its type"), "entity_id"),
        (ColumnDefinition("entity_status", .utf8, comment: "present, archived or deleted"), "status"),
        (ColumnDefinition("entity_version", .uint64, comment: "how many records have changed it"), "version"),
        (ColumnDefinition("first_sequence", .uint64, comment: "the first record that changed it"), "first_sequence"),
        (ColumnDefinition("last_sequence", .uint64, comment: "the last record that changed it"), "last_sequence"),
        (
            ColumnDefinition("first_recorded_at", .timestampMicros, comment: "when the first one was recorded, UTC"),
            "first_recorded_at"
        ),
        (
            ColumnDefinition("last_recorded_at", .timestampMicros, comment: "when the last one was recorded, UTC"),
            "last_recorded_at"
        ),
        (ColumnDefinition("last_action", .utf8, comment: "action of the last one"), "last_action"),
        (ColumnDefinition("last_actor", .utf8, comment: "id of the actor of the last one"), "last_actor"),
    ]

    /// The names of those columns.
    static let fixedColumns = Set(fixed.map(\.column.name))

    /// What users see.
    static func table(of type: EntityType) -> TableSchema {
        TableSchema(
            name: type.view,
            columns: self.fixed.map(\.column) + type.columns.map(self.column),
            comment:
                "one row an entity of the type \(String(decoding: type.type, as: UTF8.self)): its state after all records",
            isView: true
        )
    }

    private static func column(_ column: TypeColumn) -> ColumnDefinition {
        let type: ColumnType =
            switch column.kind {
            case .boolean: .bool
            case .number: .double
            case .timestamp: .timestampMicros
            case .text: .utf8
            case .json: .json
            }
        let values =
            switch column.kind {
            case .boolean: "truth values"
            case .number: "numbers"
            case .timestamp: "times, in UTC,"
            case .text: "texts"
            case .json: "lists and objects"
            }
        let pointer = String(decoding: column.pointer, as: UTF8.self)
        return ColumnDefinition(
            column.name,
            type,
            comment: "\(values) at \(pointer) of the state; since record \(column.sequence)"
        )
    }

    /// The statement that makes the view, or puts the place of what it was.
    static func definition(of type: EntityType) -> String {
        let columns =
            self.fixed.map { $0.source == $0.column.name ? $0.source : "\($0.source) AS \($0.column.name)" }
            + type.columns.map { "\(self.expression(of: $0)) AS \(quoteIdentifier($0.name))" }
        let name = quoteLiteral(String(decoding: type.type, as: UTF8.self))
        return """
            CREATE OR REPLACE VIEW \(quoteIdentifier(type.view)) AS \
            SELECT \(columns.joined(separator: ", ")) FROM entities WHERE entity_type = \(name)
            """
    }

    /// The values of the column's kind at its place, null for all others.
    private static func expression(of column: TypeColumn) -> String {
        let place = quoteLiteral(String(decoding: column.pointer, as: UTF8.self))
        let kind = "json_type(state, \(place))"
        let text = "json_extract_string(state, \(place))"
        switch column.kind {
        case .boolean: return "CASE WHEN \(kind) = 'BOOLEAN' THEN \(text) = 'true' END"
        case .number:
            return "CASE WHEN \(kind) IN ('UBIGINT', 'BIGINT', 'DOUBLE') THEN TRY_CAST(\(text) AS DOUBLE) END"
        case .text: return "CASE WHEN \(kind) = 'VARCHAR' THEN \(text) END"
        case .json: return "CASE WHEN \(kind) IN ('ARRAY', 'OBJECT') THEN json_extract(state, \(place)) END"
        case .timestamp:
            // Read with the offset that it says; as TIMESTAMP the engine would pass over it.
            return """
                CASE WHEN \(kind) = 'VARCHAR' AND \(text) LIKE '____-__-__T__:__:__%' \
                AND (\(text) LIKE '%Z' OR \(text)[-6] IN ('+', '-')) \
                THEN make_timestamp(epoch_us(TRY_CAST(\(text) AS TIMESTAMP WITH TIME ZONE))) END
                """
        }
    }
}
