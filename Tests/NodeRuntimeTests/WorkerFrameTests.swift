internal import AuditLedger
internal import Columnar
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("Frames between a node and its workers")
struct WorkerFrameTests {
    private static func bytes(_ frames: [WorkerFrame]) -> [UInt8] {
        frames.flatMap { WorkerFrame.header($0.kind, $0.request, bodyBytes: $0.body.count) + $0.body }
    }

    private static func read(_ pieces: [ArraySlice<UInt8>], max: Int = 1 << 20) throws -> [WorkerFrame] {
        var reader = WorkerFrameReader(bodyBytesMax: max)
        var frames: [WorkerFrame] = []
        for piece in pieces {
            piece.withUnsafeBytes { reader.feed($0) }
            while let frame = try reader.next() { frames.append(frame) }
        }
        return frames
    }

    private static let frames = [
        WorkerFrame(kind: .ask, request: 1, body: Array(0..<200)), WorkerFrame(kind: .ping, request: 0, body: []),
        WorkerFrame(kind: .rows, request: .max, body: Array(repeating: 7, count: 33)),
        WorkerFrame(kind: .end, request: 0x0102_0304_0506_0708, body: [9]),
    ]

    @Test func comeOutAsTheyWentInWhereverTheBytesAreCut() throws {
        let bytes = Self.bytes(Self.frames)
        for size in [1, 2, 3, 15, 16, 17, 100, bytes.count] {
            let pieces = stride(from: 0, to: bytes.count, by: size).map { bytes[$0..<min(bytes.count, $0 + size)] }
            let read = try Self.read(pieces)
            #expect(read.map(\.kind) == Self.frames.map(\.kind), "pieces of \(size)")
            #expect(read.map(\.request) == Self.frames.map(\.request), "pieces of \(size)")
            #expect(read.map(\.body) == Self.frames.map(\.body), "pieces of \(size)")
        }
    }

    @Test func aFrameThatIsCutShortIsNone() throws {
        let bytes = Self.bytes(Self.frames)
        #expect(try Self.read([bytes.dropLast()]).count == Self.frames.count - 1)
    }

    @Test func refusesAKindThatThereIsNot() {
        var bytes = Self.bytes([Self.frames[0]])
        bytes[4] = 200
        #expect(throws: WorkerFrameReader.Malformed.self) { try Self.read([bytes[...]]) }
    }

    @Test func refusesAFrameThatIsTooLongBeforeItHasCome() {
        let header = WorkerFrame.header(.rows, 1, bodyBytes: 101)
        #expect(throws: WorkerFrameReader.Malformed.self) { try Self.read([header[...]], max: 100) }
    }

    // MARK: Batches

    private static func message() throws -> (schema: ArrowSchema, batch: ArrowRecordBatch, parts: ArrowMessageParts) {
        let schema = ArrowSchema(fields: [ArrowField("n", .int64), ArrowField("t", .utf8)])
        let batch = try ArrowRecordBatch.make(
            schema: schema,
            columns: [(0..<300).map { .int($0) }, (0..<300).map { $0 % 3 == 0 ? .null : .string("text \($0)") }]
        )
        return (schema, batch, try ArrowStreamEncoder(schema: schema).parts(of: batch))
    }

    private static func frame(_ parts: ArrowMessageParts) -> [UInt8] {
        var bytes = WorkerFrame.header(.batch, 9, bodyBytes: WorkerBatch.frameBytes(parts)) + WorkerBatch.head(parts)
        for buffer in parts.buffers { buffer.withBytes { bytes += $0 } }
        return bytes
    }

