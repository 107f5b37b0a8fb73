import Columnar
import NIOCore
import Primitives
import Testing

@testable import NodeRuntime
@testable import QueryRouter

@Suite struct QueriesCacheTests {
    private static let lab = OrganizationKey("lab-a")!
    private static let schema = ArrowSchema(fields: [ArrowField("n", .int64)])

    private static func request(_ sql: String = "select n from audit_log") -> QueryRequest {
        QueryRequest(sql: sql, organizations: [Self.lab])
    }

    private static func key(
        _ request: QueryRequest,
        seesReserved: Bool = false
    ) -> QueryCache.Key {
        QueryCache.Key(
            sql: request.sql,
            parameters: request.parameters,
            organizations: request.organizations,
            plan: request.planChoice,
            seesReserved: seesReserved
        )
    }

    private static func outcome(_ batches: RecordBatchStream = RecordBatchStream(batches: [])) -> QueryOutcome {
        QueryOutcome(
            schema: Self.schema,
            batches: batches,
            provenance: [],
            absences: [],
            plan: .single,
            statistics: QueryStatistics(
                organizations: 1,
                shards: 1,
                gatheredRows: 0,
                gatheredBytes: 0,
                planning: .zero,
                gathering: .zero
            )
        )
    }

    private static func batch(_ values: [Int64]) throws -> ArrowRecordBatch {
        try ArrowRecordBatch.make(schema: Self.schema, columns: [values.map { .int($0) }])
    }

    /// Runs a statement through the cache as the service does.
    private static func read(
        _ cache: QueryCache,
        _ key: QueryCache.Key,
        at sequence: UInt64,
        _ batches: [ArrowRecordBatch]
    ) async throws {
        let kept = KeptBatches(
            outcome: Self.outcome(RecordBatchStream(batches: batches)),
            cache: cache,
            key: key,
            sequences: [Self.lab: SequenceNumber(sequence)]
        )
        for try await _ in kept {}
    }

