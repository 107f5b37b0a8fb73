internal import Testing

@testable internal import Columnar

/// Would run for centuries.
private let silentBomb = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range * b.range = 17"
/// Would give rows for centuries.
private let streamingBomb = "SELECT a.range AS x FROM range(100000000) a, range(100000) b"

@Suite(.timeLimit(.minutes(10)))
struct QueryLimitTests {
    @Test func theTimeLimitEndsAQueryThatGivesNoRows() async throws {
        try await withStore { store in
            let limits = QueryLimits(timeLimit: .milliseconds(20))
            #expect(await code { try await store.query(silentBomb, limits: limits).collect() } == .timeLimit)
            // The store serves on.
            let served = try await rows(store, "SELECT 1")
            #expect(served == [[.int(1)]])
        }
    }

    @Test func theTimeLimitEndsAQueryThatStreams() async throws {
        let configuration = ColumnarConfiguration(timeLimit: .milliseconds(30))
        try await withStore(configuration) { store in
            let limits = QueryLimits(rowsMax: .max, bytesMax: .max)
            let outcome = await code {
                for try await batch in try await store.query(streamingBomb, limits: limits).batches {
                    #expect(batch.rowCount > 0)
                }
            }
            #expect(outcome == .timeLimit)
        }
    }

    @Test func cancellationOfTheTaskEndsTheQuery() async throws {
        try await withStore { store in
            await withTaskGroup(of: ColumnarError.Code?.self) { group in
                group.addTask { await code { try await store.query(silentBomb).collect() } }
                group.cancelAll()
                #expect(await group.next() == .cancelled)
            }
            await withTaskGroup(of: ColumnarError.Code?.self) { group in
                let (started, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingOldest(1))
                group.addTask {
                    await code {
                        let limits = QueryLimits(rowsMax: .max, bytesMax: .max)
                        for try await _ in try await store.query(streamingBomb, limits: limits).batches {
                            signal.yield()
                        }
                    }
                }
                for await _ in started { break }
                group.cancelAll()
                #expect(await group.next() == .cancelled)
            }
            let served = try await rows(store, "SELECT 1")
            #expect(served == [[.int(1)]])
        }
    }

    @Test func aDroppedResultFreesItsThread() async throws {
        let threads = ColumnarThreads(configuration: .init(queryThreads: 1))
        let store = try await ColumnarStore.open(.memory, threads: threads)
        for _ in 0..<5 {
            let result = try await store.query(streamingBomb, limits: QueryLimits(rowsMax: .max, bytesMax: .max))
            var iterator = result.batches.makeAsyncIterator()
            #expect(try await iterator.next() != nil)
        }
        // The only query thread is free again.
        let served = try await rows(store, "SELECT 1")
        #expect(served == [[.int(1)]])
        await store.close()
        await threads.shutdown()
    }

    @Test func cancelByHandReachesTheConsumer() async throws {
        try await withStore { store in
            let result = try await store.query(streamingBomb, limits: QueryLimits(rowsMax: .max, bytesMax: .max))
            result.cancel()
            #expect(await code { try await result.collect() } == .cancelled)
        }
    }

    @Test func theMemoryLimitIsATypedError() async throws {
        let configuration = ColumnarConfiguration(memoryLimitBytes: 16 << 20)
        try await withStore(configuration) { store in
            let sql = "SELECT count(*) FROM (SELECT range, list(range) FROM range(5000000) GROUP BY range)"
            #expect(await code { try await store.query(sql).collect() } == .memoryLimit)
            let served = try await rows(store, "SELECT 1")
            #expect(served == [[.int(1)]])
        }
    }

    @Test func rowsAndBytesOfAResultAreLimited() async throws {
        try await withStore { store in
            let sql = "SELECT * FROM range(10000)"
            #expect(
                await code { try await store.query(sql, limits: QueryLimits(rowsMax: 9_999)).collect() } == .resultLimit
            )
            #expect(
                await code { try await store.query(sql, limits: QueryLimits(bytesMax: 10_000)).collect() }
                    == .resultLimit
            )
            let exact = try await store.query(sql, limits: QueryLimits(rowsMax: 10_000)).collect()
            #expect(exact.reduce(0) { $0 + $1.rowCount } == 10_000)
        }
    }

    @Test func chunksAreJoinedToTheTargetSize() async throws {
        try await withStore { store in
            let sql = "SELECT range::BIGINT AS x FROM range(100000)"
            let small = try await store.query(sql, limits: QueryLimits(batchBytesTarget: 1)).collect()
            let large = try await store.query(sql).collect()
            #expect(small.count > 40)
            #expect(large.count == 1)
            #expect(large[0].int64(row: 99_999, column: 0) == 99_999)
        }
    }

    @Test func anEmptyResultHasASchemaAndNoBatches() async throws {
        try await withStore { store in
            let result = try await store.query("SELECT 1 AS a, 'x' AS b WHERE false")
            #expect(result.schema.fields.map(\.name) == ["a", "b"])
            #expect(try await result.collect().isEmpty)
        }
    }
}

@Suite(.timeLimit(.minutes(10)))
struct ColumnarThreadsTests {
    @Test func aFullQueueIsRefused() async throws {
        let threads = ColumnarThreads(configuration: .init(queryThreads: 1, queuedJobsMax: 2))
        let (held, hold) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingOldest(1))
        let gate = Gate()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await threads.run(on: .query) {
                    hold.yield()
                    gate.wait()
                }
            }
            for await _ in held { break }
            #expect(threads.submit(on: .query) {} == nil)
            #expect(threads.submit(on: .query) {} == nil)
            #expect(threads.submit(on: .query) {}?.code == .busy)
            // The other lane goes on.
            #expect(try await threads.run(on: .ingest) { 7 } == 7)
            gate.open()
            try await group.waitForAll()
        }
        await threads.shutdown()
        #expect(await code { try await threads.run(on: .query) { 1 } } == .closed)
    }

    @Test func shutdownFinishesWhatIsQueued() async throws {
        let threads = ColumnarThreads(configuration: .init(queryThreads: 1))
        let counter = Counter()
        for _ in 0..<100 { #expect(threads.submit(on: .query) { counter.add() } == nil) }
        await threads.shutdown()
        #expect(counter.value == 100)
    }

    @Test(arguments: [
        ArrowValue.time(.max, .second), .timestamp(.max, .second, timezone: "UTC"),
        .timestamp(.min, .millisecond, timezone: "UTC"),
    ])
    func timesOutOfRangeAreRefusedAsParameters(value: ArrowValue) async throws {
        try await withStore { store in
            let error = await #expect(throws: ColumnarError.self) {
                try await store.query("SELECT ?", parameters: [value])
            }
            #expect(error?.code == .binder)
            _ = try await store.query("SELECT ?", parameters: [.timestamp(5, .second, timezone: "UTC")])
        }
    }
}
