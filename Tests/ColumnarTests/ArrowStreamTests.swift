internal import Foundation
internal import Testing

@testable internal import Columnar

private func encode(_ batches: [ArrowRecordBatch], schema: ArrowSchema) throws -> [UInt8] {
    let encoder = ArrowStreamEncoder(schema: schema)
    var bytes = encoder.schemaMessage()
    for batch in batches { bytes += try encoder.message(for: batch) }
    return bytes + encoder.endOfStream()
}

private func decode(_ bytes: [UInt8]) throws -> (schema: ArrowSchema?, batches: [ArrowRecordBatch]) {
    var decoder = ArrowStreamDecoder()
    let batches = try decoder.feed(bytes)
    try decoder.finish()
    return (decoder.schema, batches)
}

private func values(_ batch: ArrowRecordBatch) -> [[ArrowValue]] {
    batch.columns.map { column in (0..<batch.rowCount).map { column.value($0) } }
}

@Suite(.timeLimit(.minutes(10)))
struct ArrowStreamTests {
    @Test func readsEveryTypeThatAnotherImplementationWrote() throws {
        let (schema, batches) = try decode(goldenBytes())
        #expect(schema?.metadata == [ArrowMetadata(key: "made by", value: "pyarrow")])
        #expect(batches.map(\.rowCount) == [4, 2, 0])
        let batch = batches[0]
        func column(_ name: String) throws -> [ArrowValue] {
            let index = try #require(batch.schema.fields.firstIndex { $0.name == name })
            return values(batch)[index]
        }
        #expect(try column("null") == [.null, .null, .null, .null])
        #expect(try column("bool") == [.bool(true), .bool(false), .null, .bool(true)])
        #expect(try column("int8") == [.int(-128), .int(127), .null, .int(0)])
        #expect(try column("int16") == [.int(-32_768), .int(32_767), .null, .int(0)])
        #expect(try column("int32") == [.int(Int64(Int32.min)), .int(Int64(Int32.max)), .null, .int(0)])
        #expect(try column("int64") == [.int(.min), .int(.max), .null, .int(0)])
        #expect(try column("uint8") == [.uint(0), .uint(255), .null, .uint(1)])
        #expect(try column("uint16") == [.uint(0), .uint(65_535), .null, .uint(1)])
        #expect(try column("uint32") == [.uint(0), .uint(UInt64(UInt32.max)), .null, .uint(1)])
        #expect(try column("uint64") == [.uint(0), .uint(.max), .null, .uint(1)])
        #expect(try column("float32") == [.double(0.5), .double(-1.25), .null, .double(0)])
        #expect(try column("float64") == [.double(0.1), .double(-1e300), .null, .double(0)])
        let decimals: [ArrowValue] = [
            .decimal(unscaled: 12_345, scale: 2), .decimal(unscaled: -1, scale: 2), .null,
            .decimal(unscaled: 0, scale: 2),
        ]
        #expect(try column("decimal") == decimals)
        #expect(try column("utf8") == [.string(""), .string("flask"), .null, .string("ü漢🙂")])
        #expect(try column("binary") == [.bytes([]), .bytes([0, 255]), .null, .bytes([120])])
        #expect(try column("date32") == [.date(19_782), .date(-1), .null, .date(0)])
        #expect(try column("time64")[0] == .time(86_399_999_999, .microsecond))
        #expect(try column("timestamp")[0] == .timestamp(1_709_210_096_789_012, .microsecond, timezone: nil))
        #expect(try column("timestamp")[1] == .timestamp(-1_000_000, .microsecond, timezone: nil))
        #expect(try column("timestamptz")[0] == .timestamp(1_709_210_096_789_012, .microsecond, timezone: "UTC"))
        #expect(try column("interval")[0] == .interval(months: 14, days: 3, nanoseconds: 4_000_000_000))
        #expect(try column("interval")[3] == .interval(months: -1, days: -2, nanoseconds: -3))
        #expect(try column("list") == [.list([.int(1), .null, .int(3)]), .list([]), .null, .list([.int(4)])])
        let structures: [ArrowValue] = [
            .structure([ArrowNamedValue("a", .int(1)), ArrowNamedValue("b", .string("x"))]),
            .structure([ArrowNamedValue("a", .null), ArrowNamedValue("b", .null)]), .null,
            .structure([ArrowNamedValue("a", .int(2)), ArrowNamedValue("b", .string("y"))]),
        ]
        #expect(try column("struct") == structures)
        let maps: [ArrowValue] = [
            .map([ArrowMapEntry(.string("k"), .int(1)), ArrowMapEntry(.string("l"), .null)]), .map([]), .null,
            .map([ArrowMapEntry(.string("m"), .int(2))]),
        ]
        #expect(try column("map") == maps)
        #expect(try column("fixed")[1] == .list([.int(3), .null]))
        // The second batch was written from a slice: rows 1 and 2 of the first.
        #expect(values(batches[1]) == values(batch).map { Array($0[1...2]) })
    }

