internal import Columnar
internal import HTTPTypes
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime
@testable internal import Transport

@Suite("A peer's answer to a query", .timeLimit(.minutes(10)))
struct QueriesRemoteResultTests {
    private static let schema = ArrowSchema(fields: [ArrowField("n", .int64), ArrowField("t", .utf8)])

    /// The pieces of a stream of two batches: schema, batch, batch, end.
    private static func pieces() throws -> [[UInt8]] {
        let encoder = ArrowStreamEncoder(schema: Self.schema)
        let batches = try [[Int64(1), 2], [3]].map { numbers in
            let texts = numbers.map { ArrowValue.string("row \($0)") }
            return try ArrowRecordBatch.make(schema: Self.schema, columns: [numbers.map { .int($0) }, texts])
        }
        return [encoder.schemaMessage()] + (try batches.map { try encoder.message(for: $0) }) + [encoder.endOfStream()]
    }

    private static func response(
        _ bytes: [UInt8],
        _ fields: HTTPFields,
        _ trailers: HTTPFields?
    ) -> ClientResponse {
        let source = InboundBody {}
        _ = source.append(ByteBuffer(bytes: bytes))
        source.finish(trailers: trailers)
        let mailbox = Mailbox(eventLoop: MultiThreadedEventLoopGroup.singleton.any(), deliver: {})
        let lease = StreamLease(mailbox: mailbox, id: 1, source: source)
        return ClientResponse(
            head: HTTPResponse(status: .ok, headerFields: fields),
            body: ResponseBody(source: source, lease: lease)
        )
    }

    private static let good: HTTPFields = [
        RemoteShardResult.sequenceHeader: "17",
        RemoteShardResult.rootHeader: Digest(words: (1, 2, 3, 4)).hex,
    ]

    private static func read(
        _ bytes: [UInt8],
        _ fields: HTTPFields = good,
        trailers: HTTPFields? = nil
    ) async throws -> ShardResult {
        try await RemoteShardResult.read(
            Self.response(bytes, fields, trailers),
            of: try Fixture.key("lab-a"),
            from: NodeID(2)
        )
    }

    private static func numbers(_ result: ShardResult) async throws -> [ArrowValue] {
        var values: [ArrowValue] = []
        for try await batch in result.batches {
            for row in 0..<batch.rowCount { values.append(batch.value(row: row, column: 0)) }
        }
        return values
    }

    @Test func aWholeStreamGivesItsRowsAndWhereTheyStand() async throws {
        let result = try await Self.read(try Self.pieces().flatMap { $0 })
        #expect(result.schema == Self.schema)
        #expect(result.provenance.sequence == SequenceNumber(17))
        #expect(result.provenance.root == Digest(words: (1, 2, 3, 4)))
        #expect(result.provenance.node == NodeID(2))
        #expect(try await Self.numbers(result) == [.int(1), .int(2), .int(3)])
    }

    @Test func aStreamThatIsCutIsNeverAShorterResult() async throws {
        let pieces = try Self.pieces()
        let whole = pieces.flatMap { $0 }
        let schemaEnd = pieces[0].count
        let places = [
            schemaEnd, schemaEnd + 1, schemaEnd + pieces[1].count, schemaEnd + pieces[1].count + 9, whole.count - 1,
        ]
        for end in places + [whole.count - 8] {
            await #expect(throws: QueryError.self, "cut to \(end) of \(whole.count) bytes") {
                try await Self.numbers(try await Self.read(Array(whole[..<end])))
            }
        }
    }

    /// Only then may another replica begin anew.
    @Test func whatIsLostBeforeTheFirstRowsIsLostBeforeThereIsAResult() async throws {
        let pieces = try Self.pieces()
        let whole = pieces.flatMap { $0 }
        let firstEnd = pieces[0].count + pieces[1].count
        for end in [pieces[0].count, pieces[0].count + 1, firstEnd - 1] {
            let error = await #expect(throws: QueryError.self) { try await Self.read(Array(whole[..<end])) }
            #expect(error?.code == .unavailable)
            #expect(error.map(ReplicaFailover.mayGoElsewhere) == true)
        }
        _ = try await Self.read(Array(whole[..<firstEnd]))
        // No rows at all are an answer too.
        let empty = pieces[0] + pieces[3]
        #expect(try await Self.numbers(try await Self.read(empty)).isEmpty)
    }

    @Test func aStreamThatBreaksOffSaysWhy() async throws {
        let pieces = try Self.pieces()
        let reason: HTTPFields = [
            RemoteShardResult.errorHeader: "timeLimit", RemoteShardResult.messageHeader: "too%20long",
        ]
        for end in [pieces[0].count, pieces[0].count + pieces[1].count] {
            let bytes = Array(pieces.flatMap { $0 }[..<end])
            let error = await #expect(throws: QueryError.self) {
                try await Self.numbers(try await Self.read(bytes, trailers: reason))
            }
            #expect(error?.code == .timeLimit)
            #expect(error?.message == "too long")
            #expect(error.map(ReplicaFailover.mayGoElsewhere) == false)
        }
    }

    @Test func whatEndedAWorkerThereIsNotAskedElsewhere() async throws {
        var fields: HTTPFields = [RemoteShardResult.errorHeader: QueryError.Code.unavailable.rawValue]
        let lost = await #expect(throws: QueryError.self) { try await Self.read([], fields) }
        #expect(lost.map(ReplicaFailover.mayGoElsewhere) == true)
        fields[RemoteShardResult.workerEndedHeader] = "1"
        let ended = await #expect(throws: QueryError.self) { try await Self.read([], fields) }
        #expect(ended.map(ReplicaFailover.mayGoElsewhere) == false)
        #expect(ended?.hasEndedItsWorker == true)
    }

    @Test func anAnswerThatEndsBeforeItsSchemaIsUnavailable() async throws {
        let schema = try Self.pieces()[0]
        for end in [0, 1, schema.count - 1] {
            let error = await #expect(throws: QueryError.self) { try await Self.read(Array(schema[..<end])) }
            #expect(error?.code == .unavailable)
        }
    }

    @Test func anAnswerWithoutItsPositionIsUnavailable() async throws {
        let bytes = try Self.pieces().flatMap { $0 }
        for name in [RemoteShardResult.sequenceHeader, RemoteShardResult.rootHeader] {
            for bad in [nil, "", "x"] {
                var fields = Self.good
                fields[name] = bad
                let error = await #expect(throws: QueryError.self) { try await Self.read(bytes, fields) }
                #expect(error?.code == .unavailable)
            }
        }
    }

    @Test func aRefusalComesWithItsCodeAndWords() async throws {
        let fields: HTTPFields = [
            RemoteShardResult.errorHeader: QueryError.Code.notAllowed.rawValue,
            RemoteShardResult.messageHeader: "no%20%C3%A4%21",
        ]
        let error = await #expect(throws: QueryError.self) { try await Self.read([], fields) }
        #expect(error?.code == .notAllowed)
        #expect(error?.message == "no ä!")
    }
}
