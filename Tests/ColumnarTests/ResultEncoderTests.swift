internal import Foundation
internal import Testing

@testable internal import Columnar

private func encode(_ format: ResultFormat, _ batches: [ArrowRecordBatch], cellWidthMax: Int = 48) throws -> String {
    var encoder = try ResultEncoder(
        format: format,
        schema: batches[0].schema,
        options: ResultEncoderOptions(cellWidthMax: cellWidthMax)
    )
    var bytes = encoder.start()
    for batch in batches { bytes += try encoder.encode(batch) }
    return String(decoding: bytes + encoder.finish(), as: UTF8.self)
}

private func sample() throws -> ArrowRecordBatch {
    let json = [ArrowMetadata(key: ArrowField.engineTypeKey, value: "JSON")]
    let schema = ArrowSchema(fields: [
        ArrowField("n", .int64), ArrowField("name", .utf8), ArrowField("amount", .decimal128(precision: 18, scale: 2)),
        ArrowField("at", .timestamp(.microsecond, timezone: nil)), ArrowField("doc", .utf8, metadata: json),
        ArrowField("ok", .bool),
    ])
    return try .make(
        schema: schema,
        columns: [
            [.int(9_007_199_254_740_993), .int(-1), .null], [.string("a,\"b\"\n"), .string("=1+1"), .string("")],
            [.decimal(unscaled: -5, scale: 2), .decimal(unscaled: 12_300, scale: 2), .null],
            [
                .timestamp(1_709_210_096_789_012, .microsecond, timezone: nil),
                .timestamp(-1, .microsecond, timezone: nil), .null,
            ],
            [.string("{\"a\":\n[1, \"x\"]}"), .string("null"), .null], [.bool(true), .bool(false), .null],
        ]
    )
}

