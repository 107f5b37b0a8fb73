internal import Foundation
internal import Testing

@testable internal import Columnar

/// What clients send that this module keeps in another form; the files are pyarrow's.
@Suite("Arrow as clients send it", .timeLimit(.minutes(10)))
struct ArrowClientFormsTests {
    static let files = ["clients", "clients-lz4", "clients-zstd"]
    private static let long = "a text that is longer than a view keeps in place"

    private static func bytes(_ name: String) throws -> [UInt8] {
        let url = try #require(Bundle.module.url(forResource: "Golden/\(name)", withExtension: "arrow"))
        return Array(try Data(contentsOf: url))
    }

    private static func decode(_ bytes: [UInt8]) throws -> [ArrowRecordBatch] {
        var decoder = ArrowStreamDecoder(limits: ArrowStreamLimits(messageBytesMax: 1 << 20))
        let batches = try decoder.feed(bytes)
        try decoder.finish()
        return batches
    }

    private static func values(_ batch: ArrowRecordBatch, _ name: String) throws -> [ArrowValue] {
        let index = try #require(batch.schema.fields.firstIndex { $0.name == name })
        return (0..<batch.rowCount).map { batch.value(row: $0, column: index) }
    }

    @Test(arguments: files)
    func becomesPlainColumns(_ file: String) throws {
        let batches = try Self.decode(try Self.bytes(file))
        let batch = try #require(batches.first)
        #expect(batches.count == 1)
        func expect(_ name: String, _ wanted: [ArrowValue]) throws {
            let found = try Self.values(batch, name)
            #expect(found == wanted, "\(name)")
        }
        try expect("large_utf8", [.string(""), .string("flask"), .null, .string("ü漢🙂")])
        try expect("large_binary", [.bytes([]), .bytes([0, 255]), .null, .bytes([120])])
        try expect("large_list", [.list([.int(1), .int(2)]), .list([]), .null, .list([.int(3)])])
        try expect(
            "utf8_view",
            [.string("short"), .string(Self.long), .null, .string(String(Self.long.reversed()))]
        )
        try expect(
            "binary_view",
            [.bytes([]), .bytes(Array(Self.long.utf8)), .null, .bytes(Array("123456789012".utf8))]
        )
        try expect("dictionary", [.string("red"), .string("blue"), .null, .string("red")])
        try expect("small_dictionary", [.string("y"), .string("x"), .string("y"), .null])
        try expect(
            "list_of_large",
            [.list([.string("a")]), .null, .list([.string("b"), .string("c")]), .list([])]
        )
        try expect("union", [.union(0, .string("a")), .union(1, .int(7)), .union(0, .string("b")), .null])
    }

