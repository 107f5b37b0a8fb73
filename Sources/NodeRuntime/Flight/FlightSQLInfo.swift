internal import Columnar

/// What the server says of itself, by the protocol's numbers.
///
/// - Source: Apache Arrow, «Arrow Flight SQL», SqlInfo
enum FlightSQLInfo {
    private enum Value {
        case text(String)
        case bit(Bool)
        case long(Int64)
        case number(Int32)
        case texts([String])
        case conversions([Int32: [Int32]])
    }

    /// The columns of the answer. Clients cast without asking: a dense union of exactly these six.
    static let schema = ArrowSchema(fields: [
        ArrowField("info_name", .uint32, nullable: false),
        ArrowField(
            "value",
            .denseUnion([
                ArrowField("string_value", .utf8), ArrowField("bool_value", .bool),
                ArrowField("bigint_value", .int64), ArrowField("int32_bitmask", .int32),
                ArrowField("string_list", .list(ArrowField("string_data", .utf8))),
                ArrowField("int32_to_int32_list_map", Self.mapType),
            ]),
            nullable: false
        ),
    ])

    private static let mapType = ArrowType.map(
        ArrowField(
            "entries",
            .structure([
                ArrowField("key", .int32, nullable: false),
                ArrowField("value", .list(ArrowField("$data$", .int32))),
            ]),
            nullable: false
        ),
        keysSorted: false
    )

    /// The rows for `numbers`, or for all when there are none; unknown numbers are left out.
    static func batch(_ numbers: [UInt32]) throws -> ArrowRecordBatch {
        let known = self.values
        let wanted = numbers.isEmpty ? known.map(\.number) : numbers
        var names: [ArrowValue] = []
        var values: [ArrowValue] = []
        for number in wanted {
            guard let entry = known.first(where: { $0.number == number }) else { continue }
            names.append(.uint(UInt64(number)))
            values.append(self.value(entry.value))
        }
        return try ArrowRecordBatch.make(schema: self.schema, columns: [names, values])
    }

    private static func value(_ value: Value) -> ArrowValue {
        switch value {
        case .text(let text): .union(0, .string(text))
        case .bit(let bit): .union(1, .bool(bit))
        case .long(let number): .union(2, .int(number))
        case .number(let number): .union(3, .int(Int64(number)))
        case .texts(let texts): .union(4, .list(texts.map { .string($0) }))
        case .conversions(let map):
            .union(
                5,
                .map(
                    map.sorted { $0.key < $1.key }.map {
                        ArrowMapEntry(.int(Int64($0.key)), .list($0.value.map { .int(Int64($0)) }))
                    }
                )
            )
        }
    }

    private static var values: [(number: UInt32, value: Value)] {
        (self.server + self.syntax + self.words + self.terms + self.unlimited).sorted { $0.number < $1.number }
    }

    private static let server: [(number: UInt32, value: Value)] = [
        (0, .text("Flask Track")), (1, .text(ProductVersion.text)), (2, .text("26.0.0")),
        (3, .bit(true)),  // read only, but for ingest
        (4, .bit(true)), (5, .bit(false)),
        (8, .number(0)),  // no transactions
        (9, .bit(true)),  // cancel
        (10, .bit(true)),  // bulk ingest
        (11, .bit(false)),  // not within transactions
        (100, .number(Int32(FlightLimits.preparedTime.components.seconds * 1000))), (101, .number(0)),
    ]

    private static let syntax: [(number: UInt32, value: Value)] = [
        (500, .bit(false)), (501, .bit(false)), (502, .bit(false)),
        (503, .number(1)),  // identifiers in any case
        (504, .text("\"")), (505, .number(1)), (506, .bit(true)),
        (507, .number(3)),  // nulls last
        (513, .text("\\")), (514, .text("")), (515, .bit(true)), (516, .bit(true)),
        (517, .conversions([:])), (518, .bit(true)), (519, .bit(false)), (520, .bit(true)), (521, .bit(true)),
        (522, .number(3)), (523, .bit(true)), (524, .bit(true)), (525, .number(3)), (526, .number(3)),
        (527, .bit(false)), (528, .number(2)),
    ]

    private static let words: [(number: UInt32, value: Value)] = [
        (508, .texts(["ANTI", "ASOF", "EXCLUDE", "ILIKE", "PIVOT", "POSITIONAL", "QUALIFY", "SEMI", "UNPIVOT"])),
        (
            509,
            .texts([
                "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "degrees", "exp", "floor", "greatest",
                "least", "ln", "log10", "log2", "mod", "pi", "power", "radians", "round", "sign", "sin", "sqrt", "tan",
                "trunc",
            ])
        ),
        (
            510,
            .texts([
                "concat", "contains", "ends_with", "left", "length", "lower", "lpad", "ltrim", "regexp_extract",
                "regexp_matches", "regexp_replace", "replace", "reverse", "right", "rpad", "rtrim", "starts_with",
                "strpos", "substring", "trim", "upper",
            ])
        ),
        (511, .texts(["coalesce", "ifnull", "nullif"])),
        (
            512,
            .texts([
                "age", "date_diff", "date_part", "date_trunc", "epoch", "last_day", "make_date", "strftime",
                "strptime", "time_bucket",
            ])
        ),
    ]

    private static let terms: [(number: UInt32, value: Value)] = [
        (529, .text("schema")), (530, .text("procedure")), (531, .text("organization")), (532, .bit(true)),
        (533, .number(0)), (534, .number(0)), (535, .number(0)), (536, .bit(false)), (537, .bit(false)),
        (538, .number(15)), (539, .bit(true)), (540, .number(3)),
        (556, .bit(false)), (557, .long(Int64(FlightLimits.statementBytesMax))),
        (562, .number(0)), (563, .bit(false)), (564, .number(1)), (565, .bit(false)), (566, .bit(false)),
        // Results are read forward only, and only read.
        (567, .number(2)), (568, .number(0)), (569, .number(2)), (570, .number(0)), (571, .number(0)),
        (572, .bit(false)), (573, .bit(false)), (574, .bit(false)), (575, .bit(false)), (576, .bit(false)),
    ]

    /// Limits that there are not, as far as a driver would care: 0 means none.
    private static let unlimited: [(number: UInt32, value: Value)] =
        (Array(541...555) + Array(558...561)).map { ($0, .long(0)) }
}