    @Test func theSameQuestionOverTheSameRecordsIsAnsweredFromWhatWasKept() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        let key = Self.key(Self.request())
        try await Self.read(cache, key, at: 7, [Self.batch([1, 2]), Self.batch([3])])
        let found = try #require(cache.find(key, at: [Self.lab: SequenceNumber(7)], within: Self.request()))
        #expect(try await found.batches.collect().map(\.rowCount) == [2, 1])
    }

    @Test func oneRecordMoreAndTheAnswerIsNotUsed() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        let key = Self.key(Self.request())
        try await Self.read(cache, key, at: 7, [Self.batch([1])])
        #expect(cache.find(key, at: [Self.lab: SequenceNumber(8)], within: Self.request()) == nil)
        #expect(cache.find(key, at: [:], within: Self.request()) == nil)
    }

    @Test func whoSeesMoreHasAnswersOfTheirOwn() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        try await Self.read(cache, Self.key(Self.request(), seesReserved: true), at: 7, [Self.batch([1])])
        let other = Self.key(Self.request(), seesReserved: false)
        #expect(cache.find(other, at: [Self.lab: SequenceNumber(7)], within: Self.request()) == nil)
    }

    @Test func anAnswerThatWasNotReadToItsEndIsNotKept() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        let kept = KeptBatches(
            outcome: Self.outcome(RecordBatchStream(batches: [try Self.batch([1]), try Self.batch([2])])),
            cache: cache,
            key: Self.key(Self.request()),
            sequences: [Self.lab: SequenceNumber(1)]
        )
        for try await _ in kept { break }
        #expect(cache.size.answers == 0)
    }

    @Test func aLargeAnswerIsHandedOnButNotKept() async throws {
        let cache = QueryCache(bytesMax: 16 << 10)
        let big = try Self.batch(Array(repeating: 1, count: 10_000))
        try await Self.read(cache, Self.key(Self.request()), at: 1, [big])
        #expect(cache.size.answers == 0)
    }

    @Test func theBytesStayWithinTheirBoundAndTheLeastUsedGoesFirst() async throws {
        let cache = QueryCache(bytesMax: 16 << 10)
        let at = [Self.lab: SequenceNumber(1)]
        let requests = (0..<40).map { Self.request("select \($0)") }
        for request in requests {
            try await Self.read(cache, Self.key(request), at: 1, [Self.batch([1])])
            _ = cache.find(Self.key(requests[0]), at: at, within: requests[0])
            #expect(cache.size.bytes <= 16 << 10)
        }
        #expect(cache.find(Self.key(requests[0]), at: at, within: requests[0]) != nil)
        #expect(cache.find(Self.key(requests[1]), at: at, within: requests[1]) == nil)
        #expect(cache.find(Self.key(requests[39]), at: at, within: requests[39]) != nil)
    }

    /// A batch in a frame as a worker sends it, which has more room than bytes.
    private static func lent(_ count: Int, capacity: Int) throws -> (batch: ArrowRecordBatch, frame: ByteBuffer) {
        let parts = try ArrowStreamEncoder(schema: Self.schema).parts(of: Self.batch(Array(repeating: 1, count: count)))
        var frame = ByteBufferAllocator().buffer(capacity: capacity)
        frame.writeBytes(WorkerBatch.head(parts))
        parts.forEachSpan { frame.writeBytes($0) }
        var decoder = ArrowMessageDecoder()
        let head = ArrowStreamEncoder(schema: Self.schema).flightSchemaHeader()
        _ = try decoder.decode(metadata: head, body: ArrowBuffer.empty)
        let message = try WorkerBatch(frame)
        return (try #require(try decoder.decode(metadata: message.metadata, body: message.body)), frame)
    }

    @Test func aFrameCountsWithAllOfItsRoom() throws {
        let (batch, frame) = try Self.lent(100, capacity: 1 << 16)
        #expect(batch.byteCount == 800)
        #expect(batch.heldBytes { ($0 as? ByteBuffer)?.storageCapacity } == frame.storageCapacity)
        #expect(batch.heldBytes { _ in nil } == 800)
        #expect(try Self.batch([1, 2]).heldBytes { _ in 1 << 20 } == 16, "its own memory is nobody's loan")
    }

    @Test func aKeptAnswerIsSentFromTheFrameInWhichItCame() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        let key = Self.key(Self.request())
        let (batch, frame) = try Self.lent(1_000, capacity: 1 << 16)
        try await Self.read(cache, key, at: 7, [batch])
        #expect(cache.size.bytes == frame.storageCapacity + QueryCache.entryOverheadBytes)
        for _ in 0..<2 {
            let found = try #require(cache.find(key, at: [Self.lab: SequenceNumber(7)], within: Self.request()))
            let parts = try ArrowStreamEncoder(schema: Self.schema).parts(
                of: try #require(try await found.batches.collect().first)
            )
            let message = FlightSender.message(parts)
            #expect(message.count == 2)
            let (sent, kept) = (
                try #require(message.last), frame.getSlice(at: frame.writerIndex - 8_000, length: 8_000)
            )
            #expect(Self.address(sent) == Self.address(try #require(kept)), "nothing is copied")
        }
    }

    private static func address(_ buffer: ByteBuffer) -> UInt? {
        buffer.withUnsafeReadableBytes { $0.baseAddress.map { UInt(bitPattern: $0) } }
    }

    @Test func answersThatGrowCountAndMakeRoomAndAreForgottenWithTheirReader() async throws {
        let cache = QueryCache(bytesMax: 16 << 10)
        try await Self.read(cache, Self.key(Self.request("select 1")), at: 1, [Self.batch([1])])
        func growing(_ sql: String) throws -> RecordBatchStream.AsyncIterator {
            let batches = try (0..<6).map { _ in try Self.batch(Array(repeating: 1, count: 128)) }
            return RecordBatchStream(
                KeptBatches(
                    outcome: Self.outcome(RecordBatchStream(batches: batches)),
                    cache: cache,
                    key: Self.key(Self.request(sql)),
                    sequences: [Self.lab: SequenceNumber(1)]
                )
            ).makeAsyncIterator()
        }
        var readers = try (0..<3).map { try growing("select \($0 + 2)") }
        for _ in 0..<6 {
            for index in readers.indices { #expect(try await readers[index].next()?.rowCount == 128) }
            #expect(cache.size.bytes <= 16 << 10)
        }
        #expect(cache.size.answers == 0, "the kept one has made room")
        for index in readers.indices { #expect(try await readers[index].next() == nil) }
        // Three of 7 KiB do not fit into 16: one of them was only handed on.
        #expect(cache.size.answers == 2)
        #expect(cache.size.bytes == 2 * (6 * 1_024 + QueryCache.entryOverheadBytes))
        readers = [try growing("select 9")]
        _ = try await readers[0].next()
        let before = cache.size.bytes
        readers = []
        #expect(cache.size.bytes == before - 1_024 - QueryCache.entryOverheadBytes)
    }

    @Test func whatIsStillReadStaysCountedWhenItIsNoLongerKept() async throws {
        let cache = QueryCache(bytesMax: 16 << 10)
        let at = [Self.lab: SequenceNumber(1)]
        let big = try Self.batch(Array(repeating: 1, count: 800))
        try await Self.read(cache, Self.key(Self.request("select 1")), at: 1, [big])
        try await Self.read(cache, Self.key(Self.request("select 2")), at: 1, [big])
        var reader =
            try #require(cache.find(Self.key(Self.request("select 1")), at: at, within: Self.request()))
            .batches.makeAsyncIterator() as RecordBatchStream.AsyncIterator?
        // The one that nobody reads goes first; the other one is dropped, and yet there.
        try await Self.read(cache, Self.key(Self.request("select 3")), at: 1, [big])
        try await Self.read(cache, Self.key(Self.request("select 4")), at: 1, [big])
        #expect(cache.size.bytes <= 16 << 10)
        #expect(try await reader?.next()?.rowCount == 800)
        reader = nil
        #expect(cache.size.bytes <= 8 << 10, "its reader has gone, and nothing counts for it any more")
    }

    @Test func anAnswerLargerThanTheRequestAllowsIsNotUsed() async throws {
        let cache = QueryCache(bytesMax: 1 << 20)
        var request = Self.request()
        try await Self.read(cache, Self.key(request), at: 1, [Self.batch([1, 2, 3])])
        request.resultRowsMax = 2
        #expect(cache.find(Self.key(request), at: [Self.lab: SequenceNumber(1)], within: request) == nil)
    }

    @Test(arguments: [
        "select now()", "select RANDOM() from audit_log", "select * from audit_log using sample 10",
        "select * from audit_log tablesample 5%", "select age(recorded_at) from audit_log", "explain analyze select 1",
        "select 'today'::date", "select current_timestamp",
    ])
    func whatVariesByItselfIsNeverKept(sql: String) {
        #expect(!QueryCache(bytesMax: 1 << 20).keeps(Self.request(sql)))
    }

    /// A key that equals another's would give the answer to another value.
    @Test(arguments: [0.0, -0.0, 1.5])
    func answersToZerosAreNotKept(value: Double) {
        var request = Self.request("select ?")
        request.parameters = [.string("a"), .double(value)]
        #expect(QueryCache(bytesMax: 1 << 20).keeps(request) == (value != 0))
    }

    @Test func plainStatementsAreKeptUnlessThereIsNoCache() {
        let sql = "select action, count(*) from audit_log group by all order by all limit 5"
        #expect(QueryCache(bytesMax: 1 << 20).keeps(Self.request(sql)))
        #expect(!QueryCache(bytesMax: 0).keeps(Self.request(sql)))
    }
}