struct ResultEncoderTests {
    @Test func json() throws {
        let expected = #"""
            {"columns":[{"name":"n","type":"BIGINT"},{"name":"name","type":"VARCHAR"},{"name":"amount","type":"DECIMAL(18,2)"},{"name":"at","type":"TIMESTAMP"},{"name":"doc","type":"JSON"},{"name":"ok","type":"BOOLEAN"}],"rows":[[9007199254740993,"a,\"b\"\n",-0.05,"2024-02-29T12:34:56.789012Z",{"a": [1, "x"]},true],[-1,"=1+1",123.00,"1969-12-31T23:59:59.999999Z",null,false],[null,"",null,null,null,null]]}

            """#
        #expect(try encode(.json, [sample()]) == expected)
        // Batch borders do not show.
        let batch = try sample()
        let parts = [batch.slice(from: 0, count: 1), batch.slice(from: 1, count: 0), batch.slice(from: 1, count: 2)]
        #expect(try encode(.json, parts) == expected)
        _ = try JSONSerialization.jsonObject(with: Data(expected.utf8))
    }

    @Test func jsonTakesFurtherMembers() throws {
        var encoder = try ResultEncoder(format: .json, schema: ArrowSchema(fields: [ArrowField("a", .int8)]))
        let bytes = encoder.start() + encoder.finish(jsonMembers: [("provenance", "{\"x\":1}")])
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "{\"columns\":[{\"name\":\"a\",\"type\":\"TINYINT\"}],\"rows\":[],\"provenance\":{\"x\":1}}\n"
        )
    }

    @Test func ndjson() throws {
        #expect(
            try encode(.ndjson, [sample()]) == #"""
                {"n":9007199254740993,"name":"a,\"b\"\n","amount":-0.05,"at":"2024-02-29T12:34:56.789012Z","doc":{"a": [1, "x"]},"ok":true}
                {"n":-1,"name":"=1+1","amount":123.00,"at":"1969-12-31T23:59:59.999999Z","doc":null,"ok":false}
                {"n":null,"name":"","amount":null,"at":null,"doc":null,"ok":null}

                """#
        )
        let twice = ArrowSchema(fields: [ArrowField("a", .int8), ArrowField("A", .int8), ArrowField("a", .int8)])
        let batch = try ArrowRecordBatch.make(schema: twice, columns: [[.int(1)], [.int(2)], [.int(3)]])
        #expect(try encode(.ndjson, [batch]) == "{\"a\":1,\"A_2\":2,\"a_3\":3}\n")
    }

    @Test func csvIsQuotedAndCannotHoldFormulas() throws {
        #expect(
            try encode(.csv, [sample()])
                == "n,name,amount,at,doc,ok\r\n"
                + "9007199254740993,\"a,\"\"b\"\"\n\",-0.05,2024-02-29T12:34:56.789012Z,\"{\"\"a\"\":\n[1, \"\"x\"\"]}\",true\r\n"
                + "-1,'=1+1,123.00,1969-12-31T23:59:59.999999Z,null,false\r\n,\"\",,,,\r\n"
        )
        let schema = ArrowSchema(fields: [ArrowField("=cmd", .utf8)])
        let starts: [ArrowValue] = ["+1", "-1", "@x", "\tx", "\rx", "x=1", "=\"a,b\""].map { .string($0) }
        #expect(
            try encode(.csv, [.make(schema: schema, columns: [starts])])
                == "'=cmd\r\n'+1\r\n'-1\r\n'@x\r\n'\tx\r\n\"'\rx\"\r\nx=1\r\n\"'=\"\"a,b\"\"\"\r\n"
        )
    }

    @Test func tableIsAlignedAndCannotSteerTheTerminal() throws {
        let schema = ArrowSchema(fields: [ArrowField("organization", .utf8), ArrowField("n", .int64)])
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [
                [
                    .string("Org A"), .string("漢字"), .string("a\u{1B}[31m\nb"), .null,
                    .string("a very long text indeed"),
                ],
                [.int(5), .int(-12_345), .null, .int(7), .int(1)],
            ]
        )
        #expect(
            try encode(.table, [batch], cellWidthMax: 14) == """
                 organization   │ n
                ────────────────┼────────
                 Org A          │      5
                 漢字           │ -12345
                 a␛[31m␊b       │   NULL
                 NULL           │      7
                 a very long t… │      1
                (5 rows)

                """
        )
        #expect(
            try encode(.box, [batch], cellWidthMax: 14) == """
                ┌────────────────┬────────┐
                │ organization   │ n      │
                ├────────────────┼────────┤
                │ Org A          │      5 │
                │ 漢字           │ -12345 │
                │ a␛[31m␊b       │   NULL │
                │ NULL           │      7 │
                │ a very long t… │      1 │
                └────────────────┴────────┘
                (5 rows)

                """
        )
        let one = try ArrowRecordBatch.make(
            schema: ArrowSchema(fields: [ArrowField("a", .bool)]),
            columns: [[.bool(true)]]
        )
        #expect(try encode(.table, [one]) == " a\n──────\n true\n(1 row)\n")
    }

    @Test func markdownEscapesWhatWouldEndACell() throws {
        let batch = try ArrowRecordBatch.make(
            schema: ArrowSchema(fields: [ArrowField("a|b", .utf8), ArrowField("n", .int64)]),
            columns: [[.string("x|y\\z\n")], [.int(1)]]
        )
        #expect(try encode(.markdown, [batch]) == "| a\\|b | n |\n| --- | ---: |\n| x\\|y\\\\z␊ | 1 |\n")
    }

    @Test func theTableStreamsBeyondItsSample() throws {
        let schema = ArrowSchema(fields: [ArrowField("n", .int64)])
        let batch = try ArrowRecordBatch.make(schema: schema, columns: [(0..<1_500).map { .int($0) }])
        let lines = try encode(.table, [batch]).split(separator: "\n")
        #expect(lines.count == 1_503)
        #expect(lines.last == "(1500 rows)")
    }

    @Test func valuesAreSpeltExactly() throws {
        #expect(decimalText(-1, scale: 3) == "-0.001")
        #expect(decimalText(Int128(Int64.max) * 1_000, scale: 0) == "9223372036854775807000")
        #expect(decimalText(0, scale: 2) == "0.00")
        #expect(timestampText(0, .second) == "1970-01-01T00:00:00Z")
        #expect(timestampText(1, .nanosecond) == "1970-01-01T00:00:00.000000001Z")
        #expect(timestampText(-62_167_219_200, .second) == "0000-01-01T00:00:00Z")
        #expect(timestampText(253_402_300_800, .second) == "+010000-01-01T00:00:00Z")
        #expect(timestampText(.max, .microsecond) == "infinity")
        #expect(dateText(-719_529) == "-000001-12-31")
        #expect(dateText(11_016) == "2000-02-29")
        #expect(timeText(86_399_000_001, .microsecond) == "23:59:59.000001")
        #expect(intervalText(months: 0, days: 0, nanoseconds: 0) == "PT0S")
        #expect(intervalText(months: 14, days: -3, nanoseconds: -1_500_000_000) == "P14M-3DT-1.5S")
        var base64: [UInt8] = []
        for count in 0...4 { appendBase64(Array([0xFB, 0xFF, 0x00, 0x41].prefix(count)), to: &base64) }
        #expect(String(decoding: base64, as: UTF8.self) == "+w==+/8=+/8A+/8AQQ==")
    }

    @Test(.timeLimit(.minutes(10))) func nestedAndFloatingValuesFromTheEngine() async throws {
        try await withStore { store in
            let sql = """
                SELECT [1, NULL] AS l, {'a': 1, 'j': '{"x":1}'::JSON} AS s, MAP {'k': 1.5} AS m, MAP {1: 'x'} AS n,
                  0.1::FLOAT AS f, 'nan'::DOUBLE AS d, 1e22::DOUBLE AS e, 'x'::BLOB AS b, DATE '2024-02-29' AS dt,
                  TIME '01:02:03' AS t, 170141183460469231731687303715884105727::HUGEINT % 1000 AS h
                """
            let batches = try await store.query(sql).collect()
            #expect(
                try encode(.ndjson, batches)
                    == #"{"l":[1,null],"s":{"a":1,"j":"{\"x\":1}"},"m":{"k":1.5},"n":[[1,"x"]],"f":0.1,"d":null,"e":1e+22,"#
                    + #""b":"eA==","dt":"2024-02-29","t":"01:02:03","h":727}"# + "\n"
            )
        }
    }

    @Test(.timeLimit(.minutes(10))) func parquetReadsBackEqual() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let configuration = ColumnarConfiguration(access: .trusted)
                let store = try await ColumnarStore.open(.memory, configuration: configuration, threads: threads)
                let sql = "SELECT range AS a, 'x' || range AS a, range / 4 AS r, '{}'::JSON AS j FROM range(10000)"
                let result = try await store.query(sql)
                let exporter = ParquetExporter(threads: threads, temporaryDirectory: directory)
                var file: ParquetFile? = try await exporter.export(schema: result.schema, batches: result.batches)
                let path = try #require(file?.path)
                let head = try await file?.read(from: 0, count: 4)
                #expect(head == Array("PAR1".utf8))
                #expect(try await file?.read(from: try #require(file?.byteCount) - 4, count: 10) == Array("PAR1".utf8))
                #expect(
                    try await rows(
                        store,
                        "SELECT count(*), sum(a)::BIGINT, max(a_2), sum(r) FROM read_parquet('\(path)')"
                    )
                        == [[.int(10_000), .int(49_995_000), .string("x9999"), .double(12_498_750)]]
                )
                file = nil
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
                #expect(
                    await code {
                        try await exporter.export(
                            schema: result.schema,
                            batches: try await store.query("SELECT * FROM range(10)", limits: QueryLimits(rowsMax: 1))
                                .batches
                        )
                    } == .resultLimit
                )
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
                await store.close()
            }
        }
    }

    @Test func parquetIsNotForTheTextEncoder() {
        #expect(throws: ColumnarError.self) {
            try ResultEncoder(format: .parquet, schema: ArrowSchema(fields: []))
        }
    }
}
