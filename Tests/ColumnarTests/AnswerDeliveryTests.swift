internal import Testing

@testable internal import Columnar

@Suite(.timeLimit(.minutes(10)))
struct AnswerDeliveryTests {
    private static func values(_ result: ColumnarResult) async throws -> [[ArrowValue]] {
        try await result.collect().flatMap { batch in
            (0..<batch.rowCount).map { row in batch.columns.map { $0.value(row) } }
        }
    }

    @Test func wholeAnswersAreThoseThatAreStreamed() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await store.ingest(table: "events", batch: try eventBatch(first: 1, count: 5_000), position: 5_000)
            for sql in [
                "SELECT actor, count(*) AS n, sum(delta), max(payload) FROM events GROUP BY actor ORDER BY actor",
                "SELECT * FROM events ORDER BY sequence", "SELECT sequence FROM events WHERE false",
                "SELECT [delta, 1] AS list, moment FROM events ORDER BY sequence LIMIT 3000",
            ] {
                let streamed = try await store.query(sql, origin: .router)
                let whole = try await store.query(sql, origin: .router, delivery: .whole)
                #expect(whole.schema == streamed.schema, "\(sql)")
                #expect(whole.position == 5_000)
                let (one, other) = (try await Self.values(whole), try await Self.values(streamed))
                #expect(one == other, "\(sql)")
            }
        }
    }

    @Test func aTextThatIsNoSingleSelectIsRefusedAsBefore() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            for sql in [
                "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE events", "COMMIT; DROP TABLE events", "DROP TABLE events",
                "WITH x AS (SELECT 1) DELETE FROM events", "select 1; DROP TABLE events", "",
            ] {
                let whole = await code { try await store.query(sql, origin: .router, delivery: .whole).collect() }
                let streamed = await code { try await store.query(sql, origin: .router).collect() }
                #expect(whole != nil && whole == streamed, "\(sql)")
            }
            let counted = try await rows(store, "SELECT count(*) FROM events")
            #expect(counted == [[.int(0)]])
        }
    }

    @Test func whatDoesNotFitAsAWholeIsStreamed() async throws {
        let configuration = ColumnarConfiguration(memoryLimitBytes: 48 << 20)
        try await withStore(configuration) { store in
            let sql = "SELECT repeat('x', 1000) || range AS text FROM range(200000)"
            let limits = QueryLimits(rowsMax: .max, bytesMax: .max)
            var count = 0
            for try await batch in try await store.query(sql, origin: .router, limits: limits, delivery: .whole).batches
            {
                count += batch.rowCount
            }
            #expect(count == 200_000)
        }
    }

    @Test func theTimeLimitEndsAWholeAnswer() async throws {
        try await withStore { store in
            let bomb = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range * b.range = 17"
            let limits = QueryLimits(timeLimit: .milliseconds(20))
            let outcome = await code {
                try await store.query(bomb, origin: .router, limits: limits, delivery: .whole).collect()
            }
            #expect(outcome == .timeLimit)
            let served = try await rows(store, "SELECT 1")
            #expect(served == [[.int(1)]])
        }
    }

    @Test func positionsAreThoseOfTheRowsWhateverIsWrittenBetween() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            var position: UInt64 = 0
            for round in 0..<40 {
                // Some statements between two writes, so that the numbers are remembered and forgotten.
                if round % 3 != 2 {
                    let batch = try eventBatch(first: position + 1, count: 10)
                    position += 10
                    try await store.ingest(table: "events", batch: batch, position: position)
                }
                for delivery in [AnswerDelivery.streamed, .whole] {
                    let result = try await store.query(
                        "SELECT count(*) FROM events",
                        origin: .router,
                        delivery: delivery
                    ) { snapshot in
                        let doubled = try snapshot.number("SELECT position * 2 FROM _position") ?? 0
                        #expect(doubled == snapshot.position * 2)
                        return QueryScope(position: snapshot.position)
                    }
                    #expect(result.position == position)
                    let rows = try await Self.values(result)
                    #expect(rows == [[.int(Int64(position))]])
                }
            }
        }
    }

    @Test func positionsFitTheRowsWhileOthersWrite() async throws {
        try await withStore { store in
            try await store.createTable(eventTable)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for round in 0..<60 {
                        let batch = try eventBatch(first: UInt64(round * 5 + 1), count: 5)
                        try await store.ingest(table: "events", batch: batch, position: UInt64(round * 5 + 5))
                    }
                }
                for delivery in [AnswerDelivery.streamed, .whole] {
                    group.addTask {
                        for _ in 0..<150 {
                            let result = try await store.query(
                                "SELECT count(*) FROM events",
                                origin: .router,
                                delivery: delivery
                            )
                            let rows = try await Self.values(result)
                            #expect(rows == [[.int(Int64(result.position))]])
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}

@Suite struct SnapshotNumbersTests {
    @Test func areKnownOnlyAsLongAsNobodyWrites() throws {
        let numbers = SnapshotNumbers()
        #expect(numbers.known() == nil)
        numbers.keep(position: 7, ["a": 1], since: numbers.quietWrites())
        let known = try #require(numbers.known())
        #expect(known.position == 7)
        #expect(numbers.isStill(known))
        numbers.beginWriting()
        #expect(numbers.quietWrites() == nil)
        #expect(!numbers.isStill(known))
        numbers.endWriting()
        // Statements that a write came between read for themselves for a while.
        #expect((0..<16).allSatisfy { _ in numbers.known() == nil })
    }

    @Test func areNotKeptFromASnapshotThatAWriteCameAfter() {
        let numbers = SnapshotNumbers()
        let writes = numbers.quietWrites()
        numbers.beginWriting()
        numbers.keep(position: 7, [:], since: writes)
        numbers.endWriting()
        numbers.keep(position: 7, [:], since: writes)
        #expect(numbers.known() == nil)
        numbers.keep(position: 8, [:], since: numbers.quietWrites())
        #expect(numbers.known()?.position == 8)
    }
}