    private static func read(_ frame: WorkerFrame?, _ schema: ArrowSchema) throws -> ArrowRecordBatch? {
        let message = try WorkerBatch(try #require(frame?.batch))
        var decoder = ArrowStreamDecoder()
        _ = try decoder.feed(ArrowStreamEncoder(schema: schema).schemaMessage())
        return try decoder.feed(metadata: message.metadata, body: message.body)
    }

    @Test func shortAnswersComeOutAsTheyWentIn() throws {
        let (schema, batch, _) = try Self.message()
        let encoder = ArrowStreamEncoder(schema: schema)
        let head = WorkerResultHead(position: 41, schemaMessage: encoder.schemaMessage())
        let stream = try encoder.message(for: batch) + encoder.endOfStream()
        let bytes = WorkerShortAnswer(head: head, stream: stream).encoded()
        let answer = try WorkerShortAnswer.decode(bytes)
        #expect(answer.stream == stream)
        #expect(try WorkerResultHead.decode(answer.head).position == 41)
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try WorkerShortAnswer.decode(Array(bytes[..<count])) }
        }
    }

    @Test func batchesComeOutAsTheyWentInWhereverTheBytesAreCut() throws {
        let (schema, batch, parts) = try Self.message()
        let bytes = Self.frame(parts) + Self.frame(parts) + Self.bytes([Self.frames[0]])
        for size in [1, 7, 16, 17, 100, 1000, bytes.count] {
            let pieces = stride(from: 0, to: bytes.count, by: size).map { bytes[$0..<min(bytes.count, $0 + size)] }
            let read = try Self.read(pieces)
            #expect(read.map(\.kind) == [.batch, .batch, .ask], "pieces of \(size)")
            for frame in read.dropLast() {
                let found = try #require(try Self.read(frame, schema))
                #expect(found.rowCount == batch.rowCount)
                for row in [0, 1, 299] {
                    for column in 0..<2 {
                        #expect(found.value(row: row, column: column) == batch.value(row: row, column: column))
                    }
                }
            }
        }
    }

    @Test func theRestOfABatchIsReceivedWhereItStays() throws {
        let (schema, batch, parts) = try Self.message()
        let bytes = Self.frame(parts)
        var reader = WorkerFrameReader(bodyBytesMax: 1 << 20)
        #expect(!reader.isInsideBatch)
        bytes[..<100].withUnsafeBytes { reader.feed($0) }
        #expect(try reader.next() == nil && reader.isInsideBatch)
        var sent = 100
        while sent < bytes.count {
            let count = reader.receive { room in
                #expect(room.count == bytes.count - sent, "no more room than is missing")
                let count = min(room.count, 1000)
                bytes[sent..<sent + count].withUnsafeBytes { room.copyMemory(from: $0) }
                return count
            }
            sent += count
        }
        #expect(reader.receive { _ in -11 } == 0, "nothing is missing")
        let found = try Self.read(try reader.next(), schema)
        #expect(found?.rowCount == batch.rowCount && !reader.isInsideBatch)
    }

    @Test func refusesABatchThatIsTooLongOrNotWhatItSays() throws {
        let header = WorkerFrame.header(.batch, 1, bodyBytes: WorkerFrame.batchBytesMax + 1)
        #expect(throws: WorkerFrameReader.Malformed.self) { try Self.read([header[...]], max: 1 << 30) }
        for bytes: [UInt8] in [
            [], [0, 0, 0], [0, 0, 0, 200], [0xFF, 0xFF, 0xFF, 0xFF] + [UInt8](repeating: 0, count: 64),
        ] {
            #expect(throws: WorkerFrameReader.Malformed.self, "\(bytes)") { try WorkerBatch(ByteBuffer(bytes: bytes)) }
        }
        // The body is a byte longer than its metadata say.
        let (schema, _, parts) = try Self.message()
        var bytes = Self.frame(parts) + [0]
        bytes.replaceSubrange(
            0..<16,
            with: WorkerFrame.header(.batch, 9, bodyBytes: WorkerBatch.frameBytes(parts) + 1)
        )
        let frame = try Self.read([bytes[...]]).first
        #expect(throws: ColumnarError.self) { try Self.read(frame, schema) }
    }

    @Test func questionsComeOutAsTheyWentIn() throws {
        let records = [
            StoredRecord(sequence: SequenceNumber(8), bytes: [1, 2, 3]),
            StoredRecord(sequence: SequenceNumber(9), bytes: []),
        ]
        guard
            case .project(let organization, let found, let isUrgent) = try WorkerQuestion.decode(
                WorkerQuestion.project(OrganizationID(5), records, isUrgent: true).encoded()
            )
        else { throw MalformedBytes(what: "question", offset: 0) }
        #expect(organization == OrganizationID(5) && isUrgent)
        #expect(found.map(\.sequence) == records.map(\.sequence) && found.map(\.bytes) == records.map(\.bytes))
        var question = StoreQuestion(sql: "select 'ä'")
        question.statement.parameters = [.int(-4), .null, .string("x")]
        question.statement.origin = .router
        question.statement.asOf = .sequence(SequenceNumber(7))
        question.statement.texts = TextSearch(
            .all([.contains(.reason, "ä\""), .any([.equals(.entityID, "s-1"), .anything])]),
            first: SequenceNumber(3)
        )
        question.limits = QueryLimits(timeLimit: .milliseconds(1500), rowsMax: 7, bytesMax: 8, batchBytesTarget: 9)
        question.limits.hidden = [HiddenRows(table: "audit_log", condition: "action = 'x'")]
        guard
            case .query(_, let read) = try WorkerQuestion.decode(
                WorkerQuestion.query(OrganizationID(5), question).encoded()
            )
        else { throw MalformedBytes(what: "question", offset: 0) }
        #expect(read.statement == question.statement && read.limits.hidden == question.limits.hidden)
        #expect(read.limits.timeLimit == .milliseconds(1500))
        #expect(read.limits.rowsMax == 7 && read.limits.bytesMax == 8 && read.limits.batchBytesTarget == 9)
        #expect(throws: MalformedBytes.self) { try WorkerQuestion.decode([2, 0, 0]) }
        #expect(throws: MalformedBytes.self) { try WorkerQuestion.decode([99] + [UInt8](repeating: 0, count: 8)) }
    }

    @Test func settingsComeOutAsTheyWentIn() throws {
        var settings = WorkerSettings(role: .stores, directory: "/data/columnar")
        settings.memoryBytesMax = 1 << 33
        settings.isSandboxed = false
        settings.idleSeconds = 7
        settings.statementThreads = 3
        #expect(try WorkerSettings.decode(settings.encoded()) == settings)
        #expect(throws: MalformedBytes.self) { try WorkerSettings.decode(Array(settings.encoded().dropLast())) }
    }

    @Test func finalStepsComeOutWithTheirRowsAsTheyWentIn() throws {
        let schemas = [[ArrowField("a", .int64)], [ArrowField("a", .int64), ArrowField("b", .utf8)]].map {
            ArrowSchema(fields: $0)
        }
        let batches = [
            try ArrowRecordBatch.make(schema: schemas[0], columns: [[.int(1), .null]]),
            try ArrowRecordBatch.make(schema: schemas[0], columns: [[.int(3)]]),
            try ArrowRecordBatch.make(schema: schemas[1], columns: [[.int(4)], [.string("ä")]]),
        ]
        let settings = ScratchSettings(
            memoryBytesMax: 1 << 20,
            timeLimit: .seconds(3),
            schema: EngineSchema(definitions: ["CREATE TABLE m (a BIGINT)"]),
            definition: "CREATE TABLE p AS SELECT 1"
        )
        let statement = ShardStatement(sql: "SELECT 1", origin: .router, delivery: .whole)
        let limits = QueryLimits(timeLimit: .seconds(2), rowsMax: 5, bytesMax: 6)
        let bytes = try EngineQuestion.answer(
            settings,
            table: "p",
            try WorkerEngine.streams(of: batches),
            StoreQuestion(statement, limits: limits)
        ).encoded()
        guard case .answer(let readSettings, let table, let streams, let question) = try EngineQuestion.decode(bytes)
        else { return #expect(Bool(false), "another question") }
        #expect(readSettings == settings && table == "p" && question.statement == statement)
        #expect(question.limits.rowsMax == 5 && question.limits.bytesMax == 6)
        #expect(streams.count == 2, "one for each run of batches with one schema")
        let read = try streams.flatMap { stream in
            var decoder = ArrowStreamDecoder()
            return try decoder.feed(stream)
        }
        #expect(read.map(\.rowCount) == [2, 1, 1])
        #expect(read.last?.string(row: 0, column: 1) == "ä")
        #expect(throws: MalformedBytes.self) { _ = try EngineQuestion.decode(Array(bytes.dropLast())) }
    }

    @Test func failuresKeepWhatTheUserNeeds() {
        let failure = ColumnarError(.binder, "no column \"x\"", position: 7)
        let read = WorkerFailure.decode(WorkerFailure.encode(failure))
        #expect(read.code == .binder && read.message == failure.message && read.position == 7)
        #expect(WorkerFailure.decode(WorkerFailure.encode(CancellationError())).code == .cancelled)
        #expect(WorkerFailure.decode([1, 2]).code == .internalFailure)
    }

    @Test func organizationsAreSpreadAndStayWhereTheyAre() {
        for count in 1...5 {
            var perWorker = [Int](repeating: 0, count: count)
            for id in 0..<1000 {
                let place = WorkerPool.place(of: OrganizationID(.init(id)), among: count)
                #expect(place == WorkerPool.place(of: OrganizationID(.init(id)), among: count))
                perWorker[place] += 1
            }
            #expect(perWorker.allSatisfy { $0 > 800 / count }, "\(perWorker)")
        }
    }
}
