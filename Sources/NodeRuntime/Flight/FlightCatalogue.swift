internal import Columnar
internal import Primitives

extension CatalogueCommand {
    /// The columns of the answer, as the protocol wants them.
    /// - Source: Apache Arrow, «Arrow Flight SQL», the comments of each command
    var schema: ArrowSchema {
        switch self {
        case .sqlInfo: return FlightSQLInfo.schema
        case .typeInfo: return FlightTypeInfo.schema
        case .catalogs: return Self.fields(("catalog_name", .utf8, false))
        case .schemas: return Self.fields(("catalog_name", .utf8, true), ("db_schema_name", .utf8, false))
        case .tables(let command):
            var schema = Self.fields(
                ("catalog_name", .utf8, true),
                ("db_schema_name", .utf8, true),
                ("table_name", .utf8, false),
                ("table_type", .utf8, false)
            )
            if command.includeSchema { schema.fields.append(ArrowField("table_schema", .binary, nullable: false)) }
            return schema
        case .tableTypes: return Self.fields(("table_type", .utf8, false))
        case .primaryKeys:
            return Self.fields(
                ("catalog_name", .utf8, true),
                ("db_schema_name", .utf8, true),
                ("table_name", .utf8, false),
                ("column_name", .utf8, false),
                ("key_sequence", .int32, false),
                ("key_name", .utf8, true)
            )
        case .foreignKeys:
            return Self.fields(
                ("pk_catalog_name", .utf8, true),
                ("pk_db_schema_name", .utf8, true),
                ("pk_table_name", .utf8, false),
                ("pk_column_name", .utf8, false),
                ("fk_catalog_name", .utf8, true),
                ("fk_db_schema_name", .utf8, true),
                ("fk_table_name", .utf8, false),
                ("fk_column_name", .utf8, false),
                ("key_sequence", .int32, false),
                ("fk_key_name", .utf8, true),
                ("pk_key_name", .utf8, true),
                ("update_rule", .uint8, false),
                ("delete_rule", .uint8, false)
            )
        }
    }

    static func fields(_ fields: (name: String, type: ArrowType, nullable: Bool)...) -> ArrowSchema {
        ArrowSchema(fields: fields.map { ArrowField($0.name, $0.type, nullable: $0.nullable) })
    }
}

/// One table as clients see it.
struct FlightTable: Sendable {
    /// The words of `table_type`.
    enum Kind: String, CaseIterable, Sendable {
        case table = "BASE TABLE"
        case view = "VIEW"
    }

    var catalog: String
    var name: String
    var kind: Kind
    var schema: ArrowSchema

    /// A table or view of an organization.
    init(_ table: TableSchema, of organization: OrganizationKey) {
        self.catalog = organization.rawValue
        self.name = table.name
        self.kind = table.isView ? .view : .table
        self.schema = ArrowSchema(
            fields: table.columns.map { column in
                let (type, name) = Self.type(column.type)
                var metadata = [
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:CATALOG_NAME", value: organization.rawValue),
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:SCHEMA_NAME", value: FlightSession.schemaName),
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:TABLE_NAME", value: table.name),
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:TYPE_NAME", value: name),
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:IS_READ_ONLY", value: "1"),
                    ArrowMetadata(key: "ARROW:FLIGHT:SQL:IS_SEARCHABLE", value: "1"),
                ]
                if !column.comment.isEmpty {
                    metadata.append(ArrowMetadata(key: "ARROW:FLIGHT:SQL:REMARKS", value: column.comment))
                }
                if column.type == .json {
                    metadata.append(ArrowMetadata(key: ArrowField.engineTypeKey, value: name))
                }
                return ArrowField(column.name, type, nullable: column.nullable, metadata: metadata)
            }
        )
    }

    private static func type(_ type: ColumnType) -> (ArrowType, String) {
        switch type {
        case .bool: (.bool, type.sqlName)
        case .int64: (.int64, type.sqlName)
        case .uint64: (.uint64, type.sqlName)
        case .double: (.float64, type.sqlName)
        case .timestampMicros: (.timestamp(.microsecond, timezone: nil), type.sqlName)
        case .utf8, .json: (.utf8, type.sqlName)
        }
    }

    /// Whether one of the kinds that a client names is the table's; none named means all.
    ///
    /// Clients write `TABLE`, `table` and `BASE TABLE` for the same.
    func isOne(of kinds: [String]) -> Bool {
        guard !kinds.isEmpty else { return true }
        return kinds.contains { name in
            let name = name.uppercased()
            return name == self.kind.rawValue || (name == "TABLE" && self.kind == .table)
        }
    }
}

/// Patterns of SQL's LIKE: `%` any characters, `_` any one, `\` takes the next one as it is.
enum LikePattern {
    /// Whether the whole text fits; linear in memory, at worst the product of both lengths in time.
    static func matches(_ text: String, _ pattern: String) -> Bool {
        enum Piece {
            case any
            case one
            case exactly(Unicode.Scalar)
        }
        var pieces: [Piece] = []
        var isEscaped = false
        for scalar in pattern.unicodeScalars {
            if isEscaped {
                pieces.append(.exactly(scalar))
                isEscaped = false
            } else {
                switch scalar {
                case "\\": isEscaped = true
                case "%": pieces.append(.any)
                case "_": pieces.append(.one)
                default: pieces.append(.exactly(scalar))
                }
            }
        }
        // Which prefixes of the pattern fit the text so far.
        var fits = [true] + pieces.map { _ in false }
        for (index, piece) in pieces.enumerated() {
            if case .any = piece { fits[index + 1] = fits[index] } else { break }
        }
        for scalar in text.unicodeScalars {
            var next = fits.map { _ in false }
            for (index, piece) in pieces.enumerated() {
                switch piece {
                case .any: next[index + 1] = fits[index + 1] || next[index] || fits[index]
                case .one: next[index + 1] = fits[index]
                case .exactly(let wanted): next[index + 1] = fits[index] && wanted == scalar
                }
            }
            fits = next
        }
        return fits[pieces.count]
    }
}
