/// Unit of an Arrow time or timestamp.
package enum ArrowTimeUnit: Int, Hashable, Sendable {
    case second = 0
    case millisecond = 1
    case microsecond = 2
    case nanosecond = 3

    /// Units in one second.
    package var perSecond: Int64 {
        switch self {
        case .second: 1
        case .millisecond: 1_000
        case .microsecond: 1_000_000
        case .nanosecond: 1_000_000_000
        }
    }
}

/// The logical types that this module carries.
///
/// - Source: Arrow columnar format 1.5, Schema.fbs
package indirect enum ArrowType: Hashable, Sendable {
    case null
    case bool
    case int8
    case int16
    case int32
    case int64
    case uint8
    case uint16
    case uint32
    case uint64
    case float32
    case float64
    case decimal128(precision: Int, scale: Int)
    case utf8
    case binary
    case fixedSizeBinary(Int)
    case date32
    case time32(ArrowTimeUnit)
    case time64(ArrowTimeUnit)
    case timestamp(ArrowTimeUnit, timezone: String?)
    case intervalMonthDayNano
    case list(ArrowField)
    case fixedSizeList(ArrowField, Int)
    case structure([ArrowField])
    /// The field is the entries: a structure of a key and a value.
    case map(ArrowField, keysSorted: Bool)
    /// Each value is of one of the fields; the type numbers are the fields' places.
    case denseUnion([ArrowField])

    /// How the buffers of a column of this type are arranged.
    enum Layout: Equatable {
        case null
        case bits
        case fixed(byteWidth: Int)
        case variable
        case list
        case fixedList(Int)
        case structure
        case union
    }

    var layout: Layout {
        switch self {
        case .null: .null
        case .bool: .bits
        case .int8, .uint8: .fixed(byteWidth: 1)
        case .int16, .uint16: .fixed(byteWidth: 2)
        case .int32, .uint32, .float32, .date32, .time32: .fixed(byteWidth: 4)
        case .int64, .uint64, .float64, .time64, .timestamp: .fixed(byteWidth: 8)
        case .decimal128, .intervalMonthDayNano: .fixed(byteWidth: 16)
        case .fixedSizeBinary(let width): .fixed(byteWidth: width)
        case .utf8, .binary: .variable
        case .list, .map: .list
        case .fixedSizeList(_, let count): .fixedList(count)
        case .structure: .structure
        case .denseUnion: .union
        }
    }

    /// Fields of the children, in order.
    package var children: [ArrowField] {
        switch self {
        case .list(let field), .fixedSizeList(let field, _), .map(let field, _): [field]
        case .structure(let fields), .denseUnion(let fields): fields
        default: []
        }
    }

    /// The engine's name of this type, fit for a column definition.
    package var sqlName: String {
        switch self {
        case .null: "INTEGER"
        case .bool: "BOOLEAN"
        case .int8: "TINYINT"
        case .int16: "SMALLINT"
        case .int32: "INTEGER"
        case .int64: "BIGINT"
        case .uint8: "UTINYINT"
        case .uint16: "USMALLINT"
        case .uint32: "UINTEGER"
        case .uint64: "UBIGINT"
        case .float32: "FLOAT"
        case .float64: "DOUBLE"
        case .decimal128(let precision, let scale): "DECIMAL(\(precision),\(scale))"
        case .utf8: "VARCHAR"
        case .binary, .fixedSizeBinary: "BLOB"
        case .date32: "DATE"
        case .time32, .time64: "TIME"
        case .timestamp(_, .some): "TIMESTAMP WITH TIME ZONE"
        case .timestamp(.second, nil): "TIMESTAMP_S"
        case .timestamp(.millisecond, nil): "TIMESTAMP_MS"
        case .timestamp(.microsecond, nil): "TIMESTAMP"
        case .timestamp(.nanosecond, nil): "TIMESTAMP_NS"
        case .intervalMonthDayNano: "INTERVAL"
        case .list(let field): "\(field.type.sqlName)[]"
        case .fixedSizeList(let field, let count): "\(field.type.sqlName)[\(count)]"
        case .structure(let fields):
            "STRUCT(" + fields.map { "\(quoteIdentifier($0.name)) \($0.type.sqlName)" }.joined(separator: ", ") + ")"
        case .denseUnion(let fields):
            "UNION(" + fields.map { "\(quoteIdentifier($0.name)) \($0.type.sqlName)" }.joined(separator: ", ") + ")"
        case .map(let entries, _):
            "MAP(" + entries.type.children.map(\.type.sqlName).joined(separator: ", ") + ")"
        }
    }
}

/// One piece of text metadata of a schema or field.
package struct ArrowMetadata: Hashable, Sendable {
    /// Name of the entry.
    package var key: String
    /// Text of the entry.
    package var value: String

    /// Creates an entry.
    package init(key: String, value: String) {
        self.key = key
        self.value = value
    }
}

/// A named, typed column or child.
package struct ArrowField: Hashable, Sendable {
    /// Name as the statement gave it; need not be unique.
    package var name: String
    /// Logical type.
    package var type: ArrowType
    /// Whether nulls may occur.
    package var nullable: Bool
    /// Text metadata.
    package var metadata: [ArrowMetadata]

    /// Metadata key under which the engine's own type name stands when Arrow has no type for it.
    package static let engineTypeKey = "duckdb.type"

    /// Creates a field.
    package init(_ name: String, _ type: ArrowType, nullable: Bool = true, metadata: [ArrowMetadata] = []) {
        self.name = name
        self.type = type
        self.nullable = nullable
        self.metadata = metadata
    }

    /// Whether the column holds JSON text.
    package var isJSON: Bool {
        self.type == .utf8 && self.metadata.contains { $0.key == Self.engineTypeKey && $0.value == "JSON" }
    }
}

/// The columns of a result.
package struct ArrowSchema: Hashable, Sendable {
    /// Columns in order.
    package var fields: [ArrowField]
    /// Text metadata, for example a result's provenance.
    package var metadata: [ArrowMetadata]

    /// Creates a schema.
    package init(fields: [ArrowField], metadata: [ArrowMetadata] = []) {
        self.fields = fields
        self.metadata = metadata
    }
}

/// A name as SQL text, whatever characters it holds.
package func quoteIdentifier(_ name: String) -> String { quote(name, UInt8(ascii: "\"")) }

/// A text as an SQL literal, whatever characters it holds.
package func quoteLiteral(_ text: String) -> String { quote(text, UInt8(ascii: "'")) }

/// By bytes: a quote followed by a combining mark is one `Character`, yet the engine sees the quote.
private func quote(_ text: String, _ mark: UInt8) -> String {
    var bytes: [UInt8] = [mark]
    for byte in text.utf8 {
        if byte == mark { bytes.append(mark) }
        bytes.append(byte)
    }
    bytes.append(mark)
    return String(decoding: bytes, as: UTF8.self)
}
