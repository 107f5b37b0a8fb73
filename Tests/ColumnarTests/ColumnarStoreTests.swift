internal import Foundation
internal import Testing

@testable internal import Columnar

@Suite(.timeLimit(.minutes(10)))
struct ColumnarStoreTests {
    @Test func ingestKeepsEveryValueAndNull() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            // More than two chunks of the engine, so that chunk borders are crossed.
            try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 5_000), position: 5_000)
            let totals = try await rows(
                store,
                """
                SELECT count(*), count(actor), sum(sequence)::BIGINT, min(moment), max(moment), count(*) FILTER (ok),
                  sum(delta)::BIGINT, sum(ratio), sum((payload->>'n')::BIGINT)::BIGINT,
                  count(*) FILTER (actor = 'actor with a long name ' || sequence) FROM events
                """
            )
            let sum: Int64 = 5_000 * 5_001 / 2
            #expect(
                totals == [
                    [
                        .int(5_000), .int(3_334), .int(sum), .timestamp(1_000_001, .microsecond, timezone: nil),
                        .timestamp(5_000 * 1_000_001, .microsecond, timezone: nil), .int(2_500), .int(-sum),
                        .double(Double(sum) / 4), .int(sum), .int(3_334),
                    ]
                ]
            )
        }
    }

    private static func threads(_ store: ColumnarStore) async throws -> [[ArrowValue]] {
        // What the engine says of itself, which users may not ask.
        try await store.threads.run(on: .query) {
            let connection = try store.database().connect()
            return [[.int(Int64(try connection.number("SELECT current_setting('threads')", doing: "ask") ?? 0))]]
        }
    }

    @Test func takesMoreThreadsWhenItsFileHasGrown() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let location = ColumnarStore.Location.file(directory + "/a.duckdb")
                let configuration = ColumnarConfiguration(threads: 3, parallelBytesMin: 1_500_000)
                let store = try await ColumnarStore.open(location, configuration: configuration, threads: threads)
                try await store.createTable(eventTable)
                #expect(try await rows(store, "SELECT count(*) FROM events") == [[.int(0)]])
                #expect(try await Self.threads(store) == [[.int(1)]])
                let batch = try eventBatch(first: 1, count: 200_000)
                try await store.ingest(table: "events", batch: batch, position: 200_000)
                try await store.checkpoint()
                // The next statement finds it.
                #expect(
                    try await rows(store, "SELECT count(*), max(sequence)::BIGINT FROM events") == [
                        [.int(200_000), .int(200_000)]
                    ]
                )
                #expect(try await Self.threads(store) == [[.int(3)]])
                await #expect(throws: ColumnarError.self) { try await store.execute("SET memory_limit = '1GB'") }
                await store.close()

                let again = try await ColumnarStore.open(location, configuration: configuration, threads: threads)
                #expect(try await Self.threads(again) == [[.int(3)]], "as large from the beginning")
                await again.close()
                let memory = try await ColumnarStore.open(.memory, configuration: configuration, threads: threads)
                #expect(try await Self.threads(memory) == [[.int(3)]])
                await memory.close()
            }
        }
    }

    @Test func appliesABatchExactlyOnce() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            let batch = try eventBatch(first: 1, count: 10)
            #expect(try await store.ingest(table: "events", batch: batch, position: 10) == .applied)
            #expect(try await store.ingest(table: "events", batch: batch, position: 10) == .alreadyApplied)
            #expect(try await store.ingest(table: "events", batch: batch, position: 9) == .alreadyApplied)
            #expect(try await rows(store, "SELECT count(*) FROM events") == [[.int(10)]])
            #expect(try await store.position() == 10)
        }
    }

    @Test func aReopenedFileContinuesWhereItWasCommitted() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let location = ColumnarStore.Location.file(directory + "/a.duckdb")
                let first = try await ColumnarStore.open(location, threads: threads)
                try await first.createTable(eventTable)
                try await first.ingest(table: "events", batch: eventBatch(first: 1, count: 100), position: 100)
                // Stopped in the middle of an ingest: rows are in, the commit is not.
                let unfinished = try eventBatch(first: 101, count: 100)
                try await threads.run(on: .ingest) {
                    try first.withIngestConnection { connection in
                        try connection.execute("BEGIN TRANSACTION", doing: "begin")
                        let appender = try EngineAppender(connection, table: "events")
                        try appender.append(unfinished)
                        try appender.flush()
                        try connection.execute("UPDATE _position SET position = 200", doing: "move")
                    }
                }
                await first.close()

                let second = try await ColumnarStore.open(location, threads: threads)
                #expect(try await second.position() == 100)
                #expect(try await rows(second, "SELECT count(*) FROM events") == [[.int(100)]])
                #expect(try await second.ingest(table: "events", batch: unfinished, position: 200) == .applied)
                try await second.checkpoint()
                await second.close()

                let third = try await ColumnarStore.open(location, threads: threads)
                #expect(try await third.position() == 200)
                #expect(
                    try await rows(third, "SELECT count(*), count(DISTINCT sequence) FROM events")
                        == [[.int(200), .int(200)]]
                )
                await third.close()
            }
        }
    }

    @Test func aFailedIngestLeavesNothing() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 5), position: 5)
            var sequence = ColumnBuilder(.uint64)
            for number in 6..<5_000 { sequence.append(UInt64(number)) }
            sequence.appendNull()  // in the third chunk, and the table does not allow it
            let good = try eventBatch(first: 6, count: 4_995)
            let bad = try ColumnBatch(columns: [sequence] + good.columns.dropFirst())
            #expect(await code { try await store.ingest(table: "events", batch: bad, position: 5_000) } == .execution)
            #expect(await code { try await store.ingest(table: "nope", batch: good, position: 6) } == .catalog)
            let narrow = try ColumnBatch(columns: [sequence])
            #expect(
                await code { try await store.ingest(table: "events", batch: narrow, position: 6) } == .schemaMismatch
            )
            let swapped = try ColumnBatch(columns: good.columns.reversed())
            #expect(
                await code { try await store.ingest(table: "events", batch: swapped, position: 6) } == .schemaMismatch
            )
            #expect(try await store.position() == 5)
            #expect(try await rows(store, "SELECT count(*) FROM events") == [[.int(5)]])
            #expect(try await store.ingest(table: "events", batch: good, position: 5_000) == .applied)
        }
    }

    @Test func thePositionBelongsToTheSnapshotOfTheRows() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for batch in 0..<60 {
                        try await store.ingest(
                            table: "events",
                            batch: eventBatch(first: UInt64(batch * 50 + 1), count: 50),
                            position: UInt64(batch * 50 + 50)
                        )
                    }
                }
                group.addTask {
                    for _ in 0..<40 {
                        let result = try await store.query("SELECT count(*), coalesce(max(sequence), 0) FROM events")
                        let batch = try #require(try await result.collect().first)
                        #expect(batch.int64(row: 0, column: 0) == Int64(result.position))
                        #expect(batch.int64(row: 0, column: 1) == Int64(result.position))
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await store.position() == 3_000)
        }
    }

    @Test func aStreamedResultKeepsItsSnapshotWhileIngestGoesOn() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 20_000), position: 20_000)
            let result = try await store.query("SELECT sequence FROM events", limits: QueryLimits(batchBytesTarget: 1))
            var iterator = result.batches.makeAsyncIterator()
            var count = try #require(try await iterator.next()).rowCount
            try await store.ingest(table: "events", batch: eventBatch(first: 20_001, count: 10), position: 20_010)
            while let batch = try await iterator.next() { count += batch.rowCount }
            #expect(count == 20_000)
            #expect(result.position == 20_000)
        }
    }

    @Test func namesADamagedOrForeignFile() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let garbage = directory + "/garbage.duckdb"
                try Data(repeating: 0x5A, count: 20_000).write(to: URL(fileURLWithPath: garbage))
                #expect(await code { try await ColumnarStore.open(.file(garbage), threads: threads) } == .damaged)

                let good = directory + "/good.duckdb"
                let store = try await ColumnarStore.open(.file(good), threads: threads)
                try await store.createTable(eventTable)
                try await store.ingest(table: "events", batch: eventBatch(first: 1, count: 5_000), position: 5_000)
                await store.close()
                var bytes = try Data(contentsOf: URL(fileURLWithPath: good))
                // The header blocks: a flipped byte must be noticed by their checksums.
                for offset in [4_096 + 40, 8_192 + 40] { bytes[offset] ^= 0xFF }
                try bytes.write(to: URL(fileURLWithPath: directory + "/flipped.duckdb"))
                #expect(
                    await code { try await ColumnarStore.open(.file(directory + "/flipped.duckdb"), threads: threads) }
                        == .damaged
                )
                let foreign = directory + "/foreign.duckdb"
                let other = try await ColumnarStore.open(.file(foreign), threads: threads)
                try await other.execute("DROP TABLE _position; CREATE TABLE theirs (x INTEGER)")
                await other.close()
                #expect(await code { try await ColumnarStore.open(.file(foreign), threads: threads) } == .damaged)
                // Not damage: the operator must act, and a rebuild would not help.
                #expect(
                    await code {
                        try await ColumnarStore.open(.file(directory + "/no/such/a.duckdb"), threads: threads)
                    }
                        == .io
                )
            }
        }
    }

    @Test func aFileThatIsInUseIsNotTakenForADamagedOne() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let location = ColumnarStore.Location.file(directory + "/a.duckdb")
                let store = try await ColumnarStore.open(location, threads: threads)
                try await store.createTable(eventTable)
                let second = await code { try await ColumnarStore.open(location, threads: threads) }
                #expect(second == .io)
                #expect(await code { try await ColumnarStore.open(.file(directory), threads: threads) } == .io)
                await store.close()
                let again = try await ColumnarStore.open(location, threads: threads)
                #expect(try await again.position() == 0)
                await again.close()
            }
        }
    }

    @Test func closingStopsQueriesAndFreesTheFile() async throws {
        try await withDirectory { directory in
            try await withThreads { threads in
                let location = ColumnarStore.Location.file(directory + "/a.duckdb")
                let store = try await ColumnarStore.open(location, threads: threads)
                let endless = "SELECT a.range FROM range(100000000) a, range(100000) b"
                let result = try await store.query(endless, limits: QueryLimits(rowsMax: .max, bytesMax: .max))
                await store.close()
                // The result is still held, and its query is over all the same.
                #expect(await code { try await result.collect() } == .cancelled)
                let again = try await ColumnarStore.open(location, threads: threads)
                await again.close()
            }
        }
    }

    @Test func aClosedStoreSaysSo() async throws {
        try await withThreads { threads in
            let store = try await ColumnarStore.open(.memory, threads: threads)
            await store.close()
            await store.close()
            #expect(await code { try await store.query("SELECT 1") } == .closed)
            #expect(await code { try await store.position() } == .closed)
            #expect(await code { try await store.createTable(eventTable) } == .closed)
        }
    }

    @Test func refusesAConfigurationOutOfRange() async throws {
        try await withThreads { threads in
            for configuration in [
                ColumnarConfiguration(memoryLimitBytes: 1), ColumnarConfiguration(threads: 0),
                ColumnarConfiguration(timeLimit: .zero), ColumnarConfiguration(temporaryBytesMax: -1),
            ] {
                #expect(
                    await code {
                        try await ColumnarStore.open(.memory, configuration: configuration, threads: threads)
                    } == .invalidConfiguration
                )
            }
        }
    }

    @Test func givesThePlannerTreesStatementsAndTypes() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            let sql = "SELECT actor, count(*) AS n FROM events WHERE actor = 'it''s' GROUP BY actor"
            let tree = try await store.serializeSQL(sql)
            #expect(tree.contains("\"table_name\":\"events\""))
            let back = try await store.deserializeSQL(tree)
            #expect(try await store.serializeSQL(back).contains("it's"))
            let schema = try await store.describe(sql).schema
            #expect(schema.fields.map(\.name) == ["actor", "n"])
            #expect(schema.fields.map(\.type) == [.utf8, .int64])
            #expect(try await store.describe("SELECT payload FROM events").schema.fields[0].isJSON)
            #expect(await code { try await store.deserializeSQL("{}") } != nil)
        }
    }

    @Test func userErrorsCarryThePlaceInTheStatement() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            func failure(_ sql: String) async -> ColumnarError? {
                do {
                    _ = try await store.query(sql).collect()
                    return nil
                } catch { return error as? ColumnarError }
            }
            let syntax = await failure("SELECT 1 FRM events x y")
            #expect(syntax?.code == .syntax && syntax?.position == 13)
            let binder = await failure("SELECT nope FROM events")
            #expect(binder?.code == .binder && binder?.position == 7)
            let catalog = await failure("SELECT * FROM nope")
            #expect(catalog?.code == .catalog && catalog?.position == 14)
            let execution = await failure("SELECT actor::INTEGER FROM (VALUES ('x')) v(actor)")
            #expect(execution?.code == .execution)
            for error in [syntax, binder, catalog, execution] { #expect(error?.isUserError == true) }
            #expect(await failure("")?.code == .syntax)
            #expect(await failure("SELECT $1")?.code == .binder)
        }
    }
}
