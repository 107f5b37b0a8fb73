internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Replicas that fail before their first rows", .timeLimit(.minutes(10)))
final class QueriesReplicaFailoverTests {
    private static let schema = ArrowSchema(fields: [ArrowField("n", .int64)])
    private let key: OrganizationKey
    private let asked = Mutex<[UInt64]>([])

    init() throws { self.key = try Fixture.key("lab-a") }

    /// What a replica does when it is asked.
    private enum Replica: Sendable {
        case answers(rows: Int)
        case fails(any Error)
        /// Answers, and is lost after so many batches of one row.
        case isLost(afterBatches: Int)
    }

    private static let lost = QueryError(.unavailable, "the answer of node 9 was cut short")

    private func result(_ node: UInt64, _ replica: Replica) async throws -> ShardResult {
        self.asked.withLock { $0.append(node) }
        let count: Int
        switch replica {
        case .fails(let error): throw error
        case .answers(let rows): count = rows
        case .isLost(let batches): count = batches
        }
        var isLost = false
        if case .isLost = replica { isLost = true }
        let batches = AsyncThrowingStream<ArrowRecordBatch, any Error> { continuation in
            for number in 0..<count {
                let batch = try? ArrowRecordBatch.make(schema: Self.schema, columns: [[.int(Int64(number))]])
                if let batch { continuation.yield(batch) }
            }
            continuation.finish(throwing: isLost ? Self.lost : nil)
        }
        let result = ShardResult(
            schema: Self.schema,
            provenance: ShardProvenance(
                organization: self.key,
                sequence: SequenceNumber(1),
                root: Digest(words: (1, 2, 3, 4)),
                node: NodeID(node)
            ),
            batches: RecordBatchStream(batches)
        )
        return try await result.started()
    }

    private func run(here: Replica? = nil, _ others: [Replica]) async throws -> ShardResult {
        try await ReplicaFailover(organization: self.key).run(
            here: here.map { replica in { try await self.result(1, replica) } },
            others: others.indices.map { NodeID(UInt64($0) + 2) }
        ) { try await self.result($0.rawValue, others[Int($0.rawValue) - 2]) }
    }

    private var order: [UInt64] { self.asked.withLock { $0 } }

    @Test func theFirstReplicaThatHasRowsAnswers() async throws {
        let result = try await self.run([
            .fails(PeerError.lost), .isLost(afterBatches: 0), .answers(rows: 3), .answers(rows: 9),
        ])
        #expect(result.provenance.node == NodeID(4))
        #expect(try await result.batches.collect().count == 3)
        #expect(self.order == [2, 3, 4])
    }

    @Test func thisNodesReplicaIsAskedFirst() async throws {
        let own = try await self.run(here: .answers(rows: 1), [.answers(rows: 2)])
        #expect(own.provenance.node == NodeID(1))
        let other = try await self.run(here: .isLost(afterBatches: 0), [.answers(rows: 2)])
        #expect(other.provenance.node == NodeID(2))
        #expect(self.order == [1, 1, 2])
    }

    @Test func afterTheFirstRowsALossIsAnErrorAndNeverFewerRows() async throws {
        let result = try await self.run([.isLost(afterBatches: 2), .answers(rows: 5)])
        #expect(result.provenance.node == NodeID(2))
        let error = await #expect(throws: QueryError.self) { try await result.batches.collect() }
        #expect(error?.code == .unavailable)
        #expect(self.order == [2])
    }

    @Test(arguments: [
        QueryError(.invalid, "division by zero"), QueryError(.timeLimit, "late"), QueryError(.memoryLimit, "large"),
        QueryError(.cancelled, "gone"), QueryError(.notAllowed, "no"),
        QueryError.workerGone(WorkerGone(fault: .ended, wasAlone: true)),
        QueryError(.unavailable, "no majority", cause: ReadGate.Failure.noQuorum),
    ])
    func theStatementsOwnFaultIsNotAskedAgain(_ fault: QueryError) async {
        for here in [true, false] {
            let error = await #expect(throws: QueryError.self) {
                if here { return try await self.run(here: .fails(fault), [.answers(rows: 1)]) }
                return try await self.run([.fails(fault), .answers(rows: 1)])
            }
            #expect(error?.code == fault.code)
            #expect(error?.message == fault.message)
        }
        #expect(self.order == [1, 2])
    }

    @Test func aWorkerThatWasNeverAskedEndsNothing() async throws {
        let gone = QueryError.workerGone(WorkerGone(fault: .ended, wasAlone: false, hadBegun: false))
        #expect(try await self.run(here: .fails(gone), [.answers(rows: 1)]).provenance.node == NodeID(2))
    }

    @Test func whenNoneAnswersTheLastReasonIsTold() async throws {
        let error = await #expect(throws: QueryError.self) {
            try await self.run([.fails(PeerError.lost), .isLost(afterBatches: 0)])
        }
        #expect(error?.code == .unavailable)
        #expect(error?.names == ["lab-a"])
        #expect((error?.cause as? QueryError)?.message == Self.lost.message)
        let none = await #expect(throws: QueryError.self) { try await self.run([]) }
        #expect(none?.code == .unavailable)
    }
}

extension PeerError {
    fileprivate static var lost: PeerError {
        PeerError(code: .unreachable, peer: NodeID(2), message: "no connection", cause: nil)
    }
}
