internal import AuditLedger
internal import Columnar
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
        #expect(try WorkerSettings.decode(settings.encoded()) == settings)
        #expect(throws: MalformedBytes.self) { try WorkerSettings.decode(Array(settings.encoded().dropLast())) }
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
