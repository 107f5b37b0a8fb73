internal import Testing

@testable internal import Columnar

@Suite("Texts that columns share", .timeLimit(.minutes(10)))
struct SharedTextsTests {
    /// Around the length up to which the engine keeps a text in its vector, and beyond it.
    private static let texts = ["", "a", "exactly 12 b", "exactly 13 by", "Änderung über den Rand hinaus", "{}"]

    /// Rows in three chunks of the engine: every text by turns, each fourth absent.
    private func batch(rows: Int) throws -> (batch: ColumnBatch, expected: [[ArrowValue]]) {
        var bytes: [UInt8] = Array("before ".utf8)
        var places: [Range<Int>] = []
        for text in Self.texts {
            places.append(bytes.count..<bytes.count + text.utf8.count)
            bytes += Array(text.utf8)
        }
        var sequence = ColumnBuilder(.uint64)
        var changing = ColumnBuilder(.utf8, capacity: rows, sharesTexts: true)
        var steady = ColumnBuilder(.json, sharesTexts: true)
        var expected: [[ArrowValue]] = []
        for row in 0..<rows {
            let index = row % Self.texts.count
            sequence.append(UInt64(row))
            if row % 4 == 3 { changing.appendNull() } else { changing.append(shared: places[index]) }
            steady.append(shared: places[row < rows / 2 ? 3 : 4])
            expected.append([
                row % 4 == 3 ? .null : .string(Self.texts[index]), .string(Self.texts[row < rows / 2 ? 3 : 4]),
            ])
        }
        return (try ColumnBatch(columns: [sequence, changing, steady], texts: bytes), expected)
    }

    @Test func areReadBackAsTheyWereWritten() async throws {
        try await withStore { store in
            try await store.createTable(
                TableSchema(
                    name: "shared",
                    columns: [
                        ColumnDefinition("sequence", .uint64), ColumnDefinition("changing", .utf8),
                        ColumnDefinition("steady", .json),
                    ]
                )
            )
            let (batch, expected) = try self.batch(rows: 5_001)
            #expect(try await store.ingest(table: "shared", batch: batch, position: 1) == .applied)
            let found = try await rows(store, "SELECT changing, CAST(steady AS VARCHAR) FROM shared ORDER BY sequence")
            #expect(found == expected)
            // Equal texts are equal to the engine too, whichever way they lie in its vectors.
            let groups = try await rows(
                store,
                """
                SELECT CAST(count(DISTINCT changing) AS BIGINT),
                    CAST(count(*) FILTER (changing = 'exactly 12 b') AS BIGINT) FROM shared
                """
            )
            let wanted = expected.count { $0[0] == .string("exactly 12 b") }
            #expect(groups == [[.int(Int64(Self.texts.count)), .int(Int64(wanted))]])
        }
    }

    @Test func mustLieInTheBatch() throws {
        var column = ColumnBuilder(.utf8, sharesTexts: true)
        column.append(shared: 2..<5)
        #expect(throws: ColumnarError.self) { try ColumnBatch(columns: [column], texts: [1, 2, 3, 4]) }
        #expect(throws: Never.self) { try ColumnBatch(columns: [column], texts: [1, 2, 3, 4, 5]) }
    }
}
