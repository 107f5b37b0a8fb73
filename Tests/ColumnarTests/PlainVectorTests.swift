import Testing

@testable import Columnar

/// Results whose columns are read from the engine's vectors, beside the same rows as the engine exports them.
@Suite(.timeLimit(.minutes(10)))
struct PlainVectorTests {
    /// A column that is not plain, so that the engine exports all of them.
    private static let exported = ", true as not_plain"

    private static let columns = """
        case when i % 7 = 3 then null else repeat('ab', (i % 9)::int) || repeat('ü', (i % 5)::int) end as short,
        case when i % 11 = 0 then null else repeat('x', (i % 40 * i % 700)::int) end as long,
        case i % 4 when 0 then '' when 1 then 'elevenbytes' when 2 then 'twelve bytes' else 'thirteenbytes' end as edge,
        null::varchar as nothing, encode(repeat('z', (i % 20)::int)) as blob, '{"n":' || i || '}' as text,
        ('{"n":' || i || '}')::json as document,
        (i % 100)::tinyint as i8, (i % 200)::utinyint as u8, i::smallint as i16, i::usmallint as u16, i::integer as i32,
        i::uinteger as u32, if(i % 2 = 0, null, i)::bigint as i64, i::ubigint as u64, (i / 3)::float as f32,
        if(i % 5 = 0, null, i / 7)::double as f64, date '2026-01-01' + i::integer as day,
        make_timestamp(i * 1000001) as us, make_timestamp(i * 1000001)::timestamp_s as s,
        make_timestamp(i * 1000001)::timestamp_ms as ms, make_timestamp(i * 1000001)::timestamp_ns as ns,
        make_timestamp(i * 1000001)::timestamptz as tz
        """

    @Test func areTheRowsThatTheEngineExports() async throws {
        try await withStore { store in
            for count in [0, 1, 2047, 2048, 2049, 10_000] {
                let source = "from range(\(count)) t(i)"
                let plain = try await rows(store, "select \(Self.columns) \(source)")
                let exported = try await rows(store, "select \(Self.columns)\(Self.exported) \(source)")
                #expect(plain.count == count && plain == exported.map { Array($0.dropLast()) }, "\(count) rows")
            }
        }
    }

    @Test func filteredAndConstantColumnsAreTheRowsThatTheEngineExports() async throws {
        try await withStore { store in
            for filter in ["i % 3 = 1", "i > 5000", "i < 0", "i = 4321"] {
                let source = "from range(9000) t(i) where \(filter)"
                let columns = "i::varchar as i, 'always the same text' as c, null::bigint as n, \(Self.columns)"
                let plain = try await rows(store, "select \(columns) \(source)")
                let exported = try await rows(store, "select \(columns)\(Self.exported) \(source)")
                #expect(plain == exported.map { Array($0.dropLast()) }, "\(filter)")
            }
        }
    }

    @Test func batchesOfManyChunksKeepTheirTexts() async throws {
        try await withStore { store in
            let result = try await store.query(
                "select repeat('t', (i % 30)::int) || i as t, i from range(50000) t(i)",
                limits: QueryLimits(batchBytesTarget: 1 << 30)
            )
            let batches = try await result.collect()
            #expect(batches.map(\.rowCount) == [50_000])
            for row in [0, 2047, 2048, 29_999, 49_999] {
                #expect(
                    batches[0].value(row: row, column: 0) == .string(String(repeating: "t", count: row % 30) + "\(row)")
                )
            }
        }
    }
}