    @Test(arguments: files)
    func aFlippedByteNeverTraps(_ file: String) throws {
        let bytes = try Self.bytes(file)
        var refused = 0
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= [0xFF, 0x01, 0x80, 0x10][index % 4]
            do {
                for batch in try Self.decode(changed) {
                    for column in batch.schema.fields { _ = try Self.values(batch, column.name) }
                }
            } catch {
                #expect(error is ColumnarError)
                refused += 1
            }
        }
        #expect(refused > 300, "\(refused)")
    }

    @Test(arguments: files)
    func noCutStreamYieldsRows(_ file: String) throws {
        let bytes = try Self.bytes(file)
        var refused = 0
        // Without the last eight bytes only the end mark is missing, which the format allows.
        for count in 0..<bytes.count - 8 {
            do {
                // Between two messages a stream may end.
                #expect(try Self.decode(Array(bytes[..<count])).isEmpty, "\(count)")
            } catch {
                #expect(error is ColumnarError)
                refused += 1
            }
        }
        #expect(refused > bytes.count - 16)
    }

    @Test(arguments: ArrowCompression.allCases)
    func compressedBatchesComeBack(_ codec: ArrowCompression) throws {
        let schema = ArrowSchema(fields: [ArrowField("n", .int64), ArrowField("t", .utf8), ArrowField("none", .utf8)])
        let rows = 5_000
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [
                (0..<rows).map { $0 % 7 == 0 ? .null : .int(Int64($0)) },
                (0..<rows).map { .string("row \($0 % 10)") }, (0..<rows).map { _ in .null },
            ]
        )
        let encoder = ArrowStreamEncoder(schema: schema, compression: codec)
        let plain = try ArrowStreamEncoder(schema: schema).message(for: batch)
        let message = try encoder.message(for: batch)
        #expect(message.count < plain.count / 2)
        let found = try #require(try Self.decode(encoder.schemaMessage() + message + encoder.endOfStream()).first)
        for column in 0..<3 {
            #expect(
                (0..<rows).allSatisfy { found.value(row: $0, column: column) == batch.value(row: $0, column: column) }
            )
        }
    }

    @Test(arguments: ArrowCompression.allCases)
    func aLengthThatLiesIsRefusedBeforeMemoryIsTaken(_ codec: ArrowCompression) throws {
        let memory = ArrowMemoryBuilder()
        memory.append(Array(repeating: UInt8(5), count: 4_000))
        let packed = try codec.compressed(memory.finish())
        #expect(try codec.decompressed(packed, bytesMax: 4_000).count == 4_000)
        #expect(throws: ColumnarError.self) { try codec.decompressed(packed, bytesMax: 3_999) }
        for lie in [Int64.max, 3_999, 4_001, -2] {
            let wrong = ArrowMemoryBuilder()
            wrong.append(value: lie)
            wrong.append(packed.range(from: 8, count: packed.count - 8))
            let buffer = wrong.finish()
            #expect(throws: ColumnarError.self, "\(lie)") { try codec.decompressed(buffer, bytesMax: 1 << 20) }
        }
    }

    @Test func unionsAreWrittenAsTheyAreRead() throws {
        let type = ArrowType.denseUnion([ArrowField("text", .utf8), ArrowField("number", .int32)])
        let schema = ArrowSchema(fields: [ArrowField("value", type, nullable: false)])
        let values: [ArrowValue] = [.union(1, .int(4)), .union(0, .string("x")), .union(1, .int(-1))]
        let batch = try ArrowRecordBatch.make(schema: schema, columns: [values])
        let encoder = ArrowStreamEncoder(schema: schema)
        let bytes = try encoder.schemaMessage() + encoder.message(for: batch) + encoder.endOfStream()
        let found = try #require(try Self.decode(bytes).first)
        #expect(found.schema == schema)
        #expect(try Self.values(found, "value") == values)
    }

    @Test func castsKeepValuesOrRefuse() throws {
        func cast(_ from: ArrowType, _ values: [ArrowValue], _ to: ArrowType) throws -> [ArrowValue] {
            let column = try ArrowColumn.make(from, values).cast(to: to)
            return (0..<column.count).map { column.value($0) }
        }
        let nanos = ArrowType.timestamp(.nanosecond, timezone: nil)
        #expect(
            try cast(
                .timestamp(.microsecond, timezone: nil),
                [.timestamp(5, .microsecond, timezone: nil), .null],
                nanos
            )
                == [.timestamp(5_000, .nanosecond, timezone: nil), .null]
        )
        #expect(
            try cast(.date32, [.date(1), .date(-1)], nanos).first
                == .timestamp(86_400_000_000_000, .nanosecond, timezone: nil)
        )
        #expect(
            try cast(.decimal128(precision: 38, scale: 2), [.decimal(unscaled: -12_345, scale: 2)], .float64)
                == [.double(-123.45)]
        )
        #expect(
            try cast(.uint64, [.uint(.max)], .decimal128(precision: 20, scale: 0))
                == [.decimal(unscaled: Int128(UInt64.max), scale: 0)]
        )
        #expect(
            try cast(.list(ArrowField("item", .int32)), [.list([.int(1)]), .null], .utf8) == [.string("[1]"), .null]
        )
        #expect(throws: ColumnarError.self) {
            try cast(.timestamp(.microsecond, timezone: nil), [.timestamp(.max, .microsecond, timezone: nil)], nanos)
        }
        #expect(throws: ColumnarError.self) { try cast(.bool, [.bool(true)], .int64) }
    }
}
