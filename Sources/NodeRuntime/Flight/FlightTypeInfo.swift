internal import Columnar

/// The types of columns, as drivers of the ODBC family ask for them.
///
/// - Source: Apache Arrow, «Arrow Flight SQL», CommandGetXdbcTypeInfo and XdbcDataType
enum FlightTypeInfo {
    private struct Entry {
        var name: String
        var number: Int32
        var size: Int32?
        var quotes: (String, String)?
        var parameters: [String] = []
        var isUnsigned: Bool?
        var isText = false
        var scales: (Int32, Int32)?
        var subcode: Int32?
        var radix: Int32?
    }

    static let schema = CatalogueCommand.fields(
        ("type_name", .utf8, false),
        ("data_type", .int32, false),
        ("column_size", .int32, true),
        ("literal_prefix", .utf8, true),
        ("literal_suffix", .utf8, true),
        ("create_params", .list(ArrowField("item", .utf8, nullable: false)), true),
        ("nullable", .int32, false),
        ("case_sensitive", .bool, false),
        ("searchable", .int32, false),
        ("unsigned_attribute", .bool, true),
        ("fixed_prec_scale", .bool, false),
        ("auto_increment", .bool, true),
        ("local_type_name", .utf8, true),
        ("minimum_scale", .int32, true),
        ("maximum_scale", .int32, true),
        ("sql_data_type", .int32, false),
        ("datetime_subcode", .int32, true),
        ("num_prec_radix", .int32, true),
        ("interval_precision", .int32, true)
    )

    private static let datetime: Int32 = 9

    /// By type number and then by name, as the protocol wants it.
    private static let entries: [Entry] = [
        Entry(name: "BOOLEAN", number: -7, size: 1),
        Entry(name: "TINYINT", number: -6, size: 3, isUnsigned: false, scales: (0, 0), radix: 10),
        Entry(name: "BIGINT", number: -5, size: 19, isUnsigned: false, scales: (0, 0), radix: 10),
        Entry(name: "UBIGINT", number: -5, size: 20, isUnsigned: true, scales: (0, 0), radix: 10),
        Entry(name: "BLOB", number: -3, quotes: ("'", "'::BLOB")),
        Entry(
            name: "DECIMAL",
            number: 3,
            size: 38,
            parameters: ["precision", "scale"],
            isUnsigned: false,
            scales: (0, 38),
            radix: 10
        ),
        Entry(name: "INTEGER", number: 4, size: 10, isUnsigned: false, scales: (0, 0), radix: 10),
        Entry(name: "SMALLINT", number: 5, size: 5, isUnsigned: false, scales: (0, 0), radix: 10),
        Entry(name: "FLOAT", number: 7, size: 24, isUnsigned: false, radix: 2),
        Entry(name: "DOUBLE", number: 8, size: 53, isUnsigned: false, radix: 2),
        Entry(name: "JSON", number: 12, quotes: ("'", "'"), isText: true),
        Entry(name: "VARCHAR", number: 12, quotes: ("'", "'"), isText: true),
        Entry(name: "DATE", number: 91, size: 10, quotes: ("DATE '", "'"), subcode: 1),
        Entry(name: "TIME", number: 92, size: 15, quotes: ("TIME '", "'"), scales: (6, 6), subcode: 2),
        Entry(name: "TIMESTAMP", number: 93, size: 26, quotes: ("TIMESTAMP '", "'"), scales: (6, 6), subcode: 3),
    ]

    /// The rows, or those of one type number.
    static func batch(_ number: Int32?) throws -> ArrowRecordBatch {
        let entries = self.entries.filter { number == nil || $0.number == number }
        func column(_ value: (Entry) -> ArrowValue) -> [ArrowValue] { entries.map(value) }
        func optional(_ number: Int32?) -> ArrowValue { number.map { .int(Int64($0)) } ?? .null }
        let columns: [[ArrowValue]] = [
            column { .string($0.name) }, column { .int(Int64($0.number)) }, column { optional($0.size) },
            column { $0.quotes.map { .string($0.0) } ?? .null }, column { $0.quotes.map { .string($0.1) } ?? .null },
            column { $0.parameters.isEmpty ? .null : .list($0.parameters.map { .string($0) }) },
            column { _ in .int(1) }, column { .bool($0.isText) }, column { _ in .int(3) },
            column { $0.isUnsigned.map { .bool($0) } ?? .null }, column { _ in .bool(false) },
            column { $0.isUnsigned == nil ? .null : .bool(false) }, column { .string($0.name) },
            column { optional($0.scales?.0) }, column { optional($0.scales?.1) },
            column { .int(Int64($0.subcode == nil ? $0.number : Self.datetime)) },
            column { optional($0.subcode) }, column { optional($0.radix) }, column { _ in .null },
        ]
        return try ArrowRecordBatch.make(schema: self.schema, columns: columns)
    }
}