    @Test func whatItWritesItReads() throws {
        let (schema, batches) = try decode(goldenBytes())
        let written = try encode(batches, schema: try #require(schema))
        let again = try decode(written)
        #expect(again.schema == schema)
        #expect(again.batches.map { values($0) } == batches.map { values($0) })
        // Slices of ours, at every place.
        for start in 0...4 {
            for count in 0...(4 - start) {
                let slice = batches[0].slice(from: start, count: count)
                let back = try decode(encode([slice], schema: batches[0].schema)).batches[0]
                #expect(values(back) == values(batches[0]).map { Array($0[start..<start + count]) })
            }
        }
    }

    @Test func bytesMayArriveOneByOne() throws {
        let bytes = try goldenBytes()
        var decoder = ArrowStreamDecoder()
        var batches: [ArrowRecordBatch] = []
        for byte in bytes { batches += try decoder.feed(CollectionOfOne(byte)) }
        try decoder.finish()
        #expect(batches.map(\.rowCount) == [4, 2, 0])
    }

    @Test func aTruncatedStreamIsNeverTakenForAWholeOne() throws {
        let bytes = try goldenBytes()
        let whole = try decode(bytes).batches.count
        var accepted: [Int] = []
        for length in 0..<bytes.count {
            do {
                let batches = try decode(Array(bytes[..<length])).batches
                // Without the end mark a stream may stop between two messages.
                #expect(batches.count <= whole)
                accepted.append(length)
            } catch { #expect((error as? ColumnarError)?.code == .invalidArrow) }
        }
        #expect(accepted.count <= 4, "accepted at \(accepted)")
    }

    @Test func aFlippedByteNeverTraps() throws {
        let bytes = try goldenBytes()
        var refused = 0
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= [0xFF, 0x01, 0x80][index % 3]
            do {
                // What is accepted must also be readable to the last value, and writable.
                let (schema, batches) = try decode(changed)
                for batch in batches { _ = values(batch) }
                if let schema { _ = try encode(batches, schema: schema) }
            } catch {
                #expect(error is ColumnarError)
                refused += 1
            }
        }
        #expect(refused > 500)
    }

    @Test func randomBytesNeverTrap() throws {
        for seed in UInt64(1)...300 {
            var generator = SplitMix(state: seed)
            var bytes = try goldenBytes()
            for _ in 0..<8 {
                bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: generator.next())
            }
            do { for batch in try decode(bytes).batches { _ = values(batch) } } catch {
                #expect(error is ColumnarError, "seed \(seed)")
            }
        }
    }

    @Test func hostileColumnsAreRefused() throws {
        func column(_ type: ArrowType, _ count: Int, offsets: [Int32], data: String) -> ArrowColumn {
            let values = ArrowMemoryBuilder()
            for offset in offsets { values.append(value: offset) }
            let bytes = ArrowMemoryBuilder()
            bytes.append(Array(data.utf8))
            return ArrowColumn(
                type: type,
                count: count,
                nullCount: 0,
                validity: nil,
                values: values.finish(),
                data: bytes.finish()
            )
        }
        #expect(throws: Never.self) { try column(.utf8, 2, offsets: [0, 1, 3], data: "abc").validate() }
        for bad in [
            column(.utf8, 2, offsets: [0, 1], data: "abc"), column(.utf8, 2, offsets: [0, 2, 1], data: "abc"),
            column(.utf8, 2, offsets: [0, 1, 4], data: "abc"), column(.utf8, 2, offsets: [-1, 1, 2], data: "abc"),
            column(.utf8, 2, offsets: [0, 1, 2], data: "ü"),
            column(.list(ArrowField("l", .int8)), 1, offsets: [0, 1], data: ""),
            column(.int64, 2, offsets: [0, 0], data: ""),
        ] {
            #expect(throws: ColumnarError.self) { try bad.validate() }
        }
    }

    @Test func aSecondSchemaAndBytesAfterTheEndAreRefused() throws {
        let schema = ArrowSchema(fields: [ArrowField("a", .int64)])
        let encoder = ArrowStreamEncoder(schema: schema)
        let batch = try ArrowRecordBatch.make(schema: schema, columns: [[.int(1)]])
        for bytes in [
            encoder.schemaMessage() + encoder.schemaMessage(), try encoder.message(for: batch), encoder.endOfStream(),
            encoder.schemaMessage() + encoder.endOfStream() + [0], Array("not arrow at all".utf8),
        ] {
            #expect(throws: ColumnarError.self) { try decode(bytes) }
        }
        var small = ArrowStreamDecoder(limits: ArrowStreamLimits(messageBytesMax: 16))
        #expect(throws: ColumnarError.self) { try small.feed(encoder.schemaMessage()) }
        #expect(throws: ColumnarError.self) { try small.feed([UInt8]()) }
    }

    /// A value of every type that the engine exports, with nulls, over several of its chunks.
    static let allTypes = """
        SELECT * FROM (SELECT
          i % 3 = 0 AS b, i::TINYINT AS i8, i::SMALLINT AS i16, i::INTEGER AS i32, i::BIGINT AS i64,
          i::UTINYINT AS u8, i::USMALLINT AS u16, i::UINTEGER AS u32, i::UBIGINT AS u64, i::HUGEINT AS h,
          (i / 7)::FLOAT AS f, (i / 7)::DOUBLE AS d, (i / 100)::DECIMAL(4, 1) AS d4, (i / 100)::DECIMAL(18, 3) AS d18,
          (i / 100)::DECIMAL(38, 10) AS d38, 'text ' || i AS s, repeat('long ', i) AS l, encode('blob ' || i) AS z,
          DATE '2024-01-01' + i::INTEGER AS dt, TIME '01:02:03.456' AS t, TIMESTAMP '2024-01-01' + i * INTERVAL 1 MINUTE AS ts,
          TIMESTAMPTZ '2024-01-01 00:00:00+00' AS tz, TIMESTAMP_S '2024-01-01' AS tss, TIMESTAMP_MS '2024-01-01' AS tsm,
          TIMESTAMP_NS '2024-01-01 00:00:00.000000001' AS tsn, i * INTERVAL '1 month 2 days 3 seconds' AS iv,
          [i, NULL, i + 1] AS li, [['a', NULL], ['b' || i]] AS ll, {'x': i, 'y': 'y' || i, 'z': [i]} AS st,
          MAP {'k' || i: i, 'l': NULL} AS m, [i, i]::BIGINT[2] AS fx, '{"j":1}'::JSON AS j,
          ('00000000-0000-0000-0000-0000000000' || printf('%02d', i))::UUID AS u,
          (CASE WHEN i % 2 = 0 THEN 'ok' ELSE 'failed' END)::ENUM('ok', 'failed') AS e, NULL AS n
          FROM (SELECT range % 100 AS i FROM range(5000)))
        """

    @Test func everyEngineTypeMakesTheRoundTrip() async throws {
        try await withStore { store in
            // Each row once as it is and once as nulls.
            try await store.execute("CREATE TABLE source AS \(Self.allTypes)")
            let columns = try await store.describe("SELECT * FROM source").schema.fields.map(\.name)
            let nulls = columns.map { "CASE WHEN true THEN NULL ELSE \($0) END" }.joined(separator: ", ")
            try await store.execute("INSERT INTO source SELECT \(nulls) FROM source LIMIT 3000")
            let result = try await store.query("SELECT * FROM source")
            let batches = try await result.collect()
            let (schema, decoded) = try decode(encode(batches, schema: result.schema))
            #expect(schema == result.schema)
            try await store.execute("CREATE TABLE target AS SELECT * FROM source LIMIT 0")
            for batch in decoded { try await store.append(batch, to: "target") }
            let difference = try await rows(
                store,
                """
                SELECT (SELECT count(*) FROM (FROM source EXCEPT ALL FROM target)),
                  (SELECT count(*) FROM (FROM target EXCEPT ALL FROM source)), (SELECT count(*) FROM target)
                """
            )
            #expect(difference == [[.int(0), .int(0), .int(8_000)]])
            // A table made from the Arrow types alone takes the rows as well.
            let definitions = result.schema.fields.map { "\(quoteIdentifier($0.name)) \($0.type.sqlName)" }
            try await store.execute("CREATE TABLE plain (\(definitions.joined(separator: ", ")))")
            for batch in decoded { try await store.append(batch, to: "plain") }
            #expect(
                try await rows(store, "SELECT count(*), count(i64), sum(i64)::BIGINT FROM plain")
                    == [[.int(8_000), .int(5_000), .int(247_500)]]
            )
        }
    }

    @Test func appendPutsAConstantInFront() async throws {
        try await withStore { store in
            try await store.execute("CREATE TABLE gathered (organization VARCHAR, a BIGINT)")
            let schema = ArrowSchema(fields: [ArrowField("a", .int64)])
            let batch = try ArrowRecordBatch.make(schema: schema, columns: [[.int(1), .null]])
            try await store.append(batch, to: "gathered", leading: "Org ü")
            try await store.append(batch, to: "gathered", leading: "")
            #expect(
                try await rows(store, "FROM gathered") == [
                    [.string("Org ü"), .int(1)], [.string("Org ü"), .null], [.string(""), .int(1)],
                    [.string(""), .null],
                ]
            )
            #expect(await code { try await store.append(batch, to: "gathered") } == .schemaMismatch)
            let text = try ArrowRecordBatch.make(
                schema: ArrowSchema(fields: [ArrowField("a", .utf8)]),
                columns: [[.string("not a number")]]
            )
            #expect(await code { try await store.append(text, to: "gathered", leading: "x") } == .execution)
            #expect(try await rows(store, "SELECT count(*) FROM gathered") == [[.int(4)]])
        }
    }
}

/// Random numbers from a seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
